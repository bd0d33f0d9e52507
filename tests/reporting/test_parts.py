"""The parts of a report that are read on demand: only those that are wanted, whatever fails."""

import json
import os
import socket

import pytest
from support.fakelife import FakeLife
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.reportparts import LOGS
from Products.StabilityMonitor.model.reportparts import MISSING
from Products.StabilityMonitor.model.reportparts import REASONS
from Products.StabilityMonitor.model.reportparts import ChangedSince
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.reporting import logportions
from Products.StabilityMonitor.reporting import parts
from Products.StabilityMonitor.reporting.parts import PARTS
from Products.StabilityMonitor.reporting.renderers import FORMATS
from Products.StabilityMonitor.reporting.renderers import render
from Products.StabilityMonitor.reporting.report import build
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

SECRET = 'Kr0kodil7'


@pytest.fixture
def world(tmp_path):
    return quiet_world(tmp_path)


@pytest.fixture
def archive(tmp_path, world):
    """A stop that was wanted, then a crash, with logs and configuration of the crash."""
    base = Base(tmp_path / 'stability')
    DeadRun(base.path, 0, software={'zope': '5.13'}).served().marked('SIGTERM', b'Stack\n')
    event = tmp_path / 'event.log'
    event.write_text(f'Mon password={SECRET}\n')
    conf = tmp_path / 'zope.conf'
    conf.write_text(f'# the site\nldap-password {SECRET}\n')
    crash = DeadRun(
        base.path,
        1,
        software={'zope': '6.0', 'configuration': {'zope_conf': str(conf), 'wsgi_ini': ''}},
        hostname=socket.gethostname(),
        logs=[{'logger': '', 'file': str(event)}],
    ).crashed()
    triage(base, world=world)
    found = Archive(base)
    ended = found.record(crash.name).ended
    os.utime(event, (ended, ended))
    return found


def crash_of(archive):
    return next(run for run in archive.summaries() if run.verdict == 'crashed')


def test_a_report_without_parts_has_none_of_them(archive, world):
    document = build(None, archive, crash_of(archive).run, world=world)
    assert not document.keys() & set(PARTS)


@pytest.mark.parametrize('part', PARTS)
def test_only_the_parts_that_are_wanted_are_read(archive, world, part, monkeypatch):
    if part != 'logs':
        monkeypatch.setattr(logportions, 'portions', None)
    document = build(None, archive, crash_of(archive).run, parts=[part], world=world)
    assert document.keys() & set(PARTS) == {part}


def test_the_parts_are_about_the_incident(archive, world):
    document = build(None, archive, crash_of(archive).run, parts=PARTS, world=world)
    (log,) = document['logs']
    assert log['name'] == 'event-log' and SECRET in log['text'] and log['timeless']
    (conf,) = document['configuration']
    assert conf['file'].endswith('zope.conf') and conf['text'].startswith('# the site')
    whats = {gap['what'] for gap in document['not_told']}
    assert {'access-log', 'kernel-log', 'wsgi-ini', 'core-file', 'versions'} <= whats
    for gap in document['not_told']:
        assert gap['what'] in {**LOGS, **MISSING} and gap['why'] in REASONS


def test_no_secret_of_the_parts_leaves_in_any_format(archive, world):
    document = build(None, archive, crash_of(archive).run, parts=PARTS, world=world)
    for name in FORMATS:
        _, _, content = render(document, name)
        assert SECRET.encode() not in content
    _, _, content = render(document, 'json')
    found = json.loads(content)
    assert found['configuration'][0]['text'] == '# the site\nldap-password password-1\n'


def test_what_changed_since_the_last_stable_run_is_told(archive, world):
    (stable,) = [run for run in archive.summaries() if not run.is_incident]
    document = build(
        None,
        archive,
        crash_of(archive).run,
        parts=['changed_since_stable'],
        world=world,
    )
    changed = document['changed_since_stable']
    assert changed['run'] == stable.run and changed['ended'] == isotime(stable.ended)
    assert {'kind': 'software', 'name': 'Zope', 'before': '5.13', 'now': '6.0'} in changed[
        'changes'
    ]


@pytest.mark.parametrize(
    ('module', 'function', 'what', 'part'),
    [
        (parts.logportions, 'portions', 'logs', 'logs'),
        (parts.configurationfiles, 'texts', 'zope-conf', 'configuration'),
        (parts.changedsince, 'changes', 'last-stable', 'changed_since_stable'),
        (parts.gaps, 'of_record', 'gaps', ''),
    ],
)
def test_a_part_that_fails_is_a_gap_and_the_report_is_made(
    archive, world, monkeypatch, module, function, what, part
):
    def fail(*given):
        raise RuntimeError('out of luck')

    whole = build(None, archive, crash_of(archive).run, parts=PARTS, world=world)
    monkeypatch.setattr(module, function, fail)
    document = build(None, archive, crash_of(archive).run, parts=PARTS, world=world)
    (gap,) = [gap for gap in document['not_told'] if gap['what'] == what]
    assert gap['why'] == 'failed' and 'out of luck' in gap['detail']
    for name in PARTS[:2] + PARTS[3:]:
        assert (document[name] == whole[name]) == (name != part), name


def test_the_state_of_this_process_has_the_parts(tmp_path, world):
    conf = tmp_path / 'zope.conf'
    conf.write_text('x' * 100 + '\n' + 'y' * (300 << 10))
    life = FakeLife(
        tmp_path / 'stability',
        software={'configuration': {'zope_conf': str(conf), 'wsgi_ini': str(tmp_path)}},
    )
    document = build(life, Archive(life.base), parts=PARTS, world=world)
    (found,) = document['configuration']
    assert found['cut'] and found['text'] == 'x' * 100 + '\n'
    whys = {gap['what']: gap['why'] for gap in document['not_told']}
    assert whys['wsgi-ini'] == 'not-a-file' and whys['last-stable'] == 'no-such-run'


def test_without_any_run_the_parts_are_empty(tmp_path, world):
    document = build(None, Archive(Base(tmp_path / 'x')), parts=PARTS, world=world)
    assert document['logs'] == document['configuration'] == document['not_told'] == []
    assert document['changed_since_stable'] == to_json(ChangedSince())
