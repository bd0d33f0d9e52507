"""What `run` does when a process has ended: it leaves what it saw, and says how the run ended.

`run` imports this only in a forked child, which ends afterwards.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from dataclasses import replace

from ..knowledge.rulesinforce import of_incident
from ..model import foreignjson
from ..model.errors import NoSuchRun
from ..model.plaintext import clean
from ..model.runrecord import RunRecord
from ..model.witnesses import Witness
from ..model.witnesses import amended
from ..postmortem.triage import examine
from ..reporting.nextsteps import next_steps
from ..reporting.redaction import policy_of
from ..reporting.redaction import redacted_text
from ..store import witnessfiles
from ..store.archive import Archive
from ..store.regularfiles import is_folder
from ..store.regularfiles import open_outside
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import read_json
from ..system.parentprocess import Ended
from ..system.signalnames import signal_name
from . import dataowner
from .terminal import notice

#: Kubernetes reads no more bytes.
_LONGEST_MESSAGE = 4096


@dataclass(frozen=True)
class ToldRun:
    """A run that a process has told about: the path of its data directory, and its name."""

    directory: str
    name: str


def record(told: bytes, ended: Ended, asked: str | None, log: str = '') -> None:
    """Leave what was seen of the end of a process with its run, and say how that ended.

    `told` is what the process has written into the pipe, see `runpipe`.  `asked` is the signal by
    which it was asked to stop, '' if it was not; None for an orphan that was only reaped.  `log`
    names the file for the verdict.  An error becomes one sentence on standard error.
    """
    try:
        with contextlib.ExitStack() as stack:
            output = _opened(log, stack)  # first, because only root may be able to
            where = parsed(told)
            base = Base(where.directory)
            dataowner.become_owner(base.path)
            run = last_run(base, where.name, ended, is_child=asked is not None)
            witnessfiles.add(base, run, witness(ended, asked))
            found = judged(base, run)
            found = replace(found, known_issues=of_incident(found, base.path))
            if output is not None:
                os.write(output, message(found))
            if found.is_incident:  # last, because standard error may be closed or full
                notice(' '.join(sentences(found)))
    except Exception as error:
        notice(f'The end of process {ended.pid} was not recorded: {error}')


def _opened(log: str, stack: contextlib.ExitStack) -> int | None:
    """Open the file for the verdict, which must exist; None if it does not."""
    if not log:
        return None
    with contextlib.suppress(OSError):
        descriptor = open_outside(log, os.O_WRONLY | os.O_TRUNC)
        stack.callback(os.close, descriptor)
        return descriptor
    return None


# -- which run -------------------------------------------------------------------------------------


def parsed(told: bytes) -> ToldRun:
    """Return what a process has told.  Raises NoSuchRun if that is nothing of this product."""
    document = None
    with contextlib.suppress(ValueError):
        document = foreignjson.parse(told)
    if isinstance(document, dict):
        directory = document.get('directory')
        name = document.get('run')
        if isinstance(directory, str) and isinstance(name, str) and RUN_NAME.fullmatch(name):
            return ToldRun(directory, name)
    raise NoSuchRun('What the process told about its run cannot be read.')


def last_run(base: Base, told: str, ended: Ended, is_child: bool) -> str:
    """Return the last run of the process that has ended, which told about this one.

    A process that replaces itself (os.execv) begins another run, and cannot tell again.  Raises
    NoSuchRun if the run is that of an earlier process with the same pid; of a process that was
    only reaped, also if that is not known.
    """
    identity = _context(base, told).get('identity')
    if not isinstance(identity, dict) or identity.get('pid') != ended.pid:
        raise NoSuchRun(f'There is no run {told!r} of that process.')
    began = identity.get('start_ticks')
    is_same = began == ended.start_ticks
    is_unknown = not began or not ended.start_ticks
    if not is_same and not (is_unknown and is_child):
        raise NoSuchRun(f'The run {told!r} is that of another process with the same pid.')
    return witnessfiles.last_of_process(base, told)


def _context(base: Base, run: str) -> dict[str, object]:
    return read_json(base.folder_of(run) / CONTEXT)


def judged(base: Base, run: str) -> RunRecord:
    """Return the record of a dead run with what witnesses saw.  It is not archived here.

    Raises NoSuchRun.
    """
    path = base.runs / run
    if is_folder(path):
        found = examine(path)
        if is_folder(path):  # otherwise another process has archived it meanwhile
            return amended(found, witnessfiles.of_run(path))
    return Archive(base).record(run)


# -- what is told ----------------------------------------------------------------------------------


def witness(ended: Ended, asked: str | None) -> Witness:
    """Return what `run` saw; `asked` as for `record`."""
    status = f'exit status {ended.code}'
    name = None
    if ended.signal is not None:
        name = signal_name(ended.signal)
        status = f'{name} (core dumped)' if ended.core_dumped else name
    who = 'as its parent "stabilitymonitor run" saw'
    if asked is None:
        who = 'as "stabilitymonitor run" saw, which is pid 1 and reaped this orphan'
    fact = (
        f'The process ended with {status}, {who}. It, or the largest of its children, had at most '
        f'{ended.largest >> 20} MiB of memory; together they used {ended.user:.1f} s of CPU time '
        f'in their own code and {ended.system:.1f} s in the kernel.'
    )
    if asked:
        fact += f' It had been asked to stop by {asked} before.'
    return Witness(
        source='run',
        time=time.time(),
        fact=fact,
        ended=ended.time,
        exit_code=ended.code,
        signal=name,
        core_dumped=ended.core_dumped,
        asked=asked or '',
    )


def sentences(found: RunRecord) -> list[str]:
    """Return the verdict of a run, the next step if there is one, and the name of the run."""
    lines = [f'{found.summary} [{found.verdict}, {found.confidence}]']
    for step in next_steps(found)[:1]:
        lines.append(f'Next: {step}')
    lines.append(f'Run: {found.run}')
    return [clean(line) for line in lines]


def message(found: RunRecord) -> bytes:
    """Return the same as a text of lines for the termination log, which leaves the container.

    So secrets are taken out, as in a report.
    """
    policy = policy_of(found.context.get('options') or {})
    text, _ = redacted_text('\n'.join(sentences(found)), policy)
    content = f'{text}\n'.encode('utf-8', 'replace')[:_LONGEST_MESSAGE]
    return content.decode('utf-8', 'ignore').encode()
