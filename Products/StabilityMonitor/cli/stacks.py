"""The command "stacks": what every thread of a living process does, asked of it, or seen from
outside.

The heartbeat answers even while no worker is free.  Where it does not, C code holds the interpreter
lock, or the process is stopped: then the kernel, the black box and the marks of the dead-man switch
are asked.
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

WELL, WRONG, UNUSABLE = 0, 1, 2
_LEAST_PATIENCE, _BEATS, _MOST_PATIENCE = 5.0, 3, 60.0


class NotLiving(NoSuchRun):
    next_step = 'See with the command "status" which runs live.'


def show(
    base: Base, living: list[tuple[str, dict[str, Any]]], wanted: str | None, native: bool
) -> int:
    """Print the threads of each living run, or of the one that is wanted; the exit status.

    `living`: (name, context) of the runs that live.  Raises NotLiving, and OSError without rights.
    """
    chosen = [(name, context) for name, context in living if wanted in (None, name)]
    if not chosen:
        raise NotLiving(
            f'The run {wanted!r} does not live.'
            if wanted
            else 'No process lives that leaves its traces here.'
        )
    return max(_show(base.runs / name, context, native) for name, context in chosen)


def _show(path: Path, context: dict[str, Any], native: bool) -> int:
    pid = name_facts(path.name)[1]
    subject = f'process {pid} (run {path.name})'
    try:
        document = _asked(path)
        print(threadtext.text(document, subject), end='')
        status = WELL if document['threads'] and is_well(document) else WRONG
    except NoAnswer as error:
        view = outside.look(path, context, pid)
        executable = outside.executable(pid)
        _print(
            outsidetext.lines(
                view,
                subject,
                error.args[0],
                nativestacks.command_lines(pid, executable),
                nativestacks.what_is_needed(pid),
            )
        )
        status = WRONG
    return max(status, _native(path, pid)) if native else status


def _asked(path: Path) -> dict[str, Any]:
    """The stacks document of a living process.  Raises NoAnswer, also for an answer that says why
    there is none.
    """
    answer = runmailbox.ask(path, 'stacks', patience(path))
    if answer.get('error'):
        raise NoAnswer(str(answer['error']))
    return tidy(answer)


def _native(path: Path, pid: int) -> int:
    """Native stacks, taken by a tool; the progress goes to standard error."""
    if not is_alive(path):  # the tool stops the process that it looks at
        print(
            f'stabilitymonitor: No native stacks are taken: whether process {pid} is the one of '
            f'the run {path.name} '
            'cannot be told from here. Run this on the host, and in the container, of that Zope.',
            file=sys.stderr,
        )
        return UNUSABLE
    taking = nativestacks.NativeStacks(pid)
    if taking.start():
        while not taking.wait(1.0):
            print(clean(f'stabilitymonitor: {taking.progress}'), file=sys.stderr)
    if taking.result:
        _print(['', f'Native stacks of process {pid}:', *taking.result.splitlines()])
    if taking.error:
        print(f'stabilitymonitor: {clean(taking.error)}', file=sys.stderr)
    return UNUSABLE if taking.error else WELL


def patience(path: Path) -> float:
    """For how long an answer is waited for: some beats of the heartbeat, as its samples tell."""
    try:
        samples = load(path / BLACKBOX).samples[-2:]
    except (OSError, UnreadableRecord):
        return _LEAST_PATIENCE
    pause = samples[-1].monotonic - samples[0].monotonic if len(samples) == 2 else 0.0
    return min(_MOST_PATIENCE, max(_LEAST_PATIENCE, _BEATS * pause))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(clean(line))
