"""The watch over the stacks: what it tells the black box of marks that rise, and in which request
they rose.
"""

import threading

import pytest

from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.stackwatch import StackWatch
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.system.stackdepth import Stack

MEGABYTE = 1 << 20


class Gauge:
    """Says what a test has set; the main thread's stack is not known here."""

    granule, mark = 4096, 8192

    def own(self):
        return Stack(1 << 40, MEGABYTE, 4096)

    def main(self):
        return None

    def used(self, stack):
        return self.mark

    def rise(self, stack, known):
        return self.mark


class Watched:
    """A recorder whose one thread is the test's, and its watch."""

    def __init__(self):
        self.recorder, self.gauge, self.findings = (
            Recorder(bytearray(blackbox.SIZE)),
            Gauge(),
            Findings(),
        )
        blackbox.lay_out(self.recorder.buffer)
        blackbox.seal(self.recorder.buffer)
        self.watch = StackWatch(self.recorder, self.findings, self.gauge)
        self.recorder.on_new_thread = self.watch.enter

    def look(self, mark=None):
        self.gauge.mark = mark or self.gauge.mark
        self.watch.look()
        stack = blackboxreader.read(bytes(self.recorder.buffer)).threads[threading.get_ident()]
        return stack.stack_used, stack.stack_request


@pytest.fixture
def watched():
    watched = Watched()
    watched.recorder.begin('GET', '/first')
    return watched


def test_a_mark_that_rose_between_two_looks_at_one_request_rose_in_it(watched):
    assert watched.look() == (8192, 0)
    assert watched.look(900_000) == (900_000, 1)


def test_one_that_was_there_at_the_first_look_may_be_older(watched):
    watched.look()
    watched.recorder.end(200)
    watched.recorder.begin('GET', '/second')
    assert watched.look(900_000) == (900_000, 0)
    assert watched.look() == (900_000, 0)
    assert watched.look(910_000) == (910_000, 2)


def test_a_mark_that_stands_stays_with_its_request(watched):
    watched.look()
    watched.look(900_000)
    watched.recorder.end(200)
    watched.recorder.begin('GET', '/second')
    assert watched.look() == (900_000, 1)


def test_a_request_that_begins_during_the_look(watched):
    watched.look()

    def rise(stack, known):
        watched.recorder.end(200)
        watched.recorder.begin('GET', '/second')
        return 900_000

    watched.gauge.rise = rise
    assert watched.look() == (900_000, 0)


def test_a_stack_that_is_nearly_full_is_a_finding(watched):
    watched.look(MEGABYTE - 4096)
    (finding,) = watched.findings
    assert (finding.id, finding.severity.code) == ('stack-headroom', 'critical')
