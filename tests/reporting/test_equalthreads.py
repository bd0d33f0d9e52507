"""What is the same for several threads is said once."""

from support.syntheticruns import note
from support.syntheticruns import record

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting.equalthreads import equal_threads
from Products.StabilityMonitor.reporting.equalthreads import slow_requests
from Products.StabilityMonitor.reporting.equalthreads import slow_words
from Products.StabilityMonitor.reporting.equalthreads import thread_label
from Products.StabilityMonitor.reporting.runtext import run_lines

WAIT = (Frame('/site/shop.py', 31, 'prices'),)
FOUR = tuple(ThreadState(n, f'waitress-{n}', frames=WAIT, note='GET /: waits') for n in range(1, 5))
LOOP = ThreadState(9, 'MainThread', frames=(Frame('/loop.py', 1, 'poll'),))


def test_four_threads_in_one_place_are_one_block():
    four, loop = equal_threads((*FOUR[:2], LOOP, *FOUR[2:]))
    assert (four, loop) == (list(FOUR), [LOOP])
    assert thread_label(four) == '4 threads: waitress-1, waitress-2, waitress-3, waitress-4'
    assert thread_label(loop) == '0x0000000000000009 MainThread'


def test_names_that_do_not_differ_are_idents():
    same = [ThreadState(n, 'serves requests') for n in (1, 2)]
    assert thread_label(same) == '2 threads: 0x0000000000000001, 0x0000000000000002'


def test_four_slow_requests_in_one_place_are_one():
    notes = [
        note('slow', 10 * look, ident=1, request=n, title='GET /', seconds=look, frames=WAIT)
        for look in (1.0, 2.0)
        for n in range(1, 5)
    ]
    (group,) = slow_requests(notes)
    assert [each.request for each in group] == [4, 3, 2, 1]
    assert slow_words(group) == 'after 2 s'


def test_a_report_of_a_hang_has_the_stack_and_its_sentence_once():
    lines = run_lines(record(0, 'hung', threads=(*FOUR, LOOP)))
    assert sum('GET /: waits' in line for line in lines) == 1
    assert sum('shop.py' in line and 'File' in line for line in lines) == 1
