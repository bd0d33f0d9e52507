"""The checks of this Zope process; the pages and the mailbox get their results here.

MainThread imports this module, and all that the checks need, before Zope serves.  A thread of this
product must not import a module that defines a dataclass or a named tuple: if a KeyboardInterrupt
ends the process meanwhile, Python before 3.14 exits with status 1 instead of dying by SIGINT
(tests/recording/test_classes_of_threads.py).  `checkpages`, which makes the page, is imported when
the page is first opened.
"""

from __future__ import annotations

from ..checks import allfindings
from ..knowledge.rules import has_packaging
from ..model.interfaces import ILivingRun
from . import zopesite

has_packaging()


def standing_of(life: ILivingRun) -> allfindings.Standing:
    """Return the Standing of this process, extended by the facts that only Zope knows."""
    found = allfindings.of(life)
    found.make_site = lambda: zopesite.site(life)
    return found


def begin(life: ILivingRun) -> None:
    """Let the checks run in the background, soon and then every hour; called once after each start.

    From now on other processes can also request the results through the mailbox.
    """
    with life.findings.guarded('checks-begun', 'The checks do not run automatically.'):
        standing = standing_of(life)
        life.every_round(standing.renew)
        life.answer('checks', standing.answer)
        life.in_background(standing.start)
