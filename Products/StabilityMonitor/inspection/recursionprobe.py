"""The recursion probe: does this Python, with this stack size and recursion limit, survive a
recursion through C code?

It runs on request, in the background; never at import, and never in the thread of a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ..system.backgroundjob import BackgroundJob
from .recursionresult import ProbeResult
from .recursionresult import keep
from .recursionresult import read


class Probe(BackgroundJob[ProbeResult, tuple[float, str]]):
    """Tries a stack of `stack_size()` bytes; `recursion_limit` 0 is the limit of this process.

    `progress` is (0.0 to 1.0, words).  `stop` kills the child at once; the child never outlives
    this process.
    """

    def __init__(
        self,
        stack_size: Callable[[], int],
        recursion_limit: int = 0,
        file: Path | None = None,
        executable: str = '',
    ):
        super().__init__(
            'probe',
            self._probe,
            first=(0.0, 'starting'),
            not_started='The probe could not be started: {}.',
            failed='The probe itself failed: {}.',
        )
        self.stack_size = stack_size
        self.recursion_limit = recursion_limit
        self.file = file
        self.executable = executable  # '': the Python of this process

    def load(self) -> ProbeResult | None:
        """Return the result of an earlier probe with the same Python, machine, stack and limit."""
        if self.file is None:
            return None
        return read(self.file, self.stack_size(), self.recursion_limit)

    def _probe(self) -> tuple[ProbeResult, str]:
        from .recursionexperiment import probe

        result = probe(
            self.stack_size(),
            self.recursion_limit,
            on_progress=lambda fraction, words: self.tell((fraction, words)),
            executable=self.executable,
            stop=self.stopping,
        )
        if self.file and not result.error:
            # On a full disk the result is lost, and the next start runs the probe again.
            with contextlib.suppress(OSError):
                keep(self.file, result)
        return result, result.error
