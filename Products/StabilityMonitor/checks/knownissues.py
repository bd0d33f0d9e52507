"""Known issues as a check: which of them affect this installation, and what is wrong with the
site's own rules?

`knowledge.rulesinforce` has the answer.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from ..knowledge.knowledgebase import Match
from ..knowledge.rulesinforce import known
from ..model.action import Action
from ..model.finding import Finding
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
        for problem in facts.problems:
            found.append(replace(problem.finding_with(pip), check=self.id))
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
            self.id,
            rule.id,
        )


def with_own_pip(action: Action, executable: str = sys.executable) -> Action:
    """The action of a rule with the pip of this very process in its commands, where `executable`
    is a Python.
    """
    pip = own_pip(executable)
    pieces = []
    for piece in action.pieces:
        if piece.is_code and piece.text.startswith('pip install '):
            piece = replace(piece, text=pip + piece.text.removeprefix('pip'))
        pieces.append(piece)
    return Action.of(pieces)


def own_pip(executable: str = sys.executable) -> str:
    """The command for the pip of this very process, where `executable` is a Python."""
    if not Path(executable or '').name.startswith('python'):
        return 'pip'
    return f'{shlex.quote(executable)} -m pip'
