"""One run as text, as `show` prints it, and the lines that the report shares with it."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator

from ..model.eventkinds import event_kind
from ..model.plaintext import clean
from ..model.records import LogLine
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..model.records import clocktime
from ..model.records import duration
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.seenbefore import SeenBefore
from ..model.severities import OK
from ..model.severities import severity_of
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..store.damagedrecords import alone
from ..store.damagedrecords import damaged
from ..store.damagedrecords import log_once
from .causewords import cause_lines
from .causewords import core_lines
from .causewords import core_threads
from .causewords import core_threads_title
from .causewords import merged_lines
from .causewords import object_line
from .causewords import unread_core
from .endwords import amended_words
from .endwords import end_words
from .endwords import hang_words
from .endwords import uptime_words
from .equalthreads import equal_threads
from .equalthreads import slow_requests
from .equalthreads import slow_words
from .equalthreads import thread_label
from .fromdisk import Document
from .nextsteps import next_steps
from .reading import at_the_end
from .reading import local
from .signaturewords import difference_lines
from .signaturewords import seen_words
from .stacksdocument import room_words
from .threadtext import frame_line
from .threadtext import frame_lines
from .threadtext import without_repetition
from .vitalwords import of_the_end

#: {source of the current versions: words}, see `fromdisk.compared`.
_COMPARED_WITH = {'process': 'the living process', 'command': 'the environment of this command'}


def change_lines(versions: Document, verdict: str) -> Iterator[str]:
    """Yield which versions have changed since a run; `versions` is that entry of its report."""
    yield changes_note(versions, verdict)
    for change in versions['changed'] or ():
        yield f'  {change_line(change)}'


def changes_note(versions: Document, verdict: str) -> str:
    """Return whether versions have changed since a run; the changes follow, if there are any."""
    if not versions['known']:
        return f'The versions {at_the_end(verdict)} were not recorded.'
    if versions['changed'] is None:
        return (
            'What has changed since is not known: no process of that instance is running here, and '
            'this report was made with another Python than that of the run.'
        )
    now = _COMPARED_WITH[versions['with']]
    if not versions['changed']:
        return f'No version has changed since: {now} has the same ones.'
    return f'Changed since, compared with {now}:'


def change_line(change: Document) -> str:
    """For example "lxml 6.1.3 -> 6.0.2"."""
    name = change['name']
    then = change['then']
    now = change['now']
    if then is None:
        return f'{name}: not installed -> {now}'
    return f'{name} {then} -> {now or "not installed"}'


def checks_note(source: Document) -> str:
    """Return why the findings of a report may be incomplete; '' if they are complete.

    `source` is the entry of the checks in the report's `sources`.
    """
    running = source.get('running')
    when = source.get('as_of')
    if source.get('error'):
        return str(source['error'])
    if running and when:
        return f'The checks are running again; these are the results of {local(when)}.'
    if running:
        return 'The checks are still running: there are no results yet.'
    if running is not None and not when:
        return (
            'The checks have not run yet in this process. They start when Zope serves; the page '
            '"Checks" also starts them.'
        )
    return ''


def run_lines(record: RunRecord, seen: SeenBefore | None = None) -> list[str]:
    """Return the lines about one archived run: first the verdict, then everything that supports it.

    A summary of a run has no large parts; their blocks are omitted.  `seen` is what is known of an
    incident from others.
    """
    return alone(record, lambda record: list(_lines_of_run(record, seen)))


def _lines_of_run(record: RunRecord, seen: SeenBefore | None) -> Iterator[str]:
    yield record.summary
    if seen:
        yield seen_words(seen)
        yield from _block('Different the last time', difference_lines(seen.different))
    yield ''
    facts = {
        'verdict': record.verdict,
        'confidence': record.confidence,
        'amended': amended_words(record),
        'run': record.run,
        'signal': record.signal,
        'exit code': record.exit_code,
        'pid': record.pid,
        'role': record.role,
        'started': clocktime(record.started),
        'ended': end_words(record),
        'uptime': uptime_words(record),
        'signature': record.signature,
    }
    yield from _facts(facts)
    steps = [f'{number}. {step}' for number, step in enumerate(next_steps(record), 1)]
    yield from _block('Why', cause_lines(record))
    yield from _block('What to do now', steps)
    evidence = [f'{each.source}: {each.fact}' for each in record.evidence]
    modules = ', '.join(record.compiled_modules)
    yield from _block('Evidence', evidence)
    hangs = [hang_line(hang, record) for hang in record.hangs]
    yield from _block('Hangs and deadlocks', hangs)
    yield from _block('Causes ruled out', record.ruled_out)
    yield from _block('Possible causes', record.candidates)
    yield from _block('Known issues', _known_issues(record.known_issues))
    yield from _block('Requests in progress at the end', map(_request, record.requests))
    yield from _block('Last finished requests', map(_request, record.recent[:20]))
    for threads in equal_threads(record.threads):
        yield from _block(threads_title(threads), frame_lines(threads[0].frames))
    for notes in slow_requests(record.notes):
        stack = without_repetition(list(map(frame_line, notes[0].frames)))
        yield from _block(slow_title(notes), [notes[0].detail, *stack])
    native = [f'{frame.binary} {frame.symbol}' for frame in record.native]
    yield from _block('C stack of the crashed thread', native)
    if unread_core(record):
        yield from _block('Core file', [unread_core(record)])
    if record.core:
        yield from _block('Core file', core_lines(record.core))
        for alike in core_threads(record.core):
            title = f'In the core file: {core_threads_title(alike)}'
            yield from _block(title, merged_lines(alike[0].frames))
    yield from _block('Last log records', map(log_line, record.log[-20:]))
    yield from _block('Memory and CPU before the end', map(_sample, record.samples[-5:]))
    if record.shared_objects:
        yield from _block('Compiled modules', map(object_line, record.shared_objects))
    elif modules:
        yield from _block('Compiled modules', [modules])


def log_line(line: LogLine) -> str:
    """Return a record of the event log, with how often it came if it came more than once."""
    again = ''
    if line.count > 1:
        again = f' [{line.count} times, last {time_words(line.latest)}]'
    return f'{time_words(line.time)} {line.level} {line.logger} {line.message}{again}'


def history_lines(history: Iterable[Document]) -> Iterator[str]:
    """Yield one line for each past run."""
    for run in history:
        try:
            line = _history_line(run)
        except Exception:  # see `store.damagedrecords`
            log_once(run['run'])
            line = _history_line(damaged(run['run']).summary_json())
        yield clean(line)


def _history_line(run: Document) -> str:
    ended, code, signal, uptime, role, name = history_row(run)
    return f'{ended:29}  {code:20} {signal:8} up {uptime:18} {role:6} {name}'


#: The head of a table of runs.
HISTORY = ('Ended', 'Verdict', 'Signal', 'Uptime', 'Role', 'Run')


def history_row(run: Document) -> tuple[str, ...]:
    """Return the cells of one past run, in the order of `HISTORY`."""
    return (
        local(run['ended']),
        run['verdict'],
        run['signal'] or '',
        duration(run['uptime_seconds']),
        run['role'],
        run['run'],
    )


def titled_history_lines(
    history: Iterable[Document],
    waiting: Collection[str] = frozenset(),
    acknowledged: Collection[str] = frozenset(),
) -> Iterator[str]:
    """Like `history_lines`, with column titles.  Runs in `waiting` are marked as not archived, and
    so are those that are acknowledged, and those of another machine.
    """
    history = list(history)
    if history:
        yield f'{"ended":29}  {"verdict":20} {"signal":8} {"uptime":21} {"role":6} run'
    for run, line in zip(history, history_lines(history), strict=True):
        if run['run'] in waiting:
            line += '  (not yet archived)'
        if run['run'] in acknowledged:
            line += '  (acknowledged)'
        if run.get('copied'):
            line += '  (copied from another machine)'
        yield line


def _block(title: str, body: Iterable[object]) -> Iterator[str]:
    """Yield a title and the indented lines below it; nothing if there are no lines."""
    lines = [f'  {line}' for line in body]
    if lines:
        yield from ('', f'{title}:', *lines)


def _facts(facts: Document) -> list[str]:
    """Return a line for each fact that is known."""
    lines = []
    for key, value in facts.items():
        if value not in (None, ''):
            name = key.replace('_', ' ')
            lines.append(f'{name:18} {value}')
    return lines


def finding_lines(check: Document) -> Iterator[str]:
    """Yield the lines of one finding; one line if it is fine or muted."""
    mute = check.get('muted')
    severity = check['severity']
    is_fine = severity_of(severity) == OK
    detail = check['detail']
    line = f'[{severity}] {check["title"]}'
    if is_fine and detail:
        line += f' {detail}'
    if mute:
        line += f' (muted until {mute["until"]} by {mute["who"]}: {mute["reason"]})'
    yield line
    if mute or is_fine:
        return
    if detail:
        yield f'    {detail}'
    action = check['action']
    if action:
        yield f'    -> {action}'


#: How well a known issue matches a run.
_STRENGTH_WORDS = {
    'strong': 'Versions and traces match',
    'likely': 'Versions match, and a trace in another thread',
    'possible': 'Versions match, no trace was found',
    'weak': 'A trace matches, the versions do not',
}


def strength_words(strength: str) -> str:
    return _STRENGTH_WORDS.get(strength, strength)


def _known_issues(issues: Iterable[KnownIssue]) -> Iterator[str]:
    for issue in issues:
        strength = strength_words(issue.strength)
        yield f'[{strength[:1].lower()}{strength[1:]}] {issue.title or issue.id}'
        for line in issue.matched:
            yield f'  {line}'
        for line in issue.against:
            yield f'  against: {line}'
        if issue.action:
            yield f'  -> {issue.action}'
        if issue.source:
            yield f'  source: {issue.source}'


def _request(request: Request) -> str:
    times = f' x{request.count}' if request.count > 1 else ''
    arrow = '' if request.ended is None else ' ->'
    seconds = request.seconds or 0.0
    began = time_words(request.started)
    crashed = '  <== crashed here' if request.crashed else ''
    return (
        f'{request.method} {request.path}{arrow} {request.state}{times}, {seconds:.3f} s, '
        f'began {began}, thread {request.served_by}{crashed}'
    )


def time_words(moment: float) -> str:
    """Like `clocktime`; 0 means that the time is not known."""
    return clocktime(moment or None)


def hang_line(hang: Event, record: RunRecord) -> str:
    """Return a hang of a dead run: its kind, its times, and what hung."""
    kind = event_kind(hang.kind).title
    return f'{kind}, began {time_words(hang.started)}, {hang_words(hang, record)}: {hang.summary}'


def slow_title(notes: list[Note]) -> str:
    """Return the title of slow requests that are shown together."""
    which = f'thread {notes[0].thread}' if len(notes) == 1 else f'{len(notes)} times'
    return f'Slow request {notes[0].title}, {which}, {slow_words(notes)}'


def threads_title(threads: list[ThreadState]) -> str:
    """Return the title of threads with the same stack."""
    first = threads[0]
    words = ['Crashed thread' if first.crashed else 'Thread', thread_label(threads)]
    if len(threads) > 1:
        words = [thread_label(threads)]
    if first.note:
        words.append(f'({first.note})')
    room = room_words(first)
    if room and len(threads) == 1:
        words.append(room)
    return ' '.join(filter(None, words))


def _sample(sample: Sample) -> str:
    megabytes = max(sample.rss, 0) >> 20
    when = time_words(sample.time)
    limit = f' of {sample.descriptor_limit:,}' if sample.descriptor_limit > 0 else ''
    words = (
        f'{when} memory {megabytes} MiB, '
        f'CPU {sample.cpu:.1f} s, threads {sample.threads}, '
        f'descriptors {sample.descriptors}{limit}, '
        f'requests in progress {sample.in_flight}'
    )
    return ', '.join([words, *of_the_end(sample)])
