"""The report as sections, best first: one content for all formats.

`_ROWS` is the table of contents.  A section whose function yields nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

from ..model.runrecord import RunRecord
from ..model.verdicts import verdict
from ..store.damagedrecords import alone
from ..store.damagedrecords import log_once
from . import incidentsections
from . import softwaresections
from . import statesections
from .blocks import Block
from .blocks import Paragraph
from .blocks import Section
from .blocks import Sections
from .fromdisk import Document
from .reading import Reading
from .reading import local
from .reading import reading_of

#: When a section is of use: in a report about the current state; about an incident; about the
#: current state if the last run was an incident; about how a run ended, in either; or always.
_NOW, _ENDED, _LAST_RUN, _RECORD, _ALWAYS = 'now', 'ended', 'last run', 'record', 'always'


@dataclass(frozen=True)
class _Row:
    """One section.

    `title` may have {time}: when what is installed was installed.  `part` is the part of the
    report, one of `reportchoice.PARTS`, without which there is nothing to show.
    """

    id: str
    title: str
    blocks: Callable[[Reading], Iterable[Block]]
    is_open: bool = True
    when: str = _ALWAYS
    part: str = ''


_ROWS = (
    _Row('what', 'What happened', incidentsections.what_happened, when=_ENDED),
    _Row('now', 'Current state', statesections.now, when=_NOW),
    _Row(
        'in-progress', 'Requests in progress', statesections.in_progress, when=_NOW, part='requests'
    ),
    _Row('last-run', 'How the last run ended', incidentsections.what_happened, when=_LAST_RUN),
    _Row('signature', 'All incidents of this signature', statesections.of_signature),
    _Row('where', 'Where it happened', incidentsections.where, when=_RECORD),
    _Row('cause', 'Cause and suspects', incidentsections.cause, when=_RECORD),
    _Row('known-issues', 'Known issues', incidentsections.known_issues, when=_RECORD),
    _Row('next', 'What to try next', incidentsections.steps, when=_RECORD),
    _Row('seen-before', 'The same before', statesections.seen_before),
    _Row('requests', 'Requests', incidentsections.requests, when=_RECORD, part='requests'),
    _Row('evidence', 'Evidence', incidentsections.evidence, when=_RECORD),
    _Row('versions', 'Versions, system and products{time}', softwaresections.versions),
    _Row(
        'distributions',
        'Distributions that matter',
        softwaresections.telling_distributions,
        part='versions',
    ),
    _Row('changes', 'What changed', softwaresections.changes),
    _Row('checks', 'Findings of the checks', statesections.checks, part='checks'),
    _Row('vital-signs', 'Vital signs', incidentsections.vital_signs, part='vitals'),
    _Row('logs', 'Logs around the end', statesections.logs, part='log'),
    _Row(
        'slow',
        'Slow requests',
        incidentsections.slow,
        is_open=False,
        when=_RECORD,
        part='threads',
    ),
    _Row(
        'other-threads',
        'Other threads',
        incidentsections.other_threads,
        is_open=False,
        when=_RECORD,
        part='threads',
    ),
    _Row('threads', 'Threads', statesections.threads_now, is_open=False, when=_NOW, part='threads'),
    _Row('databases', 'Databases', softwaresections.databases, is_open=False),
    _Row('add-ons', 'Add-ons of the Plone sites', softwaresections.add_ons, is_open=False),
    _Row(
        'compiled-modules',
        'Compiled modules',
        softwaresections.compiled_modules,
        is_open=False,
        part='modules',
    ),
    _Row(
        'all-distributions',
        'All distributions',
        softwaresections.all_distributions,
        is_open=False,
        part='versions',
    ),
    _Row(
        'configuration',
        'Configuration',
        softwaresections.configuration,
        is_open=False,
        part='configuration',
    ),
    _Row('history', 'Past runs', statesections.past_runs, is_open=False, part='history'),
    _Row('workarounds', 'Workarounds tried', statesections.workarounds),
    _Row('not-told', 'What this host could not tell', statesections.not_told),
    _Row('reporter', 'Reported by', statesections.reporter, part='reporter'),
    _Row('taken-out', 'Taken out of this report', statesections.taken_out, is_open=False),
)


def sections(report: Document) -> Sections:
    """Return the sections of a report, best first.

    The texts are foreign, and nothing in them is escaped yet.  A report that may leave the site has
    to be redacted before (`redaction.redacted`).
    """
    run = report.get('incident') or report.get('previous') or {}
    if not run:
        return _of(reading_of(report, None, {}))
    record = RunRecord.from_json(run)
    return alone(record, lambda record: _of(reading_of(report, record, run)))


def _of(reading: Reading) -> Sections:
    return Sections(
        title=_title(reading),
        about=_about(reading.report),
        sections=tuple(_made(reading)),
    )


def _made(reading: Reading) -> Iterator[Section]:
    parts = reading.report.get('parts')
    for row in _ROWS:
        is_left_out = row.part and parts is not None and row.part not in parts
        if is_left_out or not _is_wanted(row, reading):
            continue
        blocks = _blocks(row, reading)
        if blocks:
            title = row.title.format(time=reading.inventory_time)
            yield Section(row.id, title, blocks, row.is_open)


def _blocks(row: _Row, reading: Reading) -> tuple[Block, ...]:
    """Return the blocks of a section.  If it raises, it says so, and all others are there."""
    try:
        return tuple(row.blocks(reading))
    except Exception:
        log_once(reading.record.run if reading.record else 'of this report')
        return (Paragraph('This part of the report could not be made.'),)


def _is_wanted(row: _Row, reading: Reading) -> bool:
    return {
        _NOW: reading.is_state,
        _ENDED: not reading.is_state,
        _LAST_RUN: reading.is_state and reading.shows_record,
        _RECORD: reading.shows_record,
        _ALWAYS: True,
    }[row.when]


def _about(report: Document) -> str:
    instance = report['instance']
    place = f'{instance["client_home"] or "?"} on {instance["host"] or "?"}'
    words = f'Stability report of {place}, made {local(report["generated"])}'
    reporter = report.get('reporter') or {}
    who = ', '.join(filter(None, (reporter.get('name'), reporter.get('email'))))
    return f'{words}, by {who}' if who else words


def _title(reading: Reading) -> str:
    """Return the report in one line, such as "Zope crashed: SIGSEGV lxml.etree!parse"."""
    record = reading.record
    if reading.is_state or record is None:
        instance = reading.report['instance']
        what = 'Snapshot' if reading.snapshot else 'Current state'
        return f'{what} of {instance["client_home"] or "Zope"} on {instance["host"] or "?"}'
    what, _, _ = record.signature.rpartition(' ')
    what = what.removeprefix(f'{record.verdict} ')
    words = f'Zope {verdict(record.verdict).ending}'
    return f'{words}: {what or record.signal}' if what or record.signal else words
