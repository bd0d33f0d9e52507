"""What incidents of a signature share and others lack: only what chance does not explain."""

import pytest
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import correlations as module
from Products.StabilityMonitor.knowledge.correlations import RunFacts
from Products.StabilityMonitor.knowledge.correlations import compared
from Products.StabilityMonitor.knowledge.correlations import correlations
from Products.StabilityMonitor.knowledge.correlations import rate
from Products.StabilityMonitor.knowledge.correlations import since_change
from Products.StabilityMonitor.knowledge.correlations import uptime_since
from Products.StabilityMonitor.knowledge.correlations import version_uses
from Products.StabilityMonitor.model.comparisons import VersionChange
from Products.StabilityMonitor.model.comparisons import VersionUse
from Products.StabilityMonitor.model.feature import Feature
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import Instance

DAY = 86400


def facts(run, **kinds):
    """A run with features by kind: a list of names, or {name: version}; without one: unknown."""
    features = {}
    for kind, names in kinds.items():
        kind = kind.replace('_', '-')
        versions = names.items() if isinstance(names, dict) else [(name, '') for name in names]
        features[kind] = frozenset(Feature(kind, name, version) for name, version in versions)
    return RunFacts(run, features)


def crash(hours=0, **kinds):
    return facts(record(hours, 'crashed'), **kinds)


def stop(hours=0, **kinds):
    return facts(record(hours), **kinds)


def counts(found):
    return [
        ([each.name for each in one.features], one.having, one.runs, one.others_having, one.others)
        for one in found
    ]


def test_a_path_that_only_these_incidents_had_is_told_with_counts():
    group = [crash(path=['/orders/*/pdf', '/'])] * 7
    others = [crash(path=['/'])] * 11 + [crash(path=['/orders/*/pdf'])]
    found = correlations(group, others)
    assert counts(found) == [(['/orders/*/pdf'], 7, 7, 1, 12)]
    assert found[0].are_incidents and found[0].probability < 0.01
    assert to_json(found[0])['features'][0]['name'] == '/orders/*/pdf'


def test_stops_that_were_wanted_say_nothing_of_paths_users_and_hours():
    group = [crash(n, path=['/a'], user=['x'], hour=['3']) for n in range(9)]
    stops = [stop(n, path=[], user=[], hour=['9']) for n in range(50)]
    assert correlations(group, stops) == ()
    others = [crash(n, path=['/b'], user=[], hour=['9']) for n in range(50)]
    found = correlations(group, others)
    assert [each.kind for each in found] == ['hour', 'path', 'user']


def test_the_incidents_of_a_crash_loop_share_no_hour_of_day():
    others = [crash(n, hour=['9']) for n in range(50)]
    assert correlations([crash(hour=['3'])] * 9, others) == ()
    each_day = [crash(24 * n, hour=['3']) for n in range(4)]
    assert counts(correlations(each_day * 2, others)) == [(['3'], 4, 4, 0, 50)]


def test_modules_and_versions_are_compared_with_all_runs():
    group = [crash(module=['a', 'b'], distribution={'lxml': '5'})] * 6
    others = [stop(module=['a'], distribution={'lxml': '4'})] * 10
    found = correlations(group, others)
    assert [(each.kind, each.features[0].name, each.are_incidents) for each in found] == [
        ('distribution', 'lxml', False),
        ('module', 'b', False),
    ]


@pytest.mark.parametrize(
    'crashes, others',
    [(1, 50), (2, 50), (3, 3), (9, 0), (0, 9)],
)
def test_a_few_runs_may_be_chance(crashes, others):
    assert correlations([crash(module=['a'])] * crashes, [stop(module=[])] * others) == ()


def test_what_is_not_known_is_neither_there_nor_missing():
    group = [crash(module=['a'])] * 4 + [crash()] * 5
    others = [stop(module=[])] * 6 + [stop()] * 90
    assert counts(correlations(group, others)) == [(['a'], 4, 4, 0, 6)]
    assert correlations(group, [stop()] * 90) == ()


def test_what_most_of_the_incidents_lack_is_not_what_they_share():
    group = [crash(module=['a'])] * 30 + [crash(module=[])] * 70
    assert correlations(group, [stop(module=[])] * 50) == ()


def test_many_features_tried_need_more_runs():
    """Each incident has other paths, too: one that three share may be chance among those."""
    others = [crash(path=[])] * 4
    assert correlations([crash(path=['/a'])] * 4, others)
    many = [crash(path=['/a', *(f'/{n}{letter}' for letter in 'bcdefgh')]) for n in range(2)]
    assert correlations(many * 2, others)  # those of the same runs are one try
    assert not correlations([crash(path=['/a', f'/{n}']) for n in range(4)], others)


def test_what_came_together_is_counted_as_one():
    names = [f'm{number}' for number in range(9)]
    (found,) = correlations([crash(module=names)] * 5, [stop(module=[])] * 5)
    assert (len(found.features), found.more) == (3, 6)


def test_of_at_least_so_much_only_the_best_step_is_told():
    group = [crash(memory_share=['50', '80', '90'])] * 7
    others = [stop(memory_share=['50', '80'])] * 3 + [stop(memory_share=[])] * 9
    assert counts(correlations(group, others)) == [(['90'], 7, 7, 0, 12)]
    others = [stop(memory_share=[])] * 12
    found = correlations(group, others)
    assert counts(found) == [(['90'], 7, 7, 0, 12)] and found[0].more == 0


