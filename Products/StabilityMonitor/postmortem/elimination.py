"""Which causes of an end without a trace are possible, and which are ruled out.

A row of the table is (proof, cause).  `proof` returns a sentence if the traces rule the cause out,
else ''.  A row without a cause is only used to rule something out.
"""

from __future__ import annotations

from collections.abc import Callable

from .evidence import Traces


def ruled_out(traces: Traces) -> tuple[str, ...]:
    """Return sentences that say what did not end the run, and how that is known."""
    sentences = []
    proofs = [_no_end_of_process, *(proof for proof, _ in _ROWS)]
    for proof in proofs:
        sentence = proof(traces)
        if sentence:
            sentences.append(sentence)
    return tuple(sentences)


def candidates(traces: Traces) -> tuple[str, ...]:
    """Return the causes that are not ruled out, most usual first."""
    if traces.still_there:
        return (_EXEC,)
    remaining = []
    for proof, cause in _ROWS:
        if cause and not proof(traces):
            remaining.append(cause)
    return tuple(remaining)


def _no_end_of_process(t: Traces) -> str:
    if t.still_there:
        return (
            f'Not the end of the process: process {t.pid} still exists, with the same start time.'
        )
    return ''


def _never(t: Traces) -> str:
    return ''


def _no_oom(t: Traces) -> str:
    if t.cgroup_kills == 0:
        return (
            "Not the kernel's OOM killer: "
            'it has killed nothing in the memory cgroup of Zope since the last sample.'
        )
    if t.host_kills == 0:
        return (
            "Not the kernel's OOM killer: it has killed nothing on this host since the last sample."
        )
    return ''


def _no_fatal_error(t: Traces) -> str:
    if t.stderr_readable and not t.stderr_fault:
        return (
            'Not a fatal error of Python: '
            'the file that received standard error holds no such error of this process.'
        )
    return ''


def _no_crash(t: Traces) -> str:
    if t.recording and not t.fault:
        return (
            'Not a crash in a thread with a signal stack: the fault log holds no crash at its end.'
        )
    return ''


def _no_signal(t: Traces) -> str:
    if t.recording and not t.marks:
        return 'Not SIGTERM, SIGINT, SIGHUP or another signal that leaves a mark: there is no mark.'
    return ''


def _no_exit(t: Traces) -> str:
    if t.recording and not t.word('finished'):
        return 'Not a normal exit: none was recorded.'
    return ''


def _no_reboot(t: Traces) -> str:
    return 'Not a restart of the machine: it has not booted since.' if t.same_boot else ''


#: What ends a run, but not its process.
_EXEC = 'os.execv or a function like it: the process runs another program now'

_ROWS: tuple[tuple[Callable[[Traces], str], str], ...] = (
    (_never, 'SIGKILL: kill -9, or a supervisor or container runtime whose stop timeout was over'),
    (_never, 'os._exit, exit() in C code, or os.execv (the process then runs another program)'),
    (_no_oom, "The kernel's OOM killer: its counters could not be compared"),
    (
        _no_fatal_error,
        'A fatal error of Python (Py_FatalError): standard error went to no file that can be read',
    ),
    (_no_crash, 'A crash: without a readable black box it cannot be ruled out'),
    (_no_signal, 'A signal: without a readable black box it cannot be ruled out'),
    (_no_exit, ''),
    (_no_reboot, 'A restart of the machine, or power loss'),
)
