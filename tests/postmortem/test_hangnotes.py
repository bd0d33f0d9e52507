"""Hangs in the notes of a black box, whichever notes the ring still holds, and words for them."""

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.syntheticruns import STARTED
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.postmortem import hangsummary
from Products.StabilityMonitor.store import blackbox

ENDED = STARTED + 1000
FRAMES = (Frame('/site/view.py', 7, 'render'),)


def numbered(*notes):
    return tuple(Note(**{**vars(one), 'number': number}) for number, one in enumerate(notes, 1))


LASTING = numbered(
    note('hang', 100, title='All hang.'),
    note('hang', 101, 16, title='GET /a', frames=FRAMES),
    note('hang', 101, 17, title='GET /b', frames=FRAMES),
)
OVER = numbered(*LASTING, note('hang-ended', 300, title='All hang.', seconds=200.0))


class TestHangs:
    def test_a_hang_without_an_end_lasts_until_the_end_of_the_run(self):
        assert hangnotes.hangs(LASTING, ENDED) == (
            Event(
                kind='hang',
                started=STARTED + 100,
                ended=None,
                seconds=900.0,
                summary='All hang.',
                number=1,
                threads=(16, 17),
            ),
        )

    def test_a_hang_with_an_end_has_the_duration_of_its_note(self):
        (hang,) = hangnotes.hangs(OVER, ENDED)
        assert (hang.ended, hang.seconds) == (STARTED + 300, 200.0)

    def test_the_note_of_its_end_tells_when_a_hang_began(self):
        (hang,) = hangnotes.hangs(OVER[-1:], ENDED)
        assert (hang.started, hang.ended, hang.seconds) == (STARTED + 100, STARTED + 300, 200.0)

    def test_the_end_of_a_hang_does_not_end_a_later_one_with_the_same_title(self):
        found = hangnotes.hangs(numbered(*OVER, note('hang', 500, title='All hang.')), ENDED)
        assert [hang.lasts for hang in found] == [False, True]

    def test_an_end_finds_its_beginning_by_its_number(self):
        """Not by its title: two deadlocks may have the same words, and the newer end first."""
        older = note('deadlock', 1, title='x')
        newer = note('deadlock', 2, title='x')
        notes = numbered(older, newer, note('deadlock-ended', 3, title='y', request=2))
        assert [hang.lasts for hang in hangnotes.hangs(notes, ENDED)] == [True, False]
        assert hangnotes.all_lasting(notes, 'deadlock') == [notes[0]]

    def test_an_end_closes_only_an_event_of_its_kind(self):
        notes = numbered(
            *(note(kind, 100, title='x') for kind in ('hang', 'deadlock', 'spinning')),
            note('deadlock-ended', 200, title='x'),
            note('slow', 100, title='x'),
            note('slow-ended', 100, title='x'),
        )
        assert [(hang.kind, hang.lasts) for hang in hangnotes.hangs(notes, ENDED)] == [
            ('hang', True),
            ('deadlock', False),
            ('spinning', True),
        ]

    def test_a_clock_that_was_set_back_makes_no_negative_time(self):
        (hang,) = hangnotes.hangs(LASTING, STARTED)
        assert hang.seconds == 0.0

    def test_without_notes_there_are_no_hangs(self):
        assert hangnotes.hangs((), ENDED) == ()


