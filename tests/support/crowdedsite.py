"""A site whose pages show all that they can show: incidents, a crash loop, a deadlock, slow
requests, findings, muted findings, charts and drills.
"""

import json
import socket
import time
from dataclasses import replace

from Products.StabilityMonitor.knowledge.signedruns import SignedRuns
from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.records import Evidence
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.records import LifePoint
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.runrecord import KnownIssue
from Products.StabilityMonitor.model.snapshotrecord import BY_KERNEL
from Products.StabilityMonitor.model.suspects import CULPRIT
from Products.StabilityMonitor.model.suspects import DeathClass
from Products.StabilityMonitor.model.suspects import Suspect
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.snapshotfiles import Snapshots
from support import stacksdocuments
from support.snapshots import snapshot
from support.syntheticruns import STARTED
from support.syntheticruns import keep_core
from support.syntheticruns import note
from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample

OPTIONS = {'drills': 'on', 'sample-interval': '0.1s'}
#: Shows the stacks of a test instead of those of this process.
SOURCE = """
def pretend(self, document, stacks):
    import json
    from types import SimpleNamespace
    from Products.StabilityMonitor.recording.arming import STATE
    from Products.StabilityMonitor.model.jsonform import from_json
    from Products.StabilityMonitor.model.threadstates import Stacks
    life, shown = STATE.life, from_json(Stacks, json.loads(document))
    counted = SimpleNamespace(stacks=lambda: json.loads(stacks))
    profiles = tuple(SimpleNamespace(**vars(slow) | {"stacks": counted}) for slow in shown.slow)
    life.rounds.stacks = lambda: shown
    life.rounds.slow.known = lambda: profiles
    return life.name
"""
FRAMES = tuple(Frame(f'/site/views{number}.py', number, 'view') for number in range(40))
_LONG = 'x' * 200
MERGED = (
    MergedFrame(
        'xmlParseDocument', library='/venv/lxml.libs/libxml2.so.2', file='parser.c', line=9
    ),
    MergedFrame('view', native=False, file=f'/site/{_LONG}/shop.py', line=7),
)
CORE = CoreFile(
    '/var/cores/core.12',
    STARTED,
    match=BY_CONTENT,
    size=150 << 20,
    signal='SIGSEGV',
    code='SEGV_MAPERR',
    address=0,
    reader='pystack',
    threads=(
        CoreThread(12, 'waitress-0', crashed=True, holds_gil=True, frames=MERGED),
        CoreThread(13, frames=MERGED[1:]),
    ),
    incomplete=('The core file was cut off.',),
    command=f'pystack core {_LONG}',
)


