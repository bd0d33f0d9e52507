"""Hangs, deadlocks and spinning threads: when they begin and end, what is noted of them, and that
it stays.
"""

import json
import time
from dataclasses import replace

import pytest
from support.syntheticruns import observed
from support.syntheticruns import request

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.recording.hangs import Hangs
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.threads.cycles import cycle_words

STALL = 60.0
MAIN = 99
FRAMES = (Frame('/site/view.py', 7, 'render'), Frame('/zope/publish.py', 70, 'publish'))


def state(ident, holders=(), **values):
    """A thread that serves `/<ident>`, 100 s old."""
    served = request(ident, path=f'/{ident}', seconds=100.0)
    return ThreadState(
        **{
            'ident': ident,
            'native_id': 1000 + ident,
            'name': f'waitress-{ident}',
            'kind': 'worker',
            'activity': 'lock',
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
    """A recorder and what watches over it; `threads` is what a look at the threads shows."""

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
        """Requests in flight, how old they are; and so many threads that serve."""
        now = time.monotonic()
        self.hangs.look([now - age for age in ages], serving, now)

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
            ([100, 90, 59], 3, False),  # the last one is busy, not overdue
            ([100, 90], 3, False),  # one is free
            ([], 0, False),
            ([], 4, False),
            ([100, 90, 61], 2, True),  # one more than was counted: it came in between
            ([61], 1, True),
        ],
    )
    def test_begins_when_the_last_free_thread_is_overdue(self, world, ages, serving, hangs):
        world.look(ages, serving)
        assert bool(world.recording.words['hung_since']) == hangs
        assert [note.kind for note in world.notes] == ['hang'] * hangs
        assert world.asked == hangs, 'the threads are looked at only when something is wrong'

    def test_does_not_begin_while_the_server_shuts_down_but_goes_on(self, world):
        """Waitress ends its idle threads first, and waits for the last ones."""
        world.hangs.is_over = lambda: True
        world.look([61], 1)
        assert world.notes == () and world.recording.words['hung_since'] == 0
        world.hangs.is_over = lambda: False
        world.look([61], 1)
        world.hangs.is_over = lambda: True
        world.look([62], 1)
        assert world.hangs.lasts('hang')

    def test_since_the_last_free_thread_became_busy(self, world):
        before = time.time() - 61
        world.look([100, 61, 90], 3)
        since = world.recording.words['hung_since'] / 1e9
        assert before - 0.1 <= since <= time.time() - 61 + 0.1
        world.look([110, 71, 100], 3)
        assert world.recording.words['hung_since'] / 1e9 == since, 'it is the beginning that counts'
        assert world.notes[0].time == pytest.approx(since, abs=0.001)

    def test_each_thread_that_serves_is_noted_and_the_main_thread(self, hanging):
        assert hanging.kinds == [('hang', 0), *(('hang', n) for n in range(1, 5)), ('hang', MAIN)]
        event, thread, *_, main = hanging.notes
        assert event.title == (
            'All 4 threads that serve have been busy with requests for longer than 60 s: '
            '4 of them: waits for a lock.'
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
                '25% of one CPU, at /site',
            ),
            (
                [
                    dict(detail=f'{n}% of one CPU', frames=(Frame('/site/view.py', n, 'render'),))
                    for n in (24, 26)
                ],
                'in render (/site/view.py).',
            ),
            (
                [dict(frames=(Frame('/site/view.py', 7, 'other'),)), dict(activity='sleep')],
                '25% of one CPU, at /site',
            ),
        ],
        ids=['the very same', 'the same at other lines', 'other places'],
    )
    def test_what_most_do_is_counted_by_activity_and_place(self, world, others, words):
        world.threads = tuple(
            state(n, **{'activity': 'running', **values})
            for n, values in enumerate(
                [dict(detail='25% of one CPU, at /site/view.py:7 in render'), *others], 1
            )
        )
        world.look([100, 90, 80], 3)
        count = 1 if len({(s.activity, s.frames[0].function) for s in world.threads}) > 1 else 3
        assert f'60 s: {count} of them: runs on a CPU: {words}' in world.notes[0].title

    def test_it_is_noted_and_found_once(self, hanging):
        for _ in range(50):
            hanging.look([100, 90, 80, 70], 4)
        assert len(hanging.notes) == 6 and hanging.asked == 1
        (finding,) = hanging.findings
        assert (finding.id, finding.severity.code) == ('hang', 'critical')
        (hang,) = hanging.hangs.known()
        told = json.loads(json.dumps(to_json(hang)))
        assert told['place'] == {'file': '/site/view.py', 'line': 7, 'function': 'render'}
        assert (told['known'], told['cycle']) == (None, [])
        assert (hang.kind, hang.ended) == ('hang', None) and hanging.hangs.lasts('hang')

    def test_that_ends_is_an_event(self, hanging, caplog):
        caplog.clear()
        hanging.look([100, 90, 80], 4)
        assert hanging.recording.words['hung_since'] == 0
        assert hanging.kinds[-1] == ('hang-ended', 0)
        assert hanging.notes[-1].seconds == pytest.approx(70, abs=1)
        assert list(hanging.findings) == [] and not hanging.hangs.lasts('hang')
        (hang,) = hanging.hangs.known()
        assert hang.ended - hang.started == pytest.approx(70, abs=1)
        (record,) = caplog.records
        assert 'It answers again. It lasted 70.' in record.getMessage()

    def test_a_thread_that_took_the_next_request_ends_it_too(self, hanging):
        hanging.look([100, 90, 80, 0.5], 4)
        assert hanging.kinds[-1] == ('hang-ended', 0)

    def test_a_second_one_is_another(self, hanging):
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

    def test_nothing_is_known_of_the_threads(self, world):
        world.look([61], 1)
        assert world.notes[0].title.endswith('60 s: it is not known what they do.')

    def test_what_ended_is_remembered_so_often(self, world):
        for _ in range(120):
            world.look([61], 1)
            world.look([], 1)
        assert len(world.hangs.known()) == 50


