"""How a living run stands: its own findings, what checks found, and known issues, together; hushed ones apart.

    of(life).start()        everything is asked, in the background: after a start, and on demand
    of(life).look()         what is known by now: for pages, reports, and whoever asks from outside

Who looks never waits: he gets the results of the last run, which also lie in the run's directory for the time
after its end.
"""
from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from ..recording import threadstacks
from ..records import Finding
from ..records import Instance
from ..records import isotime
from ..records import shallow
from ..rundirectory import read_json
from ..rundirectory import write_whole
from ..values import Value
from ..values import replace
from . import known_issues
from . import known_system
from . import recursionprobe
from .checks import CHECKS
from .checks import Background
from .checks import ICheck
from .checks.check import Check
from .hushed import Hush
from .hushed import Hushed
from .site import Site

LAST_WORD, PROBE = 'checks.json', 'recursion-probe.json'
#: Results that are younger (seconds) are new enough for whoever asks from outside.
FRESH = 10.0
#: And those of a living run are renewed when they are so old: who may only read has but its last word.
RENEWED = 3600.0
_LOGGER = logging.getLogger('StabilityMonitor')
_WORST_FIRST = {severity: number for number, severity in enumerate(reversed(Finding.SEVERITIES))}


# -- known issues ----------------------------------------------------------------------------------------

class Known(Value):
    """The rules in force, held against this process.  `problems` are those of the site's own file."""

    affected: tuple[known_issues.Match, ...]
    unaffected: tuple[known_issues.Match, ...]
    silences: tuple[known_issues.Silence, ...]
    problems: tuple[known_issues.Problem, ...]
    count: int


def known(directory, has_started: bool = False) -> Known:
    """Known issues of this process, with what the site in that data directory adds and silences."""
    rules = known_issues.in_force(directory)
    return Known(*known_issues.affected(rules.rules, known_system.here(), has_started), rules.silences, rules.problems,
                 len(rules.rules))


def of_incident(record, directory) -> tuple[dict, ...]:
    """Known issues that an archived RunRecord may have met, see `known_issues.match_incident`; never raises."""
    if not record.is_incident:
        return record.known_issues
    try:
        rules = known_issues.in_force(directory).rules
        return tuple(known_issues.match_incident(rules, record, known_system.here())) or record.known_issues
    except Exception:                                   # a record is of foreign origin
        _LOGGER.warning('Known issues of the run %s could not be looked up.', record.run, exc_info=True)
        return record.known_issues


@implementer(ICheck)
class KnownIssues(Check):
    """Known issues as findings, `known-issues:<id of the rule>`; problems with the files of rules too."""

    id = 'known-issues'
    question = 'Is what is installed here free of known causes of crashes?'
    source = 'known_issues.toml and importlib.metadata'

    def __init__(self, tell: Callable[[Known], None] = lambda facts: None):
        self.tell = tell                                # what was looked up, for who shows more of it

    def look(self, site):
        facts = known(site.directory, site.started is not None)
        self.tell(facts)
        found = [*map(self._met, facts.affected), *(problem.finding for problem in facts.problems)]
        found = [replace(finding, action=with_own_pip(finding.action)) for finding in found]
        return found or self.ok(f'None of {facts.count} known issues affects this installation.')

    def _met(self, match):
        rule = match.rule
        return Finding(f'{self.id}:{rule.id}', rule.severity, f'{rule.title}.'.replace('..', '.'),
                       f'{rule.happens} Here: {", ".join(match.reasons)}. Fixed: {rule.fixed}.', rule.action,
                       rule.source)


def with_own_pip(action: str, executable: str = sys.executable) -> str:
    """What to do in the environment of this very process: its own Python installs it, where that is one."""
    if 'pip install' not in action or not Path(executable or '').name.startswith('python'):
        return action
    import shlex  # rarely
    return re.sub(r'(?<!-m )\bpip install\b', lambda found: f'{shlex.quote(executable)} -m pip install', action)


# -- all findings together -------------------------------------------------------------------------------

class Look(Value):
    """Findings, worst first, `ok` ones too; hushed ones apart.  `when` (epoch) and `took`: of the last run."""

    shown: tuple[Finding, ...] = ()
    hushed: tuple[tuple[Finding, Hush], ...] = ()
    when: float | None = None
    took: float = 0.0

    def to_json(self) -> list[dict]:
        """As in the report: {id, severity, title, detail, action, source}; hushed ones say by whom and until when."""
        return [*map(shallow, self.shown), *(shallow(finding) | {'hushed': {
            'reason': hush.reason, 'until': hush.until, 'who': hush.who}} for finding, hush in self.hushed)]


