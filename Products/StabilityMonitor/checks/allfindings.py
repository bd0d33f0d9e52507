"""How a living run stands: its own findings, what checks found, and known issues, together; hushed
ones apart.

    of(life).start()        everything is asked, in the background: after a start, and on demand
    of(life).look()         what is known by now: for pages, reports, and whoever asks from outside

Who looks never waits: he gets the results of the last run, which also lie in the run's directory
for the time after its end.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from ..inspection import recursionprobe
from ..inspection import recursionresult
from ..model.interfaces import ILivingRun
from ..model.records import Finding
from ..model.records import Instance
from ..model.records import isotime
from ..model.records import shallow
from ..store.rundirectory import read_json
from ..store.rundirectory import write_whole
from ..system import loglater
from ..system import stacksizes
from .everycheck import CHECKS
from .knownissues import KnownIssues
from .livesite import Site
from .muted import Hush
from .muted import Hushed
from .resultcache import remembering
from .runner import Background
from .runner import Results

if TYPE_CHECKING:  # rules take much memory: a process imports them when somebody asks
    from ..knowledge.rulesinforce import Known

LAST_WORD, PROBE = 'checks.json', 'recursion-probe.json'
#: Results that are younger (seconds) are new enough for whoever asks from outside.
FRESH = 10.0
#: And those of a living run are renewed when they are so old: who may only read has but its last
#: word.
RENEWED = 3600.0
#: What a process sees while it arms, and the check that answers the same question later and better.
ANSWERED_BY = {'thread-stacks': 'thread-stacks', 'network-volume': 'breadcrumbs-place'}
_WORST_FIRST = {severity: number for number, severity in enumerate(reversed(Finding.SEVERITIES))}


# -- all findings together -------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Findings, worst first, `ok` ones too; hushed ones apart.  `when` (epoch) and `took`: of the
    last run.
    """

    shown: tuple[Finding, ...] = ()
    hushed: tuple[tuple[Finding, Hush], ...] = ()
    when: float | None = None
    took: float = 0.0

    def to_json(self) -> list[dict[str, Any]]:
        """As in the report: {id, severity, title, detail, action, source}; hushed ones say by whom
        and until when.
        """
        return [
            *map(shallow, self.shown),
            *(
                shallow(finding)
                | {'hushed': {'reason': hush.reason, 'until': hush.until, 'who': hush.who}}
                for finding, hush in self.hushed
            ),
        ]


def sorted_out(
    findings: Iterable[Finding], hushed: Hushed, when: float | None = None, took: float = 0.0
) -> Look:
    """Findings that are hushed and those that are not, each the worst first."""
    shown, apart = hushed.partition(findings)
    return Look(
        tuple(sorted(shown, key=rank)),
        tuple(sorted(apart, key=lambda pair: rank(pair[0]))),
        when,
        took,
    )


def rank(finding: Finding) -> int:
    """0 for what is worst."""
    return _WORST_FIRST.get(finding.severity, len(_WORST_FIRST))


def last_word(path: Path) -> dict[str, Any]:
    """What the run in that directory has told of its checks last, as `Standing.answer`; {} if
    nothing.
    """
    return read_json(path / LAST_WORD)


