"""The past by signature: what page, command and report show of it."""

from dataclasses import replace

import pytest
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge import signedruns
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting.signedpast import past_json
from Products.StabilityMonitor.reporting.signedpast import past_lines
from Products.StabilityMonitor.reporting.signedpast import signed_past
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base


@pytest.fixture
def archive(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return Archive(base)


def keep(archive, *runs):
    for run in runs:
        (archive.base.runs / run.run).mkdir()
        archive.add(archive.base.runs / run.run, run)
    return [run.run for run in runs]


def crash(number, function='render', **values):
    frames = (Frame('/site/shop/views.py', number, function), Frame('/site/shop/page.py', 3, 'f'))
    crashed = ThreadState(1, 'waitress-0', True, frames)
    return record(number, 'crashed', signal='SIGSEGV', threads=(crashed,), **values)


def test_an_incident_knows_those_before_and_after_it(archive):
    runs = [crash(number) for number in range(4)]
    names = keep(archive, *runs, crash(4, 'other'))
    seen = signed_past(archive).seen_before(archive, runs[2])
    assert (seen.count, seen.since, seen.weak) == (2, 1, True)
    assert seen.runs == (names[1], names[0])
    assert (seen.first, seen.last) == (runs[0].ended, runs[1].ended)
    assert seen.signature == f'SIGSEGV views:render {seen.id}'


def test_it_is_made_once_until_something_changes(archive):
    keep(archive, crash(0), record(1))
    signed_past(archive)
    past = signed_past(archive)
    assert signed_past(archive) is past and past.began == record(0).started
    keep(archive, crash(2))
    assert signed_past(archive).groups[0].count == 2


def test_it_tells_what_was_different_the_last_time(archive):
    before = crash(0, context={'python': '3.11.6'}, requests=(request(path='/a'),))
    now = crash(1, context={'python': '3.14.0'}, requests=(request(path='/a'),))
    keep(archive, before, now)
    seen = signed_past(archive).seen_before(archive, now)
    ((difference),) = seen.different
    assert (difference.before, difference.after) == ('3.11.6', '3.14.0')
    assert seen.to_json()['different'][0]['name'] == 'Python'


def test_a_drill_a_stop_and_an_unreadable_run_were_not_seen_before(archive):
    runs = [crash(0, drill='segfault'), record(1), record(2, 'unreadable')]
    keep(archive, *runs)
    past = signed_past(archive)
    assert [past.seen_before(archive, run) for run in runs] == [None] * 3
    assert [run.run for run in past.drills] == [runs[0].run]
    assert [run.run for run in past.without] == [runs[2].run]


def test_a_run_that_was_pruned_meanwhile_has_no_differences(archive, monkeypatch):
    before, now = crash(0), crash(1)
    keep(archive, before, now)
    past = signed_past(archive)
    archive.prune(1, 1000, 1 << 30)
    assert past.seen_before(archive, now).different == ()


def test_the_progress_counts_those_that_were_not_looked_at(archive, monkeypatch):
    keep(archive, *[crash(number) for number in range(3)])
    monkeypatch.setattr(signedruns, 'MOST_AT_ONCE', 1)
    past = signed_past(archive)
    assert past.progress == 'Signing past incidents: 1 of 3 done.'
    assert past.unsigned == 2 and past.progress in past_lines(past)
    assert signed_past(archive).unsigned == 1


def test_the_list_has_a_line_for_each_signature_and_explains_a_weak_one(archive):
    keep(archive, crash(0), crash(1), crash(2, 'other'), crash(3, drill='abort'))
    head, first, second, drills, weak = past_lines(signed_past(archive))
    assert first.split()[0] == '1' and first.endswith('SIGSEGV views:other')
    assert second.split()[0] == '2' and second.endswith('SIGSEGV views:render')
    assert drills == 'and 1 drill' and '~' in weak


def test_without_incidents_the_list_says_so(archive):
    keep(archive, record(0))
    assert list(past_lines(signed_past(archive))) == ['No incidents yet.']


def test_json_has_the_same_for_programs(archive):
    names = keep(archive, crash(0), crash(1), replace(crash(2), drill='abort'))
    document = past_json(signed_past(archive))
    (found,) = document['signatures']
    assert found['runs'] == [names[1], names[0]] and found['count'] == 2
    assert found['signature'] == f'{found["title"]} {found["id"]}' and found['weak']
    assert found['first'] < found['last'] and found['last'].endswith('Z')
    assert (document['drills'], document['without_signature']) == ([names[2]], [])
    assert document['unsigned'] == 0
