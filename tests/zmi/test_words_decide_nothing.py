"""No decision depends on the words of a sentence.

A site is examined twice: as it is, and with a marker instead of each title, detail and action of a
finding and each summary of a hang.  Both times pages, report and command group, sort and mute the
same findings.
"""

import json
import shutil
import sys
import time
from dataclasses import replace

import pytest
from support import stacksdocuments
from support.fakelife import FakeLife
from support.fakelife import with_directory
from support.syntheticruns import HERE
from support.syntheticruns import DeadRun

from Products.StabilityMonitor.checks import allfindings
from Products.StabilityMonitor.checks.knownissues import KnownIssues
from Products.StabilityMonitor.checks.muted import MuteList
from Products.StabilityMonitor.checks.runner import Background
from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.severities import CRITICAL
from Products.StabilityMonitor.model.severities import INFO
from Products.StabilityMonitor.model.severities import OK
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.reporting.renderers import render
from Products.StabilityMonitor.reporting.report import build
from Products.StabilityMonitor.reporting.stacksdocument import is_well
from Products.StabilityMonitor.reporting.stacksdocument import tidy
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = pytest.mark.zope

MARK = 'A marker instead of a sentence.'
TO_DO = Action('Write "keys = eventlog" into `[handlers]`, or `pip install it`.')
#: Findings of the process about itself: a check replaces the first, but not the second.
OWN = (
    Finding('network-volume', WARNING, 'It is on a network file system.', action=TO_DO),
    Finding('no-flock', INFO, 'There are no file locks.', action=TO_DO),
)
FOUND = (
    Finding('breadcrumbs-place', INFO, 'A known issue.', 'Critical.', TO_DO, check='places'),
    Finding('event-log', WARNING, 'There is no event log.', 'Why.', TO_DO, check='event-log'),
    Finding('full', CRITICAL, 'It is full.', 'All is well.', TO_DO, check='full'),
    Finding('fine', OK, 'All is well.', 'Nothing to do.', check='fine'),
    Finding('muted', WARNING, 'It is muted.', 'Why.', TO_DO, check='muted'),
    Finding('worse', CRITICAL, 'It is no worse.', 'Why.', TO_DO, check='worse'),
)
#: One rule that affects this site, and one rule that is incomplete.
RULES = """
[[issue]]
id = "shop-9"
title = "Our shop before 9"
happens = "It crashes."
effect = "crash"
severity = "critical"
action = "`pip install shop`"
source = "our tracker"
fixed = "9"
distributions = {"zope.interface" = "<99"}

[[issue]]
id = "half"
"""


def with_marker(finding):
    action = Action.plain(MARK) if finding.action else finding.action
    return replace(finding, title=MARK, detail=MARK, action=action)


class Asked:
    """A check that finds `FOUND` and the known issues."""

    id, question, source = 'asked', 'Is it so?', 'a test'

    def __init__(self, say):
        self.say = say

    def look(self, site):
        return [self.say(finding) for finding in (*FOUND, *KnownIssues().look(site))]


def living(folder, say):
    """Return a living run whose checks have run and whose known issues have been looked up."""
    life = with_directory(FakeLife(folder, instance=HERE))
    life.base.prepare()
    (life.path / 'known-issues.toml').write_text(RULES)
    day = time.strftime('%Y-%m-%d', time.gmtime(time.time() + 86400))
    muted = MuteList(life.path, life.instance.label)
    for id in ('muted', 'worse', 'gone'):
        muted.mute(id, 'It is wanted.', day, 'ada', 'warning')
    for finding in map(say, OWN):
        life.findings.add(
            finding.id, finding.title, finding.detail, finding.action, finding.severity
        )
    here = allfindings.of(life)
    here.checks = Background(here._site, [Asked(say)])
    assert here.start() and here.checks.wait(60)
    here.look_up_known()
    assert here.known_issues.wait(60)
    return life


@pytest.fixture
def both(tmp_path):
    """The site as it is, and the same site with markers instead of sentences."""
    pytest.importorskip('packaging')
    return living(tmp_path / 'words', lambda finding: finding), living(
        tmp_path / 'marks', with_marker
    )


def same(both, decided):
    """Return `decided` of the site; it must be the same with markers instead of sentences."""
    original, marked = map(decided, both)
    assert original == marked
    return original


# -- findings --------------------------------------------------------------------------------------


def page_of_checks(life):
    from Products.StabilityMonitor.zmi import checkpages

    page = checkpages.page(life, True)
    return {
        'counts': page['counts'],
        'groups': [
            (
                group['severity'],
                [
                    (row['id'], row['key'], row['known'], bool(row['action']))
                    for row in group['findings']
                ],
            )
            for group in page['groups']
        ],
        'fine': [(row['id'], row['key']) for row in page['fine']],
        'muted': [(row['id'], row['badge'], row['note']) for row in page['muted']],
        'affected': [(row['title'], row['alert'], row['key']) for row in page['known']['affected']],
    }


