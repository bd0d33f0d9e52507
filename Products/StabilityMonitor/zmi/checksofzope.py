"""The checks of this Zope: where those that ask find the answers, a page as well as a question from outside.

Imported before Zope serves.  What the page itself shows is `checkpages`, which waits until somebody opens it.
"""
from __future__ import annotations

from ..diagnosis import standing
from . import siteofzope


def standing_of(life) -> standing.Standing:
    """The Standing of this process, which knows its Zope."""
    found = standing.of(life)
    found.make_site = lambda: siteofzope.site(life)
    return found


def begin(life) -> None:
    """An errand of the heartbeat, once after each start: ask everything, now and each hour, and answer questions."""
    here, rounds = standing_of(life), life.rounds
    if rounds:
        rounds.heartbeat.rounds.append(here.renew)
    if rounds and rounds.inbox:
        rounds.inbox.answers['checks'] = here.answer
    here.start()
