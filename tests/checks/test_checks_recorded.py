"""Checks of cases that a test cannot or must not make on its machine: from recorded files."""

import logging
import re
import signal
import time
import tracemalloc
import types
from datetime import UTC
from datetime import datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging import specifiers
from packaging.version import Version

from Products.StabilityMonitor.checks import breadcrumbs
from Products.StabilityMonitor.checks import clocks
from Products.StabilityMonitor.checks import databases
from Products.StabilityMonitor.checks import endingsignals
from Products.StabilityMonitor.checks import interpreter
from Products.StabilityMonitor.checks import memory
from Products.StabilityMonitor.checks import rotation
from Products.StabilityMonitor.checks import software
from Products.StabilityMonitor.checks import supervision
from Products.StabilityMonitor.checks import switches
from Products.StabilityMonitor.checks.livesite import Database
from Products.StabilityMonitor.checks.livesite import Interpreter
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.checks.livesite import ZopeFacts
from Products.StabilityMonitor.checks.livesite import text
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.records import LifePoint
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.system import runcontext


def look(check, **fields):
    found = check().look(Site(**{'directory': Path('/srv/zope/var/stability')} | fields))
    return [found] if isinstance(found, Finding) else list(found)


def severities(found):
    return {finding.id: finding.severity.code for finding in found}


def on(year, month, day):
    return datetime(year, month, day, tzinfo=UTC).timestamp()


def tree(folder, **files):
    """Write files with this content into `folder`; __ in a name stands for a slash."""
    for name, content in files.items():
        path = folder / name.replace('__', '/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


# -- the interpreter -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'version, day, severity',
    [
        ((3, 11, 7), on(2026, 11, 23), 'ok'),
        ((3, 11, 7), on(2027, 6, 1), 'info'),
        ((3, 11, 7), on(2027, 10, 31), 'info'),
        ((3, 11, 7), on(2027, 11, 1), 'warning'),
        ((3, 10, 13), on(2026, 11, 23), 'warning'),
        ((3, 9, 18), on(2026, 11, 23), 'warning'),
        ((3, 99, 0), on(2026, 11, 23), 'ok'),
    ],
)
def test_a_python_without_security_fixes_is_a_warning(version, day, severity):
    (found,) = look(interpreter.EndOfLife, python=Interpreter(version, 'final'), now=day)
    assert found.severity.code == severity
    assert severity != 'warning' or '-m venv' in str(found.action)


@pytest.mark.parametrize('level', ['alpha', 'candidate'])
def test_a_pre_release_of_python_is_a_warning(level):
    (found,) = look(interpreter.EndOfLife, python=Interpreter((3, 15, 0), level))
    assert found.severity.code == 'warning' and level in found.title


@pytest.mark.parametrize(
    'python, severity, word',
    [
        (Interpreter(free_threaded=True, has_gil=False), 'warning', 'The GIL is off'),
        (Interpreter(free_threaded=True, has_gil=True), 'warning', 'The GIL is on'),
        (Interpreter(debug=True), 'warning', 'aborts'),
        (Interpreter(), 'ok', ''),
    ],
)
def test_a_free_threaded_or_debug_build_is_a_warning(python, severity, word):
    (found,) = look(interpreter.Build, python=python)
    assert found.severity.code == severity and word in found.detail


# -- memory ----------------------------------------------------------------------------------------


def test_a_machine_without_free_memory_is_a_warning(tmp_path):
    proc = tree(
        tmp_path,
        meminfo='MemTotal:  1000000 kB\nMemAvailable:  10000 kB\n',
        self__status='VmRSS:\t 500 kB\n',
    )
    assert severities(look(memory.Limit, proc=proc)) == {'memory-limit:host': 'warning'}


def grows(per_hour, hours=12):
    """The fields of a site whose memory grows by so many MiB an hour."""
    points = [
        LifePoint(1e9 + second, float(second), (500 << 20) + int(per_hour * second / 3600 * 2**20))
        for second in range(0, int(hours * 3600), 120)
    ]
    samples = tuple(Sample(point.time, point.monotonic, rss=point.rss) for point in points[-7:])
    return dict(curve=tuple(points), samples=samples, started_monotonic=0.0)


def test_memory_that_grows_is_a_warning():
    (found,) = look(memory.Growth, **grows(40))
    assert found.severity.code == 'warning'
    assert 'it grew by 40 MiB/h over 10 hours' in found.title
    assert found.detail == 'No limit of its memory is known.'


def test_memory_that_grows_towards_a_limit_says_when_it_gets_there(tmp_path):
    tree(tmp_path, **{'memory.max': str(2048 << 20), 'memory.current': str(1688 << 20)})
    context = {
        'cgroup': {
            'version': 2,
            'directory': str(tmp_path),
            'limit_file': str(tmp_path / 'memory.max'),
            'current_file': str(tmp_path / 'memory.current'),
        }
    }
    (found,) = look(memory.Growth, context=context, **grows(40))
    assert found.severity.code == 'warning'
    assert found.detail.startswith('At this rate the limit of 2,048 MiB (memory cgroup ')
    assert found.detail.endswith(' is reached in about 9 hours.')
    (short,) = look(memory.Growth, context=context, **grows(4000, hours=0.5))
    assert short.severity.code == 'warning', 'the limit is reached in minutes'


