"""The stacks of a slow request: counted by function, limited, and compressed at its end."""

import json
import threading

import pytest

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.threads import stackprofile
from Products.StabilityMonitor.threads.stackprofile import StackCounts


def stack(letters):
    """Return frames, innermost first, one function for each letter."""
    return tuple(Frame(f'/{letter}.py', 1, letter) for letter in letters)


def counted(*all_letters):
    counts = StackCounts()
    for letters in all_letters:
        counts.add(stack(letters))
    return counts


def named(stacks):
    return [(''.join(function for _, function in frames), count) for frames, count in stacks]


@pytest.fixture(params=['lasting', 'ended'])
def seen(request):
    """A function that returns counted stacks: of a request in progress, or packed after its end."""
    return lambda *all_letters: (
        counted(*all_letters) if request.param == 'lasting' else counted(*all_letters).packed()
    )


def test_shares_are_those_of_the_samples(seen):
    found = seen('abc', 'abc', 'bc', 'xc')
    shares = {share.function: (share.own, share.within) for share in found.shares()}
    assert shares == {'a': (0.5, 0.5), 'b': (0.25, 0.75), 'x': (0.25, 0.25), 'c': (0.0, 1.0)}
    assert [share.function for share in found.shares()][0] == 'a', (
        'the function with the largest share is not the first'
    )
    assert {share.file for share in found.shares()} == {'/a.py', '/b.py', '/x.py', '/c.py'}


def test_a_recursion_counts_once_in_a_stack(seen):
    assert {share.function: share.within for share in seen('aaaab').shares()} == {
        'a': 1.0,
        'b': 1.0,
    }


def test_lines_of_one_function_are_one_place():
    counts = StackCounts()
    for line in range(5):
        counts.add((Frame('/a.py', line, 'loop'),))
    assert len(counts) == 1 and [share.own for share in counts.shares()] == [1.0]


def test_the_most_frequent_stacks_come_first(seen):
    found = seen('xc', 'abc', 'bc', 'abc')
    assert len(found) == 3 and named(found.stacks()) == [('abc', 2), ('xc', 1), ('bc', 1)]
    assert found.stacks()[0][0][0] == ['/a.py', 'a']


@pytest.mark.parametrize('letters', [(), ('',)])
def test_without_frames_there_are_no_shares(seen, letters):
    assert seen(*letters).shares() == [] and named(seen(*letters).stacks()) == [('', 1)] * len(
        letters
    )


def test_names_that_cannot_be_encoded_are_kept():
    counts = StackCounts()
    counts.add((Frame('/\udcff.py', 1, 'f"'),))
    assert counts.packed().stacks() == counts.stacks() == [[[['/\udcff.py', 'f"']], 1]]


class TestBounds:
    def test_the_number_of_stacks_is_bounded(self):
        counts = StackCounts()
        for number in range(1000):
            counts.add((Frame('/a.py', 1, f'f{number}'), Frame('/a.py', 1, 'root')))
        assert len(counts) == 100 and len(counts._numbers) == 101
        for _ in range(100):
            counts.add((Frame('/a.py', 1, 'f7'), Frame('/a.py', 1, 'root')))
        first, *others = counts.shares()
        assert (first.function, first.own, len(others)) == ('f7', 101 / 200, 9)

    def test_the_number_of_places_is_bounded(self):
        """The deepest possible stack fits.  A stack with too many new places is dropped whole."""
        counts, deep = StackCounts(), [Frame('/deep.py', 1, f'f{n}') for n in range(200)]
        counts.add(deep)
        counts.add([Frame('/other.py', 1, f'f{n}') for n in range(57)])
        assert len(counts) == 1 and len(counts._numbers) == 200
        counts.add([Frame('/other.py', 1, f'f{n}') for n in range(56)])
        assert len(counts) == 2 and len(counts._numbers) == stackprofile._MOST_PLACES
        counts.add(deep[5:])
        assert len(counts) == 3, 'another stack of known places was dropped'

    def test_after_the_end_few_stacks_are_kept_compressed(self):
        counts = StackCounts()
        for number in range(100):
            counts.add([Frame(f'/site/view_{number}.py', 1, 'view'), *stack('deep' * 45)])
        packed = counts.packed()
        assert (len(packed), len(packed.stacks()), len(packed.shares())) == (100, 30, 10)
        assert len(packed._packed) < 4 << 10


def test_stacks_can_be_read_while_another_thread_counts():
    """A page reads them in another thread."""
    present, over, wrong = [StackCounts()], threading.Event(), []

    def ask():
        while not over.is_set():
            try:
                json.dumps([present[0].stacks(), present[0].shares()], default=vars)
            except Exception as error:
                wrong.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    for _ in range(30):
        present[0] = counts = StackCounts()
        for number in range(120):
            counts.add((Frame('/a.py', 1, f'f{number}'), Frame('/a.py', 1, 'root')))
    over.set()
    asker.join()
    assert wrong == []
