"""A snapshot as text: all that was kept, and what is missing."""

import pytest
from support.snapshots import snapshot

from Products.StabilityMonitor.model.snapshotrecord import FAILED
from Products.StabilityMonitor.model.snapshotrecord import NONE
from Products.StabilityMonitor.model.snapshotrecord import READING
from Products.StabilityMonitor.reporting import snapshottext


def text(**values):
    return '\n'.join(snapshottext.lines(snapshot(**values)))


def test_checks_that_found_nothing_are_one_line():
    assert list(snapshottext.findings(snapshot())) == [
        '[warning] Zope was swapped out.',
        '    By 3 GiB.',
        '1 check found nothing.',
    ]
    (words,) = snapshottext.findings(snapshot(findings=(), checked=None))
    assert words.startswith('Not known')


@pytest.mark.parametrize(
    ('state', 'words'),
    [
        (READING, 'They were being read'),
        (FAILED, 'They could not be read.'),
        (NONE, ''),
    ],
)
def test_native_stacks_that_are_missing_are_said_to_be(state, words):
    lines = list(snapshottext.native(snapshot(native_threads=(), native_state=state)))
    assert words in '\n'.join(lines) and bool(lines) == bool(words)


def test_a_note_that_was_not_given_has_no_line():
    assert 'note  ' not in text() and 'note               slow' in text(note='slow')


def test_without_snapshots_the_list_is_empty():
    assert list(snapshottext.list_lines([])) == []