def test_memory_that_grows_for_minutes_only_is_for_information():
    (found,) = look(memory.Growth, **grows(4000, hours=0.7))
    assert found.severity.code == 'info' and 'MiB/min over' in found.title


def test_memory_that_does_not_grow_is_ok_and_unknown_memory_is_told():
    assert look(memory.Growth, **grows(0))[0].severity.code == 'ok'
    (unknown,) = look(memory.Growth, samples=(Sample(1.0, 1.0),))
    assert unknown.severity.code == 'info' and 'not known' in unknown.title


#: Of 16 MB of page cache, 15 MB must be written to disk before the kernel can drop them.
CACHE = {
    2: 'inactive_file 10000000\nactive_file 6000000\nfile_dirty 9000000\nfile_writeback 6000000\n',
    1: 'inactive_file 99000000\ntotal_inactive_file 10000000\ntotal_active_file '
    '6000000\ntotal_dirty 9000000\n'
    'total_writeback 6000000\n',
}


@pytest.mark.parametrize(
    'version, files, name',
    [
        (
            2,
            {'memory.max': '100000000', 'memory.current': '99000000', 'memory.stat': CACHE[2]},
            'max',
        ),
        (
            1,
            {
                'memory.limit_in_bytes': '100000000',
                'memory.usage_in_bytes': '99000000',
                'memory.stat': CACHE[1],
            },
            'limit_in_bytes',
        ),
    ],
)
@pytest.mark.parametrize('above', [False, True])
def test_memory_near_the_limit_of_a_cgroup_is_critical(tmp_path, version, files, name, above):
    """For the cgroup of this process, and for a parent cgroup that it shares with others."""
    own = tmp_path / 'service'
    own.mkdir()
    tree(
        tmp_path if above else own,
        **{file.replace('/', '__'): content for file, content in files.items()},
    )
    current = 'memory.current' if version == 2 else 'memory.usage_in_bytes'
    context = {
        'cgroup': {
            'version': version,
            'directory': str(own),
            'limit_file': str(own / f'memory.{name}'),
            'current_file': str(own / current),
        }
    }
    (found,) = look(memory.Limit, context=context, proc=tmp_path / 'none')
    assert found.severity.code == 'critical' and '98%' in found.title
    assert found.id.startswith('memory-limit:cgroup')
    assert '"MemoryMax=200000000" into [Service]' in str(
        found.action
    ) and 'docker update --memory' in str(found.action)


@pytest.mark.parametrize('files, severity', [({}, 'info'), ({'vmstat': 'oom_kill 3\n'}, 'info')])
def test_oom_kills_that_no_cgroup_counts_are_for_information(tmp_path, files, severity):
    (found,) = look(memory.OomReporting, proc=tree(tmp_path, **files))
    assert found.severity.code == severity
    assert found.action


def test_oom_kills_that_a_cgroup_counts_are_ok(tmp_path):
    group = {
        'counter_file': str(tree(tmp_path, counter='low 0\noom_kill 0\n') / 'counter'),
        'directory': '/group',
    }
    (found,) = look(memory.OomReporting, context={'cgroup': group})
    assert found.severity.code == 'ok' and '/group' in found.detail


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'kind, severity',
    [
        ('ext4', 'ok'),
        ('xfs', 'ok'),
        ('nfs4', 'warning'),
        ('fuse.sshfs', 'warning'),
        ('overlay', 'warning'),
        ('tmpfs', 'warning'),
    ],
)
def test_breadcrumbs_on_an_unsafe_file_system_are_a_warning(tmp_path, kind, severity):
    proc = tree(tmp_path, self__mountinfo=f'22 1 254:0 / / rw - {kind} /dev/root rw\n')
    (found,) = look(breadcrumbs.Place, proc=proc)
    assert found.severity.code == severity and (severity == 'ok' or kind in found.title)


@pytest.mark.parametrize(
    'home, place',
    [
        ('disk/var', 'disk/var/stability'),
        ('none', '/var/lib/stability'),
        ('memory', '/var/lib/stability'),
    ],
)
def test_the_advice_for_breadcrumbs_names_a_folder_on_a_local_disk(tmp_path, home, place):
    for folder in ('disk/var', 'memory'):
        (tmp_path / folder).mkdir(parents=True)
    mounts = ('22 1 254:0 / / rw - tmpfs x rw', f'23 1 254:1 / {tmp_path}/disk rw - ext4 x rw')
    proc = tree(tmp_path, self__mountinfo='\n'.join(mounts))
    (found,) = look(breadcrumbs.Place, proc=proc, zope=ZopeFacts(client_home=str(tmp_path / home)))
    assert f'"directory {tmp_path / place}"' in str(found.action)


