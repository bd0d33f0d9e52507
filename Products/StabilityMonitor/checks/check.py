"""What a check is: its contract, and the little that all checks share."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Attribute
from zope.interface import Interface
from zope.interface import implementer

from ..model.records import Finding
from .livesite import Site


class ICheck(Interface):
    """One question about the living site.  A check has no state and changes nothing in the site.

    It runs in a thread for checks, never in a request.  That thread is abandoned when a check takes
    too long, so a check holds no lock while it waits for something outside.  Only an ILasting check
    may import something when it is asked.  What a system does not tell is `ok` or `info`, never an
    error.
    """

    id = Attribute('Short, stable, unique: findings are muted by it.')
    question = Attribute('One sentence with a question mark; yes means that all is well.')
    source = Attribute('Where the facts come from, such as a file of /proc.')

    def look(site: Site) -> Finding | list[Finding]:
        """The answer: one Finding, perhaps `ok`, or several with ids `<id>:<about what>`."""


class ILasting(ICheck):
    """A check whose answer changes only when its inputs do, and whose inputs are cheap to compare.

    It is asked only when they have changed: `resultcache` keeps the answer in the data directory,
    for later runs and starts.  It imports what it needs (rules, `packaging`) when it is asked, so a
    start where nothing has changed does without.
    """

    def looks_at(site: Site) -> tuple[object, ...]:
        """Everything that the answer depends on, such as fingerprints of files: plain values whose
        repr differs where they differ.
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
        id = f'{self.id}:{about}' if about else self.id
        return Finding(id, severity, title, detail, action, self.source)

    def ok(self, title: str, detail: str = '') -> Finding:
        return self.found('ok', title, detail)

    def unknown(self, title: str) -> Finding:
        """No answer: this system, or this process, does not tell."""
        return self.found('info', title, 'Nothing can be said about it from here.')


def megabytes(size: int) -> str:
    """Such as "1,536 MiB"."""
    return f'{size / (1 << 20):,.0f} MiB'


def several(words: Iterable[str], most: int = 8) -> str:
    """The words with commas; after the first `most` of them it says "and 12 more"."""
    every = list(words)
    rest = f' and {len(every) - most} more' if len(every) > most else ''
    return ', '.join(every[:most]) + rest