class TestTheLoopOfTheServer:
    """Where MainThread stands outside it, and for how long: test_serverloop."""

    HERE, THERE = ('write', 'loop'), ('read', 'loop')

    @pytest.fixture
    def standing(self, world):
        world.threads = (main_thread(activity='terminal'), state(1), state(2, request=None))
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        return world

    def test_stands_still_for_longer_than_stall(self, world):
        for stood in (0.0, STALL - 1, STALL):
            world.hangs.look_at_loop(self.HERE, stood)
        assert world.notes == () and world.asked == 0
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        assert world.kinds[0] == ('hang', 0) and world.asked == 1

    def test_is_a_hang_since_it_stands_with_main_thread_and_those_that_serve(self, standing):
        assert standing.kinds == [('hang', 0), ('hang', MAIN), ('hang', 1)]
        begun, main, _ = standing.notes
        assert begun.title == (
            'The loop of the server (MainThread) stands still: blocked on a standard stream or '
            'the terminal.'
        )
        assert main.frames == FRAMES and main.title == 'MainThread'
        assert time.time() - begun.time == pytest.approx(STALL + 1, abs=30)
        assert standing.recording.words['hung_since'] / 1e9 == pytest.approx(begun.time, abs=0.001)
        (hang,) = standing.hangs.known()
        assert (hang.kind, hang.threads) == ('hang', (MAIN,)) and standing.hangs.loop_stands
        assert hang.place == FRAMES[0]
        (finding,) = standing.findings
        assert (finding.id, finding.severity.code) == ('hang-loop', 'critical')

    @pytest.mark.parametrize(
        'stood', [0.0, 10.0, STALL + 99], ids=['suspended meanwhile', 'and measured anew', 'on']
    )
    def test_lasts_as_long_as_main_thread_stays_there(self, standing, stood):
        standing.hangs.look_at_loop(self.HERE, stood)
        assert len(standing.notes) == 3 and standing.hangs.lasts('hang')

    @pytest.mark.parametrize('place', [(), THERE])
    def test_goes_on(self, standing, place):
        standing.hangs.look_at_loop(place, 0.0)
        assert (
            standing.kinds[-1] == ('hang-ended', 0) and standing.recording.words['hung_since'] == 0
        )
        assert not standing.hangs.loop_stands and list(standing.findings) == []
        assert hangnotes.lasting(standing.notes) is None

    def test_and_all_threads_that_serve_are_two_hangs_of_one_site(self, standing):
        since = standing.recording.words['hung_since']
        standing.look([61], 1)
        assert standing.recording.words['hung_since'] == since, 'nobody is answered since the first'
        first, second = hangnotes.all_lasting(standing.notes)
        assert 'The loop' in first.title and 'All 1 threads' in second.title
        standing.hangs.look_at_loop((), 0.0)
        assert standing.recording.words['hung_since'] > since
        assert hangnotes.all_lasting(standing.notes) == [second]
        standing.look([], 1)
        assert standing.recording.words['hung_since'] == 0

    def test_nothing_is_known_of_the_threads(self, world):
        world.hangs.look_at_loop(self.HERE, STALL + 1)
        assert world.notes[0].title == (
            'The loop of the server (MainThread) stands still: it is not known what it does.'
        )


