"""Protects the living process from errors of this product: an error switches one part off, is
logged once, and becomes a finding.

`Findings` collects what the tab shows about this product itself; `Findings.guarded` wraps code that
may fail.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..model.action import NOTHING
from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.severities import Severity
from ..system import loglater


class Findings:
    """The findings of this product about itself, one for each id; `add` logs a new one once."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def __iter__(self) -> Iterator[Finding]:
        return iter(tuple(self._found.values()))

    def add(
        self,
        id: str,
        title: str,
        detail: str = '',
        action: Action = NOTHING,
        severity: Severity = WARNING,
    ) -> None:
        if id in self._found:
            return
        self._found[id] = Finding(id, severity, title, detail, action, source='this process')
        level = logging.WARNING
        if severity == INFO:
            level = logging.INFO
        loglater.log(level, '%s %s %s', title, detail, str(action))

    def drop(self, id: str) -> None:
        self._found.pop(id, None)

    @contextlib.contextmanager
    def guarded(self, id: str, what_is_off: str, action: Action = NOTHING) -> Iterator[None]:
        """Run a block; an Exception in it becomes a finding with the title `what_is_off`."""
        try:
            yield
        except Exception as error:
            self.add(
                id,
                what_is_off,
                f'{type(error).__name__}: {error}.',
                action or Action('Fix the named cause, then restart Zope.'),
            )
