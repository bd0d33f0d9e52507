"""No record is torn or lost, whenever the process is killed, and a busy site that is stopped was
stopped.  `make storm` kills a thousand times, and stops as often.
"""

import copy
import dataclasses
import struct

import busy_site
import pytest
import storm
import storm_of_stops
from programs import storm_program


@pytest.mark.slow
def test_a_killed_recorder_loses_and_tears_no_record():
    totals = storm_program.storm(kills=600, seconds=30)
    assert (totals['torn'], totals['lost']) == ([], [])
    assert totals['kills'] > 50 and totals['kept'] > totals['kills'] and totals['between'] > 0


@pytest.mark.slow
@pytest.mark.zope
def test_a_killed_zope_loses_and_tears_no_record():
    counts, torn, lost = storm.storm(kills=25, jobs=2)
    assert (torn, lost) == ([], [])
    assert counts['kills'] == 25
    assert (
        counts['answered'] > 250
        and counts['finished'] >= counts['answered'] / 2
        and counts['flying'] > 12
    )


@pytest.mark.slow(90)
@pytest.mark.zope
def test_a_busy_zope_that_is_stopped_and_started_again_was_stopped():
    counts, faults = storm_of_stops.run(ends=10, jobs=2)
    assert faults == []
    recorded = counts.pop('recorded')
    assert sum(counts.values()) == 10 and recorded > 5 and len(counts) > 3


@pytest.mark.slow(60)
@pytest.mark.zope
def test_a_site_whose_workers_are_busy_for_long_does_not_hang(tmp_path):
    """`busy_site.py` does it for ten minutes."""
    outcome = busy_site.keep_busy(tmp_path, seconds=25, stall=6)
    assert busy_site.wrong(outcome) == [], outcome
    assert outcome.busy_share > 0.7 and outcome.export > 12 and outcome.failed == 0
    assert outcome.longest_wait > 0.5


class TestTheCheckOfStops:
    """A storm that misses a stop which is taken for something else would prove nothing."""

    @pytest.mark.parametrize(
        'way, verdict, is_fault',
        [
            ('SIGTERM', 'stopped', False),
            ('SIGTERM', 'vanished', True),
            ('SIGINT, early', 'startup-failed', True),
            ('SIGINT, then SIGKILL', 'vanished', False),
            ('SIGINT, then SIGKILL', 'hung', True),
            ('SIGKILL', 'vanished', False),
            ('SIGKILL', 'hung', True),
            ('SIGKILL', 'stopped', True),
            ('SIGKILL, early', 'startup-failed', False),
        ],
    )
    def test_a_wrong_verdict_is_a_fault(self, way, verdict, is_fault):
        record = {'verdict': verdict, 'confidence': 'likely', 'summary': '', 'hangs': []}
        assert bool(storm_of_stops.faults(way, record)) == is_fault

    @pytest.mark.parametrize('kind, is_fault', [('hang', True), ('saturated', False)])
    def test_a_hang_is_a_fault(self, kind, is_fault):
        hang = {'kind': kind, 'summary': ''}
        record = {'verdict': 'stopped', 'confidence': 'likely', 'summary': '', 'hangs': [hang]}
        assert bool(storm_of_stops.faults('SIGTERM', record)) == is_fault

    def test_only_an_early_end_may_leave_no_record(self):
        assert storm_of_stops.faults('SIGTERM', None) and storm_of_stops.faults('SIGKILL', None)
        assert not storm_of_stops.faults('SIGTERM, early', None)

    def test_what_a_busy_site_must_not_have_is_found(self):
        good = busy_site.Outcome(40, events={'saturated': 1}, statuses={0: 9}, verdict='stopped')
        assert busy_site.wrong(good) == []
        for change in (
            {'events': {'saturated': 1, 'hang': 1}},
            {'events': {}},
            {'findings': ['Something is wrong.']},
            {'statuses': {0: 8, 1: 1}},
            {'is_incident': True},
        ):
            assert len(busy_site.wrong(dataclasses.replace(good, **change))) == 1


class TestTheCheck:
    """A storm that misses a damaged record would prove nothing."""

    @pytest.fixture
    def life(self, tmp_path):
        """Six requests: one answered, one ended but not answered, one in its method, one not begun,
        and two probes.
        """
        book = {n: storm.Sent(n, f'/storm/{n}/page', 'GET', 200, 1000.0 + n) for n in (1, 2, 3, 4)}
        book |= {n: storm.Sent(n, storm.PROBE, 'GET', 200, 1000.0 + n) for n in (5, 6)}
        for number in (1, 5):
            book[number].answered = 1020.0
        events = 'B1 B2 B3 B5 E1 E2 E5 B6'.split()
        journal = tmp_path / 'journal'
        journal.write_bytes(
            b''.join(struct.pack('=cxxxxxxxQ', e[0].encode(), int(e[1])) for e in events)
        )
        return storm.Life(77, 1030.0, book, journal)

    @pytest.fixture
    def record(self):
        def line(path, thread='', phase='publishing', **more):
            return {
                'path': path,
                'method': 'GET',
                'cut': False,
                'count': 1,
                'status': 200,
                'phase': phase,
                'thread': thread,
                'started': '1970-01-01T00:16:50.000Z',
                'ended': None,
            } | more

        over = {'ended': '1970-01-01T00:16:51.000Z'}
        return {
            'verdict': 'vanished',
            'counters': {'requests_without_slot': 0},
            'requests': [line('/storm/3/page', 'a'), line(storm.PROBE, 'b')],
            'recent': [
                line('/storm/2/page', **over),
                line(storm.PROBE, **over),
                line('/storm/1/page', **over),
            ],
        }

    def test_a_complete_record_passes(self, record, life):
        check = storm.Check(record, life)
        assert (check.torn, check.lost) == ([], [])

    def test_an_ended_but_unanswered_request_may_still_be_in_flight(self, record, life):
        record['requests'].append(record['recent'].pop(0) | {'ended': None, 'thread': 'c'})
        check = storm.Check(record, life)
        assert (check.torn, check.lost, check.between) == ([], [], 1)

    @pytest.mark.parametrize(
        'part, index',
        [('requests', 0), ('requests', 1), ('recent', 0), ('recent', 1), ('recent', 2)],
    )
    def test_a_lost_line_is_detected(self, record, life, part, index):
        del record[part][index]
        assert storm.Check(record, life).lost

    @pytest.mark.parametrize(
        'part, index, change',
        [
            ('requests', 0, {'path': '/storm/3/pag'}),
            ('requests', 0, {'path': '/storm/99/page'}),
            ('requests', 0, {'method': 'POST'}),
            ('requests', 0, {'cut': True}),
            ('requests', 0, {'phase': 'idle'}),
            ('requests', 0, {'phase': 'traversing'}),
            ('requests', 0, {'thread': 'b'}),
            ('requests', 0, {'started': '1970-01-01T00:16:00.000Z'}),
            ('recent', 0, {'status': 404}),
            ('recent', 0, {'path': '/storm/3/page'}),
            ('recent', 0, {'path': '/storm/1/page'}),
            ('recent', 0, {'count': 2}),
            ('recent', 0, {'ended': '1970-01-01T00:16:49.000Z'}),
            ('recent', 1, {'count': 2}),
        ],
    )
    def test_a_torn_line_is_detected(self, record, life, part, index, change):
        record[part][index] |= change
        assert storm.Check(record, life).torn

    def test_an_answered_request_in_flight_is_torn(self, record, life):
        record['requests'].append(
            copy.copy(record['recent'].pop(2)) | {'ended': None, 'thread': 'c'}
        )
        assert storm.Check(record, life).torn
