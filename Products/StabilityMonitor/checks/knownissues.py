"""Known issues as a check: which of them affect this installation, and what is wrong with the
site's own rules?

`knowledge.rulesinforce` has the answer, and is imported only when the check is asked: the rules
take half a MiB, the library that compares versions takes more.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from zope.interface import implementer

from ..knowledge import systemfacts
from ..model.records import Finding
from ..model.records import shallow
from ..store.rundirectory import KNOWN_ISSUES
from ..system import fingerprints
from .check import Check
from .check import ILasting
from .livesite import Site

if TYPE_CHECKING:  # rules are imported only when they are asked for, see the module
    from ..knowledge.knowledgebase import Match


@implementer(ILasting)
class KnownIssues(Check):
    """Each known issue is a finding `known-issues:<id of the rule>`, each problem with a file of
    rules is one, too.
    """

    id = 'known-issues'
    question = 'Is what is installed here free of known causes of crashes?'
    source = 'known_issues.toml and importlib.metadata'

    def look(self, site: Site) -> Finding | list[Finding]:
        from ..knowledge.rulesinforce import known  # see the module

        facts = known(site.directory, site.started is not None)
        found = [*map(self._met, facts.affected), *(problem.finding for problem in facts.problems)]
        found = [replace(finding, action=with_own_pip(finding.action)) for finding in found]
        return found or self.ok(f'None of {facts.count} known issues affects this installation.')

    def looks_at(self, site: Site) -> tuple[object, ...]:
        """The rules and the system.

        The day counts only where the site has rules of its own: they may silence an issue until a
        day.
        """
        rules = fingerprints.of_file(site.directory / KNOWN_ISSUES)
        here = shallow(systemfacts.here())
        return (
            fingerprints.of_program(),
            fingerprints.of_machine(),
            fingerprints.of_installed(site.path),
            sorted(here.pop('distributions').items()),
            sorted(here.pop('builds').items()),
            sorted(here.pop('loaded')),
            here,
            sys.executable,
            site.started is not None,
            rules,
            rules and datetime.now(UTC).date().isoformat(),
        )

    def _met(self, match: Match) -> Finding:
        rule = match.rule
        return Finding(
            f'{self.id}:{rule.id}',
            rule.severity,
            f'{rule.title}.'.replace('..', '.'),
            f'{rule.happens} Here: {", ".join(match.reasons)}. Fixed: {rule.fixed}.',
            rule.action,
            rule.source,
        )


def with_own_pip(action: str, executable: str = sys.executable) -> str:
    """An action with the pip of this very process, where `executable` is a Python."""
    if 'pip install' not in action or not Path(executable or '').name.startswith('python'):
        return action
    import shlex  # rarely

    return re.sub(
        r'(?<!-m )\bpip install\b',
        lambda found: f'{shlex.quote(executable)} -m pip install',
        action,
    )
