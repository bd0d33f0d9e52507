"""The command "history --by signature": the incidents that are the same fault."""

from __future__ import annotations

import sys
import time

from ..knowledge.signedruns import SignedRuns
from ..model.counts import counted
from ..model.records import isotime
from ..postmortem.allruns import AllRuns
from ..reporting.signedpast import incidents_of
from ..reporting.signedpast import past_json
from ..reporting.signedpast import past_lines
from ..reporting.signedpast import signed_past
from .exitstatus import WELL
from .terminal import print_json
from .terminal import print_lines

#: Seconds between two lines of progress.
_PAUSE = 0.5


def by_signature(runs: AllRuns, format: str) -> int:
    """List the signatures, the one with the newest incident first."""
    summaries = runs.summaries()
    SignedRuns(runs).sign_all(incidents_of(summaries), _Progress())
    past = signed_past(runs, summaries)
    if format == 'json':
        print_json(
            {'generated': isotime(time.time()), 'directory': str(runs.base.path), **past_json(past)}
        )
    else:
        print_lines(past_lines(past))
    return WELL


class _Progress:
    """Says on a terminal how many incidents are signed; the last line is wiped."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PAUSE
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if done == total:
            self._show('')
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE
            self._show(f'Signing {done:,} of {counted(total, "past incident")}')

    def _show(self, words: str) -> None:
        if words or self._width:
            print(f'\r{words.ljust(self._width)}', end='\r', file=sys.stderr, flush=True)
        self._width = len(words)