@pytest.mark.parametrize(
    'blocks, files, severity, lack',
    [
        (0, 500, 'critical', '0 MiB (0.0%) are free.'),
        (0, 0, 'critical', '0 MiB (0.0%) are free.'),
        (2560, 500, 'critical', '10 MiB (0.3%) are free.'),
        (500_000, 5, 'warning', 'only 5 more files can be created.'),
    ],
)
def test_a_full_disk_says_what_is_short(tmp_path, monkeypatch, blocks, files, severity, lack):
    disk = SimpleNamespace(
        f_flag=0,
        f_frsize=4096,
        f_blocks=1_000_000,
        f_bavail=blocks,
        f_files=1000,
        f_favail=files,
    )
    monkeypatch.setattr(breadcrumbs.os, 'statvfs', lambda folder: disk)
    (found,) = look(breadcrumbs.Room, directory=tmp_path, root_logger=logging.Logger('root'))
    assert (found.severity.code, found.detail) == (severity, f'{tmp_path}: {lack}')
    assert (found.id, found.title) == (
        'disk-room:the-breadcrumbs',
        'The disk of the breadcrumbs is nearly full.',
    )


# -- signals ---------------------------------------------------------------------------------------

OLD_RECIPE = """# rotated weekly
/srv/zope/var/log/*.log {
    weekly
    postrotate
        kill -USR2 `cat /srv/zope/var/Z4.pid`
    endscript
}
/var/log/other.log { daily
}
"""


@pytest.fixture
def logger(tmp_path):
    made = []

    def make(kind, name='event.log'):
        logger = logging.Logger('root')
        logger.addHandler(kind(tmp_path / name))
        made.extend(logger.handlers)
        return logger

    yield make
    for handler in made:
        handler.close()


@pytest.fixture(autouse=True)
def as_in_a_plain_zope():
    """The signals that recipes send have no handler, whatever process started the tests."""
    names = [getattr(signal, name) for name in rotation._KILLING]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in names}
    yield
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def rotated(tmp_path, recipe, **fields):
    etc = tree(
        tmp_path / 'etc',
        logrotate__conf='weekly\ninclude /etc/logrotate.d\n',
        **{'logrotate.d__zope': recipe},
    )
    zope = ZopeFacts(
        instance_home='/srv/zope', client_home='/srv/zope/var', pid_file='/srv/zope/var/Z4.pid'
    )
    return look(
        rotation.LogRotation, **{'etc': etc, 'zope': zope, 'proc': tmp_path / 'proc'} | fields
    )


@pytest.mark.parametrize(
    'line, word',
    [
        ('kill -USR2 `cat /srv/zope/var/Z4.pid`', 'SIGUSR2'),
        ('kill -HUP $(cat /srv/zope/var/Z4.pid)', 'SIGHUP'),
        ('kill -s SIGUSR1 $(cat /srv/zope/var/Z4.pid)', 'SIGUSR1'),
        ('kill -12 $(cat /srv/zope/var/Z4.pid)', 'SIGUSR2'),
        ('/bin/kill -1 $(cat /srv/zope/var/Z4.pid)', 'SIGHUP'),
        ('cd /srv/zope/var; kill -USR1 $(cat Z4.pid)', 'SIGUSR1'),
        ('kill -USR2 $(cat /srv/zope/var/client1.pid)', 'SIGUSR2'),
        ('pkill -HUP -f /srv/zope/bin/runwsgi', 'SIGHUP'),
        ('pkill --signal=USR2 -F /srv/zope/var/Z4.pid', 'SIGUSR2'),
    ],
)
def test_a_recipe_that_sends_a_deadly_signal_is_critical(tmp_path, line, word):
    (found,) = rotated(tmp_path, OLD_RECIPE.replace('kill -USR2 `cat /srv/zope/var/Z4.pid`', line))
    assert (
        found.severity.code == 'critical'
        and word in found.title
        and 'copytruncate' in str(found.action)
    )
    assert str(tmp_path / 'etc/logrotate.d/zope') in str(found.action)


AS_SERVICE = {
    'self__cgroup': '0::/system.slice/zope.service\n',
    'self__comm': 'runwsgi\n',
    'self__cmdline': '/srv/bin/python\0/opt/bin/runwsgi\0/srv/etc/zope.ini\0',
}
SUPERVISED = {'SUPERVISOR_PROCESS_NAME': 'zope', 'SUPERVISOR_GROUP_NAME': 'sites'}


@pytest.mark.parametrize(
    'line, word',
    [
        ('systemctl kill -s HUP zope.service', 'SIGHUP'),
        ('systemctl kill --signal=SIGHUP zope', 'SIGHUP'),
        ('/bin/systemctl kill --kill-who=main zope -s 12 >/dev/null || true', 'SIGUSR2'),
        ('supervisorctl signal USR2 zope', 'SIGUSR2'),
        ('supervisorctl -c /etc/x.conf signal HUP sites:zope', 'SIGHUP'),
        ('supervisorctl signal sigusr1 sites:*', 'SIGUSR1'),
        ('killall -USR2 runwsgi', 'SIGUSR2'),
        ('pkill -USR2 runwsgi', 'SIGUSR2'),
        ('pkill --signal QUIT wsgi 2>/dev/null', 'SIGQUIT'),
        ('pkill -HUP -f /srv/etc/zope.ini', 'SIGHUP'),
        ('kill -XCPU $(pgrep -f bin/runwsgi)', 'SIGXCPU'),
        ('kill -ALRM `cat /srv/zope/var/Z4.pid`', 'SIGALRM'),
        ('kill -n 12 $(cat /srv/zope/var/Z4.pid)', 'SIGUSR2'),
        ('kill -s hup $(cat /srv/zope/var/Z4.pid)', 'SIGHUP'),
        ('kill -3 $(cat /srv/zope/var/Z4.pid)', 'SIGQUIT'),
    ],
)
def test_a_recipe_that_names_zope_by_unit_program_or_pid_is_found(tmp_path, line, word):
    tree(tmp_path / 'proc', **AS_SERVICE)
    recipe = OLD_RECIPE.replace('kill -USR2 `cat /srv/zope/var/Z4.pid`', line)
    (found,) = rotated(tmp_path, recipe, environ=SUPERVISED)
    assert found.severity.code == 'critical' and word in found.title, found


