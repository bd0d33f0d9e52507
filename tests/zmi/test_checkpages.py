"""The state of the checks of a living run, and the tab "Checks" over HTTP in a real Zope."""

import json
import re
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import pytest
import zope.interface.verify
from programs.handshake import until
from support.fakelife import FakeLife
from support.fakelife import with_directory
from support.syntheticruns import HERE
from support.syntheticruns import record

from Products.StabilityMonitor.checks import allfindings
from Products.StabilityMonitor.checks import software
from Products.StabilityMonitor.checks.check import ICheck
from Products.StabilityMonitor.checks.everycheck import CHECKS
from Products.StabilityMonitor.checks.knownissues import KnownIssues
from Products.StabilityMonitor.checks.knownissues import own_pip
from Products.StabilityMonitor.checks.knownissues import with_own_pip
from Products.StabilityMonitor.checks.runner import Background
from Products.StabilityMonitor.inspection.recursionexperiment import ProbeResult
from Products.StabilityMonitor.knowledge import rulesinforce
from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.finding import finding_from
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.severities import CRITICAL
from Products.StabilityMonitor.model.severities import INFO
from Products.StabilityMonitor.model.severities import SEVERITIES
from Products.StabilityMonitor.recording import livingrun

TAB = '/Control_Panel/StabilityMonitor/'
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&'
BROKEN_RULES = """
[[mute]]
id = "python-daemon-threads-exit"
reason = "We <b>restart</b> by kill -9."

[[mute]]
id = "python-ssl-session-leak"

[[issue]]
id = "shop-9"
title = "Our shop <script>alert(1)</script> before 9"
happens = "It crashes."
effect = "crash"
severity = "critical"
action = "`Zope >= 99.0`"
source = "our tracker"
fixed = "99.0"
distributions = {Zope = "<99"}
"""


class Fixed:
    """A check that always returns the same findings."""

    question, source = 'Is it so?', 'a test'

    def __init__(self, *findings):
        self.id, self.findings = findings[0].id, list(findings)

    def look(self, site):
        return self.findings


PACKAGE = Path(allfindings.__file__).resolve().parents[1]


def warning(id, severity='warning', title='It is so.'):
    return Finding(
        id, SEVERITIES[severity], title, 'Why.', Action('Write "x = 1" into it.'), 'a test'
    )


@pytest.fixture
def life(tmp_path):
    return with_directory(
        FakeLife(
            tmp_path,
            base=SimpleNamespace(file_mode=0o640),
            pid=1,
            instance=HERE,
            context={'thread_stack': [1 << 20, 4096]},
        )
    )


def standing_after_checks(life, *findings):
    """Return the Standing of `life` after a run of the checks with these findings."""
    here = allfindings.of(life)
    here.checks = Background(here._site, [Fixed(*findings)])
    assert here.start() and here.checks.wait(20)
    return here


# -- the state of a run ---------------------------------------------------------------------------


def test_there_are_no_findings_before_the_first_run_of_the_checks(life):
    look = allfindings.of(life).look()
    assert (look.shown, look.muted, look.when) == ((), (), None)
    assert allfindings.of(life) is allfindings.of(life)


def test_own_findings_and_those_of_checks_are_sorted_worst_first(life):
    life.findings.add('own', 'Something is off.')
    here = standing_after_checks(
        life, warning('c', 'ok'), warning('b', 'critical'), warning('d', 'info')
    )
    assert [(f.id, f.severity.code) for f in here.look().shown] == [
        ('b', 'critical'),
        ('own', 'warning'),
        ('d', 'info'),
        ('c', 'ok'),
    ]


@pytest.mark.parametrize('own, check', allfindings.ANSWERED_BY.items())
def test_a_finding_of_a_check_replaces_the_finding_of_the_start(life, own, check):
    life.findings.add(own, 'As it was at the start.', severity=CRITICAL)
    assert [f.id for f in standing_after_checks(life, warning('another')).look().shown] == [
        own,
        'another',
    ]
    shown = standing_after_checks(life, warning(check, 'info', 'As it is now.')).look().shown
    assert [(f.id, f.severity.code) for f in shown] == [(check, 'info')]


