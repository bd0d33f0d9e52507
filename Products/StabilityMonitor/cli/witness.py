"""Leave what systemd saw of the end of a run with it; for ExecStopPost= of Zope's unit.

systemd sets the variables $SERVICE_RESULT, $EXIT_CODE, $EXIT_STATUS and $INVOCATION_ID there (since
version 232, see systemd.exec(5)).  They tell of the main process of the unit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass

from ..model.errors import NoSuchRun
from ..model.errors import StabilityError
from ..model.witnesses import Witness
from ..store import witnessfiles
from ..store.regularfiles import names_in
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import name_facts
from ..store.rundirectory import number_of
from ..store.rundirectory import read_json

_ID = re.compile(r'[0-9a-f]{32}', re.ASCII)
_EXIT_STATUS = re.compile(r'\d{1,3}', re.ASCII)
_SIGNAL = re.compile(r'[A-Z][A-Z0-9+-]{1,11}', re.ASCII)
_RESULT = re.compile(r'[a-z-]{1,40}', re.ASCII)
#: At most this many runs are looked at, the newest ones: an end belongs to a run that was started
#: last, or nearly.
_MOST_RUNS = 500
#: $SERVICE_RESULT: what it means, where the status alone does not say it.
_RESULTS = {
    'timeout': 'systemd had waited in vain for it to start or to stop.',
    'watchdog': 'It had not answered the watchdog of systemd in time.',
    'oom-kill': (
        'The kernel killed a process of this unit because memory had run out, perhaps another one '
        'than this.'
    ),
}


class NotBySystemd(StabilityError):
    next_step = 'Only systemd can call this, by "ExecStopPost=" of the unit of Zope; see README.'


class NoMainProcess(NoSuchRun):
    next_step = 'Nothing needs to be done, if this process was not to be a Zope.'


@dataclass(frozen=True)
class _Candidate:
    """A run of the invocation.  `parent` is the pid of its parent, `unit_process` that of the
    process that systemd has started (0: not known); both at the start of the run.
    """

    name: str
    pid: int
    number: int
    is_server: bool
    parent: int
    unit_process: int


def leave(base: Base, environ: Mapping[str, str]) -> str:
    """Leave what systemd saw, and return the name of the run.

    Raises NotBySystemd, NoSuchRun, or OSError.
    """
    seen = witness(environ)
    invocation = environ.get('INVOCATION_ID', '')
    if not _ID.fullmatch(invocation):
        raise NotBySystemd('The variable INVOCATION_ID is not set.')
    run = main_run(list(_of_invocation(base, invocation)))
    witnessfiles.add(base, run, seen)
    return run


def witness(environ: Mapping[str, str]) -> Witness:
    """Return what the variables of systemd tell.  Raises NotBySystemd if they tell no status.

    A kill for lack of memory is no cause here: systemd says so of the whole unit.
    """
    how = environ.get('EXIT_CODE', '')
    status = environ.get('EXIT_STATUS', '')
    code = None
    name = None
    if how == 'exited' and _EXIT_STATUS.fullmatch(status) and int(status) <= 255:
        code = int(status)
        words = f'exit status {code}'
    elif how in ('killed', 'dumped') and _SIGNAL.fullmatch(status):
        name = f'SIG{status}'
        words = f'{name} (core dumped)' if how == 'dumped' else name
    else:
        raise NotBySystemd('The variables EXIT_CODE and EXIT_STATUS do not tell how it ended.')
    result = environ.get('SERVICE_RESULT', '')
    fact = f'The main process of the unit ended with {words}, as systemd saw'
    fact += f'; the result is "{result}".' if _RESULT.fullmatch(result) else '.'
    if result in _RESULTS:
        fact += f' {_RESULTS[result]}'
    return Witness(
        source='systemd',
        time=time.time(),
        fact=fact,
        exit_code=code,
        signal=name,
        core_dumped=how == 'dumped',
    )


def _of_invocation(base: Base, invocation: str) -> Iterator[_Candidate]:
    """Yield the runs that began in this start of the unit, archived or not."""
    places = {name: base.archive / name for name in names_in(base.archive)}
    places |= {name: base.runs / name for name in names_in(base.runs)}
    names = sorted(filter(RUN_NAME.fullmatch, places), reverse=True)
    for name in names[:_MOST_RUNS]:
        context = read_json(places[name] / CONTEXT)
        if context.get('invocation_id') != invocation:
            continue
        yield _Candidate(
            name=name,
            pid=name_facts(name)[1],
            number=number_of(places[name]),
            is_server=context.get('role') != 'script',
            parent=_pid(context.get('parent')),
            unit_process=_pid(context.get('unit_process')),
        )


def _pid(value: object) -> int:
    return value if isinstance(value, int) else 0


def main_run(candidates: list[_Candidate]) -> str:
    """Return the run of the unit's main process.  Raises NoMainProcess if none certainly is.

    systemd from 248 on tells each process which one it has started.  Before, it is the parent: the
    process 1, or for a user's own systemd one that has no run.  ExecStartPre= may have run scripts
    of Zope, so a server comes first.  A process that replaced itself has several runs, of which the
    last one counts.
    """
    if any(each.unit_process for each in candidates):
        found = [each for each in candidates if each.unit_process == each.pid]
    else:
        found = [each for each in candidates if each.parent == 1] or _of_strangers(candidates)
    found = [each for each in found if each.is_server] or found
    if len({each.pid for each in found}) != 1:
        raise NoMainProcess('No run is certainly that of the main process of this unit.')
    return max(found, key=lambda each: each.number).name


def _of_strangers(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return the runs whose parent has no run of the same invocation."""
    pids = {each.pid for each in candidates}
    return [each for each in candidates if each.parent not in pids]
