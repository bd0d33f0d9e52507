"""The recursion probe: does this Python, with this stack and recursion limit, survive a recursion
through C code?

It runs on demand, in the background; never at import, and never in the thread of a request.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from ..system import signalmask
from .recursionresult import ProbeResult
from .recursionresult import keep
from .recursionresult import read


class Probe:
    """Runs one probe at a time, in the background.

    `progress` is (0.0 to 1.0, words); `result` a ProbeResult or None; `error` a sentence, '' when
    nothing is wrong.
    """

    def __init__(self, file: Path | None = None, executable: str = ''):
        self.file = file
        self.executable = executable  # '': this process's own Python
        self.progress = (0.0, 'not started')
        self.result: ProbeResult | None = None
        self.error = ''
        self._entry = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def running(self) -> bool:
        return bool(self._thread and self._thread.is_alive())

    def start(self, stack_size: int, recursion_limit: int = 0) -> bool:
        """Begin; False while a probe is running, or when no thread can be started (see `error`)."""
        if not self._entry.acquire(blocking=False):
            return False
        try:
            return not self.running and self._begin(stack_size, recursion_limit)
        finally:
            self._entry.release()

    def _begin(self, stack_size: int, recursion_limit: int) -> bool:
        self.progress = (0.0, 'starting')
        self.result = None
        self.error = ''
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(stack_size, recursion_limit, self._stop),
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
        """Give up; the child is killed within a moment.  It never outlives this process."""
        self._stop.set()

    def load(self, stack_size: int, recursion_limit: int = 0) -> ProbeResult | None:
        """What an earlier probe found with this very Python, machine, stack and limit."""
        return read(self.file, stack_size, recursion_limit) if self.file else None

    def _run(self, stack_size: int, recursion_limit: int, stop: threading.Event) -> None:
        from .recursionexperiment import probe

        try:
            result = probe(
                stack_size,
                recursion_limit,
                on_progress=self._note,
                executable=self.executable,
                stop=stop,
            )
            self.result = result
            self.error = result.error
            if self.file and not result.error:
                # On a full disk the result is lost, and the next start probes again.
                with contextlib.suppress(OSError):
                    keep(self.file, result)
        except Exception as error:
            self.error = f'The probe itself failed: {type(error).__name__}: {error}.'
        self.progress = (1.0, self.error or 'done')

    def _note(self, fraction: float, words: str) -> None:
        self.progress = (fraction, words)