def test_no_own_finding_has_the_id_of_a_check():
    """The ids of findings and checks differ, because only one finding with the same id is shown."""
    parts = [name for name, *_ in livingrun._PARTS]
    text = ''.join(path.read_text() for path in (PACKAGE / 'recording').glob('*.py'))
    named = re.findall(r"findings\.(?:add|guarded)\(\s*'([a-z-]+)'", text)
    assert len(set(named)) > 15 and len(set(parts)) == len(parts)
    # Findings about these two files are added only if the part could be made.
    assert set(parts) & set(named) == {'fault-log', 'trace-log'}
    checks = {check.id for check in CHECKS}
    assert checks.isdisjoint({*parts, *named})


def test_the_error_of_an_option_is_shown_beside_the_check_of_the_same_subject(life):
    """The limit for core files cannot be raised, and a check says that none will be written."""
    name, _, what, action, *_ = next(
        row for row in livingrun._PARTS if row[1] is livingrun.LivingRun._core_files
    )
    with life.findings.guarded(name, what, action):
        raise OSError('setrlimit is refused')
    shown = {
        f.id: f.detail for f in standing_after_checks(life, warning('core-files')).look().shown
    }
    assert shown.keys() == {'core-files', name}
    assert 'setrlimit is refused' in shown[name]


@pytest.mark.zope
def test_the_counts_of_the_page_add_up(life, monkeypatch):
    from Products.StabilityMonitor.zmi import checkpages

    monkeypatch.setattr(checkpages, 'standing_of', allfindings.of)
    life.findings.add('own', 'Something is off.')
    here = standing_after_checks(life, *map(warning, 'abc'), warning('d', 'ok'))
    for id in ('a', 'gone'):
        here.mute_list().mute(
            id, reason='It is wanted.', until=day(9), who='ada', severity='warning'
        )
    page = checkpages.page(life, may_manage=False)
    last = page['run']['last']
    assert (last['answers'], last['others']) == ('4 answers', '1 more comes')
    assert {count['severity']: count['count'] for count in page['counts']} == {
        'critical': 0,
        'warning': 3,
        'info': 0,
        'ok': 1,
        'muted': 1,
    }
    (warnings,) = page['groups']
    assert (len(warnings['findings']), len(page['fine'])) == (3, 1)
    assert page['muted_words'] == '1 finding, and 1 mute that hides nothing now'


def test_muted_findings_are_separate_and_have_their_reason_in_the_report(life):
    here = standing_after_checks(life, warning('a'), warning('b'))
    until = time.strftime('%Y-%m-%d', time.gmtime(time.time() + 86400))
    here.mute_list(0o640).mute('a', 'It is wanted.', until, 'ada', 'warning')
    look = here.look()
    assert [f.id for f in look.shown] == ['b'] and [(f.id, h.who) for f, h in look.muted] == [
        ('a', 'ada')
    ]
    rows = {row['id']: row for row in look.to_json()}
    assert rows['a']['muted'] == {'reason': 'It is wanted.', 'until': until, 'who': 'ada'}
    assert set(rows['b']) == {'id', 'severity', 'title', 'detail', 'action', 'source'}


def test_a_damaged_list_of_mutes_hides_no_finding_and_is_a_finding(life):
    here = standing_after_checks(life, warning('a', 'info'))
    (life.path / 'muted.json').write_text('{')
    assert [f.id for f in here.look().shown] == ['muted', 'a']


def test_the_result_of_the_probe_is_a_finding(life):
    here = standing_after_checks(life, warning('a', 'ok'))
    here.probe.result = ProbeResult(1 << 20, 1000, survives=False, ways=('json',), smallest=2 << 20)
    assert [f.id for f in here.look().shown] == ['recursion-probe', 'a']


