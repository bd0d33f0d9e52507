"""The sections of a report about the present state, and about the report itself."""

from __future__ import annotations

from collections.abc import Iterator

from ..model.corefile import CoreThread
from ..model.counts import counted
from ..model.jsonform import from_json
from ..model.jsonform import items_from_json
from ..model.records import LogLine
from ..model.records import Request
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import from_isotime
from ..model.reportparts import LOGS
from ..model.reportparts import MISSING
from ..model.reportparts import REASONS
from ..model.reportparts import Gap
from ..model.reportparts import LogPortion
from ..model.secretclasses import CLASSES
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import severity_of
from ..model.threadstates import Event
from ..model.threadstates import SlowRequest
from ..model.threadstates import ThreadState
from . import incidentsections
from .blocks import Block
from .blocks import Facts
from .blocks import Item
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Table
from .causewords import core_threads_title
from .causewords import merged_lines
from .fromdisk import NOBODY
from .fromdisk import PROCESS
from .fromdisk import RUN
from .fromdisk import Document
from .incidentsections import request_row
from .reading import Reading
from .reading import local
from .reading import whole_lines
from .redaction import KEY
from .reportchoice import PARTS
from .runtext import HISTORY
from .runtext import checks_note
from .runtext import finding_lines
from .runtext import history_row
from .signaturewords import difference_words
from .signaturewords import seen_words
from .stacksdocument import age
from .stacksdocument import ordered
from .threadtext import hang_line
from .threadtext import thread_lines

#: So many past runs are listed.
_RUNS = 50
#: Functions with a smaller share of the time of a slow request are not listed.
_LEAST_SHARE = 0.05


# -- now -------------------------------------------------------------------------------------------


def now(reading: Reading) -> Iterator[Block]:
    """Whether the instance lives, and how its last run ended."""
    report = reading.report
    living = report.get('process')
    last = report.get('last_process')
    source = reading.source('process')
    if reading.snapshot:
        yield from _snapshot(reading.snapshot)
    elif living and source['source'] == PROCESS:
        uptime = duration(living.get('uptime_seconds'))
        yield Paragraph(f'This process has been up for {uptime}.')
    elif living:
        yield Paragraph(
            f'A process of this instance is alive. As of its start, {local(source["as_of"])}:'
        )
    elif last:
        yield Paragraph(
            'No process of this instance runs here. As of the start of the last one, '
            f'{local(source["as_of"])}:'
        )
    yield from incidentsections.said(reading)
    process = living or last or {}
    facts = (
        ('Started', local(process['started']) if process.get('started') else ''),
        ('Run', process.get('run')),
        ('Process id', process.get('pid')),
        ('Instance', _instance(report)),
    )
    yield Facts(tuple((name, str(value)) for name, value in facts if value))
    yield from _last_run(reading)


def _snapshot(snapshot: Document) -> Iterator[Block]:
    """The moment that was kept, who kept it and why."""
    yield Paragraph(str(snapshot.get('summary', '')))
    facts = (
        ('Note', snapshot.get('note')),
        ('Snapshot', snapshot.get('id')),
        ('Taken', local(snapshot.get('time'))),
        ('Taken by', snapshot.get('who')),
        ('Not answered because', snapshot.get('reason')),
    )
    yield Facts(tuple((name, str(value)) for name, value in facts if value))
    seen = tuple(map(Item, map(str, snapshot.get('seen') or ())))
    if seen:
        yield Items(seen, 'Seen from outside')


def _instance(report: Document) -> str:
    known = report['instance']
    address = f' ({known["listen"]})' if known.get('listen') else ''
    return f'{known["client_home"] or "?"} on {known["host"] or "?"}{address}'


def _last_run(reading: Reading) -> Iterator[Block]:
    if reading.snapshot:
        return
    if reading.record is None:
        yield Paragraph('No earlier run of this instance is archived.')
    elif not reading.record.is_incident:
        yield Paragraph(f'How the last run ended: {reading.record.summary}')


