"""The recursion probe: does this Python, with this stack and recursion limit, survive a recursion
through C code?

It runs when somebody asks, in the background, never at import and never in a request's thread; what
it found is kept, and counts while Python, machine, stack and limit are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import sys
import threading
from pathlib import Path

from .. import signalmask
from ..records import Finding
from ..records import shallow
from ..rundirectory import read_json
from ..rundirectory import write_whole
from ..values import Value

#: A stack that survives, but with less than this share to spare, is worth a warning.
_SPARE = 1 / 4
#: The largest stack that is tried: a child may fill what it is given.
LARGEST = 64 << 20
_TYPES = {int: int, bool: bool, str: str, float: int | float, tuple: list}


class ProbeResult(Value):
    """Sizes are bytes, `took` seconds.  Where `error` is a sentence, nothing but the question is
    known.

    `ways`: all that it died of with `stack_size`; where it survives, what it dies of first with one
    step less than `smallest`.  `smallest`: the least size that survives every way, 0 if none up to
    LARGEST does.  `signal`: how the first of them died; '' when the status was lost, or a smaller
    stack cannot be had.
    """

    stack_size: int
    recursion_limit: int
    survives: bool = False
    ways: tuple[str, ...] = ()
    signal: str = ''
    smallest: int = 0
    python: str = ''
    took: float = 0.0
    error: str = ''


class Probe:
    """One at a time, in the background.

    `progress` is (0.0 to 1.0, words); `result` a ProbeResult or None; `error` a sentence, '' when
    all is well.
    """

    def __init__(self, file: Path | None = None, **how):
        self.file, self._how = file, how  # of `probe`: time_limit, executable
        self.progress, self.result, self.error = (0.0, 'not started'), None, ''
        self._entry, self._thread, self._stop = threading.Lock(), None, threading.Event()

    @property
    def running(self) -> bool:
        return bool(self._thread and self._thread.is_alive())

    def start(self, stack_size: int, recursion_limit: int = 0) -> bool:
        """False, and nothing happens, while one is running or when the system gives no more threads
        (`error`).
        """
        if not self._entry.acquire(blocking=False):
            return False
        try:
            return not self.running and self._begin(stack_size, recursion_limit)
        finally:
            self._entry.release()

    def _begin(self, *question):
        self.progress, self.result, self.error, self._stop = (
            (0.0, 'starting'),
            None,
            '',
            threading.Event(),
        )
        self._thread = threading.Thread(
            target=self._run,
            args=(*question, self._stop),
            daemon=True,
            name='StabilityMonitor probe',
        )
        try:
            signalmask.start(self._thread)
        except RuntimeError as error:
            self.error = f'The probe could not be started: {error}.'
            return False
        return True

    def stop(self) -> None:
        """Give up; the child is killed within a moment.  It would not outlive this process
        anyway.
        """
        self._stop.set()

    def load(self, stack_size: int, recursion_limit: int = 0) -> ProbeResult | None:
        """What an earlier probe found with this very Python, machine, stack and limit."""
        return read(self.file, stack_size, recursion_limit) if self.file else None

    def _run(self, stack_size, recursion_limit, stop):
        from .recursion_experiment import probe

        try:
            result = probe(
                stack_size, recursion_limit, on_progress=self._note, stop=stop, **self._how
            )
            self.result, self.error = result, result.error
            if self.file and not result.error:
                with contextlib.suppress(
                    OSError
                ):  # on a full disk it is asked again after the next start
                    keep(self.file, result)
        except Exception as error:
            self.error = f'The probe itself failed: {type(error).__name__}: {error}.'
        self.progress = (1.0, self.error or 'done')

    def _note(self, fraction, words):
        self.progress = (fraction, words)


def keep(file: Path, result: ProbeResult) -> None:
    """Raises OSError where the file cannot be written."""
    write_whole(
        file,
        json.dumps(
            {'key': _key(result.stack_size, result.recursion_limit), 'result': shallow(result)}
        ),
    )


def read(file: Path, stack_size: int, recursion_limit: int = 0) -> ProbeResult | None:
    """The result that was kept, if it is of this Python, machine, program, stack and limit."""
    document = read_json(file)
    values = document.get('result')
    limit = recursion_limit or sys.getrecursionlimit()
    if not isinstance(values, dict) or document.get('key') != _key(stack_size, limit):
        return None
    plain = shallow(ProbeResult(0, 0))
    known = {
        name: values[name]
        for name, usual in plain.items()
        if isinstance(values.get(name), _TYPES[type(usual)])
    }
    if known.keys() != plain.keys():
        return None
    return ProbeResult(**known | {'ways': tuple(map(str, known['ways']))})


def _key(stack_size, recursion_limit):
    """Another build of Python, machine, C library or list of ways is another experiment."""
    world = [
        sys.version,
        sys.executable,
        platform.machine(),
        platform.libc_ver(),
        list(_ways()),
        stack_size,
        recursion_limit,
    ]
    return hashlib.sha256(json.dumps(world).encode()).hexdigest()


def _ways():
    """Imported only where somebody asks or has asked, as all that makes the experiment."""
    from .recursion_program import WAYS

    return WAYS


# -- what is said of it ----------------------------------------------------------------------------


def finding(result: ProbeResult) -> Finding:
    """The answer to "does a recursion to the limit end with an exception, or with the process?"."""
    severity, title = _judged(result)
    if result.error:
        return Finding(
            'recursion-probe',
            severity,
            title,
            result.error,
            'Look at the reason, and run the probe again.',
            'recursion probe',
        )
    fact = (
        f'With a recursion limit of {result.recursion_limit} and {result.stack_size >> 10} KiB '
        'of stack, a thread ' + _fate(result)
    )
    return Finding(
        'recursion-probe',
        severity,
        title,
        fact,
        '' if severity == 'ok' else _advice(result),
        'recursion probe',
    )


def _judged(result):
    if result.error:
        return 'info', 'Whether a deep recursion is survived could not be found out.'
    if not result.survives:
        return 'critical', 'A deep recursion kills this process instead of raising RecursionError.'
    if result.smallest > result.stack_size * (1 - _SPARE):
        return 'warning', 'A deep recursion is survived with little stack to spare.'
    return 'ok', 'A deep recursion ends with RecursionError.'


def _fate(result):
    needs = (
        f'{result.smallest >> 10} KiB are enough.'
        if result.smallest
        else (f'{LARGEST >> 10} KiB are not enough either.')
    )
    if result.survives:
        return f'survives a recursion to the limit through C code; {needs}'
    by, more = (
        f' by {result.signal}' if result.signal else '',
        ', ...' if len(result.ways) > 3 else '',
    )
    return (
        f'dies{by} in {len(result.ways)} of {len(_ways())} ways to recurse through C code '
        f'({", ".join(result.ways[:3])}{more}); {needs}'
    )


def _advice(result):
    if not result.smallest:
        return (
            'Find the code that calls sys.setrecursionlimit, and give it a smaller number: '
            'no reasonable stack holds that many calls.'
        )
    return (
        f'Write "thread-stack-size {max(8, -(-2 * result.smallest >> 20))}MB" into '
        '<product-config stabilitymonitor> of zope.conf and restart.'
    )