class TestTheRing:
    def test_a_thousand_slow_requests_push_nothing_out(self, hanging):
        before = hanging.notes
        for number in range(1000):
            hanging.recorder.note(
                Note(0, time.time(), ('slow', 'slow-ended')[number % 2], number, frames=FRAMES)
            )
        assert [note for note in hanging.notes if note.kind == 'hang'] == list(before)
        assert hangnotes.lasting(hanging.notes) == before[0]
        assert hangnotes.threads(hanging.notes, before[0]) == list(before[1:])

    def test_sixty_four_threads_that_wait_for_each_other(self, world):
        """More than the ring holds: what is said first of both stays."""
        world.known = True
        world.threads = (*(state(n, holders=[n % 64 + 1]) for n in range(1, 65)), main_thread())
        world.look([100] * 64, 64)
        kinds = world.kinds
        assert kinds[0] == ('hang', 0) and ('hang', MAIN) in kinds and ('deadlock', 0) in kinds
        assert len(kinds) <= box.NOTE_COUNT - box.SLOW_NOTES
        assert len([kind for kind, ident in kinds if kind == 'hang' and ident]) > 20

    def test_a_deep_stack_of_long_names_is_kept_from_the_inside(self, world):
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

    def test_are_named_with_who_waits_for_whom(self, world):
        self.deadlock(world)
        assert world.kinds == [('deadlock', 0), ('deadlock', 1), ('deadlock', 2)]
        assert world.notes[0].title == (
            'Deadlock (inferred from the code): GET /1 (waitress-1) waits for a lock: '
            'held by 2; GET /2 (waitress-2) waits for a lock.'
        )
        assert world.notes[1].frames == FRAMES
        (finding,) = world.findings
        assert finding.severity.code == 'warning' and str(finding.action).startswith(
            'If they go on waiting, restart Zope;'
        )
        assert world.hangs.lasts('deadlock')

    def test_have_fields_for_what_their_sentence_says(self, world):
        world.threads = (
            state(2, holders=[1], activity='lock', detail='held by 1'),
            state(1, holders=[2], name='cron', request=None),
        )
        (told,) = world.hangs.known(world.observe())
        found = json.loads(json.dumps(to_json(told)))
        waits = {'activity': 'lock', 'detail': ''}
        cycle = {
            1: waits | {'ident': 1, 'name': 'cron', 'method': '', 'path': ''},
            2: waits
            | {'ident': 2, 'name': 'waitress-2', 'method': 'GET', 'path': '/2'}
            | {'detail': 'held by 1'},
        }
        assert {link['ident']: link for link in found['cycle']} == cycle
        assert (found['known'], found['place']) == (False, None)
        sentence = cycle_words(told.cycle)
        assert found['summary'] == f'Deadlock (inferred from the code): {sentence}.'
        assert 'cron waits for a lock' in sentence
        world.known = True
        (told,) = world.hangs.known(world.observe())
        assert told.known is True

    def test_one_look_is_enough_where_the_locks_name_their_owners(self, world):
        world.threads, world.known = (state(1, [2]), state(2, [1])), True
        world.hangs.look_for_deadlock()
        assert world.notes[0].title.startswith('Deadlock (the locks name their owners): GET /1')
        (finding,) = world.findings
        assert finding.severity.code == 'critical' and str(finding.action).startswith(
            'Restart Zope;'
        )

    def test_what_is_inferred_must_be_seen_twice_in_a_row(self, world):
        two, three = (state(1, [2]), state(2, [1])), (state(1, [2]), state(2, [3]), state(3, [1]))
        for threads in (two, three, two, (state(1), state(2)), two):
            world.threads = threads
            world.hangs.look_for_deadlock()
        assert world.notes == ()
        world.hangs.look_for_deadlock()
        assert world.kinds[0] == ('deadlock', 0)

    def test_a_look_that_fails_is_none(self, world):
        world.threads = two = (state(1, [2]), state(2, [1]))
        world.hangs.look_for_deadlock()
        world.threads = ()
        world.hangs.look_for_deadlock()
        assert world.notes == ()
        world.threads = two
        world.hangs.look_for_deadlock()
        world.threads = ()
        world.hangs.look_for_deadlock()
        assert [kind for kind, _ in world.kinds] == ['deadlock'] * 3, 'it goes on'

    def test_what_was_just_seen_is_told_and_begins_nothing(self, world):
        seen = observed((state(1, [2]), state(2, [1])))
        (told,) = world.hangs.known(seen)
        assert (told.kind, told.ended, told.threads, told.severity.code) == (
            'deadlock',
            None,
            (1, 2),
            'warning',
        )
        assert told.summary.startswith(
            'Deadlock (inferred from the code): GET /1 (waitress-1) waits for a lock; '
        )
        assert (
            world.notes == () and list(world.findings) == [] and not world.hangs.lasts('deadlock')
        )
        self.deadlock(world)
        assert len(world.hangs.known(seen)) == 1, 'the one that lasts'

    def test_once(self, world):
        self.deadlock(world)
        for _ in range(9):
            world.threads = tuple(reversed(world.threads))
            world.hangs.look_for_deadlock()
        assert len(world.notes) == 3 and len(list(world.findings)) == 1

    def test_one_that_dissolves_is_an_event(self, world):
        self.deadlock(world)
        world.threads = (state(1, holders=[2]), state(2))
        world.hangs.look_for_deadlock()
        assert world.kinds[-1] == ('deadlock-ended', 0)
        assert list(world.findings) == [] and not world.hangs.lasts('deadlock')
        assert world.hangs.known()[0].ended

    def test_two_at_once(self, world):
        world.threads, world.known = (
            (state(1, [2]), state(2, [1]), state(3, [4]), state(4, [3])),
            True,
        )
        world.hangs.look_for_deadlock()
        assert len([kind for kind, ident in world.kinds if not ident]) == 2
        world.threads = world.threads[:2]
        world.hangs.look_for_deadlock()
        assert [hang.ended is None for hang in world.hangs.known()] == [True, False]
        lasting = hangnotes.lasting(world.notes, 'deadlock')
        assert '/1' in lasting.title and '/3' not in lasting.title
        assert [note.ident for note in hangnotes.threads(world.notes, lasting)] == [1, 2]

    def test_a_hang_says_if_it_is_one(self, world):
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
        assert world.asked == 1, 'both are told from one look'


