"""Reads what the kernel logged about the end of a process: a fault, or an OOM kill.

The kernel names the thread in which a fault was, and the process that it killed, by its own ids.
A process in a pid namespace, as in most containers, knows only other ids, so nothing is joined
there.  `system.kernelmessages` reads the log.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from datetime import datetime

from ..model.faultfacts import KernelFault
from ..model.plaintext import clean
from ..model.witnesses import FAULT
from ..model.witnesses import OUT_OF_MEMORY
from ..model.witnesses import Witness

_QUOTED = 400
#: What the kernel logs when a thread dies of a fault: "python3[4711]: segfault at 0 ip ...",
#: "traps: waitress-0[4711] general protection fault ip:...", "... trap invalid opcode ip:...".
#: The number is the kernel's id of the thread.
FAULT_LINE = re.compile(
    r'(.{1,40})\[(\d{1,10})\]:? (segfault at|general protection|trap (?:[a-z0-9]+ ?){1,4})'
)
#: What follows it: "segfault at 8 ip 7f.. sp 7f.. error 4 in x.so[16a499,7f93418d2000+168000]", and
#: "general protection fault ip:7f.. sp:7f.. error:0 in x.so[7f93418d2000+168000]".  All numbers are
#: hexadecimal.
_NUMBER = r'[0-9a-f]{1,16}'
_DETAILS = re.compile(
    rf'(?:segfault at (?P<address>{_NUMBER})|general protection fault'
    r'|trap (?P<trap>[a-z0-9 ]{1,40}?))'
    rf' ip[ :](?P<ip>{_NUMBER}) sp[ :](?P<sp>{_NUMBER}) error[ :](?P<error>{_NUMBER})'
    rf'(?: in (?P<library>[^\[]{{1,255}})'
    rf'\[(?:(?P<offset>{_NUMBER}),)?(?P<base>{_NUMBER})\+{_NUMBER}\])?'
)
_KILL_LINE = re.compile(r'.{0,60}\bKilled process (\d{1,10})[ ,].*')
#: The signal that a fault of this name leads to.
_SIGNALS = {
    'segfault at': 'SIGSEGV',
    'general protection': 'SIGSEGV',
    'trap invalid opcode': 'SIGILL',
    'trap divide error': 'SIGFPE',
    'trap stack segment': 'SIGBUS',
}
#: A line of a log file: "Dec  1 11:06:34 host kernel: [ 123.456789] text", or with an ISO time.
_SYSLOG = re.compile(
    r'(?:(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,]\d{1,9})?(?P<zone>Z|[+-]\d\d:?\d\d)'
    r'|(?P<day>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d))'
    r' \S{1,255} kernel: (?:\[ *\d{1,10}\.\d{1,9}\] )?(?P<words>.*)'
)


def of_file(text: str, now: float) -> Iterator[tuple[float, str]]:
    """Yield (time in seconds since the epoch, message) of the kernel's lines in a log of syslog.

    Most of these times have no year: then it is the last one before `now` in which they fit.
    """
    for line in text.split('\n')[:-1]:  # the last line may be torn
        found = _SYSLOG.fullmatch(line[:2000])
        moment = _moment(found, now) if found else None
        if found and moment is not None:
            yield moment, found['words']


def _moment(found: re.Match[str], now: float) -> float | None:
    try:
        if found['iso']:
            return datetime.fromisoformat(found['iso'] + found['zone']).timestamp()
        year = time.localtime(now + 86400).tm_year
        moment = time.mktime(time.strptime(f'{year} {found["day"]}', '%Y %b %d %H:%M:%S'))
        if moment > now + 86400:
            moment = time.mktime(time.strptime(f'{year - 1} {found["day"]}', '%Y %b %d %H:%M:%S'))
        return moment
    except (ValueError, OverflowError):
        return None


def fault_of(message: str) -> KernelFault | None:
    """Return what the kernel says in a message about a fault; None for other messages.

    Before Linux 6.4 the line has no place in the file, only that in the mapping of its code: there
    the offset stays 0.  On other CPUs than x86 the lines have another form, and are not read.
    """
    found = FAULT_LINE.match(message)
    if not found:
        return None
    details = _DETAILS.match(message, found.start(3))
    if not details:
        what = found[3].removeprefix('trap ').removesuffix(' at').strip()
        return KernelFault(what, int(found[2]))
    what = details['trap'] or ('segfault' if details['address'] else 'general protection')
    numbers = {
        name: int(details[name] or '0', 16) for name in ('address', 'ip', 'sp', 'error', 'offset')
    }
    return KernelFault(
        what=what,
        thread=int(found[2]),
        address=numbers['address'] if details['address'] else None,
        program_counter=numbers['ip'],
        stack_pointer=numbers['sp'],
        error=numbers['error'],
        library=details['library'] or '',
        offset=numbers['offset'],
    )


def is_of_others(message: str, threads: Collection[int]) -> bool:
    """Whether a message is about a fault of a thread that is none of these ids."""
    found = FAULT_LINE.match(message)
    return found is not None and int(found[2]) not in threads


def killed(message: str, pid: int) -> bool:
    """Whether the kernel says that it has killed this process for lack of memory."""
    found = _KILL_LINE.fullmatch(message)
    return found is not None and int(found[1]) == pid


def witness(
    lines: Iterable[tuple[float, str]], pid: int, threads: Collection[int], now: float
) -> Witness | None:
    """Return what the kernel saw of the end of process `pid`.

    `lines` are (time in seconds since the epoch, message) of the time of its end; `threads` are the
    ids of its threads; `now` is when this is written down.
    """
    found = []
    for moment, message in lines:
        fault = FAULT_LINE.match(message)
        quoted = f'It logged: "{clean(message[:_QUOTED])}"'
        if killed(message, pid):
            signal, cause = 'SIGKILL', OUT_OF_MEMORY
        elif fault and (int(fault[2]) == pid or int(fault[2]) in threads):
            known = (name for words, name in _SIGNALS.items() if fault[3].startswith(words))
            signal, cause = next(known, ''), FAULT
        else:
            continue
        found.append(
            Witness(
                source='kernel',
                time=now,
                fact=quoted,
                ended=moment,
                signal=signal or None,
                cause=cause if signal else '',
                fault=fault_of(message) if fault else None,
            )
        )
    return min(found, key=lambda each: each.ended or 0.0, default=None)
