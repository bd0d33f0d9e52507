"""The values that rooms pass to each other: they survive JSON, and any file can be read."""

import json
from dataclasses import fields
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.contract import RUN

from Products.StabilityMonitor.model import records
from Products.StabilityMonitor.model import runrecord
from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.records import Evidence
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.severities import OK
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import ThreadState

RECORD = RunRecord(
    '20261123T074501Z-17-beef',
    Instance('host', '/srv/zope', '0.0.0.0:8080'),
    pid=17,
    started=1795419901.0,
    verdict='crashed',
    confidence='certain',
    signal='SIGSEGV',
    evidence=(Evidence('fault log', 'It says so.'),),
    ruled_out=('killed: no',),
    requests=(
        records.Request(
            3, 7, 8, 'GET', '/ü', 1795419905.5, 'publishing', seconds=2.5, crashed=True
        ),
    ),
    threads=(ThreadState(7, 'MainThread', True, (records.Frame('/a.py', 1, 'f'),)),),
    samples=(records.Sample(1795419905.0, 77.5, rss=1),),
    curve=(records.LifePoint(1795419905.0, 77.5, rss=1, peak=2),),
    log=(records.LogLine(1795419906.0, 'ERROR', 'site', 'It fails.', 7),),
    hangs=(Event('hang', 1795419902.0, seconds=4.0, summary='All hang.', number=2),),
    known_issues=(runrecord.KnownIssue('a', 'An issue', matched=('version: x',)),),
    counters={'overflow': 0},
    compiled_modules=('a._b',),
    context={'python': '3'},
    findings=(Finding('x', WARNING, 'Something is off.'),),
)
HEAVY = {
    'threads',
    'native',
    'samples',
    'curve',
    'log',
    'recent',
    'notes',
    'compiled_modules',
    'core',
    'shared_objects',
    'context',
}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


class TestTimes:
    @pytest.mark.parametrize(
        'seconds, text',
        [
            (0, '1970-01-01T00:00:00.000Z'),
            (1795419901.1239, '2026-11-23T07:45:01.123Z'),
            (0.9999, '1970-01-01T00:00:00.999Z'),
        ],
    )
    def test_isotime_is_utc_with_milliseconds(self, seconds, text):
        assert records.isotime(seconds) == text
        assert records.from_isotime(text) == pytest.approx(seconds, abs=0.001)

    @pytest.mark.parametrize('seconds', [None, float('nan'), float('inf'), 1e30, -1e30, 'x', []])
    def test_isotime_of_nonsense_is_none(self, seconds):
        assert records.isotime(seconds) is None

    @pytest.mark.parametrize(
        'text', [None, '', 'yesterday', 17, [], '2026-13-01T00:00:00Z', '0001-01-01T00:00:00']
    )
    def test_from_isotime_of_nonsense_does_not_raise(self, text):
        result = records.from_isotime(text)
        assert result is None or isinstance(result, float)

    @given(st.floats(0, 4e9))
    def test_a_time_survives_isotime_and_from_isotime(self, seconds):
        assert records.from_isotime(records.isotime(seconds)) == pytest.approx(seconds, abs=0.0011)


@pytest.mark.parametrize(
    'ended, status, answer',
    [(None, 0, ''), (1795419906.0, 200, '200'), (1795419906.0, 0, 'no answer')],
)
def test_a_request_that_ended_without_a_status_got_no_answer(ended, status, answer):
    request = replace(RECORD.requests[0], ended=ended, status=status)
    assert request.answer == answer


class TestRunRecord:
    def test_a_record_has_all_promised_keys(self):
        assert RUN <= set(RECORD.to_json())

    def test_a_record_survives_json(self):
        assert RunRecord.from_json(json.loads(json.dumps(RECORD.to_json()))) == RECORD

    def test_keys_of_a_later_release_are_ignored(self):
        document = json.loads(json.dumps(RECORD.to_json())) | {'invented_later': [1]}
        document['instance']['invented_later'] = 'x'
        document['evidence'][0]['invented_later'] = 'x'
        assert RunRecord.from_json(document) == RECORD

    def test_values_of_the_wrong_type_count_as_missing(self):
        damaged = {
            'run': 'x',
            'uptime_seconds': 'long',
            'signal': 5,
            'verdict': None,
            'context': [],
            'requests': [5, {'method': 3, 'path': '/x'}],
            'threads': [{'frames': [1, {'file': 'f'}]}],
        }
        read = RunRecord.from_json(damaged)
        assert (read.uptime_seconds, read.signal, read.verdict, read.context) == (
            None,
            None,
            'unreadable',
            {},
        )
        assert [(r.method, r.path) for r in read.requests] == [('', '/x')]
        assert read.threads[0].frames == (records.Frame('f', None, ''),)

    def test_keys_that_an_earlier_release_did_not_write_have_defaults(self):
        assert RunRecord.from_json({'run': 'x'}) == RunRecord('x')

    @pytest.mark.parametrize('document', [None, [], 'x', 17, {}, {'run': 7}, {'instance': {}}])
    def test_a_document_that_is_not_a_record_is_an_error(self, document):
        with pytest.raises(ValueError):
            RunRecord.from_json(document)

    @given(st.dictionaries(st.sampled_from(sorted(RUN)), anything))
    @settings(max_examples=300, deadline=None)
    def test_a_damaged_file_gives_a_record_or_valueerror(self, document):
        record = RunRecord.from_json(document | {'run': 'x'})
        assert isinstance(record.instance, Instance) and isinstance(record.instance.label, str)
        for item in record.evidence:
            assert isinstance(item.source, str) and isinstance(item.fact, str)
        for key in ('ruled_out', 'candidates', 'requests', 'threads', 'suspects', 'samples', 'log'):
            assert isinstance(getattr(record, key), tuple)

    def test_a_summary_omits_only_the_large_parts(self):
        assert set(RECORD.to_json()) - set(RECORD.summary_json()) == HEAVY
        assert 'frames' not in json.dumps(RECORD.summary_json())

    @pytest.mark.parametrize(
        'verdict, is_incident',
        [
            ('crashed', True),
            ('vanished', True),
            ('hung', True),
            ('startup-failed', True),
            ('signalled', True),
            ('unreadable', True),
            ('killed', True),
            ('exited', True),
            ('stopped', False),
            ('host-restarted', False),
            ('running', False),
        ],
    )
    def test_only_unwanted_ends_are_incidents(self, verdict, is_incident):
        assert replace(RECORD, verdict=verdict).is_incident is is_incident


@pytest.mark.parametrize(
    'value',
    [
        RECORD,
        RECORD.instance,
        RECORD.evidence[0],
        records.Frame('f', 1, 'g'),
        Finding('a', OK, 'b'),
        Action('Write `x`.'),
        Action('Write `x`.').pieces[0],
    ],
)
def test_values_are_frozen(value):
    with pytest.raises(AttributeError):
        setattr(value, fields(value)[0].name, 'x')


@pytest.mark.parametrize(
    'instance, label',
    [
        (Instance('h', '/srv', '80'), '/srv on h (80)'),
        (Instance('h', '/srv'), '/srv on h'),
        (Instance(), '? on ?'),
    ],
)
def test_a_label_names_client_home_host_and_address(instance, label):
    assert instance.label == label
