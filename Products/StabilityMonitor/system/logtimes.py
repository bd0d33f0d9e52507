"""Reads the time at the beginning of a line of a log.  Text in, seconds since the epoch out.

The forms are those of Python's `logging`, ZConfig, gunicorn and syslog, and that of access logs:

    2026-12-01 11:06:34,208 ERROR [waitress:24][MainThread] ...
    2026-12-01T11:06:34 INFO root ...
    [2026-12-01 11:06:34 +0000] [17] [ERROR] ...
    Dec  1 11:06:34 web1 kernel: ...
    127.0.0.1 - - [01/Dec/2026:11:06:34 +0100] "GET /page HTTP/1.1" 200 4711

A time without a zone is local; in the hour that comes twice it is the first one.
"""

from __future__ import annotations

import re
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from datetime import timezone

_MONTHS = ('Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec')
_MONTH = '|'.join(_MONTHS)
_CLOCK = r'(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)'
#: The level may come first.
_ISO = re.compile(
    r'(?:[A-Z]{1,10}[ :]{1,4})?\[?(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T ]'
    + _CLOCK
    + r'(?:[.,](?P<fraction>\d{1,6})\d*)?(?: ?(?P<zone>Z|[+-]\d\d:?\d\d))?'
)
_SYSLOG = re.compile(rf'(?P<name>{_MONTH}) (?P<day>[ \d]\d) {_CLOCK} ')
#: Before the time are the address of the visitor and the name of the user.
_ACCESS = re.compile(
    rf'[^\["]{{1,300}}\[(?P<day>\d\d)/(?P<name>{_MONTH})/(?P<year>\d{{4}}):{_CLOCK}'
    r' (?P<zone>[+-]\d{4})\]'
)
#: Seconds by which a line may be later than now: clocks differ.
_AHEAD = 86400.0


def moment(line: str, now: float) -> float | None:
    """Return the time of a line; None if it does not begin with one.

    `now` tells the year of a time that has none: the last one in which it was not later.
    """
    for form in (_ISO, _SYSLOG, _ACCESS):
        found = form.match(line)
        if found:
            try:
                return _seconds(found.groupdict(), now)
            except (ValueError, OverflowError, OSError):  # there is no such time
                return None
    return None


def _seconds(parts: dict[str, str | None], now: float) -> float:
    name = parts.get('name')
    month = _MONTHS.index(name) + 1 if name else int(parts['month'] or '')
    year = parts.get('year')
    day, hour, minute, second = (
        int(parts[unit] or '') for unit in ('day', 'hour', 'minute', 'second')
    )
    if year is None:
        this = datetime.fromtimestamp(now + _AHEAD).year
        seconds = datetime(this, month, day, hour, minute, second).timestamp()
        if seconds > now + _AHEAD:
            seconds = datetime(this - 1, month, day, hour, minute, second).timestamp()
        return seconds
    fraction = int((parts.get('fraction') or '').ljust(6, '0'))
    zone = _zone(parts.get('zone'))
    return datetime(int(year), month, day, hour, minute, second, fraction, zone).timestamp()


def _zone(text: str | None) -> timezone | None:
    """Return the zone that a text as "+0100" names; None: that of this process."""
    if not text:
        return None
    if text == 'Z':
        return UTC
    digits = text[1:].replace(':', '')
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == '-' else offset)
