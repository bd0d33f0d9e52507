"""All findings about a living run: those of the run itself, of the checks, and known issues.

    of(life).start()        run all checks, in the background: after a start, and on demand
    of(life).look()         the results so far: for pages, reports and mailbox requests

Reading never blocks: it returns the results of the last completed run.  They are also written
to the run directory, for the time after the run has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..inspection import recursionprobe
from ..inspection import recursionresult
from ..knowledge.rulesinforce import Known
from ..knowledge.rulesinforce import known
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.records import isotime
from ..store.rundirectory import read_json
from ..store.rundirectory import write_whole
from ..system import stacksizes
from ..system.backgroundjob import BackgroundJob
from .everycheck import CHECKS
from .knownissues import KnownIssues
from .limits import Descriptors
from .limits import too_few_descriptors
from .livesite import Site
from .muted import Mute
from .muted import MuteList
from .runner import Background
from .runner import Results

#: The file with the last results, in the run directory.
LAST_WORD = 'checks.json'
#: The file with the result of the recursion probe, in the data directory.
PROBE = 'recursion-probe.json'
#: A mailbox request starts a new run of the checks if the results are older (seconds).
FRESH = 10.0
#: Results older than this many seconds are renewed: a reader that may not send a mailbox request
#: has only the file.
RENEWED = 3600.0
#: The key of `muted` in JSON before 1.0.
_OLD_MUTED = 'hushed'
#: {finding from arming: the check that answers the same question later and better}
ANSWERED_BY = {'thread-stacks': 'thread-stacks', 'network-volume': 'breadcrumbs-place'}


# -- all findings together -------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """All findings, also those that are `ok`.  `shown` and `muted` each begin with the worst.

    `when` (seconds since the epoch) and `took` (seconds) belong to the last run of the checks.
    """

    shown: tuple[Finding, ...] = ()
    muted: tuple[tuple[Finding, Mute], ...] = ()
    when: float | None = None
    took: float = 0.0

    def to_json(self) -> list[dict[str, Any]]:
        """Return the findings as in the report: {id, severity, title, detail, action, source}, and
        {check, issue} where they are known.

        A muted finding also has {reason, until, who} as `muted`, and again under the key of
        releases before 1.0, for programs that read that one.
        """
        rows = [finding.to_json() for finding in self.shown]
        for finding, mute in self.muted:
            muted = {'reason': mute.reason, 'until': mute.until, 'who': mute.who}
            rows.append(finding.to_json() | {'muted': muted, _OLD_MUTED: muted})
        return rows


def sorted_out(
    findings: Iterable[Finding], mutes: MuteList, when: float | None = None, took: float = 0.0
) -> Look:
    """Return a Look: the findings, split into shown and muted ones, each with the worst first."""
    shown, muted = mutes.partition(findings)
    return Look(
        tuple(sorted(shown, key=lambda finding: -finding.severity.rank)),
        tuple(sorted(muted, key=lambda pair: -pair[0].severity.rank)),
        when,
        took,
    )


def last_word(path: Path) -> dict[str, Any]:
    """Return the last results in the run directory `path`, see `Standing.answer`; {} if none."""
    return read_json(path / LAST_WORD)


class Standing:
    """Runs the checks for one living run, and keeps their results.

    Each run of the checks calls `make_site`, in the background.
    """

    def __init__(self, life: ILivingRun):
        self.life = life
        self.make_site: Callable[[], Site] = lambda: Site.of(life)
        self.checks = Background(self._site, (*CHECKS, KnownIssues()))
        # The known issues of this process, for the page, which shows more than the check finds.
        self.known_issues = BackgroundJob[Known, None](
            'known issues',
            self._look_up_known,
            first=None,
            not_started='Known issues could not be looked up: {}.',
            failed='Known issues could not be looked up.',
        )
        self._known_for: Results | None = None
        self.probe = recursionprobe.Probe(lambda: stack_size(life), file=life.path / PROBE)
        self._probed: recursionresult.ProbeResult | None = None
        self._last_start = time.monotonic()

    def start(self) -> bool:
        """Start all checks in the background.

        False if a run is already in progress, or cannot be started (see `checks.error`), or if
        too few descriptors are left.
        """
        if too_few_descriptors():
            return False
        self._last_start = time.monotonic()
        return self.checks.start(self._write_results)

    def renew(self) -> None:
        """Run the checks again if the last run is older than RENEWED; called at each beat."""
        if time.monotonic() - self._last_start > RENEWED:
            self.start()

    def start_probe(self) -> bool:
        """Start the recursion probe.

        False if it is already running, or cannot be started (see `probe.error`).
        """
        return self.probe.start()

    @property
    def probed(self) -> recursionresult.ProbeResult | None:
        """The result of the recursion probe: of this run, or of an earlier one with the same Python
        and stack.
        """
        return self.probe.result or self._probed

    def mute_list(self, file_mode: int = 0o600) -> MuteList:
        """Return the muted findings of this instance; a file that it writes gets `file_mode`."""
        return MuteList(self.life.path, self.life.instance.label, file_mode)

    def look(self) -> Look:
        """Return the findings so far; reads one small file, the mutes."""
        results = self.checks.results
        probed = self.probed
        found = list(results.findings) if results else []
        if probed:
            found.append(recursionresult.finding(probed))
        scarce = too_few_descriptors()
        if scarce:
            found = [scarce, *(f for f in found if f.check != Descriptors.id)]
        answered = {finding.id for finding in found}
        own = [f for f in self.life.findings if ANSWERED_BY.get(f.id) not in answered]
        look = sorted_out([*own, *found], self.mute_list())
        return replace(look, when=results.when, took=results.took) if results else look

    def answer(self) -> dict[str, Any]:
        """Return the answer to the mailbox request "checks": the results so far.

        Results older than FRESH seconds are renewed for the next request.
        """
        results = self.checks.results
        if results is None or self.checks.seconds_ago > FRESH:
            self.start()
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """Return the results so far, and the progress of the current run of the checks."""
        # The order matters: a run that ends in between is reported as running, with its results,
        # and not as finished, with the results of the run before.
        progress = self.checks.progress
        look = self.look()
        return {
            'time': isotime(time.time()),
            'run': self.life.name,
            'pid': self.life.pid,
            'instance': to_json(self.life.instance),
            'when': isotime(look.when),
            'took': round(look.took, 4),
            'running': progress is not None,
            'progress': progress.to_json() if progress else None,
            'error': self.checks.error,
            'checks': look.to_json(),
        }

    def look_up_known(self) -> None:
        """Start `known_issues`, once for each run of the checks; a request never waits for it."""
        results = self.checks.results
        if results and results is not self._known_for and self.known_issues.start():
            self._known_for = results

    def _look_up_known(self) -> tuple[Known, str]:
        return known(self.life.path, self.life.started is not None), ''

    def _site(self) -> Site:
        if self._probed is None:
            self._probed = self.probe.load()
        return self.make_site()

    def _write_results(self) -> None:
        """Write the results to the run directory, for the time after the run has ended."""
        if not self.life.directory:
            return
        with self.life.findings.guarded(
            'checks-kept', 'The results of the checks are not written to disk.'
        ):
            write_whole(
                self.life.directory.path / LAST_WORD,
                json.dumps(self.to_json()),
                self.life.base.file_mode,
            )


#: {name and id of a living run: its Standing}; a forked child has another run.
_STANDINGS: dict[tuple[str, int], Standing] = {}


def of(life: ILivingRun) -> Standing:
    """Return the Standing of a LivingRun."""
    key = life.name, id(life)
    return _STANDINGS.get(key) or _STANDINGS.setdefault(key, Standing(life))


def stack_size(life: ILivingRun) -> int:
    """Return the smallest known stack size of the threads of this run, in bytes; 0: not known."""
    default = life.context.get('thread_stack') or stacksizes.default_stack()
    sizes: list[int] = [stack[0] for stack in (life.smallest_stack, default) if stack]
    return min(sizes, default=0)
