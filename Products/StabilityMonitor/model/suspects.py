"""Why a run died: the class of its death, and the modules that may be the cause.  No I/O."""

from dataclasses import dataclass

#: How much speaks for a suspect, most first.
STRENGTHS = ('certain', 'strong', 'likely', 'weak')
#: What the frame on top is: the code that did it, the one in which damage by other code surfaced,
#: or neither can be said.
CULPRIT = 'culprit'
VICTIM = 'victim'
NEITHER = ''


@dataclass(frozen=True)
class DeathClass:
    """What kind of death it was.

    `id` is a key of the table of classes, such as "null-pointer".  `role` is CULPRIT, VICTIM or
    NEITHER and speaks of the frame on top.  `why` says in a sentence what the class rests on, and
    `advice` what to try next.
    """

    id: str
    title: str = ''
    role: str = NEITHER
    why: str = ''
    advice: str = ''


@dataclass(frozen=True)
class Suspect:
    """A module that may have caused the death.

    `module` is the name of a Python module ("lxml.etree") or, without one, of a shared library
    ("libxml2.so.2").  `strength` is one of STRENGTHS, `why` its reason in a sentence.  `score`
    orders suspects, the highest first.
    """

    module: str
    distribution: str = ''
    version: str = ''
    file: str = ''
    strength: str = 'weak'
    score: int = 0
    why: str = ''
