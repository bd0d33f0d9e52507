"""The signature of an incident: what is the same each time the same fault ends a run.  No I/O."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

#: So many hex digits of a digest name a signature: among 10,000 signatures, two are alike once in
#: 20,000 sites.
_DIGITS = 10
#: The class of a death that could not be told.
UNKNOWN_CLASS = 'unknown'


@dataclass(frozen=True)
class Signature:
    """What is the same each time the same fault ends a run; the rules are in
    `knowledge.signatures`.

    `verdict`, `signal` and `death` (the id of a class of death) say what happened.  `native` and
    `python` are the places in the stack of the thread that died, innermost first, without numbers
    of lines, addresses and versions: "crasher_c!null", "Products.Shop.views:render".  `place` is
    what stands for the stack where there is none: the template of the path of a request, the
    exception and its place, or the reason of a hang and its places.

    `suspect` is the module that is most likely to be the cause, '' if nothing points to one.
    `is_weak`: a part is not known, so that different faults may have this signature.
    """

    verdict: str
    signal: str = ''
    death: str = ''
    native: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    place: str = ''
    suspect: str = ''
    is_weak: bool = False

    @cached_property
    def strict(self) -> str:
        """Everything that must be the same, as text."""
        native, python = ' < '.join(self.native), ' < '.join(self.python)
        parts = (self.verdict, self.signal, self.death, native, python, self.place)
        return '|'.join(parts).rstrip('|')

    @cached_property
    def id(self) -> str:
        """A short name of `strict`, for addresses and tables; that of a weak one begins with ~."""
        return f'{"~" if self.is_weak else ""}{_digest(self.strict)}'

    @property
    def family(self) -> str:
        """The suspect and the class of death, as text; '' if nothing points to a module."""
        return f'{self.suspect}|{self.death}' if self.suspect else ''

    @property
    def title(self) -> str:
        """What and where, for people: "SIGSEGV crasher_c!null"."""
        what = self.signal or self.verdict
        where = (*self.native, *self.python, self.place)
        return ' '.join(filter(None, [what, *where[:1]]))

    @cached_property
    def label(self) -> str:
        """The title and the id: the `signature` of a record."""
        return f'{self.title} {self.id}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:_DIGITS]
