"""A log handler that is stuck holds up nobody who is in a hurry, and what he said is said when it
is free again.
"""

import collections
import logging
import os
import sys
import threading

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until
from support.childprograms import run_python

from Products.StabilityMonitor.recording.heartbeat import Heartbeat
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.system import loglater


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines, self.threads = [], set()

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.threads.add(threading.current_thread().name)


@pytest.fixture
def logger(monkeypatch):
    """The product's logger for this test, on its own, and a messenger without a past."""
    logger = logging.Logger('StabilityMonitor of a test')
    monkeypatch.setattr(loglater, 'LOGGER', logger)
    monkeypatch.setattr(loglater, '_MESSENGER', loglater.Messenger())
    monkeypatch.setattr(loglater, 'HURRIED', set())
    return logger


@pytest.fixture
def heard(logger):
    handler = Heard()
    logger.addHandler(handler)
    return handler


class FullPipe:
    """A pipe that is full, a log handler that writes into it, and a thread that is stuck in that
    handler.
    """

    def __init__(self, logger):
        self.reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self.filled = 0
        for piece in (4096, 1):  # to the last byte
            try:
                while True:
                    self.filled += os.write(writing, b'.' * piece)
            except BlockingIOError:
                pass
        os.set_blocking(writing, True)
        self.file = open(writing, 'w', encoding='utf-8')
        self.handler = logging.StreamHandler(self.file)
        logger.addHandler(self.handler)
        self.thread = threading.Thread(target=logger.warning, args=('of the request',), daemon=True)
        self.thread.start()
        until(self.is_stuck)

    def is_stuck(self):
        """The lock of the handler is held: who logs now waits for ever."""
        if self.handler.lock.acquire(blocking=False):
            self.handler.lock.release()
            return False
        return True

    def drain(self, last):
        """The lines after what it was full of, up to one."""
        text = b''
        while not text.endswith(f'{last}\n'.encode()):
            text += os.read(self.reading, 65536)
        return text[self.filled :].decode().splitlines()

    def close(self):
        os.close(self.reading)
        self.file.close()


@pytest.fixture
def full(logger):
    full = FullPipe(logger)
    yield full
    full.close()


@pytest.mark.skipif(os.name != 'posix', reason='fills a pipe as POSIX has it')
class TestAStuckHandler:
    def test_the_heartbeat_beats_on_and_all_is_said_later(self, full):
        numbers = iter(range(1, 10**6))
        heartbeat = Heartbeat(
            0.005,
            [lambda: loglater.log(logging.WARNING, 'beat %d', next(numbers))],
            Findings(),
            lambda: loglater.HURRIED.add(heartbeat.ident),
        )
        heartbeat.start()
        until(lambda: heartbeat.beats > 50)
        assert full.is_stuck() and full.thread.is_alive()
        heartbeat.stop(timeout=PATIENCE)
        heartbeat.join(PATIENCE)
        assert not heartbeat.is_alive() and heartbeat.duties, 'it has given up nothing'
        lines = full.drain(f'beat {heartbeat.beats}')
        assert lines == ['of the request', *(f'beat {n}' for n in range(1, heartbeat.beats + 1))]

    def test_a_finding_of_the_heartbeat_does_not_wait_either(self, full):
        findings = Findings()

        def hurry():
            loglater.HURRIED.add(threading.get_ident())
            findings.add('a', 'Title.')

        thread = threading.Thread(target=hurry)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive() and full.is_stuck()
        assert full.drain('Title.  ') == ['of the request', 'Title.  ']

    def test_what_waits_is_the_newest(self, full):
        messenger = loglater.Messenger()
        messenger.say(30, 'first')
        until(lambda: not messenger._waiting)  # it is being said, for ever
        for number in range(1000):
            messenger.say(30, 'line %d', number)
        assert len([t for t in threading.enumerate() if t.name == 'StabilityMonitor log']) <= 1
        assert full.drain('line 999') == [
            'of the request',
            'first',
            *(f'line {n}' for n in range(800, 1000)),
        ]