def in_progress(reading: Reading) -> Iterator[Block]:
    """The requests, hangs and slow requests of this moment."""
    report = reading.report
    source = reading.source('in_flight')
    if source['source'] == NOBODY:
        yield Paragraph(
            'Not known: only a living process knows its requests, what its threads do, which '
            'requests are slow and what hangs.'
        )
        return
    hangs = items_from_json(Event, report.get('hangs'))
    if hangs:
        yield Items(tuple(Item(hang_line(hang)) for hang in hangs), 'Hangs and deadlocks')
    when = local(source['as_of'])
    if source['source'] == RUN:
        yield Paragraph(f'As of {when}, from the black box of the living process:')
    elif source['source'] != PROCESS:
        yield Paragraph(f'As of {when}:')
    now = from_isotime(report['generated'])
    rows = [request_row(from_json(Request, each), now) for each in report['in_flight']]
    if rows:
        yield Table(incidentsections.REQUEST, tuple(rows))
    else:
        yield Paragraph('No request is in progress.')
    slow = items_from_json(SlowRequest, report.get('slow_requests'))
    if slow:
        yield Items(tuple(map(_slow, slow)), 'Slow requests')


def _slow(slow: SlowRequest) -> Item:
    so_far = 'so far' if slow.lasts else 'in total'
    shares = [
        f'{share.own:.0%} in {share.function} ({share.file})'
        for share in slow.shares
        if share.own >= _LEAST_SHARE
    ]
    head = f'{slow.method} {slow.path}: {age(slow.seconds)} {so_far}'
    return Item(f'{head}, began {clocktime(slow.started)}', tuple(shares))


def threads_now(reading: Reading) -> Iterator[Block]:
    active, idle = ordered(items_from_json(ThreadState, reading.report.get('threads')), 0)
    for thread in active:
        head, *lines = thread_lines(thread)
        yield Lines(tuple(lines), head)
    if idle:
        names = ', '.join(thread.name or hex(thread.ident) for thread in idle)
        yield Paragraph(f'Idle threads, and threads of the stability monitor: {names}')
    for native in items_from_json(CoreThread, reading.snapshot.get('native_threads')):
        title = f'Native: {core_threads_title([native])}'
        yield Lines(tuple(merged_lines(native.frames)), title)
    if reading.snapshot.get('native_error'):
        yield Paragraph(str(reading.snapshot['native_error']))


# -- checks ----------------------------------------------------------------------------------------


def checks(reading: Reading) -> Iterator[Block]:
    """What the checks found.  Those that found nothing are one line."""
    source = reading.source('checks')
    if source['source'] == NOBODY:
        yield Paragraph('Not known: the last process recorded no results of its checks.')
        return
    note = checks_note(source)
    if note:
        yield Paragraph(note)
    elif source.get('as_of'):
        of_run = f', recorded by the run {source["run"]}' if source['source'] == RUN else ''
        yield Paragraph(f'As of {local(source["as_of"])}{of_run}:')
    results = reading.report['checks']
    muted = [each for each in results if each.get('muted')]
    fine = [each for each in results if severity_of(each['severity']) == OK]
    found = [each for each in results if each not in muted and each not in fine]
    if found:
        yield Items(tuple(map(_finding, found)))
    ends = []
    if muted:
        ends.append(f'{counted(len(muted), "finding")} muted.')
    if fine or not (note or results):
        others = 'other ' if found else ''
        count = counted(len(fine), f'{others}check') if fine else 'the checks'
        ends.append(f'Nothing was found by {count}.')
    if ends:
        yield Paragraph(' '.join(ends))


def _finding(check: Document) -> Item:
    """Return one finding.  What is only for information needs no details here."""
    head, *details = finding_lines(check)
    if severity_of(check['severity']) == INFO:
        details = []
    return Item(head, tuple(line.strip().removeprefix('-> ') for line in details))


# -- the past --------------------------------------------------------------------------------------


def seen_before(reading: Reading) -> Iterator[Block]:
    """How often the same fault ended a run, and what was different the last time."""
    seen = reading.seen_before
    if seen is None or not (seen.count or seen.since):
        return
    yield Paragraph(seen_words(seen))
    different = tuple(map(difference_words, seen.different))
    if different:
        yield Table(('Different the last time', 'Then', 'Now'), different)
    if seen.runs:
        yield Lines(seen.runs, f'Runs with the signature {seen.signature}')


