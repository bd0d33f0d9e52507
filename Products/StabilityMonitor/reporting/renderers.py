"""A report as bytes: text for people, JSON for programs.  Formatters yield lines, `render` joins
them.
"""

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
    subject = (
        report['incident']['run']
        if report.get('incident')
        else report['generated'].replace(':', '')
    )
    return f'stability-{subject}.{extension}', content_type, function(report)


def as_json(report: dict[str, Any]) -> bytes:
    """A line for each key and for each item of its list; `indent` would be pretty, and twenty times
    slower.
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


#: What a dead run did not know at its start: how long it would live, and where its files are today.
_OF_ITS_END = ('uptime_seconds', 'directory')


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The whole report, line by line; control characters of foreign text are shown escaped."""
    incident, previous = report.get('incident'), report.get('previous')
    yield from _title(report)
    yield from _process(report)
    if incident:
        yield from _section('The incident', run_lines(incident))
    elif previous:
        yield from _section('How the last run ended', run_lines(previous))
    else:
        yield from _section(
            'How the last run ended', ['No earlier run of this instance is archived.']
        )
    yield from _section('Requests in flight now', _in_flight(report))
    yield from _section('Findings', _told_findings(report))
    yield from _section('Past runs', list(history_lines(report['history'])) or ['None.'])
    yield from _inventory(report)
    yield from _section(
        'Reported by',
        [
            report['support'].get('support_name') or 'YOUR NAME',
            report['support'].get('support_contact') or 'YOUR EMAIL ADDRESS',
        ],
    )


def _source(report: dict[str, Any], part: str) -> dict[str, Any]:
    """Who tells that part of the report, and as of when."""
    return report.get('sources', {}).get(part) or {'source': PROCESS, 'as_of': None}


def _process(report: dict[str, Any]) -> Iterator[str]:
    told = _source(report, 'process')
    living, last = report.get('process'), report.get('last_process')
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
    told, rows = _source(report, 'in_flight'), [_request(r) for r in report['in_flight']]
    if told['source'] == NOBODY:
        yield (
            'Not known: only a living process knows its requests, what its threads do, which '
            'requests are slow and what hangs.'
        )
        return
    if told['source'] == RUN:
        yield f'As of {told["as_of"]}, from the black box of the living process:'
    yield from rows or ['None.']
    if told['source'] == RUN:
        yield (
            'What its threads do, which requests are slow and what hangs, only the process knows: '
            'ask it with "stabilitymonitor stacks".'
        )


def _told_findings(report: dict[str, Any]) -> Iterator[str]:
    told, found = _source(report, 'checks'), list(_findings(report['checks']))
    if told['source'] == NOBODY:
        yield 'Not known: the last process left no results of its checks.'
        return
    note = checks_note(told)
    if note:
        yield from [note, *found]
        return
    if told.get('as_of'):
        who = f', as the run {told["run"]} told last' if told['source'] == RUN else ''
        yield f'As of {told["as_of"]}{who}:'
    yield from found or ['None.']


def checks_note(told: dict[str, Any]) -> str:
    """Why the list of findings may not be whole, by a report's `sources`; '' if it is."""
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
    run = report.get('incident')
    inventory = (run or {}).get('inventory') or report['inventory']
    recorded = bool(run) or _source(report, 'inventory')['source'] != PROCESS
    time = f' {at_the_end(run["verdict"])}' if run else _as_of(_source(report, 'inventory'))
    nothing = 'They were not recorded.' if recorded else 'None.'
    yield from _section(f'Products{time}', [', '.join(inventory['products']) or nothing])
    versions = [f'{d["name"]} {d["version"]}' for d in inventory['distributions']]
    yield from _section(
        f'Versions{time}', [*_changed(run or report.get('previous')), *(versions or [nothing])]
    )
    yield from _section(f'System{time}', _facts(inventory['system']))


def _as_of(told: dict[str, Any]) -> str:
    return f' as of {told["as_of"]}' if told['source'] == RUN else ''


def at_the_end(verdict: str) -> str:
    """To follow what is said of that moment: "at the time of the crash"."""
    return f'at the time of the {"crash" if verdict in _CRASHES else "end"}'


_CRASHES = ('crashed', 'stack-overflow', 'aborted')


def _changed(run: dict[str, Any] | None) -> Iterator[str]:
    """What was installed or removed since that run, and an empty line."""
    if run and run.get('versions'):
        yield from [*change_lines(run['versions'], run['verdict']), '']


def change_lines(versions: dict[str, Any], verdict: str) -> Iterator[str]:
    """Which versions have changed since a run, by its `versions` in a report."""
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
        yield from (f'  {change_line(change)}' for change in versions['changed'])


_NOW = {'process': 'the living process', 'command': 'the environment of this command'}


def change_line(change: dict[str, Any]) -> str:
    """Such as "lxml 6.1.3 -> 6.0.2"."""
    if change['then'] is None:
        return f'{change["name"]}: not installed -> {change["now"]}'
    return f'{change["name"]} {change["then"]} -> {change["now"] or "not installed"}'


