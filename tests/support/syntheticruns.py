"""Invented traces, records and dead runs for tests."""

import json
import os

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.records import Request
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.postmortem import faultlog
from Products.StabilityMonitor.postmortem.evidence import Mark
from Products.StabilityMonitor.postmortem.evidence import Traces
from Products.StabilityMonitor.postmortem.evidence import World
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store import corerecords
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity
from Products.StabilityMonitor.threads.locks import Deadlock
from Products.StabilityMonitor.threads.snapshot import Observation

STARTED = 1_790_000_000.25
HERE = Instance('here', '/home/zope/var', '127.0.0.1:8080')
WORKER = 0x7F0000000010

SEGFAULT = b"""Fatal Python error: Segmentation fault

Thread 0x00007f0000000020 (most recent call first):
  File "/lib/threading.py", line 324 in wait

Current thread 0x00007f0000000010 (most recent call first):
  File "/site/bad.py", line 7 in crash
  File "/site/page.py", line 12 in view

Extension modules: lxml.etree, _cffi_backend (total: 2)
"""
FATAL_ERROR = SEGFAULT.replace(
    b'Segmentation fault\n', b'take: the GIL is gone\nPython runtime state: initialized\n'
)
#: Python 3.14 meets a thread that ends while it writes the dump, and stops there.
CUT_FATAL_ERROR = (
    b'Fatal Python error: take: the GIL is gone\nPython runtime state: initialized\n\n'
    b'<freed thread state>\n\nExtension modules: lxml.etree (total: 1)\n'
)


def overflow(frames=100):
    """Return the dump of a runaway recursion."""
    return (
        SEGFAULT.partition(b'Thread')[0]
        + b'Current thread 0x00007f0000000010 (most recent call first):\n'
        + (b'  File "/site/deep.py", line 3 in deeper\n' * frames)
    )


def dump(text):
    return faultlog.first_fatal(faultlog.parse(text))


def request(number=1, ident=WORKER, path='/page', **values):
    return Request(
        **{
            'number': number,
            'ident': ident,
            'native_id': 7,
            'method': 'GET',
            'path': path,
            'started': STARTED + 50,
            'phase': 'publishing',
            **values,
        }
    )


def sample(after=60.0, **values):
    return Sample(
        **{
            'time': STARTED + after,
            'monotonic': 1000 + after,
            'rss': 200 << 20,
            'workers': 4,
            **values,
        }
    )


def note(kind, after=60.0, ident=0, **values):
    """Return a note about a thread, or with ident 0 about an event."""
    return Note(**{'number': 0, 'time': STARTED + after, 'kind': kind, 'ident': ident, **values})


def recording(words=(), served=1, unmarked=(), **values):
    """Return the content of a black box; by default of a server that has served one request.

    `unmarked` are the signals that leave no mark.
    """
    stamps = {'armed': STARTED + 1, 'serving': STARTED + 2} | dict(words)
    finished = tuple(request(n + 1, ended=STARTED + 9, seconds=0.1) for n in range(served))
    return blackboxreader.Recording(
        **{
            'words': dict.fromkeys(blackbox.WORDS, 0)
            | {name: int(time * 1e9) for name, time in stamps.items()}
            | {'unmarked': blackbox.bits_of(unmarked)},
            'survived': dict.fromkeys(blackbox.MARKS, 0),
            'exception': '',
            'in_flight': (),
            'finished': finished,
            'log': (),
            'samples': (sample(),),
            'threads': {},
            **values,
        }
    )


def mark(after=60.0, text=b''):
    return Mark(STARTED + after, faultlog.parse(text))


def traces(**values):
    """Return all that is known of a dead run; by default it left no trace of its end."""
    return Traces(
        **{
            'run': '20260921T133320Z-4711-abcd',
            'started': STARTED,
            'pid': 4711,
            'context': {'role': 'server', 'main_ident': 0x7F0000000020},
            'loaded': {},
            'recording': recording(),
            'damage': '',
            'fault': None,
            'fault_time': 0.0,
            'marks': {},
            'hang': None,
            'stderr_fault': None,
            'stderr_readable': True,
            'cgroup_kills': 0,
            'host_kills': 0,
            'kernel_line': '',
            'same_boot': True,
            'same_machine': True,
            'boot_time': STARTED - 9999,
            **values,
        }
    )


