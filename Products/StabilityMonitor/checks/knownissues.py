"""The check for known issues: which of them affect this installation, and what is wrong with the
site's own rules?

`knowledge.rulesinforce` gives the answers.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from ..knowledge.rulesinforce import known
from ..model.action import Action
from ..model.finding import Finding
from .check import Check
from .livesite import Site


class KnownIssues(Check):
    """Each known issue that applies is a finding `known-issues:<id of the rule>`; each problem with
    a file of rules is a finding, too.
    """

    id = 'known-issues'
    question = 'Is this installation free of known issues?'
    source = 'known_issues.toml and importlib.metadata'

    def look(self, site: Site) -> Finding | list[Finding]:
        facts = known(site.directory, site.started is not None)
        pip = own_pip()
        found = []
        for match in facts.affected:
            rule = match.rule
            reasons = ', '.join(match.reasons)
            finding = Finding(
                f'{self.id}:{rule.id}',
                rule.severity,
                f'{rule.title}.'.replace('..', '.'),
                f'{rule.happens} Here: {reasons}. Fixed: {rule.fixed}.',
                with_own_pip(rule.action),
                rule.source,
                self.id,
                rule.id,
            )
            found.append(finding)
        for problem in facts.problems:
            found.append(replace(problem.finding_with(pip), check=self.id))
        return found or self.ok(f'None of {facts.count} known issues affects this installation.')


def with_own_pip(action: Action, executable: str = sys.executable) -> Action:
    """Return the action of a rule, with the pip of this process in its commands.

    The commands stay as they are if `executable` is not a Python.
    """
    pip = own_pip(executable)
    pieces = []
    for piece in action.pieces:
        if piece.is_code and piece.text.startswith('pip install '):
            piece = replace(piece, text=pip + piece.text.removeprefix('pip'))
        pieces.append(piece)
    return Action.of(pieces)


def own_pip(executable: str = sys.executable) -> str:
    """Return the command for the pip of this process; "pip" if `executable` is not a Python."""
    if not Path(executable or '').name.startswith('python'):
        return 'pip'
    return f'{shlex.quote(executable)} -m pip'
