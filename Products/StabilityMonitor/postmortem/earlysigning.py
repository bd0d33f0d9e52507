"""Signs the incidents that a start of Zope has found, in the background, once Zope serves.

The signature also rests on the code of the site, which may have changed before anybody looks at a
page.  Only `triage` imports this module, after an incident.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model.interfaces import ILivingRun
from ..model.runrecord import RunRecord
from ..store.archive import Archive

#: Rounds of the heartbeat in which they are looked at again: what a core file or a witness tells
#: meanwhile changes their signatures.
_ROUNDS = 20


def sign_later(life: ILivingRun, judged: Iterable[RunRecord]) -> None:
    """Sign the incidents that were just judged, once Zope serves."""
    if life.role != 'server' or not life.is_watched:
        return  # without a heartbeat, an errand would run at once and make the start slower
    incidents = tuple(record.without_heavy() for record in judged)
    left = _ROUNDS

    def sign() -> None:
        # Not while Zope starts.  Its pages have loaded it before.
        from ..knowledge.signedruns import SignedRuns

        SignedRuns(Archive(life.base)).sign_later(incidents)

    def sign_if_serving() -> None:
        nonlocal left
        if left > 0 and life.is_serving:
            left -= 1
            life.in_background(sign)

    life.every_round(sign_if_serving)
