"""Reads the log of the kernel, /dev/kmsg.  Often only root may."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

#: At most this many records of the kernel's log are read.
_MOST_RECORDS = 50_000
#: Seconds by which the kernel's clock and the process's monotonic clock may differ.
CLOCK_SLACK = 5


def of_device(path: Path, since: float, until: float = math.inf) -> Iterator[str]:
    """Yield the first line of each message in that time, newest first; see `timed`."""
    for _, message in timed(path, since, until):
        yield message


def timed(path: Path, since: float, until: float = math.inf) -> Iterator[tuple[float, str]]:
    """Yield (time, first line) of each message that the kernel logged in that time, newest first.

    `path` is /dev/kmsg.  Times are in seconds of the monotonic clock, and may differ by
    CLOCK_SLACK.  Often the log cannot be read without privileges.

    A record is `priority,number,microseconds since the boot,flags;message`.
    """
    for record in reversed(_records(path)):
        head, _, message = record.partition(';')
        fields = head.split(',')
        if len(fields) < 3 or not fields[2].isdecimal():
            continue
        logged = int(fields[2][:18]) / 1e6
        lines = message.strip().splitlines()
        if lines and since - CLOCK_SLACK <= logged <= until + CLOCK_SLACK:
            yield logged, lines[0]


def is_readable(path: Path) -> bool:
    """Whether /dev/kmsg has messages for this process."""
    return bool(_records(path, most=1))


def _records(path: Path, most: int = _MOST_RECORDS) -> list[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    records: list[str] = []
    try:
        while len(records) < most:
            record = os.read(descriptor, 8192)
            if not record:
                break
            records.append(record.decode(errors='replace'))
    except OSError:  # EAGAIN: there are no more records; EPIPE: this one was overwritten
        pass
    finally:
        os.close(descriptor)
    return records
