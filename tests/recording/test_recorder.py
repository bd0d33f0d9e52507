"""The recorder: the next process reads what threads have written."""

import _thread
import struct
import threading
import time

import pytest
from programs.handshake import until
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.interfaces import IRecorder
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.records import ThreadSlot
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.slots import Slot
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader


class Box:
    """A sealed black box in memory with its recorder; `read` returns what a reader sees."""

    def __init__(self, on_new_thread=None):
        self.buffer = bytearray(box.SIZE)
        self.recorder = Recorder(self.buffer, on_new_thread)
        box.lay_out(self.buffer)
        box.seal(self.buffer)

    def read(self):
        return blackboxreader.read(bytes(self.buffer))

    def serve(self, *paths, status=200):
        for path in paths:
            self.recorder.begin('GET', path)
            self.recorder.end(status)


@pytest.fixture
def made():
    return Box()


def in_thread(function):
    """Run `function` in a new thread, and wait until the thread has ended."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class Worker:
    """A thread that calls one function after another, as a test says."""

    def __init__(self):
        self._orders, self._wake, self._done = [], threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while True:
            self._wake.acquire()
            order = self._orders.pop()
            if order is None:
                return
            order()
            self._done.release()

    def do(self, order):
        self._orders.append(order)
        self._wake.release()
        assert self._done.acquire(timeout=10)

    def end(self):
        self._orders.append(None)
        self._wake.release()
        self._thread.join(10)


def test_the_recorder_implements_its_interface(made):
    assert verifyObject(IRecorder, made.recorder)


class TestOneRequest:
    def test_a_request_in_flight_is_read_with_all_its_values(self, made):
        before = time.time()
        made.recorder.begin('POST', '/a/b', retry=2)
        (request,) = made.read().in_flight
        assert (request.method, request.path, request.retry, request.phase) == (
            'POST',
            '/a/b',
            2,
            'traversing',
        )
        assert (request.ident, request.native_id) == (
            threading.get_ident(),
            threading.get_native_id(),
        )
        assert before <= request.started <= time.time()
        assert (request.ended, request.cut, request.user) == (None, False, '')

    def test_a_finished_request_is_read_with_all_its_values(self, made):
        made.recorder.begin('GET', '/a')
        made.recorder.user('admin')
        made.recorder.end(404)
        recording = made.read()
        assert recording.in_flight == ()
        (request,) = recording.finished
        assert (request.path, request.status, request.user, request.count) == (
            '/a',
            404,
            'admin',
            1,
        )
        assert request.ended >= request.started and request.seconds >= 0

    @pytest.mark.parametrize('number, name', list(enumerate(box.PHASES)))
    def test_each_phase_is_read_by_its_name(self, made, number, name):
        made.recorder.begin('GET', '/a')
        made.recorder.phase(number)
        assert made.read().in_flight[0].phase == name

    def test_phase_user_and_end_without_a_begin_do_nothing(self, made):
        made.recorder.phase(3)
        made.recorder.user('x')
        made.recorder.end(200)
        made.serve('/a')
        made.recorder.phase(3)
        made.recorder.user('x')
        made.recorder.end(200)
        recording = made.read()
        assert recording.in_flight == () and [r.user for r in recording.finished] == ['']

    def test_a_user_is_not_kept_for_the_next_request(self, made):
        for path in ('/a', '/b', '/c'):
            made.recorder.begin('GET', path)
            if path == '/a':
                made.recorder.user('a-long-name')
            made.recorder.end(200)
        assert [r.user for r in made.read().finished] == ['a-long-name', '', '']

    def test_an_end_with_another_token_does_nothing(self, made):
        made.recorder.begin('GET', '/outer', token=1)
        made.recorder.end(200, token=2)
        assert [r.path for r in made.read().in_flight] == ['/outer']
        made.recorder.end(200, token=1)
        assert made.read().in_flight == ()

    def test_a_nested_request_replaces_the_outer_one(self, made):
        made.recorder.begin('GET', '/outer', token=1)
        made.recorder.begin('GET', '/inner', token=2)
        made.recorder.end(200, token=2)
        made.recorder.end(200, token=1)
        recording = made.read()
        assert [r.path for r in recording.finished] == ['/inner'] and recording.in_flight == ()

    @pytest.mark.parametrize(
        'path, stored, cut',
        [
            ('/' + 'x' * 319, '/' + 'x' * 319, False),
            ('/' + 'x' * 320, '/' + 'x' * 319, True),
            ('/' + 'ü' * 159 + 'x', '/' + 'ü' * 159 + 'x', False),
            ('/' + 'ü' * 160, '/' + 'ü' * 159, True),
            ('/' + '😀' * 80, '/' + '😀' * 79, True),
            ('/caf\udce9', '/caf\\udce9', False),
            ('', '', False),
            ('/\x00\x1b[2J', '/\x00\x1b[2J', False),
        ],
    )
    def test_paths_are_cut_cleanly(self, made, path, stored, cut):
        made.recorder.begin('GET', path)
        (flying,) = made.read().in_flight
        made.recorder.end(200)
        (done,) = made.read().finished
        for request in (flying, done):
            assert (request.path, request.cut) == (stored, cut)

    @pytest.mark.parametrize('method', ['GET', 'PROPFIND', 'M' * 100, 'é' * 20, ''])
    def test_any_method_is_kept_or_cut(self, made, method):
        made.recorder.begin(method, '/')
        assert method.startswith(made.read().in_flight[0].method)
        assert bool(method) == bool(made.read().in_flight[0].method)

    def test_too_large_numbers_are_not_an_error(self, made):
        made.recorder.begin('GET', '/', retry=100000)
        made.recorder.user('ü' * 100)
        made.recorder.end(70000)
        (request,) = made.read().finished
        assert request.user == 'ü' * 32


class TestRepeats:
    def test_repeats_share_one_entry(self, made):
        made.serve(*['/probe'] * 1000)
        (request,) = made.read().finished
        assert request.count == 1000
        assert request.ended >= request.started

    def test_another_path_status_or_method_is_another_entry(self, made):
        made.serve('/a', '/a', '/b', '/a')
        made.serve('/a', status=500)
        made.recorder.begin('HEAD', '/a')
        made.recorder.end(500)
        assert [(r.path, r.status, r.method, r.count) for r in made.read().finished] == [
            ('/a', 200, 'GET', 2),
            ('/b', 200, 'GET', 1),
            ('/a', 200, 'GET', 1),
            ('/a', 500, 'GET', 1),
            ('/a', 500, 'HEAD', 1),
        ]

    def test_repeats_of_several_threads_share_one_entry(self, made):
        workers = [Worker() for _ in range(4)]
        for number in range(40):
            workers[number % 4].do(lambda: made.serve('/probe'))
        for worker in workers:
            worker.end()
        (request,) = made.read().finished
        assert request.count == 40

    def test_overlapping_repeats_of_two_threads_share_one_entry(self, made):
        """The requests end in another order than they began, and none stays in flight."""
        one, two = Worker(), Worker()
        one.do(lambda: made.recorder.begin('GET', '/probe'))
        two.do(lambda: made.recorder.begin('GET', '/probe'))
        two.do(lambda: made.recorder.end(200))
        assert [r.path for r in made.read().in_flight] == ['/probe']
        one.do(lambda: made.recorder.end(200))
        recording = made.read()
        assert recording.in_flight == () and recording.finished[0].count == 2
        one.end()
        two.end()

    def test_start_and_end_of_the_last_repeat_are_kept(self, made):
        for now in (100.0, 200.0):
            made.recorder.begin('GET', '/probe', _now=lambda now=now: now - 1)
            made.recorder.end(200, _now=lambda now=now: now)
        (request,) = made.read().finished
        assert (request.started, request.ended, request.seconds) == (99.0, 200.0, 1.0)

    @pytest.mark.parametrize(
        'ends, seconds', [((200.0, 100.0, 150.0), 150.0), ((100.0, 200.0, 150.0), 50.0)]
    )
    def test_of_two_threads_that_end_together_the_later_end_is_kept(self, made, ends, seconds):
        """One thread has read the clock and waits, and the other thread is counted first."""
        for now in ends:
            made.recorder.begin('GET', '/probe', _now=lambda: 50.0)
            made.recorder.end(200, _now=lambda now=now: now)
        (request,) = made.read().finished
        assert (request.ended, request.seconds, request.count) == (200.0, seconds, 3)

    def test_a_full_count_does_not_overflow(self, made):
        made.serve('/probe', '/probe')
        tally = (box.REQUESTS.start + box.TALLY_IN_REQUEST) // 8
        made.recorder.words[tally] |= 0xFFFFFF << box.COUNT_SHIFT
        made.serve('/probe', '/probe')
        (request,) = made.read().finished
        assert (request.count, request.last_number) == (1 << 24, 4)


class TestRings:
    def test_a_request_that_is_long_in_flight_keeps_its_entry(self, made):
        worker = Worker()
        worker.do(lambda: made.recorder.begin('GET', '/long', token=1))
        made.serve(*map(str, range(3 * box.REQUESTS.count)))
        recording = made.read()
        assert [r.path for r in recording.in_flight] == ['/long'] and len(
            recording.finished
        ) == box.FINISHED_COUNT
        worker.do(lambda: made.recorder.end(200, token=1))
        recording = made.read()
        assert recording.in_flight == () and recording.finished[-1].path == '/long'
        made.serve(*map(str, range(box.REQUESTS.count)))
        assert '/long' not in [r.path for r in made.read().finished]
        worker.end()

    def test_repeats_overwrite_no_other_entry(self, made):
        made.serve('/first', *['/probe'] * 1000, '/last')
        assert [(r.path, r.count) for r in made.read().finished] == [
            ('/first', 1),
            ('/probe', 1000),
            ('/last', 1),
        ]

    def test_nested_requests_and_threads_that_die_overwrite_no_other_entry(self, made):
        made.serve('/first')
        for turn in range(box.REQUESTS.count):
            made.recorder.begin('GET', '/outer', token=1)
            made.recorder.begin('GET', '/inner', token=2)
            made.recorder.end(200, token=2)
            in_thread(lambda: made.recorder.begin('GET', '/dies'))
            if turn % 40 == 39:
                until(lambda: made.recorder.release_dead_slots() or len(made.recorder.slots) == 1)
        recording = made.read()
        assert [(r.path, r.count) for r in recording.finished] == [
            ('/first', 1),
            ('/inner', box.REQUESTS.count),
        ]
        assert recording.in_flight == () and recording.words['overflow'] == 0

    def test_the_promised_finished_requests_stay_while_all_slots_are_in_flight(self, made):
        workers = [Worker() for _ in range(box.SLOT_COUNT - 1)]
        made.serve(*[f'/{number}' for number in range(500)])
        for number, worker in enumerate(workers):
            worker.do(lambda number=number: made.recorder.begin('GET', f'/flies{number}'))
        made.recorder.begin('GET', '/flies')
        recording = made.read()
        assert len(recording.in_flight) == box.SLOT_COUNT
        assert [r.path for r in recording.finished] == [
            f'/{n}' for n in range(500 - box.FINISHED_COUNT, 500)
        ]
        for worker in workers:
            worker.end()

    def test_the_newest_finished_requests_are_kept(self, made):
        count = 3 * (box.FINISHED_COUNT + 64) + 17
        made.serve(*[f'/{number}' for number in range(count)])
        found = [r.path for r in made.read().finished]
        assert found == [f'/{number}' for number in range(count - box.FINISHED_COUNT, count)]

    def test_the_newest_log_lines_are_kept(self, made):
        for number in range(500):
            made.recorder.log(30, 'a', f'line {number}', 1000.0 + number)
        assert [line.message for line in made.read().log] == [
            f'line {n}' for n in range(500 - box.LOG_COUNT, 500)
        ]

    def test_a_line_that_repeats_is_one_line_with_a_count(self, made):
        made.recorder.log(40, 'a', 'before', 900.0)
        for number in range(70_000):
            made.recorder.log(30, 'waitress', 'server accept() threw', 1000.0 + number)
            if number == 10:
                made.recorder.log(30, 'a', 'between', 1010.5)
        log = made.read().log
        assert [(line.message, line.count, line.time, line.last) for line in log] == [
            ('before', 1, 900.0, None),
            ('between', 1, 1010.5, None),
            ('server accept() threw', 70_000, 1000.0, 70_999.0),
        ]
        assert [line.latest for line in log] == [900.0, 1010.5, 70_999.0]

    def test_only_equal_lines_are_counted_together(self, made):
        lines = [(30, 'a', 'x'), (40, 'a', 'x'), (30, 'b', 'x'), (30, 'a', 'y')]
        for level, logger, message in lines:
            made.recorder.log(level, logger, message, 1000.0)
        other = Worker()
        other.do(lambda: made.recorder.log(30, 'a', 'x', 1000.0))
        other.end()
        log = made.read().log
        assert [line.count for line in log] == [1] * 5 and len({line.ident for line in log}) == 2

    def test_a_line_that_has_left_the_ring_is_counted_anew(self, made):
        made.recorder.log(30, 'a', 'again', 1000.0)
        made.recorder.log(30, 'a', 'again', 1001.0)
        for number in range(box.LOG.count):
            made.recorder.log(30, 'a', f'line {number}', 1002.0)
        made.recorder.log(30, 'a', 'again', 1003.0)
        log = made.read().log
        assert (log[-1].message, log[-1].count, log[-1].time) == ('again', 1, 1003.0)
        assert {line.count for line in log} == {1} and len(log) == box.LOG_COUNT
        assert len(made.recorder._log_lines) == box.LOG.count

    def test_lines_of_an_older_release_count_once(self, made):
        """It left zeros where the count is."""
        made.recorder.log(30, 'a', 'x', 1000.0)
        at = box.LOG.at(1) + box.COUNT_IN_LOG
        made.recorder.buffer[at : at + 24] = bytes(24)
        (line,) = made.read().log
        assert (line.count, line.last, line.latest) == (1, None, 1000.0)

    def test_an_older_release_reads_a_line_that_repeats(self, made):
        made.recorder.log(30, 'a', 'x', 1000.0)
        made.recorder.log(30, 'a', 'x', 1001.0)
        number, time, *_, seal = struct.unpack_from(
            '=QdQHBxHH64s800sQ', made.recorder.buffer, box.LOG.at(1)
        )
        assert (number, time, seal) == (1, 1000.0, 1)

    def test_the_newest_samples_are_kept(self, made):
        for number in range(2000):
            made.recorder.sample(Sample(1000.0 + number, float(number), in_flight=number))
        assert [s.in_flight for s in made.read().samples] == list(
            range(2000 - box.SAMPLE_COUNT, 2000)
        )

    def test_a_sample_is_read_as_it_was_written(self, made):
        sample = Sample(1000.5, 5.25, 1 << 40, 0.5, 1, 2, 3, 4, 5, 1 << 41, 1 << 42, 6, 7, 1 << 43)
        made.recorder.sample(sample)
        assert made.read().samples == (sample,)

    def test_unknown_values_of_a_sample_are_read_as_unknown(self, made):
        made.recorder.sample(Sample(1000.5, 5.25))
        assert made.read().samples == (Sample(1000.5, 5.25),)

    def test_log_lines_are_cut_cleanly(self, made):
        made.recorder.log(40, 'ü' * 40, '😀' * 300, 1000.0)
        (line,) = made.read().log
        assert (line.logger, line.message, line.cut, line.level) == (
            'ü' * 32,
            '😀' * 200,
            True,
            'ERROR',
        )
        assert line.ident == threading.get_ident()

    def test_a_too_large_log_level_is_not_an_error(self, made):
        made.recorder.log(1 << 20, 'a', 'b', 1000.0)
        assert made.read().log[0].message == 'b'


class TestSlots:
    def test_each_thread_has_its_own_slot(self, made):
        workers = [Worker() for _ in range(5)]
        for number, worker in enumerate(workers):
            worker.do(lambda number=number: made.recorder.begin('GET', f'/{number}'))
        recording = made.read()
        assert sorted(r.path for r in recording.in_flight) == [f'/{n}' for n in range(5)]
        assert len({r.ident for r in recording.in_flight}) == 5
        for worker in workers:
            worker.end()

    def test_on_new_thread_is_called_once_in_the_thread_before_its_first_request(self):
        seen = []
        made = Box(
            lambda index: seen.append((index, threading.get_ident(), len(made.read().in_flight)))
        )
        made.serve('/a', '/b')
        assert [(ident, flying) for _, ident, flying in seen] == [(threading.get_ident(), 0)]
        in_thread(lambda: made.serve('/c'))
        assert len(seen) == 2 and seen[0][0] != seen[1][0] and seen[1][1] != threading.get_ident()

    def test_the_stack_of_a_thread_is_recorded(self):
        made = Box(lambda index: made.recorder.stack(index, 65536, 4096))
        made.serve('/a')
        assert made.read().threads == {
            threading.get_ident(): ThreadSlot(
                native_id=threading.get_native_id(),
                stack_size=65536,
                guard_size=4096,
                slot=0,
                name='MainThread',
            )
        }

    def test_requests_of_threads_without_a_slot_are_only_counted(self, made):
        workers = [Worker() for _ in range(box.SLOT_COUNT + 3)]
        for worker in workers:
            worker.do(lambda: made.recorder.begin('GET', '/a'))
            worker.do(lambda: made.recorder.phase(2))
            worker.do(lambda: made.recorder.user('x'))
        recording = made.read()
        assert len(recording.in_flight) == box.SLOT_COUNT
        assert recording.words['overflow'] == 3
        for worker in workers:
            worker.do(lambda: made.recorder.end(200))
            worker.end()
        assert made.read().finished[0].count == box.SLOT_COUNT

    def test_a_thread_without_a_slot_gets_one_when_one_is_free(self, made):
        workers = [Worker() for _ in range(box.SLOT_COUNT)]
        for worker in workers:
            worker.do(lambda: made.serve('/a'))
        made.serve('/lost')
        assert made.read().words['overflow'] == 1
        workers.pop().end()
        made.recorder.release_dead_slots()
        made.recorder.begin('GET', '/found')
        assert [r.path for r in made.read().in_flight] == ['/found']
        for worker in workers:
            worker.end()

    @pytest.mark.parametrize(
        'start',
        [
            pytest.param(in_thread, id='threading'),
            pytest.param(lambda function: _raw_thread(function), id='thread of C code'),
        ],
    )
    def test_threads_that_come_and_go_leak_no_slot(self, made, start):
        for number in range(400):
            start(lambda number=number: made.serve(f'/{number}'))
            if number % 40 == 39:
                made.recorder.release_dead_slots()
        until(lambda: made.recorder.release_dead_slots() or not made.recorder.slots)
        recording = made.read()
        assert recording.words['overflow'] == 0 and recording.threads == {}
        assert len(recording.finished) == box.FINISHED_COUNT

    def test_the_recorder_is_crowded_if_less_than_a_quarter_of_the_slots_is_free(self, made):
        for number in range(box.SLOT_COUNT * 3 // 4):
            assert not made.recorder.is_crowded
            in_thread(lambda number=number: made.serve(f'/{number}'))
        in_thread(lambda: made.serve('/one-more'))
        assert made.recorder.is_crowded
        until(lambda: made.recorder.release_dead_slots() or not made.recorder.is_crowded)

    def test_a_living_idle_thread_keeps_its_slot(self, made):
        worker = Worker()
        worker.do(lambda: made.serve('/a'))
        made.serve('/b')
        made.recorder.release_dead_slots()
        assert len(made.recorder.slots) == 2
        worker.do(lambda: made.recorder.begin('GET', '/c'))
        assert [r.path for r in made.read().in_flight] == ['/c']
        worker.end()

    def test_the_request_of_an_ended_thread_does_not_stay_in_flight(self, made):
        in_thread(lambda: made.recorder.begin('GET', '/dies'))
        assert len(made.read().in_flight) == 1
        made.recorder.release_dead_slots()
        assert made.read().in_flight == () and made.recorder.in_flight() == []
        worker = Worker()  # the next thread of that slot starts without a request
        worker.do(lambda: made.recorder.end(200))
        worker.do(lambda: made.serve('/next'))
        assert [r.path for r in made.read().finished] == ['/next']
        worker.end()

    def test_the_next_thread_of_a_slot_does_not_get_the_old_request(self):
        seen = []
        made = Box(lambda index: seen.append((index, [r.path for r in made.read().in_flight])))
        in_thread(lambda: made.recorder.begin('GET', '/dies'))
        made.recorder.release_dead_slots()
        in_thread(lambda: made.recorder.begin('GET', '/next'))
        assert [index for index, _ in seen] == [0, 0] and seen[1][1] == []
        assert [r.path for r in made.read().in_flight] == ['/next']

    def test_a_released_slot_is_not_in_flight_for_a_thread_that_is_reading_it(self, made):
        in_thread(lambda: made.recorder.begin('GET', '/dies'))
        (slot,) = made.recorder.slots.values()
        made.recorder.release_dead_slots()
        assert not slot.on

    @pytest.mark.parametrize('cut_off', ['_pack', '_now'])
    def test_a_request_whose_end_was_interrupted_ends_when_the_next_one_begins(self, made, cut_off):
        """A signal handler may raise an exception between any two calls.  Then `end` has marked the
        slot as free, but has not written the end of the request.
        """

        def interrupted(*_):
            raise KeyboardInterrupt

        made.recorder.begin('GET', '/cut')
        with pytest.raises(KeyboardInterrupt):
            made.recorder.end(200, **{cut_off: interrupted})
        made.recorder.end(200)
        assert [r.path for r in made.read().in_flight] == ['/cut']
        made.serve('/next')
        recording = made.read()
        assert recording.in_flight == () and [r.path for r in recording.finished] == ['/next']

    def test_in_flight_returns_the_monotonic_start_time(self, made):
        before = time.monotonic()
        made.recorder.begin('GET', '/a')
        ((slot, began),) = made.recorder.in_flight()
        assert before <= began <= time.monotonic() and slot.ident == threading.get_ident()
        made.recorder.end(200)
        assert made.recorder.in_flight() == []

    def test_the_request_of_a_slot_can_be_read(self, made):
        made.recorder.begin('GET', '/a', _monotonic=lambda: 5.0)
        ((slot, _),) = made.recorder.in_flight()
        request, began = made.recorder.request(slot)
        assert (request.path, request.number, began) == ('/a', slot.number, 5.0)
        made.recorder.end(200)
        assert made.recorder.request(slot) is None

    def test_an_ended_request_is_not_read_while_the_next_one_begins(self, made):
        made.serve('/a')
        (slot,) = made.recorder.slots.values()
        slot.token = 'the next request has begun, but is not written yet'
        assert made.recorder.request(slot) is None

    def test_an_entry_that_another_thread_has_now_is_not_read(self, made):
        made.recorder.begin('GET', '/a')
        ((slot, _),) = made.recorder.in_flight()
        slot.at = box.REQUESTS.at(1)
        worker = Worker()
        worker.do(lambda: made.recorder.begin('GET', '/b'))
        assert made.recorder.request(slot) is None
        worker.end()

    def test_the_outer_request_is_in_flight_until_the_inner_one_is_written(self, made):
        """The heartbeat may read the slot while `begin` writes the inner request."""
        made.recorder.begin('GET', '/outer', _monotonic=lambda: 5.0)
        seen = []

        def clock():
            seen.extend(began for _, began in made.recorder.in_flight())
            return 7.0

        made.recorder.begin('GET', '/inner', _monotonic=clock)
        seen.extend(began for _, began in made.recorder.in_flight())
        assert seen == [5.0, 7.0]


class TestReservedSlots:
    """Workers get a slot before their first request, so that the watchdog guards them."""

    def test_a_worker_takes_the_slot_that_was_reserved_for_it(self, made):
        worker = Worker()
        made.recorder.reserve([worker._thread])
        (slot,) = made.recorder.slots.values()
        assert (slot.ident, slot.native_id) == (worker._thread.ident, worker._thread.native_id)
        assert not slot.on and list(made.read().threads) == [slot.ident]
        worker.do(lambda: made.recorder.begin('GET', '/first'))
        assert list(made.recorder.slots.values()) == [slot] and slot.on
        (request,) = made.read().in_flight
        assert (request.path, request.ident) == ('/first', slot.ident)
        made.recorder.reserve([worker._thread])
        made.recorder.release_dead_slots()
        assert list(made.recorder.slots.values()) == [slot]

    def test_a_worker_with_a_slot_gets_no_other(self, made):
        worker = Worker()
        worker.do(lambda: made.serve('/'))
        made.recorder.reserve([worker._thread])
        assert len(made.recorder.slots) == 1

    def test_the_slot_of_a_worker_that_ended_without_a_request_is_released(self, made):
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait)
        thread.start()
        made.recorder.reserve([thread])
        made.recorder.release_dead_slots()
        assert len(made.recorder.slots) == 1
        gate.set()
        thread.join()
        made.recorder.reserve([thread])
        made.recorder.release_dead_slots()
        assert made.recorder.slots == {} and made.recorder._reserved == {}
        assert made.read().threads == {}

    def test_a_slot_that_was_reserved_while_its_thread_took_one_is_released(self, made):
        worker = Worker()
        worker.do(lambda: made.serve('/'))
        late = Slot.reserved(made.recorder._free.pop(), worker._thread, worker._thread.native_id)
        made.recorder._take(late)
        made.recorder._reserved[late.ident] = late
        made.recorder.reserve([worker._thread])
        (slot,) = made.recorder.slots.values()
        assert slot is not late and made.recorder._reserved == {}

    def test_only_slots_with_a_mark_are_reserved(self, made):
        workers = [Worker() for _ in range(18)]
        made.recorder.reserve([worker._thread for worker in workers])
        assert sorted(made.recorder.slots) == list(range(16))


def _raw_thread(function):
    """Run `function` in a thread that `threading` did not start.

    When this returns, the thread-local data of the thread are freed.
    """
    gone = threading.Event()

    class Last:
        def __del__(self):
            gone.set()

    def run():
        function()
        local.last = Last()

    local = threading.local()
    _thread.start_new_thread(run, ())
    assert gone.wait(10)


class TestMarksAndWords:
    @pytest.mark.parametrize('word', ['armed', 'serving', 'finished', 'hung_since', 'drill'])
    def test_the_time_of_an_event_is_recorded(self, made, word):
        made.recorder.stamp(word, 1.5e9)
        words = made.read().words
        assert words.pop(word) == 1.5e18
        assert set(words.values()) == {0}

    @pytest.mark.parametrize('mark', box.MARKS)
    def test_the_survived_length_of_a_mark_is_recorded(self, made, mark):
        made.recorder.survived(mark, 77)
        survived = made.read().survived
        assert survived.pop(mark) == 77
        assert set(survived.values()) == {0}

    def test_an_exception_is_recorded(self, made):
        made.recorder.exception('ValueError: ü')
        assert made.read().exception == 'ValueError: ü'


def test_many_threads_at_once_lose_no_request(made):
    """Ten threads serve as fast as they can.  At the end, every slot is idle, and every entry is
    complete and written by one thread.
    """
    gate = threading.Barrier(10)

    def run(name):
        gate.wait()
        for number in range(300):
            made.recorder.begin('GET', f'/{name}/{number}', token=number)
            made.recorder.user(name)
            made.recorder.end(200, token=number)

    threads = [threading.Thread(target=run, args=(f'thread{n}',)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recording = made.read()
    assert recording.in_flight == () and len(recording.finished) == box.FINISHED_COUNT
    names = {}
    for request in recording.finished:
        assert request.path.split('/')[1] == request.user
        assert names.setdefault(request.user, request.ident) == request.ident
