"""The charts are well-formed, have everything also as text, and escape foreign text."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.effort import lines_run

from Products.StabilityMonitor.model.jsonform import items_from_json
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.verdicts import VERDICTS
from Products.StabilityMonitor.reporting import axes
from Products.StabilityMonitor.reporting import charts

NOW = 1_795_434_000.0
SVG = '{http://www.w3.org/2000/svg}'
HOSTILE = '"><script>alert(1)</script>&\'\x00'


def run(number=0, start=0, up=100, verdict='stopped', summary='It ended.'):
    begin = NOW - start
    return RunRecord(
        run=f'20261123T074501Z-{number}-abcd',
        started=begin,
        ended=begin + up,
        uptime_seconds=up,
        verdict=verdict,
        summary=summary,
    )


def parsed(svg):
    assert '<script' not in svg
    return ElementTree.fromstring(svg)


def test_every_verdict_has_a_colour_and_a_label():
    for code, row in VERDICTS.items():
        assert row.colour.startswith('#') and row.label and row.ending and len(row.letter) <= 1
        assert row.is_wanted == (code in ('running', 'stopped', 'host-restarted'))


def test_each_incident_verdict_has_its_own_letter():
    letters = [row.letter for row in VERDICTS.values() if row.letter]
    assert len(letters) == len(set(letters))


def test_without_runs_there_is_no_chart():
    assert charts.timeline([], NOW) == ''
    assert charts.timeline([RunRecord(run='x')], NOW) == ''


def test_a_living_run_is_a_bar_without_a_marker():
    svg = parsed(charts.timeline([run(start=50, verdict='running')], NOW))
    (bar,) = svg.iter(f'{SVG}rect')
    assert bar.get('fill') == charts.colour('running')
    assert not svg.findall(f'.//{SVG}circle')


def test_the_living_run_reaches_until_now():
    svg = parsed(charts.timeline([run(1, 1000, 500), run(2, 400, 0, 'running')], NOW))
    living = list(svg.iter(f'{SVG}rect'))[-1]
    assert float(living.get('x')) + float(living.get('width')) == pytest.approx(984, abs=1)


def test_an_incident_has_a_linked_marker():
    svg = parsed(
        charts.timeline(
            [run(1, 1000, 500, 'crashed'), run(2, 400, 10)], NOW, lambda name: f'?run={name}'
        )
    )
    assert [text.text for text in svg.findall(f'.//{SVG}g/{SVG}text')] == ['C']
    assert svg.find(f'.//{SVG}a').get('href') == '?run=20261123T074501Z-1-abcd'


def test_the_tooltip_has_verdict_start_and_uptime():
    svg = parsed(charts.timeline([run(1, 7300, 7200, 'crashed', 'Zope crashed.')], NOW))
    told = svg.find(f'.//{SVG}rect/{SVG}title').text
    assert (
        'crashed' in told
        and 'uptime 2 hours' in told
        and 'started 2026-11-23' in told
        and 'Zope crashed.' in told
    )


def test_incidents_close_together_share_a_marker_with_their_number():
    runs = [run(n, 86400 - 20 * n, 10, 'startup-failed') for n in range(7)]
    svg = parsed(charts.timeline(runs, NOW))
    assert [text.text for text in svg.findall(f'.//{SVG}g/{SVG}text')] == ['7']


def test_the_work_for_a_chart_grows_linearly_with_its_runs():
    """Ten times the runs take some ten times as many lines of Python, and not a hundred times."""

    def effort(count):
        runs = [run(n, 88 * 86400 - n * 3800, 3700, 'crashed') for n in range(count)]
        return lines_run(lambda: charts.timeline(runs, NOW))

    assert effort(1000) < 15 * effort(100)


def test_two_hundred_runs_all_lie_inside_the_chart():
    runs = [
        run(n, 88 * 86400 - n * 38000, 37000, verdict)
        for n, verdict in zip(range(200), list(VERDICTS)[1:] * 20, strict=False)
    ]
    svg = parsed(charts.timeline(runs, NOW))
    bars = list(svg.iter(f'{SVG}rect'))
    assert len(bars) == 200
    assert all(
        0 <= float(bar.get('x')) and float(bar.get('x')) + float(bar.get('width')) <= 1000
        for bar in bars
    )


def test_markers_never_cover_each_other():
    runs = [run(n, 88 * 86400 - n * 38000, 37000, 'crashed') for n in range(200)]
    svg = parsed(charts.timeline(runs, NOW))
    places = sorted(float(dot.get('cx')) for dot in svg.iter(f'{SVG}circle'))
    assert min(b - a for a, b in zip(places, places[1:], strict=False)) >= 17.9


def test_runs_that_overlap_get_different_lanes():
    svg = parsed(charts.timeline([run(n, 1000 - n, 900) for n in range(20)], NOW))
    lanes = {bar.get('y') for bar in svg.iter(f'{SVG}rect')}
    assert 1 < len(lanes) <= 6


def test_foreign_text_is_escaped():
    svg = charts.timeline(
        [run(1, 100, 10, HOSTILE, HOSTILE.replace('\0', ''))], NOW, lambda name: HOSTILE[:-1]
    )
    parsed(svg)


def test_the_legend_names_only_verdicts_that_occur():
    entries = charts.legend(['running', 'hung', 'hung', 'of a later release'])
    assert [entry['label'] for entry in entries] == ['running', 'hung']


# -- curves ----------------------------------------------------------------------------------------


def samples(count=60, **values):
    usual = [
        Sample(time=NOW + n, monotonic=n, rss=(100 << 20) + (n << 20), cpu=n * 0.5)
        for n in range(count)
    ]
    return [replace(sample, **values) for sample in usual]


def words(svg):
    return [''.join(text.itertext()) for text in parsed(svg).iter(f'{SVG}text')]


def test_the_memory_curve_has_units_and_a_time():
    found = words(charts.memory_curve(samples()))
    assert '150 MiB' in found or '100 MiB' in found
    assert '59 s before' in found and any(word.endswith('UTC') for word in found)


def test_the_limit_of_the_cgroup_is_a_line():
    svg = charts.memory_curve(samples(cgroup_current=160 << 20, cgroup_limit=200 << 20))
    assert (
        'limit of the cgroup' in words(svg) and len(list(parsed(svg).iter(f'{SVG}polyline'))) == 2
    )
    assert 'limit of the cgroup' not in words(charts.memory_curve(samples()))


def test_the_cpu_curve_is_in_percent_of_one_cpu():
    svg = charts.cpu_curve(samples())
    assert '50 %' in words(svg) or '40 %' in words(svg)


@pytest.mark.parametrize('few', [[], samples(1), [Sample(0.0, 0.0)], samples(5, rss=-1, cpu=-1)])
def test_fewer_than_two_points_give_no_curve(few):
    assert charts.memory_curve(few) == ''
    assert charts.cpu_curve(few) == ''


def test_idle_and_equal_values_give_a_curve():
    parsed(charts.cpu_curve(samples(10, cpu=1.0)))
    parsed(charts.memory_curve(samples(10, rss=0)))
    parsed(charts.memory_curve([samples(1)[0]] * 3))


numbers = st.one_of(st.none(), st.text(max_size=3), st.integers(-5, 1 << 63), st.floats(-1, 1e18))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                'time': st.floats(0, 4e9).map(isotime),
                'rss': numbers,
                'cpu': numbers,
                'cgroup_current': numbers,
                'cgroup_limit': numbers,
            }
        ),
        max_size=8,
    )
)
def test_a_curve_is_well_formed_with_any_samples(found):
    found = items_from_json(Sample, found)
    for svg in (charts.memory_curve(found), charts.cpu_curve(found)):
        assert svg == '' or parsed(svg) is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 4e9), st.floats(0, 4e9), st.sampled_from(list(VERDICTS)))))
def test_a_timeline_is_well_formed_with_any_runs(spans):
    runs = [
        RunRecord(run=str(n), started=a, ended=b, verdict=v) for n, (a, b, v) in enumerate(spans)
    ]
    svg = charts.timeline(runs, NOW)
    assert svg == '' or parsed(svg) is not None


@given(st.floats(0, 4e9), st.floats(1, 4e9))
def test_a_time_axis_has_few_ticks(low, span):
    assert len(axes.time_ticks(low, low + span)) <= 50


@given(st.floats(0, 1e18))
def test_a_value_axis_has_few_ticks(top):
    for ticks in (axes.size_ticks(top), axes.percent_ticks(top)):
        assert 2 <= len(ticks) <= 8
        assert ticks[-1][0] >= top * 0.7