class TestLasting:
    def test_a_lasting_hang_has_its_threads(self):
        begun = hangnotes.lasting(LASTING)
        assert begun == LASTING[0] and hangnotes.threads(LASTING, begun) == list(LASTING[1:])

    def test_a_hang_that_ended_does_not_last(self):
        assert hangnotes.lasting(OVER) is None and hangnotes.lasting(()) is None

    def test_each_hang_has_only_its_own_threads(self):
        notes = numbered(
            *OVER, note('hang', 500, title='All hang.'), note('hang', 501, 18, title='GET /c')
        )
        begun = hangnotes.lasting(notes)
        assert begun.time == STARTED + 500
        assert [one.title for one in hangnotes.threads(notes, begun)] == ['GET /c']

    def test_an_earlier_deadlock_lasts_after_a_later_one_ended(self):
        notes = numbered(
            note('deadlock', 1, title='A'),
            note('deadlock', 1, 1),
            note('deadlock', 2, title='B'),
            note('deadlock', 2, 2),
            note('deadlock-ended', 3, title='B'),
        )
        begun = hangnotes.lasting(notes, 'deadlock')
        assert begun.title == 'A'
        assert [one.ident for one in hangnotes.threads(notes, begun)] == [1], (
            'threads of B must not be included'
        )

    def test_the_note_of_a_thread_that_python_does_not_know_begins_no_event(self):
        """Older releases left such notes too."""
        spun = numbered(
            note('spinning', 1, title='c spins.'), note('spinning', 1, native_id=5, title='c')
        )
        assert hangnotes.lasting(spun, 'spinning') == spun[0] and hangnotes.threads(
            spun, spun[0]
        ) == [spun[1]]
        over = numbered(*spun, note('spinning-ended', 9, title='c spins.', seconds=8.0))
        assert hangnotes.lasting(over, 'spinning') is None
        assert [hang.lasts for hang in hangnotes.hangs(over, ENDED)] == [False]

    def test_notes_of_other_kinds_do_not_hide_threads_of_a_hang(self):
        notes = numbered(
            LASTING[0],
            note('slow', 100, 99),
            LASTING[1],
            note('deadlock', 100, title='D'),
            LASTING[2],
        )
        begun = hangnotes.lasting(notes)
        assert [one.title for one in hangnotes.threads(notes, begun)] == ['GET /a', 'GET /b']

    def test_of_two_hangs_with_one_title_the_older_one_has_ended(self):
        notes = numbered(
            note('hang', 1, title='x'), note('hang', 2, title='x'), note('hang-ended', 3, title='x')
        )
        assert hangnotes.all_lasting(notes) == [notes[1]] and hangnotes.lasting(notes) == notes[1]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            Note,
            number=st.integers(0, 2**64 - 1),
            time=st.floats(0, 9e10),
            kind=st.sampled_from(blackbox.NOTES),
            ident=st.integers(0, 2),
            native_id=st.integers(0, 2),
            seconds=st.floats(-9e10, 9e10),
            title=st.sampled_from(('', 'a', 'b')),
        ),
        max_size=12,
    )
)
def test_any_notes_are_read_without_an_error(notes):
    """A damaged black box may hold any notes.  No duration is negative."""
    found = hangnotes.hangs(notes, ENDED)
    assert all(hang.seconds >= 0 and (isotime(hang.started) or 'Z').endswith('Z') for hang in found)
    for kind in ('hang', 'deadlock', 'spinning'):
        begun = hangnotes.lasting(notes, kind)
        if begun:
            assert all(one.of_thread for one in hangnotes.threads(notes, begun))
    assert all(to_json(one)['time'] for one in notes)


LOOP = numbered(
    note('hang', 50, title='The loop hangs.'),
    note('hang', 110, 99, title='MainThread', frames=FRAMES),
    note('hang', 110, 16, title='GET /a', request=3),
)


class TestStuck:
    def test_each_thread_appears_once_with_its_newest_note(self):
        both = numbered(
            *LOOP,
            note('hang', 120, title='All hang.'),
            note('hang', 121, 16, title='GET /c', request=4),
            note('hang', 121, native_id=5, title='c'),
        )
        assert [one.title for one in hangnotes.stuck(both)] == ['MainThread', 'GET /c', 'c']

    def test_threads_of_a_hang_come_before_those_of_a_deadlock(self):
        dead = (note('deadlock', 1, title='D'), note('deadlock', 1, 3, title='GET /d'))
        assert [one.title for one in hangnotes.stuck(numbered(*dead, *LOOP))] == [
            'MainThread',
            'GET /a',
        ]
        assert [one.title for one in hangnotes.stuck(numbered(*dead))] == ['GET /d']
        assert hangnotes.stuck(OVER) == []


