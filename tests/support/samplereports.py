"""Reports about invented runs, with each part that a report can have."""

from dataclasses import replace

from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Evidence
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.runrecord import KnownIssue
from Products.StabilityMonitor.model.suspects import DeathClass
from Products.StabilityMonitor.model.suspects import Suspect
from Products.StabilityMonitor.model.threadstates import ThreadState
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample

SITE = '/srv/zope/lib/python3.14/site-packages'
STACK = (
    Frame(f'{SITE}/Products/Shop/views.py', 12, 'render'),
    Frame(f'{SITE}/ZPublisher/WSGIPublisher.py', 68, 'call_object'),
)
SUSPECT = Suspect('lxml.etree', 'lxml', '6.1.3', strength='strong', why='It is on top.')
ISSUE = KnownIssue(
    'lxml-1',
    'lxml crashes',
    strength='strong',
    matched=('lxml 6.1.3',),
    action='Update lxml.',
    source='https://bugs.example.org/lxml/1?a=b#c2',
)
CRASH = record(
    0,
    'crashed',
    signal='SIGSEGV',
    summary='Zope crashed: Segmentation fault (SIGSEGV) in render, while serving GET /shop.',
    evidence=(Evidence('fault log', 'It has the stack.'),),
    ruled_out=('Not the OOM killer.',),
    requests=(request(1, path='/other'), request(2, path='/shop', crashed=True)),
    recent=(request(3, path='/before', ended=STARTED + 55, seconds=0.5, status=200),),
    threads=(
        ThreadState(ident=1, name='waitress-0', crashed=True, frames=STACK),
        ThreadState(ident=2, name='MainThread', frames=(Frame('/lib/a.py', 1, 'poll'),)),
    ),
    samples=tuple(sample(second, cpu=second / 2, rss=second << 20) for second in range(50, 60)),
    log=(LogLine(STARTED + 59, 'WARNING', 'shop', 'The stock is low.', count=3),),
    death=DeathClass('null-pointer', 'A null pointer was used', why='The address was 0.'),
    suspects=(SUSPECT,),
    known_issues=(ISSUE,),
    context={'python': '3.14.1 (main) [GCC 14]', 'software': {'zope': '6.3', 'threads': 4}},
)
SYSTEM = {'platform': 'Linux-6.1-x86_64', 'distribution': 'Debian 13', 'compiler': 'GCC 14'}
INVENTORY = {
    'distributions': [
        {'name': name, 'version': version}
        for name, version in (('attrs', '26'), ('lxml', '6.1.3'), ('Zope', '6.3'))
    ],
    'products': ['Shop'],
    'compiled_modules': ['lxml.etree'],
    'databases': [],
    'system': SYSTEM,
}
CHECKS = [
    {'id': 'disk', 'severity': 'warning', 'title': 'The disk is full.', 'detail': 'Why.'},
    {'id': 'core', 'severity': 'info', 'title': 'No core file.', 'detail': 'Why not.'},
    {'id': 'clock', 'severity': 'ok', 'title': 'No clock jumps.', 'detail': ''},
    {'id': 'limits', 'severity': 'ok', 'title': 'The limits are high.', 'detail': ''},
]
OF_PROCESS = {'source': 'process', 'run': 'x', 'as_of': isotime(STARTED + 100)}


def state(**parts):
    """A report about the current state: of a living process without an earlier run."""
    return {
        'schema': 'stabilitymonitor/1',
        'generated': isotime(STARTED + 100),
        'instance': to_json(HERE),
        'process': {'zope': '6.3', 'python': '3.14.1', 'run': 'x', 'uptime_seconds': 7200.0},
        'last_process': None,
        'previous': None,
        'history': [],
        'checks': [each | {'action': '', 'source': ''} for each in CHECKS],
        'workarounds': [],
        'inventory': INVENTORY,
        'in_flight': [],
        'threads': [],
        'slow_requests': [],
        'hangs': [],
        'crash_loop': [],
        'clean_scripts': 0,
        'support': {},
        'sites': [],
        'sources': dict.fromkeys(('process', 'checks', 'inventory', 'in_flight'), OF_PROCESS),
        **parts,
    }


def of_run(run=CRASH, **changes):
    """What a report has of a run: its record, and what was installed then."""
    versions = {'known': True, 'with': 'process', 'changed': []}
    document = replace(run, **changes).to_json()
    return document | {'inventory': INVENTORY, 'versions': versions}


def incident(run=CRASH, **parts):
    """A report about a run, with all parts that are read for it."""
    parts = {
        'logs': [{'name': 'event-log', 'file': '/srv/log/event.log', 'text': 'One.\nTwo.'}],
        'configuration': [{'file': '/srv/etc/zope.conf', 'text': '# why\nthreads 4', 'cut': True}],
        'not_told': [{'what': 'core-file', 'why': 'switched-off', 'file': '', 'detail': ''}],
        'changed_since_stable': {
            'run': '20260920T133320Z-99-abcd',
            'started': isotime(STARTED - 9000),
            'ended': isotime(STARTED - 60),
            'changes': [
                {'kind': 'distribution', 'name': 'lxml', 'before': '6.0.2', 'now': '6.1.3'},
                {'kind': 'option', 'name': 'stall', 'before': '30', 'now': ''},
            ],
        },
        'reporter': {'name': 'Ada', 'email': 'ada@example.org', 'did': 'I paid.', 'expected': ''},
        **parts,
    }
    summary = run.summary_json()
    return state(incident=of_run(run), process=None, history=[summary], **parts)


def with_texts(value, change):
    """A document with `change` applied to each text that may be foreign: no key, code or time."""
    if isinstance(value, dict):
        return {
            key: item if key in _OURS else with_texts(item, change) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_texts(item, change) for item in value]
    return change(value) if value and isinstance(value, str) else value


#: Keys whose values decide what is shown, or are times.
_OURS = frozenset(
    'schema generated run verdict severity source as_of started ended time last first ident thread '
    'strength with why what name_of_log confidence kind'.split()
)