class TestWhoLogs:
    def test_at_once_in_a_thread_that_is_not_in_a_hurry(self, heard):
        loglater.log(30, 'text %d', 1)
        assert heard.lines == ['text 1'] and heard.threads == {threading.current_thread().name}

    def test_the_messenger_for_one_that_is(self, heard):
        loglater.HURRIED.add(threading.get_ident())
        loglater.log(30, 'text %d', 1)
        until(lambda: heard.lines == ['text 1'])
        assert heard.threads == {'StabilityMonitor log'}

    def test_its_thread_ends_when_all_is_said(self, heard):
        messenger = loglater.Messenger()
        for line in ('one', 'two', 'three'):
            messenger.say(30, line)
            until(lambda line=line: heard.lines[-1:] == [line])
            until(lambda: 'StabilityMonitor log' not in [t.name for t in threading.enumerate()])
        assert heard.lines == ['one', 'two', 'three']


class TestNothingIsLost:
    def test_what_is_said_while_its_thread_ends(self, heard):
        class Nosy(collections.deque):
            """The moment it was found to be empty, something is said."""

            def __bool__(self):
                is_full = bool(len(self))
                if not is_full and late:
                    messenger.say(30, late.pop())
                return is_full

        messenger, late = loglater.Messenger(), []
        messenger._waiting = Nosy()
        late.append('late')
        messenger.say(30, 'early')
        until(lambda: heard.lines == ['early', 'late'])

    def test_by_many_threads_in_a_hurry(self, heard):
        def hurry(name):
            for number in range(300):
                messenger.say(30, '%s', (name, number))

        messenger = loglater.Messenger()
        messenger._waiting = collections.deque()  # as long as it takes
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=hurry, args=(name,)) for name in range(4)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            until(lambda: len(heard.lines) == 1200)
        finally:
            sys.setswitchinterval(interval)
        assert set(heard.lines) == {
            f'({name}, {number})' for name in range(4) for number in range(300)
        }

    def test_when_no_thread_can_be_started(self, heard, monkeypatch):
        """As at the limit of threads, or at the end of the interpreter: nothing is raised, it is
        said with the next.
        """

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        messenger = loglater.Messenger()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', refuse)
            messenger.say(30, 'one')
        assert heard.lines == []
        messenger.say(30, 'two')
        until(lambda: heard.lines == ['one', 'two'])

    def test_after_a_handler_that_raises(self, logger, heard):
        class Broken(logging.Handler):
            def handle(self, record):
                if record.getMessage() == 'one':
                    raise ValueError('broken')

        logger.addHandler(Broken())
        messenger = loglater.Messenger()
        messenger.say(30, 'one')
        messenger.say(30, 'two')
        until(lambda: heard.lines == ['one', 'two'])
        messenger.say(30, 'three')
        until(lambda: heard.lines[-1] == 'three')


FORK = """if True:
    import logging, os, sys, threading
    from Products.StabilityMonitor.system import loglater

    class Stuck(logging.Handler):
        def handle(self, record):
            if os.getpid() == parent:
                entered.set()
                threading.Event().wait()
            print(record.getMessage(), flush=True)
    parent, entered = os.getpid(), threading.Event()
    loglater.LOGGER.addHandler(Stuck())
    loglater.LOGGER.propagate = False
    loglater.HURRIED.add(threading.get_ident())
    loglater.log(30, 'of the parent')
    entered.wait()
    loglater.log(30, 'of the parent, too')
    if os.fork() == 0:
        loglater.start_anew()
        assert not loglater.HURRIED
        loglater.log(30, 'at once')
        loglater.HURRIED.add(threading.get_ident())
        loglater.log(30, 'later')
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join()
        os._exit(7)
    print('child', os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system does not fork')
def test_a_forked_child_says_nothing_of_its_parent():
    """Who spoke for the parent holds the turn, and is not in the child."""
    done = run_python('-c', FORK)
    assert done.stdout.splitlines() == ['at once', 'later', 'child 7'], done.stderr
