"""A snapshot is one value: its JSON has all of it, and its summary only what a list needs."""

import json

import pytest
from support.snapshots import snapshot

from Products.StabilityMonitor.model.snapshotrecord import SnapshotRecord


def test_a_snapshot_is_read_as_it_was_written():
    record = snapshot(note='slow')
    document = json.loads(json.dumps(record.to_json()))
    assert SnapshotRecord.from_json(document) == record
    assert record.stacks.threads == record.threads and record.stacks.slow == record.slow_requests


def test_the_summary_has_no_large_part():
    record = snapshot(note='slow')
    document = record.summary_json()
    assert document.keys().isdisjoint(
        {'threads', 'samples', 'native_threads', 'process', 'inventory'}
    )
    assert SnapshotRecord.from_json(document) == record.without_heavy()
    assert document['note'] == 'slow' and document['summary'] == record.summary


@pytest.mark.parametrize('document', [None, [], {}, {'id': 5}])
def test_what_is_no_snapshot_is_refused(document):
    with pytest.raises(ValueError):
        SnapshotRecord.from_json(document)
