"""Where MainThread stands before Zope serves and after the loop was left: noted when it stays at
one place, forgotten when it goes on, never looked at while Zope serves.
"""

import signal
import threading

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until
from support.syntheticruns import observed
from support.syntheticruns import request

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.severities import CRITICAL
from Products.StabilityMonitor.model.severities import INFO
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.postmortem.evidence import World as System
from Products.StabilityMonitor.recording import hangs as hangs_module
from Products.StabilityMonitor.recording.hangs import Hangs
from Products.StabilityMonitor.recording.lifeends import LifeEnds
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.threads.awaited import Awaited
from Products.StabilityMonitor.threads.codeplaces import CodePlace

SLOW, STALL, PAUSE = 10.0, 30.0, 1.0


def place(function, line=7, file='/site/start.py', offset=2):
    code = (lambda: None).__code__.replace(co_filename=file, co_name=function)
    return CodePlace(code, offset, line, file)


MAIN = place('<module>', file='/bin/runwsgi')
CONNECT, LOAD, LOOP = place('connect'), place('load'), place('loop')
SLEEP = place('sleep', file=threading.__file__)


class World:
    """MainThread at a place that a test sets, at a time that a test sets."""

    def __init__(self, is_server=True):
        buffer = bytearray(box.SIZE)
        box.lay_out(buffer)
        box.seal(buffer)
        self.now, self.doing, self.left = 1000.0, (MAIN,), False
        self.threads = (self.main(),)
        self.recorder, self.findings = Recorder(buffer), Findings()
        self.hangs = Hangs(self.recorder, lambda: observed(self.threads), self.findings, STALL)
        self.ends = LifeEnds(
            self.hangs,
            SLOW,
            STALL,
            PAUSE,
            lambda: self.left,
            is_server,
            lambda: self.now,
            lambda ident: self.doing,
        )

    def main(self, **values):
        main = threading.main_thread()
        facts = {'kind': 'main', 'activity': 'socket', 'detail': '10.0.0.5:389'}
        facts['frames'] = (Frame('/site/start.py', 7, 'connect'),)
        return ThreadState(main.ident, 'MainThread', native_id=main.native_id, **facts | values)

    def stand(self, *doing, seconds=1.0):
        """Look each second while MainThread does this."""
        self.doing = doing
        for _ in range(int(seconds)):
            self.now += PAUSE
            if self.ends.is_on:
                self.ends.look()
        return self.kinds

    @property
    def notes(self):
        return blackboxreader.read(bytes(self.recorder.buffer)).notes

    @property
    def kinds(self):
        return [note.kind for note in self.notes if not note.ident]

    @property
    def event(self):
        (event,) = self.hangs.lasting.values()
        return event


@pytest.fixture
def world():
    return World()


@pytest.fixture
def serving(world):
    """A server that serves: nothing is looked at."""
    world.ends.serve()
    world.stand(LOOP, MAIN, seconds=12)
    assert not world.ends.is_on
    return world


