"""The command "stacks": what every thread of a living process does.

The process is asked: its heartbeat answers even while no worker is free.  Where it does not answer,
C code holds the interpreter lock, or the process is stopped.  Then this shows what can be seen from
outside: by the kernel, the black box and the marks of the watchdog.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..inspection import nativestacks
from ..inspection import outside
from ..model.errors import NoAnswer
from ..model.errors import NoSuchRun
from ..model.errors import UnreadableRecord
from ..model.plaintext import clean
from ..model.threadstates import Stacks
from ..reporting import outsidetext
from ..reporting import threadtext
from ..reporting.stacksdocument import is_well
from ..reporting.stacksdocument import tidy
from ..store import runmailbox
from ..store.blackboxreader import load
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts

WELL = 0
WRONG = 1
UNUSABLE = 2
#: An answer is awaited for so many beats of the heartbeat, within these limits in seconds.
_BEATS = 3
_LEAST_PATIENCE = 5.0
_MOST_PATIENCE = 60.0


class NotLiving(NoSuchRun):
    next_step = 'See with the command "status" which runs live.'


def show(
    base: Base, living: list[tuple[str, dict[str, Any]]], wanted: str | None, native: bool
) -> int:
    """Print the threads of each living run, or of the wanted one; returns the exit status.

    `living`: (name, context) of the runs that live.  Raises NotLiving, and OSError without rights.
    """
    chosen = [(name, context) for name, context in living if wanted in (None, name)]
    if not chosen:
        if wanted:
            raise NotLiving(f'The run {wanted!r} does not live.')
        raise NotLiving('No process lives that leaves its traces here.')
    return max(_show(base.runs / name, context, native) for name, context in chosen)


def _show(path: Path, context: dict[str, Any], native: bool) -> int:
    pid = name_facts(path.name)[1]
    subject = f'process {pid} (run {path.name})'
    try:
        told = _asked(path)
        print(threadtext.text(told, subject), end='')
        status = WELL if told.threads and is_well(told) else WRONG
    except NoAnswer as error:
        view = outside.look(path, context, pid)
        commands = nativestacks.command_lines(pid, outside.executable(pid))
        needed = nativestacks.what_is_needed(pid)
        _print(outsidetext.lines(view, subject, error.args[0], commands, needed))
        status = WRONG
    return max(status, _native(path, pid)) if native else status


def _asked(path: Path) -> Stacks:
    """What a living process tells of its threads.

    Raises NoAnswer; also where the answer only says why the process cannot answer.
    """
    answer = runmailbox.ask(path, 'stacks', patience(path))
    if answer.get('error'):
        raise NoAnswer(str(answer['error']))
    return tidy(answer)


def _native(path: Path, pid: int) -> int:
    """Print native stacks, which a tool takes; the progress goes to standard error."""
    # The tool stops the process that it looks at, so it must be the right one.
    if not is_alive(path):
        print(
            f'stabilitymonitor: No native stacks are taken: whether process {pid} is the one of '
            f'the run {path.name} cannot be told from here. Run this on the host, and in the '
            'container, of that Zope.',
            file=sys.stderr,
        )
        return UNUSABLE
    taking = nativestacks.NativeStacks(pid)
    if taking.start():
        while not taking.wait(1.0):
            print(clean(f'stabilitymonitor: {taking.words}'), file=sys.stderr)
    if taking.result:
        _print(['', f'Native stacks of process {pid}:', *taking.result.splitlines()])
    if taking.error:
        print(f'stabilitymonitor: {clean(taking.error)}', file=sys.stderr)
    return UNUSABLE if taking.error else WELL


def patience(path: Path) -> float:
    """Seconds to wait for an answer: some beats, whose pace the last two samples tell."""
    try:
        samples = load(path / BLACKBOX).samples[-2:]
    except (OSError, UnreadableRecord):
        return _LEAST_PATIENCE
    pause = 0.0
    if len(samples) == 2:
        pause = samples[1].monotonic - samples[0].monotonic
    return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, _BEATS * pause))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(clean(line))