def test_versions_with_and_without_are_counted_if_they_differ():
    group = [crash(distribution={'lxml': '5', 'six': '1'}, python={'Python': '3.11'})] * 3
    others = [stop(distribution={'lxml': '4', 'six': '1', 'new': '1'}, python={'Python': '3.11'})]
    others += [stop(distribution={'lxml': '5', 'six': '1', 'new': '1'}, python={'Python': '3.12'})]
    found = version_uses(group, [*others, stop()])
    assert found == (
        VersionUse('new', '', 3, 0),
        VersionUse('new', '1', 0, 2),
        VersionUse('lxml', '5', 3, 1),
        VersionUse('lxml', '4', 0, 1),
        VersionUse('Python', '3.11', 3, 1),
        VersionUse('Python', '3.12', 0, 1),
    )


def test_without_versions_of_both_sides_nothing_is_counted():
    known = [crash(distribution={'lxml': '5'})]
    assert version_uses(known, [stop()]) == version_uses([], known) == version_uses(known, []) == ()


def test_since_a_version_changed_no_run_had_the_signature():
    group = [crash(distribution={'lxml': '5.1', 'old': '1', 'six': '1'})] * 2
    newest = stop(distribution={'lxml': '5.2', 'six': '2'}, python={'Python': '3.12'})
    middle = stop(distribution={'lxml': '5.2', 'six': '1'})
    earlier = stop(distribution={'lxml': '5.1', 'old': '1', 'six': '1'})
    found = since_change(group, [newest, newest, stop(), middle, earlier, earlier], 5)
    assert [each.changes for each in found] == [
        (VersionChange('Python', '', '3.12'), VersionChange('six', '1', '2')),
        (VersionChange('lxml', '5.1', '5.2'), VersionChange('old', '1', '')),
    ]
    assert [(each.runs, each.uptime_seconds, each.is_cut) for each in found] == [
        (2, 120.0, False),
        (3, 180.0, False),
    ]


def test_a_version_with_which_it_has_happened_before_mends_nothing():
    group = [crash(distribution={'lxml': '5.1'}), crash(distribution={'lxml': '5.2'})]
    assert since_change(group, [stop(distribution={'lxml': '5.2'})], 1) == ()


def test_without_later_runs_nothing_is_said_of_a_change():
    group = [crash(distribution={'lxml': '5.1'})]
    assert since_change(group, [stop(distribution={'lxml': '5.2'})] * 3, 0) == ()
    assert since_change([crash()], [stop(distribution={'lxml': '5.2'})], 1) == ()
    assert since_change(group, [stop()], 1) == ()


def test_an_upgrade_of_everything_names_a_few():
    names = [f'd{number}' for number in range(50)]
    group = [crash(distribution=dict.fromkeys(names, '1'))]
    (found,) = since_change(group, [stop(distribution=dict.fromkeys(names, '2'))] * 60, 60)
    assert (len(found.changes), found.more, found.is_cut) == (3, 47, True)


# -- which runs ------------------------------------------------------------------------------------


def past(*runs):
    """Summaries, newest first, of which the last argument is the oldest."""
    return tuple(record(len(runs) - place, **run) for place, run in enumerate(runs))


def test_only_runs_of_the_same_instances_and_role_are_compared_and_no_drills():
    runs = past(
        {},
        {'drill': 'segv', 'verdict': 'crashed'},
        {'instance': Instance('there')},
        {'role': 'script', 'verdict': 'crashed'},
        {'verdict': 'unreadable'},
        {'verdict': 'crashed'},
        {'verdict': 'hung'},
        {},
    )
    found = compared(runs[5:6], runs)
    assert found.others == (runs[0], runs[6], runs[7])
    assert (found.group, found.later) == (runs[5:6], 1)


def test_of_many_runs_the_newest_incidents_and_the_newest_stops_are_compared():
    runs = past(*[{'verdict': 'hung'}] * 300, *[{}] * 300, *[{'verdict': 'crashed'}] * 300)
    found = compared(runs[600:], runs)
    assert len(found.group) == module.MOST_RUNS
    assert found.others == runs[:50] + runs[300:350]
    assert found.later == 100


def test_the_others_are_sought_among_a_bounded_number():
    few = past(*[{'verdict': 'crashed'}] * 20)
    endless = (run for _ in iter(int, 1) for run in few)
    assert compared(few[:1], endless).group == few[:1]


# -- how often -------------------------------------------------------------------------------------


def test_the_rate_is_per_day_and_per_24_hours_of_uptime():
    runs = past(
        {'uptime_seconds': DAY},
        {'uptime_seconds': 2 * DAY, 'verdict': 'crashed'},
        {'uptime_seconds': None},
        {'uptime_seconds': 9 * DAY, 'instance': Instance('there')},
        {'uptime_seconds': DAY, 'verdict': 'crashed'},
        {'uptime_seconds': 99 * DAY},
    )
    group = (runs[1], runs[4])
    found = rate(group, uptime_since(group, runs), runs[4].ended + 8 * DAY)
    assert (found.count, found.days, found.per_day) == (2, 8.0, 0.25)
    assert (found.uptime_seconds, found.per_uptime_day) == (4 * DAY, 0.5)


def test_one_incident_and_a_short_time_have_no_rate():
    runs = past({'verdict': 'crashed'}, {'verdict': 'crashed'})
    single = rate(runs[:1], 60.0, runs[0].ended + 9 * DAY)
    assert (single.per_day, single.per_uptime_day) == (None, None)
    young = rate(runs, uptime_since(runs, runs), runs[1].ended + 3600)
    assert (young.per_day, young.per_uptime_day) == (None, DAY / 60)
    assert rate(runs, 0.0, runs[1].ended - 5).days == 0.0
