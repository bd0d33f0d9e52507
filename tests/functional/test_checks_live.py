"""The checks of a real, living Zope: their findings are true and complete, and their advice helps.

The expected findings of a plain Zope are computed without the product: by `support.plainzope`, real
signals and real deaths.
"""

import fcntl
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from support.advice import follow_in_ini
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.plainzope import file_system
from support.plainzope import signals_kill
from support.plainzope import what_is_so
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

pytestmark = pytest.mark.zope

TAB = '/Control_Panel/StabilityMonitor/'
RULES = CHECKOUT / 'Products/StabilityMonitor/knowledge/known_issues.toml'
PATIENCE = 60
#: The checks run in the first round of the heartbeat after a start.
QUICK = {'sample-interval': '100ms'}


class LiveSite(ZopeInstance):
    """One instance.  `edits` are pairs (old, new) for its zope.conf; `prefix` comes before the
    command line.
    """

    prefix, edits = (), ()

    def command(self):
        return [*self.prefix, *super().command()]

    def configure(self, **options):
        super().configure(**options)
        conf = self.zope_conf.read_text()
        for old, new in self.edits:
            assert old in conf, old
            conf = conf.replace(old, new, 1)
        self.zope_conf.write_text(conf)
        return self

    def findings(self):
        """Return {id: finding} of all checks, from the report.  The checks run in the background
        after each start.
        """
        return wait_for(self._asked, PATIENCE, 'the checks')

    def _asked(self):
        found = {finding['id']: finding for finding in self.report()['checks']}
        return (
            found if any(id.startswith('known-issues') for id in found) else None
        )  # the last check of a run of the checks

    def found_anew(self, id):
        """Run the checks until this finding is there with a severity other than "ok", and return
        it.
        """

        def changed():
            self.ask_again()
            found = self.findings().get(id)
            return found if found and found['severity'] != 'ok' else None

        return wait_for(changed, PATIENCE, id)

    def ask_again(self):
        """Start a run of the checks, and return when it is complete."""
        page = wait_for(
            lambda: 'data-busy' not in (text := self.get(f'{TAB}manage_checks').text) and text,
            PATIENCE,
            'the end of the run in progress',
        )
        form = {
            name: re.search(rf'name="{name}" value="([^"]+)"', page)[1] for name in ('token', 'run')
        }
        before = self._left()
        assert self.post(f'{TAB}manage_run_checks', form).status == 302
        wait_for(lambda: self._left() != before, PATIENCE, 'its end')

    def _left(self):
        """Return the files in which each run of Zope keeps the last results of its checks."""
        return [file.read_bytes() for file in self.stability.glob('runs/*/checks.json')]


def not_ok(findings):
    """Return the ids of the findings whose severity is not "ok"."""
    return {id for id, finding in findings.items() if finding['severity'] != 'ok'}


@pytest.fixture
def site(tmp_path):
    site = LiveSite(tmp_path / 'site', options=QUICK)
    yield site
    site.destroy()


# -- expected findings, computed without the product -----------------------------------------------


def known_of_python():
    """Return the known issues of this Python.  Libraries have none: all of them have the versions
    of the constraints file.
    """
    from packaging.specifiers import SpecifierSet

    rules = tomllib.loads(RULES.read_text('utf-8'))['issue']
    version, os_name = '.'.join(map(str, sys.version_info[:3])), sys.platform
    return {
        f'known-issues:{rule["id"]}'
        for rule in rules
        if not {'distributions', 'together', 'build', 'loaded', 'libc', 'machine', 'incident_only'}
        & set(rule)
        and any(version in SpecifierSet(spec) for spec in listed(rule.get('python', 'nothing')))
        and os_name in listed(rule.get('platform', os_name))
    }


def listed(value):
    return [] if value == 'nothing' else value if isinstance(value, list) else [value]


# -- a plain Zope ----------------------------------------------------------------------------------