@pytest.mark.zope
def test_the_heartbeat_renews_old_results(life):
    from Products.StabilityMonitor.zmi import zopechecks

    here = allfindings.of(life)
    here.checks = Background(here._site, [Fixed(warning('a'))])
    life.errands = []
    zopechecks.begin(life)
    assert life.answers['checks'] == here.answer, 'a request that comes at once is answered'
    (renew,) = life.rounds
    (start,) = life.errands
    assert start() and here.checks.wait(20)
    first = here.checks.results
    renew()
    assert here.checks.wait(20) and here.checks.results is first
    here._last_start -= allfindings.RENEWED + 1
    renew()
    assert here.checks.wait(20) and here.checks.results is not first
    second = here.checks.results
    renew()
    assert here.checks.wait(20) and here.checks.results is second


class Waits(Fixed):
    """A check that waits until `go` is set."""

    def __init__(self, *findings):
        super().__init__(*findings)
        self.go = threading.Event()

    def look(self, site):
        self.go.wait(60)
        return super().look(site)


def test_a_mailbox_request_is_answered_at_once_and_renews_old_results(life):
    here, check = allfindings.of(life), Waits(warning('a'))
    here.checks = Background(here._site, [check], time_limit=60)
    first = here.answer()
    assert first['running'] and first['when'] is None
    check.go.set()
    assert here.checks.wait(20)
    second = here.answer()
    assert not second['running'] and second['when'] and json.dumps(second)
    check.go.clear()
    here.checks._ended_at -= allfindings.FRESH + 1
    assert here.answer()['running']
    check.go.set()
    assert here.checks.wait(20)


def test_the_last_results_are_saved_in_the_run_directory(life):
    standing_after_checks(life, warning('a'))
    folder = life.directory.path
    word = until(lambda: allfindings.last_word(folder), 'the last word')
    assert [row['id'] for row in word['checks']] == ['a'] and word['running'] is False
    assert (folder / allfindings.LAST_WORD).stat().st_mode & 0o777 == 0o640


def test_a_run_without_a_directory_saves_no_results_and_adds_no_finding(life):
    life.directory = None
    standing_after_checks(life, warning('a'))
    assert [f.id for f in allfindings.of(life).look().shown] == ['a'] and not list(life.findings)


@pytest.mark.parametrize('row', [None, [], 'x', {}, {'severity': 'loud'}, {'id': 'x'}])
def test_rows_of_a_wrong_form_are_not_findings(row):
    assert finding_from(row) is None


def test_values_of_a_wrong_type_count_as_missing_in_a_finding():
    assert finding_from({'severity': 'info', 'id': 7, 'title': None, 'more': 1}) == Finding(
        '', INFO, ''
    )


def test_known_issues_implement_the_interface_of_a_check(tmp_path):
    assert zope.interface.verify.verifyObject(ICheck, KnownIssues())
    found = KnownIssues().look(SimpleNamespace(directory=tmp_path, started=1.0))
    assert isinstance(found, list) or found.severity.code == 'ok'


@pytest.mark.parametrize(
    'action, executable, words',
    [
        (
            '`pip install uvloop`',
            '/opt/zope/bin/python3',
            '/opt/zope/bin/python3 -m pip install uvloop',
        ),
        (
            'Install it: `pip install packaging`',
            '/opt/my zope/python',
            "Install it: '/opt/my zope/python' -m pip install packaging",
        ),
        (
            '`/x/python -m pip install uvloop`',
            '/opt/zope/bin/python3',
            '/x/python -m pip install uvloop',
        ),
        ('`pip install uvloop`', '/usr/bin/uwsgi', 'pip install uvloop'),
        ('`pip install uvloop`', '', 'pip install uvloop'),
    ],
)
def test_an_action_that_installs_names_the_pip_of_this_python(action, executable, words):
    assert str(with_own_pip(Action(action), executable)) == words


@pytest.mark.parametrize(
    'executable, pip',
    [
        ('/opt/zope/bin/python3', '/opt/zope/bin/python3 -m pip'),
        ('/opt/my zope/python', "'/opt/my zope/python' -m pip"),
        ('/usr/bin/uwsgi', 'pip'),
        ('', 'pip'),
    ],
)
def test_the_pip_command_names_the_python_that_runs_zope(executable, pip):
    assert own_pip(executable) == pip