class TestSpinning:
    def spin(self, world, *cpus, **values):
        """One look for each share of one CPU."""
        for cpu in cpus:
            main = main_thread(cpu=cpu, activity='running', **values)
            world.hangs.look_for_spinning(
                (main, state(1, cpu=1.0)), {main.native_id: cpu or 0.0, 1001: 1.0}
            )

    def test_after_two_looks(self, world):
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
    def test_a_burst_is_none(self, world, cpus):
        self.spin(world, *cpus)
        assert world.notes == ()

    @pytest.mark.parametrize(
        'values', [dict(kind='monitor'), dict(kind='worker'), dict(request=request(1))]
    )
    def test_nor_is_a_request_or_what_watches(self, world, values):
        self.spin(world, 1.0, 1.0, 1.0, **values)
        assert world.notes == ()

    @pytest.mark.parametrize(
        'kind, served, begins',
        [('main', 200.0, False), ('main', 2.0, True), ('other', 200.0, True)],
    )
    def test_the_loop_of_a_busy_server_has_much_to_do(self, world, kind, served, begins):
        for _ in range(3):
            thread = main_thread(cpu=0.95, activity='running', kind=kind)
            world.hangs.look_for_spinning((thread,), {thread.native_id: 0.95}, served)
        assert world.hangs.lasts('spinning') == begins

    def test_it_stops(self, world):
        self.spin(world, 1.0, 1.0, 0.3)
        assert world.kinds[-1] == ('spinning-ended', 0)
        assert list(world.findings) == [] and not world.hangs.lasts('spinning')

    def test_it_lasts_until_it_is_calm(self, world):
        self.spin(world, 1.0, 1.0, 0.6, 0.6)
        assert world.hangs.lasts('spinning')

    def test_it_ends(self, world):
        self.spin(world, 1.0, 1.0)
        world.hangs.look_for_spinning((), {})
        assert world.kinds[-1] == ('spinning-ended', 0)

    def test_a_look_that_fails_ends_nothing(self, world):
        self.spin(world, 1.0, 1.0)
        world.hangs.look_for_spinning((), {1000 + MAIN: 1.0})
        assert world.hangs.lasts('spinning')

    def test_it_serves_a_request_now(self, world):
        self.spin(world, 1.0, 1.0)
        self.spin(world, 1.0, request=request(1))
        assert world.kinds[-1] == ('spinning-ended', 0)

    @pytest.mark.parametrize('kind, severity', [('main', 'critical'), ('other', 'warning')])
    def test_a_thread_of_other_code_may_have_much_to_do(self, world, kind, severity):
        self.spin(world, 1.0, 1.0, kind=kind)
        (finding,) = world.findings
        (hang,) = world.hangs.known()
        assert (finding.severity.code, hang.severity.code) == (severity, severity)

    def test_without_a_name_and_a_stack(self, world):
        self.spin(world, 1.0, 1.0, name='', frames=())
        assert world.notes[0].title == 'A thread, which serves no request, uses 100% of one CPU.'

    def test_threads_that_python_does_not_know_are_told_apart(self, world):
        """They have no ident; a calm one hides none that spins, and their notes are no
        beginnings.
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
        assert hangnotes.lasting(world.notes, 'spinning') is None, 'nothing lasts that has ended'

    def test_two_of_them(self, world):
        other = dict(ident=7, native_id=1007, kind='other', name='x')
        threads = (main_thread(cpu=1.0), replace(main_thread(cpu=1.0), **other))
        world.hangs.look_for_spinning(threads, {t.native_id: 1.0 for t in threads})
        world.hangs.look_for_spinning(threads, {t.native_id: 1.0 for t in threads})
        world.hangs.look_for_spinning(threads[:1], {threads[0].native_id: 1.0})
        assert [hang.ended is None for hang in world.hangs.known()] == [True, False]
        assert hangnotes.lasting(world.notes, 'spinning').title.startswith('MainThread')