def of_signature(reading: Reading) -> Iterator[Block]:
    """All incidents of the signature; what the other sections show is the newest of them."""
    known = reading.signature
    if not known:
        return
    count = counted(known['count'], 'incident')
    first, last = local(known['first']), local(known['last'])
    words = f'{count} with the signature {known["signature"]}, the first {first}, the last {last}.'
    yield Paragraph(f'{words} The last one is shown here.')
    yield Table(HISTORY, tuple(map(history_row, known['incidents'][:_RUNS])))


def past_runs(reading: Reading) -> Iterator[Block]:
    history = reading.report['history']
    if history:
        yield Table(HISTORY, tuple(map(history_row, history[:_RUNS])))
    else:
        yield Paragraph('None.')
    if len(history) > _RUNS:
        yield Paragraph(f'{counted(len(history) - _RUNS, "older run")} are not listed here.')


# -- logs, and what is missing ---------------------------------------------------------------------


def logs(reading: Reading) -> Iterator[Block]:
    """What was logged around the end: by the black box, and in the log files of the system."""
    records = reading.record.log if reading.record and reading.shows_record else ()
    if reading.snapshot:
        records = items_from_json(LogLine, reading.snapshot.get('log'))
    yield from incidentsections.log_records(records)
    for document in reading.report.get('logs') or ():
        title = _log_title(from_json(LogPortion, document))
        yield Lines(whole_lines(document), title, ends_best=True)


def _log_title(portion: LogPortion) -> str:
    words = [LOGS.get(portion.name, portion.name), portion.file]
    notes = {
        'cut': portion.cut,
        'from an older file': portion.rotated,
        'its lines have no times': portion.timeless,
    }
    told = [note for note, is_so in notes.items() if is_so]
    if told:
        words.append(f'({", ".join(told)})')
    title = ' '.join(filter(None, words))
    return title[:1].upper() + title[1:]


def not_told(reading: Reading) -> Iterator[Block]:
    rows = tuple(map(_gap, items_from_json(Gap, reading.report.get('not_told'))))
    if rows:
        yield Table(('Not known', 'Why'), rows)


def _gap(gap: Gap) -> tuple[str, str]:
    what = LOGS.get(gap.what) or MISSING.get(gap.what, gap.what)
    why = REASONS.get(gap.why, gap.why)
    words = ': '.join(filter(None, (why, gap.detail)))
    return what, f'{words} ({gap.file})' if gap.file else words


# -- the report itself -----------------------------------------------------------------------------


def workarounds(reading: Reading) -> Iterator[Block]:
    known = tuple(Item(str(each)) for each in reading.report.get('workarounds') or ())
    yield Items(known) if known else Paragraph('None is recorded.')


def reporter(reading: Reading) -> Iterator[Block]:
    given = reading.report.get('reporter') or {}
    support = reading.report.get('support') or {}
    name = given.get('name') or support.get('support_name') or 'YOUR NAME'
    email = given.get('email') or support.get('support_contact') or 'YOUR EMAIL ADDRESS'
    yield Facts((('Name', name), ('E-mail', email)))


def taken_out(reading: Reading) -> Iterator[Block]:
    """What the reporter left out, and how many values of each class were taken out."""
    parts = reading.report.get('parts')
    left_out = [part.label for part in PARTS.values() if parts is not None and part.id not in parts]
    if left_out:
        yield Items(tuple(map(Item, left_out)), 'Left out by the reporter')
    redacted = reading.report.get(KEY) or {}
    items = []
    for name, count in redacted.get('values', {}).items():
        what = CLASSES.get(name, 'what the option "redact-pattern" matches')
        items.append(Item(f'{what}: {counted(count, "value")}'))
    if items:
        yield Paragraph(
            'A word with a number, as "user-1", stands for each value, wherever it occurred.'
        )
    for name in redacted.get('off', ()):
        why = f'not looked for, since the option "redact" leaves out "{name}"'
        items.append(Item(f'{CLASSES[name]}: {why}'))
    if items:
        yield Items(tuple(items))