class Standing:
    """Asks and remembers, for one LivingRun.  `make_site` is called in the background for each run
    of the checks.
    """

    def __init__(self, life: ILivingRun):
        self.life = life
        self.make_site: Callable[[], Site] = lambda: Site.of(life)
        self.checks = Background(self._site, remembering((*CHECKS, KnownIssues()), life))
        # What was looked up for somebody who opened the page, and for which results of the checks.
        self._known: Known | None = None
        self._known_for: Results | None = None
        self.looks_up_known = False
        self.probe = recursionprobe.Probe(life.path / PROBE)
        self._probed: recursionresult.ProbeResult | None = None
        self._asked = time.monotonic()

    def start(self) -> bool:
        """Ask everything, in the background; False if that goes on already, or cannot be begun
        (`checks.error`).
        """
        self._asked = time.monotonic()
        return self.checks.start(self._leave_word)

    def renew(self) -> None:
        """A round of the heartbeat: ask everything again where that was long ago."""
        if time.monotonic() - self._asked > RENEWED:
            self.start()

    def start_probe(self) -> bool:
        """Begin the recursion probe; False if it goes on already, or cannot be begun
        (`probe.error`).
        """
        return self.probe.start(stack_size(self.life))

    @property
    def probed(self) -> recursionresult.ProbeResult | None:
        """What the recursion probe found: now, or earlier with this very Python and stack."""
        return self.probe.result or self._probed

    def hushed(self, file_mode: int = 0o600) -> Hushed:
        """The hushes as this instance sees them; `file_mode` counts when one is written."""
        return Hushed(self.life.path, Instance(**self.life.instance).label, file_mode)

    def look(self) -> Look:
        """What is known by now; reads one small file."""
        results, probed = self.checks.results, self.probed
        found = [
            *(results.findings if results else ()),
            *([recursionresult.finding(probed)] if probed else ()),
        ]
        answered = {finding.id for finding in found}
        own = [f for f in self.life.findings if ANSWERED_BY.get(f.id) not in answered]
        return sorted_out(
            [*own, *found], self.hushed(), *((results.when, results.took) if results else ())
        )

    def answer(self) -> dict[str, Any]:
        """The answer to the question "checks" from outside.  Results that are no more fresh are
        renewed meanwhile.
        """
        results = self.checks.results
        if results is None or time.time() - results.when > FRESH:
            self.start()
        return self.to_json()

    def to_json(self) -> dict[str, Any]:
        """What is known by now, and how far the present run of the checks is."""
        progress, look = (
            self.checks.progress,
            self.look(),
        )  # checks that end meanwhile are still running
        return {
            'time': isotime(time.time()),
            'run': self.life.name,
            'pid': self.life.pid,
            'instance': self.life.instance,
            'when': isotime(look.when),
            'took': round(look.took, 4),
            'running': progress is not None,
            'progress': shallow(progress) if progress else None,
            'error': self.checks.error,
            'checks': look.to_json(),
        }

    def known(self) -> Known | None:
        """The known_here.Known of this process: more than the check tells, for who opens the page.

        It is looked up in the background, once for each run of the checks; None until then
        (`looks_up_known`) and before the first run.  A request never waits for rules and libraries.
        """
        results = self.checks.results
        if results and results is not self._known_for and not self.looks_up_known:
            self._known, self._known_for, self.looks_up_known = None, results, True
            self.life.in_background(self._look_up_known)
        return self._known

    def _look_up_known(self) -> None:
        from ..knowledge.rulesinforce import (
            known,  # only for a process in which somebody opens the page
        )

        try:
            self._known = known(self.life.path, self.life.started is not None)
        except Exception as error:  # what the checks found is shown without
            loglater.log(logging.WARNING, 'Known issues could not be looked up.', exc_info=error)
        finally:
            self.looks_up_known = False

    def _site(self) -> Site:
        if self._probed is None:
            self._probed = self.probe.load(stack_size(self.life))
        return self.make_site()

    def _leave_word(self) -> None:
        """For the time after this run's end."""
        if not self.life.directory:
            return
        with self.life.findings.guarded(
            'checks-kept', 'What the checks found is not kept on disk.'
        ):
            write_whole(
                self.life.directory.path / LAST_WORD,
                json.dumps(self.to_json()),
                self.life.base.file_mode,
            )


#: The Standing of each run that this process has had; a forked child has one of its own.
_STANDINGS: dict[tuple[str, int], Standing] = {}


def of(life: ILivingRun) -> Standing:
    """The Standing of a LivingRun."""
    key = life.name, id(life)
    return _STANDINGS.get(key) or _STANDINGS.setdefault(key, Standing(life))


def stack_size(life: ILivingRun) -> int:
    """Bytes of the smallest stack that a thread of this run is known to have; 0: not known."""
    default = life.context.get('thread_stack') or stacksizes.default_stack()
    sizes: list[int] = [stack[0] for stack in (life.smallest_stack, default) if stack]
    return min(sizes, default=0)
