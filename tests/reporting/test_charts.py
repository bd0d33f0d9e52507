"""The charts are well-formed, have everything also as text, and escape foreign text."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.effort import lines_run
from support.timezones import time_zone

from Products.StabilityMonitor.model.jsonform import items_from_json
from Products.StabilityMonitor.model.records import LifePoint
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


def test_the_keyboard_and_a_screen_reader_meet_each_run_once():
    runs = [run(1, 1000, 500, 'crashed'), run(2, 400, 10)]
    svg = parsed(charts.timeline(runs, NOW, lambda name: f'?run={name}'))
    assert svg.get('role') == 'group'
    links = svg.findall(f'.//{SVG}a')
    assert [link.get('tabindex') for link in links] == [None, None, '-1']
    assert [link.get('aria-hidden') for link in links] == [None, None, 'true']


def test_white_letters_stand_out_from_the_colour_of_their_verdict():
    for row in VERDICTS.values():
        assert not row.letter or contrast_with_white(row.colour) >= 4.5, row.code


def contrast_with_white(colour):
    """Return the contrast ratio of WCAG 2."""
    levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        level / 12.92 if level <= 0.03928 else ((level + 0.055) / 1.055) ** 2.4 for level in levels
    )
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


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


def told(svg):
    """Return the text alternative of a picture."""
    return parsed(svg).find(f'{SVG}title').text


@pytest.mark.parametrize(
    'values, limit, label, caption',
    [
        ({'connections': 97, 'connection_limit': 100}, 100, 'connection_limit', 'Connections'),
        (
            {'descriptors': 60, 'descriptor_limit': 80},
            80,
            'limit of descriptors',
            'Open descriptors',
        ),
        ({'waited': 12.0, 'queue': 3}, 30, 'option stall', 'Age of the oldest in the queue'),
    ],
)
def test_a_vital_sign_is_drawn_with_its_limit(values, limit, label, caption):
    found = {
        chart.caption: chart.picture for chart in charts.vital_signs(samples(**values), (), 30)
    }
    assert label in words(found[caption])
    (dashed,) = [
        line for line in parsed(found[caption]).iter(f'{SVG}line') if line.get('stroke-dasharray')
    ]
    (curve,) = parsed(found[caption]).iter(f'{SVG}polyline')
    assert float(dashed.get('y1')) < float(curve.get('points').split(',')[-1]), 'below its limit'
    assert f'{label} {limit}' in told(found[caption])


def test_a_limit_far_above_is_named_and_not_drawn():
    svg = charts.descriptors_curve(samples(descriptors=60, descriptor_limit=1 << 20))
    assert '(limit of descriptors: 1,048,576)' in words(svg) and 'dasharray' not in svg
    assert 'limit of descriptors 1,048,576' in told(svg)


def test_visitors_who_wait_are_drawn_for_the_server_and_for_the_kernel():
    svg = charts.queue_curve(samples(queue=3, accept_queue=7))
    assert {'for a worker', 'in the kernel'} <= set(words(svg))
    assert told(svg) == (
        'Visitors who wait before the end: for a worker 3 at last, 3 at most; in the kernel 7 at '
        'last, 7 at most'
    )


def test_errors_of_accept_are_drawn_for_each_sample():
    failing = [replace(each, accept_errors=5 * n * n) for n, each in enumerate(samples(4))]
    assert 'in each sample 25 at last, 25 at most' in told(charts.errors_curve(failing))
    restarted = [replace(each, accept_errors=9 - n) for n, each in enumerate(samples(4))]
    assert '0 at most' in told(charts.errors_curve(restarted)), 'a damaged record'


def test_the_memory_over_the_whole_life_has_its_peaks_and_its_end():
    points = [LifePoint(NOW - 86400 + n * 3600, n, (100 + n) << 20, 400 << 20) for n in range(24)]
    svg = charts.life_curve(points, samples(1, cgroup_limit=500 << 20))
    assert '1 day before' in words(svg) and 'limit of the cgroup' in words(svg)
    assert 'the most 100 MiB at last, 400 MiB at most; the least 100 MiB at last' in told(svg)


def test_descriptors_and_threads_are_drawn_over_the_whole_life():
    """A leak of descriptors may take days, too."""
    points = [LifePoint(NOW + n, n, descriptors=20 + n, threads=9) for n in range(24)]
    svg = charts.counts_curve(points, samples(1, descriptor_limit=80))
    assert 'descriptors 43 at last, 43 at most; threads 9 at last' in told(svg)
    assert 'limit of descriptors 80' in told(svg)


def test_what_is_not_known_is_said_and_not_drawn_as_zero():
    """As of gunicorn, or in a black box of an older release."""
    found = {chart.caption: chart for chart in charts.vital_signs(samples(descriptors=7), ())}
    unknown = [caption for caption, chart in found.items() if not chart.picture]
    assert unknown == [
        'Memory over the whole life',
        'Visitors who wait',
        'Age of the oldest in the queue',
        'Connections',
        'Failed accept()',
        'Descriptors and threads over the whole life',
    ]
    assert all(found[caption].missing.startswith('Not known') for caption in unknown)


def test_without_samples_there_are_no_charts():
    assert charts.vital_signs((), ()) == charts.vital_signs(samples(1), ()) == []


def test_charts_of_the_living_process_reach_until_now():
    svg = charts.memory_curve(samples(), charts.UNTIL_NOW)
    assert told(svg).startswith('Memory until now: this process 159 MiB at last')


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
                'queue': numbers,
                'waited': numbers,
                'connections': numbers,
                'connection_limit': numbers,
                'accept_errors': numbers,
                'peak': numbers,
            }
        ),
        max_size=8,
    ),
    st.floats(-1, 1e18),
)
def test_a_curve_is_well_formed_with_any_samples(found, stall):
    points = items_from_json(LifePoint, found)
    for chart in charts.vital_signs(items_from_json(Sample, found), points, stall):
        assert chart.picture == '' or parsed(chart.picture) is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 4e9), st.floats(0, 4e9), st.sampled_from(list(VERDICTS)))))
def test_a_timeline_is_well_formed_with_any_runs(spans):
    runs = [
        RunRecord(run=str(n), started=a, ended=b, verdict=v) for n, (a, b, v) in enumerate(spans)
    ]
    svg = charts.timeline(runs, NOW)
    assert svg == '' or parsed(svg) is not None


def test_the_axis_of_runs_has_a_date_and_one_more_at_each_midnight(monkeypatch):
    with time_zone(monkeypatch, 'Europe/Berlin'):
        evening = datetime(2026, 11, 23, 21, 10).timestamp()
        ticks = axes.time_ticks(evening, evening + 8 * 3600)
    labels = [label for _, label in ticks]
    assert labels == ['23 Nov 22:00', '23:00', '24 Nov 00:00', *(f'0{h}:00' for h in range(1, 6))]


@given(st.floats(0, 4e9), st.floats(1, 4e9))
def test_a_time_axis_has_few_ticks(low, span):
    assert len(axes.time_ticks(low, low + span)) <= 50


@given(st.floats(0, 1e18))
def test_a_value_axis_has_few_ticks(top):
    for ticks in (
        axes.size_ticks(top),
        axes.percent_ticks(top),
        axes.count_ticks(top),
        axes.second_ticks(top),
    ):
        assert 2 <= len(ticks) <= 8
        assert ticks[-1][0] >= top * 0.7


@given(st.floats(0, 1e6))
def test_things_are_counted_in_whole_numbers(top):
    assert all(value == int(value) for value, _ in axes.count_ticks(top))
