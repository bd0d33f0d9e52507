"""Hangs, deadlocks and spinning threads: when they begin and end, what is noted about them, and
that other notes do not overwrite this.
"""

import json
import time
from dataclasses import replace

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import observed
from support.syntheticruns import request

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.severities import INFO
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.recording.hangs import Hangs
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.visitors import Answering
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.threads.cycles import cycle_words

STALL = 60.0
MAIN = 99
FRAMES = (Frame('/site/view.py', 7, 'render'), Frame('/zope/publish.py', 70, 'publish'))


def state(ident, holders=(), **values):
    """Return a worker whose request, for `/<ident>`, is 100 s old; it is idle without a request."""
    served = request(ident, path=f'/{ident}', seconds=100.0)
    return ThreadState(
        **{
            'ident': ident,
            'native_id': 1000 + ident,
            'name': f'waitress-{ident}',
            'kind': 'worker',
            'activity': 'lock' if values.get('request', served) else 'idle',
            'frames': FRAMES,
            'request': served,
            'holders': tuple(holders),
            **values,
        }
    )


def main_thread(**values):
    return state(
        MAIN,
        **{'name': 'MainThread', 'kind': 'main', 'activity': 'socket', 'request': None, **values},
    )


class World:
    """A recorder with its Hangs.  `threads` are the threads that `observe` sees."""

    def __init__(self):
        self.buffer, self.threads, self.asked, self.known = bytearray(box.SIZE), (), 0, False
        self.recorder, self.findings = Recorder(self.buffer), Findings()
        box.lay_out(self.buffer)
        box.seal(self.buffer)
        self.hangs = Hangs(self.recorder, self.observe, self.findings, STALL)

    def observe(self):
        self.asked += 1
        return observed(self.threads, self.known)

    def look(self, ages, serving):
        """Look once: `ages` of the requests in flight in seconds, `serving` is the number of
        workers.
        """
        all_busy = float(min(ages)) if ages and len(ages) >= serving else 0.0
        self.hangs.look(Answering(len(ages), max(serving, len(ages)), all_busy, stood=all_busy))

    @property
    def recording(self):
        return blackboxreader.read(bytes(self.buffer))

    @property
    def notes(self):
        return self.recording.notes

    @property
    def kinds(self):
        return [(note.kind, note.ident or note.native_id) for note in self.notes]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def hanging(world):
    """Four threads hang, and MainThread waits for connections."""
    world.threads = (
        *(state(n) for n in range(1, 5)),
        main_thread(),
        state(50, name='logger', request=None),
    )
    world.look([100, 90, 80, 70], 4)
    return world


