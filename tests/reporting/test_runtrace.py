"""The trace log of any run: living, dead and not judged, archived, damaged, or unknown."""

import os
import time

import pytest
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record
from support.tracelogs import GRAMMAR
from support.tracelogs import profile

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.reporting import runtrace
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def serve(recorder):
    """Record three requests, two of them equal in a row, and one that is in flight."""
    for path in ('/a b', '/probe', '/probe'):
        recorder.begin('GET', path)
        recorder.end(200)
    recorder.begin('POST', '/last', retry=2)


@pytest.fixture
def living(base):
    """The run of this process."""
    run = base.create(
        new_name(time.time() - 9, os.getpid()), {'identity': identity(), 'role': 'server'}
    )
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    serve(recorder)
    (run.path / BLACKBOX).write_bytes(recorder.buffer)
    yield run.path
    run.abandon()


def trace(base, run):
    made = list(runtrace.trace(base, run))
    assert all(GRAMMAR.fullmatch(line) for line in made), made
    return made


def requests(made):
    """[(method, path, status, has ended)], as an old program reads them."""
    found, complaints = profile(made)
    assert complaints == 0
    return [(r['method'], r['url'], r.get('code'), r['end'] is not None) for r in found]


EXPECTED = [
    ('GET', r'/a\x20b', '200', True),
    ('GET', '/probe', '200', True),
    ('POST', '/last', None, False),
]


def test_the_trace_log_of_a_living_run_ends_with_requests_in_flight(base, living):
    made = trace(base, living.name)
    assert (
        requests(made) == EXPECTED
        and made[0].startswith('U - ')
        and made[0].endswith(f' {living.name}')
    )
    assert ' is in flight for ' in made[-1]


def test_a_living_run_without_a_black_box_on_disk_is_an_error(base, living):
    (living / BLACKBOX).unlink()
    with pytest.raises(
        runtrace.NoBlackBox,
        match=f'{living.name} has no black box on disk. The page',
    ):
        trace(base, living.name)


def test_a_damaged_black_box_of_a_living_run_is_an_error(base, living):
    (living / BLACKBOX).write_bytes(b'nonsense')
    with pytest.raises(UnreadableRecord):
        trace(base, living.name)


def test_the_trace_log_of_a_dead_run_is_the_same_before_and_after_triage(base, tmp_path):
    run = DeadRun(base.path).box(serve).marked('faults', b'Fatal Python error: Aborted\n')
    waiting = trace(base, run.name)
    assert requests(waiting) == EXPECTED and run.path.is_dir()
    assert waiting[-1].endswith(' the process ended: aborted, certain')
    triage(base, world=quiet_world(tmp_path))
    assert not run.path.exists() and trace(base, run.name) == waiting


def test_the_archive_loses_nothing_of_a_request(base, living, tmp_path):
    """Except the order of events within one millisecond, which a record does not keep."""
    made, run = trace(base, living.name), DeadRun(base.path)
    (run.path / BLACKBOX).write_bytes((living / BLACKBOX).read_bytes())
    triage(base, world=quiet_world(tmp_path))
    archived = trace(base, run.name)
    assert sorted(line for line in archived if line[0] in 'BAE') == sorted(
        line for line in made if line[0] in 'BAE'
    )
    assert archived[-2].rpartition(' is in flight ')[0].endswith(made[-1].split()[3])


def test_the_request_that_crashed_is_named(base):
    run = DeadRun(base.path).box(serve)
    ident = next(iter(runtrace.load(run.path / BLACKBOX).threads))
    run.marked(
        'faults',
        b'Fatal Python error: Segmentation fault\n\nCurrent thread 0x%016x (most recent call '
        b'first):\n  File "/x.py", line 1 in f\n' % ident,
    )
    in_flight, end = trace(base, run.name)[-2:]
    assert in_flight.endswith(', the crash was in it') and end.endswith(
        ' the process ended: crashed, certain'
    )


@pytest.mark.parametrize('millisecond', range(0, 1000, 37))
def test_times_are_the_times_of_the_record(millisecond):
    moment = f'2026-11-23T07:45:01.{millisecond:03d}Z'
    document = record().to_json() | {'requests': [{'started': moment}]}
    made = list(runtrace.of_record(RunRecord.from_json(document)))
    assert moment in [line.split()[2] for line in made if line[0] == 'B']


@pytest.mark.parametrize('run', ['', 'nonsense', '../archive', '20200101T000000Z-1-abcd'])
def test_an_unknown_run_is_an_error(base, run):
    with pytest.raises(NoSuchRun, match=f'There is no archived run {run!r}.'):
        trace(base, run)


@pytest.mark.parametrize(
    'nonsense',
    [
        None,
        5,
        'x',
        [None, 5, {}],
        [{'started': 'x'}],
        [{'started': '0001-01-01T00:00:00Z'}],
        [
            {
                'started': '2026-11-23T07:45:01.123Z',
                'seconds': float('nan'),
                'number': -5,
                'ident': -1,
                'status': True,
                'count': 'x',
                'method': 7,
                'path': '\n',
                'ended': 5,
                'user': 'a b',
                'last_number': 1 << 99,
            }
        ],
    ],
)
def test_a_damaged_record_gives_only_valid_lines(base, nonsense):
    document = record(1, recent=(), requests=()).to_json() | {
        'recent': nonsense,
        'requests': nonsense,
    }
    made = list(
        runtrace.of_record(
            RunRecord.from_json(document | {'counters': {'requests_without_slot': 'x'}})
        )
    )
    assert all(GRAMMAR.fullmatch(line) for line in made), made
    assert made[-1].endswith(' the process ended: stopped, certain')


# -- which one -------------------------------------------------------------------------------------


def archived(base, *records):
    for each in records:
        (base.runs / each.run).mkdir()
        Archive(base).add(base.runs / each.run, each)
    return [each.run for each in records]


def test_newest_without_any_run_is_an_error(base):
    with pytest.raises(NoSuchRun, match='No run has been recorded here yet.'):
        runtrace.newest(base)


def test_newest_is_the_living_server_or_the_last_one(base):
    (script,) = archived(base, record(9, 'unhandled-exception', role='script'))
    assert runtrace.newest(base) == script
    old, new = archived(base, record(0), record(2, 'crashed'))
    assert runtrace.newest(base) == new
    waiting = DeadRun(base.path, 3)
    DeadRun(base.path, 4, role='script')
    assert runtrace.newest(base) == waiting.name
    living = base.create(new_name(1e9, os.getpid()), {'identity': identity(), 'role': 'server'})
    assert runtrace.newest(base) == living.path.name
    living.abandon()
