"""The contract of a check, and what all checks share."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Attribute
from zope.interface import Interface
from zope.interface import implementer

from ..model.action import NOTHING
from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import Severity
from .livesite import Site


class ICheck(Interface):
    """One question about the living site.  A check has no state and changes nothing in the site.

    It runs in a thread for checks, never in a request.  That thread is abandoned when a check takes
    too long, so a check holds no lock while it waits for something outside.  The modules that it
    needs are imported in MainThread before it runs.  Where a system gives no data, the answer is
    `ok` or `info`, never an error.
    """

    id = Attribute('Short, stable, unique: findings are muted by it.')
    question = Attribute('One sentence with a question mark; yes means that all is well.')
    source = Attribute('Where the facts come from, such as a file of /proc.')

    def look(site: Site) -> Finding | list[Finding]:
        """Return the answer: one Finding, perhaps `ok`, or several with ids `<id>:<about>`.

        An empty list leaves the answer to the finding of another check.
        """


@implementer(ICheck)
class Check:
    """See ICheck."""

    id = question = source = ''

    def look(self, site: Site) -> Finding | list[Finding]:
        raise NotImplementedError(self.id)

    def found(
        self,
        severity: Severity,
        title: str,
        detail: str = '',
        action: Action = NOTHING,
        about: str = '',
    ) -> Finding:
        id = f'{self.id}:{about}' if about else self.id
        return Finding(id, severity, title, detail, action, self.source, check=self.id)

    def ok(self, title: str, detail: str = '') -> Finding:
        return self.found(OK, title, detail)

    def unknown(self, title: str) -> Finding:
        """Return the finding of a check that gets no data from this system or process."""
        return self.found(INFO, title, 'This system or process gives no data about it.')


def megabytes(size: int) -> str:
    """Return a size in bytes as text, for example "1,536 MiB"."""
    return f'{size / (1 << 20):,.0f} MiB'


def several(words: Iterable[str], most: int = 8) -> str:
    """Return the words joined by commas; words beyond the first `most` become "and 12 more"."""
    every = list(words)
    rest = f' and {len(every) - most} more' if len(every) > most else ''
    return ', '.join(every[:most]) + rest