class TestAHang:
    @pytest.mark.parametrize(
        'ages, serving, hangs',
        [
            ([100, 90, 61], 3, True),
            ([100, 90, 59], 3, False),  # the last worker is busy, but not overdue
            ([100, 90], 3, False),  # one worker is free
            ([], 0, False),
            ([], 4, False),
            ([100, 90, 61], 2, True),  # one worker more than was counted: it is new
            ([61], 1, True),
        ],
    )
    def test_a_hang_begins_when_the_last_free_worker_is_overdue(self, world, ages, serving, hangs):
        world.look(ages, serving)
        assert bool(world.recording.words['hung_since']) == hangs
        assert [note.kind for note in world.notes] == ['hang'] * hangs
        assert world.asked == hangs, 'the threads are looked at only when something is wrong'

    def test_during_a_shutdown_no_hang_begins_but_one_may_last(self, world):
        """At its end, waitress ends its idle threads first and waits for the others."""
        world.hangs.is_over = lambda: True
        world.look([61], 1)
        assert world.notes == () and world.recording.words['hung_since'] == 0
        world.hangs.is_over = lambda: False
        world.look([61], 1)
        world.hangs.is_over = lambda: True
        world.look([62], 1)
        assert world.hangs.lasts('hang')

    def test_a_hang_dates_from_when_the_last_free_worker_became_busy(self, world):
        before = time.time() - 61
        world.look([100, 61, 90], 3)
        since = world.recording.words['hung_since'] / 1e9
        assert before - 0.1 <= since <= time.time() - 61 + 0.1
        world.look([110, 71, 100], 3)
        assert world.recording.words['hung_since'] / 1e9 == since, 'the start does not change'
        assert world.notes[0].time == pytest.approx(since, abs=0.001)

    @pytest.mark.parametrize('days', [-1095, 90])
    def test_a_clock_that_is_set_does_not_change_how_long_a_hang_lasts(
        self, world, monkeypatch, days
    ):
        world.look([61], 1)
        real = time.time
        monkeypatch.setattr(time, 'time', lambda: real() + days * 86400)
        (event,) = world.hangs.known()
        assert 61 <= event.seconds < 86400
        world.look([], 1)
        (event,) = world.hangs.known()
        assert 61 <= event.seconds < 86400
        assert 61 <= world.notes[-1].seconds < 86400
        assert world.notes[-1].kind == 'hang-ended'

    def test_each_worker_and_the_main_thread_are_noted(self, hanging):
        assert hanging.kinds == [('hang', 0), *(('hang', n) for n in range(1, 5)), ('hang', MAIN)]
        event, thread, *_, main = hanging.notes
        assert event.title == (
            'All 4 workers have been busy with requests for longer than 60 s: '
            'each of 4 waits for a lock.'
        )
        assert (thread.title, thread.request, thread.seconds, thread.native_id) == (
            'GET /1',
            1,
            100.0,
            1001,
        )
        assert thread.frames == FRAMES and thread.detail == 'waits for a lock'
        assert (main.title, main.detail) == ('MainThread', 'waits for a socket')

    @pytest.mark.parametrize(
        'others, words',
        [
            (
                [dict(detail='25% of one CPU, at /site/view.py:7 in render')] * 2,
                ': 25% of one CPU, at /site',
            ),
            (
                [
                    dict(detail=f'{n}% of one CPU', frames=(Frame('/site/view.py', n, 'render'),))
                    for n in (24, 26)
                ],
                ' in render (/site/view.py).',
            ),
            (
                [dict(frames=(Frame('/site/view.py', 7, 'other'),)), dict(activity='sleep')],
                ': 25% of one CPU, at /site',
            ),
        ],
        ids=['the very same', 'the same at other lines', 'other places'],
    )
    def test_workers_are_grouped_by_activity_and_place(self, world, others, words):
        world.threads = tuple(
            state(n, **{'activity': 'running', **values})
            for n, values in enumerate(
                [dict(detail='25% of one CPU, at /site/view.py:7 in render'), *others], 1
            )
        )
        world.look([100, 90, 80], 3)
        places = {(s.activity, s.frames[0].function) for s in world.threads}
        subject = 'one of them' if len(places) > 1 else 'each of 3'
        assert f'60 s: {subject} runs on a CPU{words}' in world.notes[0].title

    def test_a_hang_that_lasts_is_noted_once(self, hanging):
        for _ in range(50):
            hanging.look([100, 90, 80, 70], 4)
        assert len(hanging.notes) == 6 and hanging.asked == 1
        (finding,) = hanging.findings
        assert (finding.id, finding.severity.code) == ('hang', 'critical')
        (hang,) = hanging.hangs.known()
        event = json.loads(json.dumps(to_json(hang)))
        assert event['place'] == {'file': '/site/view.py', 'line': 7, 'function': 'render'}
        assert (event['known'], event['cycle']) == (None, [])
        assert (hang.kind, hang.ended) == ('hang', None) and hanging.hangs.lasts('hang')

    def test_a_hang_that_ends_is_an_event(self, hanging, caplog):
        caplog.clear()
        hanging.look([100, 90, 80], 4)
        assert hanging.recording.words['hung_since'] == 0
        assert hanging.kinds[-1] == ('hang-ended', 0)
        assert hanging.notes[-1].seconds == pytest.approx(70, abs=1)
        assert list(hanging.findings) == [] and not hanging.hangs.lasts('hang')
        (hang,) = hanging.hangs.known()
        assert hang.ended - hang.started == pytest.approx(70, abs=1)
        (record,) = caplog.records
        assert 'The site answers again. It lasted 70.' in record.getMessage()

    def test_a_worker_with_a_new_request_ends_the_hang(self, hanging):
        hanging.look([100, 90, 80, 0.5], 4)
        assert hanging.kinds[-1] == ('hang-ended', 0)

    def test_a_second_hang_is_another_event(self, hanging):
        hanging.look([], 4)
        hanging.look([61] * 4, 4)
        assert [kind for kind, ident in hanging.kinds if not ident] == [
            'hang',
            'hang-ended',
            'hang',
        ]
        assert [hang.ended is None for hang in hanging.hangs.known()] == [True, False]
        first, second = hangnotes.hangs(hanging.notes, time.time())
        assert first.ended and second.lasts

    def test_a_hang_is_noted_even_if_nothing_is_known_of_the_threads(self, world):
        world.look([61], 1)
        assert world.notes[0].title.endswith('60 s: their activity is not known.')

    def test_at_most_fifty_ended_events_are_kept(self, world):
        for _ in range(120):
            world.look([61], 1)
            world.look([], 1)
        assert len(world.hangs.known()) == 50


