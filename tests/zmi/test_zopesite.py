"""The checks inside a real Zope: the facts that they get, and no false findings."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.plainzope import what_is_so

pytestmark = pytest.mark.zope

SOURCE = """
def checks(self, threads="1"):
    import json
    from Products.StabilityMonitor.checks.runner import run
    from Products.StabilityMonitor.recording.arming import STATE
    from Products.StabilityMonitor.zmi import zopesite as siteofzope
    results = run(siteofzope.site(STATE.life))
    facts = siteofzope.facts()
    return json.dumps({
        **results.to_json(), "seconds": dict(results.seconds), "threads": facts.threads,
        "switches": dict(facts.switches), "pid_file": facts.pid_file, "databases": [
            {"name": d.name, "storage": d.storage, "pool": d.pool_size, "mounted": d.mounted,
             "file": d.file, "last": d.last_transaction()} for d in facts.databases]})

def write_into_the_future(self, seconds="0"):
    import time
    import transaction
    from persistent.timestamp import TimeStamp
    moment = time.time() + float(seconds)
    tid = TimeStamp(*time.gmtime(moment)[:5], moment % 60).raw()
    storage = self._p_jar.db().storage
    of_the_storage = transaction.TransactionManager().begin()
    from ZODB.Connection import TransactionMetaData
    record = TransactionMetaData()
    storage.tpc_begin(record, tid)
    storage.tpc_vote(record)
    storage.tpc_finish(record)
    return "written"
"""

TEMPORARY = """
<zodb_db temporary>
  pool-size 2
  <mappingstorage>
  </mappingstorage>
  mount-point /temp
