"""A log handler that is stuck does not block a hurried thread.  The lines are logged later."""

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
    """A separate logger for this test, and a new messenger."""
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
    """A full pipe, a log handler that writes into it, and a thread that is stuck in the handler."""

    def __init__(self, logger):
        self.reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self.filled = 0
        for piece in (4096, 1):  # fill it to the last byte
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
        """Return whether the lock of the handler is held; then a thread that logs is blocked."""
        if self.handler.lock.acquire(blocking=False):
            self.handler.lock.release()
            return False
        return True

    def drain(self, last):
        """Read the pipe up to the line `last`.  Return the lines after those that filled it."""
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


@pytest.mark.skipif(os.name != 'posix', reason='needs a POSIX pipe')
class TestAStuckHandler:
    def test_the_heartbeat_continues_and_its_lines_are_logged_later(self, full):
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
        assert not heartbeat.is_alive() and heartbeat.duties, 'a duty was switched off'
        lines = full.drain(f'beat {heartbeat.beats}')
        assert lines == ['of the request', *(f'beat {n}' for n in range(1, heartbeat.beats + 1))]

    def test_a_finding_of_the_heartbeat_does_not_wait(self, full):
        findings = Findings()

        def hurry():
            loglater.HURRIED.add(threading.get_ident())
            findings.add('a', 'Title.')

        thread = threading.Thread(target=hurry)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive() and full.is_stuck()
        assert full.drain('Title.  ') == ['of the request', 'Title.  ']

    def test_beyond_the_limit_the_oldest_lines_are_dropped(self, full):
        messenger = loglater.Messenger()
        messenger.say(30, 'first')
        until(lambda: not messenger._waiting)  # its thread is stuck in the handler
        for number in range(1000):
            messenger.say(30, 'line %d', number)
        assert len([t for t in threading.enumerate() if t.name == 'StabilityMonitor log']) <= 1
        assert full.drain('line 999') == [
            'of the request',
            'first',
            *(f'line {n}' for n in range(800, 1000)),
        ]


class TestWhichThreadLogs:
    def test_a_thread_that_is_not_hurried_logs_at_once(self, heard):
        loglater.log(30, 'text %d', 1)
        assert heard.lines == ['text 1'] and heard.threads == {threading.current_thread().name}

    def test_the_messenger_logs_for_a_hurried_thread(self, heard):
        loglater.HURRIED.add(threading.get_ident())
        loglater.log(30, 'text %d', 1)
        until(lambda: heard.lines == ['text 1'])
        assert heard.threads == {'StabilityMonitor log'}

    def test_the_thread_of_the_messenger_ends_when_no_line_waits(self, heard):
        messenger = loglater.Messenger()
        for line in ('one', 'two', 'three'):
            messenger.say(30, line)
            until(lambda line=line: heard.lines[-1:] == [line])
            until(lambda: 'StabilityMonitor log' not in [t.name for t in threading.enumerate()])
        assert heard.lines == ['one', 'two', 'three']


class TestNothingIsLost:
    def test_a_line_that_is_queued_while_the_thread_ends_is_logged(self, heard):
        class Nosy(collections.deque):
            """Queues a line at the moment when it was found empty."""

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

    def test_all_lines_of_many_hurried_threads_are_logged(self, heard):
        def hurry(name):
            for number in range(300):
                messenger.say(30, '%s', (name, number))

        messenger = loglater.Messenger()
        messenger._waiting = collections.deque()  # without a limit
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

    def test_a_line_waits_if_no_thread_can_be_started(self, heard, monkeypatch):
        """For example at the limit of threads, or when the interpreter ends.

        Nothing is raised, and the line is logged with the next one.
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

    def test_lines_after_an_exception_of_a_handler_are_logged(self, logger, heard):
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
def test_a_forked_child_logs_no_line_of_its_parent():
    """The thread that logs for the parent holds a lock, and does not exist in the child."""
    done = run_python('-c', FORK)
    assert done.stdout.splitlines() == ['at once', 'later', 'child 7'], done.stderr
