"""Threads of this product block signals, and the mask of the starting thread is restored."""

import logging
import queue
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
from support.childprograms import Program

from Products.StabilityMonitor.system import loglater
from Products.StabilityMonitor.system import signalmask
from Products.StabilityMonitor.system.eventlog import LOGGER

pytestmark = pytest.mark.skipif(
    not Path('/proc/self/status').exists(), reason='needs /proc to read signal masks'
)

#: Starts threads as fast as it can while it gets SIGINT again and again.  Prints how many
#: interrupts came, how often the mask was wrong afterwards, and how many threads were started.
STORM = """
import signal, sys, threading, time
from Products.StabilityMonitor.system import signalmask

class Interrupt(BaseException):
    pass

def handler(number, frame):
    while frame:
        if frame.f_code is signalmask.start.__code__:
            raise Interrupt
        frame = frame.f_back

signal.signal(signal.SIGINT, handler)
# A thread of the site, which takes signals while MainThread blocks them.
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
interrupts = wrong = started = 0
print("ready", flush=True)
end = time.monotonic() + 3
while time.monotonic() < end or interrupts < 20:
    thread = threading.Thread(target=int)
    try:
        signalmask.start(thread)
        started += 1
    except (Interrupt, RuntimeError):                   # threading itself stumbles over two of them
        interrupts += 1
    wrong += bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
print(interrupts, wrong, started, flush=True)
"""


def blocked(native_id):
    status = Path(f'/proc/self/task/{native_id}/status').read_text()
    mask = int(re.search(r'^SigBlk:\s*(\w+)', status, re.M)[1], 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}


@pytest.fixture
def thread():
    """A thread that waits until the test is over."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    yield thread
    over.set()


def test_a_new_thread_blocks_all_signals_except_faults(thread):
    signalmask.start(thread)
    every = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
    assert blocked(thread.native_id) == every - signalmask.FAULTS


def test_the_mask_of_the_starting_thread_is_restored(thread):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        signalmask.start(thread)
        now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert now == before | {signal.SIGUSR1}


def test_the_mask_is_restored_when_the_thread_cannot_be_started(thread):
    thread.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(RuntimeError):
        signalmask.start(thread)  # fails: it runs already
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_signal_during_the_start_reaches_its_handler(thread):
    class Raised(Exception):
        pass

    def handler(number, frame):
        raise Raised

    before = signal.signal(signal.SIGUSR1, handler)
    start = thread.start

    def start_and_signal():
        signal.raise_signal(signal.SIGUSR1)  # blocked: the signal waits
        start()

    thread.start = start_and_signal
    try:
        with pytest.raises(Raised):
            signalmask.start(thread)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert thread.is_alive()
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_no_python_function_is_called_to_restore_the_mask(thread):
    """An interrupt may be raised at the beginning of any Python function."""
    called = []

    def note(frame, event, argument):
        if event == 'call' and frame.f_back.f_code is signalmask.start.__code__:
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        signalmask.start(thread)
    finally:
        sys.setprofile(None)
    assert called[called.index('start') :] == ['start']


@pytest.mark.slow
def test_no_interrupt_leaves_the_mask_changed():
    """For example KeyboardInterrupt, which may be raised anywhere in MainThread."""
    with Program('-c', STORM) as program:
        program.expect('ready')
        while program.lives and not (said := readable(program.process.stdout)):
            program.signal('SIGINT')
        interrupts, wrong, started = map(int, program.hear().split())
        program.end()
    assert said and interrupts >= 20 and started > 20
    assert wrong == 0


def readable(stream):
    import select

    return bool(select.select([stream], [], [], 0.0002)[0])


def test_a_log_handler_of_the_site_runs_with_the_mask_of_main_thread():
    """The handler runs in a thread of this product.  It may start threads and child processes."""
    seen = queue.SimpleQueue()
    started = threading.Event()

    def log():
        started.wait()  # while MainThread starts a thread, it blocks every signal
        loglater.log(logging.WARNING, 'A line.')

    class Handler(logging.Handler):
        def emit(self, record):
            seen.put((threading.current_thread().name, blocked(threading.get_native_id())))

    handler = Handler()
    LOGGER.addHandler(handler)
    try:
        signalmask.start(threading.Thread(target=log))
        started.set()
        name, mask = seen.get(timeout=60)
    finally:
        LOGGER.removeHandler(handler)
    assert (name, mask) == ('StabilityMonitor log', blocked(threading.main_thread().native_id))
