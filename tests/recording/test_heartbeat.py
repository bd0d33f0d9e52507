"""The heartbeat: beats, duties that fail, survived marks, the count of workers, findings, the log
handler and the end.
"""

import logging
import os
import threading

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until
from support.childprograms import run_python

from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.recording import heartbeat as heartbeat_module
from Products.StabilityMonitor.recording.background import aside
from Products.StabilityMonitor.recording.faulthandler_compat import MarkFile
from Products.StabilityMonitor.recording.heartbeat import ROUND
from Products.StabilityMonitor.recording.heartbeat import SURVIVED_AFTER
from Products.StabilityMonitor.recording.heartbeat import Heartbeat
from Products.StabilityMonitor.recording.heartbeat import SurvivedMarks
from Products.StabilityMonitor.recording.heartbeat import Workers
from Products.StabilityMonitor.recording.loghandler import BreadcrumbHandler
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader


@pytest.fixture
def recorder():
    buffer = bytearray(box.SIZE)
    recorder = Recorder(buffer)
    box.lay_out(buffer)
    box.seal(buffer)
    return recorder


def read(recorder):
    return blackboxreader.read(bytes(recorder.buffer))


class TestBeats:
    def test_duties_run_at_each_beat_and_in_thread_once(self):
        beats, places = [], []
        heartbeat = Heartbeat(
            0.01,
            [lambda: beats.append(1)],
            Findings(),
            lambda: places.append(threading.current_thread()),
        )
        heartbeat.start()
        until(lambda: len(beats) > 3)
        heartbeat.stop(timeout=10)
        heartbeat.join(PATIENCE)
        assert places == [heartbeat] and not heartbeat.is_alive()
        assert heartbeat.daemon and heartbeat.last > 0

    def test_last_duties_go_on_after_the_end_and_one_that_fails_is_switched_off(self, monkeypatch):
        monkeypatch.setattr(heartbeat_module, '_LAST_PAUSE', 0.0)
        beats, last = [], []

        def fail():
            raise ValueError

        heartbeat = Heartbeat(0.01, [lambda: beats.append(1)], Findings())
        heartbeat.start()
        until(lambda: beats)
        heartbeat.last_duties = [lambda: last.append(1), fail]
        heartbeat.stop(timeout=10)
        seen = len(beats)
        until(lambda: len(last) > 3)
        assert len(beats) == seen and len(heartbeat.last_duties) == 1
        heartbeat.last_duties.clear()
        heartbeat.join(PATIENCE)
        assert not heartbeat.is_alive()

    def test_only_a_duty_that_fails_is_switched_off_with_a_finding(self):
        def broken():
            calls.append('broken')
            raise OSError('a reason')

        def sound():
            calls.append('sound')

        calls, findings = [], Findings()
        heartbeat = Heartbeat(1, [broken, sound], findings)
        heartbeat.beat()
        heartbeat.beat()
        assert calls == ['broken', 'sound', 'sound']
        (finding,) = findings
        assert finding.id == 'heartbeat-broken' and 'OSError: a reason' in finding.detail

    def test_a_duty_may_be_added_in_the_thread(self):
        added = []

        def add():
            heartbeat.duties.append(lambda: added.append(1))

        heartbeat = Heartbeat(0.01, [], Findings(), add)
        heartbeat.start()
        until(lambda: added)
        heartbeat.stop(timeout=10)

    def test_an_errand_runs_once_and_a_failure_affects_no_other(self):
        done, findings = [], Findings()
        heartbeat = Heartbeat(1, [], findings)
        heartbeat.errands += [lambda: done.append(1 / 0), lambda: done.append('errand')]
        heartbeat.beat()
        heartbeat.beat()
        heartbeat.errands.append(lambda: done.append('the last one'))
        heartbeat.beat()
        until(lambda: 'the last one' in done)
        assert done == ['errand', 'the last one']
        assert ['ZeroDivisionError' in finding.detail for finding in findings] == [True]

    def test_an_errand_that_hangs_blocks_neither_the_heartbeat_nor_aside(self):
        done, gate = [], threading.Event()
        heartbeat = Heartbeat(1, [lambda: done.append('duty')], Findings())
        heartbeat.errands += [gate.wait, lambda: done.append(threading.get_ident())]
        heartbeat.beat()
        heartbeat.beat()
        assert done == ['duty', 'duty'] and aside(lambda: 'answer') == 'answer'
        gate.set()
        until(lambda: len(done) == 3, 'the errand after the one that hung')
        assert done[2] not in (threading.get_ident(), aside(threading.get_ident))

    def test_before_each_runs_before_duties_and_rounds_and_is_switched_off_if_it_fails(self):
        calls, findings = [], Findings()
        heartbeat = Heartbeat(
            1, [lambda: calls.append('duty')], findings, rounds=[lambda: calls.append('round')]
        )
        heartbeat.before_each = lambda: calls.append('before')
        heartbeat.beat()
        assert calls == ['before', 'round', 'before', 'duty']
        heartbeat.before_each = lambda: calls.append(1 / 0)
        heartbeat.beat()
        heartbeat.beat()
        (finding,) = findings
        assert calls[4:] == ['duty', 'duty'] and 'ZeroDivisionError' in finding.detail

    def test_one_inspection_runs_in_each_round_and_one_that_fails_is_switched_off(self):
        calls = []
        heartbeat = Heartbeat(
            1,
            [],
            Findings(),
            inspections=[
                lambda: calls.append('a'),
                lambda: calls.append(1 / 0),
                lambda: calls.append('c'),
            ],
        )
        for _ in range(5 * ROUND):
            heartbeat.beat()
        assert calls == ['a', 'c', 'a', 'c']

    def test_findings_distinguish_duties_of_the_same_name(self):
        class One:
            def look(self):
                raise OSError('the first')

        class Other:
            def look(self):
                raise OSError('the second')

        findings = Findings()
        Heartbeat(1, [One().look, Other().look], findings).beat()
        assert [finding.id for finding in findings] == [
            'heartbeat-One.look',
            'heartbeat-Other.look',
        ]

    def test_alarms_run_if_a_duty_has_set_alarmed_and_one_that_fails_is_switched_off(self):
        calls, alarmed, findings = [], iter([False, True, True, False]), Findings()

        def duty():
            heartbeat.alarmed = next(alarmed)

        heartbeat = Heartbeat(
            1, [duty], findings, alarms=[lambda: calls.append(1 / 0), lambda: calls.append('alarm')]
        )
        for _ in range(4):
            heartbeat.beat()
        assert calls == ['alarm', 'alarm'] and [
            'ZeroDivisionError' in f.detail for f in findings
        ] == [True]

    def test_stop_does_not_wait_for_the_next_beat(self):
        heartbeat = Heartbeat(3600, [], Findings())
        heartbeat.start()
        until(lambda: heartbeat.last)
        stopping = threading.Thread(target=heartbeat.stop, args=(3600,))
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive() and heartbeat.beats == 1

    def test_stop_waits_for_the_beat_in_progress_and_no_other_follows(self):
        entered, gate, done = threading.Event(), threading.Event(), []

        def work():
            entered.set()
            gate.wait(PATIENCE)
            done.append('duty')

        heartbeat = Heartbeat(0.001, [work], Findings())
        heartbeat.start()
        assert entered.wait(PATIENCE)
        heartbeat.stop(timeout=0.01)
        assert not done, 'stop does not wait longer than its timeout'
        threading.Timer(0.05, gate.set).start()
        heartbeat.stop(timeout=PATIENCE)
        assert done == ['duty']
        heartbeat.join(PATIENCE)
        assert done == ['duty'] and not heartbeat.is_alive()

    def test_a_duty_may_stop_the_heartbeat(self):
        heartbeat = Heartbeat(0.001, [], Findings())
        heartbeat.duties.append(lambda: heartbeat.stop(PATIENCE))
        heartbeat.start()
        heartbeat.join(PATIENCE)
        assert heartbeat.beats == 1 and not heartbeat.is_alive()

    def test_a_heartbeat_stopped_before_its_start_does_nothing(self):
        calls = []
        heartbeat = Heartbeat(
            1, [lambda: calls.append('duty')], Findings(), lambda: calls.append('in thread')
        )
        heartbeat.stop()
        heartbeat.stop()
        heartbeat.start()
        heartbeat.join(PATIENCE)
        assert not heartbeat.is_alive() and calls == []

    def test_a_duty_that_hangs_does_not_keep_the_process_from_ending(self):
        code = """if True:
            import sys, threading
            from Products.StabilityMonitor.recording.heartbeat import Heartbeat
            entered = threading.Event()
            def hang():
                entered.set()
                threading.Event().wait()
            heartbeat = Heartbeat(1, [hang], [])
            heartbeat.start()
            entered.wait()
            heartbeat.stop()
            sys.exit(7)
        """
        assert run_python('-c', code, timeout=20).returncode == 7


