"""The archive: what goes in comes out, once, newest first; what is too much goes, wanted stops
first.
"""

import gzip
import os
from dataclasses import replace

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import record
from support.syntheticruns import request
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.interfaces import IArchive
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.store import archive as module
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store import regularfiles
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

DAY = 86400


@pytest.fixture
def archive(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return Archive(base)


def keep(archive, *records, size=0):
    """Archive records of runs that need no directory of their own."""
    for each in records:
        path = archive.base.runs / each.run
        path.mkdir()
        (path / 'ballast').write_bytes(b'x' * size)
        archive.add(path, each)
    return [each.run for each in records]


def names(archive):
    return [each.run for each in archive.summaries()]


def test_the_archive_implements_iarchive(archive):
    assert verifyObject(IArchive, archive)


def test_an_archived_record_is_read_back_whole(archive):
    whole = record(
        1,
        'crashed',
        signal='SIGSEGV',
        threads=(ThreadState(1),),
        samples=(Sample(1.5, 2.5, rss=1),),
        log=(LogLine(1.5, 'X', 'site', 'hello', 7),),
        recent=(request(path='/'),),
        context={'python': '3'},
        compiled_modules=('a',),
    )
    keep(archive, whole)
    read = archive.record(whole.run)
    assert read == whole
    (summary,) = archive.summaries()
    assert (summary.verdict, summary.signal, summary.threads, summary.context) == (
        'crashed',
        'SIGSEGV',
        (),
        {},
    )
    assert not (archive.base.runs / whole.run).exists()


def test_a_signature_in_a_record_of_an_older_release_is_ignored(archive):
    (run,) = keep(archive, record(1, 'crashed', signature='SIGSEGV x.py:f 55df82ac'))
    (summary,) = archive.summaries()
    assert summary.signature == archive.record(run).signature == ''


@pytest.mark.parametrize(
    'name', ['', '..', '../runs', '20260921T133320Z-1-abcd', '20260921T133320Z-1-abcd/../x']
)
def test_the_record_of_an_unknown_run_raises_no_such_run(archive, name):
    with pytest.raises(NoSuchRun):
        archive.record(name)


def test_an_archive_without_a_directory_is_empty(tmp_path):
    archive = Archive(Base(tmp_path / 'nowhere'))
    assert (archive.summaries(), archive.clean_scripts, archive.prune(1, 1, 1)) == ((), 0, 0)


def test_summaries_of_older_releases_are_newest_first_even_within_one_second(archive):
    """Names hold only whole seconds, a process may restart faster, and pids are not ordered."""
    runs = []
    for order, pid in enumerate((900, 1, 5000, 40)):
        runs.append(replace(record(pid, after=0.1 * order), number=0))
    keep(archive, *reversed(runs))
    assert names(archive) == [each.run for each in reversed(runs)]


def test_changes_by_other_processes_are_seen(archive):
    other = Archive(archive.base)
    (first,) = keep(archive, record(1))
    assert names(other) == [first]
    (second,) = keep(other, record(2))
    assert names(archive) == [second, first]
    archive.prune(1, 90, 1 << 20)
    assert names(other) == [second]


# -- what a dead run leaves ------------------------------------------------------------------------


def test_archived_evidence_is_compressed(archive):
    run = DeadRun(archive.base.path).crashed().marked('SIGTERM', b'')
    (run.path / 'bell').touch()
    archive.add(run.path, record(0, run=run.name))
    kept = archive.path / run.name
    assert sorted(path.name for path in kept.iterdir()) == [
        'blackbox.sbr.gz',
        'context.json',
        'faults.mark',
        'incident.json',
        'lock',
        'summary.json',
    ]
    assert (
        blackboxreader.read(gzip.decompress((kept / 'blackbox.sbr.gz').read_bytes()))
        .finished[0]
        .path
        == '/served'
    )
    assert (kept / 'faults.mark').read_bytes().endswith(b'(total: 2)\n')
    assert {oct(path.stat().st_mode & 0o777) for path in kept.glob('*.json')} == {'0o600'}


def test_on_a_full_disk_the_evidence_stays_uncompressed(archive, monkeypatch):
    run = DeadRun(archive.base.path).crashed()
    monkeypatch.setattr(
        module.gzip, 'compress', lambda *args: (_ for _ in ()).throw(OSError(28, 'full'))
    )
    archive.add(run.path, record(0, run=run.name))
    assert names(archive) == [run.name]
    assert [path.name for path in (archive.path / run.name).glob('blackbox*')] == ['blackbox.sbr']


@pytest.mark.parametrize(
    'text', ['', '{', '[]', '{"run": 5}', '"x"', '{"run": "x", "evidence": 5, "threads": {}}']
)
def test_a_run_with_a_damaged_record_still_counts(archive, text):
    (run,) = keep(archive, record(1))
    module._KNOWN.clear()
    for name in ('incident.json', 'summary.json'):
        (archive.path / run / name).write_text(text)
    assert len(archive.summaries()) == 1 and isinstance(archive.record(run), RunRecord)
    archive.prune(200, 90, 1 << 20, now=STARTED)


def test_files_with_other_names_are_ignored(archive):
    for name in ('lost+found', '.new-x', '99999999T999999Z-1-abcd'):
        (archive.path / name).mkdir()
    assert names(archive) == ['99999999T999999Z-1-abcd']
    assert archive.prune(200, 90, 1 << 20, now=STARTED) in (0, 1)
    assert (archive.path / 'lost+found').exists()


# -- scripts ---------------------------------------------------------------------------------------


def test_clean_scripts_are_counted_and_others_archived(archive):
    runs = [DeadRun(archive.base.path, number, 'script') for number in range(4)]
    for run in runs[:3]:
        archive.add(run.path, record(0, 'stopped', role='script', run=run.name))
    archive.add(runs[3].path, record(0, 'crashed', role='script', run=runs[3].name))
    assert archive.clean_scripts == 3 and names(archive) == [runs[3].name]
    assert list(archive.base.runs.iterdir()) == []


# -- pruning ---------------------------------------------------------------------------------------


def test_the_oldest_runs_above_keep_runs_are_pruned(archive):
    """The oldest runs are removed first, but wanted stops before incidents."""
    crash, *stops, last = keep(
        archive, record(0, 'crashed'), *(record(n) for n in range(1, 5)), record(5, 'vanished')
    )
    assert archive.prune(4, 90, 1 << 20, now=STARTED) == 2
    assert names(archive) == [last, stops[3], stops[2], crash]
    assert archive.prune(1, 90, 1 << 20, now=STARTED) == 3
    assert names(archive) == [last]


def test_runs_older_than_keep_days_are_pruned(archive):
    runs = keep(archive, record(0), record(1, after=10 * DAY), record(2, after=20 * DAY))
    assert archive.prune(200, 15, 1 << 30, now=STARTED + 21 * DAY) == 1
    assert set(names(archive)) == set(runs[1:])


@pytest.mark.parametrize('ahead', [90 * DAY, 3650 * DAY])
def test_a_clock_that_is_ahead_prunes_nothing(archive, ahead):
    keep(archive, record(0), *(record(number, 'crashed') for number in range(1, 21)))
    assert archive.prune(200, 30, 1 << 30, now=STARTED + ahead) == 0


@pytest.mark.parametrize('ahead', [90 * DAY, 3650 * DAY])
def test_the_newest_ten_incidents_stay_after_a_run_under_a_clock_that_was_ahead(archive, ahead):
    runs = keep(
        archive,
        *(record(number, 'crashed') for number in range(20)),
        record(20, after=ahead),
    )
    assert archive.prune(200, 30, 1 << 30, now=STARTED + ahead) == 10
    assert set(names(archive)) == {*runs[10:20], runs[20]}


@pytest.mark.parametrize('now', [0.0, STARTED - 1095 * DAY])
def test_a_clock_that_was_set_back_prunes_nothing(archive, now):
    keep(archive, record(0), record(1, 'crashed'), record(2, 'crashed', after=-1095 * DAY))
    assert archive.prune(200, 90, 1 << 30, now=now) == 0
    assert archive.prune(200, 90, 1 << 30, now=STARTED) == 0


def test_a_run_that_began_before_the_clock_was_set_counts_by_its_end(archive):
    """A machine without a battery begins in 1970."""
    old, last = keep(
        archive,
        record(0, 'crashed'),
        record(1, 'crashed', after=60 - STARTED, ended=STARTED + DAY),
    )
    assert archive.prune(1, 90, 1 << 30, now=STARTED + DAY) == 1
    assert names(archive) == [last]


def test_runs_above_keep_bytes_are_pruned(archive):
    """An incident is kept longer than a newer wanted stop."""
    crash, stop, last = keep(
        archive, record(0, 'crashed'), record(1), record(2, 'hung'), size=64 << 10
    )
    assert archive.prune(200, 90, 150 << 10, now=STARTED) == 1
    assert names(archive) == [last, crash]
    assert list(archive.path.glob('.gone-*')) == []


def test_what_a_removal_has_left_is_removed_by_the_next(archive):
    (last,) = keep(archive, record(0))
    left = archive.path / '.gone-20260921T133320Z-4711-abcd-1'
    left.mkdir()
    (left / 'signature.json').write_text('{}')
    assert archive.prune(200, 90, 1 << 30, now=STARTED) == 0
    assert not left.exists() and names(archive) == [last]


def test_within_the_limits_nothing_is_pruned(archive):
    keep(archive, record(0), record(1))
    assert archive.prune(200, 90, 1 << 30, now=STARTED) == 0
    assert not (archive.path / 'x').exists() and len(names(archive)) == 2


# -- many ------------------------------------------------------------------------------------------


def test_summaries_are_the_same_object_until_something_changes(archive):
    run, _ = keep(archive, record(0, 'vanished'), record(1))
    before = archive.summaries()
    assert archive.summaries() is before
    witnessfiles.add(
        archive.base, run, Witness('shell', time=STARTED, fact='It ended.', exit_code=1)
    )
    assert archive.summaries() is not before
    before = archive.summaries()
    keep(archive, record(2))
    assert len(archive.summaries()) == 3 and archive.summaries() is not before


def test_a_thousand_summaries_are_read_only_once(archive, monkeypatch):
    keep(archive, *(record(n, ('crashed', 'stopped')[n % 2]) for n in range(1000)))
    module._KNOWN.clear()
    assert len(archive.summaries()) == 1000
    monkeypatch.setattr(module, 'read_json', lambda path: pytest.fail(f'{path} is read again'))
    assert [each.pid for each in Archive(archive.base).summaries()[:3]] == [1099, 1098, 1097]


class TestListing:
    """A folder of 10,000 runs is not listed for each page."""

    @pytest.fixture
    def listings(self, archive, monkeypatch):
        seen = []

        def names_in(path):
            seen.append(path)
            return regularfiles.names_in(path)

        monkeypatch.setattr(module, 'names_in', names_in)
        keep(archive, record(1), record(2))
        return seen

    def at(self, archive, monkeypatch, seconds):
        """Look at the archive that many seconds after the last change of its folder."""
        changed = archive.path.stat().st_mtime
        monkeypatch.setattr(module.time, 'time', lambda: changed + seconds)
        return archive.summaries()

    def test_a_folder_that_changed_just_now_is_listed_each_time(
        self, archive, monkeypatch, listings
    ):
        for _ in range(3):
            self.at(archive, monkeypatch, 1)
        assert len(listings) == 3

    def test_one_that_did_not_change_is_listed_once_in_a_while(
        self, archive, monkeypatch, listings
    ):
        first = self.at(archive, monkeypatch, 5)
        assert self.at(archive, monkeypatch, 15) is first and len(listings) == 1
        assert self.at(archive, monkeypatch, 30) is first and len(listings) == 2
        assert self.at(archive, monkeypatch, 4) is first and len(listings) == 3, 'a clock was set'

    def test_a_run_that_was_added_or_removed_is_seen_at_once(self, archive, monkeypatch, listings):
        self.at(archive, monkeypatch, 5)
        keep(archive, record(3))
        os.utime(archive.path, (STARTED + 9, STARTED + 9))
        assert len(self.at(archive, monkeypatch, 5)) == 3
