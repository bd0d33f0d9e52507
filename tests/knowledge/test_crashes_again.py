"""The same crashes of real Zopes, recorded in other circumstances: each is one group of incidents,
and no two are in one.

The circumstances are those of support/crashesagain.py, on two releases of Python; that of 3.14 has
no symbols.  tests/functional/measure_signatures.py writes the records, and
tests/functional/test_same_crash.py lets Zopes die now.
"""

import functools
from collections import defaultdict
from dataclasses import replace

import pytest
from support import recordedcrashes

from Products.StabilityMonitor.knowledge import crashgroups
from Products.StabilityMonitor.knowledge.signatures import signature_of

#: Crashes that are known again only in some circumstances, and why.
NOT_ALWAYS = {
    'exit_in_c': 'another request was in progress, and nothing tells which one it was',
    'bad_bytecode': 'the dump of Python 3.14 ends at the frame that is not valid any more',
    'null_in_native_thread': 'without a stack nothing is known of the thread',
    'import_by_name?name=prices': 'neither the line nor native code names the module',
    'import_by_name?name=taxes': 'neither the line nor native code names the module',
}


@functools.cache
def _signed():
    """Return {name of a run: (record, signature)} of all recorded crashes, with and without what a
    core file tells.  The name of a run is "crash in circumstances, core".
    """
    found = {}
    for path in sorted(recordedcrashes.AGAIN.glob('*.json.xz')):
        known = recordedcrashes.read(path)
        for page, record in known.records.items():
            for kind, core in (('core', record.core), ('no core', None)):
                run = f'{page} in {path.name}, {kind}'
                one = replace(record, run=run, core=core)
                found[run] = one, signature_of(one, known.sources.get)
    return found


def _crash(run):
    return run.partition(' in ')[0]


def _groups(*kinds):
    chosen = {run: both for run, both in _signed().items() if run.rpartition(', ')[2] in kinds}
    runs = [record for record, signature in chosen.values()]
    signatures = {run: signature for run, (record, signature) in chosen.items()}
    return crashgroups.groups(runs, signatures)


KINDS = pytest.mark.parametrize('kinds', [('core',), ('no core',), ('core', 'no core')])


@KINDS
def test_no_two_crashes_are_in_one_group(kinds):
    mixed = [
        (group.signature.strict, crashes)
        for group in _groups(*kinds)
        if len(crashes := {_crash(run.run) for run in group.runs}) > 1
    ]
    assert mixed == []


@KINDS
def test_each_crash_is_one_group_in_all_circumstances(kinds):
    groups = defaultdict(list)
    for group in _groups(*kinds):
        for crash in {_crash(run.run) for run in group.runs}:
            groups[crash].append((group.signature.strict, [run.run for run in group.runs]))
    split = {crash: found for crash, found in groups.items() if len(found) > 1}
    assert {crash: split[crash] for crash in split.keys() - NOT_ALWAYS.keys()} == {}
    assert len(groups) - len(split) >= 36


def test_nothing_is_known_only_of_those_that_are_listed():
    nothing = {_crash(run) for run, (record, signature) in _signed().items() if not signature}
    assert nothing <= NOT_ALWAYS.keys()


def test_each_was_recorded_at_least_three_times_and_most_on_both_releases():
    times = defaultdict(set)
    for run in _signed():
        crash, _, circumstances = run.rpartition(', ')[0].partition(' in ')
        times[crash].add(circumstances)
    assert min(map(len, times.values())) >= 3
    on_both = [crash for crash, found in times.items() if any('3.14' in each for each in found)]
    assert len(on_both) >= 30
