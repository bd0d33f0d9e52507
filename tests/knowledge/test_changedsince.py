"""What changed since the last run of the same kind that ended as wanted."""

from dataclasses import replace

from support.syntheticruns import HERE
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge.changedsince import RunFacts
from Products.StabilityMonitor.knowledge.changedsince import changes
from Products.StabilityMonitor.knowledge.changedsince import last_stable
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.reportparts import Change

CONTEXT = {
    'python': '3.13.1',
    'libc': 'glibc 2.36',
    'software': {'zope': '5.13', 'threads': 4, 'debug_mode': False},
    'options': {'stall': 30.0, 'trace-log': '', 'group': 'a', 'redact-pattern': 'x'},
    'limits': {'CORE': [0, -1]},
    'thread_stack': [8 << 20, 4096],
}


def test_the_last_run_of_the_same_kind_that_ended_as_wanted_counts():
    runs = [
        record(6, 'crashed'),
        record(5, 'stopped'),
        record(4, 'crashed'),
        record(3, 'stopped', role='script'),
        record(2, 'stopped', instance=Instance('other')),
        record(1, 'stopped'),
        record(0, 'stopped'),
    ]
    assert last_stable(runs, 'server', HERE, runs[2].number) == runs[5]
    assert last_stable(runs, 'server', HERE) == runs[1]
    assert last_stable(runs, 'script', HERE) == runs[3]
    assert last_stable(runs[:1], 'server', HERE) is None


def test_each_difference_is_told_with_both_values():
    now = CONTEXT | {
        'python': '3.14.0',
        'software': {'zope': '6.0', 'threads': 2, 'debug_mode': True},
        'options': CONTEXT['options'] | {'stall': 60.0, 'trace-log': '/secret', 'group': 'b'},
        'limits': {'CORE': (-1, -1)},
        'thread_stack': (8 << 20, 4096),
    }
    before = RunFacts(CONTEXT, {'lxml': '5.0', 'gone': '1', 'same': '1'}, ('lxml.etree', 'gone.c'))
    after = RunFacts(now, {'lxml': '6.0', 'new': '2', 'same': '1'}, ('lxml.etree', 'new.c'))
    assert changes(before, after) == (
        Change('software', 'Python', '3.13.1', '3.14.0'),
        Change('software', 'Zope', '5.13', '6.0'),
        Change('distribution', 'gone', '1', ''),
        Change('distribution', 'lxml', '5.0', '6.0'),
        Change('distribution', 'new', '', '2'),
        Change('module', 'gone.c', 'loaded', ''),
        Change('module', 'new.c', '', 'loaded'),
        Change('option', 'stall', '30.0', '60.0'),
        Change('setting', 'worker threads', '4', '2'),
        Change('setting', 'debug-mode', 'off', 'on'),
        Change('setting', 'RLIMIT_CORE', '0, -1', '-1, -1'),
    )


def test_what_one_of_them_does_not_know_is_no_difference():
    known = RunFacts(CONTEXT, {'lxml': '5.0'}, ('lxml.etree',))
    assert changes(RunFacts(), known) == () == changes(known, RunFacts())
    damaged = replace(known, context=dict.fromkeys(('software', 'options', 'limits'), 7))
    assert changes(damaged, known) == ()
