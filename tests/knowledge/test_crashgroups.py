"""Groups of incidents: what knows less joins what says the same and more, if that is one."""

from dataclasses import replace

import pytest
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import crashgroups
from Products.StabilityMonitor.knowledge.crashgroups import covers
from Products.StabilityMonitor.model.signature import Signature

WHOLE = Signature('crashed', 'SIGSEGV', 'null', ('c!null',), ('shop:view',), suspect='c')
NO_CORE = replace(WHOLE, death='unknown', native=(), suspect='', is_weak=True)
OTHER = replace(WHOLE, native=('d!read',), suspect='d')
HUNG = Signature('hung', place='deadlock shop:lock')


def grouped(*signatures):
    """Return [(signature, numbers of its runs)]: the first signature is that of the newest run."""
    runs = [record(number, 'crashed') for number in range(len(signatures), 0, -1)]
    known = dict(zip([run.run for run in runs], signatures, strict=True))
    found = crashgroups.groups(runs, known)
    return [(group.signature, [runs.index(run) for run in group.runs]) for group in found]


def test_equal_signatures_are_one_group_and_the_newest_group_is_first():
    assert grouped(WHOLE, HUNG, WHOLE, None, HUNG) == [(WHOLE, [0, 2]), (HUNG, [1, 4])]


def test_runs_without_a_signature_are_in_no_group():
    assert grouped(None, None) == []
    assert crashgroups.groups([record(1, 'crashed')], {}) == ()


def test_a_signature_that_knows_less_joins_the_one_that_says_the_same_and_more():
    assert grouped(NO_CORE, WHOLE, NO_CORE) == [(WHOLE, [0, 1, 2])]


def test_a_signature_that_two_others_cover_stays_alone():
    assert grouped(NO_CORE, WHOLE, OTHER) == [(NO_CORE, [0]), (WHOLE, [1]), (OTHER, [2])]


def test_of_two_that_cover_one_another_only_the_one_that_says_most_counts():
    classed = replace(NO_CORE, death='null')
    assert grouped(NO_CORE, classed, WHOLE) == [(WHOLE, [0, 1, 2])]


def test_so_many_signatures_that_comparing_them_takes_long_stay_alone(monkeypatch):
    monkeypatch.setattr(crashgroups, '_MOST', 2)
    assert len(grouped(NO_CORE, WHOLE)) == 1
    assert len(grouped(NO_CORE, WHOLE, replace(WHOLE, death='other'))) == 3
    assert len(grouped(NO_CORE, WHOLE, replace(WHOLE, python=('shop:edit',)))) == 2


def test_without_a_python_place_only_equal_ones_are_one_group():
    known = replace(WHOLE, python=())
    unknown = replace(NO_CORE, python=())
    assert grouped(known, unknown) == [(known, [0]), (unknown, [1])]


@pytest.mark.parametrize(
    'changed',
    [
        {'signal': 'SIGBUS'},
        {'python': ('shop:edit',)},
        {'place': '/orders/*'},
        {'death': 'use-after-free'},
        {'verdict': 'signalled'},
    ],
)
def test_what_differs_in_a_known_part_is_another_fault(changed):
    other = replace(replace(NO_CORE, death='null'), **changed)
    assert not covers(WHOLE, other) and not covers(other, WHOLE)


def test_a_signature_covers_no_equal_one_and_none_that_says_more():
    assert covers(WHOLE, NO_CORE)
    assert not covers(NO_CORE, WHOLE)
    assert not covers(WHOLE, replace(WHOLE, suspect=''))


def test_a_crash_may_be_an_overflow_if_its_native_places_are_not_known():
    overflow = replace(WHOLE, verdict='stack-overflow', death='overflow')
    assert grouped(NO_CORE, overflow) == [(overflow, [0, 1])]
    assert len(grouped(replace(NO_CORE, native=('c!null',)), overflow)) == 2


@pytest.mark.parametrize(
    ('less', 'more'),
    [
        (('c',), ('c!null',)),
        (('c+0x12@ab12cd34', 'c+0x99@ab12cd34'), ('c!null',)),
        (('c+0x12@ab12cd34', 'd+0x1@cd34ab12'), ('c!null', 'd!read', 'd!call')),
        (('c!null',), ('c!null', 'd!read')),
    ],
)
def test_a_place_without_a_name_may_be_each_one_of_its_object(less, more):
    known, unnamed = replace(WHOLE, native=more), replace(WHOLE, native=less)
    assert covers(known, unnamed) and not covers(unnamed, known)
    other = replace(WHOLE, native=('d!read', 'c!null'))
    assert not covers(other, unnamed)
    assert not covers(replace(WHOLE, native=('d!read',)), replace(WHOLE, native=('c!null',)))


def test_two_that_say_the_same_under_both_verdicts_are_one_group():
    overflow = replace(NO_CORE, verdict='stack-overflow')
    assert grouped(NO_CORE, overflow) == [(overflow, [0, 1])]


def test_of_equal_signatures_the_one_with_a_suspect_stands_for_the_group():
    without = replace(WHOLE, suspect='')
    (group,) = grouped(without, WHOLE)
    assert group[0].suspect == 'c'


def test_a_group_tells_how_often_and_when():
    runs = [record(2, 'crashed', after=100.0), record(1, 'crashed')]
    (group,) = crashgroups.groups(runs, {run.run: WHOLE for run in runs})
    assert (group.count, group.id) == (2, WHOLE.id)
    assert (group.first, group.last) == (runs[1].ended, runs[0].ended)
    (timeless,) = crashgroups.groups([replace(runs[0], ended=None)], {runs[0].run: WHOLE})
    assert timeless.last == runs[0].started


def test_a_group_is_found_by_each_of_its_ids_and_runs():
    runs = [record(number, 'crashed') for number in (3, 2, 1)]
    signatures = [NO_CORE, WHOLE, HUNG]
    known = {run.run: signature for run, signature in zip(runs, signatures, strict=True)}
    found = crashgroups.groups(runs, known)
    first, hung = found
    assert first.others == (NO_CORE,)
    for id in (WHOLE.id, NO_CORE.id, NO_CORE.id.removeprefix('~')):
        assert crashgroups.find(found, id) is first
    assert crashgroups.find(found, 'ffffffffff') is None
    assert crashgroups.group_of(found, runs[2].run) is hung
    assert crashgroups.group_of(found, 'unknown') is None


def test_a_family_has_the_same_suspect_and_class():
    relative = replace(WHOLE, python=('shop:edit',))
    runs = [record(number, 'crashed') for number in (3, 2, 1)]
    known = {
        run.run: signature for run, signature in zip(runs, (WHOLE, relative, HUNG), strict=True)
    }
    first, second, third = found = crashgroups.groups(runs, known)
    assert crashgroups.family(found, first) == (second,)
    assert crashgroups.family(found, third) == ()
