"""The values of the table of signatures and of the page of one.

This module does not import Zope.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from ..knowledge import crashgroups
from ..knowledge import diagnosis
from ..knowledge import featuresets
from ..knowledge.crashgroups import Group
from ..knowledge.rulesinforce import of_incident
from ..knowledge.signedruns import SignedRuns
from ..model.comparisons import Rate
from ..model.counts import counted
from ..model.errors import NoSuchRun
from ..model.errors import NoSuchSignature
from ..model.interfaces import ILivingRun
from ..model.records import Instance
from ..model.records import clocktime
from ..model.records import duration
from ..model.runrecord import RunRecord
from ..model.signature import Signature
from ..reporting import charts
from ..reporting import occurrences
from ..reporting import signaturewords
from ..reporting.signedpast import SignedPast
from ..reporting.signedpast import signed_past
from ..store.acknowledged import Acknowledgements
from ..store.archive import Archive
from ..store.damagedrecords import alone
from . import acknowledging
from . import addresses
from . import pages
from . import tablequery
from .forms import variable
from .incidenttable import BATCH
from .incidenttable import SHOWS
from .tablequery import Column

#: The rows of the table are groups.
COLUMNS = {
    'signature': Column('Signature', lambda group: group.signature.title, 'asc'),
    'count': Column('Count', lambda group: group.count, 'desc'),
    'last': Column('Last', lambda group: group.last or 0.0, 'desc'),
    'first': Column('First, rate', lambda group: group.first or 0.0, 'desc'),
}
#: The keys of what incidents share, see `signaturewords.shared_words`.
_SHARED = ('what', 'names', 'these', 'others', 'chance')


# -- the table -------------------------------------------------------------------------------------


def table(life: ILivingRun, archive: Archive, form: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the table for the parameters in `form`, which may be anything.

    A group is shown if a run of the wanted instances is in it; it counts those of all instances.
    """
    wanted = tablequery.wanted(form, tablequery.SIGNATURES, SHOWS, COLUMNS, 'last')
    summaries = archive.summaries()
    past = signed_past(archive, summaries)
    SignedRuns(archive).sign_later(past.incidents)
    is_all = wanted.instances == 'all'
    instance = None if is_all else life.instance
    shown = [group for group in past.groups if instance is None or instance in group.by_instance]
    shown.sort(key=COLUMNS[wanted.sort].sort_key, reverse=wanted.is_descending)
    page_count = max(1, math.ceil(len(shown) / BATCH))
    page = min(wanted.page, page_count)
    on_page = shown[(page - 1) * BATCH : page * BATCH]
    return {
        'title': 'Incidents by signature',
        'rows': _rows(archive, past, on_page, instance),
        'rest': _rest(past, instance),
        'count': counted(len(shown), 'signature'),
        'known': len(summaries),
        'progress': _progress(past),
        'weak': _weak(on_page),
        'page': page,
        'pages': page_count,
        'tables': tablequery.tables(wanted),
        'instances': tablequery.choices(wanted, 'instances', tablequery.INSTANCES),
        'columns': tablequery.headings(wanted, COLUMNS),
        'earlier': wanted.address(page=page - 1) if page > 1 else '',
        'later': wanted.address(page=page + 1) if page < page_count else '',
    }


def _rows(
    archive: Archive, past: SignedPast, groups: Sequence[Group], instance: Instance | None
) -> list[dict[str, Any]]:
    """Return the rows of the table; all their pictures begin at the same time.

    With `instance`, a row says how many of its incidents that instance had.
    """
    acknowledged, _ = Acknowledgements(archive.base).read()
    now = time.time()
    rows = []
    for group in groups:
        newest = group.runs[0]
        ours = group.count if instance is None else group.by_instance[instance]
        rows.append(
            _named(group.signature)
            | {
                'look': pages.look(newest.verdict),
                'count': f'{group.count:,}',
                'here': f'{ours:,} here' if ours < group.count else '',
                'open': _open(group, acknowledged),
                'last': clocktime(group.last),
                'first': clocktime(group.first),
                'is_one': group.count == 1,
                'ago': _ago(newest),
                'rate': signaturewords.rate_words(_per_day(group, now)),
                'picture': occurrences.small(
                    group.times, past.began or now, now, charts.colour(newest.verdict)
                ),
            }
        )
    return rows


def _named(signature: Signature) -> dict[str, Any]:
    return {
        'id': signature.id,
        'signature': signature.title,
        'verdict': signature.verdict,
        'suspect': signature.suspect,
        # Two may have died at the same place in C code, called from different places.
        'within': signature.python[0] if signature.native and signature.python else '',
        'address': addresses.of_signature(signature.id),
    }


def _open(group: Group, acknowledged: Iterable[str]) -> int:
    """Return how many incidents of a group are open: it has no drills."""
    return group.count - sum(run in group.names for run in acknowledged)


def _rest(past: SignedPast, instance: Instance | None) -> list[dict[str, str]]:
    """Return the rows for incidents without a signature."""
    rows = []
    for runs, one, many, why in (
        (past.drills, 'Drill', 'Drills', 'No fault ended them.'),
        (past.without, 'Without a signature', '', 'Too little is known of how they ended.'),
    ):
        runs = tuple(run for run in runs if instance is None or run.instance == instance)
        if runs:
            newest = runs[0]
            rows.append(
                {
                    'label': (many if len(runs) > 1 else one) or one,
                    'why': why,
                    'count': f'{len(runs):,}',
                    'last': clocktime(newest.ended),
                    'ago': _ago(newest),
                    'first': clocktime(runs[-1].ended),
                    'address': addresses.of_run(newest.run),
                }
            )
    return rows


