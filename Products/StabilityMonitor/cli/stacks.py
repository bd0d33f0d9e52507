"""The command "stacks": what every thread of a living process does.

The command asks the heartbeat of the process, which answers even while all workers are busy or no
descriptor is left.  If it does not answer, C code holds the interpreter lock, or the process is
stopped.  Then the command shows what the kernel, the black box and the marks of the watchdog report
about the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inspection import nativestacks
from ..inspection import outside
from ..inspection.outside import View
from ..model.errors import NoAnswer
from ..model.errors import NoSuchRun
from ..model.errors import UnreadableRecord
from ..model.jsonform import to_json
from ..model.records import isotime
from ..model.threadstates import Stacks
from ..reporting import outsidetext
from ..reporting import stackssummary
from ..reporting import threadtext
from ..reporting.stacksdocument import is_well
from ..reporting.stacksdocument import tidy
from ..store import runmailbox
from ..store.blackboxreader import load
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from . import dataowner
from .exitstatus import UNUSABLE
from .exitstatus import WELL
from .exitstatus import WRONG
from .terminal import notice
from .terminal import print_commands
from .terminal import print_json
from .terminal import print_lines

#: The command waits this many beats for an answer, within these limits in seconds.
_BEATS = 3
_LEAST_PATIENCE = 5.0
_MOST_PATIENCE = 60.0


class NotLiving(NoSuchRun):
    next_step = 'The command "status" lists the living runs.'


def show(
    base: Base,
    living: list[tuple[str, dict[str, Any]]],
    wanted: str | None,
    native: Callable[[int], int] | None,
) -> int:
    """Print the threads of each living run, or of the wanted one, and return the exit status.

    `living`: (name, context) of each living run.  `native` also prints the native stacks of a
    process.  Raises NotLiving, OnlyTheOwner, and OSError if the user has no permission.
    """
    worst = WELL
    for name, context in chosen(base, living, wanted):
        path = base.runs / name
        found = ask(path, context)
        print_lines(_lines(found, context))
        worst = max(worst, found.exit_status)
        failed = False
        if native:
            exit_status = _show_native(path, native)
            failed = exit_status != WELL
            worst = max(worst, exit_status)
        if found.stacks is None and is_alive(path) and (failed or not native):
            _print_commands(found.pid)
    return worst


def show_json(
    base: Base,
    living: list[tuple[str, dict[str, Any]]],
    wanted: str | None,
) -> int:
    """Like `show`, as one JSON document: docs/formats.rst has its keys."""
    processes = []
    worst = WELL
    for name, context in chosen(base, living, wanted):
        found = ask(base.runs / name, context)
        processes.append(found.to_json(context))
        worst = max(worst, found.exit_status)
    print_json({'generated': isotime(time.time()), 'exit_status': worst, 'processes': processes})
    return worst


def chosen(
    base: Base,
    living: list[tuple[str, dict[str, Any]]],
    wanted: str | None,
) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, context) of the runs to ask.  Raises NotLiving, OnlyTheOwner."""
    found = [(name, context) for name, context in living if wanted in (None, name)]
    if found:
        dataowner.refuse_others(base.path, 'ask its processes')
        return found
    if wanted is not None:
        raise NotLiving(f'The run {wanted!r} is not alive.')
    raise NotLiving('No living process uses this data directory.')


@dataclass(frozen=True)
class Found:
    """What is known of a living process.

    `stacks` is its answer.  Without an answer it is None, `reason` says why, and `view` is what can
    be seen from outside.  `is_completed`: the kernel has completed the answer, because the
    process has used up its descriptors.
    """

    run: str
    pid: int
    stacks: Stacks | None = None
    view: View | None = None
    reason: str = ''
    is_completed: bool = False

    @property
    def exit_status(self) -> int:
        if self.stacks and self.stacks.threads and is_well(self.stacks):
            return WELL
        return WRONG

    def to_json(self, context: dict[str, Any]) -> dict[str, Any]:
        summary: list[str] = []
        if self.stacks:
            summary = list(stackssummary.lines(self.stacks, stall=stackssummary.stall_of(context)))
        return {
            'run': self.run,
            'pid': self.pid,
            'exit_status': self.exit_status,
            'summary': summary,
            'stacks': to_json(self.stacks) if self.stacks else None,
            'reason': self.reason or None,
            'outside': outsidetext.document(self.view) if self.view else None,
        }


