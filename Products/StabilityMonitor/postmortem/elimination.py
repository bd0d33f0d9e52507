"""Which causes of an end without a trace are possible, and which are ruled out.

A row of the table is (proof, cause).  `proof` returns a sentence if the traces rule the cause
out, else ''.  `cause` returns words for a cause that is not ruled out; '' if the row is only used
to rule something out.
"""

from __future__ import annotations

from collections.abc import Callable

from ..model.records import clocktime
from ..model.records import duration
from ..store import blackbox
from .evidence import Traces

#: The signals that leave a mark, in their order.
_MARKED = tuple(name for name in blackbox.MARKS if name.startswith('SIG'))


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
        words = cause(traces)
        if words and not proof(traces):
            remaining.append(words)
    return tuple(remaining)


def _no_end_of_process(t: Traces) -> str:
    if t.still_there:
        return (
            f'Not the end of the process: process {t.pid} still exists, with the same start time.'
        )
    return ''


def _nothing(t: Traces) -> str:
    return ''


def _is(words: str) -> Callable[[Traces], str]:
    return lambda t: words


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
    if t.recording and not t.fault and not t.fault_log:
        return (
            'Not a crash in a thread with a signal stack: the fault log holds no crash at its end.'
        )
    return ''


def _no_signal(t: Traces) -> str:
    if not t.recording:
        return ''
    came = {*t.marks, *t.survived_marks, *t.asked}
    absent = [name for name in _MARKED if name not in t.unmarked and name not in came]
    if not absent:
        return ''
    return f'Not {_one_of(absent)}: such a signal leaves a mark, and there is none.'


def _no_survived_signal(t: Traces) -> str:
    found = []
    for name, mark in t.survived_marks.items():
        lived_on = t.last_sign - t.by_last_clock(mark.time)
        if lived_on > 0:
            when = clocktime(mark.time)
            lasted = duration(lived_on)
            found.append(f'Not {name}, which arrived at {when}: the process lived on for {lasted}.')
    return ' '.join(found)


def _no_signal_without_mark(t: Traces) -> str:
    if t.pid == 1:
        return (
            'Not SIGTRAP, SIGSYS, SIGPROF or another signal without a handler that a process sent: '
            'the kernel drops such signals for pid 1 of a container.'
        )
    return ''


def _one_of(names: list[str]) -> str:
    *others, last = names
    if not others:
        return last
    return f'{", ".join(others)} or {last}'


def _signals(t: Traces) -> str:
    """The signals that would leave a mark, but cannot be ruled out."""
    if not t.recording:
        return 'A signal: without a readable black box it cannot be ruled out'
    unmarked = [name for name in _MARKED if name in t.unmarked]
    if not unmarked:
        return ''
    return (
        f'{_one_of(unmarked)}: other code handles such a signal, or the signal marks were off, '
        'so it left no mark'
    )


def _no_exit(t: Traces) -> str:
    if t.recording and not t.word('finished'):
        return 'Not a normal exit: none was recorded.'
    return ''


def _no_reboot(t: Traces) -> str:
    return 'Not a restart of the machine: it has not booted since.' if t.same_boot else ''


#: What ends a run, but not its process.
_EXEC = 'os.execv or a function like it: the process runs another program now'

_ROWS: tuple[tuple[Callable[[Traces], str], Callable[[Traces], str]], ...] = (
    (
        _nothing,
        _is('SIGKILL: kill -9, or a supervisor or container runtime whose stop timeout was over'),
    ),
    (
        _nothing,
        _is('os._exit, exit() in C code, or os.execv (the process then runs another program)'),
    ),
    (
        _no_signal_without_mark,
        _is('Another signal that leaves no mark, such as SIGTRAP, SIGSYS or SIGPROF'),
    ),
    (_no_oom, _is("The kernel's OOM killer: its counters could not be compared")),
    (
        _no_fatal_error,
        _is(
            'A fatal error of Python (Py_FatalError): standard error went to no file that can be '
            'read'
        ),
    ),
    (_no_crash, _is('A crash: black box and fault log cannot rule it out')),
    (_no_signal, _nothing),
    (_no_survived_signal, _nothing),
    (_nothing, _signals),
    (_no_exit, _nothing),
    (_no_reboot, _is('A restart of the machine, or power loss')),
)
