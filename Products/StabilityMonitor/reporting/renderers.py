"""A report as bytes: text for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from zope.interface import provider

from ..model.errors import UnknownFormat
from ..model.interfaces import IRenderer
from ..model.jsonform import from_json
from ..model.plaintext import clean
from ..model.plaintext import json_text
from ..model.records import LogLine
from ..model.records import Note
from ..model.records import Request
from ..model.records import Sample
from ..model.records import duration
from ..model.records import hexadecimal
from ..model.records import isotime
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.severities import OK
from ..model.severities import severity_of
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..model.verdicts import verdict
from .fromdisk import NOBODY
from .fromdisk import PROCESS
from .fromdisk import RUN
from .stacksdocument import room_words
from .threadtext import frame_line
from .threadtext import frame_lines

_RULE = '=' * 78


def render(report: dict[str, Any], format: str) -> tuple[str, str, bytes]:
    """(file name, content type, bytes) of a report.  Raises UnknownFormat."""
    if format not in FORMATS:
        raise UnknownFormat(f'There is no report format {format!r}.')
    content_type, extension, function = FORMATS[format]
    if report.get('incident'):
        subject = report['incident']['run']
    else:
        subject = report['generated'].replace(':', '')
    return f'stability-{subject}.{extension}', content_type, function(report)


@provider(IRenderer)
def as_json(report: dict[str, Any]) -> bytes:
    """See IRenderer.  A line for each key, and one for each item of its list.

    `indent` would look better, and is twenty times slower.
    """
    keys = ',\n'.join(f'{json_text(key)}: {_json(value)}' for key, value in report.items())
    return f'{{\n{keys}\n}}\n'.encode('utf-8', 'backslashreplace')


def _json(value: object) -> str:
    if isinstance(value, list | tuple) and value:
        return '[\n ' + ',\n '.join(map(json_text, value)) + '\n]'
    return json_text(value)


@provider(IRenderer)
def as_text(report: dict[str, Any]) -> bytes:
    """See IRenderer.  For people."""
    return ('\n'.join(lines(report)) + '\n').encode('utf-8', 'backslashreplace')


FORMATS: dict[str, tuple[str, str, Callable[[dict[str, Any]], bytes]]] = {
    'text': ('text/plain; charset=utf-8', 'txt', as_text),
    'json': ('application/json', 'json', as_json),
}


#: What a run cannot know at its start: how long it will live, and where its files are today.
_OF_ITS_END = ('uptime_seconds', 'directory')


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The whole report, line by line; control characters of foreign text are shown escaped."""
    incident = report.get('incident')
    previous = report.get('previous')
    yield from _title(report)
    yield from _process(report)
    if incident:
        yield from _section('The incident', run_lines(incident))
    elif previous:
        yield from _section('How the last run ended', run_lines(previous))
    else:
        nothing = 'No earlier run of this instance is archived.'
        yield from _section('How the last run ended', [nothing])
    yield from _section('Requests in flight now', _in_flight(report))
    yield from _section('Findings', _told_findings(report))
    yield from _section('Past runs', list(history_lines(report['history'])) or ['None.'])
    yield from _inventory(report)
    support = report['support']
    name = support.get('support_name') or 'YOUR NAME'
    contact = support.get('support_contact') or 'YOUR EMAIL ADDRESS'
    yield from _section('Reported by', [name, contact])


def _source(report: dict[str, Any], part: str) -> dict[str, Any]:
    """Where that part of the report comes from, and as of when it is true."""
    return report.get('sources', {}).get(part) or {'source': PROCESS, 'as_of': None}


def _process(report: dict[str, Any]) -> Iterator[str]:
    told = _source(report, 'process')
    living = report.get('process')
    last = report.get('last_process')
    if living and told['source'] == PROCESS:
        yield from _section('This process', _facts(living))
    elif living:
        head = f'As of its start, {told["as_of"]}:'
        yield from _section('The living process', [head, *_facts(living)])
    elif last:
        head = f'No process of this instance runs here. As of its start, {told["as_of"]}:'
        known = {key: last[key] for key in last if key not in _OF_ITS_END}
        yield from _section('The last process', [head, *_facts(known)])


def _in_flight(report: dict[str, Any]) -> Iterator[str]:
    told = _source(report, 'in_flight')
    if told['source'] == NOBODY:
        yield (
            'Not known: only a living process knows its requests, what its threads do, which '
            'requests are slow and what hangs.'
        )
        return
    if told['source'] == RUN:
        yield f'As of {told["as_of"]}, from the black box of the living process:'
    for document in report['in_flight']:
        yield _request(from_json(Request, document))
    if not report['in_flight']:
        yield 'None.'
    if told['source'] == RUN:
        yield (
            'What its threads do, which requests are slow and what hangs, only the process knows: '
            'ask it with "stabilitymonitor stacks".'
        )