def ask(path: Path, context: dict[str, Any]) -> Found:
    """Return the answer of a process; without an answer, what can be seen from outside."""
    _, pid = name_facts(path.name)
    try:
        stacks = _asked(path)
    except NoAnswer as error:
        view = outside.look(path, context, pid)
        return Found(path.name, pid, view=view, reason=str(error.args[0]))
    if stacks.without_kernel and is_alive(path):
        return Found(path.name, pid, outside.completed(stacks, pid), is_completed=True)
    return Found(path.name, pid, stacks)


def _lines(found: Found, context: dict[str, Any]) -> Iterator[str]:
    subject = f'process {found.pid} (run {found.run})'
    if found.is_completed:
        yield from _from_both(found.pid)
    if found.stacks:
        stall = stackssummary.stall_of(context)
        yield from threadtext.lines(found.stacks, subject, stall=stall)
    if found.view:
        yield from outsidetext.lines(found.view, subject, found.reason)


def _asked(path: Path) -> Stacks:
    """Return the answer of a process.  Raises NoAnswer, and PermissionError."""
    try:
        answer = runmailbox.ask(path, 'stacks', patience(path))
    except PermissionError:
        raise
    except OSError as error:  # for example because the volume is read-only now
        raise NoAnswer(f'It could not be asked: {error}.') from error
    if answer.get('error'):  # the answer only says why there are no stacks
        raise NoAnswer(str(answer['error']))
    return tidy(answer)


def _from_both(pid: int) -> Iterator[str]:
    """Say which part of the answer comes from where."""
    used = outside.descriptors(pid)
    number = f'{used[0]} of {used[1]}' if used else 'All'
    yield (
        f'{number} descriptors of process {pid} are in use: it has told its requests and Python '
        'frames itself.'
    )
    yield 'This command has read from the kernel what its threads wait for.'
    yield ''


def _print_commands(pid: int) -> None:
    """Print the commands with which a person sees the native stacks."""
    print_lines(['', 'These commands show the C and Python frames of all threads:'])
    for title, command in nativestacks.command_lines(pid, outside.executable(pid)):
        print_lines([f'  {title}'])
        print_commands([f'    {command}'])
    print_lines([f'  {nativestacks.what_is_needed(pid)}'])


def _show_native(path: Path, native: Callable[[int], int]) -> int:
    _, pid = name_facts(path.name)
    # The tool stops the process while it reads, so it must be the right process.
    if not is_alive(path):
        notice(
            f'Native stacks were not read: this command cannot verify that process {pid} belongs '
            f'to the run {path.name}. Run it on the host, and in the container, of that Zope.'
        )
        return UNUSABLE
    return native(pid)


def print_native(pid: int) -> int:
    """Print native stacks, which a tool reads; the progress goes to standard error."""
    taking = nativestacks.NativeStacks(pid)
    if taking.start():
        while not taking.wait(1.0):
            notice(taking.words)
    if taking.result:
        print_lines(['', f'Native stacks of process {pid}:'])
        print_lines(taking.result.splitlines())
    if taking.error:
        notice(taking.error)
        return UNUSABLE
    return WELL


def patience(path: Path) -> float:
    """Seconds to wait for an answer: some beats, with the interval of the last two samples."""
    try:
        samples = load(path / BLACKBOX).samples[-2:]
    except (OSError, UnreadableRecord):
        return _LEAST_PATIENCE
    some_beats = 0.0
    if len(samples) == 2:
        before, last = samples
        some_beats = _BEATS * (last.monotonic - before.monotonic)
    return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, some_beats))
