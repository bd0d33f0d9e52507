"""The checks of this Zope process: what pages and the mailbox get their results from.

This is imported before Zope serves, in MainThread, with all that a check needs: in a thread of ours
nothing may be imported that defines a dataclass or a named tuple.  Python before 3.14 forgets then
that the process is to end by SIGINT (tests/recording/test_classes_of_threads.py).  `checkpages`,
which makes the page, is imported when somebody opens it.
"""

from __future__ import annotations

from ..checks import allfindings
from ..knowledge.rules import has_packaging
from ..model.interfaces import ILivingRun
from . import zopesite

has_packaging()


def standing_of(life: ILivingRun) -> allfindings.Standing:
    """The Standing of this process, with what only Zope knows."""
    found = allfindings.of(life)
    found.make_site = lambda: zopesite.site(life)
    return found


def begin(life: ILivingRun) -> None:
    """Called once after each start: from now on the checks run in the background, soon and then
    each hour, and their results can be asked for from outside.
    """
    with life.findings.guarded('checks-begun', 'The checks do not run by themselves.'):
        here = standing_of(life)
        life.every_round(here.renew)
        life.answer('checks', here.answer)
        life.in_background(here.start)
