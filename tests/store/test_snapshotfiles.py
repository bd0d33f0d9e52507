"""Snapshots on disk: whole or not there, bounded, and never trusted when they are read."""

import json
import os
from dataclasses import replace

import pytest
from support.commandline import archived
from support.snapshots import snapshot
from support.syntheticruns import record

from Products.StabilityMonitor.model.errors import NoSuchSnapshot
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.store import snapshotfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.snapshotfiles import Snapshots


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


@pytest.fixture
def snapshots(base):
    return Snapshots(base)


def add(snapshots, *numbers):
    for number in numbers:
        snapshots.add(snapshot(number))
    return [snapshot(number).id for number in numbers]


def test_the_newest_snapshot_is_the_first_of_the_list(snapshots):
    assert snapshots.summaries() == () and snapshots.names() == []
    first, second = add(snapshots, 1, 2)
    assert [each.id for each in snapshots.summaries()] == [second, first]
    assert snapshots.summaries()[1] == snapshot(1).without_heavy()
    assert snapshots.record(first) == snapshot(1)


def test_only_the_owner_may_read_a_snapshot(snapshots):
    (name,) = add(snapshots, 1)
    for path in (snapshots.path, snapshots.path / name):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (snapshots.path / name).iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_snapshot_is_amended_as_long_as_it_is_there(snapshots):
    (name,) = add(snapshots, 1)
    snapshots.amend(replace(snapshot(1), native_threads=(), native_error='No tool.'))
    assert snapshots.record(name).native_error == 'No tool.'
    with pytest.raises(NoSuchSnapshot):
        snapshots.amend(snapshot(2))


@pytest.mark.parametrize('name', ['', '..', 'x', '20260921T133320Z-1-abcd'])
def test_an_unknown_name_is_no_snapshot(snapshots, name):
    with pytest.raises(NoSuchSnapshot):
        snapshots.record(name)


@pytest.mark.parametrize('content', ['', '[', '[]', '{}', '{"id": "20260921T133320Z-1-abcd"}'])
def test_a_damaged_snapshot_still_has_its_time_and_process(snapshots, content):
    (name,) = add(snapshots, 1)
    for file in ('snapshot.json', 'summary.json'):
        (snapshots.path / name / file).write_text(content)
    for found in (snapshots.record(name), *snapshots.summaries()):
        assert (found.id, found.pid, found.time) == (name, 4711, snapshot(1).time)
        assert 'damaged' in found.summary


def test_no_link_is_followed(snapshots, tmp_path):
    (name,) = add(snapshots, 1)
    (tmp_path / name).mkdir()
    (tmp_path / name / 'snapshot.json').write_text(json.dumps(snapshot(1).to_json()))
    os.rename(snapshots.path / name, snapshots.path / 'away')
    os.symlink(tmp_path / name, snapshots.path / name)
    with pytest.raises(NoSuchSnapshot):
        snapshots.record(name)


def test_deep_stacks_are_cut_to_what_can_be_read_again(snapshots):
    frames = tuple(Frame(f'/site/{"x" * 80}{n}.py', n, 'view') for n in range(200))
    threads = tuple(ThreadState(n, f'worker-{n}', frames=frames) for n in range(1, 200))
    snapshots.add(snapshot(1, threads=threads))
    found = snapshots.record(snapshot(1).id)
    assert len(found.threads) == 199
    for thread in found.threads:
        assert thread.cut and 0 < len(thread.frames) < 200


def test_there_are_never_more_snapshots_than_the_limit(snapshots, monkeypatch):
    monkeypatch.setattr(snapshotfiles, 'MOST', 3)
    names = add(snapshots, 1, 2, 3, 4, 5)
    assert snapshots.names() == names[:1:-1]
    assert sorted(os.listdir(snapshots.path)) == names[2:]


def test_the_limits_of_the_archive_hold_for_snapshots(snapshots):
    oldest, *others = add(snapshots, 1, 2, 3, 4)
    size = snapshots.prune(200, snapshot(2).time, 1 << 30)
    assert snapshots.names() == others[::-1] and size > 0
    snapshots.prune(2, 0.0, 1 << 30)
    assert snapshots.names() == others[:0:-1]
    # Both fill their quarter: the older one must go.
    snapshots.prune(200, 0.0, size * 4 // 3)
    assert snapshots.names() == others[-1:]


def test_what_snapshots_take_counts_as_bytes_of_the_archive(base, snapshots):
    names = archived(base, record(1), record(2))
    archive = Archive(base)
    now = archive.summaries()[0].ended
    assert archive.prune(200, 90, 1 << 30, now) == 0
    add(snapshots, 1)
    taken = snapshots.prune(200, 0.0, 1 << 30)
    assert archive.prune(200, 90, 4 * taken, now) == 0 and snapshots.names()
    assert [each.run for each in archive.summaries()] == names[::-1]
    assert archive.prune(200, 90, taken, now) == 0 and not snapshots.names()


def test_a_snapshot_that_was_never_published_is_removed(snapshots):
    add(snapshots, 1)
    abandoned = snapshots.path / f'.new-{snapshot(2).id}'
    abandoned.mkdir()
    snapshots.prune(200, 0.0, 1 << 30)
    assert abandoned.exists()  # another process may be writing it
    os.utime(abandoned, (1, 1))
    snapshots.prune(200, 0.0, 1 << 30)
    assert not abandoned.exists() and snapshots.names()


def test_a_full_disk_leaves_no_half_of_a_snapshot(snapshots, monkeypatch):
    def fail(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(snapshotfiles, 'rename', fail)
    with pytest.raises(OSError):
        snapshots.add(snapshot(1))
    assert os.listdir(snapshots.path) == []