def _told_findings(report: dict[str, Any]) -> Iterator[str]:
    told = _source(report, 'checks')
    if told['source'] == NOBODY:
        yield 'Not known: the last process left no results of its checks.'
        return
    note = checks_note(told)
    if note:
        yield note
    elif told.get('as_of'):
        who = f', as the run {told["run"]} told last' if told['source'] == RUN else ''
        yield f'As of {told["as_of"]}{who}:'
    for check in report['checks']:
        yield from finding_lines(check)
    if not (note or report['checks']):
        yield 'None.'


def checks_note(told: dict[str, Any]) -> str:
    """Why a report's findings may be incomplete; '' if they are complete.

    `told` is the entry of the checks in the report's `sources`.
    """
    if told.get('error'):
        return str(told['error'])
    if told.get('running') and told['as_of']:
        return f'The checks are running again; these are the results of {told["as_of"]}.'
    if told.get('running'):
        return 'The checks are still running: what they find is not known yet.'
    if 'running' in told and not told['as_of']:
        return (
            'The checks have not run yet in this process. They begin when Zope serves; the page '
            '"Checks" runs them, too.'
        )
    return ''


def _inventory(report: dict[str, Any]) -> Iterator[str]:
    """What was installed: at the end of the incident, if the report is about one."""
    incident = report.get('incident')
    told = _source(report, 'inventory')
    inventory = report['inventory']
    nothing = 'None.' if told['source'] == PROCESS else 'They were not recorded.'
    time = f' as of {told["as_of"]}' if told['source'] == RUN else ''
    if incident:
        inventory = incident.get('inventory') or inventory
        nothing = 'They were not recorded.'
        time = f' {at_the_end(incident["verdict"])}'
    yield from _section(f'Products{time}', [', '.join(inventory['products']) or nothing])
    versions = [f'{each["name"]} {each["version"]}' for each in inventory['distributions']]
    changes: list[str] = []
    run = incident or report.get('previous')
    if run and run.get('versions'):
        changes = [*change_lines(run['versions'], run['verdict']), '']
    yield from _section(f'Versions{time}', [*changes, *(versions or [nothing])])
    yield from _section(f'System{time}', _facts(inventory['system']))


def at_the_end(code: str) -> str:
    """Words for the end of a run, such as "at the time of the crash"."""
    word = 'crash' if verdict(code).is_crash else 'end'
    return f'at the time of the {word}'


#: With what the versions of a run are compared, see `fromdisk.compared`.
_NOW = {'process': 'the living process', 'command': 'the environment of this command'}


def change_lines(versions: dict[str, Any], verdict: str) -> Iterator[str]:
    """Which versions have changed since a run; `versions` is its entry of that name in a report."""
    if not versions['known']:
        yield f'The versions {at_the_end(verdict)} were not recorded.'
    elif versions['changed'] is None:
        yield (
            'What has changed since is not known: no process of that instance lives here, and what '
            'asks runs on another Python than that run did.'
        )
    else:
        now = _NOW[versions['with']]
        if not versions['changed']:
            yield f'Nothing has changed since: {now} has the same versions.'
            return
        yield f'Changed since, compared with {now}:'
        for change in versions['changed']:
            yield f'  {change_line(change)}'


def change_line(change: dict[str, Any]) -> str:
    """Such as "lxml 6.1.3 -> 6.0.2"."""
    if change['then'] is None:
        return f'{change["name"]}: not installed -> {change["now"]}'
    return f'{change["name"]} {change["then"]} -> {change["now"] or "not installed"}'


def run_lines(run: dict[str, Any]) -> Iterator[str]:
    """One archived run: first the verdict, then everything that supports it.

    A summary of a run lacks the large parts; they are left out then.
    """
    record = RunRecord.from_json(run)
    yield record.summary
    yield ''
    yield from _facts(
        {
            'verdict': record.verdict,
            'confidence': record.confidence,
            'run': record.run,
            'signal': record.signal,
            'exit code': record.exit_code,
            'pid': record.pid,
            'role': record.role,
            'started': isotime(record.started),
            'ended': isotime(record.ended),
            'was up': duration(record.uptime_seconds),
            'signature': record.signature,
        }
    )
    evidence = [f'{each.source}: {each.fact}' for each in record.evidence]
    yield from _block('Evidence', evidence)
    yield from _block('What stood still', list(map(_hang, record.hangs)))
    yield from _block('Ruled out', record.ruled_out)
    yield from _block('It may have been', record.candidates)
    known_issues = [line for issue in record.known_issues for line in _known_issue(issue)]
    yield from _block('Known issues', known_issues)
    yield from _block('Requests in flight at the end', list(map(_request, record.requests)))
    yield from _block('Last finished requests', list(map(_request, record.recent[:20])))
    for thread in record.threads:
        yield from _block(_thread(thread), list(frame_lines(thread.frames)))
    for note in record.notes:
        if note.kind in ('slow', 'slow-ended'):
            yield from _block(_slow(note), [note.detail, *map(frame_line, note.frames)])
    native = [f'{frame.binary} {frame.symbol}' for frame in record.native]
    yield from _block('C stack of the crashed thread', native)
    yield from _block('Last log records', list(map(_log_line, record.log[-20:])))
    yield from _block('Last samples', list(map(_sample, record.samples[-5:])))
    if record.compiled_modules:
        yield from _block('Compiled modules', [', '.join(record.compiled_modules)])