class TestVisitorsWait:
    """Somebody waits for an answer, or to be connected."""

    @pytest.mark.parametrize(
        'now, reason, words',
        [
            (dict(all_busy=70.0, stood=61.0), 'workers', 'All 4 workers have been busy with'),
            (dict(all_busy=70.0, stood=61.0, waited=65.0, queue=3), 'workers', 'All 4 workers'),
            (dict(all_busy=70.0, stood=1.0, waited=61.0, queue=1), 'queue', '1 request waits for'),
            (dict(waited=61.0, queue=9), 'queue', '9 requests wait for a worker, the oldest for'),
            (
                dict(refused=61.0, reason='connections', connections=100, limit=100),
                'connections',
                '100 of 100 connections are in use, and 5 visitors wait',
            ),
            (
                dict(refused=61.0, reason='descriptors', connections=70, limit=100),
                'descriptors',
                'has used up its file descriptors, and 5 visitors wait',
            ),
        ],
    )
    def test_a_hang_has_a_reason(self, world, now, reason, words):
        world.threads = (*(state(n) for n in range(1, 5)), main_thread())
        world.hangs.look(Answering(4, 4, accept_queue=5, **now))
        (hang,) = world.hangs.known()
        assert (hang.kind, hang.reason) == ('hang', reason) and words in hang.summary
        assert 60 < time.time() - hang.started < 66
        (told,) = hangnotes.hangs(world.notes, time.time())
        assert (told.reason, told.summary) == (reason, hang.summary)
        assert world.recording.words['hung_since']
        world.hangs.look(Answering(4, 4))
        (told,) = hangnotes.hangs(world.notes, time.time())
        assert not told.lasts and world.recording.words['hung_since'] == 0

    @pytest.mark.parametrize(
        'now',
        [
            dict(all_busy=59.0, stood=59.0),
            dict(waited=59.0, queue=3),
            dict(refused=59.0, reason='connections'),
            dict(refused=0.0, reason='connections', connections=100, limit=100),
        ],
    )
    def test_nobody_has_waited_for_long(self, world, now):
        world.hangs.look(Answering(4, 4, **now))
        assert world.hangs.lasting == {}

    def test_busy_workers_that_progress_are_no_trouble(self, world):
        world.hangs.look(Answering(4, 4, all_busy=61.0, stood=2.0))
        (event,) = world.hangs.known()
        assert (event.kind, event.severity, event.lasts) == ('saturated', INFO, True)
        assert 'progress is made' in event.summary and list(world.findings) == []
        assert world.recording.words['hung_since'] == 0
        world.hangs.look(Answering(3, 4))
        assert world.kinds == [('saturated', 0), ('saturated-ended', 0)]

    def test_workers_that_may_hang_soon_are_not_saturated(self, world):
        world.hangs.look(Answering(4, 4, all_busy=61.0, stood=31.0))
        assert world.hangs.lasting == {}

    def test_saturated_workers_that_stop_hang(self, world):
        world.hangs.look(Answering(4, 4, all_busy=61.0, stood=2.0))
        world.hangs.look(Answering(4, 4, all_busy=122.0, stood=60.5))
        assert [event.kind for event in world.hangs.known()] == ['hang', 'saturated']
        world.hangs.look(Answering(4, 4, all_busy=123.0, stood=0.0))
        assert [event.kind for event in world.hangs.lasting.values()] == ['saturated']

    def test_a_worker_without_a_request_of_zope_is_noted_if_it_is_busy(self, world):
        world.threads = (
            state(1, request=None, activity='socket'),
            state(2, request=None),
            state(3, request=None, kind='other', activity='sleep'),
            main_thread(),
        )
        world.hangs.look(Answering(1, 1, all_busy=70.0, stood=61.0))
        assert world.kinds == [('hang', 0), ('hang', 1), ('hang', MAIN)]

    def test_a_server_that_shuts_down_does_not_hang(self, world):
        world.hangs.is_over = lambda: True
        world.hangs.look(Answering(4, 4, all_busy=70.0, stood=61.0))
        world.hangs.look(Answering(4, 4, all_busy=70.0, stood=1.0))
        assert world.hangs.lasting == {}