class TestSurvivedMarks:
    class File:
        def __init__(self, length=0):
            self.length = length

        @property
        def written(self):
            return self.length

    def test_a_mark_followed_by_enough_beats_was_survived(self, recorder):
        file = self.File()
        marks = SurvivedMarks(recorder, {'SIGTERM': file})
        marks.check()
        file.length = 700
        seen = []
        for _ in range(SURVIVED_AFTER + 1):
            marks.check()
            seen.append(read(recorder).survived['SIGTERM'])
        assert seen == [0] * SURVIVED_AFTER + [700]

    def test_a_beat_costs_one_system_call_for_each_file_and_sees_a_lost_descriptor(
        self, recorder, tmp_path, monkeypatch
    ):
        files = {
            name: MarkFile(tmp_path / f'{name}.mark', 4096, 0o600) for name in ('SIGHUP', 'faults')
        }
        marks = SurvivedMarks(recorder, files)
        for _ in range(3):
            marks.check()
        calls = []
        with monkeypatch.context() as patch:
            for name in ('fstat', 'lseek'):
                call = getattr(os, name)
                patch.setattr(
                    os, name, lambda *args, call=call: (calls.append(call), call(*args))[1]
                )
            marks.check()
        assert len(calls) == len(files) and not marks.is_lost
        with open(tmp_path / 'Data.fs', 'wb') as foreign:
            os.dup2(foreign.fileno(), files['SIGHUP'].descriptor)
        marks.check()
        assert marks.is_lost
        os.close(files['SIGHUP'].descriptor)
        marks.check()
        assert marks.is_lost
        files['SIGHUP'].reopen()
        marks.check()
        assert not marks.is_lost
        for file in files.values():
            file.close()

    def test_a_second_mark_in_a_file_is_not_survived_with_the_first(self, recorder):
        file = self.File(700)
        marks = SurvivedMarks(recorder, {'faults': file})
        for _ in range(SURVIVED_AFTER + 1):
            marks.check()
        file.length = 1500  # a second mark, and then the process dies
        for _ in range(SURVIVED_AFTER):
            marks.check()
        assert read(recorder).survived['faults'] == 700

    def test_each_file_is_recorded_separately_and_may_be_added_later(self, recorder):
        marks = SurvivedMarks(recorder, {'faults': self.File(), 'SIGHUP': self.File(5)})
        marks.watch('watchdog', self.File(9))
        for _ in range(SURVIVED_AFTER + 1):
            marks.check()
        survived = {name: length for name, length in read(recorder).survived.items() if length}
        assert survived == {'SIGHUP': 5, 'watchdog': 9}

    def test_marks_of_the_watchdog_are_checked_after_a_late_beat_and_in_each_round(self, recorder):
        now, mark = [0.0], self.File()
        marks = SurvivedMarks(recorder, {'faults': self.File()}, late=2.0, clock=lambda: now[0])
        marks.watch('watchdog', mark)

        def survived_after(beats, pause):
            for _ in range(beats):
                now[0] += pause
                marks.check()
            return read(recorder).survived['watchdog']

        assert survived_after(SURVIVED_AFTER + 2, 1.0) == 0
        mark.length = 9
        assert survived_after(10, 1.0) == 0, 'not checked: no beat was late'
        assert survived_after(1, 3.0) == 0 and survived_after(SURVIVED_AFTER, 1.0) == 9
        survived_after(2, 1.0)  # from here on nothing is new
        mark.length = 20
        assert survived_after(10, 1.0) == 9
        marks.look_at_all()
        assert survived_after(SURVIVED_AFTER + 1, 1.0) == 20


