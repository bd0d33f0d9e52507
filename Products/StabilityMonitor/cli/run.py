"""Start Zope, pass each signal on to it, wait, leave what was seen of its end, end the same way.

It starts nothing again.  It stays for the whole life of Zope, so it imports little: what looks at
the run that has ended (`runend`) is imported in a forked child only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence

from ..system import parentprocess
from ..system.parentprocess import Ended
from ..system.parentprocess import ParentProcess
from ..system.runpipe import VARIABLE
from ..system.runpipe import RunPipe
from .exitstatus import UNUSABLE

#: As a shell: the command was not found; it cannot be executed.
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
#: Kubernetes shows what pid 1 of a container wrote into this file (`terminationMessagePath`).
TERMINATION_LOG = '/dev/termination-log'
LOG_OPTION = '--termination-log'
#: Seconds that the record of an end may take.  Docker kills 10 s after it has asked for a stop.
_PATIENCE = 10
#: A request to stop that the child has outlived for more seconds has not ended it, as in
#: `postmortem.stops`.
_LONGEST_STOP = 900


def parsed(words: Sequence[str]) -> tuple[list[str], str] | None:
    """Return (the command, the file for the verdict or '') of the words after "run".

    None for all that needs a parser, such as --help.  argparse would stay in memory.
    """
    rest = list(words)
    log = ''
    if rest and rest[0].startswith(f'{LOG_OPTION}='):
        log = rest.pop(0).removeprefix(f'{LOG_OPTION}=')
    elif len(rest) > 1 and rest[0] == LOG_OPTION:
        log = rest[1]
        del rest[:2]
    if rest[:1] == ['--']:
        del rest[0]
    elif not rest or rest[0].startswith('-'):
        return None
    return (rest, log) if rest else None


def run(command: list[str], log: str = '') -> int:
    """Run a command until its end, and return the exit status with which to end.

    If a signal has ended the command, this ends the process, too.  `log` is the file for the
    verdict; pid 1 has one by default.
    """
    if not parentprocess.IS_POSSIBLE:
        return _refuse('This system does not tell who sends a signal.', UNUSABLE)
    parentprocess.block_all_signals()
    pipe = RunPipe()
    try:
        environ = os.environ | {VARIABLE: pipe.address}
        child = parentprocess.start(command, environ, [pipe.writer])
    except FileNotFoundError as error:
        return _refuse(f'{command[0]} cannot be started: {error.strerror}.', _NOT_FOUND)
    except OSError as error:
        return _refuse(f'{command[0]} cannot be started: {error.strerror}.', _NOT_EXECUTABLE)
    pipe.close_writer()
    parent = ParentProcess(child)

    def hear() -> None:
        pipe.hear(child)

    def record_orphan(ended: Ended) -> None:
        hear()
        told = pipe.lines.pop(ended.pid, b'')
        if told:
            parentprocess.in_forked_child(lambda: _record(told, ended))

    ended = parent.wait(record_orphan, hear)
    hear()
    asked = parent.asked if time.monotonic() - parent.asked_at <= _LONGEST_STOP else ''
    told = pipe.lines.get(child, b'')
    if told:
        if not log and os.getpid() == 1:
            log = TERMINATION_LOG
        recorder = parentprocess.in_forked_child(lambda: _record(told, ended, asked, log))
        parentprocess.wait_at_most(recorder, _PATIENCE)
    elif ended.has_failed and not asked:
        _say_what_is_missing(bool(pipe.lines))
    return parentprocess.end_like(ended)


def _record(told: bytes, ended: Ended, asked: str | None = None, log: str = '') -> None:
    from . import runend

    runend.record(told, ended, asked, log)


def _say_what_is_missing(others: bool) -> None:
    """Of a command that has failed: say why there is no verdict."""
    if others:
        _say(
            'The command has failed. Zope ran in other processes than the command itself, so how '
            'Zope ended is not known here. A shell should start it with "exec".'
        )
    else:
        _say('The command has failed, and no run of this product was seen in it.')


def _refuse(sentence: str, status: int) -> int:
    _say(sentence)
    return status


def _say(sentence: str) -> None:
    # Nobody may read it any more, or its disk may be full.  `print` would keep the words for later,
    # and Python would end with status 120 because of them.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f'stabilitymonitor: {sentence}\n'.encode())
