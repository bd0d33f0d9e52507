"""Slow requests: their stacks are kept while they last, show where the time went, and use little
memory afterwards.
"""

import gc
import itertools
import json
import logging
import queue
import sys
import threading
import tracemalloc
import weakref

import pytest
from programs.handshake import until
from support.syntheticruns import request

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.slowrequests import Profile
from Products.StabilityMonitor.recording.slowrequests import SlowRequests
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.system import loglater
from Products.StabilityMonitor.system.currentframes import current_frames

SLOW, BEAT = 30.0, 1.0


# The functions in which the threads of the tests wait: `reading` or `writing` is the innermost.


def reading(gate):
    gate.acquire()


def writing(gate):
    gate.acquire()


def page(gate):
    reading(gate)


def saving_page(gate):
    writing(gate)


class Big:
    """An object to which a request has the only strong reference."""


KEPT = []


def view_with_locals(gate):
    held = Big()
    KEPT.append(weakref.ref(held))
    reading(gate)


class Server(threading.Thread):
    """A worker that does what a test says."""

    def __init__(self, recorder):
        super().__init__(daemon=True)
        self.recorder, self.tasks, self.gate = recorder, queue.SimpleQueue(), threading.Lock()
        self.gate.acquire()
        self.start()

    def run(self):
        for task in iter(self.tasks.get, None):
            task()

    def do(self, task):
        done = threading.Event()
        self.tasks.put(lambda: (task(), done.set()))
        assert done.wait(20)

    def begin(self, path='/slow', at=0.0):
        self.do(lambda: self.recorder.begin('GET', path, _monotonic=lambda: at))

    def end(self):
        self.do(lambda: self.recorder.end(200))

    def stand_in(self, function, innermost):
        """Let the thread call `function`, and wait until it waits in `innermost`."""
        self.tasks.put(lambda: function(self.gate))
        until(lambda: current_frames()[self.ident].f_code.co_name == innermost)

    def go_on(self):
        """Let the thread return from there."""
        self.gate.release()
        self.do(lambda: None)

    def stop(self):
        if self.is_alive():
            self.tasks.put(None)
            self.gate.release()
            self.join(20)


class World:
    """A recorder, its SlowRequests, a clock that a test sets, and workers."""

    def __init__(self):
        self.buffer, self.now, self.asked, self.known = bytearray(box.SIZE), 0.0, 0, ()
        self.recorder = Recorder(self.buffer)
        box.lay_out(self.buffer)
        box.seal(self.buffer)
        self.watch = SlowRequests(self.recorder, SLOW, BEAT, self.states, clock=lambda: self.now)
        self.servers = []

    def states(self):
        self.asked += 1
        return self.known

    def server(self):
        self.servers.append(Server(self.recorder))
        return self.servers[-1]

    def beat(self, until):
        """Look once each second, up to the time `until`."""
        while self.now < until:
            self.now += BEAT
            self.watch.look()

    @property
    def notes(self):
        return blackboxreader.read(bytes(self.buffer)).notes

    def state(self, server, number, **values):
        return ThreadState(
            **{
                'ident': server.ident,
                'native_id': server.native_id,
                'name': 'w',
                'kind': 'worker',
                'activity': 'file',
                'request': request(number),
                **values,
            }
        )


@pytest.fixture
def world():
    world = World()
    yield world
    for server in world.servers:
        server.stop()


@pytest.fixture
def quiet(monkeypatch):
    """No handler keeps log records, so that they do not count as used memory."""
    logger = logging.Logger('quiet')
    logger.addHandler(logging.NullHandler())
    monkeypatch.setattr(loglater, 'LOGGER', logger)


@pytest.fixture
def slow_server(world):
    """A worker whose request began at time 0, and which waits in `reading`."""
    server = world.server()
    server.begin()
    server.stand_in(page, 'reading')
    return server


