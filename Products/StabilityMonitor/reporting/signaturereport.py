"""A report about all incidents of a signature: that of the newest one, and a list of all."""

from __future__ import annotations

from ..knowledge.crashgroups import Group
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..store.damagedrecords import alone
from .fromdisk import Document

#: At most this many incidents are listed, the newest ones.
MOST = 100


def about_signature(report: Document, group: Group) -> Document:
    """Return the report of the newest incident of a group as one about its signature."""
    signature = group.signature
    listed = group.runs[:MOST]
    return report | {
        'about': {'kind': 'signature', 'run': group.runs[0].run, 'signature': group.id},
        'signature': {
            'signature': signature.label,
            'id': signature.id,
            'title': signature.title,
            'weak': signature.is_weak,
            'count': group.count,
            'first': isotime(group.first),
            'last': isotime(group.last),
            'incidents': [
                alone(run, RunRecord.summary_json) | {'signature': signature.label}
                for run in listed
            ],
        },
    }