def test_a_library_that_rules_need_is_installed_by_this_python(tmp_path, monkeypatch):
    monkeypatch.setattr(rulesinforce.knowledgebase, 'has_packaging', lambda: False)
    monkeypatch.setattr(software, 'has_packaging', lambda: False)
    rulesinforce.knowledgebase.shipped.cache_clear()
    site = SimpleNamespace(directory=tmp_path, started=1.0)
    try:
        (found,) = KnownIssues().look(site)
    finally:
        rulesinforce.knowledgebase.shipped.cache_clear()
    assert found.id == 'known-issues-off'
    assert software.Family().look(site) == [], 'one finding says it'
    assert 'packaging' not in {name for name, *_ in software.OPTIONAL}
    assert str(found.action) == f'Install it: {own_pip()} install packaging'


@pytest.mark.zope
def test_the_known_issues_of_this_process_name_its_python(tmp_path):
    pytest.importorskip('packaging')
    (tmp_path / 'known-issues.toml').write_text(
        BROKEN_RULES.replace('{Zope = "<99"}', '{"zope.interface" = "<99"}').replace(
            '`Zope >= 99.0`', '`pip install zope.shop`'
        )
    )
    found = {f.id: f for f in KnownIssues().look(SimpleNamespace(directory=tmp_path, started=1.0))}
    action = found['known-issues:shop-9'].action
    assert str(action) == f'{sys.executable} -m pip install zope.shop'
    from Products.StabilityMonitor.zmi.checkpages import pieces

    assert pieces(action) == [{'text': str(action), 'code': True}]


def test_an_issue_that_prevents_the_start_does_not_affect_a_started_site(tmp_path):
    pytest.importorskip('packaging')
    (tmp_path / 'known-issues.toml').write_text(
        BROKEN_RULES.replace('Zope = "<99"', '"zope.interface" = "<99"').replace(
            '"It crashes."\neffect = "crash"', '"x"\neffect = "start"'
        )
    )
    looks = {
        started: KnownIssues().look(SimpleNamespace(directory=tmp_path, started=started))
        for started in (None, 1.0)
    }
    shown = {
        started: 'known-issues:shop-9' in {f.id for f in found} for started, found in looks.items()
    }
    assert shown == {None: True, 1.0: False}
    missed = {
        match.rule.id: (match.reasons, match.failed)
        for match in rulesinforce.known(tmp_path, has_started=True).unaffected
    }
    assert missed['shop-9'] == (
        ('not affected: the site has started',),
        'the site has started',
    )


@pytest.mark.zope
def test_known_issues_are_not_looked_up_in_a_request(life, monkeypatch):
    """It needs a TOML parser, all rules and `packaging`, so it happens in the background."""
    pytest.importorskip('packaging')
    from Products.StabilityMonitor.zmi import checkpages

    here, go_on = allfindings.of(life), threading.Event()
    here.checks = Background(here._site, [KnownIssues()])
    for _ in range(2):
        assert here.start() and here.checks.wait(60)
    looked_up = []
    in_force = rulesinforce.knowledgebase.in_force

    def wait_and_look_up(*args):
        looked_up.append(threading.current_thread().name)
        assert go_on.wait(60)
        return in_force(*args)

    monkeypatch.setattr(rulesinforce.knowledgebase, 'in_force', wait_and_look_up)
    for _ in range(2):
        shown = checkpages.page(life, False)
        assert (shown['known'], shown['looks_up_known']) == (None, True)
    go_on.set()
    assert here.known_issues.wait(60)
    assert looked_up == ['StabilityMonitor known issues']
    shown = checkpages.page(life, False)
    assert shown['known']['count'] > 100 and not shown['looks_up_known']
    assert len(looked_up) == 1