def test_the_checks_page_does_not_depend_on_words(both):
    page = same(both, page_of_checks)
    groups = dict(page['groups'])
    assert list(groups) == ['critical', 'warning', 'info']
    known = {key: id for id, key, known, _ in groups['critical'] if known}
    assert set(known.values()) == {'known-issues:shop-9'}
    assert ('Our shop before 9', 'danger', *known) in page['affected']
    assert {'full', 'worse'} < {id for id, *_ in groups['critical']}
    assert [id for id, _ in page['fine']] == ['fine']
    muted = {id: (badge, bool(note)) for id, badge, note in page['muted']}
    assert muted == {
        'muted': ('warning', False),
        'worse': ('critical', True),
        'gone': ('', True),
    }


def test_the_overview_does_not_depend_on_words(both):
    from Products.StabilityMonitor.zmi import pages

    def overview(life):
        return [
            (group['severity'], group['alert'], [row['id'] for row in group['findings']])
            for group in pages.overview(life, Archive(life.base))['findings']
        ]

    shown = {severity: ids for severity, _, ids in same(both, overview)}
    assert shown['info'] == ['no-flock'], (
        'of this severity only findings of the process about itself'
    )
    assert 'event-log' in shown['warning'] and 'muted' not in shown['warning']
    assert 'network-volume' not in shown['warning'], 'a finding of a check replaces it'


def test_the_report_does_not_depend_on_words(both):
    def report(life):
        document = build(life, Archive(life.base))
        text = render(document, 'text')[2].decode()
        return (
            [(row['id'], row['severity'], 'muted' in row) for row in document['checks']],
            [line.partition(']')[0] for line in text.splitlines() if line.startswith('- [')],
        )

    rows, lines = same(both, report)
    assert ('muted', 'warning', True) in rows and ('worse', 'critical', False) in rows
    shown = [severity for _, severity, is_muted in rows if severity != 'ok' and not is_muted]
    assert lines == [f'- [{severity}' for severity in shown]


@pytest.mark.parametrize('python', ['another Python', sys.executable], ids=['another', 'this'])
def test_the_command_does_not_depend_on_words(both, python, capsys):
    def command(life):
        """The command about a process that has ended, from its last results."""
        down = Base(life.path / 'down')
        down.prepare()
        for file in ('muted.json', 'known-issues.toml'):
            shutil.copy(life.path / file, down.path)
        last_word = json.dumps(allfindings.of(life).to_json())
        (DeadRun(down.path, executable=python).path / allfindings.LAST_WORD).write_text(last_word)
        arguments = ['--directory', str(down.path), 'checks', '--all']
        status = cli.main(arguments)
        lines = capsys.readouterr().out.splitlines()
        assert cli.main([*arguments, '--json']) == status
        parts = json.loads(capsys.readouterr().out)['subjects']
        return (
            status,
            [line for line in lines if line.startswith('= ')],
            [line.partition(']')[0] for line in lines if line.startswith('[')],
            [
                [(row['id'], row['severity'], 'muted' in row) for row in part['checks']]
                for part in parts
            ],
        )

    status, _, _, parts = same(both, command)
    rows = parts[-1]
    assert (
        status == 1 and ('muted', 'warning', True) in rows and ('full', 'critical', False) in rows
    )
    recorded_issues = [id for id, *_ in rows if id.startswith('known-issues')]
    assert bool(recorded_issues) == (python != sys.executable), (
        'the current known issues are shown instead'
    )


# -- hangs -----------------------------------------------------------------------------------------


def test_hangs_and_threads_do_not_depend_on_words():
    from Products.StabilityMonitor.zmi import pages
    from Products.StabilityMonitor.zmi import threadpages

    original = stacksdocuments.document()
    marked = original | {
        'hangs': [hang | {'summary': MARK} for hang in original['hangs']],
        'threads': [thread | {'detail': MARK} for thread in original['threads']],
    }

    def decided(document):
        stacks = tidy(document)
        page = threadpages.page(stacks)
        rows = [*page['requests'], *page['others'], *page['quiet']]
        return (
            is_well(stacks),
            [(row['key'], row['look'], row['word'], row['deadlock']) for row in rows],
            [
                (hang['title'], hang['icon'], hang['since'], hang['lasted'])
                for hang in (*page['hangs'], *page['past_hangs'])
            ],
            [pages.hang_row(hang, RunRecord('x')) | {'summary': ''} for hang in stacks.hangs],
        )

    well, threads, hangs, rows = same((original, marked), decided)
    assert not well and len(hangs) == len(rows) == 2
    assert any(stuck for *_, stuck in threads)