class TestTheServersLoop:
    """How a hang of the loop is noted; see test_serverloop.py for whether the loop is blocked."""

    HERE, THERE = ('write', 'loop'), ('read', 'loop')

    @pytest.fixture
    def standing(self, world):
        world.threads = (main_thread(activity='terminal'), state(1), state(2, request=None))
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        return world

    def test_a_loop_that_is_blocked_for_longer_than_stall_is_a_hang(self, world):
        for stood in (0.0, STALL - 1, STALL):
            world.hangs.look_at_loop(self.HERE, stood)
        assert world.notes == () and world.asked == 0
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        assert world.kinds[0] == ('hang', 0) and world.asked == 1

    def test_a_blocked_loop_is_noted_with_main_thread_and_the_workers(self, standing):
        assert standing.kinds == [('hang', 0), ('hang', MAIN), ('hang', 1)]
        begun, main, _ = standing.notes
        assert begun.title == (
            "The server's loop (MainThread) is stuck: "
            'it is blocked on a standard stream or the terminal.'
        )
        assert main.frames == FRAMES and main.title == 'MainThread'
        assert time.time() - begun.time == pytest.approx(STALL + 1, abs=30)
        assert standing.recording.words['hung_since'] / 1e9 == pytest.approx(begun.time, abs=0.001)
        (hang,) = standing.hangs.known()
        assert (hang.kind, hang.threads) == ('hang', (MAIN,)) and standing.hangs.loop_is_stuck
        assert hang.place == FRAMES[0]
        (finding,) = standing.findings
        assert (finding.id, finding.severity.code) == ('hang-loop', 'critical')

    @pytest.mark.parametrize(
        'stood',
        [0.0, 10.0, STALL + 99],
        ids=['just resumed', 'resumed 10 s ago', 'never suspended'],
    )
    def test_the_hang_lasts_while_main_thread_stays_in_its_place(self, standing, stood):
        standing.hangs.look_at_loop(self.HERE, stood)
        assert len(standing.notes) == 3 and standing.hangs.lasts('hang')

    @pytest.mark.parametrize('place', [(), THERE])
    def test_the_hang_ends_when_main_thread_leaves_its_place(self, standing, place):
        standing.hangs.look_at_loop(place, 0.0)
        assert (
            standing.kinds[-1] == ('hang-ended', 0) and standing.recording.words['hung_since'] == 0
        )
        assert not standing.hangs.loop_is_stuck and list(standing.findings) == []
        assert hangnotes.lasting(standing.notes) is None

    def test_a_blocked_loop_and_busy_workers_are_two_hangs_of_one_site(self, standing):
        since = standing.recording.words['hung_since']
        standing.look([61], 1)
        assert standing.recording.words['hung_since'] == since, 'the start of the first hang'
        first, second = hangnotes.all_lasting(standing.notes)
        assert (
            "The server's loop" in first.title
            and 'The only worker has been busy with a request' in second.title
        )
        standing.hangs.look_at_loop((), 0.0)
        assert standing.recording.words['hung_since'] > since
        assert hangnotes.all_lasting(standing.notes) == [second]
        standing.look([], 1)
        assert standing.recording.words['hung_since'] == 0

    def test_a_blocked_loop_is_noted_even_if_nothing_is_known_of_the_threads(self, world):
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        assert world.notes[0].title == (
            "The server's loop (MainThread) is stuck: its activity is not known."
        )