class TestWhenAStackIsKept:
    def test_a_stack_is_kept_at_the_age_of_the_option_and_at_its_doublings(
        self, world, slow_server
    ):
        world.beat(SLOW - 1)
        assert world.notes == () and world.watch.known() == [] and not world.watch.are_in_flight()
        world.beat(250)
        assert [(note.kind, note.seconds) for note in world.notes] == [
            ('slow', 30.0),
            ('slow', 60.0),
            ('slow', 120.0),
            ('slow', 240.0),
        ]
        note = world.notes[0]
        assert [frame.function for frame in note.frames[:2]] == ['reading', 'page']
        assert note.frames[0] == Frame(__file__, reading.__code__.co_firstlineno + 1, 'reading')
        assert (note.ident, note.native_id, note.title) == (
            slow_server.ident,
            slow_server.native_id,
            'GET /slow',
        )
        assert note.request == 1 and world.watch.are_in_flight()

    def test_a_slow_request_is_logged_once(self, world, slow_server, caplog):
        world.beat(250)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert (
            f'GET /slow has taken 30.0 s so far in thread {slow_server.name}. At reading ('
            in record.getMessage()
        )

    def test_what_the_thread_does_is_read_only_when_a_stack_is_due_and_is_logged(
        self, world, slow_server, caplog
    ):
        frames = (Frame('/lib/c.py', 7, 'recv'), Frame('/site/page.py', 8, 'view'))
        world.known = (world.state(slow_server, 1, detail='/var/x', frames=frames),)
        world.beat(SLOW - 1)
        assert world.asked == 0
        world.beat(SLOW + 9)
        assert world.asked == 1
        said = caplog.records[0].getMessage()
        assert (
            'It waits for a file or disk: /var/x. At recv (/lib/c.py:7) < view (/site/page.py:8)'
            in said
        )
        (note,) = world.notes
        assert note.detail.startswith('waits for a file or disk: /var/x') and note.frames == frames

    def test_a_late_beat_keeps_one_stack_for_all_missed_times(self, world, slow_server):
        world.beat(10)
        world.now = 500.0
        world.watch.look()
        assert [note.seconds for note in world.notes] == [500.0]
        world.beat(1000)
        assert [note.seconds for note in world.notes] == [500.0, 960.0]

    def test_fast_requests_leave_nothing(self, world):
        server = world.server()
        for second in range(100):
            server.begin(at=second)
            world.beat(second + 1)
            server.end()
        world.beat(101)
        assert world.notes == () and world.asked == 0 and world.watch.watched == {}

    def test_64_slow_requests_at_once_are_all_known(self, world, caplog):
        servers = [world.server() for _ in range(box.SLOT_COUNT)]
        for number, server in enumerate(servers):
            server.begin(f'/{number}')
            server.stand_in(page, 'reading')
        world.beat(SLOW)
        assert world.asked == 1
        known = world.watch.known()
        assert {(profile.ident, profile.path) for profile in known} == {
            (server.ident, f'/{number}') for number, server in enumerate(servers)
        }
        assert all(profile.last[1].function == 'page' for profile in known)
        assert len(caplog.records) == box.SLOT_COUNT
        assert [note.kind for note in world.notes] == ['slow'] * box.SLOW_NOTES
        for server in servers:
            server.go_on()
            server.end()
        world.beat(SLOW + 1)
        assert {profile.ended is None for profile in world.watch.known()} == {False}


