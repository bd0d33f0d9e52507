"""Invented snapshots."""

from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.severities import OK
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.model.snapshotrecord import READ
from Products.StabilityMonitor.model.snapshotrecord import SnapshotRecord
from Products.StabilityMonitor.model.threadstates import Stacks
from support.stacksdocuments import document
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import request
from support.syntheticruns import sample

#: What is known of a process at its start.
PROCESS = {
    **dict.fromkeys(('platform', 'software_home', 'instance_home', 'client_home', 'plone'), ''),
    **dict.fromkeys(('server_software', 'supervisor', 'libc', 'system', 'core_pattern'), ''),
    'zope': '6.3',
    'python': '3.11.7',
    'pid': 4711,
    'uptime_seconds': 100.0,
    'started': None,
    'run': '20260921T141000Z-4711-abcd',
    'role': 'server',
    'debug_mode': False,
    'threads': 4,
    'safe_mode': False,
    'recording': True,
    'directory': '/home/zope/var/stability',
    'thread_stack': None,
}


def snapshot(number=0, **values):
    """Return a snapshot with everything in it; the next number is a second later."""
    at = int(STARTED) + number
    stacks = from_json(Stacks, document())
    return SnapshotRecord(
        **{
            'id': f'20260921T{141320 + number}Z-4711-{number:04x}',
            'run': '20260921T141000Z-4711-abcd',
            'instance': HERE,
            'pid': 4711,
            'started': STARTED - 100,
            'time': float(at),
            'who': 'ada',
            'summary': '2 of 4 workers are busy.',
            'stall': 30.0,
            'requests': (request(1, path='/slow', seconds=9.0),),
            'recent': (request(2, path='/fast', seconds=0.1, ended=STARTED, status=200),),
            'threads': stacks.threads,
            'slow_requests': stacks.slow,
            'hangs': stacks.hangs,
            'samples': tuple(sample(after=float(second)) for second in range(30)),
            'log': (LogLine(STARTED, 'WARNING', 'Zope', 'The disk is slow.'),),
            'findings': (
                Finding('swap', WARNING, 'Zope was swapped out.', 'By 3 GiB.'),
                Finding('clock', OK, 'No clock jumps.'),
            ),
            'checked': float(at - 60),
            'process': PROCESS,
            'inventory': {
                'distributions': [{'name': 'Zope', 'version': '6.3'}],
                'products': ['StabilityMonitor'],
                'compiled_modules': [],
                'databases': [],
                'system': {'machine': 'x86_64'},
            },
            'native_state': READ,
            'native_threads': (
                CoreThread(
                    12,
                    'waitress-0',
                    holds_gil=True,
                    frames=(MergedFrame('parse', library='/lib/libxml2.so.2'),),
                ),
            ),
            **values,
        }
    )