class Server:
    """Threads with names as in waitress; each can be made busy, until `release`."""

    def __init__(self, recorder, count):
        self.recorder = recorder
        self.gates = [threading.Event() for _ in range(count)]
        self.busy = [threading.Event() for _ in range(count)]
        self.idle = [threading.Event() for _ in range(count)]
        self.end = threading.Event()
        self.threads = [
            threading.Thread(target=self.run, args=(n,), name=f'waitress-{n}', daemon=True)
            for n in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        self.gates[number].wait()
        self.recorder.begin('GET', f'/{number}')
        self.busy[number].set()
        self.end.wait()
        self.recorder.end(200)
        self.idle[number].set()

    def occupy(self, number):
        self.gates[number].set()
        assert self.busy[number].wait(10)

    def release(self):
        self.end.set()
        for gate, idle in zip(self.gates, self.idle, strict=True):
            if gate.is_set():
                assert idle.wait(10)

    def stop(self):
        self.end.set()
        for gate, thread in zip(self.gates, self.threads, strict=True):
            gate.set()
            thread.join(10)


@pytest.fixture
def server(recorder):
    server = Server(recorder, 3)
    yield server
    server.stop()


class TestWorkers:
    def test_threads_of_waitress_that_have_not_served_yet_are_counted(self, recorder, server):
        workers = Workers(recorder)
        workers.look()
        assert workers.count() == 3

    def test_threads_of_any_name_that_have_served_are_counted(self, recorder):
        recorder.begin('GET', '/')
        recorder.end(200)
        assert Workers(recorder).count() == 1

    def test_a_process_that_serves_nothing_has_no_workers(self, recorder):
        assert Workers(recorder).count() == 0

    def test_a_thread_may_get_a_slot_while_workers_are_counted(self, recorder, server):
        """The dict of slots grows while it is read."""

        class Slot:
            @property
            def thread(self):
                server.occupy(0)
                return threading.current_thread()

        recorder.slots[60] = Slot()
        recorder.slots[61] = Slot()
        assert Workers(recorder).count() == 1


class TestFindings:
    def test_a_finding_is_kept_and_logged_once_for_each_id(self, caplog):
        findings = Findings()
        for _ in range(3):
            findings.add('a', 'Title.', 'Detail.', Action('Action.'))
            with findings.guarded('b', 'It is off.'):
                raise ValueError('x')
        assert [(f.id, f.severity.code) for f in findings] == [('a', 'warning'), ('b', 'warning')]
        assert [record.getMessage() for record in caplog.records] == [
            'Title. Detail. Action.',
            'It is off. ValueError: x. Fix the named cause, then restart Zope.',
        ]

    @pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_guarded_lets_exceptions_pass_that_end_a_process(self, error):
        with pytest.raises(error):
            with Findings().guarded('a', 'b'):
                raise error


class Unprintable:
    """An object whose `str` and `repr` raise."""

    def __str__(self):
        raise RuntimeError('not now')

    __repr__ = __str__


class TestLogHandler:
    @pytest.fixture
    def logger(self, recorder):
        # It has no parent, because pytest has a handler on the root logger.
        logger = logging.Logger('breadcrumb-test')
        logger.addHandler(BreadcrumbHandler(recorder, logging.WARNING))
        return logger

    def test_records_of_its_level_and_above_are_kept(self, recorder, logger):
        logger.warning('one %s', 1)
        logger.info('two')
        logger.error('three')
        assert [(line.message, line.level, line.logger) for line in read(recorder).log] == [
            ('one 1', 'WARNING', 'breadcrumb-test'),
            ('three', 'ERROR', 'breadcrumb-test'),
        ]

    def test_errors_of_accept_of_waitress_are_counted(self, recorder):
        """The server fails as it does when all descriptors are in use; no socket is needed."""
        handler = BreadcrumbHandler(recorder, logging.WARNING)
        kind = pytest.importorskip('waitress.server').TcpWSGIServer
        server = kind.__new__(kind)
        server.adj = pytest.importorskip('waitress.adjustments').Adjustments()
        server.accept = lambda: os.open('/nowhere/at/all', os.O_RDONLY)
        server.logger = logging.getLogger('waitress')
        server.logger.addHandler(handler)
        try:
            for _ in range(3):
                server.handle_accept()
            server.logger.warning('Exception while serving /page')
        finally:
            server.logger.removeHandler(handler)
        assert handler.accept_errors == 3
        assert [line.count for line in read(recorder).log] == [3, 1]

    def test_it_knows_whether_it_sees_errors_of_accept(self, recorder):
        assert BreadcrumbHandler(recorder, logging.WARNING).sees_accept_errors
        assert not BreadcrumbHandler(recorder, logging.ERROR).sees_accept_errors
        logger = logging.getLogger('waitress')
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            assert not BreadcrumbHandler(recorder, logging.WARNING).sees_accept_errors
        finally:
            logger.setLevel(before)

    def test_the_exception_of_a_record_is_named(self, recorder, logger):
        try:
            raise KeyError('k')
        except KeyError:
            logger.exception('Site error')
        assert read(recorder).log[0].message == "Site error: KeyError: 'k'"

    def test_a_bad_record_is_kept_as_far_as_possible_and_does_not_affect_the_next(
        self, recorder, logger
    ):
        logger.warning('%d numbers', 'x')
        logger.handle(
            logging.makeLogRecord({'msg': 'odd', 'levelno': 30, 'name': 'a', 'exc_info': True})
        )
        logger.warning(Unprintable())
        logger.warning('with %s', Unprintable())
        logger.warning('good')
        assert [line.message for line in read(recorder).log] == [
            '%d numbers',
            'odd',
            '(Unprintable)',
            'with %s',
            'good',
        ]

    def test_no_log_call_waits_for_the_lock_of_the_handler(self, recorder, logger):
        (handler,) = logger.handlers
        with handler.lock:
            thread = threading.Thread(target=logger.warning, args=('in time',))
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
        assert read(recorder).log[0].message == 'in time'

    def test_after_an_error_of_the_recorder_the_handler_writes_nothing_and_breaks_no_call(
        self, logger
    ):
        class Broken:
            calls = 0

            def log(self, *args):
                self.calls += 1
                raise ValueError('broken')

        logger.handlers[0].recorder = broken = Broken()
        logger.warning('one')
        logger.critical('two')
        assert broken.calls == 1