class TestWords:
    def hung(self, *notes, **values):
        flying = values.pop(
            'in_flight', (request(2, 17, '/b', started=STARTED + 20), request(3, 16, '/a'))
        )
        return traces(
            recording=recording(
                {'hung_since': STARTED + 100},
                notes=notes,
                in_flight=flying,
                samples=(sample(400, overdue=4),),
            ),
            **values,
        )

    def test_a_hang_names_its_duration_its_request_and_its_function(self):
        found = self.hung(*LASTING)
        assert hangsummary.how_long(found) == 'had not been answering for at least 5 min'
        assert hangsummary.where_it_hung(found) == ': GET /b was in render (/site/view.py:7)'

    def test_a_hang_of_the_server_loop_names_no_request(self):
        found = self.hung(*LOOP, context={'role': 'server', 'main_ident': 99})
        assert hangsummary.where_it_hung(found) == ': MainThread was in render (/site/view.py:7)'

    def test_a_hang_of_all_names_the_loop_and_the_oldest_request(self):
        found = self.hung(*numbered(*LOOP, *LASTING), context={'role': 'server', 'main_ident': 99})
        assert hangsummary.where_it_hung(found) == (
            ': MainThread was in render (/site/view.py:7); GET /b was in render (/site/view.py:7)'
        )
        facts = [evidence.fact for evidence in hangsummary.lasting_events(found)]
        assert [fact.partition(';')[0] for fact in facts] == ['The loop hangs', 'All hang']

    def test_a_hang_without_a_known_function_names_its_request(self):
        assert hangsummary.where_it_hung(self.hung()) == ': GET /b'
        assert hangsummary.where_it_hung(self.hung(in_flight=())) == ''
        assert hangsummary.where_it_hung(traces(recording=None)) == ''

    def test_the_stack_that_a_thread_wrote_itself_is_used_first(self):
        stack = b'Stack (most recent call first):\n  File "/c.py", line 3 in hold\n'
        assert (
            hangsummary.where_it_hung(self.hung(stuck={17: mark(text=stack)}))
            == ': GET /b was in hold (/c.py:3)'
        )

    def test_lasting_events_of_each_kind_are_evidence(self):
        notes = numbered(
            *LASTING,
            note('deadlock', 102, title='Deadlock: A and B.'),
            note('spinning', 103, title='MainThread spins.'),
        )
        facts = [evidence.fact for evidence in hangsummary.lasting_events(self.hung(*notes))]
        assert facts == [
            'All hang; it lasted from 2026-09-21 14:15:00 UTC until 2026-09-21 14:20:00 UTC or '
            'later, for at least 5 min.',
            'Deadlock: A and B; it lasted from 2026-09-21 14:15:02 UTC until 2026-09-21 14:20:00 '
            'UTC or later, for at least 4 min 58 s.',
            'MainThread spins; it lasted from 2026-09-21 14:15:03 UTC until 2026-09-21 14:20:00 '
            'UTC or later, for at least 4 min 57 s.',
        ]

    def test_idle_threads_are_no_evidence_and_equal_ones_are_one_sentence(self):
        idle = (
            b'Stack (most recent call first):\n'
            b'  File "/usr/lib/python3.13/threading.py", line 359 in wait\n'
            b'  File "/site/waitress/task.py", line 43 in handler_thread\n'
            b'  File "/usr/lib/python3.13/threading.py", line 994 in run\n'
        )
        busy = b'Stack (most recent call first):\n  File "/c.py", line 3 in hold\n'
        other = b'Stack (most recent call first):\n  File "/d.py", line 4 in wait\n'
        stuck = {1: mark(text=busy), 2: mark(text=idle), 3: mark(text=busy), 4: mark(text=other)}
        flying = tuple(request(number, ident=number) for number in stuck)
        found = self.hung(stuck=stuck, in_flight=flying)
        facts = [
            evidence.fact
            for evidence in hangsummary.evidence_of_hang(found)
            if evidence.source == 'watchdog'
        ]
        assert facts == [
            '2 threads were in hold (/c.py:3): 0x1, 0x3.',
            'Thread 0x4 was in wait (/d.py:4).',
        ]

    def test_slow_requests_in_the_same_place_are_one_sentence(self):
        flying = [request(number, 16 + number, '/a') for number in range(1, 5)]
        notes = []
        for number, path in ((1, '/a'), (2, '/a'), (3, '/a'), (4, '/b')):
            values = {'seconds': 10.0 * number, 'detail': 'waits for ZEO', 'frames': FRAMES}
            title = f'GET {path}'
            notes.append(note('slow', number, 16 + number, title=title, request=number, **values))
        found = self.hung(*numbered(*notes), in_flight=tuple(flying))
        facts = [evidence.fact for evidence in hangsummary.slow_requests(found)]
        assert facts == [
            '3 requests GET /a were slow: when last noted, they had taken 10 s to 30 s and were '
            'in render (/site/view.py:7); waits for ZEO.',
            'GET /b was slow: when last noted, it had taken 40 s and was in render '
            '(/site/view.py:7); waits for ZEO.',
        ]

    @pytest.mark.parametrize('notes', [(), OVER])
    def test_events_that_ended_are_no_evidence(self, notes):
        assert list(hangsummary.lasting_events(self.hung(*notes))) == []
        assert list(hangsummary.lasting_events(traces(recording=None))) == []

    def test_a_note_is_a_sign_of_life_and_no_duration_is_negative(self):
        found = self.hung(*numbered(note('hang', 900, title='All hang.'), note('hang', 960, 16)))
        (evidence,) = hangsummary.lasting_events(found)
        assert evidence.fact.endswith('or later, for at least 1 min.')
        found = self.hung(*numbered(note('hang', 900, title='All hang.'), note('hang', 500, 16)))
        (evidence,) = hangsummary.lasting_events(found)
        assert evidence.fact.endswith('or later, for at least 0 s.')