@pytest.mark.parametrize(
    'line',
    [
        'systemctl kill -s HUP nginx.service',
        'systemctl reload zope.service',
        'systemctl kill -s TERM zope.service',
        'supervisorctl signal USR2 nginx',
        'supervisorctl restart zope',
        'killall -USR1 nginx',
        'killall -USR2 wsgi',
        'pkill -HUP -f /srv/etc/nginx.conf',
        'pkill -USR2 zope.ini',
        'kill -0 $(cat /srv/zope/var/Z4.pid)',
        'kill -USR1 $(cat /run/nginx.pid)',
        'pkill -HUP',
    ],
)
def test_a_recipe_that_signals_another_process_is_ok(tmp_path, line):
    tree(tmp_path / 'proc', **AS_SERVICE)
    recipe = OLD_RECIPE.replace('kill -USR2 `cat /srv/zope/var/Z4.pid`', line)
    assert [finding.severity.code for finding in rotated(tmp_path, recipe, environ=SUPERVISED)] == [
        'ok'
    ]


@pytest.mark.parametrize(
    'recipe',
    [
        '',
        'garbage {{{ } } {',
        '{',
        '/srv/other/*.log { postrotate\n kill -HUP `cat /srv/other/pid`\n}',
        OLD_RECIPE.replace('kill -USR2', 'kill -TERM'),
        OLD_RECIPE.replace('        kill', '        # kill'),
        OLD_RECIPE.replace('kill -USR2 `cat /srv/zope/var/Z4.pid`', 'systemctl kill other'),
        '/srv/zope/var/log/nginx.log {\n  postrotate\n    kill -USR1 `cat /run/nginx.pid`\n  '
        'endscript\n}',
        '/srv/zopeother/log/*.log { postrotate\n kill -HUP 1\n}',
        '"/srv/with blank/*.log" {\n}',
    ],
)
def test_a_harmless_or_broken_recipe_is_ok(tmp_path, recipe):
    (found,) = rotated(tmp_path, recipe)
    assert found.severity.code == 'ok', found


def test_a_recipe_that_sends_a_signal_with_a_handler_is_ok(tmp_path):
    signal.signal(signal.SIGUSR2, lambda *args: None)
    assert [finding.severity.code for finding in rotated(tmp_path, OLD_RECIPE)] == ['ok']


@pytest.mark.parametrize(
    'kind, more, severity',
    [
        (logging.FileHandler, '', 'warning'),
        (logging.FileHandler, 'copytruncate', 'ok'),
        (WatchedFileHandler, '', 'ok'),
    ],
)
def test_a_recipe_that_renames_an_open_log_is_a_warning(tmp_path, logger, kind, more, severity):
    recipe = f'{tmp_path}/*.log {{\n  weekly\n  {more}\n}}\n'
    (found,) = rotated(tmp_path, recipe, root_logger=logger(kind))
    assert found.severity.code == severity
    assert severity == 'ok' or str(tmp_path / 'event.log') in found.detail


# -- supervision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'name, severity',
    [
        ('', 'warning'),
        ('zdaemon', 'ok'),
        ('supervisord', 'ok'),
        ('container-pilot', 'ok'),
        ('kubernetes', 'info'),
        ('container', 'info'),
        ('container (this process is its pid 1)', 'info'),
        ('container (a shell is its pid 1)', 'info'),
    ],
)
def test_a_process_without_a_supervisor_is_a_warning(name, severity):
    (found,) = look(supervision.Supervisor, context={'supervisor': name})
    assert found.severity.code == severity
    assert severity != 'warning' or 'Restart=on-failure' in str(found.action)
    assert severity != 'info' or found.title.endswith((' its container.', ' its Kubernetes pod.'))


@pytest.mark.parametrize('name', ['zdaemon', 'supervisord'])
@pytest.mark.parametrize('parent', [1, 77])
def test_a_supervisor_that_has_died_is_a_warning(name, parent):
    context = {'supervisor': name, 'parent': 50}
    assert [
        finding.severity.code
        for finding in look(supervision.Supervisor, context=context, parent=50)
    ] == ['ok']
    (found,) = look(supervision.Supervisor, context=context, parent=parent)
    assert (
        found.severity.code == 'warning'
        and f'{name} is gone' in found.title
        and 'Restart=on-failure' in str(found.action)
    )


