"""Asks the checks: one run at a time in a process, each check under a time limit, in a thread of the run.

A check that raises, or does not answer in time, is itself a finding.  One that hangs is left behind with
the daemon thread, and is not asked again while it still hangs; another thread goes on.  There is no thread for
each check: the dump of a crash that meets a thread while it starts is damaged.
"""
from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from dataclasses import dataclass

from ...records import Finding
from ...records import isotime

TIME_LIMIT = 1.0
_LOGGER = logging.getLogger('StabilityMonitor')
_ORDER = {severity: number for number, severity in enumerate(reversed(Finding.SEVERITIES))}


@dataclass(frozen=True)
class Results:
    """What all checks found, the worst first.  `when` is an epoch time, `took` and `seconds` are durations."""

    findings: tuple[Finding, ...]
    took: float
    when: float
    seconds: tuple[tuple[str, float], ...] = ()         # of each check, by its id

    def to_json(self) -> dict:
        return {'when': isotime(self.when), 'took': round(self.took, 4),
                'findings': [asdict(finding) for finding in self.findings]}


@dataclass(frozen=True)
class Progress:
    """How far a run is: `share` from 0 to 1, and the question that is being asked."""

    share: float
    words: str


@functools.lru_cache(maxsize=1)
def _turn(pid):
    """The lock and the hanging threads of this process; a forked child begins with its own."""
    return threading.Lock(), {}


def run(site, checks=None, time_limit: float = TIME_LIMIT, on_progress: Callable[[Progress], None] | None = None,
        clock=time.time) -> Results:
    """Ask each check of a `Site`, one after the other.  Waits until a run in another thread is over."""
    checks = _shipped() if checks is None else checks
    lock, hanging = _turn(os.getpid())
    with lock, _Asker(site, time_limit, hanging) as asker:
        when, began, findings, seconds = clock(), time.perf_counter(), [], []
        for number, check in enumerate(checks):
            _tell(on_progress, Progress(number / len(checks), check.question))
            at = time.perf_counter()
            findings += asker.ask(check)
            seconds.append((check.id, time.perf_counter() - at))
        _tell(on_progress, Progress(1.0, ''))
    findings.sort(key=lambda finding: _ORDER.get(finding.severity, 0))
    return Results(tuple(findings), time.perf_counter() - began, when, tuple(seconds))


def _shipped():
    from . import CHECKS
    return CHECKS


def _tell(on_progress, progress):
    if on_progress is not None:
        with contextlib.suppress(Exception):            # who watches must not end the run
            on_progress(progress)


class _Asker:
    """Asks checks in a thread, and in another one when that hangs.  `hanging`: {id of a check: the thread it holds}."""

    def __init__(self, site, time_limit, hanging):
        self.site, self.time_limit, self.hanging = site, time_limit, hanging
        self._thread = self._asked = self._answers = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._let_go()

    def ask(self, check) -> list[Finding]:
        earlier = self.hanging.get(check.id)
        if earlier is not None and earlier.is_alive():
            return [_hangs(check, 'It still hangs since an earlier run, and was not asked again.')]
        self.hanging.pop(check.id, None)
        try:
            return self._answer_of(check)
        except queue.Empty:
            self.hanging[check.id] = self._thread
            self._let_go()
            return [_hangs(check, f'It gave no answer within {self.time_limit:g} s.')]
        except RuntimeError as error:                   # no more threads: a limit, or the interpreter ends
            return [_failed(check, error)]

    def _answer_of(self, check):
        if self._thread is None:
            self._asked, self._answers = queue.SimpleQueue(), queue.SimpleQueue()
            thread = threading.Thread(target=_work, args=(self.site, self._asked, self._answers),
                                      name='StabilityMonitor check', daemon=True)
            thread.start()
            self._thread = thread
        self._asked.put(check)
        return self._answers.get(timeout=self.time_limit)

    def _let_go(self):
        """The thread ends, when it can."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread = None


def _work(site, asked, answers):
    while (check := asked.get()) is not None:
        answers.put(_answer(check, site))


def _answer(check, site):
    try:
        found = check.look(site)
        return [found] if isinstance(found, Finding) else list(found)
    except BaseException as error:                      # in a thread of our own: nobody else would hear of it
        _LOGGER.warning('The check %s has failed.', check.id, exc_info=True)
        return [_failed(check, error)]


def _hangs(check, detail):
    return Finding(check.id, 'warning', f'A check hangs: {check.question}', detail,
                   'Look at what it asks for (its source): a disk or a server that does not answer blocks others too.',
                   check.source)


def _failed(check, error):
    return Finding(check.id, 'warning', f'A check could not be made: {check.question}',
                   f'{type(error).__name__}: {error}.', 'Report this with the traceback of the event log.',
                   check.source)


class Background:
    """Runs the checks in the background, for pages: `start()`, then `progress` and `results`.

    `make_site` is called without arguments for each run, in the background.  `error` is a sentence when
    the last run came to nothing; `results` are those of the last run that was finished, None before it.
    """

    def __init__(self, make_site: Callable, checks=None, time_limit: float = TIME_LIMIT):
        self._make_site, self._checks, self._time_limit = make_site, checks, time_limit
        self._busy = threading.Lock()
        self.progress: Progress | None = None           # None: nothing is under way
        self.results: Results | None = None
        self.error = ''

    @property
    def running(self) -> bool:
        return self._busy.locked()

    def start(self) -> bool:
        """Begin a run; False if one is under way already, or no thread can be had (see `error`)."""
        if not self._busy.acquire(blocking=False):
            return False
        self.progress, self.error = Progress(0.0, ''), ''
        try:
            threading.Thread(target=self._run, name='StabilityMonitor checks', daemon=True).start()
        except RuntimeError as error:
            self._over(f'The checks could not be started: {error}.')
            return False
        return True

    def wait(self, timeout: float) -> bool:
        """Whether nothing is under way (any more) within `timeout` seconds."""
        if not self._busy.acquire(timeout=timeout):
            return False
        self._busy.release()
        return True

    def _run(self):
        error = ''
        try:
            self.results = run(self._make_site(), self._checks, self._time_limit, self._note)
        except Exception as problem:
            error = f'The checks could not be run: {type(problem).__name__}: {problem}.'
            _LOGGER.warning(error, exc_info=True)
        self._over(error)

    def _note(self, progress):
        self.progress = progress

    def _over(self, error):
        self.progress, self.error = None, error
        self._busy.release()