class TestWhatHasChanged:
    def test_it_is_known_since_when_a_stack_is_unchanged(self, world, slow_server):
        ident = slow_server.ident
        assert world.watch.unchanged_since(ident) is None, 'it is not watched yet'
        world.beat(20)
        first = world.watch.unchanged_since(ident)
        assert 0 < first <= 2 * BEAT
        slow_server.go_on()
        slow_server.stand_in(saving_page, 'writing')
        world.beat(30)
        assert world.watch.unchanged_since(ident) == 20 + BEAT
        assert world.watch.unchanged_since(ident + 1) is None

    def test_an_unchanged_stack_is_reported_as_unchanged(self, world, slow_server):
        world.beat(60)
        first, second = world.notes
        assert 'changed' not in first.detail and 'the stack has not changed' in second.detail

    def test_a_changed_stack_is_reported_down_to_the_last_equal_frame(self, world, slow_server):
        world.beat(30)
        slow_server.go_on()
        slow_server.stand_in(saving_page, 'writing')
        world.beat(60)
        detail = world.notes[1].detail
        run = Server.run.__code__.co_name
        assert (
            f'the stack is the same down to <lambda> ({__file__}:' in detail
            or f'down to {run} (' in detail
        )

    @pytest.mark.parametrize(
        'before, after, words',
        [
            ('abc', 'abc', 'the stack has not changed'),
            ('abc', 'xbc', 'the stack is the same down to b (/b.py:1)'),
            ('abc', 'bc', 'the stack is the same down to b (/b.py:1)'),
            ('bc', 'abc', 'the stack is the same down to b (/b.py:1)'),
            ('abc', 'abx', 'the whole stack has changed'),
            ('', 'abc', ''),
            ('abc', '', 'the whole stack has changed'),
        ],
    )
    def test_a_sentence_says_how_far_down_a_stack_has_changed(self, before, after, words):
        profile = made_profile()
        profile.shown, profile.last = stack(before), stack(after)
        assert profile.change() == words


def stack(letters):
    """Return frames, innermost first, with one letter each as their name."""
    return tuple(Frame(f'/{letter}.py', 1, letter) for letter in letters)


class OneSlot:
    """As much of a slot as a profile reads."""

    ident, native_id, thread = 1, 2, threading.current_thread()


def made_profile():
    return Profile(1, OneSlot, ('GET', '/'), 0.0, SLOW)


class TestWhereTheTimeWent:
    def test_a_sentence_gives_the_share_of_each_function(self):
        profile = made_profile()
        for letters in ('abc', 'abc', 'bc', 'xc'):
            profile.add(stack(letters), 1.0)
        assert profile.where() == '50% in a (/a.py), 25% in b (/b.py), 25% in x (/x.py)'
        assert made_profile().where() == ''

    def test_at_most_a_hundred_different_stacks_are_counted(self):
        profile = made_profile()
        for number in range(1000):
            profile.add((Frame('/a.py', 1, f'f{number}'), Frame('/a.py', 1, 'root')), float(number))
        assert profile.samples == 1000 and profile.seconds == 999.0 and len(profile.stacks) == 100

    def test_the_shares_of_a_real_request_are_counted(self, world, slow_server):
        world.beat(31)
        slow_server.go_on()
        slow_server.stand_in(saving_page, 'writing')
        world.beat(61)
        shares = {share.function: share for share in world.watch.known()[0].stacks.shares()}
        assert shares['reading'].own == shares['page'].within == 0.5
        assert shares['writing'].own == shares['saving_page'].within == 0.5
        assert shares['run'].within == 1.0 and shares['run'].own == 0.0
        assert (
            '% in reading (' in world.notes[-1].detail
            and '% in writing (' in world.notes[-1].detail
        )