def under_systemd(
    tmp_path, cgroup, unit='', drop_in='', parent=1, parents_name='systemd', **fields
):
    """The findings of a process in this cgroup.  The unit is a template if its name has an @."""
    proc = tree(
        tmp_path / 'proc', self__cgroup=cgroup + '\n', **{f'{parent}__comm': parents_name + '\n'}
    )
    name = cgroup.rpartition('/')[2] or 'none'
    names = (name, 'zope@.service') if '@' in name else (name,)
    units = tree(tmp_path / 'units', **{names[-1]: unit, f'{names[-1]}.d__override.conf': drop_in})
    return look(
        supervision.Supervisor,
        context={'supervisor': 'systemd', 'parent': parent},
        proc=proc,
        parent=parent,
        unit_folders=(units,),
        **fields,
    )


@pytest.mark.parametrize(
    'cgroup',
    [
        '1:name=systemd:/system.slice/system-zope.slice/zope@one.service',
        '0::/zope.slice/zope@one.service',
        '0::/system.slice/zope@one.service',
        '4:memory:/other.service\n0::/a.slice/a-b.slice/zope@one.service',
    ],
)
@pytest.mark.parametrize(
    'unit, drop_in, severity',
    [
        ('[Service]\nRestart=always\n', '', 'ok'),
        ('[Service]\nExecStart=x\n', '', 'warning'),
        ('[Service]\nRestart=no\n', '[Service]\nRestart=on-failure\n', 'ok'),
        ('[Service]\nRestart=always\n', '[Service]\nRestart=no\n', 'warning'),
        ('[Service]\nRestart=on-success\n', '', 'warning'),
        ('[Service]\n# Restart=always\n', '', 'warning'),
        ('', '', 'info'),
    ],
)
def test_the_restart_setting_of_a_systemd_unit_decides(tmp_path, cgroup, unit, drop_in, severity):
    (found,) = under_systemd(tmp_path, cgroup, unit, drop_in)
    assert found.severity.code == severity, found
    assert severity != 'warning' or 'systemctl edit zope@one.service' in str(found.action)
    assert severity != 'info' or 'systemctl show --property Restart zope@one.service' in str(
        found.action
    )


@pytest.mark.parametrize(
    'cgroup',
    [
        '0::/user.slice/user-1000.slice/session-3.scope',
        '1:name=systemd:/user.slice/user-1000.slice/session-c2.scope',
        '0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-terminal.slice/vte-spawn-1.scope',
        '0::/system.slice/cron.service',
        '0::/system.slice/crond.service',
        '0::/system.slice/ssh.service',
    ],
)
def test_a_session_or_a_job_is_not_a_service(tmp_path, cgroup):
    (found,) = under_systemd(
        tmp_path, cgroup, '[Service]\nRestart=always\n', parent=50, parents_name='bash'
    )
    assert (
        found.severity.code == 'warning'
        and cgroup.rpartition('/')[2] in found.detail
        and found.action
    )


@pytest.mark.parametrize(
    'parent, name, severity', [(1, 'init', 'ok'), (50, 'systemd', 'ok'), (50, 'zope.sh', 'info')]
)
def test_systemd_does_not_watch_the_child_of_a_script(tmp_path, parent, name, severity):
    (found,) = under_systemd(
        tmp_path,
        '0::/system.slice/zope.service',
        '[Service]\nRestart=always\n',
        parent=parent,
        parents_name=name,
    )
    assert found.severity.code == severity and (
        severity == 'ok' or 'zope.sh' in found.detail and '"exec"' in str(found.action)
    )


def test_without_a_readable_unit_the_restart_is_not_known(tmp_path):
    (found,) = under_systemd(tmp_path, '0::/')
    assert found.severity.code == 'info' and 'not known' in found.title


@pytest.mark.parametrize(
    'command, name',
    [
        ('/srv/bin/python\0/srv/bin/zdaemon\0-S\0schema.xml\0/srv/bin/runwsgi\0', 'zdaemon'),
        ('/usr/bin/python3\0-m\0zdaemon.zdrun\0', 'zdaemon'),
        ('python\0/lib/zdaemon/zdrun.py\0', 'zdaemon'),
        ('/usr/bin/python3\0-s\0/usr/bin/supervisord\0-c\0/etc/x.conf\0', 'supervisord'),
        ('runsv\0zope\0', 'runsv'),
        ('gunicorn: master [zope.site]\0', 'gunicorn'),
        ('s6-supervise\0zope\0', 's6-supervise'),
        ('/usr/bin/circusd\0/etc/circus.ini\0', 'circus'),
        ('bash\0/home/circus/bin/start\0', ''),
        ('/srv/gunicorn-site/bin/python\0-m\0pytest\0', ''),
        ('', ''),
    ],
)
def test_supervisors_are_recognised_by_their_command_line(tmp_path, command, name):
    assert runcontext.supervisor(tree(tmp_path, **{'50__cmdline': command}), {}, 50) == name


# -- switches --------------------------------------------------------------------------------------


