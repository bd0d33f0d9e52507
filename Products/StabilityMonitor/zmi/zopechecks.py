"""The checks of this Zope: where those that ask find the answers, a page as well as a question from
outside.

Imported before Zope serves.  What the page itself shows is `checkpages`, which waits until somebody
opens it.
"""

from __future__ import annotations

from ..checks import allfindings
from ..model.interfaces import ILivingRun
from . import zopesite


def standing_of(life: ILivingRun) -> allfindings.Standing:
    """The Standing of this process, which knows its Zope."""
    found = allfindings.of(life)
    found.make_site = lambda: zopesite.site(life)
    return found


def begin(life: ILivingRun) -> None:
    """Once after each start: questions are answered from now on; all is asked in the background,
    soon and each hour.
    """
    with life.findings.guarded('checks-begun', 'The checks do not run by themselves.'):
        here = standing_of(life)
        life.every_round(here.renew)
        life.answer('checks', here.answer)
        life.in_background(here.start)