class TestAnEnd:
    def test_the_end_of_a_slow_request_leaves_its_total_and_where_the_time_went(
        self, world, slow_server
    ):
        world.beat(40)
        slow_server.go_on()
        slow_server.end()
        world.beat(41)
        note = world.notes[-1]
        assert (note.kind, note.seconds, note.title, note.request) == (
            'slow-ended',
            41.0,
            'GET /slow',
            1,
        )
        assert (
            note.detail == f'100% in reading ({__file__})' and note.frames[0].function == 'reading'
        )
        (profile,) = world.watch.known()
        assert profile.ended > profile.started and profile.seconds == 41.0
        assert not world.watch.are_in_flight()
        document = to_json(profile.as_slow_request(), plain=True)
        assert (
            document['path'] == '/slow'
            and document['samples'] == 39
            and document['frames'][0]
            == {
                'file': __file__,
                'line': reading.__code__.co_firstlineno + 1,
                'function': 'reading',
            }
        )
        assert sum(count for _, count in profile.stacks.stacks()) == 39

    def test_the_end_of_a_request_that_was_not_slow_leaves_nothing(self, world, slow_server):
        world.beat(20)
        slow_server.go_on()
        slow_server.end()
        world.beat(21)
        assert world.notes == () and world.watch.known() == []

    def test_requests_in_flight_come_first_and_then_the_newest_that_ended(self, world):
        servers = [world.server() for _ in range(4)]
        for number, server in enumerate(servers):
            server.begin(f'/{number}', at=float(number))
            server.stand_in(page, 'reading')
        world.beat(40)
        for number in (2, 0):
            servers[number].go_on()
            servers[number].end()
            world.beat(world.now + 1)
        assert [profile.path for profile in world.watch.known()] == ['/1', '/3', '/0', '/2']

    def test_the_request_of_an_ended_thread_ends_when_its_slot_is_released(
        self, world, slow_server
    ):
        world.beat(40)
        slow_server.go_on()
        slow_server.stop()
        world.beat(41)
        assert world.watch.are_in_flight(), 'the slot is not released yet'
        world.recorder.release_dead_slots()
        world.beat(42)
        assert [note.kind for note in world.notes] == ['slow', 'slow-ended']

    def test_a_thread_that_ended_before_the_first_look_leaves_nothing(self, world, slow_server):
        slow_server.go_on()
        slow_server.stop()
        world.beat(40)
        assert world.notes == ()


class TestWhatBelongsToWhichRequest:
    def test_two_requests_of_a_slot_between_two_beats_are_distinguished(self, world, slow_server):
        world.beat(40)
        slow_server.go_on()
        slow_server.end()
        slow_server.begin('/next', at=40.5)
        slow_server.stand_in(saving_page, 'writing')
        world.beat(72)
        assert [(note.kind, note.title, note.request, note.seconds) for note in world.notes] == [
            ('slow', 'GET /slow', 1, 30.0),
            ('slow-ended', 'GET /slow', 1, 41.0),
            ('slow', 'GET /next', 2, 30.5),
        ]
        assert [profile.path for profile in world.watch.known()] == ['/next', '/slow']
        assert {frames[0][1] for frames, _ in world.watch.known()[0].stacks.stacks()} == {'writing'}

    @pytest.mark.parametrize('look', [0, 1])
    def test_two_requests_of_a_slot_while_it_is_read_are_distinguished(
        self, world, slow_server, look
    ):
        """The next request of a thread never gets the age of the previous one."""
        looks, in_flight = itertools.count(), world.recorder.in_flight

        def in_flight_and_then_the_next():
            found = in_flight()
            if next(looks) == look:
                slow_server.go_on()
                slow_server.end()
                slow_server.begin('/next', at=world.now)
            return found

        world.recorder.in_flight = in_flight_and_then_the_next
        world.now = 100.0
        world.watch.look()
        assert '/next' not in [profile.path for profile in world.watch.watched.values()]
        world.watch.look()
        world.now += 3
        world.watch.look()
        assert [profile.seconds for profile in world.watch.watched.values()] == [3.0]

    def test_what_the_thread_does_for_the_next_request_is_not_reported(self, world, slow_server):
        elsewhere = (Frame('/else.py', 1, 'elsewhere'),)
        world.known = (
            world.state(slow_server, 2, frames=elsewhere),
            world.state(slow_server, 0, request=None),
        )
        world.beat(30)
        (note,) = world.notes
        assert (
            note.frames[0].function == 'reading' and 'file' not in note.detail.split(';')[0].split()
        )

    def test_a_new_request_never_counts_as_an_old_one_under_load(self, world, quiet):
        """Each thread serves old and new requests in turn.  A new request never counts as an old
        one.
        """
        world.now, wrong, over = 1000.0, [], threading.Event()

        def serve():
            while not over.is_set():
                for path, at in (('/old', 0.0), ('/new', 999.9)):
                    world.recorder.begin('GET', path, _monotonic=lambda at=at: at)
                    world.recorder.end(200)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=serve) for _ in range(4)]
        try:
            for thread in threads:
                thread.start()
            seen, looks = 0, 0
            while looks < 1000 or seen < 20:
                world.watch.look()
                profiles, looks = world.watch.watched.values(), looks + 1
                wrong += [p for p in profiles if (p.path, p.began) != ('/old', 0.0)]
                seen += len(profiles)
        finally:
            over.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
        assert wrong == []


