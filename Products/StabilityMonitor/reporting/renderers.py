"""A report as bytes: text for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from ..model.errors import UnknownFormat
from ..model.plaintext import clean
from ..model.plaintext import json_text
from ..model.records import duration
from ..model.severities import OK
from ..model.severities import severity_of
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


def as_json(report: dict[str, Any]) -> bytes:
    """A line for each key, and one for each item of its list.

    `indent` would look better, and is twenty times slower.
    """
    keys = ',\n'.join(f'{json_text(key)}: {_json(value)}' for key, value in report.items())
    return f'{{\n{keys}\n}}\n'.encode('utf-8', 'backslashreplace')


def _json(value: object) -> str:
    if isinstance(value, list | tuple) and value:
        return '[\n ' + ',\n '.join(map(json_text, value)) + '\n]'
    return json_text(value)


def as_text(report: dict[str, Any]) -> bytes:
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
    yield from map(_request, report['in_flight'])
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
    yield str(run['summary'])
    yield ''
    yield from _facts(
        {
            'verdict': run['verdict'],
            'confidence': run['confidence'],
            'run': run['run'],
            'signal': run['signal'],
            'exit code': run['exit_code'],
            'pid': run['pid'],
            'role': run['role'],
            'started': run['started'],
            'ended': run['ended'],
            'was up': duration(run['uptime_seconds']),
            'signature': run['signature'],
        }
    )
    evidence = [f'{each["source"]}: {each["fact"]}' for each in run['evidence']]
    yield from _block('Evidence', evidence)
    yield from _block('What stood still', [_hang(hang) for hang in run.get('hangs', ())])
    yield from _block('Ruled out', run['ruled_out'])
    yield from _block('It may have been', run['candidates'])
    known_issues = [line for issue in run.get('known_issues', ()) for line in _known_issue(issue)]
    yield from _block('Known issues', known_issues)
    yield from _block('Requests in flight at the end', list(map(_request, run['requests'])))
    recent = run.get('recent', ())[:20]
    yield from _block('Last finished requests', list(map(_request, recent)))
    for thread in run.get('threads', ()):
        yield from _block(_thread(thread), list(frame_lines(thread['frames'])))
    for note in run.get('notes', ()):
        if note['kind'] in ('slow', 'slow-ended'):
            yield from _block(_slow(note), [note['detail'], *map(frame_line, note['frames'])])
    native = [f'{frame["binary"]} {frame["symbol"]}' for frame in run.get('native', ())]
    yield from _block('C stack of the crashed thread', native)
    log = [
        f'{line["time"]} {line["level"]} {line["logger"]} {line["message"]}'
        for line in run.get('log', ())[-20:]
    ]
    yield from _block('Last log records', log)
    yield from _block('Last samples', list(map(_sample, run.get('samples', ())[-5:])))
    if run.get('compiled_modules'):
        yield from _block('Compiled modules', [', '.join(run['compiled_modules'])])


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


#: Key, and the word before each of its lines.
_PARTS_OF_ISSUE = (
    ('matched', ''),
    ('against', 'against it: '),
    ('action', 'what to do: '),
    ('source', 'source: '),
)


def _known_issue(issue: dict[str, Any]) -> Iterator[str]:
    """A known issue of a record, which is of foreign origin: it may have any shape."""
    yield f'[{issue.get("strength", "")}] {issue.get("title") or issue.get("id", "")}'
    for key, word in _PARTS_OF_ISSUE:
        told = issue.get(key) or ()
        if not isinstance(told, list | tuple):
            told = [told]
        for line in told:
            yield f'  {word}{line}'


def _request(request: dict[str, Any]) -> str:
    status = f' -> {request["status"]}' if request.get('status') else ''
    times = f' x{request["count"]}' if request.get('count', 1) > 1 else ''
    crashed = '  <== the crash' if request.get('crashed') else ''
    return (
        f'{request["method"]} {request["path"]}{status}{times}  {request["phase"]}, '
        f'{request["seconds"]:.3f} s, since {request["started"]}, '
        f'thread {request["thread"]}{crashed}'
    )


def _hang(hang: dict[str, Any]) -> str:
    end = 'until the end' if hang['ended'] is None else 'then it dissolved'
    return (
        f'{hang["kind"]} since {hang["started"]}, for {duration(hang["seconds"])}, {end}: '
        f'{hang["summary"]}'
    )


def _slow(note: dict[str, Any]) -> str:
    age = duration(note['seconds'])
    when = f'as it was after {age} at {note["time"]}'
    if note['kind'] == 'slow-ended':
        when = f'ended after {age}'
    return f'Slow request {note["title"]}, thread {note["thread"]}, {when}'


def _thread(thread: dict[str, Any]) -> str:
    words = [
        'Crashed thread' if thread['crashed'] else 'Thread',
        f'0x{thread["ident"]:016x}' if thread['ident'] else '',
        thread['name'],
        f'({thread["note"]})' if thread.get('note') else '',
        room_words(thread),
    ]
    return ' '.join(filter(None, words))


def _sample(sample: dict[str, Any]) -> str:
    return (
        f'{sample["time"]} memory {max(sample["rss"], 0) >> 20} MiB, '
        f'processor {sample["cpu"]:.1f} s, threads {sample["threads"]}, '
        f'descriptors {sample["descriptors"]}, in flight {sample["in_flight"]}'
    )
