"""What may have caused an end that left no trace, and what cannot have.

A row of the table is (proof, cause): `proof` returns a sentence when the traces rule the cause out,
else ''.  A row without a cause only rules out.
"""

from __future__ import annotations

from collections.abc import Callable

from .evidence import Traces


def ruled_out(traces: Traces) -> tuple[str, ...]:
    """Sentences that say what this end was not, and why."""
    sentences = []
    for proof, _ in _ROWS:
        sentence = proof(traces)
        if sentence:
            sentences.append(sentence)
    return tuple(sentences)


def candidates(traces: Traces) -> tuple[str, ...]:
    """The causes that remain, most usual first."""
    remaining = []
    for proof, cause in _ROWS:
        if cause and not proof(traces):
            remaining.append(cause)
    return tuple(remaining)


def _never(t: Traces) -> str:
    return ''


def _no_oom(t: Traces) -> str:
    if t.cgroup_kills == 0:
        return "Not the kernel's OOM killer: the counter of the same memory cgroup has not risen."
    if t.host_kills == 0:
        return (
            "Not the kernel's OOM killer: it has killed nothing on this host since the last sample."
        )
    return ''


def _no_fatal_error(t: Traces) -> str:
    if t.stderr_readable and not t.stderr_fault:
        return (
            'Not a fatal error of Python: the file that standard error went to holds none of '
            'this process.'
        )
    return ''


def _no_crash(t: Traces) -> str:
    if t.recording and not t.fault:
        return 'Not a crash in a thread with a signal stack: the fault log is empty.'
    return ''


def _no_signal(t: Traces) -> str:
    if t.recording and not t.marks:
        return 'Not SIGTERM, SIGINT, SIGHUP or another marked signal: no mark was left.'
    return ''


def _no_exit(t: Traces) -> str:
    if t.recording and not t.word('finished'):
        return 'Not a normal exit: the interpreter did not come to its end.'
    return ''


def _no_reboot(t: Traces) -> str:
    return 'Not a restart of the machine: it is still the same boot.' if t.same_boot else ''


_ROWS: tuple[tuple[Callable[[Traces], str], str], ...] = (
    (_never, 'SIGKILL: kill -9, a supervisor or a container runtime that lost patience'),
    (_never, 'os._exit, or exit() in C code'),
    (_no_oom, "The kernel's OOM killer: its counters could not be compared"),
    (
        _no_fatal_error,
        'A fatal error of Python (Py_FatalError): standard error went to no file that can be read',
    ),
    (_no_crash, 'A crash: there is no fault log to tell'),
    (_no_signal, 'A signal: there are no marks to tell'),
    (_no_exit, ''),
    (_no_reboot, 'A restart of the machine, or power loss'),
)