class TestNothingIsHeld:
    def test_locals_of_a_request_are_not_kept_alive(self, world):
        server = world.server()
        server.begin()
        KEPT.clear()
        gc.disable()  # the end of the function must free it, not the garbage collector
        try:
            server.stand_in(view_with_locals, 'reading')
            world.beat(61)
            (held,) = KEPT
            assert held() is not None
            server.go_on()
            assert held() is None
        finally:
            gc.enable()
        assert 'view_with_locals' in [frame.function for frame in world.watch.known()[0].last]

    @pytest.mark.slow
    def test_hundreds_of_slow_requests_do_not_grow_memory(self, world, quiet):
        def serve(count):
            for _ in range(count):
                number = next(numbers)
                world.recorder.begin('GET', f'/{number}', _monotonic=lambda: world.now)
                world.now += 31
                world.watch.look()
                world.recorder.end(200)
                world.watch.look()

        numbers = itertools.count(10**6)
        tracemalloc.start()
        try:
            serve(100)  # rings and lists are full now
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            serve(600)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert len(world.watch.known()) == 50 and world.watch.watched == {}
        assert grown < 64 << 10, 'only the newest fifty are kept'


#: Depth of a stack of a large site: the greatest depth that is read.  Three quarters of the frames
#: are the same in all stacks of all requests.
DEEP = 200
INSTALLED = (
    '/srv/zope/instance/lib/python3.11/site-packages/Products/ShopOfTheMonth/content/browser'
)


def busy_stack(number):
    common = [Frame(f'{INSTALLED}/carrier_{n}.py', n, f'carries_{n}') for n in range(DEEP * 3 // 4)]
    return (
        *(
            Frame(f'{INSTALLED}/views_{number}.py', n, f'function_{n}')
            for n in range(DEEP - len(common))
        ),
        *common,
    )


class TestWhatItCosts:
    """Memory for the largest number of slow requests, each with more stacks than are counted."""

    @pytest.fixture
    def frames(self):
        return [busy_stack(number) for number in range(120)]

    def profile(self, frames, number=1):
        profile = Profile(number, OneSlot, ('GET', '/' + 'x' * 9999), 0.0, SLOW)
        profile.noted = 1
        for each in frames:
            profile.add(tuple(each), 1.0)
        return profile

    def measured(self, make):
        """Return the result of `make`, and how many bytes it uses."""
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            made = make()
            gc.collect()
            return made, tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    def test_a_lasting_slow_request_uses_less_than_64_kib(self, frames):
        self.profile(frames)  # the first call also fills the memory of a coverage tool
        assert self.measured(lambda: self.profile(frames))[1] < 64 << 10

    def test_ended_slow_requests_use_less_than_512_kib(self, world, frames):
        def make():
            for number in range(60):
                world.watch._end(self.profile(frames, number), 60.0)

        assert self.measured(make)[1] < 512 << 10 and len(world.watch.known()) == 50

    def test_the_document_of_all_slow_requests_is_smaller_than_512_kib(self, world, frames):
        profiles = [self.profile(frames, number) for number in range(box.SLOT_COUNT + 50)]
        for profile in profiles[:50]:
            world.watch._end(profile, 60.0)
        world.watch.watched = {profile.number: profile for profile in profiles[50:]}
        found = [to_json(profile.as_slow_request()) for profile in world.watch.known()]
        assert len(found) == box.SLOT_COUNT + 50 and {len(one['shares']) for one in found} == {10}
        assert len(json.dumps(found)) < 512 << 10