@pytest.mark.zope
def test_the_page_looks_up_known_issues_once_for_each_run_of_the_checks(life, monkeypatch, caplog):
    pytest.importorskip('packaging')
    from Products.StabilityMonitor.zmi import checkpages

    here = allfindings.of(life)
    here.checks = Background(here._site, [KnownIssues()])
    here.look_up_known()
    assert not here.known_issues.running, 'no check has run yet'
    for _ in range(2):
        assert here.start() and here.checks.wait(60)
    monkeypatch.setattr(rulesinforce.knowledgebase, 'in_force', None)
    checkpages.page(life, False)
    assert here.known_issues.wait(60)
    shown = checkpages.page(life, False)
    assert shown['known'] is None and shown['run']['last'] and not shown['looks_up_known']
    until(lambda: 'could not be looked up' in caplog.text, 'the line in the log')
    monkeypatch.undo()
    shown = checkpages.page(life, False)
    assert (shown['known'], shown['looks_up_known']) == (None, False), (
        'one attempt for each run of the checks'
    )
    assert here.start() and here.checks.wait(60)
    checkpages.page(life, False)
    assert here.known_issues.wait(60)
    known = checkpages.page(life, False)['known']
    assert known['count'] > 100 and len(known['affected']) + len(known['unaffected']) > 90
    assert {row['key'] for row in known['affected']} <= {
        row['key'] for group in checkpages.page(life, False)['groups'] for row in group['findings']
    }


@pytest.mark.zope
@pytest.mark.parametrize('subject', ['page', 'document'])
def test_checks_that_end_while_the_page_is_made_still_count_as_running(life, monkeypatch, subject):
    from Products.StabilityMonitor.zmi import checkpages

    here, look, go_on = allfindings.of(life), allfindings.Standing.look, threading.Event()
    here.checks = Background(go_on.wait, [])
    assert here.start()

    def look_and_wait(self):
        found = look(self)
        go_on.set()
        assert self.checks.wait(60)
        return found

    monkeypatch.setattr(allfindings.Standing, 'look', look_and_wait)
    if subject == 'page':
        run = checkpages.page(life, False)['run']
        assert run['busy'] and run['last'] is None, 'the script of the page asks again'
    else:
        answer = here.to_json()
        assert answer['running'] and answer['when'] is None and answer['checks'] == []


def test_a_site_adds_and_mutes_known_issues_and_errors_in_its_file_are_findings(tmp_path):
    pytest.importorskip('packaging')
    (tmp_path / 'known-issues.toml').write_text(
        BROKEN_RULES.replace('Zope = "<99"', '"zope.interface" = "<99"')
    )
    found = {f.id: f for f in KnownIssues().look(SimpleNamespace(directory=tmp_path, started=1.0))}
    assert found['known-issues:shop-9'].severity.code == 'critical'
    assert ' is < 99. Fixed: 99.0.' in found['known-issues:shop-9'].detail
    (problem,) = (f for id, f in found.items() if id.startswith('known-issues-known-issues.toml-'))
    assert 'line 6' in problem.title
    (tmp_path / 'known-issues.toml').write_text(
        '# A line more.\n' + (tmp_path / 'known-issues.toml').read_text()
    )
    (again,) = (
        f
        for f in KnownIssues().look(SimpleNamespace(directory=tmp_path, started=1.0))
        if f.id == problem.id
    )
    assert 'line 7' in again.title, 'but the id is the same, so that a mute still applies'
    facts = rulesinforce.known(tmp_path)
    assert [s.id for s in facts.muted] == ['python-daemon-threads-exit']
    assert len(facts.affected) + len(facts.unaffected) <= facts.count > 100


# -- known issues of an incident -------------------------------------------------------------------


def crashed(**values):
    return record(
        1,
        'crashed',
        signal='SIGSEGV',
        context={
            'python': '3.12.1 (main)',
            'platform': 'Linux-6.1.0-x86_64',
            'libc': 'glibc 2.36',
            'implementation': 'CPython',
            'distributions': {'zope.interface': '7.0', 'Zope': '5.11'},
        },
        native=(NativeFrame('/lib/_zope_interface_coptimizations.so', 'lookup', 1, 2),),
        **values,
    )