def crash(number, after, **values):
    """Return an incident whose page has no empty part; it starts `after` seconds after STARTED."""
    at = STARTED + after
    samples = tuple(
        sample(
            rss=(200 + tick) << 20,
            cpu=0.4,
            threads=9,
            descriptors=40 + tick,
            queue=tick,
            waited=float(tick),
            connections=tick + 3,
            accept_queue=tick,
            accept_errors=tick,
            descriptor_limit=1024,
            connection_limit=100,
            cgroup_current=(300 + tick) << 20,
            cgroup_limit=400 << 20,
            after=after + tick,
        )
        for tick in range(30)
    )
    curve = tuple(
        LifePoint(at + 60 * minute, 60.0 * minute, (200 + minute) << 20, 300 << 20, 40, 9)
        for minute in range(30)
    )
    return record(
        number,
        'crashed',
        after,
        confidence='strong',
        signal='SIGSEGV',
        summary='Zope crashed: Segmentation fault (SIGSEGV) in lxml.etree, in GET /shop.',
        signature='lxml.etree:view',
        evidence=(Evidence('fault log', 'It has a fatal header.'), Evidence('black box', _LONG)),
        candidates=('SIGKILL', 'os._exit'),
        ruled_out=('a reboot', 'the OOM killer'),
        requests=(
            request(1, path=f'/shop/{_LONG}', crashed=True, user='admin', retry=1, seconds=9.0),
            request(2, path='/stock', seconds=100.0),
        ),
        recent=tuple(
            request(n, path=f'/page/{n}', seconds=0.1, status=200, count=n) for n in range(3, 30)
        ),
        threads=(
            ThreadState(0x7F01, 'waitress-0', True, FRAMES, cut=True, note='served GET /shop'),
            ThreadState(0x7F02, 'waitress-1', False, FRAMES, stack_size=8 << 20, stack_used=9000),
            ThreadState(0x7F03, 'MainThread'),
        ),
        native=(NativeFrame('etree.so', 'parse', 12, 0x7F00), NativeFrame(_LONG, '', None, None)),
        death=DeathClass(
            'null-pointer', 'A null pointer was used', CULPRIT, 'The address was 0x0.'
        ),
        suspects=(Suspect('lxml.etree', 'lxml', '6', why='top'),),
        known_issues=(
            KnownIssue(
                id='waitress',
                title='A waitress of old crashes',
                severity='warning',
                strength='strong',
                matched=('version: waitress 2.1 is < 3.0.1',),
                against=('no frame shows it',),
                action='waitress >= 3.0.1',
                source='the changes of waitress',
            ),
        ),
        samples=samples,
        curve=curve,
        log=tuple(
            LogLine(at + n, level, 'Zope', f'message {n} {_LONG}', count=n, last=at + n)
            for n, level in enumerate(('ERROR', 'WARNING', 'CRITICAL') * 6, 1)
        ),
        exception='Traceback (most recent call last):\n' + '  File "a.py", line 1\n' * 90,
        compiled_modules=tuple(f'module{number}._c' for number in range(50)),
        context={'python': '3.11.7', 'platform': 'Linux', 'software': {'zope': '6.3'}},
        drill='segfault',
        notes=tuple(
            note('slow', request=n, ident=n, seconds=40.0, title=f'GET /slow/{n}', frames=FRAMES)
            for n in (1, 2)
        ),
        hangs=(
            Event('hang', at + 5, seconds=30.0, summary=f'All 4 workers were busy. {_LONG}'),
            Event('deadlock', at + 5, at + 9, 4.0, 'Two threads waited for each other.'),
        ),
        **values,
    )


class CrowdedSite:
    """Fills the data directory of a Zope before it starts, and pretends threads after it.

    `incident` is the name of the run with everything on its page.  `known` also has an incident
    that was seen `again`, its `signature`, and a `snapshot` with everything.
    """

    def __init__(self, zope):
        self.zope = zope.publish(SOURCE)
        instance = Instance(socket.gethostname(), str(zope.client_home), f'127.0.0.1:{zope.port}')
        now = time.time() - STARTED
        stops = [record(n, after=now - 9000 + 60 * n, instance=instance) for n in range(101)]
        crashes = [crash(n, now - 11000 + 100 * n, instance=instance) for n in range(101, 104)]
        self.incident = crashes[-1].run
        # Not drills, so that they have a signature.
        alike = [
            replace(crash(n, now - 12000 + 100 * n, instance=instance), drill='')
            for n in (104, 105)
        ]
        earlier = replace(alike[0], context=alike[0].context | {'python': '3.11.6'})
        crashes += [earlier, alike[1]]
        for run in stops + crashes:
            folder = zope.stability / 'archive' / run.run
            folder.mkdir(parents=True)
            (folder / 'incident.json').write_text(json.dumps(run.to_json()))
        for run in crashes:
            keep_core(zope.stability, run.run, CORE)
        signature = SignedRuns(Archive(Base(zope.stability))).of(alike[1])
        self.known = {
            'incident': self.incident,
            'again': alike[1].run,
            'signature': signature.id if signature else '',
        }
        kept = [
            snapshot(
                n,
                instance=instance,
                note=f'The search is slow. {_LONG}',
                native_error='A part is missing.',
                told_by=BY_KERNEL,
                reason='It has not answered within 5 s.',
                seen=('All its threads are stopped.',),
            )
            for n in range(12)
        ]
        self.known['snapshot'] = kept[-1].id
        for each in kept:
            Snapshots(Base(zope.stability)).add(each)

    def start(self):
        self.zope.start()
        shown = stacksdocuments.document()
        form = {'document': json.dumps(shown), 'stacks': json.dumps(stacksdocuments.STACKS)}
        self.run = self.zope.post('/pretend', form).text
        self.slow = shown['slow'][0]['number']
        return self
