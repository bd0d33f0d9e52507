"""The last requests as a trace log: old programs can read it, and losses are noted."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.syntheticruns import STARTED
from support.syntheticruns import WORKER
from support.syntheticruns import request
from support.tracelogs import GRAMMAR
from support.tracelogs import TIME
from support.tracelogs import profile

from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.recording.tracelog import escaped
from Products.StabilityMonitor.recording.tracelog import stamp
from Products.StabilityMonitor.reporting import tracetext
from Products.StabilityMonitor.reporting.redaction import NOTHING
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'trace-log.txt'


def unescaped(word):
    """The reverse of the escaping that docs/trace-log.txt describes."""
    if word == '-':
        return ''
    return re.sub(r'\\(x..|u.{4}|U.{8})', lambda found: chr(int(found[1][1:], 16)), word)


def done(number=1, path='/page', seconds=0.5, status=200, **values):
    """A finished request for these tests."""
    began = values.setdefault('started', STARTED + number)
    values.setdefault('ended', began + seconds)
    return request(
        number,
        path=path,
        seconds=seconds,
        status=status,
        last_number=values.pop('last', number),
        **values,
    )


def lines(finished=(), in_flight=(), now=STARTED + 100, **named):
    made = list(tracetext.trace_lines(finished, in_flight, now, **named))
    assert all(GRAMMAR.fullmatch(line) for line in made), made
    return made


class TestLines:
    def test_a_finished_request_has_begin_answer_and_end(self):
        assert lines([done(1, '/a', 0.25, 404, retry=1)]) == [
            f'B 1@0x{WORKER:016x} {isotime(STARTED + 1)} GET /a',
            f'A 1@0x{WORKER:016x} {isotime(STARTED + 1.25)} 404 -',
            f'E 1@0x{WORKER:016x} {isotime(STARTED + 1.25)} seconds=0.250000 native=7 retry=1',
        ]

    def test_a_request_in_flight_has_a_note(self):
        begin, note = lines([], [request(1, started=STARTED + 90)])
        assert begin.startswith('B 1@') and note.startswith(f'N - {isotime(STARTED + 100)} 1@0x')
        assert note.endswith('has been in progress for 10.000 s, publishing')

    def test_the_request_that_crashed_is_noted(self):
        assert lines([], [request(1, crashed=True)])[-1].endswith(', the crash was in it')

    def test_lines_are_sorted_by_time(self):
        made = lines(
            [done(1, '/long', 10), done(2, '/short', 1)],
            [request(3, path='/last', started=STARTED + 4)],
        )
        order = [(line[0], line[2]) for line in made if line[0] != 'N']
        assert order == [
            ('B', '1'),
            ('B', '2'),
            ('A', '2'),
            ('E', '2'),
            ('B', '3'),
            ('A', '1'),
            ('E', '1'),
        ]
        assert [line.split()[2] for line in made] == sorted(line.split()[2] for line in made)

    def test_a_request_of_zero_duration_begins_before_it_ends(self):
        assert [line[0] for line in lines([done(1, seconds=0.0)])] == ['B', 'A', 'E']

    def test_equal_requests_share_lines_with_a_count(self):
        *_, end = made = lines([done(1, '/probe', 0.125, ended=STARTED + 60, count=42, last=42)])
        assert [line[0] for line in made] == ['B', 'A', 'E']
        assert end.split()[2] == isotime(STARTED + 1.125)
        assert end.endswith(
            f'seconds=0.125000 native=7 count=42 last=42 until={isotime(STARTED + 60)}'
        )

    def test_the_start_and_notes_on_lost_requests_come_first(self):
        made = lines(
            [done(8), done(9, count=2, last=10)],
            [request(12)],
            started=STARTED,
            run='a-run',
            overflow=3,
        )
        assert made[:3] == [
            f'U - {isotime(STARTED)} a-run',
            f'N - {isotime(STARTED + 8)} 8 of 12 requests are missing: the ring holds only the '
            'last ones',
            f'N - {isotime(STARTED + 8)} 3 requests were not recorded: all slots were taken',
        ]

    def test_without_lost_requests_there_is_no_note(self):
        assert not [
            line for line in lines([done(1), done(2), done(3, count=3, last=5)]) if line[0] == 'N'
        ]

    def test_without_requests_there_are_no_lines(self):
        assert lines() == []

    def test_the_name_of_a_user_is_one_word(self):
        with_users = lines([done(1, user='Jörg O. \n')], policy=NOTHING)
        assert with_users[-1].endswith(r' user=Jörg\x20O.\x20\x0a')

    def test_a_path_that_was_cut_is_marked(self):
        assert lines([done(1, '/long', cut=True)])[0].endswith(r' /long\...')

    def test_lines_become_utf8_with_unencodable_characters_escaped(self):
        assert tracetext.as_text(['a', 'ü\udcff']) == 'a\nü\\udcff\n'.encode()


class TestWords:
    @pytest.mark.parametrize(
        'word, written',
        [
            ('/a/b', '/a/b'),
            ('', '-'),
            ('-', r'\x2d'),
            ('/a b', r'/a\x20b'),
            ('/a\nB 1', r'/a\x0aB\x201'),
            ('\\x20', r'\x5cx20'),
            ('/ä/日本', '/ä/日本'),
            ('\xa0\u2028\x85', r'\xa0\u2028\x85'),
            ('\U000e0001', r'\U000e0001'),
            ('\udcff', r'\udcff'),
            ('\x1b[2J', r'\x1b[2J'),
            ('\u202e', r'\u202e'),
        ],
    )
    def test_special_characters_are_escaped(self, word, written):
        assert escaped(word) == written

    @given(st.text(st.characters(), max_size=40))
    def test_escaping_is_reversible_and_keeps_one_word(self, word):
        assert escaped(word).split() == [escaped(word)] and escaped(word).isprintable()
        assert unescaped(escaped(word)) == word

    @given(st.floats(0, 1e11))
    def test_times_are_the_times_of_the_report(self, seconds):
        ours, theirs = stamp(seconds), isotime(seconds)
        assert (
            ours[:19] == theirs[:19] or abs(seconds - round(seconds)) < 1e-3
        )  # fromtimestamp rounds
        assert re.fullmatch(TIME, ours)


class TestOldPrograms:
    def test_requestprofiler_reads_it(self):
        made = lines(
            [done(3, '/a b', 2, 500), done(4, '/p', count=9, last=12, ended=STARTED + 80)],
            [request(13, method='POST', path='')],
            started=STARTED,
            run='r',
            overflow=2,
        )
        requests, complaints = profile(made)
        assert complaints == 0
        assert [
            (r['method'], r['url'], r.get('code'), r['end'] and r['end'] - r['start'])
            for r in requests
        ] == [('GET', r'/a\x20b', '500', 2), ('GET', '/p', '200', 0), ('POST', '-', None, None)]

    def test_older_programs_read_the_trace_log_of_a_real_black_box(self):
        buffer = bytearray(blackbox.SIZE)
        recorder = Recorder(buffer)
        blackbox.lay_out(buffer)
        blackbox.seal(buffer)
        for number in range(400):
            recorder.begin('GET', f'/page {number % 7}')
            recorder.end(200)
        recorder.begin('POST', '/now')
        box = blackboxreader.read(bytes(buffer))
        made = lines(box.finished, box.in_flight, time.time(), started=time.time() - 9, run='x')
        kept = 400 - int(re.search(r'(\d+) of 401 requests are missing', '\n'.join(made))[1])
        requests, complaints = profile(made)
        assert kept == len(box.finished) == len(requests) - 1 > 200 and complaints == 0
        assert requests[-1]['url'] == '/now' and requests[-1]['end'] is None


def test_the_example_in_the_documentation_is_valid():
    example = re.findall(r'^    ([UBAEN] .*)$', DOCUMENT.read_text('utf-8'), re.MULTILINE)
    assert len(example) == 6 and [line for line in example if not GRAMMAR.fullmatch(line)] == []


@given(st.text(max_size=400))
def test_any_text_gives_only_valid_lines(text):
    lines(
        [done(1, text, method=text or 'GET', user=text)],
        [request(2, path=text)],
        run=text.strip() or '',
    )