def test_an_incident_is_matched_with_the_current_rules(tmp_path):
    pytest.importorskip('packaging')
    found = rulesinforce.of_incident(crashed(), tmp_path)
    assert (found[0].id, found[0].strength) == ('zope.interface-weak-references', 'strong')
    assert any('7.0 is >= 7.0, < 7.1.1' in words for words in found[0].matched)
    (tmp_path / 'known-issues.toml').write_text(
        '[[mute]]\nid = "zope.interface-weak-references"\nreason = "x"\n'
    )
    assert 'zope.interface-weak-references' not in {
        issue.id for issue in rulesinforce.of_incident(crashed(), tmp_path)
    }


def test_a_normal_stop_has_no_known_issues(tmp_path):
    assert rulesinforce.of_incident(record(1, 'stopped'), tmp_path) == ()


def test_a_record_that_cannot_be_matched_keeps_its_recorded_issues(tmp_path, monkeypatch, caplog):
    def fails(*args):
        raise TypeError('nonsense')

    monkeypatch.setattr(rulesinforce.knowledgebase, 'match_incident', fails)
    assert rulesinforce.of_incident(crashed(known_issues=({'id': 'old'},)), tmp_path) == (
        {'id': 'old'},
    )
    assert 'could not be looked up' in caplog.text


# -- the page --------------------------------------------------------------------------------------

SOURCE = '''
def grant(self):
    self._addRole("Watcher")
    self.manage_permission("View stability monitor", ["Manager", "Watcher"], 1)
    self.acl_users._doAddUser("watcher", "secret", ["Watcher"], [])
    return "granted"

def find(self, id, severity="warning", title="It is so."):
    """A finding of the living run."""
    from Products.StabilityMonitor.recording.arming import STATE
    STATE.life.findings.drop(id)
    from Products.StabilityMonitor.model.action import Action
    from Products.StabilityMonitor.model.severities import SEVERITIES
    action = Action('Write "x = <1>" into `[section]` of it.')
    STATE.life.findings.add(id, title, "Why.", action, SEVERITIES[severity])
    return "found"
'''


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        tmp_path_factory.mktemp('checks'), env={'ZPUBLISHER_DEPRECATE_DOCSTRINGS': 'error'}
    )
    zope.publish(SOURCE)
    with zope:
        yield zope


def page(zope, **query):
    return zope.get(TAB + 'manage_checks' + ('?' + urllib.parse.urlencode(query) if query else ''))


def page_after_checks(zope):
    """Return the text of the page after the checks have run.

    They begin after the start of Zope, or at the first visit of the page.
    """
    from support.zopekit import wait_for

    return wait_for(
        lambda: (
            (text := page(zope).text) and 'checks took' in text and 'data-busy' not in text and text
        ),
        timeout=30,
        what='the checks',
    )


def post(zope, action, headers=None, **form):
    fields = dict(re.findall(r'name="(token|run)" value="([^"]+)"', page(zope).text))
    return zope.post(TAB + action, fields | form, headers=headers)


def day(days):
    return time.strftime('%Y-%m-%d', time.gmtime(time.time() + days * 86400))


def moment(zope):
    return json.loads(next(zope.stability.glob('runs/*/checks.json')).read_text())['when']


