"""What a check is: a question with an answer.  Its contract, and the little that all of them
share.
"""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Attribute
from zope.interface import Interface
from zope.interface import implementer

from ..model.records import Finding
from .livesite import Site


class ICheck(Interface):
    """One question about the living site.  Checks have no state and change nothing in the site.

    They run in a thread of their own, never in a request.  It is left behind when a check takes too
    long, so they hold no lock while they wait for something outside.  Only an ILasting one imports
    something when it is asked.  What a system does not tell is `ok` or `info`, never an error.
    """

    id = Attribute('Short, stable, unique: findings are hushed by it.')
    question = Attribute('One sentence with a question mark; yes means that all is well.')
    source = Attribute('Where the facts come from, such as a file of /proc.')

    def look(site: Site) -> Finding | list[Finding]:
        """One Finding, or several with ids `<id>:<about what>`, for a `site.Site`; at least one,
        perhaps `ok`.
        """


class ILasting(ICheck):
    """A check whose answer is the same as long as what it looks at is, which can be told at little
    cost.

    It is asked only when that has changed: `remembered` keeps its answer in the data directory, for
    later runs and starts.  So it imports what it needs (rules, `packaging`) when it is asked, and a
    start that finds all as it was does without.
    """

    def looks_at(site: Site) -> tuple[object, ...]:
        """All that the answer depends on, as plain values with a telling repr, such as stamps of
        files.
        """


@implementer(ICheck)
class Check:
    """See ICheck."""

    id = question = source = ''

    def look(self, site: Site) -> Finding | list[Finding]:
        raise NotImplementedError(self.id)

    def found(
        self, severity: str, title: str, detail: str = '', action: str = '', about: str = ''
    ) -> Finding:
        return Finding(
            f'{self.id}:{about}' if about else self.id, severity, title, detail, action, self.source
        )

    def ok(self, title: str, detail: str = '') -> Finding:
        return self.found('ok', title, detail)

    def unknown(self, title: str) -> Finding:
        """Neither well nor ill: this system, or this process, does not tell."""
        return self.found('info', title, 'Nothing can be said about it from here.')


def megabytes(size: int) -> str:
    """Such as "1,536 MiB"."""
    return f'{size / (1 << 20):,.0f} MiB'


def several(words: Iterable[str], most: int = 8) -> str:
    """Words in their order with commas; "and 12 more" stands for those after the first `most`."""
    every = list(words)
    rest = f' and {len(every) - most} more' if len(every) > most else ''
    return ', '.join(every[:most]) + rest
