"""A snapshot as plain text, for the command and for the text of a report."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator

from ..inspection import vitalsnow
from ..model.counts import counted
from ..model.records import Request
from ..model.records import clocktime
from ..model.severities import OK
from ..model.snapshotrecord import BY_KERNEL
from ..model.snapshotrecord import FAILED
from ..model.snapshotrecord import READING
from ..model.snapshotrecord import SnapshotRecord
from . import threadtext
from . import vitalwords
from .causewords import core_threads_title
from .causewords import equal_core_threads
from .causewords import merged_lines
from .stacksdocument import age

_RECENT = 20
_LOG = 20


def lines(record: SnapshotRecord) -> Iterator[str]:
    """Yield everything that a snapshot kept."""
    yield from about(record)
    yield ''
    yield from threads(record)
    yield from _block('Requests in progress', map(_request, record.requests))
    yield from _block('Vital signs', vital_signs(record))
    yield from native(record)
    yield from _block('Findings', findings(record))
    yield from _block('Last log records', log(record))
    yield from _block('Last finished requests', map(_request, record.recent[:_RECENT]))


def about(record: SnapshotRecord) -> Iterator[str]:
    """Yield which moment this is, of which process, who kept it and why."""
    yield record.summary
    yield ''
    facts = {
        'snapshot': record.id,
        'taken': clocktime(record.time),
        'by': record.who,
        'note': record.note,
        'process': record.pid,
        'run': record.run,
        'instance': record.instance.label,
        'role': record.role,
        'started': clocktime(record.started),
    }
    for name, value in facts.items():
        if value not in ('', None):
            yield f'{name:18} {value}'


def threads(record: SnapshotRecord) -> Iterator[str]:
    """Yield what the threads did, and who told it."""
    if record.told_by == BY_KERNEL:
        yield f'No answer from process {record.pid}: {record.reason}'
        yield 'What follows was seen from outside.'
        yield from record.seen
        yield ''
    subject = f'process {record.pid} (run {record.run})'
    yield from threadtext.lines(record.stacks, subject, record.own, record.stall)


def vital_signs(record: SnapshotRecord) -> Iterator[str]:
    now = vitalsnow.of(record.samples, record.curve, record.monotonic)
    for label, words in vitalwords.facts(now) if now else ():
        yield f'{label}: {words}'


def native(record: SnapshotRecord) -> Iterator[str]:
    """Yield the native stacks, and what is missing of them; nothing if nobody wanted them."""
    yield from _block('Native stacks', filter(None, [native_note(record)]))
    for alike in equal_core_threads(record.native_threads):
        yield from _block(f'Native: {core_threads_title(alike)}', merged_lines(alike[0].frames))


def native_note(record: SnapshotRecord) -> str:
    """Return a sentence if native stacks were wanted and are not there, or not all; else ''."""
    if record.native_error:
        return record.native_error
    if record.native_state == READING:
        return 'They were being read when this was written down.'
    return 'They could not be read.' if record.native_state == FAILED else ''


def findings(record: SnapshotRecord) -> Iterator[str]:
    """Yield the findings; those without a problem are one line."""
    if record.checked is None and not record.findings:
        yield 'Not known: the process has no results of its checks.'
        return
    fine = 0
    for finding in sorted(record.findings, key=lambda finding: -finding.severity.rank):
        if finding.severity == OK:
            fine += 1
            continue
        yield f'[{finding.severity.code}] {finding.title}'
        yield from (f'    {words}' for words in filter(None, [finding.detail]))
        yield from (f'    -> {words}' for words in filter(None, [str(finding.action)]))
    if fine:
        yield f'{counted(fine, "check")} found nothing.'


def log(record: SnapshotRecord) -> Iterator[str]:
    for line in record.log[-_LOG:]:
        times = f' [{line.count} times, last {clocktime(line.latest)}]' if line.count > 1 else ''
        yield f'{clocktime(line.time)} {line.level} {line.logger} {line.message}{times}'


def list_lines(records: Iterable[SnapshotRecord]) -> Iterator[str]:
    """Yield a title and one line for each snapshot; nothing without snapshots."""
    records = list(records)
    if records:
        yield f'{"snapshot taken":29}  {"name":32}  what it shows'
    for record in records:
        note = f' ({record.note})' if record.note else ''
        yield f'{clocktime(record.time):29}  {record.id:32}  {record.summary}{note}'


def _request(request: Request) -> str:
    ended = '' if request.ended is None else ' ->'
    return (
        f'{request.method} {request.path}{ended} {request.state}, {age(request.seconds or 0.0)}, '
        f'thread {request.served_by}'
    )


def _block(title: str, body: Iterable[str]) -> Iterator[str]:
    found = [f'  {line}' for line in body]
    if found:
        yield from ('', f'{title}:', *found)