@pytest.mark.zope
class TestPage:
    def test_the_page_shows_the_results_of_all_checks(self, site):
        text = page_after_checks(site)
        assert 'nav-link active' in text and '>Checks<' in text
        for words in (
            'Nothing restarts this process',
            '<code>Restart=on-failure</code>',
            'Thread stacks are large',
            'The databases are durable.',
            'Known issues',
            'not installed',
            'Recursion probe',
            'Run again',
        ):
            assert words in text, words
        assert (
            text.index('Warnings</h3>')
            < text.index('For information</h3>')
            < text.index('<strong>Fine</strong>')
        )

    def test_the_page_does_not_wait_for_the_checks(self, site):
        page_after_checks(site)
        assert post(site, 'manage_run_checks').headers['Location'].endswith('/manage_checks')
        assert page(site).status == 200

    def test_the_form_runs_the_checks_again(self, site):
        from support.zopekit import wait_for

        page_after_checks(site)
        before = wait_for(lambda: list(site.stability.glob('runs/*/checks.json')) and moment(site))
        post(site, 'manage_run_checks')
        assert wait_for(lambda: moment(site) > before, timeout=20, what='a later run')

    def test_the_overview_has_warnings_and_the_report_has_all_findings(self, site):
        page_after_checks(site)
        text = site.get(TAB + 'manage_main').text
        assert 'Nothing restarts this process' in text and 'Thread stacks are large' not in text
        rows = {row['id']: row for row in site.report()['checks']}
        assert (
            rows['supervisor']['severity'] == 'warning'
            and rows['thread-stacks']['severity'] == 'ok'
        )
        assert rows['supervisor']['check'] == 'supervisor'
        assert set(rows['supervisor']) == {
            'id',
            'severity',
            'title',
            'detail',
            'action',
            'source',
            'check',
        }
        assert '[warning] Nothing restarts' in site.get(TAB + 'report?format=text').text

    def test_a_finding_can_be_muted_and_unmuted(self, site):
        page_after_checks(site)
        site.get('/find?id=odd')
        answer = post(
            site, 'manage_mute', id='odd', severity='warning', reason=HOSTILE, until=day(20)
        )
        assert answer.status == 302 and 'Muted+until+' in answer.headers['Location']
        text = page(site).text
        assert (
            '<script>alert' not in text
            and '&lt;script&gt;alert(1)' in text
            and f'>{day(20)}<' in text
        )
        assert 'by admin' in text and 'It is so.' not in site.get(TAB + 'manage_main').text
        (muted,) = [row for row in site.report()['checks'] if row['id'] == 'odd']
        assert (muted['muted']['until'], muted['muted']['who']) == (day(20), 'admin')
        site.get('/find?id=odd&severity=critical')
        assert (
            'It is shown again' in page(site).text
            and 'It is so.' in site.get(TAB + 'manage_main').text
        )
        site.get('/find?id=odd')
        assert (
            post(site, 'manage_show_again', id='odd')
            .headers['Location']
            .endswith('manage_checks#muted')
        )
        assert 'It is so.' in site.get(TAB + 'manage_main').text

    @pytest.mark.parametrize(
        'form, words',
        [
            ({'id': 'supervisor', 'reason': '', 'until': day(9)}, 'The reason is missing.'),
            ({'id': 'supervisor', 'reason': 'x', 'until': day(-1)}, 'is not between'),
            ({'id': 'supervisor', 'reason': 'x', 'until': day(900)}, 'is not between'),
            ({'id': 'supervisor', 'reason': 'x', 'until': 'soon'}, 'is not a date'),
            (
                {'id': 'nothing', 'reason': 'x', 'until': day(9)},
                'This finding no longer exists.',
            ),
            ({}, 'This finding no longer exists.'),
        ],
    )
    def test_a_refused_mute_shows_the_reason(self, site, form, words):
        page_after_checks(site)
        address = post(site, 'manage_mute', **form).headers['Location']
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
        assert words in query['manage_tabs_message'][0] and query['manage_tabs_type'] == ['warning']

    def test_hostile_findings_are_shown_as_text(self, site):
        site.get('/find?' + urllib.parse.urlencode({'id': HOSTILE, 'title': HOSTILE}))
        text = page_after_checks(site)
        assert '<script>alert' not in text and '<img src=x' not in text
        assert '<code>x = &lt;1&gt;</code>' in text and '<code>[section]</code>' in text
        assert post(site, 'manage_mute', id=HOSTILE, reason='x', until=day(3)).status == 302
        assert '<script>alert' not in page(site).text

    @pytest.mark.parametrize(
        'action',
        ['manage_run_checks', 'manage_mute', 'manage_show_again', 'manage_recursion_probe'],
    )
    def test_an_action_needs_a_form_of_this_product(self, site, action):
        assert site.get(TAB + action).status == 404
        assert site.post(TAB + action, {}).status == 403
        assert post(site, action, headers={'Sec-Fetch-Site': 'cross-site'}).status == 403
        assert site.post(TAB + action, {}, auth=False).status == 401

    def test_a_user_who_may_only_view_sees_no_forms(self, site):
        import base64

        site.get('/grant')
        login = {'Authorization': 'Basic ' + base64.b64encode(b'watcher:secret').decode()}
        page_after_checks(site)
        answer = site.get(TAB + 'manage_checks', auth=False, headers=login)
        assert answer.status == 200 and '<form' not in answer.text.split('<main')[1]
        assert site.post(TAB + 'manage_run_checks', {}, auth=False, headers=login).status == 401

    @pytest.mark.parametrize('name', ['_do', '_checks', 'security'])
    def test_no_helper_is_published(self, site, name):
        assert site.get(TAB + name).status in (401, 403, 404)

    def test_the_probe_runs_in_the_background_and_is_remembered(self, site):
        from support.zopekit import wait_for

        page_after_checks(site)
        answer = post(site, 'manage_recursion_probe')
        assert answer.headers['Location'].endswith('/manage_checks#probe')
        wait_for(
            lambda: re.search(
                'recursion ends with RecursionError|recursion kills|little stack', page(site).text
            ),
            timeout=60,
            what='the probe',
        )
        assert 'recursion-probe' in {row['id'] for row in site.report()['checks']}
        assert (site.stability / allfindings.PROBE).exists()

    def test_rules_of_the_site_are_shown_on_the_page(self, site):
        (site.stability / 'known-issues.toml').write_text(BROKEN_RULES)
        try:
            post(site, 'manage_run_checks')
            from support.zopekit import wait_for

            wait_for(lambda: 'Our shop' in page_after_checks(site), timeout=20, what='the new rule')
            text = page_after_checks(site)
            assert (
                '<script>alert' not in text
                and '<b>restart' not in text
                and '<code>Zope &gt;= 99.0</code>' in text
            )
            assert 'known-issues.toml, line 6: ' in text and '<strong>Muted</strong>' in text
            assert 'Our shop' in site.get(TAB + 'manage_main').text
        finally:
            (site.stability / 'known-issues.toml').unlink()

    def test_an_incident_that_was_archived_without_known_issues_shows_them(self, site):
        found = crashed()
        folder = site.stability / 'archive' / found.run
        folder.mkdir(parents=True)
        (folder / 'incident.json').write_text(json.dumps(found.to_json()))
        text = site.get(f'{TAB}manage_incident?run={found.run}').text
        assert (
            'zope.interface 7.0 and 7.1.0 crash on Python 3.12' in text
            and 'Versions and traces match' in text
        )
        known = site.report(run=found.run)['incident']['known_issues']
        assert known[0]['id'] == 'zope.interface-weak-references' and known[0]['matched']
        assert 'zope.interface &gt;= 8.7' in text
        text = site.get(f'{TAB}report?format=text&run={found.run}').text
        assert (
            'Versions and traces match' in text
            and 'zope.interface 7.0' in text
            and 'Install zope.interface >= 8.7.' in text
        )


@pytest.mark.zope
def test_the_checks_page_works_when_the_product_is_off(make_zope):
    zope = make_zope(options={'enabled': 'off'}).start()
    assert 'Thread stacks are large' in page_after_checks(zope)


@pytest.mark.zope
def test_the_checks_run_once_after_each_start(make_zope):
    from support.zopekit import wait_for

    zope = make_zope().start()
    (file,) = wait_for(
        lambda: list(zope.stability.glob('runs/*/checks.json')), timeout=30, what='the last word'
    )
    assert {'supervisor', 'storage', 'thread-stacks'} <= {
        row['id'] for row in json.loads(file.read_text())['checks']
    }
    zope.restart()
    (archived,) = zope.stability.glob('archive/*/checks.json')
    assert archived.read_text()


@pytest.mark.zope
def test_the_checks_do_not_run_in_scripts(make_zope):
    zope = make_zope()
    done = zope.run_script(
        'from Products.StabilityMonitor.checks import allfindings as standing\n'
        'from Products.StabilityMonitor.recording.arming import STATE\n'
        'assert STATE.life.role == "script"\n'
        'print("STANDINGS", len(standing._STANDINGS))\n'
    )
    assert 'STANDINGS 0' in done.stdout, done