class TestTheRing:
    def test_a_thousand_slow_requests_overwrite_no_note_of_a_hang(self, hanging):
        before = hanging.notes
        for number in range(1000):
            hanging.recorder.note(
                Note(0, time.time(), ('slow', 'slow-ended')[number % 2], number, frames=FRAMES)
            )
        assert [note for note in hanging.notes if note.kind == 'hang'] == list(before)
        assert hangnotes.lasting(hanging.notes) == before[0]
        assert hangnotes.threads(hanging.notes, before[0]) == list(before[1:])

    def test_a_deadlock_of_64_workers_keeps_the_first_notes_of_both_events(self, world):
        """This is more than the ring holds: the first notes of both events stay."""
        world.known = True
        world.threads = (*(state(n, holders=[n % 64 + 1]) for n in range(1, 65)), main_thread())
        world.look([100] * 64, 64)
        kinds = world.kinds
        assert kinds[0] == ('hang', 0) and ('hang', MAIN) in kinds and ('deadlock', 0) in kinds
        assert len(kinds) <= box.NOTE_COUNT - box.SLOW_NOTES
        assert len([kind for kind, ident in kinds if kind == 'hang' and ident]) > 20

    def test_the_innermost_frames_of_a_deep_stack_are_kept(self, world):
        frames = tuple(Frame(f'/site/{"x" * 60}/{n}.py', n, f'function_{n}') for n in range(200))
        world.threads = (state(1, frames=frames),)
        world.look([100], 1)
        note = world.notes[1]
        assert note.cut and len(note.frames) > 20 and note.frames == frames[: len(note.frames)]


