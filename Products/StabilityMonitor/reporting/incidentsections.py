"""The sections of a report about how a run ended: what happened, where, why, and beside what."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from ..model.eventkinds import event_kind
from ..model.jsonform import items_from_json
from ..model.options import from_record
from ..model.records import LifePoint
from ..model.records import LogLine
from ..model.records import Request
from ..model.records import Sample
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import short_clocktime
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from ..model.verdicts import verdict
from . import charts
from . import crashedstack
from . import svg
from .axes import size
from .blocks import Block
from .blocks import Facts
from .blocks import Item
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Picture
from .blocks import Table
from .causewords import core_facts
from .causewords import core_gaps
from .causewords import core_threads
from .causewords import core_threads_title
from .causewords import death_words
from .causewords import merged_lines
from .causewords import no_suspect
from .causewords import suspect_line
from .causewords import suspect_name
from .causewords import unread_core
from .endwords import amended_words
from .endwords import end_words
from .endwords import uptime_words
from .equalthreads import equal_threads
from .equalthreads import slow_requests
from .equalthreads import thread_label
from .nextsteps import next_steps
from .reading import Reading
from .runtext import hang_line
from .runtext import log_line
from .runtext import slow_title
from .runtext import strength_words
from .runtext import threads_title
from .signaturewords import seen_words
from .threadtext import frame_line
from .threadtext import frame_lines
from .threadtext import without_repetition
from .vitalwords import of_the_end

#: So many finished requests, log records and samples are shown, the last ones.
_REQUESTS = 20
_RECORDS = 50
_SAMPLES = 5
#: Characters of a line of what the reporter says.
_WIDTH = 90
_SAMPLE = ('Time', 'Memory', 'CPU', 'Threads', 'Descriptors', 'In progress', 'Server')


# -- what happened ---------------------------------------------------------------------------------


def what_happened(reading: Reading) -> Iterator[Block]:
    """How the run ended in three sentences, whether that is new, and the first facts."""
    record = reading.record
    if record is None:
        return
    seen = reading.seen_before
    known = seen_words(seen) if seen and (seen.count or seen.since) else ''
    sentences = (record.summary, _when(record), _why(record), known)
    yield Paragraph(' '.join(filter(None, sentences)))
    yield from said(reading)
    yield Facts(tuple(_identity(record)))


def said(reading: Reading) -> Iterator[Block]:
    """What the reporter did and expected, in their own lines."""
    reporter = reading.report.get('reporter') or {}
    for key, title in (('did', 'What was done'), ('expected', 'What was expected')):
        lines: list[str] = []
        for line in str(reporter.get(key) or '').splitlines():
            lines += textwrap.wrap(line, _WIDTH) or ['']
        if lines:
            yield Lines(tuple(lines), title)


def _when(record: RunRecord) -> str:
    if record.ended is None:
        return ''
    up = f'It had been up for {uptime_words(record)}'
    if record.ended_before is None:
        return f'{up} and ended {end_words(record)}.'
    return f'{up}; {end_words(record)}.'


def _why(record: RunRecord) -> str:
    """Return the one sentence that says most about the cause; '' if nothing is known."""
    if record.suspects:
        first = record.suspects[0]
        return f'The first suspect is {suspect_name(first)} ({first.strength}): {first.why}'
    if record.death:
        return f'{record.death.title}.'
    for hang in record.hangs:
        if hang.lasts:
            return f'{event_kind(hang.kind).title} for {duration(hang.seconds)} until then.'
    return ''


def _identity(record: RunRecord) -> Iterator[tuple[str, str]]:
    instance = record.instance
    facts = (
        ('Verdict', f'{verdict(record.verdict).label}, {record.confidence}'),
        ('Changed by witnesses', _changes_by_witnesses(record)),
        ('Signal', record.signal),
        ('Exit status', record.exit_code),
        ('Drill', record.drill and f'{record.drill}: this end was asked for'),
        ('Signature', record.signature),
        ('Started', clocktime(record.started)),
        ('Ended', end_words(record)),
        ('Run', f'{record.run}, pid {record.pid}, {record.role}'),
        ('Instance', instance.label),
    )
    for name, value in facts:
        if value not in (None, ''):
            yield name, str(value)


def _changes_by_witnesses(record: RunRecord) -> str:
    has_changed = any(each.before != each.after for each in record.amendments)
    return amended_words(record) if has_changed else ''


# -- where -----------------------------------------------------------------------------------------


def where(reading: Reading) -> Iterator[Block]:
    """The stack of the thread that died, the hang with its threads, or the exception."""
    record = reading.record
    if record is None:
        return
    yield from _crashed(record)
    yield from _hung(record)
    if record.exception:
        yield Lines(tuple(record.exception.splitlines()), 'The exception')
    if record.last_words:
        yield Lines(record.last_words, 'Last words on standard error')


def _crashed(record: RunRecord) -> Iterator[Block]:
    stack = crashedstack.lines(record)
    if not stack:
        return
    crashed = next((thread for thread in record.threads if thread.crashed), None)
    title = threads_title([crashed]) if crashed else 'Crashed thread'
    yield Lines(tuple(stack), f'{title}, innermost frame first')


def _hung(record: RunRecord) -> Iterator[Block]:
    hangs = [Item(hang_line(hang, record)) for hang in record.hangs]
    if hangs:
        yield Items(tuple(hangs))
    if not record.hung_at_the_end:
        return
    for threads in equal_threads(_standing(record)):
        yield Lines(tuple(frame_lines(threads[0].frames)), threads_title(threads))
    if not _standing(record):
        yield from _slow(record)


def _standing(record: RunRecord) -> list[ThreadState]:
    """Return the threads of the hangs that lasted until the end, with their stacks."""
    idents: set[int] = set()
    for hang in record.hangs:
        if hang.lasts:
            idents.update(hang.threads, (link.ident for link in hang.cycle))
    return [thread for thread in record.threads if thread.ident in idents and not thread.crashed]


def _slow(record: RunRecord) -> Iterator[Block]:
    for notes in slow_requests(record.notes):
        stack = without_repetition(list(map(frame_line, notes[0].frames)))
        yield Lines((notes[0].detail, *stack), slow_title(notes))


# -- why -------------------------------------------------------------------------------------------


def cause(reading: Reading) -> Iterator[Block]:
    """The class of the death, and the suspects."""
    record = reading.record
    if record is None:
        return
    if record.death:
        yield Paragraph(death_words(record.death))
    suspects = tuple(Item(suspect_line(suspect)) for suspect in record.suspects)
    if suspects:
        yield Items(suspects, is_numbered=True)
    if no_suspect(record):
        yield Paragraph(no_suspect(record))


def known_issues(reading: Reading) -> Iterator[Block]:
    items = []
    for issue in reading.record.known_issues if reading.record else ():
        against = [f'Against it: {line}' for line in issue.against]
        details = [
            f'{strength_words(issue.strength)}.',
            *issue.matched,
            *against,
            issue.action,
            issue.source and f'Source: {issue.source}',
        ]
        items.append(Item(issue.title or issue.id, tuple(filter(None, details))))
    if items:
        yield Items(tuple(items))


def steps(reading: Reading) -> Iterator[Block]:
    """What to try next."""
    if reading.record is None:
        return
    items = tuple(Item(str(step)) for step in next_steps(reading.record, is_reported=True))
    if items:
        yield Items(items, is_numbered=True)


def evidence(reading: Reading) -> Iterator[Block]:
    """What the verdict rests on, and what the core file tells beside its stacks."""
    record = reading.record
    if record is None:
        return
    rows = tuple(dict.fromkeys((each.source, each.fact) for each in record.evidence))
    if rows:
        yield Table(('Source', 'Fact'), rows)
    if record.ruled_out:
        yield Items(_items(record.ruled_out), 'Ruled out')
    if record.candidates:
        yield Items(_items(record.candidates), 'Possible causes')
    if record.core:
        yield Facts(tuple(core_facts(record.core)), 'Core file')
        gaps = core_gaps(record.core)
        if gaps:
            yield Items(_items(gaps))
    elif unread_core(record):
        yield Paragraph(unread_core(record))


def _items(texts: Iterable[str]) -> tuple[Item, ...]:
    return tuple(map(Item, texts))


# -- beside what -----------------------------------------------------------------------------------

#: The head of a table of requests.
REQUEST = ('Request', 'State', 'Seconds', 'Began', 'Thread')


def requests(reading: Reading) -> Iterator[Block]:
    """The requests in progress at the end; the one that crashed comes first, and is marked."""
    record = reading.record
    if record is None:
        return
    in_progress = sorted(record.requests, key=lambda request: not request.crashed)
    if in_progress:
        rows = tuple(request_row(request, record.ended) for request in in_progress)
        yield Table(REQUEST, rows, 'In progress at the end')
    if record.recent:
        recent = record.recent[:_REQUESTS]
        rows = tuple(request_row(request, record.ended) for request in recent)
        yield Table(REQUEST, rows, 'Finished before, the last first')


def request_row(request: Request, beside: float | None) -> tuple[str, ...]:
    """Return the cells of a request, in the order of `REQUEST`.

    Of a time on the day of `beside`, only the clock is shown.
    """
    times = f' ({request.count} times)' if request.count > 1 else ''
    crashed = ' (crashed here)' if request.crashed else ''
    return (
        f'{request.method} {request.path}{times}{crashed}',
        request.state,
        f'{request.seconds or 0.0:.3f}',
        short_clocktime(request.started or None, beside),
        request.served_by,
    )


def slow(reading: Reading) -> Iterator[Block]:
    """The slow requests with their last stacks, unless `where` has them."""
    record = reading.record
    if record and (_standing(record) or not record.hung_at_the_end):
        yield from _slow(record)


def other_threads(reading: Reading) -> Iterator[Block]:
    """The threads that are not in `where`: as the core file tells them, or else as Python does."""
    record = reading.record
    if record is None:
        return
    if record.core and record.core.threads:
        for alike in core_threads(record.core):
            if not alike[0].crashed:
                yield Lines(tuple(merged_lines(alike[0].frames)), core_threads_title(alike))
        return
    shown = {thread.ident for thread in _standing(record)}
    others = [
        thread for thread in record.threads if not thread.crashed and thread.ident not in shown
    ]
    for threads in equal_threads(others):
        title = threads_title(threads) or thread_label(threads)
        yield Lines(tuple(frame_lines(threads[0].frames)), title)


def vital_signs(reading: Reading) -> Iterator[Block]:
    """Curves and figures of the time before the end, or before a snapshot."""
    record = reading.record
    if reading.snapshot:
        samples = items_from_json(Sample, reading.snapshot.get('samples'))
        curve = items_from_json(LifePoint, reading.snapshot.get('curve'))
        when, stall = 'until the snapshot', reading.snapshot.get('stall')
    elif record and reading.shows_record:
        samples, curve = record.samples, record.curve
        when = charts.BEFORE_THE_END
        stall = from_record(record.context.get('options')).get('stall')
    else:
        return
    bound = float(stall) if isinstance(stall, int | float) else -1.0
    for chart in charts.vital_signs(samples, curve, bound, when):
        if chart.picture:
            yield Picture(chart.picture, svg.label_of(chart.picture), chart.caption)
    yield from samples_table(samples, samples[-1].time if samples else None)


def samples_table(samples: Sequence[Sample], beside: float | None) -> Iterator[Block]:
    """The last samples as figures; of a time on the day of `beside`, only the clock is shown."""
    rows = [_sample(sample, beside) for sample in samples[-_SAMPLES:]]
    if rows:
        columns = len(_SAMPLE) if any(row[-1] for row in rows) else len(_SAMPLE) - 1
        yield Table(_SAMPLE[:columns], tuple(row[:columns] for row in rows), 'The last samples')


def _sample(sample: Sample, beside: float | None) -> tuple[str, ...]:
    return (
        short_clocktime(sample.time or None, beside),
        size(sample.rss) if sample.rss >= 0 else '?',
        f'{sample.cpu:.1f} s' if sample.cpu >= 0 else '?',
        _count(sample.threads),
        _count(sample.descriptors),
        _count(sample.in_flight),
        ', '.join(of_the_end(sample)),
    )


def _count(number: int) -> str:
    return f'{number:,}' if number >= 0 else '?'


def log_records(records: Sequence[LogLine]) -> Iterator[Block]:
    """The records of the event log that the black box kept."""
    lines = tuple(map(log_line, records[-_RECORDS:]))
    if lines:
        yield Lines(lines, 'From the black box', ends_best=True)