def test_a_plain_zope_has_exactly_the_expected_findings(site):
    with site:
        findings = site.findings()
        expected = what_is_so(site) | known_of_python()
        assert not_ok(findings) == expected
        assert all(finding['action'] for id, finding in findings.items() if id in expected)
        assert len(findings) - len(expected) >= 25, 'checks without trouble are listed too'


def test_each_signal_named_by_the_killing_signals_check_kills(site):
    site.create().start()
    named = re.findall(r'SIG[A-Z0-9]+', site.findings()['killing-signals']['title'])
    assert signals_kill(site) == bool(named)
    for name in named:
        if not site.running:
            site.start(wait='port')
        site.kill(getattr(signal, name))
        assert site.wait_exit() == -getattr(signal, name)


def test_the_core_files_check_is_right_and_its_advice_helps(site):
    site.create().start()
    if 'core-files' not in not_ok(site.findings()):
        pytest.skip('a core file would be left here, or is given to a program')
    option = re.search(r'"core-files (\w+)"', site.findings()['core-files']['action'])
    assert not dumps_core(site)
    if option is None:
        assert resource.getrlimit(resource.RLIMIT_CORE)[1] == 0
        return
    site.configure(core_files=option[1]).start()
    found = site.findings()['core-files']
    assert dumps_core(site) == (found['severity'] == 'ok'), found


