"""The times of log lines: of Python's logging, ZConfig, gunicorn, syslog and access logs."""

from datetime import UTC
from datetime import datetime

import pytest

from Products.StabilityMonitor.system.logtimes import moment

NOON = datetime(2026, 12, 1, 12, 0, 0, tzinfo=UTC).timestamp()
LOCAL = datetime(2026, 12, 1, 12, 0, 0).timestamp()


@pytest.mark.parametrize(
    'line, expected',
    [
        ('2026-12-01 12:00:00,250 ERROR [waitress:24][MainThread] text', LOCAL + 0.25),
        ('2026-12-01T12:00:00 INFO root text', LOCAL),
        ('INFO 2026-12-01 12:00:00,250 text', LOCAL + 0.25),
        ('[2026-12-01 13:00:00 +0100] [17] [ERROR] text', NOON),
        ('2026-12-01T12:00:00.5Z web1 text', NOON + 0.5),
        ('2026-12-01T07:00:00.123456789-05:00 web1 text', NOON + 0.123456),
        ('Dec  1 12:00:00 web1 kernel: text', LOCAL),
        ('127.0.0.1 - ada [01/Dec/2026:13:00:00 +0100] "GET / HTTP/1.1" 200 1', NOON),
    ],
)
def test_each_form_is_read(line, expected):
    assert moment(line, NOON) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    'line',
    [
        '',
        '  File "x.py", line 3',
        "KeyError: '2026-12-01 12:00:00'",
        '2026-13-01 12:00:00 there is no such month',
        'Feb 30 12:00:00 web1 there is no such day',
        '------',
        'GET "/x" [01/Dec/2026:13:00:00 +0100]',
    ],
)
def test_other_lines_have_no_time(line):
    assert moment(line, NOON) is None


def test_a_time_without_a_year_is_in_the_past():
    expected = datetime(2025, 12, 24, 12, 0, 0).timestamp()
    assert moment('Dec 24 12:00:00 web1 text', NOON) == expected