class TestAStart:
    def test_a_place_that_does_not_change_is_noted_with_its_stack(self, world):
        assert world.stand(CONNECT, MAIN, seconds=11) == []
        assert world.stand(CONNECT, MAIN) == ['slow-start']
        begun, main = world.notes
        assert begun.title == (
            'Zope does not serve yet: MainThread waits for a socket: 10.0.0.5:389.'
        )
        assert main.title == 'MainThread' and main.frames[0].function == 'connect'
        assert main.ident == threading.main_thread().ident
        assert world.event.place.function == 'connect' and world.event.severity == INFO

    def test_a_server_that_it_waits_for_is_noted(self, world, monkeypatch):
        frame = Frame('/env/ZEO/ClientStorage.py', 7, 'ClientStorage.__init__')
        monkeypatch.setattr(
            hangs_module, 'awaited', lambda ident: Awaited(frame, 'ZEO at 10.0.0.5:8100')
        )
        world.stand(CONNECT, MAIN, seconds=12)
        assert world.notes[0].detail == 'ZEO at 10.0.0.5:8100' and world.event.place == frame
        assert world.event.summary == (
            'Zope does not serve yet: MainThread is in ClientStorage.__init__ and waits for ZEO at '
            '10.0.0.5:8100.'
        )

    def test_a_start_that_goes_on_is_not_noted(self, world):
        for number in range(5):
            assert world.stand(place(f'load_{number}'), MAIN, seconds=9) == []
            assert world.stand(LOAD, place('<module>', number), seconds=9) == []

    def test_a_loop_that_sleeps_and_tries_again_is_one_place(self, world):
        for line in range(6):
            world.stand(place('connect', line, offset=line), MAIN)
            world.stand(SLEEP, place('connect', 3), MAIN)
        assert world.kinds == ['slow-start']

    def test_the_event_ends_when_main_thread_goes_on(self, world):
        world.stand(CONNECT, MAIN, seconds=20)
        assert world.stand(LOAD, MAIN) == ['slow-start', 'slow-start-ended']
        assert list(world.findings) == []

    def test_the_event_ends_when_zope_serves(self, world):
        world.stand(CONNECT, MAIN, seconds=20)
        world.ends.serve()
        assert world.stand(CONNECT, MAIN) == ['slow-start', 'slow-start-ended']
        world.stand(CONNECT, MAIN, seconds=10)
        assert not world.ends.is_on and world.hangs.lasting == {}

    def test_it_is_critical_after_ten_times_stall(self, world):
        world.stand(CONNECT, MAIN, seconds=300)
        assert [finding.severity for finding in world.findings] == [INFO]
        world.stand(CONNECT, MAIN, seconds=2)
        assert world.event.severity == CRITICAL
        assert [finding.severity for finding in world.findings] == [CRITICAL]
        assert world.kinds == ['slow-start'], 'the event goes on'

    def test_a_process_that_was_suspended_did_not_stand(self, world):
        world.stand(CONNECT, MAIN, seconds=5)
        world.now += 3600
        assert world.stand(CONNECT, MAIN, seconds=8) == []

    def test_a_script_has_no_start(self):
        world = World(is_server=False)
        assert not world.ends.is_on and world.stand(CONNECT, MAIN, seconds=99) == []

    def test_a_main_thread_without_python_code_is_told(self, world):
        world.threads = (
            world.main(
                kind='other', activity='native', detail='in the system call futex', frames=()
            ),
        )
        world.stand(seconds=12)
        assert world.event.summary == (
            'Zope does not serve yet: MainThread runs no Python code: it waits in C code in the '
            'system call futex.'
        )
        assert hangnotes.threads(world.notes, world.notes[0])[0].title == 'MainThread'

    def test_threads_that_cannot_be_read_do_not_keep_it_from_being_noted(self, world):
        world.threads = ()
        assert world.stand(CONNECT, MAIN, seconds=12) == ['slow-start']