def test_debugging_switches_of_zope_are_found():
    values = {
        'debug-mode': True,
        'verbose-security': True,
        'skip-ownership-checking': True,
        'security-policy-implementation': 'PYTHON',
        'debug-exceptions': False,
    }
    found = look(switches.ZopeSwitches, zope=ZopeFacts(switches=values))
    assert severities(found) == {
        'zope-switches:debug-mode': 'warning',
        'zope-switches:verbose-security': 'warning',
        'zope-switches:skip-ownership-checking': 'critical',
        'zope-switches:security-policy-implementation': 'info',
    }
    assert 'debug-mode on' in str(found[0].action)


def test_switches_for_production_are_ok():
    values = {'debug-mode': False, 'security-policy-implementation': 'C'}
    assert severities(look(switches.ZopeSwitches, zope=ZopeFacts(switches=values))) == {
        'zope-switches': 'ok'
    }


# -- databases and clocks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    'threads, size, severity', [(4, 7, 'ok'), (7, 7, 'ok'), (8, 7, 'warning'), (None, 7, 'info')]
)
def test_a_pool_smaller_than_the_number_of_threads_is_a_warning(threads, size, severity):
    zope = ZopeFacts(threads=threads, databases=(Database('main', 'x', size, ('/',)),))
    (found,) = look(databases.ConnectionPools, zope=zope)
    assert found.severity.code == severity
    assert (
        severity != 'warning'
        or 'pool-size 11' in str(found.action)
        and '<zodb_db main>' in str(found.action)
    )


@pytest.mark.parametrize(
    'storage, mounted, severity',
    [
        ('ZODB.FileStorage.FileStorage.FileStorage', '/', 'ok'),
        ('ZODB.MappingStorage.MappingStorage', '/', 'warning'),
        ('ZODB.DemoStorage.DemoStorage', '/', 'warning'),
        ('ZODB.MappingStorage.MappingStorage', '/temp_folder', 'ok'),
    ],
)
def test_a_temporary_storage_of_the_root_is_a_warning(storage, mounted, severity):
    zope = ZopeFacts(databases=(Database('main', storage, 7, (mounted,)),))
    assert [finding.severity.code for finding in look(databases.DurableStorage, zope=zope)] == [
        severity
    ]


def test_the_advice_for_a_storage_is_valid_zope_conf():
    zope = ZopeFacts(databases=(Database('main', 'ZODB.DemoStorage.DemoStorage', 7, ('/',)),))
    (found,) = look(databases.DurableStorage, zope=zope)
    assert re.findall(r'"([^"]+)"', str(found.action)) == [
        '<filestorage>',
        'path $INSTANCE/var/main.fs',
        '</filestorage>',
    ]


@pytest.mark.parametrize(
    'ahead, severity', [(-1, 'ok'), (30, 'ok'), (61, 'warning'), (86400 * 400, 'warning')]
)
def test_a_database_ahead_of_the_clock_is_a_warning(ahead, severity):
    now = time.time()
    zope = ZopeFacts(databases=(Database('main', 'x', 7, last_transaction=lambda: now + ahead),))
    assert [
        finding.severity.code for finding in look(clocks.DatabaseAhead, zope=zope, now=now)
    ] == [severity]


class Disconnected(Exception):
    """An exception class of a storage, raised when its server is down."""


def test_a_database_that_does_not_answer_is_a_warning():
    def down():
        raise Disconnected('no server')

    now = time.time()
    zope = ZopeFacts(
        databases=(
            Database('main', 'x', 7, last_transaction=down),
            Database('other', 'x', 7, last_transaction=lambda: now + 90),
        )
    )
    found = {finding.id: finding for finding in look(clocks.DatabaseAhead, zope=zope, now=now)}
    assert set(found) == {'database-clock:main', 'database-clock:other'}
    silent = found['database-clock:main']
    assert silent.severity.code == 'warning' and '<zodb_db main>' in str(silent.action)
    assert silent.detail == 'Disconnected: no server.'


def walk(*steps):
    """Samples from steps of (wall clock, monotonic clock) in seconds."""
    wall, monotonic, samples = 1_790_000_000.0, 500.0, []
    for more, passed in ((0, 0), *steps):
        wall, monotonic = wall + more, monotonic + passed
        samples.append(Sample(wall, monotonic))
    return tuple(samples)


@pytest.mark.parametrize(
    'steps, severity, word',
    [
        ([(1, 1)] * 900, 'ok', ''),
        ([(1.0005, 1)] * 900, 'ok', ''),
        ([(1, 1), (-3600, 1), (1, 1)], 'warning', 'back by 3601 s'),
        ([(1, 1), (3600, 1)], 'info', 'forward by 3599 s'),
        ([(1, 1), (60, 60)], 'ok', ''),
        ([], 'info', ''),
    ],
)
def test_clock_jumps_between_samples_are_found(steps, severity, word):
    (found,) = look(
        clocks.Jumps,
        samples=walk(*steps),
        **(
            {}
            if not steps
            else dict(
                now=walk(*steps)[-1].time,
                monotonic=walk(*steps)[-1].monotonic,
                started=walk(*steps)[-1].time - 900,
                started_monotonic=walk(*steps)[-1].monotonic - 900,
            )
        ),
    )
    assert found.severity.code == severity and word in found.title