def run_lines(run: dict[str, Any]) -> Iterator[str]:
    """One archived run: the verdict first, then everything that speaks for it."""
    yield f'{run["summary"]}'
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
    yield from _block('Evidence', [f'{e["source"]}: {e["fact"]}' for e in run['evidence']])
    yield from _block('What stood still', [_hang(hang) for hang in run.get('hangs', ())])
    yield from _block('Ruled out', run['ruled_out'])
    yield from _block('It may have been', run['candidates'])
    yield from _block(
        'Known issues',
        [line for issue in run.get('known_issues', ()) for line in _known_issue(issue)],
    )
    yield from _block('Requests in flight at the end', [_request(r) for r in run['requests']])
    yield from _block('Last finished requests', [_request(r) for r in run.get('recent', ())[:20]])
    for thread in run.get('threads', ()):
        yield from _block(_thread(thread), list(frame_lines(thread['frames'])))
    for note in run.get('notes', ()):
        if note['kind'] in ('slow', 'slow-ended'):
            yield from _block(_slow(note), [note['detail'], *map(frame_line, note['frames'])])
    yield from _block('C stack of the crashed thread', [_native(f) for f in run.get('native', ())])
    yield from _block('Last log records', [_log(line) for line in run.get('log', ())[-20:]])
    yield from _block('Last samples', [_sample(s) for s in run.get('samples', ())[-5:]])
    yield from _block(
        'Compiled modules',
        [', '.join(run.get('compiled_modules', ()))] if run.get('compiled_modules') else (),
    )


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
    """The same below the titles of their columns; those of the runs that are `waiting` say so."""
    history = list(history)
    if history:
        yield f'{"started":24}  {"verdict":20} {"signal":8} {"was up":21} {"role":6} run'
    for run, line in zip(history, history_lines(history), strict=True):
        yield f'{line}  (not yet archived)' if run['run'] in waiting else line


def _title(report: dict[str, Any]) -> Iterator[str]:
    instance = report['instance']
    yield (
        f'Stability report of {clean(instance["client_home"] or "?")} on '
        f'{clean(instance["host"] or "?")}'
    )
    yield (
        f'Listening on {clean(instance["listen"] or "an address that is not known")}; made '
        f'{report["generated"]}'
    )


def _section(title: str, body: Iterable[object]) -> Iterator[str]:
    yield from ('', _RULE, title, _RULE)
    yield from (clean(line) for line in body)


def _block(title: str, body: Collection[object]) -> Iterator[str]:
    if body:
        yield ''
        yield f'{title}:'
        yield from (f'  {line}' for line in body)


def _facts(facts: dict[str, Any]) -> list[str]:
    return [
        f'{key.replace("_", " "):18} {value}'
        for key, value in facts.items()
        if value not in (None, '')
    ]


def _findings(checks: Iterable[dict[str, Any]]) -> Iterator[str]:
    for check in checks:
        yield from finding_lines(check)


def finding_lines(check: dict[str, Any]) -> Iterator[str]:
    """One of a report's checks.  What is fine, or hushed, takes one line."""
    hush, is_fine = check.get('hushed'), check['severity'] == 'ok'
    yield (
        f'[{check["severity"]}] {check["title"]}'
        + (f' {check["detail"]}' if is_fine and check['detail'] else '')
        + (f' (hushed until {hush["until"]} by {hush["who"]}: {hush["reason"]})' if hush else '')
    )
    if not hush and not is_fine:
        yield from (
            f'    {word}{check[key]}'
            for key, word in (('detail', ''), ('action', '-> '))
            if check[key]
        )


def _known_issue(issue: dict[str, Any]) -> Iterator[str]:
    """A record is of foreign origin: its known issues may have any shape."""
    yield f'[{issue.get("strength", "")}] {issue.get("title") or issue.get("id", "")}'
    for key, word in (
        ('matched', ''),
        ('against', 'against it: '),
        ('action', 'what to do: '),
        ('source', 'source: '),
    ):
        told = issue.get(key) or ()
        yield from (
            f'  {word}{line}' for line in (told if isinstance(told, list | tuple) else [told])
        )


def _request(r: dict[str, Any]) -> str:
    times = f' x{r["count"]}' if r.get('count', 1) > 1 else ''
    status = f' -> {r["status"]}' if r.get('status') else ''
    crashed = '  <== the crash' if r.get('crashed') else ''
    return (
        f'{r["method"]} {r["path"]}{status}{times}  {r["phase"]}, {r["seconds"]:.3f} s, since '
        f'{r["started"]}, '
        f'thread {r["thread"]}{crashed}'
    )


def _hang(hang: dict[str, Any]) -> str:
    end = 'until the end' if hang['ended'] is None else 'then it dissolved'
    return (
        f'{hang["kind"]} since {hang["started"]}, for {duration(hang["seconds"])}, {end}: '
        f'{hang["summary"]}'
    )


def _slow(note: dict[str, Any]) -> str:
    age = duration(note['seconds'])
    return f'Slow request {note["title"]}, thread {note["thread"]}, ' + (
        f'ended after {age}'
        if note['kind'] == 'slow-ended'
        else f'as it was after {age} at {note["time"]}'
    )


def _thread(thread: dict[str, Any]) -> str:
    ident = f'0x{thread["ident"]:016x}' if thread['ident'] else ''
    return ' '.join(
        filter(
            None,
            (
                'Crashed thread' if thread['crashed'] else 'Thread',
                ident,
                thread['name'],
                f'({thread["note"]})' if thread.get('note') else '',
                room_words(thread),
            ),
        )
    )


def _native(frame: dict[str, Any]) -> str:
    return f'{frame["binary"]} {frame["symbol"]}'


def _log(line: dict[str, Any]) -> str:
    return f'{line["time"]} {line["level"]} {line["logger"]} {line["message"]}'


def _sample(s: dict[str, Any]) -> str:
    return (
        f'{s["time"]} memory {max(s["rss"], 0) >> 20} MiB, processor {s["cpu"]:.1f} s, threads '
        f'{s["threads"]}, '
        f'descriptors {s["descriptors"]}, in flight {s["in_flight"]}'
    )