def faulty(text=SEGFAULT, **values):
    return traces(fault=dump(text), fault_time=STARTED + 60, **values)


def record(number=0, verdict='stopped', after=None, **values):
    """Return an archived run; a higher number started later."""
    started = STARTED + (number * 3600 if after is None else after)
    return RunRecord(
        **{
            'run': new_name(started, 100 + number),
            'instance': HERE,
            'pid': 100 + number,
            'started': started,
            'ended': started + 60,
            'uptime_seconds': 60.0,
            'verdict': verdict,
            'confidence': 'certain',
            'summary': f'It ended: {verdict}.',
            'number': max(1, number + 1),
            **values,
        }
    )


class DeadRun:
    """A dead run on disk below `base`, as left by a server of the instance HERE; `path` is its
    directory.  With `counted` it has the next number, else that of its order.
    """

    def __init__(self, base, number=0, role='server', counted=False, **context):
        self.started = STARTED + number * 3600
        self.name = new_name(self.started, 100 + number)
        gone = identity() | {'pid': 100 + number, 'start_ticks': 1}
        directory = Base(base).create(
            self.name,
            {
                'format': 1,
                'identity': gone,
                'role': role,
                'started': self.started,
                'main_ident': 0x7F0000000020,
                'instance': to_json(HERE),
                **context,
            },
        )
        directory.abandon()
        self.path = directory.path
        if not counted:
            self.change(number=max(1, number + 1))

    def box(self, write=lambda recorder: None):
        """Write a black box; `write` uses its recorder before."""
        recorder = Recorder(bytearray(blackbox.SIZE))
        blackbox.lay_out(recorder.buffer)
        blackbox.seal(recorder.buffer)
        write(recorder)
        (self.path / BLACKBOX).write_bytes(recorder.buffer)
        return self

    def served(self):
        def write(recorder):
            recorder.stamp('armed', self.started + 1)
            recorder.stamp('serving', self.started + 2)
            recorder.begin('GET', '/served', _now=lambda: self.started + 3)
            recorder.end(200, _now=lambda: self.started + 4)

        return self.box(write)

    def marked(self, name, data, size=1024):
        (self.path / f'{name}.mark').write_bytes(data.ljust(size, b'\0'))
        os.utime(self.path / f'{name}.mark', (self.started + 60, self.started + 60))
        return self

    def crashed(self):
        return self.served().marked('faults', SEGFAULT)

    def change(self, **context):
        path = self.path / 'context.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | context))
        return self


def quiet_world(folder):
    """Return a system that reports nothing."""
    return World(
        now=STARTED,
        proc=folder / 'proc',
        kernel_log=folder / 'kmsg',
        machine_id=folder / 'machine-id',
        root=folder / 'root',
    )


def observed(states, known=False, possible=False):
    """Return an Observation of these ThreadStates; threads that wait for each other are
    deadlocked.
    """
    states = tuple(states)
    by_ident, found = {state.ident: state for state in states}, {}
    for ident in by_ident:
        cycle = _way_back(ident, by_ident)
        found.setdefault(frozenset(cycle), cycle)
    return Observation(
        states, tuple(Deadlock(cycle, (), known, possible) for cycle in found.values() if cycle)
    )


def _way_back(ident, by_ident):
    """Return the shortest cycle from a thread over the threads that it waits for back to itself, or
    ().
    """
    came_from, queue = {}, [ident]
    for waiting in queue:
        for holder in by_ident[waiting].holders:
            if holder in by_ident and holder not in came_from:
                came_from[holder] = waiting
                queue.append(holder)
    way = [came_from.get(ident)]
    while way[0] not in (None, ident):
        way.insert(0, came_from[way[0]])
    return tuple(way) if way[0] is not None else ()


def keep_core(stability, run, core):
    """Leave what a core file told beside the record of an archived run, as its reader does."""
    base = Base(stability)
    seen = Witness(source='core', time=core.time, fact='There is a core file.', core_dumped=True)
    witnessfiles.add(base, run, seen)
    corerecords.add(base, run, core, corerecords.Stamp())
