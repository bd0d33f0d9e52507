"""Known issues as a check: which of them affect this installation, and what is wrong with the
site's own rules?

`knowledge.rulesinforce` has the answer.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from ..knowledge.knowledgebase import Match
from ..knowledge.rulesinforce import known
from ..model.records import Finding
from .check import Check
from .livesite import Site


class KnownIssues(Check):
    """Each known issue is a finding `known-issues:<id of the rule>`, each problem with a file of
    rules is one, too.
    """

    id = 'known-issues'
    question = 'Is what is installed here free of known causes of crashes?'
    source = 'known_issues.toml and importlib.metadata'

    def look(self, site: Site) -> Finding | list[Finding]:
        facts = known(site.directory, site.started is not None)
        found = [*map(self._met, facts.affected), *(problem.finding for problem in facts.problems)]
        found = [replace(finding, action=with_own_pip(finding.action)) for finding in found]
        return found or self.ok(f'None of {facts.count} known issues affects this installation.')

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