</zodb_db>
debug-mode on
security-policy-implementation python
verbose-security on
"""


def ask(zope):
    answer = zope.get('/checks')
    assert answer.status == 200, answer.text
    return answer.json()


def worrying(document):
    return {f['id'] for f in document['findings'] if f['severity'] in ('warning', 'critical')}


def descriptors(zope):
    """Return the number of open descriptors, except those of threads that begin to serve."""
    files = Path(f'/proc/{zope.pid}/fd').iterdir()
    return len([file for file in files if not file.resolve().name.startswith('watchdog-')])


def not_fine(document):
    return {f['id'] for f in document['findings'] if f['severity'] != 'ok'}


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(tmp_path_factory.mktemp('plain'))
    zope.publish(SOURCE)
    with zope:
        yield zope


def test_threads_databases_and_switches_of_a_plain_zope_are_found(plain):
    document = ask(plain)
    assert document['threads'] == 4
    assert document['pid_file'] == str(plain.client_home / 'Z4.pid')
    (main,) = document['databases']
    assert (main['name'], main['pool'], main['mounted']) == ('main', 7, ['/'])
    assert main['storage'] == 'ZODB.FileStorage.FileStorage.FileStorage'
    assert main['file'] == str(plain.client_home / 'Data.fs')
    assert abs(main['last'] - time.time()) < 3600
    assert document['switches']['debug-mode'] is False
    assert document['switches']['security-policy-implementation'] == 'C'


def test_a_plain_zope_gets_no_false_findings(plain):
    """The expected findings of this machine are found by other means."""
    document = ask(plain)
    assert not_fine(document) == what_is_so(plain), document['findings']


def test_each_check_returns_a_finding(plain):
    document = ask(plain)
    assert {id.partition(':')[0] for id in (f['id'] for f in document['findings'])} == set(
        document['seconds']
    )


def test_the_checks_do_not_disturb_the_site(plain):
    before = descriptors(plain)
    for _ in range(20):
        ask(plain)
    assert descriptors(plain) <= before + 2
    assert plain.report()['process']['recording']


@pytest.mark.in_process
@pytest.mark.parametrize('module', [SimpleNamespace(__file__=None), SimpleNamespace()])
def test_the_software_home_is_empty_if_zope2_has_no_file(monkeypatch, module):
    from Products.StabilityMonitor.zmi import zopeconf

    configuration = SimpleNamespace(clienthome='', instancehome='', debug_mode=False)
    monkeypatch.setattr(zopeconf, 'getConfiguration', lambda: configuration)
    monkeypatch.setitem(sys.modules, 'Zope2', module)
    assert zopeconf.circumstances()['software']['software_home'] == ''


@pytest.mark.in_process
def test_the_files_that_configure_zope_are_noted(monkeypatch, tmp_path):
    from Products.StabilityMonitor.zmi import zopeconf

    def make_wsgi_app(global_config, zope_conf):  # as in Zope2.Startup.run
        return zopeconf.configuration_files()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['runwsgi', '-v', 'config:etc/zope.ini#main', 'x=y'])
    assert make_wsgi_app({}, 'etc/site.conf') == {
        'zope_conf': str(tmp_path / 'etc/site.conf'),
        'wsgi_ini': str(tmp_path / 'etc/zope.ini'),
    }
    monkeypatch.setattr(sys, 'argv', ['zconsole', 'run', '/srv/zope.conf', 'script.py'])
    assert zopeconf.configuration_files() == {'zope_conf': '/srv/zope.conf', 'wsgi_ini': ''}
    monkeypatch.setattr(sys, 'argv', ['gunicorn', '--paste=/srv/zope.ini'])
    assert zopeconf.configuration_files()['wsgi_ini'] == '/srv/zope.ini'


@pytest.mark.in_process
@pytest.mark.parametrize(
    'configured, seen, threads', [(4, 2, 4), (1, 2, 2), (None, 2, 2), (4, 0, 4), (None, 0, None)]
)
def test_workers_that_have_not_started_yet_are_counted(monkeypatch, configured, seen, threads):
    from Products.StabilityMonitor.zmi import zopesite

    running = [
        SimpleNamespace(name=name)
        for name in ('MainThread', *(f'waitress-{n}' for n in range(seen)))
    ]
    monkeypatch.setattr(zopesite.threading, 'enumerate', lambda: running)
    monkeypatch.setattr(
        zopesite, 'getConfiguration', lambda: SimpleNamespace(instancehome='', clienthome='')
    )
    assert zopesite.facts(configured).threads == threads


def test_debugging_switches_and_a_small_pool_are_warnings(make_zope):
    zope = make_zope(zope_conf_extra=TEMPORARY)
    zope.publish(SOURCE)
    zope.start()
    document = ask(zope)
    assert document['switches']['security-policy-implementation'] == 'PYTHON'
    assert {
        'zope-switches:debug-mode',
        'zope-switches:verbose-security',
        'connection-pools:temporary',
    } <= worrying(document)
    assert 'storage:temporary' not in worrying(
        document
    )  # it is not mounted at the root, so it is temporary on purpose
    finding = next(f for f in document['findings'] if f['id'] == 'connection-pools:temporary')
    assert 'pool-size 7' in finding['action'] and '<zodb_db temporary>' in finding['action']


def test_a_variable_set_in_zope_conf_takes_effect_too_late(make_zope):
    zope = make_zope()
    zope.publish(SOURCE)
    conf = zope.zope_conf.read_text()
    zope.zope_conf.write_text(conf.replace('<environment>', '<environment>\n  MALLOC_ARENA_MAX 2'))
    zope.start()
    finding = next(f for f in ask(zope)['findings'] if f['id'] == 'late-variables')
    assert finding['severity'] == 'warning' and 'export MALLOC_ARENA_MAX=2' in finding['action']


def test_a_transaction_in_the_future_and_a_rotated_log_are_warnings(make_zope):
    zope = make_zope()
    zope.publish(SOURCE)
    zope.start()
    assert zope.get('/write_into_the_future?seconds=86400').text == 'written'
    zope.event_log.rename(zope.event_log.with_suffix('.log.1'))
    document = ask(zope)
    assert {'database-clock:main', 'event-log'} <= worrying(document), json.dumps(
        document['findings'], indent=1
    )
    ahead = next(f for f in document['findings'] if f['id'] == 'database-clock:main')
    assert '23 hours' in ahead['title'] or '1 day' in ahead['title']


def test_the_checks_work_when_the_product_is_off(make_zope):
    """Nothing is armed: no black box, no fault log, no context of the start."""
    zope = make_zope(options={'enabled': 'off'})
    zope.publish(SOURCE)
    zope.start()
    document = ask(zope)
    unknown = {'fault-handler', 'memory-growth'}
    assert not_fine(document) - {'clock-jumps'} == what_is_so(zope) - {'clock-jumps'} | unknown
    assert not [f for f in document['findings'] if 'A check ' in f['title']]