def dumps_core(site):
    """It crashes; does the kernel say that it has left a core file?"""
    site.kill(signal.SIGSEGV)
    _, status = os.waitpid(site.pid, 0)
    site.process.returncode = os.waitstatus_to_exitcode(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    for core in site.home.glob('core*'):  # it is large
        core.unlink()
    return os.WCOREDUMP(status)


# -- bad conditions, made for real -----------------------------------------------------------------

#: A product as an add-on could contain it: a database adapter that is not thread-safe, and leftover
#: debugging code.
BAD_PRODUCT = '''
import gc, os, sys, types
adapter = types.ModuleType('fakedb')
adapter.apilevel, adapter.paramstyle, adapter.threadsafety = '2.0', 'qmark', 0
sys.modules['fakedb'] = adapter
gc.disable()
_kept = []

def leak(self):
    """Open 85 % of the allowed descriptors: 80 % is a warning, 95 % critical."""
    import resource
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    while len(os.listdir('/proc/self/fd')) < 0.85 * most:
        _kept.append(os.open('/dev/null', os.O_RDONLY))
    return 'leaked'
'''
BAD_SWITCHES = 'debug-mode on\nverbose-security on\nsecurity-policy-implementation python'
BADLY_STARTED = ('sh', '-c', 'ulimit -n 200; exec "$@" >var/pipe', 'sh')
#: Columns: id, severity, words of the title or the detail, words of the action.
BAD = (
    ('breadcrumbs-place', 'warning', 'in memory only (tmpfs)', 'directory '),
    ('connection-pools:main', 'warning', '7 connections for 12 workers', 'pool-size 15'),
    ('dbapi:fakedb', 'critical', 'must not share the database adapter fakedb', 'threads = 1'),
    ('descriptors', 'warning', 'of 200 descriptors', 'LimitNOFILE=4096'),
    ('event-log', 'warning', 'event.log was renamed', 'WatchedFileHandler'),
    ('garbage-collector', 'warning', 'is off', 'gc.disable()'),
    ('late-variables', 'warning', 'PYTHONMALLOC', 'export PYTHONMALLOC=malloc'),
    ('outputs:standard-output', 'critical', '65,536 bytes wait in a pipe of 65,536', 'stdout.log'),
    ('storage:main', 'warning', 'ZODB.MappingStorage', '<filestorage>'),
    ('thread-stacks', 'critical', 'Threads have 256 KiB', 'thread-stack-size 8MB'),
    ('zope-switches:debug-mode', 'warning', 'debug-mode is on', 'debug-mode on'),
    (
        'zope-switches:security-policy-implementation',
        'info',
        'is PYTHON',
        'Remove "security-policy-implementation',
    ),
    ('zope-switches:verbose-security', 'warning', 'verbose-security is on', 'verbose-security on'),
)


@pytest.fixture
def bad_site(tmp_path, memory_folder):
    site = LiveSite(
        tmp_path / 'bad',
        threads=12,
        zope_conf_extra=BAD_SWITCHES,
        options={**QUICK, 'directory': str(memory_folder), 'thread-stack-size': '256KB'},
    )
    site.prefix = BADLY_STARTED
    site.edits = (
        ('<filestorage>\n    path $INSTANCE/var/Data.fs\n  </filestorage>', '<mappingstorage/>'),
        ('<environment>', '<environment>\n  PYTHONMALLOC malloc'),
    )
    site.create().publish(BAD_PRODUCT, 'BadProduct')
    os.mkfifo(site.client_home / 'pipe')
    site.unread = os.open(site.client_home / 'pipe', os.O_RDWR | os.O_NONBLOCK)
    yield site
    site.destroy()
    os.close(site.unread)


@pytest.fixture
def memory_folder():
    folder = Path('/dev/shm', f'stability-{os.getpid()}-{time.time_ns()}')
    if file_system('/dev/shm') != 'tmpfs':
        pytest.skip('there is no /dev/shm')
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def fill(pipe):
    try:
        while os.write(pipe, b'x' * 4096):
            pass
    except BlockingIOError:
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def test_a_badly_configured_zope_has_exactly_the_expected_findings(bad_site):
    bad_site.start()
    assert fill(bad_site.unread) == 1 << 16
    assert bad_site.get('/leak').text == 'leaked'
    bad_site.event_log.rename(bad_site.event_log.with_suffix('.1'))
    assert bad_site.found_anew('outputs:standard-output')
    findings = bad_site.findings()
    for id, severity, words, action in BAD:
        found = findings.get(id, {})
        assert found.get('severity') == severity, (id, found)
        assert words in found['title'] + found['detail'] and action in found['action'], found
    plain = what_is_so(bad_site) | known_of_python()
    assert not_ok(findings) == plain | {id for id, *_ in BAD}
    assert_the_command_tells_them(bad_site, {id for id, severity, *_ in BAD})


def assert_the_command_tells_them(site, ids):
    done = command(site, 'checks')
    assert done.returncode == 1, done.stderr
    subjects = json.loads(command(site, 'checks', '--json').stdout)['subjects']
    shown = [finding for subject in subjects for finding in subject['checks']]
    assert all(subject['now'] for subject in subjects), 'the results come from the living process'
    assert ids <= {finding['id'] for finding in shown}
    for finding in shown:
        assert finding['severity'] == 'ok' or finding['title'] in done.stdout, done.stdout


def command(site, *words):
    return run_python(*COMMAND, '--directory', site.stability, *words, cwd=CHECKOUT)


# -- the advice helps when it is followed word for word --------------------------------------------


def test_the_advised_configuration_lines_clear_the_findings(site):
    site.threads, site.options = 12, {**QUICK, 'thread-stack-size': '256KB'}
    with site:
        findings = site.findings()
        pool = re.search(
            r'Write "([^"]+)" into (<zodb_db main>) of zope.conf',
            findings['connection-pools:main']['action'],
        )
        stack = re.search(
            r'Write "([\w-]+) (\w+)" into <product-config stabilitymonitor> of zope.conf',
            findings['thread-stacks']['action'],
        )
        site.edits = ((pool[2], f'{pool[2]}\n  {pool[1]}'),)
        site.restart(**{stack[1].replace('-', '_'): stack[2]})
        assert {'connection-pools:main', 'thread-stacks'}.isdisjoint(not_ok(site.findings()))


def test_the_advice_for_a_missing_event_log_creates_one(site):
    """At first no handler in zope.ini writes to a file."""
    site.create()
    ini = site.home / 'etc' / 'zope.ini'
    head, section, _ = ini.read_text().partition('[handler_eventlog]')
    ini.write_text(
        head.replace('console, eventlog', 'console').replace(
            'class = StreamHandler\nargs = (sys.stderr,)', 'class = NullHandler\nargs = ()'
        )
    )
    site.start()
    assert section and not site.event_log.exists()
    finding = site.findings()['event-log']
    assert finding['severity'] == 'warning'
    site.stop()
    follow_in_ini(ini, finding['action'])
    site.start()
    assert site.findings()['event-log']['severity'] == 'ok' and site.event_log.stat().st_size


# -- conditions that need a Zope of their own ------------------------------------------------------


def test_a_database_newer_than_the_clock_is_a_finding(site, monkeypatch):
    from ZODB import DB
    from ZODB.FileStorage import FileStorage

    site.create()
    with monkeypatch.context() as world:
        now = time.time
        world.setattr(
            time, 'time', lambda: now() + 3 * 86_400
        )  # the clock is three days ahead while the database is written
        database = DB(FileStorage(str(site.client_home / 'Data.fs')))
        database.close()
    site.start()
    finding = site.findings()['database-clock:main']
    assert finding['severity'] == 'warning' and 'ahead of the clock' in finding['title']
    assert 'date -u' in finding['action']


@pytest.mark.root
def test_a_logrotate_recipe_that_kills_is_a_critical_finding(site, tmp_path):
    """Runs in a mount namespace, so that the recipes of the machine stay as they are."""
    recipes = tmp_path / 'logrotate.d'
    recipes.mkdir()
    if not Path('/etc/logrotate.d').is_dir():
        pytest.skip('there is no /etc/logrotate.d here')
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True).returncode:
        pytest.skip('no mount namespace can be made here')
    site.prefix = (
        'unshare',
        '--mount',
        'sh',
        '-c',
        f'mount --bind {recipes} /etc/logrotate.d && exec "$@"',
        'sh',
    )
    site.create()
    (recipes / 'zope').write_text(
        f'{site.event_log} {{\n  weekly\n  postrotate\n    kill -HUP $(cat '
        f'{site.client_home}/zope.pid)\n'
        '  endscript\n}\n'
    )
    (recipes / 'nginx').write_text(
        '/var/log/nginx/*.log {\n  postrotate\n    kill -USR1 $(cat /run/nginx.pid)\n}\n'
    )
    site.start()
    findings = site.findings()
    found = findings['log-rotation:zope']
    assert (
        found['severity'] == 'critical'
        and 'SIGHUP' in found['title']
        and 'copytruncate' in found['action']
    )
    assert 'log-rotation:nginx' not in findings
    site.kill(signal.SIGHUP)
    assert site.wait_exit() == -signal.SIGHUP


def test_a_library_replaced_under_a_running_zope_is_a_finding(site, tmp_path):
    """Does what pip does: it deletes the file and creates another one with the same name."""
    spec = importlib.util.find_spec('zope.interface._zope_interface_coptimizations')
    copy = tmp_path / 'lib' / Path(spec.origin).name
    copy.parent.mkdir()
    shutil.copy(spec.origin, copy)
    site.create().publish(
        f'import sys\nsys.path.append({str(copy.parent)!r})\n'
        'sys.modules.pop("zope.interface._zope_interface_coptimizations")\n'
        'import _zope_interface_coptimizations\n',
        'LateImport',
    )
    with site:
        assert 'replaced-libraries' not in not_ok(site.findings())
        copy.unlink()
        shutil.copy(spec.origin, copy)
        found = site.found_anew('replaced-libraries')
        assert (
            found['severity'] == 'warning'
            and str(copy) in found['detail']
            and 'Restart' in found['action']
        )