def history_lines(history: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One line for each past run."""
    for run in history:
        yield clean(
            f'{run["started"] or "?":24}  {run["verdict"]:20} {run["signal"] or "":8} '
            f'up {duration(run["uptime_seconds"]):18} {run["role"]:6} {run["run"]}'
        )


def titled_history_lines(
    history: Iterable[dict[str, Any]], waiting: Collection[str] = frozenset()
) -> Iterator[str]:
    """The same with titles for the columns; runs in `waiting` are marked as not yet archived."""
    history = list(history)
    if history:
        yield f'{"started":24}  {"verdict":20} {"signal":8} {"was up":21} {"role":6} run'
    for run, line in zip(history, history_lines(history), strict=True):
        mark = '  (not yet archived)' if run['run'] in waiting else ''
        yield line + mark


def _title(report: dict[str, Any]) -> Iterator[str]:
    instance = report['instance']
    place = clean(instance['client_home'] or '?')
    host = clean(instance['host'] or '?')
    address = clean(instance['listen'] or 'an address that is not known')
    yield f'Stability report of {place} on {host}'
    yield f'Listening on {address}; made {report["generated"]}'


def _section(title: str, body: Iterable[object]) -> Iterator[str]:
    yield from ('', _RULE, title, _RULE)
    yield from map(clean, body)


def _block(title: str, body: Collection[object]) -> Iterator[str]:
    """A title and the indented lines below it; nothing where there are none."""
    if body:
        yield from ('', f'{title}:')
        for line in body:
            yield f'  {line}'


def _facts(facts: dict[str, Any]) -> list[str]:
    """A line for each fact that is known."""
    lines = []
    for key, value in facts.items():
        if value not in (None, ''):
            lines.append(f'{key.replace("_", " "):18} {value}')
    return lines


def finding_lines(check: dict[str, Any]) -> Iterator[str]:
    """One of a report's checks.  If it is fine, or muted, it takes one line."""
    hush = check.get('hushed')
    is_fine = severity_of(check['severity']) == OK
    line = f'[{check["severity"]}] {check["title"]}'
    if is_fine and check['detail']:
        line += f' {check["detail"]}'
    if hush:
        line += f' (hushed until {hush["until"]} by {hush["who"]}: {hush["reason"]})'
    yield line
    if hush or is_fine:
        return
    if check['detail']:
        yield f'    {check["detail"]}'
    if check['action']:
        yield f'    -> {check["action"]}'


def _known_issue(issue: KnownIssue) -> Iterator[str]:
    yield f'[{issue.strength}] {issue.title or issue.id}'
    for line in issue.matched:
        yield f'  {line}'
    for line in issue.against:
        yield f'  against it: {line}'
    if issue.action:
        yield f'  what to do: {issue.action}'
    if issue.source:
        yield f'  source: {issue.source}'


def _request(request: Request) -> str:
    status = f' -> {request.status}' if request.status else ''
    times = f' x{request.count}' if request.count > 1 else ''
    crashed = '  <== the crash' if request.crashed else ''
    return (
        f'{request.method} {request.path}{status}{times}  {request.phase}, '
        f'{request.seconds or 0.0:.3f} s, since {_time(request.started)}, '
        f'thread {request.thread}{crashed}'
    )


def _time(moment: float) -> str | None:
    """As `isotime`; 0 is a moment that is not known."""
    return isotime(moment or None)


def _hang(hang: Event) -> str:
    end = 'until the end' if hang.lasts else 'then it dissolved'
    return (
        f'{hang.kind} since {_time(hang.started)}, for {duration(hang.seconds)}, {end}: '
        f'{hang.summary}'
    )


def _slow(note: Note) -> str:
    age = duration(note.seconds)
    when = f'as it was after {age} at {_time(note.time)}'
    if note.kind == 'slow-ended':
        when = f'ended after {age}'
    return f'Slow request {note.title}, thread {note.thread}, {when}'


def _log_line(line: LogLine) -> str:
    return f'{_time(line.time)} {line.level} {line.logger} {line.message}'


def _thread(thread: ThreadState) -> str:
    words = [
        'Crashed thread' if thread.crashed else 'Thread',
        hexadecimal(thread.ident) if thread.ident else '',
        thread.name,
        f'({thread.note})' if thread.note else '',
        room_words(thread),
    ]
    return ' '.join(filter(None, words))


def _sample(sample: Sample) -> str:
    return (
        f'{_time(sample.time)} memory {max(sample.rss, 0) >> 20} MiB, '
        f'processor {sample.cpu:.1f} s, threads {sample.threads}, '
        f'descriptors {sample.descriptors}, in flight {sample.in_flight}'
    )