def sorted_out(findings, hushed: Hushed, when: float | None = None, took: float = 0.0) -> Look:
    """Findings that are hushed and those that are not, each the worst first."""
    shown, apart = hushed.partition(findings)
    return Look(tuple(sorted(shown, key=rank)), tuple(sorted(apart, key=lambda pair: rank(pair[0]))), when, took)


def rank(finding: Finding) -> int:
    """0 for what is worst."""
    return _WORST_FIRST.get(finding.severity, len(_WORST_FIRST))


def from_json(row) -> Finding | None:
    """A finding out of a foreign document; None if it is none."""
    if not isinstance(row, dict) or row.get('severity') not in Finding.SEVERITIES:
        return None
    return Finding(**{name: str(row.get(name) or '') for name in Finding.FIELDS})


def last_word(path: Path) -> dict:
    """What the run in that directory has told of its checks last, as `Standing.answer`; {} if nothing."""
    return read_json(path / LAST_WORD)


class Standing:
    """Asks and remembers, for one LivingRun.  `make_site` is called in the background for each run of the checks."""

    def __init__(self, life):
        self.life = life
        self.make_site: Callable = lambda: Site.of(life)
        self.checks = Background(self._site, (*CHECKS, KnownIssues(self._keep)))
        self.known: Known | None = None                 # of the last run of the checks
        self.probe = recursionprobe.Probe(life.path / PROBE)
        self._probed, self._asked = None, time.monotonic()

    def start(self) -> bool:
        """Ask everything, in the background; False if that goes on already, or cannot be begun (`checks.error`)."""
        self._asked = time.monotonic()
        return self.checks.start(self._leave_word)

    def renew(self) -> None:
        """A round of the heartbeat: ask everything again where that was long ago."""
        if time.monotonic() - self._asked > RENEWED:
            self.start()

    def start_probe(self) -> bool:
        """Begin the recursion probe; False if it goes on already, or cannot be begun (`probe.error`)."""
        return self.probe.start(stack_size(self.life))

    @property
    def probed(self) -> recursionprobe.ProbeResult | None:
        """What the recursion probe found: now, or earlier with this very Python and stack."""
        return self.probe.result or self._probed

    def hushed(self, file_mode: int = 0o600) -> Hushed:
        """The hushes as this instance sees them; `file_mode` counts when one is written."""
        return Hushed(self.life.path, Instance(**self.life.instance).label, file_mode)

    def look(self) -> Look:
        """What is known by now; reads one small file."""
        results, probed = self.checks.results, self.probed
        found = [*(results.findings if results else ()), *([recursionprobe.finding(probed)] if probed else ())]
        seen = {finding.id for finding in found}        # a check knows more than what was seen at the start
        own = [finding for finding in self.life.findings if finding.id not in seen]
        return sorted_out([*own, *found], self.hushed(), *((results.when, results.took) if results else ()))

    def answer(self) -> dict:
        """The answer to the question "checks" from outside.  Results that are no more fresh are renewed meanwhile."""
        results = self.checks.results
        if results is None or time.time() - results.when > FRESH:
            self.start()
        return self.to_json()

    def to_json(self) -> dict:
        """What is known by now, and how far the present run of the checks is."""
        progress, look = self.checks.progress, self.look()      # checks that end meanwhile are still running
        return {'time': isotime(time.time()), 'run': self.life.name, 'pid': self.life.pid,
                'instance': self.life.instance, 'when': isotime(look.when), 'took': round(look.took, 4),
                'running': progress is not None, 'progress': shallow(progress) if progress else None,
                'error': self.checks.error, 'checks': look.to_json()}

    def _site(self):
        known_issues.shipped()                          # read here, not on the account of a check
        if self._probed is None:
            self._probed = self.probe.load(stack_size(self.life))
        return self.make_site()

    def _keep(self, facts):
        self.known = facts

    def _leave_word(self):
        """For the time after this run's end."""
        if not self.life.directory:
            return
        with self.life.findings.guarded('checks-kept', 'What the checks found is not kept on disk.'):
            write_whole(self.life.directory.path / LAST_WORD, json.dumps(self.to_json()),
                        self.life.base.file_mode)


#: The Standing of each run that this process has had; a forked child has one of its own.
_STANDINGS: dict[tuple[str, int], Standing] = {}


def of(life) -> Standing:
    """The Standing of a LivingRun."""
    key = life.name, id(life)
    return _STANDINGS.get(key) or _STANDINGS.setdefault(key, Standing(life))


def stack_size(life) -> int:
    """Bytes of the smallest stack that a thread of this run is known to have; 0: not known."""
    default = life.context.get('thread_stack') or threadstacks.default_stack()
    return min((stack[0] for stack in (life.smallest_stack, default) if stack), default=0)
