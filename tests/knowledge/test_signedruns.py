"""The signatures of archived runs: made once, kept, and made again when more is known."""

import json
from dataclasses import replace

import pytest
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import signatures
from Products.StabilityMonitor.knowledge import signedruns
from Products.StabilityMonitor.knowledge.signedruns import SignedRuns
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem.allruns import AllRuns
from Products.StabilityMonitor.store import corerecords
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base


def crash(number, function='view'):
    frames = (Frame('/site/shop.py', 5 + number, function),)
    return record(
        number, 'crashed', signal='SIGSEGV', threads=(ThreadState(1, frames=frames, crashed=True),)
    )


@pytest.fixture
def archive(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return Archive(base)


def keep(archive, *records):
    for each in records:
        (archive.base.runs / each.run).mkdir()
        archive.add(archive.base.runs / each.run, each)
    return archive.summaries()


def forget():
    """Begin as another process."""
    signedruns._MEMORY.clear()


@pytest.fixture
def made(monkeypatch):
    """The names of the runs that are signed from now on."""
    found = []
    make = signatures.signature_of

    def signature_of(record, read):
        found.append(record.run)
        return make(record, read)

    monkeypatch.setattr(signatures, 'signature_of', signature_of)
    return found


def kept_file(archive, run):
    return archive.path / run / 'signature.json'


def test_the_same_crash_has_the_same_signature_and_it_is_made_once(archive, made):
    newest, oldest = keep(archive, crash(1), crash(2))
    signed = SignedRuns(archive)
    assert signed.of(newest) == signed.of(oldest) == signed.of(archive.record(newest.run))
    assert 'shop:view' in signed.of(newest).strict
    assert made == [newest.run, oldest.run]


def test_another_process_reads_what_is_kept(archive, made):
    (summary,) = keep(archive, crash(1))
    signature = SignedRuns(archive).of(summary)
    forget()
    assert SignedRuns(archive).of(summary) == signature
    assert made == [summary.run]


def test_it_is_made_again_by_other_rules(archive, made, monkeypatch):
    (summary,) = keep(archive, crash(1))
    SignedRuns(archive).of(summary)
    forget()
    monkeypatch.setattr(signatures, 'RULES', signatures.RULES + 1)
    SignedRuns(archive).of(summary)
    assert made == [summary.run] * 2
    assert json.loads(kept_file(archive, summary.run).read_text())['rules'] == signatures.RULES


def test_it_is_made_again_in_this_process_when_a_core_file_was_read(archive, made):
    (summary,) = keep(archive, crash(1))
    signed = SignedRuns(archive)
    signed.of(summary)
    core = CoreFile('/core', 10, 1.0, 'content')
    corerecords.add(archive.base, summary.run, core, corerecords.Stamp())
    signed.of(summary)
    signed.of(summary)
    assert made == [summary.run] * 2


def test_it_is_made_again_if_the_core_file_is_read_meanwhile(archive, monkeypatch):
    (summary,) = keep(archive, crash(1))
    signed = SignedRuns(archive)
    make = signatures.signature_of

    def signature_of(record, read):
        monkeypatch.undo()
        core = CoreFile('/core', 10, 1.0, 'content')
        corerecords.add(archive.base, summary.run, core, corerecords.Stamp())
        assert signed.unsigned([summary]) == 1  # this reads the note of it
        return make(record, read)

    monkeypatch.setattr(signatures, 'signature_of', signature_of)
    signed.of(summary)
    assert signed.unsigned([summary]) == 1


def test_stops_and_drills_have_none_and_their_record_is_not_read(archive, made):
    runs = keep(archive, record(1), replace(crash(2), drill='crash'))
    assert SignedRuns(archive).known(runs) == {run.run: None for run in runs}
    assert SignedRuns(archive).unsigned(runs) == 0
    assert made == []


def test_a_signature_of_an_older_release_does_not_count(archive):
    (summary,) = keep(archive, replace(crash(1), signature='SIGSEGV old 12345678'))
    labelled = SignedRuns(archive).labelled(summary)
    assert labelled.signature == SignedRuns(archive).of(summary).label
    stop = replace(record(2), signature='SIGINT d2e5e0de')
    assert SignedRuns(archive).labelled(stop).signature == ''


def test_a_request_makes_a_few_and_the_others_are_made_in_the_background(
    archive, made, monkeypatch
):
    monkeypatch.setattr(signedruns, 'MOST_AT_ONCE', 2)
    runs = keep(archive, *map(crash, range(5)))
    signed = SignedRuns(archive)
    assert set(signed.known(runs)) == {run.run for run in runs[:2]}
    assert signed.unsigned(runs) == 3
    job = signed.sign_later(runs)
    assert job.wait(30) and not job.error
    assert signed.unsigned(runs) == 0 and len(made) == 5
    assert signed.sign_later(runs) is None


def test_a_request_stops_after_some_time(archive):
    runs = keep(archive, *map(crash, range(3)))
    clock = iter([0.0, 0.5, 1.5, 2.0]).__next__
    assert list(SignedRuns(archive, clock).known(runs)) == [runs[0].run]


def test_a_command_that_only_reads_keeps_nothing(archive, tmp_path):
    (summary,) = keep(archive, crash(1))
    runs = AllRuns(archive.base, quiet_world(tmp_path))
    assert SignedRuns(runs).of(summary)
    assert not kept_file(archive, summary.run).exists()


def test_a_command_signs_all_and_tells_its_progress(archive, made, tmp_path):
    runs = keep(archive, *map(crash, range(3)))
    archive = AllRuns(archive.base, quiet_world(tmp_path))
    told = []
    SignedRuns(archive).sign_all(runs, lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert len(made) == 3 and SignedRuns(archive).unsigned(runs) == 0
    assert all(kept_file(archive, run.run).exists() for run in runs)
    SignedRuns(archive).sign_all(runs, lambda done, total: pytest.fail('nothing is left'))


def test_groups_are_made_again_only_after_a_change(archive, monkeypatch):
    runs = keep(archive, crash(1), crash(2), crash(3, 'edit'))
    signed = SignedRuns(archive)
    assert [group.count for group in signed.groups(runs)[0]] == [1, 2]
    first = signed.groups(runs)[0]
    assert signed.groups(archive.summaries())[0] is first
    one = signed.groups(runs[1:])[0]
    assert [group.count for group in one] == [2]
    assert signed.groups(runs)[0] is first
    runs = keep(archive, crash(4))
    assert [group.count for group in signed.groups(runs)[0]] == [3, 1]


def test_groups_grow_while_old_runs_are_signed(archive, monkeypatch):
    monkeypatch.setattr(signedruns, 'MOST_AT_ONCE', 1)
    runs = keep(archive, crash(1), crash(2))
    signed = SignedRuns(archive)
    assert [group.count for group in signed.groups(runs)[0]] == [1]
    assert [group.count for group in signed.groups(runs)[0]] == [2]


def test_a_run_that_is_gone_meanwhile_is_left_out(archive):
    runs = keep(archive, crash(1), crash(2))
    archive.prune(1, 9999, 1 << 30)
    assert set(SignedRuns(archive).known(runs)) == {runs[0].run}
    assert SignedRuns(archive).of(runs[1]) is None


def test_runs_that_are_gone_are_forgotten(archive, monkeypatch):
    runs = keep(archive, *map(crash, range(4)))
    monkeypatch.setattr(signedruns, '_MANY', 2)
    signed = SignedRuns(archive)
    signed.known(runs)
    signedruns._MEMORY[archive.path].clean_at = 2
    archive.prune(1, 9999, 1 << 30)
    signed.known(archive.summaries())
    assert set(signedruns._MEMORY[archive.path].signed) == {runs[0].run}


def test_a_directory_that_cannot_be_written_is_read_all_the_same(archive, monkeypatch):
    def refuse(self, name, content, mode):
        raise PermissionError(13, 'Permission denied')

    (summary,) = keep(archive, crash(1))
    monkeypatch.setattr('Products.StabilityMonitor.store.regularfiles.Folder.write_whole', refuse)
    assert SignedRuns(archive).of(summary)
    assert not kept_file(archive, summary.run).exists()


def test_a_run_that_is_not_archived_yet_has_a_signature_and_stays_as_it_is(archive, tmp_path):
    dead = DeadRun(archive.base.path).crashed()
    before = sorted(path.name for path in dead.path.iterdir())
    runs = AllRuns(archive.base, quiet_world(tmp_path))
    (group,) = SignedRuns(runs).groups(runs.summaries())[0]
    assert group.signature.python[0] == 'bad:crash'
    assert sorted(path.name for path in dead.path.iterdir()) == before
