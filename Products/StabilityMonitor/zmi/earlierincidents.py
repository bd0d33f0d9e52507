"""The values of "seen before", at the top of the page of an incident.

This module does not import Zope.
"""

from __future__ import annotations

from typing import Any

from ..knowledge.signedruns import SignedRuns
from ..model.runrecord import RunRecord
from ..reporting import signaturewords
from ..reporting.signedpast import signed_past
from ..store.archive import Archive
from . import addresses

#: The keys of a difference, see `signaturewords.difference_words`.
_DIFFERENT = ('what', 'then', 'now')


def values(archive: Archive, record: RunRecord) -> dict[str, Any] | None:
    """Return what is known of an incident from others; None if it has no signature.

    `record` is whole.
    """
    past = signed_past(archive)
    SignedRuns(archive).sign_later(past.incidents)
    group = past.group_of(record.run)
    seen = past.seen_before(archive, record)
    if group is None or seen is None:
        return None
    return {
        'words': signaturewords.seen_words(seen),
        'id': seen.id,
        'signature': group.signature.title,
        'address': addresses.of_signature(seen.id),
        'last': addresses.of_run(seen.runs[0]) if seen.runs else '',
        'different': [
            dict(zip(_DIFFERENT, signaturewords.difference_words(each), strict=True))
            for each in seen.different
        ],
    }