def _progress(past: SignedPast) -> dict[str, Any] | None:
    """Return how far the signing of old incidents is; None when it is done."""
    if not past.unsigned:
        return None
    return {'words': past.progress, 'done': past.signed, 'all': past.signed + past.unsigned}


def _weak(groups: Sequence[Group]) -> str:
    is_any = any(group.signature.is_weak for group in groups)
    return signaturewords.WEAK if is_any else ''


def _ago(run: RunRecord) -> str:
    passed = acknowledging.seconds_ago(run)
    return '' if passed is None else f'{duration(passed)} ago'


def _per_day(group: Group, now: float) -> float | None:
    days = (now - (group.first or now)) / 86400
    return group.count / days if group.count > 1 and days >= 1 else None


# -- one signature ---------------------------------------------------------------------------------


def signature(archive: Archive, form: dict[str, Any]) -> dict[str, Any]:
    """Return the values of the page of the signature `id` of `form`.  Raises NoSuchSignature."""
    summaries = archive.summaries()
    past = signed_past(archive, summaries)
    SignedRuns(archive).sign_later(past.incidents)
    group = crashgroups.find(past.groups, variable(form, 'id'))
    if group is None:
        raise NoSuchSignature('There is no such signature in the archive.')
    acknowledged, _ = Acknowledgements(archive.base).read()
    now = time.time()
    newest = group.runs[0]
    page_count = max(1, math.ceil(group.count / BATCH))
    page = min(tablequery.page_number(form.get('page')), page_count)

    def row(run: RunRecord) -> dict[str, Any]:
        return pages.ending(run, 'It') | {'acknowledged': run.run in acknowledged}

    def at(number: int) -> str:
        return addresses.of_signature(group.id, page=number)

    return _named(group.signature) | {
        'title': f'Signature {group.id}',
        'look': pages.look(newest.verdict),
        'weak': _weak([group]),
        'progress': _progress(past),
        'count': counted(group.count, 'incident'),
        'is_one': group.count == 1,
        'open': _open(group, acknowledged),
        'first': clocktime(group.first),
        'last': clocktime(group.last),
        'ago': _ago(newest),
        'newest': addresses.of_run(newest.run),
        'report': 'manage_report?' + urlencode({'signature': group.id}),
        'picture': occurrences.large(
            group.times, past.began or now, now, charts.colour(newest.verdict)
        ),
        'parts': _parts(group),
        'none_shared': 'Nothing was found that these incidents share and others lack.',
        'family': [
            _named(each.signature) | {'count': counted(each.count, 'incident')}
            for each in crashgroups.family(past.groups, group)
        ],
        **_told(archive, past, group),
        **_compared(archive, summaries, group),
        'rows': [alone(run, row) for run in group.runs[(page - 1) * BATCH : page * BATCH]],
        'all_instances': len(group.by_instance) > 1,
        'page': page,
        'pages': page_count,
        'earlier': at(page - 1) if page > 1 else '',
        'later': at(page + 1) if page < page_count else '',
    }


def _parts(group: Group) -> list[dict[str, str]]:
    """Return what an incident must have to get this signature."""
    signature = group.signature
    parts = (
        ('Verdict', signature.verdict),
        ('Signal', signature.signal),
        ('Kind of death', signature.death),
        ('Places in C code', ' < '.join(signature.native)),
        ('Places in Python code', ' < '.join(signature.python)),
        ('Place', signature.place),
        ('Also known as', ', '.join(sorted(group.ids - {group.id}))),
    )
    return [{'label': label, 'value': value} for label, value in parts if value]


def _told(archive: Archive, past: SignedPast, group: Group) -> dict[str, Any]:
    """Return the suspects and known issues of the newest incident that tells most."""
    tells_most = (run for run in group.runs if past.signatures.get(run.run) == group.signature)
    run = next(tells_most, group.runs[0])
    try:
        record = archive.record(run.run)
    except NoSuchRun:  # it was pruned meanwhile
        record = run

    def told(record: RunRecord) -> dict[str, Any]:
        record = diagnosis.of_archive(archive, record)
        issues = of_incident(record, archive.base.path)
        return pages.why(record, issues) | {'told_by': addresses.of_run(record.run)}

    return alone(record, told)


def _compared(archive: Archive, summaries: Sequence[RunRecord], group: Group) -> dict[str, Any]:
    """Return how often the incidents occur, what they share, and which versions they had."""
    kept = SignedRuns(archive).features
    found = featuresets.comparison(archive.base, group.runs, summaries, kept, time.time())
    shared = [signaturewords.shared_words(each) for each in found.correlations]
    return {
        'rates': _rates(found.rate),
        'shared': [dict(zip(_SHARED, words, strict=True)) for words in shared],
        'since': list(map(signaturewords.since_words, found.since)),
        'versions': pages.cut([vars(each) for each in found.versions]),
    }


def _rates(rate: Rate) -> list[dict[str, str]]:
    words = (
        ('Rate', signaturewords.rate_words(rate.per_day)),
        (
            'Rate by uptime',
            signaturewords.rate_words(rate.per_uptime_day, 'in 24 h of uptime', 'days of uptime'),
        ),
    )
    return [{'label': label, 'value': value} for label, value in words if value]
