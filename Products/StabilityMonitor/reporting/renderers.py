"""Render a report as bytes: text for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator

from zope.interface import provider

from ..model.counts import counted
from ..model.errors import UnknownFormat
from ..model.eventkinds import event_kind
from ..model.interfaces import IRenderer
from ..model.jsonform import from_json
from ..model.jsonform import items_from_json
from ..model.plaintext import clean
from ..model.plaintext import json_text
from ..model.records import LogLine
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import from_isotime
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.secretclasses import CLASSES
from ..model.seenbefore import SeenBefore
from ..model.severities import OK
from ..model.severities import severity_of
from ..model.siteparts import ConfiguredDatabase
from ..model.siteparts import PloneSite
from ..model.snapshotrecord import SnapshotRecord
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..model.verdicts import verdict
from ..store.damagedrecords import alone
from ..store.damagedrecords import damaged
from ..store.damagedrecords import log_once
from . import snapshottext
from .axes import size
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
from .fromdisk import NOBODY
from .fromdisk import PROCESS
from .fromdisk import RUN
from .fromdisk import SNAPSHOT
from .fromdisk import Document
from .nextsteps import next_steps
from .redaction import EVERYTHING
from .redaction import KEY
from .redaction import Policy
from .redaction import redacted
from .signaturewords import difference_lines
from .signaturewords import seen_words
from .stacksdocument import room_words
from .threadtext import frame_line
from .threadtext import frame_lines
from .threadtext import without_repetition
from .vitalwords import of_the_end

_RULE = '=' * 78


def render(report: Document, format: str, policy: Policy = EVERYTHING) -> tuple[str, str, bytes]:
    """Return (file name, content type, bytes) of a report that may leave the site: without what the
    policy names.  A report that was redacted before stays as it is.  Raises UnknownFormat.
    """
    if format not in FORMATS:
        raise UnknownFormat(f'There is no report format {format!r}.')
    content_type, extension, function = FORMATS[format]
    if report.get('incident'):
        subject = report['incident']['run']
    elif report.get('snapshot'):
        subject = f'snapshot-{report["snapshot"]["id"]}'
    else:
        subject = report['generated'].replace(':', '')
    file_name = f'stability-{subject}.{extension}'
    if KEY not in report:
        report, _ = redacted(report, policy)
    return file_name, content_type, function(report)


@provider(IRenderer)
def as_json(report: Document) -> bytes:
    """See IRenderer.  Each key, and each item of a list, is on its own line.

    `json.dumps` with `indent` would look better, but is twenty times slower.
    """
    lines = []
    for key, value in report.items():
        if isinstance(value, list | tuple) and value:
            items = ',\n '.join(map(json_text, value))
            text = f'[\n {items}\n]'
        else:
            text = json_text(value)
        lines.append(f'{json_text(key)}: {text}')
    keys = ',\n'.join(lines)
    return f'{{\n{keys}\n}}\n'.encode('utf-8', 'backslashreplace')


@provider(IRenderer)
def as_text(report: Document) -> bytes:
    """See IRenderer.  For people."""
    text = '\n'.join(lines(report))
    return f'{text}\n'.encode('utf-8', 'backslashreplace')


#: {format: (content type, extension of the file, renderer)}
FORMATS: dict[str, tuple[str, str, Callable[[Document], bytes]]] = {
    'text': ('text/plain; charset=utf-8', 'txt', as_text),
    'json': ('application/json', 'json', as_json),
}


#: Facts that a run did not know at its start: its uptime, and where its files are today.
_NOT_KNOWN_AT_START = ('uptime_seconds', 'directory')


def lines(report: Document) -> Iterator[str]:
    """Yield the lines of the report; control characters in foreign text are escaped."""
    instance = report['instance']
    incident = report.get('incident')
    previous = report.get('previous')
    place = clean(instance['client_home'] or '?')
    host = clean(instance['host'] or '?')
    address = clean(instance['listen'] or 'an unknown address')
    yield f'Stability report of {place} on {host}'
    yield f'Listening on {address}; made {_local(report["generated"])}'
    yield from _snapshot(report)
    yield from _process(report)
    if incident:
        yield from _section('The incident', _run_lines(incident))
    elif previous:
        yield from _section('How the last run ended', _run_lines(previous))
    else:
        nothing = 'No earlier run of this instance is archived.'
        yield from _section('How the last run ended', [nothing])
    yield from _section('Requests in progress', _in_flight(report))
    yield from _section('Findings', _findings(report))
    past_runs = list(titled_history_lines(report['history']))
    yield from _section('Past runs', past_runs or ['None.'])
    yield from _inventory(report)
    support = report['support']
    reporter = [
        support.get('support_name') or 'YOUR NAME',
        support.get('support_contact') or 'YOUR EMAIL ADDRESS',
    ]
    yield from _section('Reported by', reporter)
    taken_out = list(_taken_out(report.get(KEY) or {}))
    if taken_out:
        yield from _section('Taken out of this report', taken_out)


def _taken_out(redacted: Document) -> Iterator[str]:
    """Yield how many values of each class were taken out, and which classes were not looked for."""
    for name, count in redacted.get('values', {}).items():
        what = CLASSES.get(name, 'what the option "redact-pattern" matches')
        yield f'{what}: {counted(count, "value")}'
    if redacted.get('values'):
        yield 'A word with a number, as "user-1", stands for each value, wherever it occurred.'
    for name in redacted.get('off', ()):
        yield f'{CLASSES[name]}: not looked for, since the option "redact" leaves out "{name}"'


def _snapshot(report: Document) -> Iterator[str]:
    """What a snapshot shows of the threads; the other sections have the rest of it."""
    if not report.get('snapshot'):
        return
    record = SnapshotRecord.from_json(report['snapshot'])
    yield from _section('The snapshot', [*snapshottext.about(record)])
    yield from _section('Threads', snapshottext.threads(record))
    yield from _section('Vital signs', snapshottext.vital_signs(record))
    yield from _section('Native stacks', list(snapshottext.native(record)) or ['Not kept.'])
    yield from _section('Last log records', list(snapshottext.log(record)) or ['None.'])


def _source(report: Document, part: str) -> Document:
    """Return the source of a part of the report, and the time when the part was true."""
    sources = report.get('sources', {})
    source: Document = sources.get(part)
    if source:
        return source
    return {'source': PROCESS, 'as_of': None}


def _process(report: Document) -> Iterator[str]:
    source = _source(report, 'process')
    living = report.get('process')
    last = report.get('last_process')
    if living and source['source'] == PROCESS:
        yield from _section('This process', _process_facts(living))
    elif living and source['source'] == SNAPSHOT:
        yield from _section('The process', _process_facts(living))
    elif living:
        head = f'As of its start, {_local(source["as_of"])}:'
        yield from _section('The living process', [head, *_process_facts(living)])
    elif last:
        head = f'No process of this instance runs here. As of its start, {_local(source["as_of"])}:'
        known = dict(last)
        for key in _NOT_KNOWN_AT_START:
            known.pop(key, None)
        yield from _section('The last process', [head, *_process_facts(known)])


def _process_facts(process: Document) -> list[str]:
    return _facts(process | {'started': _local(process.get('started'))})


def _local(time: str | None) -> str:
    """Return a time of the report as `model.records.clocktime` shows it."""
    return clocktime(from_isotime(time))


def _in_flight(report: Document) -> Iterator[str]:
    source = _source(report, 'in_flight')
    if source['source'] == NOBODY:
        yield (
            'Not known: only a living process knows its requests, what its threads do, which '
            'requests are slow and what hangs.'
        )
        return
    if source['source'] == RUN:
        yield f'As of {_local(source["as_of"])}, from the black box of the living process:'
    if source['source'] == SNAPSHOT:
        yield f'As of {_local(source["as_of"])}, when the snapshot was taken:'
    for document in report['in_flight']:
        request = from_json(Request, document)
        yield _request(request)
    if not report['in_flight']:
        yield 'None.'
    if source['source'] == RUN:
        yield (
            'Only the process knows what its threads do, which requests are slow and what hangs: '
            'ask it with "stabilitymonitor stacks".'
        )


def _findings(report: Document) -> Iterator[str]:
    source = _source(report, 'checks')
    if source['source'] == NOBODY:
        yield 'Not known: the last process recorded no results of its checks.'
        return
    note = checks_note(source)
    if note:
        yield note
    elif source.get('as_of') and source['source'] == RUN:
        yield f'As of {_local(source["as_of"])}, recorded by the run {source["run"]}:'
    elif source.get('as_of'):
        yield f'As of {_local(source["as_of"])}:'
    for check in report['checks']:
        yield from finding_lines(check)
    if not (note or report['checks']):
        yield 'None.'


def checks_note(source: Document) -> str:
    """Return why the findings of a report may be incomplete; '' if they are complete.

    `source` is the entry of the checks in the report's `sources`.
    """
    running = source.get('running')
    when = source.get('as_of')
    if source.get('error'):
        return str(source['error'])
    if running and when:
        return f'The checks are running again; these are the results of {_local(when)}.'
    if running:
        return 'The checks are still running: there are no results yet.'
    if running is not None and not when:
        return (
            'The checks have not run yet in this process. They start when Zope serves; the page '
            '"Checks" also starts them.'
        )
    return ''


def _inventory(report: Document) -> Iterator[str]:
    """What is installed; in a report about an incident, what was installed then."""
    incident = report.get('incident')
    source = _source(report, 'inventory')
    inventory = report['inventory']
    nothing = 'Not recorded.'
    time = ''
    if incident:
        inventory = incident.get('inventory') or inventory
        time = f' {at_the_end(incident["verdict"])}'
    elif source['source'] in (RUN, SNAPSHOT):
        time = f' as of {_local(source["as_of"])}'
    elif source['source'] == PROCESS:
        nothing = 'None.'
    products = ', '.join(inventory['products'])
    yield from _section(f'Products{time}', [products or nothing])
    databases = items_from_json(ConfiguredDatabase, inventory.get('databases'))
    if databases:
        yield from _section(f'Databases{time}', map(_database, databases))
    yield from _sites(report)

    versions: list[str] = []
    run = incident or report.get('previous')
    if run and run.get('versions'):
        versions += change_lines(run['versions'], run['verdict'])
        versions.append('')
    distributions = inventory['distributions']
    for each in distributions:
        name = each['name']
        versions.append(f'{name} {each["version"]}')
    if not distributions:
        versions.append(nothing)
    yield from _section(f'Versions{time}', versions)
    yield from _section(f'System{time}', _facts(inventory['system']))


def _database(database: ConfiguredDatabase) -> str:
    words = [f'{database.name} at {", ".join(database.mounted) or "?"}: {database.storage}']
    if database.adapter:
        driver = f' with the driver {database.driver}' if database.driver else ''
        words.append(f'{database.adapter}{driver}')
    if database.servers:
        words.append(f'server {", ".join(database.servers)}')
    if database.shared_cache >= 0:
        words.append(f'shared cache {size(database.shared_cache)}')
    if database.cache_objects >= 0:
        cache = f'cache of each connection {counted(database.cache_objects, "object")}'
        if database.cache_bytes > 0:
            cache += f' and {size(database.cache_bytes)}'
        words.append(cache)
    if database.connections >= 0:
        words.append(f'pool of {counted(database.connections, "connection")}')
    return '; '.join(words)


def _sites(report: Document) -> Iterator[str]:
    """The add-ons of the Plone sites; nothing if there are no sites, or none could be read."""
    lines = []
    for site in items_from_json(PloneSite, report.get('sites')):
        lines.append(f'{site.path}:')
        for add_on in site.add_ons:
            lines.append(f'  {add_on.profile} {add_on.version}')
    source = _source(report, 'sites')
    if source.get('note'):
        lines.append(source['note'])
    time = f' as of {source["as_of"]}' if source['as_of'] else ''
    if lines:
        yield from _section(f'Add-ons of the Plone sites{time}', lines)


def at_the_end(code: str) -> str:
    """Words for the time when a run ended: "at the time of the crash"."""
    if verdict(code).is_crash:
        return 'at the time of the crash'
    return 'at the time of the end'


#: {source of the current versions: words}, see `fromdisk.compared`.
_COMPARED_WITH = {'process': 'the living process', 'command': 'the environment of this command'}


def change_lines(versions: Document, verdict: str) -> Iterator[str]:
    """Yield which versions have changed since a run; `versions` is that entry of its report."""
    if not versions['known']:
        yield f'The versions {at_the_end(verdict)} were not recorded.'
    elif versions['changed'] is None:
        yield (
            'What has changed since is not known: no process of that instance is running here, and '
            'this report was made with another Python than that of the run.'
        )
    else:
        now = _COMPARED_WITH[versions['with']]
        if not versions['changed']:
            yield f'Nothing has changed since: {now} has the same versions.'
            return
        yield f'Changed since, compared with {now}:'
        for change in versions['changed']:
            yield f'  {change_line(change)}'


def change_line(change: Document) -> str:
    """For example "lxml 6.1.3 -> 6.0.2"."""
    name = change['name']
    then = change['then']
    now = change['now']
    if then is None:
        return f'{name}: not installed -> {now}'
    return f'{name} {then} -> {now or "not installed"}'


def run_lines(record: RunRecord, seen: SeenBefore | None = None) -> list[str]:
    """Return the lines about one archived run: first the verdict, then everything that supports it.

    A summary of a run has no large parts; their blocks are omitted.  `seen` is what is known of an
    incident from others.
    """
    return alone(record, lambda record: list(_lines_of_run(record, seen)))


def _run_lines(document: Document) -> list[str]:
    seen = document.get('seen_before')
    return run_lines(RunRecord.from_json(document), from_json(SeenBefore, seen) if seen else None)


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
    hangs = [_hang(hang, record) for hang in record.hangs]
    yield from _block('Hangs and deadlocks', hangs)
    yield from _block('Causes ruled out', record.ruled_out)
    yield from _block('Possible causes', record.candidates)
    yield from _block('Known issues', _known_issues(record.known_issues))
    yield from _block('Requests in progress at the end', map(_request, record.requests))
    yield from _block('Last finished requests', map(_request, record.recent[:20]))
    for threads in equal_threads(record.threads):
        yield from _block(_threads(threads), frame_lines(threads[0].frames))
    for notes in slow_requests(record.notes):
        stack = without_repetition(list(map(frame_line, notes[0].frames)))
        yield from _block(_slow(notes), [notes[0].detail, *stack])
    native = [f'{frame.binary} {frame.symbol}' for frame in record.native]
    yield from _block('C stack of the crashed thread', native)
    if unread_core(record):
        yield from _block('Core file', [unread_core(record)])
    if record.core:
        yield from _block('Core file', core_lines(record.core))
        for alike in core_threads(record.core):
            title = f'In the core file: {core_threads_title(alike)}'
            yield from _block(title, merged_lines(alike[0].frames))
    log = []
    for line in record.log[-20:]:
        log.append(f'{_time(line.time)} {line.level} {line.logger} {line.message}{_again(line)}')
    yield from _block('Last log records', log)
    yield from _block('Memory and CPU before the end', map(_sample, record.samples[-5:]))
    if record.shared_objects:
        yield from _block('Compiled modules', map(object_line, record.shared_objects))
    elif modules:
        yield from _block('Compiled modules', [modules])


def _again(line: LogLine) -> str:
    """Return how often a log line came, if it came more than once."""
    if line.count < 2:
        return ''
    return f' [{line.count} times, last {_time(line.latest)}]'


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
    ended = _local(run['ended'])
    code = run['verdict']
    signal = run['signal'] or ''
    uptime = duration(run['uptime_seconds'])
    role = run['role']
    name = run['run']
    return f'{ended:29}  {code:20} {signal:8} up {uptime:18} {role:6} {name}'


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


def _section(title: str, body: Iterable[object]) -> Iterator[str]:
    yield from ('', _RULE, title, _RULE)
    yield from map(clean, body)


def _block(title: str, body: Iterable[object]) -> Iterator[str]:
    """Yield a title and the indented lines below it; nothing if there are no lines."""
    lines = [f'  {line}' for line in body]
    if lines:
        yield from ('', f'{title}:', *lines)


def _facts(facts: Document) -> list[str]:
    """Return a line for each fact that is known."""
    lines = []
    for key, value in facts.items():
        if key == 'thread_stack':
            value = _stack_size(value)
        if isinstance(value, bool):
            value = 'on' if value else 'off'
        if value not in (None, ''):
            name = key.replace('_', ' ')
            lines.append(f'{name:18} {value}')
    return lines


def _stack_size(value: object) -> object:
    """Return words for the fact `thread_stack`, which is [size, guard] in bytes."""
    match value:
        case [int(size), int(guard)]:
            return f'{size >> 10} KiB, guard {guard >> 10} KiB'
    return value


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
    began = _time(request.started)
    crashed = '  <== crashed here' if request.crashed else ''
    return (
        f'{request.method} {request.path}{arrow} {request.state}{times}, {seconds:.3f} s, '
        f'began {began}, thread {request.served_by}{crashed}'
    )


def _time(moment: float) -> str:
    """Like `clocktime`; 0 means that the time is not known."""
    return clocktime(moment or None)


def _hang(hang: Event, record: RunRecord) -> str:
    kind = event_kind(hang.kind).title
    return f'{kind}, began {_time(hang.started)}, {hang_words(hang, record)}: {hang.summary}'


def _slow(notes: list[Note]) -> str:
    which = f'thread {notes[0].thread}' if len(notes) == 1 else f'{len(notes)} times'
    return f'Slow request {notes[0].title}, {which}, {slow_words(notes)}'


def _threads(threads: list[ThreadState]) -> str:
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
    when = _time(sample.time)
    limit = f' of {sample.descriptor_limit:,}' if sample.descriptor_limit > 0 else ''
    words = (
        f'{when} memory {megabytes} MiB, '
        f'CPU {sample.cpu:.1f} s, threads {sample.threads}, '
        f'descriptors {sample.descriptors}{limit}, '
        f'requests in progress {sample.in_flight}'
    )
    return ', '.join([words, *of_the_end(sample)])