@pytest.mark.parametrize('drift, severity', [(0.5, 'ok'), (-3600, 'warning'), (3600, 'info')])
def test_a_clock_jump_before_the_oldest_sample_is_found(drift, severity):
    (found,) = look(
        clocks.Jumps, started=1000.0, now=2000.0 + drift, started_monotonic=10.0, monotonic=1010.0
    )
    assert found.severity.code == severity


def test_a_week_of_slow_correction_is_not_a_jump():
    (found,) = look(
        clocks.Jumps, started=0.0, now=604800 + 300.0, started_monotonic=0.0, monotonic=604800.0
    )
    assert found.severity.code == 'ok'


# -- software --------------------------------------------------------------------------------------


def distribution(folder, name, version, *requires, kind='dist-info'):
    place = folder / f'{name.replace(".", "_")}-{version}.{kind}'
    place.mkdir(parents=True)
    lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}']
    if kind == 'dist-info':
        lines += [f'Requires-Dist: {line}' for line in requires]
    else:
        (place / 'requires.txt').write_text('\n'.join(requires) + '\n')
    file = 'METADATA' if kind == 'dist-info' else 'PKG-INFO'
    (place / file).write_text('\n'.join([*lines, '', 'Requires-Dist: not-a-header>9', '']))
    return folder


@pytest.mark.parametrize('kind', ['dist-info', 'egg-info'])
@pytest.mark.parametrize(
    'requires, there, unmet',
    [
        ('zope.interface >= 8', '7.2', True),
        ('zope.interface', '7.2', False),
        ('Zope_Interface>=7', '7.2', False),
        ('zope.interface >= 8 ; python_version < "3"', '7.2', False),
        ('zope.interface>=7.2', '8.0.dev0', False),
        ('zope.interface (>=8)', '7.2', True),
        ('zope.nowhere', '7.2', True),
        ('garbage >>> !', '7.2', False),
    ],
)
def test_unmet_requirements_are_found(tmp_path, kind, requires, there, unmet):
    distribution(tmp_path, 'zope.component', '7.1', requires, kind=kind)
    distribution(tmp_path, 'zope.interface', there)
    (found,) = look(software.Family, path=(str(tmp_path),))
    assert found.severity.code == ('warning' if unmet else 'ok'), found
    assert (
        not unmet
        or 'zope.component 7.1 requires' in found.detail
        and 'pip install' in str(found.action)
    )


def test_extras_are_not_required(tmp_path):
    distribution(tmp_path, 'Zope', '6.3', 'Paste>=99; extra == "wsgi"', "Sphinx; extra=='docs'")
    assert severities(look(software.Family, path=(str(tmp_path),))) == {'versions': 'ok'}


def test_requirements_of_this_product_are_left_to_another_check(tmp_path):
    distribution(tmp_path, 'Products.StabilityMonitor', '1.0', 'psutil', 'packaging')
    assert severities(look(software.Family, path=(str(tmp_path),))) == {'versions': 'ok'}


@pytest.mark.parametrize(
    'zope, zodb, severity',
    [
        ('5.14.2', '6.4', 'critical'),
        ('5.14.2', '6.2', 'ok'),
        ('6.3', '6.4', 'ok'),
        ('6.0', '6.3', 'critical'),
    ],
)
def test_releases_that_do_not_work_together_are_critical(tmp_path, zope, zodb, severity):
    distribution(distribution(tmp_path, 'Zope', zope), 'ZODB', zodb)
    (found,) = look(software.Family, path=(str(tmp_path),))
    assert found.severity.code == severity
    assert severity == 'ok' or str(found.action) == 'Run pip install "ZODB<6.3", and restart.'


def test_a_version_that_pep_440_does_not_allow_is_ignored(tmp_path, monkeypatch):
    """Releases of `packaging` before 26 raise an error when such a version is compared."""

    class Strict(specifiers.SpecifierSet):
        def contains(self, item, prereleases=None, **more):
            return super().contains(Version(item), prereleases, **more)

    monkeypatch.setattr(specifiers, 'SpecifierSet', Strict)
    distribution(distribution(tmp_path, 'Zope', '5.14.2-our-branch'), 'ZODB', '6.4')
    assert severities(look(software.Family, path=(str(tmp_path),))) == {'versions': 'ok'}


def test_an_interrupted_update_is_found(tmp_path):
    distribution(distribution(tmp_path, 'zope.interface', '6.8'), 'zope.interface', '6.9')
    distribution(tmp_path, 'zope.interfaces', '1.0')
    (found,) = look(software.Family, path=(str(tmp_path),))
    assert (found.id, found.severity.code) == ('versions:twice-zope-interface', 'warning')
    assert [
        name
        for name in sorted(path.name for path in tmp_path.iterdir())
        if f'/{name}"' in str(found.action)
    ] == ['zope_interface-6.8.dist-info', 'zope_interface-6.9.dist-info']