class TestAStop:
    def test_nothing_is_looked_at_while_zope_serves(self, serving):
        serving.ends.look_for_stop()
        assert serving.stand(CONNECT, MAIN, seconds=999) == [] and not serving.ends.is_on

    def test_a_signal_makes_each_beat_look_for_ten_seconds(self, serving):
        serving.ends.expect_stop()
        serving.stand(LOOP, MAIN, seconds=9)
        assert serving.ends.is_on
        assert serving.stand(LOOP, MAIN, seconds=3) == [] and not serving.ends.is_on

    @pytest.mark.parametrize('how', ['expect_stop', 'look_for_stop'])
    def test_a_place_after_the_loop_is_noted_after_three_seconds_with_the_requests(
        self, serving, how
    ):
        serving.left = True
        getattr(serving.ends, how)()
        served = request(7, path='/report')
        worker = ThreadState(8, 'waitress-0', request=served, activity='sleep', native_id=9)
        serving.threads = (serving.main(), worker)
        assert serving.stand(CONNECT, MAIN, seconds=4) == []
        assert serving.stand(CONNECT, MAIN, seconds=2) == ['slow-stop']
        assert serving.event.summary.endswith('10.0.0.5:389; GET /report sleeps.')
        assert [note.title for note in serving.notes] == [
            serving.event.summary,
            'MainThread',
            'GET /report',
        ]

    @pytest.mark.parametrize(
        'names, words',
        [
            (['queue'], 'to end: queue.'),
            (['a', 'b', 'c'], 'to end: a, b and 1 more thread.'),
            ([], 'to end: not known.'),
        ],
    )
    def test_threads_that_python_waits_for_are_named(self, serving, monkeypatch, names, words):
        threads = [threading.Thread(name=name, daemon=False) for name in names]
        threads += [threading.main_thread(), threading.Thread(name='daemon', daemon=True)]
        place = Frame('/lib/python3.13/threading.py', 9, '_shutdown')
        serving.left = True
        serving.ends.expect_stop()
        serving.threads = (serving.main(frames=(place,), activity='lock', detail=''),)
        monkeypatch.setattr(threading, '_active', dict(enumerate(threads)))
        assert serving.stand(CONNECT, MAIN, seconds=6) == ['slow-stop']
        assert serving.event.summary.endswith(f'waits for other threads {words}')

    def test_a_short_option_is_kept(self, serving):
        serving.ends.slow = 0.5
        serving.left = True
        serving.ends.expect_stop()
        assert serving.stand(CONNECT, MAIN, seconds=3) == ['slow-stop']

    def test_the_end_of_the_interpreter_ends_a_slow_start_that_never_served(self, world):
        world.stand(CONNECT, MAIN, seconds=12)
        ends = []
        world.hangs.end_of_delay = lambda kind, how: ends.append((kind, how))
        world.ends.finish()
        assert ends == [('slow-start', 'It ends before it served.')]

    def test_the_end_of_the_interpreter_is_a_stop_whatever_ran_before(self, world):
        world.ends.finish()
        assert world.stand(CONNECT, MAIN, seconds=6) == ['slow-stop']


def killed(victim):
    """Kill it, and return what the next process says of it."""
    victim.signal('SIGKILL')
    assert victim.end() == -signal.SIGKILL
    return triage.examine(victim.path, System())


@pytest.mark.slow(10)
class TestTheEndOfTheInterpreter:
    """Exit handlers that run after that of the product, in real processes."""

    def test_an_exit_handler_that_waits_is_noted_and_the_heartbeat_goes_on(self, start):
        victim = start('stand_at_exit', 'slow-request=500ms').go('finishing')
        until(lambda: 'GET /unfinished' in [note.title for note in victim.box.notes])
        finished = victim.box.words['finished'] / 1e9
        until(lambda: victim.box.last_sample.time > finished + 2)
        record = killed(victim)
        assert record.verdict == 'stopped' and record.ended > finished + 2
        assert 'MainThread was in stand_at_exit (' in record.summary
        facts = ' '.join(evidence.fact for evidence in record.evidence)
        assert 'Zope has not ended yet: MainThread waits' in facts and 'GET /unfinished' in facts

    def test_an_exit_handler_that_holds_the_gil_is_named_by_c_code(self, start):
        victim = start('hold_gil_at_exit').go('finishing')
        until(lambda: 'ending' in victim.marks(), 'the mark', 10 * PATIENCE, pause=0.05)
        assert 'in hold_gil' in victim.marks()['ending']
        record = killed(victim)
        assert record.verdict == 'stopped'
        assert 'MainThread was in hold_gil (' in record.summary
        facts = ' '.join(evidence.fact for evidence in record.evidence)
        assert ' after the interpreter began its normal exit.' in facts

    def test_an_exit_handler_that_computes_is_not_disturbed(self, start):
        victim = start('compute_at_exit').go('finishing')
        assert victim.end() == 0 and victim.marks() == {}

    def test_a_short_end_has_no_beat(self, start):
        victim = start('return').go()
        assert victim.end() == 0 and victim.marks() == {}
        finished = victim.box.words['finished'] / 1e9
        last = victim.box.last_sample  # that of a beat in progress may come
        assert last is None or last.time < finished + 0.9
