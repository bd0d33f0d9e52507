"""Known issues as a check: which of them affect this installation, and what is wrong with the
site's own rules?

`knowledge.rulesinforce` has the answer.
"""

from __future__ import annotations

import re
import shlex
import sys
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
        pip = own_pip()
        found = [*map(self._met, facts.affected)]
        found += [problem.finding_with(pip) for problem in facts.problems]
        return found or self.ok(f'None of {facts.count} known issues affects this installation.')

    def _met(self, match: Match) -> Finding:
        rule = match.rule
        return Finding(
            f'{self.id}:{rule.id}',
            rule.severity,
            f'{rule.title}.'.replace('..', '.'),
            f'{rule.happens} Here: {", ".join(match.reasons)}. Fixed: {rule.fixed}.',
            with_own_pip(rule.action),
            rule.source,
        )


def with_own_pip(action: str, executable: str = sys.executable) -> str:
    """The action of a rule with the pip of this very process, where `executable` is a Python.

    A file of rules has an action as text, and may be the site's own.
    """
    if 'pip install' not in action:
        return action
    pip = own_pip(executable)
    return re.sub(r'(?<!-m )\bpip install\b', lambda found: f'{pip} install', action)


def own_pip(executable: str = sys.executable) -> str:
    """The command for the pip of this very process, where `executable` is a Python."""
    if not Path(executable or '').name.startswith('python'):
        return 'pip'
    return f'{shlex.quote(executable)} -m pip'