def test_the_first_distribution_on_the_path_counts(tmp_path):
    distribution(tmp_path / 'a', 'zope.interface', '8.7')
    distribution(tmp_path / 'b', 'zope.interface', '5.0')
    distribution(tmp_path / 'b', 'zope.component', '7.1', 'zope.interface>=8')
    both = tuple(str(tmp_path / name) for name in 'ab')
    assert severities(look(software.Family, path=both)) == {'versions': 'ok'}
    assert severities(look(software.Family, path=both[::-1])) == {'versions:unmet': 'warning'}


def test_an_update_on_disk_is_seen_at_once(tmp_path):
    distribution(tmp_path, 'zope.interface', '5.0')
    distribution(tmp_path, 'zope.component', '7.1', 'zope.interface>=8')
    assert severities(look(software.Family, path=(str(tmp_path),))) == {'versions:unmet': 'warning'}
    (tmp_path / 'zope_interface-5.0.dist-info').rename(tmp_path / 'old')
    distribution(tmp_path, 'zope.interface', '8.7')
    assert severities(look(software.Family, path=(str(tmp_path),))) == {'versions': 'ok'}


# -- what the process was started with -------------------------------------------------------------

STARTED = {'PATH': '/bin', 'HOME': '/srv', 'LANG': 'C', 'MALLOC_ARENA_MAX': '2'}


def environ_file(folder, pairs):
    return tree(folder, self__environ=''.join(f'{name}={value}\0' for name, value in pairs.items()))


def test_variables_set_before_the_start_are_ok(tmp_path):
    (found,) = look(switches.LateVariables, proc=environ_file(tmp_path, STARTED), environ=STARTED)
    assert found.severity.code == 'ok'


def test_a_variable_changed_after_the_start_is_a_warning(tmp_path):
    (found,) = look(
        switches.LateVariables,
        proc=environ_file(tmp_path, STARTED),
        environ=STARTED | {'MALLOC_ARENA_MAX': '1'},
    )
    assert found.severity.code == 'warning' and 'export MALLOC_ARENA_MAX=1' in str(found.action)


@pytest.mark.parametrize('written_over', [{}, {'title': 'of the process'}, {'PATH': '/bin'}])
@pytest.mark.parametrize('check', [switches.LateVariables, memory.Allocator])
def test_an_environment_overwritten_by_a_process_title_is_not_known(tmp_path, written_over, check):
    (found,) = look(check, proc=environ_file(tmp_path, written_over), environ=STARTED)
    assert found.severity.code == 'info' and 'not known' in found.title


@pytest.mark.parametrize(
    'size, most', [(0, 10), (9, 10), (10, 10), (11, 10), (40_000, 1 << 20), (40_000, 32_768)]
)
def test_text_reads_no_more_of_a_file_than_asked(tmp_path, size, most):
    path = tmp_path / 'file'
    path.write_bytes(bytes(i % 50 + 48 for i in range(size)))
    assert text(path, most) == path.read_text()[:most]
    assert text(tmp_path / 'missing') == ''


def test_a_small_file_takes_little_memory(tmp_path):
    (tmp_path / 'file').write_text('small')
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert text(tmp_path / 'file') == 'small'
        assert tracemalloc.get_traced_memory()[1] - before < 100_000
    finally:
        tracemalloc.stop()


# -- files that the advice names -------------------------------------------------------------------


@pytest.mark.parametrize(
    'arguments, file',
    [
        ((), 'zope.ini'),
        (('/opt/bin/runwsgi', '-v', '/srv/etc/wsgi.ini'), 'wsgi.ini'),
        (('/opt/bin/pserve', 'config:/srv/etc/wsgi.ini#main', 'port=8080'), 'wsgi.ini'),
        (('/opt/bin/gunicorn', '--paste', '/srv/etc/wsgi.ini#main'), 'wsgi.ini'),
        (('/opt/bin/gunicorn', '--log-config=/srv/log.conf', '--paste', 'a.ini'), 'log.conf'),
        (('/opt/bin/gunicorn', 'wsgi:app'), "the file of gunicorn's option --log-config"),
    ],
)
def test_the_advice_names_the_file_that_configures_logging(arguments, file):
    (found,) = look(endingsignals.KillingSignals, arguments=arguments)
    assert f'`[handler_eventlog]` of {file};'.replace('`', '') in str(found.action)


@pytest.mark.parametrize(
    'arguments, context, advice',
    [
        (('runwsgi', 'etc/wsgi.ini'), {}, 'Write "threads = 1" into [server:main] of wsgi.ini'),
        (('gunicorn', '--paste', 'wsgi.ini'), {}, 'Start gunicorn with "--worker-class sync'),
        (('/x/__main__.py',), {'supervisor': 'gunicorn'}, 'Start gunicorn with "--worker-class'),
    ],
)
def test_the_advice_names_where_the_threads_of_the_server_are_set(arguments, context, advice):
    adapter = types.ModuleType('odd')
    vars(adapter).update(apilevel='2.0', threadsafety=0, paramstyle='qmark', connect=print)
    (found,) = look(
        databases.Adapters, modules={'odd': adapter}, arguments=arguments, context=context
    )
    assert str(found.action).startswith(advice)
