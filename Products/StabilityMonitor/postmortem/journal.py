"""Asks the journal of systemd how a process ended, where this user may read it.

systemd writes an entry when the main process of a service has ended.  It names no pid, but the
invocation of the service, which every run records; so it counts only for a run whose parent was
systemd.  Anybody may write such fields into the journal: only what its trusted fields ascribe to
systemd counts.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model.plaintext import clean
from ..model.records import isotime
from ..model.witnesses import OUT_OF_MEMORY
from ..model.witnesses import Witness
from ..system.childprocess import ChildProcess
from ..system.signalnames import signal_name
from .supervisorlogs import DeadProcess

#: The kinds of entries of systemd: a process of a unit has ended; systemd-oomd has killed a unit.
_ENDED = '98e322203f7a4ed290d09fe03c09fe15'
_OOMD = 'd989611b15e44c9dbf31e3c81256e4ed'
_INVOCATION = re.compile(r'[0-9a-f]{32}')
_FIELDS = (
    'MESSAGE',
    'MESSAGE_ID',
    'EXIT_CODE',
    'EXIT_STATUS',
    'INVOCATION_ID',
    'USER_INVOCATION_ID',
    '_PID',
    '_UID',
    '_TRANSPORT',
    'SYSLOG_IDENTIFIER',
)
#: Seconds that the command may take, entries that it may return, and bytes that are read.
_LONGEST = 5.0
_MOST_ENTRIES = 1000
_MOST = 2 << 20
_QUOTED = 300


def unit_entries(program: Path | None, invocation: str) -> list[dict[str, Any]]:
    """Return what systemd wrote about that invocation; [] if there is no journal to read."""
    if not _INVOCATION.fullmatch(invocation):
        return []
    kinds = [f'MESSAGE_ID={_ENDED}', f'MESSAGE_ID={_OOMD}']
    of_user = [f'USER_INVOCATION_ID={invocation}', *kinds]
    return _entries(program, [f'INVOCATION_ID={invocation}', *kinds, '+', *of_user])


def kernel_entries(program: Path | None, since: float, until: float) -> list[dict[str, Any]]:
    """Return what the kernel logged in this boot, between these seconds since the epoch."""
    return _entries(program, ['--dmesg', f'--since=@{since:.0f}', f'--until=@{until:.0f}'])


def service_lines(program: Path | None, invocation: str, since: float, until: float) -> list[str]:
    """Return what the processes of that invocation and systemd logged about it, between these
    seconds since the epoch: "2026-12-01T11:06:34.208Z zope[4711]: text".
    """
    if not _INVOCATION.fullmatch(invocation):
        return []
    names = ('_SYSTEMD_INVOCATION_ID', 'INVOCATION_ID', 'USER_INVOCATION_ID')
    wanted = ' + '.join(f'{name}={invocation}' for name in names).split()
    lines = []
    for entry in _entries(program, [f'--since=@{since:.0f}', f'--until=@{until:.0f}', *wanted]):
        who = f'{entry.get("SYSLOG_IDENTIFIER", "?")}[{entry.get("_PID", "?")}]'
        message = entry.get('MESSAGE')
        if isinstance(message, str):  # else it is not text, or too long
            lines += [f'{isotime(_time(entry))} {who}: {line}' for line in message.splitlines()]
    return lines


def _entries(program: Path | None, words: list[str]) -> list[dict[str, Any]]:
    if program is None or not os.access(program, os.X_OK):
        return []
    command = [
        program,
        '--output=json',
        '--no-pager',
        '--quiet',
        f'--lines={_MOST_ENTRIES}',
        f'--output-fields={",".join(_FIELDS)}',
        *words,
    ]
    with ChildProcess(command, {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'}) as child:
        output, _ = child.read(time.monotonic() + _LONGEST, most=_MOST)
    found = []
    for line in output.split(b'\n'):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # also the last line, if it is cut off
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def of_unit(
    entries: Iterable[dict[str, Any]], dead: DeadProcess, invocation: str, user: int
) -> Witness | None:
    """Return what systemd saw of the end of the main process of that invocation.

    `user` is whose own systemd is trusted, too.
    """
    found: Witness | None = None
    oom = ''
    for entry in entries:
        moment = _time(entry)
        if moment is None or not dead.may_end(moment) or not _is_of(entry, invocation, user):
            continue
        if entry.get('MESSAGE_ID') == _OOMD:
            oom = _message(entry)
        elif entry.get('MESSAGE_ID') == _ENDED and found is None:
            found = _end(entry, moment, dead)
    if found and oom and found.signal == 'SIGKILL':
        return Witness(
            source=found.source,
            time=found.time,
            fact=f'It has: "{oom}", then {found.fact.removeprefix("It has: ")}',
            ended=found.ended,
            signal=found.signal,
            cause=OUT_OF_MEMORY,
        )
    return found


def kernel_lines(entries: Iterable[dict[str, Any]]) -> Iterator[tuple[float, str]]:
    """Yield (time in seconds since the epoch, message) of the entries that the kernel wrote."""
    for entry in entries:
        moment = _time(entry)
        message = entry.get('MESSAGE')
        is_kernel = entry.get('_TRANSPORT') == 'kernel'
        if is_kernel and moment is not None and isinstance(message, str):
            yield moment, message


def _is_of(entry: dict[str, Any], invocation: str, user: int) -> bool:
    if entry.get('INVOCATION_ID') == invocation:
        return entry.get('_PID') == '1'
    return entry.get('USER_INVOCATION_ID') == invocation and entry.get('_UID') == str(user)


def _end(entry: dict[str, Any], moment: float, dead: DeadProcess) -> Witness | None:
    status = entry.get('EXIT_STATUS')
    how = entry.get('EXIT_CODE')
    # The entry about another process of the unit, such as that of ExecStartPost, reads otherwise.
    if 'Main process exited' not in _message(entry):
        return None
    if not isinstance(status, str) or not re.fullmatch(r'[0-9]{1,3}', status):
        return None
    number = int(status)
    exit_code = number if how == 'exited' and number <= 255 else None
    signal = signal_name(number) if how in ('killed', 'dumped') else None
    return Witness(
        source='journal',
        time=dead.found,
        fact=f'It has: "{_message(entry)}"',
        ended=moment,
        exit_code=exit_code,
        signal=signal,
        core_dumped=how == 'dumped',
    )


def _message(entry: dict[str, Any]) -> str:
    return clean(str(entry.get('MESSAGE', ''))[:_QUOTED])


def _time(entry: dict[str, Any]) -> float | None:
    """Return when the entry was written, in seconds since the epoch."""
    microseconds = entry.get('__REALTIME_TIMESTAMP')
    if not isinstance(microseconds, str) or not re.fullmatch(r'[0-9]{1,18}', microseconds):
        return None
    return int(microseconds) / 1e6
