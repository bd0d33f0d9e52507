"""Times for people are local, with their offset."""

import time

import pytest
from support.timezones import time_zone

from Products.StabilityMonitor.model.records import clocktime
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.records import short_clocktime

WINTER = 1_795_420_501.5  # 2026-11-23 07:55:01 UTC
SUMMER = 1_781_000_000.0  # 2026-06-09 10:13:20 UTC

pytestmark = pytest.mark.skipif(
    not hasattr(time, 'tzset'), reason='the zone of a process cannot be changed here'
)


@pytest.mark.parametrize(
    'zone, winter, summer',
    [
        ('UTC', '2026-11-23 07:55:01 UTC', '2026-06-09 10:13:20 UTC'),
        ('Europe/Berlin', '2026-11-23 08:55:01 UTC+01:00', '2026-06-09 12:13:20 UTC+02:00'),
        ('America/St_Johns', '2026-11-23 04:25:01 UTC-03:30', '2026-06-09 07:43:20 UTC-02:30'),
    ],
)
def test_a_time_is_that_of_the_event_log_with_its_offset(monkeypatch, zone, winter, summer):
    with time_zone(monkeypatch, zone):
        in_log = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(WINTER))
        assert clocktime(WINTER).startswith(f'{in_log} UTC')
        assert [clocktime(WINTER), clocktime(SUMMER)] == [winter, summer]


def test_json_stays_in_utc(monkeypatch):
    with time_zone(monkeypatch, 'Europe/Berlin'):
        assert isotime(WINTER) == '2026-11-23T07:55:01.500Z'


def test_a_second_time_of_the_same_local_day_has_no_date(monkeypatch):
    evening, night = WINTER + 15 * 3600, WINTER + 15.5 * 3600
    assert short_clocktime(night, evening) == '23:25:01'
    with time_zone(monkeypatch, 'Europe/Berlin'):
        assert short_clocktime(night, evening) == '2026-11-24 00:25:01 UTC+01:00'


@pytest.mark.parametrize('nothing', [None, float('nan'), 1e20])
def test_what_is_not_a_time_is_an_unknown_time(nothing):
    assert clocktime(nothing) == short_clocktime(nothing, WINTER) == 'an unknown time'