class TestDeadlocks:
    def deadlock(self, world):
        world.threads = (state(1, holders=[2], detail='held by 2'), state(2, holders=[1]), state(3))
        world.hangs.look_for_deadlock()
        world.hangs.look_for_deadlock()

    def test_a_deadlock_says_which_thread_waits_for_which(self, world):
        self.deadlock(world)
        assert world.kinds == [('deadlock', 0), ('deadlock', 1), ('deadlock', 2)]
        assert world.notes[0].title == (
            'Deadlock (inferred from the code): GET /1 (waitress-1) waits for a lock: '
            'held by 2; GET /2 (waitress-2) waits for a lock.'
        )
        assert world.notes[1].frames == FRAMES
        (finding,) = world.findings
        assert finding.severity.code == 'warning' and str(finding.action).startswith(
            'If the threads keep waiting, restart Zope;'
        )
        assert world.hangs.lasts('deadlock')

    def test_a_deadlock_has_fields_for_what_its_sentence_says(self, world):
        world.threads = (
            state(2, holders=[1], activity='lock', detail='held by 1'),
            state(1, holders=[2], name='cron', activity='lock', request=None),
        )
        (event,) = world.hangs.known(world.observe())
        found = json.loads(json.dumps(to_json(event)))
        waits = {'activity': 'lock', 'detail': ''}
        cycle = {
            1: waits | {'ident': 1, 'name': 'cron', 'method': '', 'path': ''},
            2: waits
            | {'ident': 2, 'name': 'waitress-2', 'method': 'GET', 'path': '/2'}
            | {'detail': 'held by 1'},
        }
        assert {link['ident']: link for link in found['cycle']} == cycle
        assert (found['known'], found['place']) == (False, None)
        sentence = cycle_words(event.cycle)
        assert found['summary'] == f'Deadlock (inferred from the code): {sentence}.'
        assert 'cron waits for a lock' in sentence
        world.known = True
        (event,) = world.hangs.known(world.observe())
        assert event.known is True

    def test_one_look_is_enough_if_the_locks_name_their_owners(self, world):
        world.threads, world.known = (state(1, [2]), state(2, [1])), True
        world.hangs.look_for_deadlock()
        assert world.notes[0].title.startswith('Deadlock (the locks name their owners): GET /1')
        (finding,) = world.findings
        assert finding.severity.code == 'critical' and str(finding.action).startswith(
            'Restart Zope;'
        )

    def test_an_inferred_deadlock_must_be_seen_twice_in_a_row(self, world):
        two, three = (state(1, [2]), state(2, [1])), (state(1, [2]), state(2, [3]), state(3, [1]))
        for threads in (two, three, two, (state(1), state(2)), two):
            world.threads = threads
            world.hangs.look_for_deadlock()
        assert world.notes == ()
        world.hangs.look_for_deadlock()
        assert world.kinds[0] == ('deadlock', 0)

    def test_a_failed_look_neither_begins_nor_ends_a_deadlock(self, world):
        world.threads = two = (state(1, [2]), state(2, [1]))
        world.hangs.look_for_deadlock()
        world.threads = ()
        world.hangs.look_for_deadlock()
        assert world.notes == ()
        world.threads = two
        world.hangs.look_for_deadlock()
        world.threads = ()
        world.hangs.look_for_deadlock()
        assert [kind for kind, _ in world.kinds] == ['deadlock'] * 3, 'the deadlock lasts'

    def test_a_deadlock_seen_just_now_is_listed_but_not_begun(self, world):
        seen = observed((state(1, [2]), state(2, [1])))
        (event,) = world.hangs.known(seen)
        assert (event.kind, event.ended, event.threads, event.severity.code) == (
            'deadlock',
            None,
            (1, 2),
            'warning',
        )
        assert event.summary.startswith(
            'Deadlock (inferred from the code): GET /1 (waitress-1) waits for a lock; '
        )
        assert (
            world.notes == () and list(world.findings) == [] and not world.hangs.lasts('deadlock')
        )
        self.deadlock(world)
        assert len(world.hangs.known(seen)) == 1, 'only the deadlock that lasts'

    def test_if_the_locks_are_not_known_the_deadlock_is_only_possible(self, world):
        seen = observed((state(1, [2]), state(2, [1])), possible=True)
        (event,) = world.hangs.known(seen)
        assert event.summary.startswith('Possible deadlock (inferred): GET /1 (waitress-1) waits ')
        assert event.possible and event.known is False and event.severity.code == 'warning'
        world.hangs.look_for_deadlock(seen)
        assert world.notes == ()
        world.hangs.look_for_deadlock(seen)
        assert world.notes[0].title == event.summary

    @pytest.mark.parametrize('step', [0, 3600, -3600, 3 * 86400])
    def test_a_deadlock_begins_when_it_was_first_seen(self, world, monkeypatch, step):
        """Its age is that of the monotonic clock: the other one may be set meanwhile."""
        seen = observed((state(1, [2]), state(2, [1])))
        now = 100.0
        world.hangs.clock = lambda: now
        world.hangs.look_for_deadlock(seen)
        now = 130.0
        monkeypatch.setattr(time, 'time', lambda: STARTED + step)
        (suspected,) = world.hangs.known(seen)
        world.hangs.look_for_deadlock(seen)
        (event,) = world.hangs.known(seen)
        assert suspected.started == event.started == STARTED + step - 30
        assert event.seconds == 30

    def test_a_deadlock_begins_when_the_last_of_its_threads_came_to_its_place(
        self, world, monkeypatch
    ):
        """Not when somebody looks: each look would show another begin."""
        seen = observed((state(1, [2]), state(2, [1])))
        now = [100.0]
        world.hangs.clock = lambda: now[0]
        world.hangs.unchanged_since = {1: 70.0, 2: 80.0}.get
        monkeypatch.setattr(time, 'time', lambda: STARTED + now[0])
        begins = []
        for now[0] in (100.0, 105.0, 110.0):
            (event,) = world.hangs.known(seen)
            begins.append(event.started)
            world.hangs.look_for_deadlock(seen)
        assert begins == [STARTED + 80.0] * 3
        assert world.hangs.known(seen)[0].seconds == 30.0

    def test_the_begin_of_a_hang_is_known_by_both_clocks(self, world):
        world.look([STALL + 9], 1)
        words = world.recording.words
        assert 0 <= time.time() - words['hung_since'] / 1e9 - (STALL + 9) < 60
        assert 0 <= time.monotonic() - words['hung_monotonic'] / 1e9 - (STALL + 9) < 60
        world.look([], 1)
        words = world.recording.words
        assert words['hung_since'] == words['hung_monotonic'] == 0

    def test_a_freeze_is_an_event_that_is_no_trouble(self, world):
        world.hangs.note_freeze(40.0, of_machine=False)
        world.hangs.note_freeze(3600.0, of_machine=True)
        machine, process = world.hangs.known()
        assert [event.kind for event in (machine, process)] == ['frozen', 'frozen']
        assert (process.seconds, process.lasts, process.severity) == (40.0, False, INFO)
        assert process.summary.startswith('The process was frozen for 40 s: none of its threads')
        assert machine.summary == 'The machine was suspended for 1 hour.'
        assert list(world.findings) == []
        events = hangnotes.hangs(world.notes, ended=0.0)
        assert [event.seconds for event in events] == [40.0, 3600.0]
        assert hangnotes.lasting(world.notes, 'frozen') is None

    def test_a_deadlock_that_lasts_is_noted_once(self, world):
        self.deadlock(world)
        for _ in range(9):
            world.threads = tuple(reversed(world.threads))
            world.hangs.look_for_deadlock()
        assert len(world.notes) == 3 and len(list(world.findings)) == 1

    def test_a_look_in_the_moment_of_a_signal_does_not_end_a_deadlock(self, world):
        self.deadlock(world)
        for _ in range(3):
            locked, world.threads = world.threads, (state(1, holders=[2]), state(2))
            world.hangs.look_for_deadlock()
            world.threads = locked
            world.hangs.look_for_deadlock()
        assert world.hangs.lasts('deadlock') and len(world.notes) == 3

    def test_a_deadlock_that_ends_is_an_event(self, world):
        self.deadlock(world)
        world.threads = (state(1, holders=[2]), state(2))
        world.hangs.look_for_deadlock()
        world.hangs.look_for_deadlock()
        assert world.kinds[-1] == ('deadlock-ended', 0)
        assert list(world.findings) == [] and not world.hangs.lasts('deadlock')
        assert world.hangs.known()[0].ended

    def test_two_deadlocks_at_once_are_two_events(self, world):
        world.threads, world.known = (
            (state(1, [2]), state(2, [1]), state(3, [4]), state(4, [3])),
            True,
        )
        world.hangs.look_for_deadlock()
        assert len([kind for kind, ident in world.kinds if not ident]) == 2
        world.threads = world.threads[:2]
        world.hangs.look_for_deadlock()
        world.hangs.look_for_deadlock()
        assert [hang.ended is None for hang in world.hangs.known()] == [True, False]
        lasting = hangnotes.lasting(world.notes, 'deadlock')
        assert '/1' in lasting.title and '/3' not in lasting.title
        assert [note.ident for note in hangnotes.threads(world.notes, lasting)] == [1, 2]

    def test_a_hang_by_a_deadlock_notes_both(self, world):
        world.threads, world.known = (state(1, [2]), state(2, [1])), True
        world.look([100, 90], 2)
        assert world.kinds == [
            ('hang', 0),
            ('hang', 1),
            ('hang', 2),
            ('deadlock', 0),
            ('deadlock', 1),
            ('deadlock', 2),
        ]
        assert world.asked == 1, 'both are found with one look'


