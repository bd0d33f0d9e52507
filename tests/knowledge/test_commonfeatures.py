"""What crashed runs had in common: only what chance does not explain."""

from math import isclose

import pytest
from support.deadcrashes import crash
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import commonfeatures
from Products.StabilityMonitor.knowledge.commonfeatures import changed
from Products.StabilityMonitor.knowledge.commonfeatures import common
from Products.StabilityMonitor.knowledge.commonfeatures import fisher

ALL = ('a', 'b', 'c')


def with_modules(make, *modules, **versions):
    return make(compiled_modules=modules, context={'distributions': versions}, shared_objects=())


def ok(**values):
    return record(0, **values)


@pytest.mark.parametrize(
    'numbers, expected',
    [
        ((3, 3, 0, 3), 1 / 20),
        ((4, 4, 0, 4), 1 / 70),
        ((8, 10, 1, 10), 0.0027),
        ((0, 3, 3, 3), 1.0),
        ((0, 0, 0, 0), 1.0),
        ((2, 2, 5, 5), 1.0),
    ],
)
def test_fishers_test_on_known_tables(numbers, expected):
    """One-sided; 8 of 10 against 1 of 10 is a table of textbooks."""
    assert isclose(fisher(*numbers), expected, rel_tol=0.02)


def test_what_only_crashed_runs_had_is_named():
    earlier = [with_modules(crash, *ALL)] * 4 + [with_modules(ok, 'a', 'b')] * 6
    (found,) = common(with_modules(crash, *ALL), earlier)
    assert (found.name, found.crashed, found.others) == ('c', 5, 0)


def test_versions_count_too():
    earlier = [with_modules(crash, 'a', lxml='5')] * 4 + [with_modules(ok, 'a', lxml='4')] * 6
    (found,) = common(with_modules(crash, 'a', lxml='5'), earlier)
    assert (found.name, found.version, found.is_module) == ('lxml', '5', False)


@pytest.mark.parametrize('crashes, fine', [(0, 9), (1, 2), (2, 2), (9, 0)])
def test_a_few_runs_may_be_chance(crashes, fine):
    earlier = [with_modules(crash, *ALL)] * crashes + [with_modules(ok, 'a')] * fine
    assert common(with_modules(crash, *ALL), earlier) == ()


def test_many_features_tried_need_more_runs():
    """One of many modules differs by chance; each module differs in another run."""
    names = [f'm{number}' for number in range(9)]
    fine = [with_modules(ok, *names[:number], *names[number + 1 :]) for number in range(9)]
    fine.append(with_modules(ok, *names))
    assert common(with_modules(crash, *names), [with_modules(crash, *names), *fine]) == ()


def test_what_came_all_together_points_nowhere():
    many = [f'm{number}' for number in range(9)]
    earlier = [with_modules(crash, *many)] * 9 + [with_modules(ok, 'x')] * 9
    assert common(with_modules(crash, *many), earlier) == ()


def test_what_changed_since_the_last_stable_run():
    now = with_modules(crash, a='2', b='1', c='1')
    stable = with_modules(ok, a='1', b='1')
    assert changed(now, [with_modules(crash, a='2', b='1'), stable]) == (
        ('a', '1', '2'),
        ('c', '', '1'),
    )
    assert changed(now, []) == changed(now, [now]) == ()


def test_an_upgrade_of_everything_points_nowhere():
    names = {f'd{number}': '2' for number in range(commonfeatures._CHANGES + 1)}
    assert changed(with_modules(crash, **names), [with_modules(ok, d0='1')]) == ()
