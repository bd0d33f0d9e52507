"""The pictures of when incidents occurred."""

import re
import xml.etree.ElementTree as ET

import pytest

from Products.StabilityMonitor.reporting import occurrences

DAY = 86400.0
NOW = 1_790_000_000.0


def bars(picture):
    """Return [(number of incidents, x, height)] of a picture."""
    found = []
    for bar in ET.fromstring(picture).iter('{http://www.w3.org/2000/svg}rect'):
        words = bar[0].text
        count = int(re.match(r'[\d,]+', words)[0].replace(',', ''))
        found.append((count, float(bar.get('x')), float(bar.get('height'))))
    return found


@pytest.mark.parametrize('draw', [occurrences.small, occurrences.large])
def test_each_incident_is_in_a_bar_and_more_make_a_higher_one(draw):
    times = [NOW - 20 * DAY, *[NOW - DAY] * 6, NOW - DAY / 2]
    found = bars(draw(times, NOW - 30 * DAY, NOW, '#c05500'))
    assert sum(count for count, _, _ in found) == 8
    heights = {count: height for count, _, height in found}
    assert heights[max(heights)] > heights[1]
    assert [x for _, x, _ in found] == sorted(x for _, x, _ in found)


def test_a_single_incident_makes_no_full_bar_and_is_told_in_words():
    picture = occurrences.small([NOW], NOW - DAY, NOW, '#c05500')
    ((_, _, one),) = bars(picture)
    (*_, (_, _, six)) = bars(occurrences.small([NOW] * 6, NOW - DAY, NOW, '#c05500'))
    assert one < six and '<title>1 incident, 2026-' in picture


def test_ten_thousand_incidents_make_no_more_bars_than_there_is_room_for():
    times = [NOW - number for number in range(10_000)]
    assert len(bars(occurrences.large(times, NOW - DAY, NOW, '#c05500'))) < 200


@pytest.mark.parametrize('times', [[NOW + 40 * DAY], [-1e9], [1e15], [NOW, NOW]])
def test_times_outside_of_the_picture_stay_inside_of_it(times):
    for count, x, height in bars(occurrences.large(times, NOW, NOW, '#c05500')):
        assert count and 0 <= x <= 1000 and 0 < height <= 110


def test_without_times_there_is_no_picture():
    assert occurrences.small([], NOW - DAY, NOW, '#c05500') == ''