class TestSpinning:
    def spin(self, world, *cpus, **values):
        """Look once for each of these CPU shares of MainThread."""
        for cpu in cpus:
            main = main_thread(cpu=cpu, activity='running', **values)
            world.hangs.look_for_spinning(
                (main, state(1, cpu=1.0)), {main.native_id: cpu or 0.0, 1001: 1.0}
            )

    def test_spinning_begins_after_two_looks(self, world):
        self.spin(world, 0.95)
        assert world.notes == ()
        self.spin(world, 1.0)
        assert world.kinds == [('spinning', 0), ('spinning', MAIN)]
        assert world.notes[0].title == (
            'MainThread, which serves no request, uses 100% of one CPU in render (/site/view.py).'
        )
        assert world.hangs.known()[0].place == FRAMES[0]
        self.spin(world, 0.99, 0.99)
        assert len(world.notes) == 2 and world.hangs.lasts('spinning')

    @pytest.mark.parametrize(
        'cpus', [(0.95, 0.2, 0.95), (0.79, 0.79), (None, None), (0.95, None, 0.95)]
    )
    def test_a_short_burst_is_not_spinning(self, world, cpus):
        self.spin(world, *cpus)
        assert world.notes == ()

    @pytest.mark.parametrize(
        'values', [dict(kind='monitor'), dict(kind='worker'), dict(request=request(1))]
    )
    def test_a_worker_and_our_own_threads_never_spin(self, world, values):
        self.spin(world, 1.0, 1.0, 1.0, **values)
        assert world.notes == ()

    @pytest.mark.parametrize(
        'kind, served, begins',
        [('main', 200.0, False), ('main', 2.0, True), ('other', 200.0, True)],
    )
    def test_the_loop_of_a_busy_server_is_not_spinning(self, world, kind, served, begins):
        for _ in range(3):
            thread = main_thread(cpu=0.95, activity='running', kind=kind)
            world.hangs.look_for_spinning((thread,), {thread.native_id: 0.95}, served)
        assert world.hangs.lasts('spinning') == begins

    def test_spinning_ends_when_the_thread_is_calm(self, world):
        self.spin(world, 1.0, 1.0, 0.3)
        assert world.kinds[-1] == ('spinning-ended', 0)
        assert list(world.findings) == [] and not world.hangs.lasts('spinning')

    def test_spinning_lasts_until_the_thread_is_calm(self, world):
        self.spin(world, 1.0, 1.0, 0.6, 0.6)
        assert world.hangs.lasts('spinning')

    def test_spinning_ends_with_the_thread(self, world):
        self.spin(world, 1.0, 1.0)
        world.hangs.look_for_spinning((), {})
        assert world.kinds[-1] == ('spinning-ended', 0)

    def test_a_failed_look_does_not_end_spinning(self, world):
        self.spin(world, 1.0, 1.0)
        world.hangs.look_for_spinning((), {1000 + MAIN: 1.0})
        assert world.hangs.lasts('spinning')

    def test_spinning_ends_when_the_thread_serves_a_request(self, world):
        self.spin(world, 1.0, 1.0)
        self.spin(world, 1.0, request=request(1))
        assert world.kinds[-1] == ('spinning-ended', 0)

    @pytest.mark.parametrize('kind, severity', [('main', 'critical'), ('other', 'warning')])
    def test_spinning_of_another_thread_than_main_is_only_a_warning(self, world, kind, severity):
        self.spin(world, 1.0, 1.0, kind=kind)
        (finding,) = world.findings
        (hang,) = world.hangs.known()
        assert (finding.severity.code, hang.severity.code) == (severity, severity)

    def test_a_thread_without_name_and_stack_can_spin(self, world):
        self.spin(world, 1.0, 1.0, name='', frames=())
        assert world.notes[0].title == 'A thread, which serves no request, uses 100% of one CPU.'

    def test_threads_that_python_does_not_know_are_distinguished(self, world):
        """They have no ident.  A calm thread does not hide one that spins, and the notes of the
        threads do not count as the start of an event.
        """
        threads = [
            replace(main_thread(), ident=0, native_id=n, kind='other', name='c', frames=())
            for n in (5, 6, 7)
        ]
        loads = {5: 1.0, 6: 1.0, 7: 0.0}
        for _ in range(3):
            world.hangs.look_for_spinning(threads, loads)
        assert world.kinds == [('spinning', 0), ('spinning', 5), ('spinning', 0), ('spinning', 6)]
        assert [hang.threads for hang in world.hangs.known()] == [(), ()]
        world.hangs.look_for_spinning(threads, loads | {6: 0.0})
        assert [hang.ended is None for hang in world.hangs.known()] == [True, False]
        five, six = hangnotes.hangs(world.notes, time.time())
        assert five.summary == 'c (native id 5), which serves no request, uses 100% of one CPU.'
        assert (five.ended is None, six.ended is None) == (True, False)
        lasting = hangnotes.lasting(world.notes, 'spinning')
        assert [note.native_id for note in hangnotes.threads(world.notes, lasting)] == [5]
        world.hangs.look_for_spinning((), {})
        assert hangnotes.lasting(world.notes, 'spinning') is None, 'all have ended'

    def test_two_spinning_threads_are_two_events(self, world):
        other = dict(ident=7, native_id=1007, kind='other', name='x')
        threads = (main_thread(cpu=1.0), replace(main_thread(cpu=1.0), **other))
        world.hangs.look_for_spinning(threads, {t.native_id: 1.0 for t in threads})
        world.hangs.look_for_spinning(threads, {t.native_id: 1.0 for t in threads})
        world.hangs.look_for_spinning(threads[:1], {threads[0].native_id: 1.0})
        assert [hang.ended is None for hang in world.hangs.known()] == [True, False]
        assert hangnotes.lasting(world.notes, 'spinning').title.startswith('MainThread')
