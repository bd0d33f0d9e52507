"""What the logs of supervisors say about the end of one process.  Text in, a Witness or None out.

Read in the sources of zdaemon 5.2.1, supervisord 4.3.0, gunicorn 20.1 to 27.0 and uWSGI 2.0.31:

    2026-12-01T11:06:05 INFO root pid 4711: terminated by SIGSEGV (core dumped)
    2026-12-01 11:06:34,208 WARN exited: zope (terminated by SIGKILL; not expected)
    [2026-12-01 11:06:34 +0000] [17] [ERROR] Worker (pid:4711) was sent SIGKILL! Perhaps out ...
    DAMN ! worker 1 (pid: 4711) died, killed by signal 9 :( trying respawn ...

A pid is used again, so a line counts only if it is of the right time, too: not before the last sign
of life, and before the same pid is started again.  In most logs a time is local and without zone;
then each moment counts for which the clock of this process would show it.  A log in another zone
tells nothing.  A line that is damaged is left out.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from ..model.plaintext import clean
from ..model.witnesses import Witness
from ..system.signalnames import signal_name

#: Seconds by which a line may be older than the last sign of life: most logs have whole seconds.
_SLACK = 3.0
#: Characters of the longest line that is read, and of the longest that is quoted.
_LONGEST = 2000
_QUOTED = 300

# `re` compiles these when they are first used, in the background: that takes 10 to 30 ms, and this
# module is imported by the thread that starts Zope.
_TIME = r'(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d{1,6})?(?: ?([+-]\d{4}))?'
#: How zdaemon and supervisord write a wait status.
_STATUS = (
    r'(?:exit status (?P<code>\d{1,5})'
    r'|terminated by (?P<signal>SIG[A-Z0-9]{1,12}|signal \d{1,3})(?P<core> \(core dumped\))?'
    r'|unknown termination cause 0x[0-9a-f]{1,8})'
)
#: Between the time and the words, ZConfig and other formats write the level and the logger.
_ZDAEMON_HEAD = rf'{_TIME}(?: [\[\]\w.:-]{{1,40}}){{0,4}} '
_ZDAEMON_SPAWN = rf'{_ZDAEMON_HEAD}spawned process pid=(?P<pid>\d{{1,10}})'
_ZDAEMON_END = (
    rf'{_ZDAEMON_HEAD}(?:unknown\(!=\d{{1,10}}\) )?pid (?P<pid>\d{{1,10}}): {_STATUS}'
    r'(?:; exiting now)?'
)
_SUPERVISORD_BEGIN = rf'{_TIME} \w+ supervisord started with pid \d+'
_SUPERVISORD_SPAWN = rf"{_TIME} \w+ spawned: '(?P<name>[^']{{1,200}})' with pid (?P<pid>\d{{1,10}})"
_SUPERVISORD_END = (
    rf'{_TIME} \w+ (?P<what>exited|stopped): (?P<name>.{{1,200}}?) \({_STATUS}'
    r'(?:; (?:not )?expected)?\)'
)
#: Each line of gunicorn names the process that wrote it.
_GUNICORN = rf'\[{_TIME}\] \[(?P<writer>\d{{1,10}})\] \[\w+\] (?P<words>.*)'
_GUNICORN_SPAWN = r'Booting worker with pid: (?P<pid>\d{1,10})'
_GUNICORN_TIMEOUT = r'WORKER TIMEOUT \(pid:(?P<pid>\d{1,10})\)'
_GUNICORN_END = (
    r'Worker (?:'
    r'\(pid:(?P<pid>\d{1,10})\) was sent (?P<signal>SIG[A-Z0-9]{1,12}|signal \d{1,3})!'
    r'(?: Perhaps out of memory\?)?'
    # Releases 21 to 23 write so if a core file was dumped: the number is the whole wait status.
    r'|\(pid:(?P<raw_pid>\d{1,10})\) was sent code (?P<raw>\d{1,3})!'
    r'|\(pid:(?P<exit_pid>\d{1,10})\) exited with code (?P<code>\d{1,3})\.?'
    r'|with pid (?P<old_pid>\d{1,10}) was terminated due to signal (?P<number>\d{1,3})'  # 20.1
    r')'
)
#: uWSGI writes a time only with --logdate, and then in a form that the site chooses.
_UWSGI_HEAD = r'(?:[^!*]{1,60} - )?'
_UWSGI_SPAWN = (
    rf'{_UWSGI_HEAD}(?:Res|s)pawned uWSGI worker .{{1,40}}?pid: (?P<pid>\d{{1,10}})[,)].*'
)
_UWSGI_HARAKIRI = rf'{_UWSGI_HEAD}\*\*\* HARAKIRI ON WORKER \d+ \(pid: (?P<pid>\d{{1,10}})[,)].*'
_UWSGI_END = (
    rf'{_UWSGI_HEAD}(?:DAMN ! worker \d+ \(pid: (?P<pid>\d{{1,10}})\) '
    r'(?:died|died, killed by signal (?P<number>\d{1,3})'
    r'|MISTERIOUSLY killed by signal (?P<number2>\d{1,3})) :\( trying respawn \.\.\.'
    r'|worker \d+ killed successfully \(pid: (?P<asked_pid>\d{1,10})\))'
)
_ASKING = ('SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2')


@dataclass(frozen=True)
class DeadProcess:
    """The process that the log is asked about.

    `started`, its `last_sign` of life, and when it was `found` dead, are in seconds since the
    epoch.  `parent` is the process that started it; 0: not known.
    """

    pid: int
    started: float
    last_sign: float
    found: float
    parent: int = 0

    def may_end(self, moment: float) -> bool:
        first = max(self.started, self.last_sign) - _SLACK
        return first <= moment <= self.found + _SLACK

    def is_gone(self, moment: float) -> bool:
        """Whether a process that got this pid at that moment is another one."""
        return moment > max(self.started, self.last_sign) + _SLACK


#: Returns the Witness of a DeadProcess from the text of a log.
Parser = Callable[[str, DeadProcess], Witness | None]


def zdaemon(text: str, dead: DeadProcess) -> Witness | None:
    found = None
    for line in _lines(text, str(dead.pid)):
        spawned = re.fullmatch(_ZDAEMON_SPAWN, line)
        if spawned and int(spawned['pid']) == dead.pid:
            if _is_later(spawned, dead):
                break
            found = None  # that was an earlier process with the same pid
        end = re.fullmatch(_ZDAEMON_END, line)
        if end and not found and int(end['pid']) == dead.pid:
            ended = _end(end, dead)
            if ended is not None:
                found = _witness('zdaemon', line, ended, dead, end)
    return found


def supervisord(text: str, dead: DeadProcess) -> Witness | None:
    """The line about the end has a name instead of a pid.

    Programs of two groups may have the same name.  While two processes of a name live, a line about
    the end of one tells nothing.
    """
    found = None
    running: dict[str, set[int]] = {}
    for line in _lines(text, 'supervisord started ', ' spawned: ', ' exited: ', ' stopped: '):
        if re.fullmatch(_SUPERVISORD_BEGIN, line):
            running.clear()
        spawned = re.fullmatch(_SUPERVISORD_SPAWN, line)
        if spawned:
            if int(spawned['pid']) == dead.pid:
                if _is_later(spawned, dead):
                    break
                found = None  # that was an earlier process with the same pid
            running.setdefault(spawned['name'], set()).add(int(spawned['pid']))
        end = re.fullmatch(_SUPERVISORD_END, line)
        if not end:
            continue
        pids = running.get(end['name'], set())
        if dead.pid in pids and len(pids) > 1:
            return None
        running.pop(end['name'], None)
        ended = _end(end, dead) if dead.pid in pids else None
        if ended is not None:
            found = _witness('supervisord', line, ended, dead, end)
            if end['what'] == 'stopped':
                # The log does not name the signal that it sent: SIGTERM is the default.  SIGKILL is
                # the last that it sends, or the only one (stopsignal=KILL).
                asked = found.signal if found.signal in (*_ASKING, 'SIGKILL') else None
                found = replace(found, asked=asked or 'SIGTERM')
    return found


def gunicorn(text: str, dead: DeadProcess) -> Witness | None:
    """Only lines that the parent of the worker wrote tell its end: requests may write others."""
    found = None
    timeout = ''
    for line in _lines(text, str(dead.pid)):
        head = re.fullmatch(_GUNICORN, line)
        if not head:
            continue
        words = head['words']
        spawned = re.fullmatch(_GUNICORN_SPAWN, words)
        if spawned and int(spawned['pid']) == dead.pid:
            if _is_later(head, dead):
                break
            found, timeout = None, ''  # that was an earlier process with the same pid
        if found or (dead.parent and int(head['writer']) != dead.parent):
            continue
        late = re.fullmatch(_GUNICORN_TIMEOUT, words)
        if late and int(late['pid']) == dead.pid and _end(head, dead) is not None:
            timeout = line
        end = re.fullmatch(_GUNICORN_END, words)
        if not end or dead.pid not in _numbers(end, 'pid'):
            continue
        ended = _end(head, dead)
        if ended is None:
            continue
        found = _witness('gunicorn', line, ended, dead, end, timeout)
        if end['raw']:  # a wait status with the flag of a core file
            number = int(end['raw']) & 0x7F
            dumped = bool(int(end['raw']) & 0x80)
            found = replace(found, signal=signal_name(number), core_dumped=dumped)
    return found


def uwsgi(text: str, dead: DeadProcess) -> Witness | None:
    """`text` begins at the last sign of life, because the lines have no time."""
    harakiri = ''
    for line in _lines(text, str(dead.pid)):
        spawned = re.fullmatch(_UWSGI_SPAWN, line)
        if spawned and int(spawned['pid']) == dead.pid:
            return None
        late = re.fullmatch(_UWSGI_HARAKIRI, line)
        if late and int(late['pid']) == dead.pid:
            harakiri = line
        end = re.fullmatch(_UWSGI_END, line)
        if end and dead.pid in _numbers(end, 'pid'):
            return _witness('uwsgi', line, None, dead, end, harakiri)
    return None


#: {name of the supervisor, as in the context of a run: its parser}, for logs with times.
PARSERS: Mapping[str, Parser] = MappingProxyType(
    {'zdaemon': zdaemon, 'supervisord': supervisord, 'gunicorn': gunicorn}
)


def first_moment(text: str) -> float | None:
    """Return the time of the first line that has one, in seconds since the epoch."""
    for line in _lines(text):
        found = re.search(_TIME, line[:100])
        moments = _moments(found) if found else ()
        if moments:
            return moments[0]
    return None


def _lines(text: str, *wanted: str) -> Iterator[str]:
    """Yield the whole lines, of all or with one of these words."""
    # `splitlines` would also split at characters that a request can bring into a log.  The last
    # line may be torn: "exit status 1" may become "exit status 13".
    for line in text.split('\n')[:-1]:
        if wanted and not any(word in line for word in wanted):
            continue
        line = line.strip('\0\r')
        if 0 < len(line) <= _LONGEST:
            yield line


def _moments(found: re.Match[str]) -> tuple[float, ...]:
    """Return the moments that the time in a line may mean, in seconds since the epoch: two in the
    hour that comes twice; none if there is no such time.
    """
    date, clock, zone = found[1], found[2], found[3]
    try:
        if zone:
            exact = datetime.strptime(f'{date} {clock} {zone}', '%Y-%m-%d %H:%M:%S %z')
            return (exact.timestamp(),)
        local = time.strptime(f'{date} {clock}', '%Y-%m-%d %H:%M:%S')
        both = {time.mktime((*local[:8], is_summer)) for is_summer in (-1, 0, 1)}
        shown = [moment for moment in both if time.localtime(moment)[:6] == local[:6]]
    except (ValueError, OverflowError):
        return ()
    return tuple(sorted(shown))


def _end(found: re.Match[str], dead: DeadProcess) -> float | None:
    """Return the time of a line if the process may have ended then."""
    return next(filter(dead.may_end, _moments(found)), None)


def _is_later(spawned: re.Match[str], dead: DeadProcess) -> bool:
    return any(map(dead.is_gone, _moments(spawned)))


def _numbers(found: re.Match[str], suffix: str) -> set[int]:
    """Return the numbers in the groups whose names end so."""
    return {int(text) for name, text in found.groupdict().items() if text and name.endswith(suffix)}


def _witness(
    source: str,
    line: str,
    ended: float | None,
    dead: DeadProcess,
    end: re.Match[str],
    before: str = '',
) -> Witness:
    """Return what a line says.  `before` is a line that says why the supervisor ended it."""
    status = end.groupdict()
    name = _signal(status.get('signal') or '')
    number = status.get('number') or status.get('number2')
    if number:
        name = signal_name(int(number))
    code = int(status['code']) if status.get('code') else None
    quoted = f'"{clean(line[:_QUOTED])}"'
    if before:
        quoted = f'"{clean(before[:_QUOTED])}", then {quoted}'
    return Witness(
        source=source,
        time=dead.found,
        fact=f'It logged: {quoted}',
        ended=ended,
        exit_code=code if code is not None and code <= 255 else None,
        signal=name or None,
        core_dumped=bool(status.get('core')),
    )


def _signal(word: str) -> str:
    """Return the usual name of a signal, '' if there is none: zdaemon writes SIGIOT for SIGABRT."""
    number = getattr(signal, word, None)
    if word.startswith('signal '):
        number = int(word.removeprefix('signal '))
    return signal_name(number) if isinstance(number, int) else ''
