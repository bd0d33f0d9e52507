"""The stack watch: it records high-water marks that rise, and the requests in which they rose."""

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
    """A gauge whose high-water mark a test sets.  It does not know the main thread's stack."""

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
    """A recorder whose only thread is that of the test, and its StackWatch."""

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


def test_a_rise_between_two_looks_at_the_same_request_belongs_to_it(watched):
    assert watched.look() == (8192, 0)
    assert watched.look(900_000) == (900_000, 1)


def test_a_rise_seen_at_the_first_look_at_a_request_belongs_to_none(watched):
    watched.look()
    watched.recorder.end(200)
    watched.recorder.begin('GET', '/second')
    assert watched.look(900_000) == (900_000, 0)
    assert watched.look() == (900_000, 0)
    assert watched.look(910_000) == (910_000, 2)


def test_a_mark_that_does_not_rise_keeps_its_request(watched):
    watched.look()
    watched.look(900_000)
    watched.recorder.end(200)
    watched.recorder.begin('GET', '/second')
    assert watched.look() == (900_000, 1)


def test_a_rise_belongs_to_no_request_if_one_begins_during_the_look(watched):
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
