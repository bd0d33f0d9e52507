"""What the pages show: plain values for the templates, made from the living run, the archive and
the report.

Nothing here knows Zope.  The templates decide the layout only.  They escape all that they insert,
except the pictures, which are made here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from ..checks.allfindings import Look
from ..knowledge.rulesinforce import of_incident
from ..model.eventkinds import event_kind
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.records import Instance
from ..model.records import duration
from ..model.records import from_isotime
from ..model.records import isotime
from ..model.records import shallow
from ..model.runrecord import RunRecord
from ..model.severities import INFO
from ..model.severities import WORST_FIRST
from ..model.verdicts import verdict
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..reporting import charts
from ..reporting import fromdisk
from ..reporting.axes import moment
from ..reporting.renderers import FORMATS
from ..reporting.renderers import at_the_end
from ..reporting.renderers import change_line
from ..reporting.renderers import change_lines
from ..reporting.renderers import checks_note
from ..reporting.report import checks_state
from ..reporting.report import in_flight
from ..reporting.report import process
from ..reporting.stacksdocument import room_words
from ..reporting.threadtext import frame_line
from ..store.archive import Archive
from . import csrftoken
from . import drills

_SURENESS = {
    'certain': 'This is certain.',
    'strong': 'The evidence is strong.',
    'likely': 'This is likely.',
    'weak': 'The evidence is weak.',
}
#: How well a known issue fits a run.
_LIKENESS = {
    'strong': 'Versions and traces fit',
    'likely': 'Versions and another thread fit',
    'possible': 'The versions fit; no trace shows it',
    'weak': 'A trace fits, the versions do not',
}
_FORMAT_NAMES = {'text': 'Text', 'json': 'JSON', 'html': 'HTML', 'zip': 'ZIP'}
#: Past runs in the timeline.
_TIMELINE_RUNS = 200
#: Rows of a long list that are shown at once; the rest is folded.
_SHOWN = 12
#: The facts that the HOWTO asks for; they are always shown.
_HOWTO = (
    ('zope', 'Zope version'),
    ('python', 'Python version'),
    ('platform', 'System platform'),
    ('software_home', 'SOFTWARE_HOME'),
    ('instance_home', 'INSTANCE_HOME'),
    ('client_home', 'CLIENT_HOME'),
    ('pid', 'Process id'),
    ('running_for', 'Running for'),
)
#: Facts that are shown where they are known.
_MORE = (
    ('started_at', 'Started'),
    ('listen', 'Listens on'),
    ('threads', 'Worker threads'),
    ('system', 'Operating system'),
    ('libc', 'C library'),
    ('supervisor', 'Started by'),
    ('server_software', 'Server'),
    ('debug_mode', 'Debug mode'),
    ('directory', 'Breadcrumbs in'),
    ('recording', 'Recording'),
    ('run', 'Run'),
)


def instance_name(life: ILivingRun) -> str:
    return Instance(**life.instance).label


def overview(life: ILivingRun, archive: Archive) -> dict[str, Any]:
    ours = of_instance(archive.summaries(), Instance(**life.instance))
    last = last_server_run(ours)
    living = RunRecord(
        run=life.name,
        started=isotime(life.started),
        verdict='running',
        summary='This process.',
        uptime_seconds=time.time() - life.started,
    )
    in_timeline = [living, *ours[:_TIMELINE_RUNS]]
    timeline = charts.timeline(
        in_timeline, time.time(), lambda run: '' if run == life.name else address(run)
    )
    state, look = checks_state(life)
    return {
        'last': ending(last, 'The last run') if last else None,
        'loop': _loop(crash_loop(ours)),
        'facts': _facts(process(life) | {'listen': life.instance['listen']}),
        'in_flight': [request_row(request) for request in in_flight(life)],
        'checks_note': checks_note(state),
        'findings': findings(_pressing(life, look)),
        'past': len(ours),
        'timeline': timeline,
        'legend': charts.legend(run.verdict for run in in_timeline),
    }


def _loop(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """A crash loop: how many runs began within which time."""
    if not runs:
        return None
    times = [from_isotime(run.started) for run in runs]
    starts = [at for at in times if at is not None]
    return {
        'count': len(runs),
        'within': duration(max(starts) - min(starts)),
        'runs': [ending(run, 'A run') for run in runs[:5]],
    }


def ending(run: RunRecord, subject: str) -> dict[str, Any]:
    """How a run ended, in words, with its page and colours."""
    return {
        'run': run.run,
        'address': address(run.run),
        'verdict': run.verdict,
        'colour': charts.colour(run.verdict),
        'headline': f'{subject} {verdict(run.verdict).ending}',
        'summary': run.summary,
        'incident': run.is_incident,
        'alert': 'danger' if run.is_incident else 'success',
        'sureness': _SURENESS.get(run.confidence, ''),
        'confidence': run.confidence,
        'started': moment(from_isotime(run.started)),
        'ended': moment(from_isotime(run.ended)),
        'ago': _ago(run.ended),
        'uptime': duration(run.uptime_seconds),
        'instance': run.instance.label,
        'role': run.role,
        'pid': run.pid,
        'signature': run.signature,
        'drill': drill_name(run),
        'signal': run.signal or '',
    }


def drill_name(run: RunRecord) -> str:
    """The drill that ended a run, as its title; '' where it was none."""
    for drill in drills.DRILLS:
        if drill.id == run.drill:
            return drill.title
    return run.drill  # '', or a drill of another release


def address(run: str) -> str:
    return 'manage_incident?' + urlencode({'run': run})


def _ago(ended: str | None) -> str:
    at = from_isotime(ended)
    if at is None:
        return ''
    return f'{duration(max(0.0, time.time() - at))} ago'


def _facts(known: dict[str, Any]) -> list[dict[str, str]]:
    known = known | {
        'running_for': duration(known['uptime_seconds']),
        'started_at': moment(from_isotime(known['started'])),
    }
    more = [(key, label) for key, label in _MORE if known.get(key) not in (None, '')]
    return [{'label': label, 'value': _shown(known.get(key))} for key, label in (*_HOWTO, *more)]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return 'on' if value else 'off'
    if value in (None, ''):
        return 'not known'
    return str(value)


def findings(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """[{severity, alert, findings}], the worst first; empty groups are left out."""
    groups = []
    for severity in WORST_FIRST:
        rows = [finding.to_json() for finding in found if finding.severity == severity]
        if rows:
            group = {'severity': severity.code, 'alert': severity.alert, 'findings': rows}
            groups.append(group)
    return groups


def _pressing(life: ILivingRun, look: Look) -> list[Finding]:
    """The findings that ask for action, and those of this process about itself.

    All others are on the page of the checks.
    """
    own = {finding.id for finding in life.findings}
    pressing = []
    for finding in look.shown:
        is_own = finding.severity == INFO and finding.id in own
        if is_own or finding.severity.presses:
            pressing.append(finding)
    return pressing


def request_row(request: dict[str, Any]) -> dict[str, Any]:
    path = str(request.get('path', ''))
    count = request.get('count')
    is_many = isinstance(count, int) and count > 1
    return {
        'method': request.get('method', ''),
        'path': f'{path} …' if request.get('cut') else path,
        'started': moment(from_isotime(request.get('started'))),
        'phase': request.get('phase', ''),
        'took': _took(request.get('seconds')),
        'thread': request.get('thread', ''),
        'user': request.get('user', ''),
        'status': request.get('status') or '',
        'crashed': bool(request.get('crashed')),
        'retry': request.get('retry') or 0,
        'times': f'{count} times' if is_many else '',
    }


def _took(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return ''
    if seconds >= 60:
        return duration(seconds)
    if seconds >= 1:
        return f'{seconds:.1f} s'
    return f'{seconds * 1000:.1f} ms'


# -- one incident ----------------------------------------------------------------------------------


def incident(life: ILivingRun, archive: Archive, run: str) -> dict[str, Any]:
    """All that is known of one past run.  Raises NoSuchRun."""
    record = archive.record(run)
    requests = [request_row(request) for request in _dicts(record.requests)]
    recent = [request_row(request) for request in _dicts(record.recent)]
    samples = _dicts(record.samples)
    newest_first = reversed(_dicts(record.log))
    issues = _dicts(of_incident(record, archive.base.path))
    return {
        'run': record.run,
        'end': ending(record, 'This run'),
        'evidence': [shallow(evidence) for evidence in record.evidence],
        'ruled_out': list(record.ruled_out),
        'candidates': list(record.candidates),
        'crashing': [request for request in requests if request['crashed']],
        'in_flight': [request for request in requests if not request['crashed']],
        'recent': _cut(recent),
        'threads': [_thread(thread) for thread in _dicts(record.threads)],
        'hangs': [hang_row(hang) for hang in _dicts(record.hangs)],
        'slow': _cut(_slow_requests(_dicts(record.notes))),
        'native': [_native(frame) for frame in _dicts(record.native)],
        'exception': record.exception,
        'memory': charts.memory_curve(samples),
        'processor': charts.processor_curve(samples),
        'log': _cut([_log_line(line) for line in newest_first]),
        'modules': list(record.compiled_modules),
        'versions': _versions(life, archive, record),
        'suspects': _dicts(record.suspects),
        'known_issues': [known_issue(issue) for issue in issues],
        'facts': _incident_facts(record),
        'downloads': downloads(run),
        'trace': 'trace?' + urlencode({'run': run}),
    }


def _versions(life: ILivingRun, archive: Archive, record: RunRecord) -> dict[str, Any]:
    """What was installed then, and what has changed since: {then, note, changed, all}."""
    run = fromdisk.of_record(archive, record)
    told = fromdisk.compared(run, life, None)
    versions = sorted(fromdisk.versions(run).items())
    return {
        'then': at_the_end(record.verdict),
        'note': next(change_lines(told, record.verdict)),
        'changed': [change_line(change) for change in told['changed'] or ()],
        'all': [f'{name} {version}' for name, version in versions],
    }


def _dicts(items: object) -> list[dict[str, Any]]:
    """The dicts in a list of an archived record, which may be damaged."""
    if not isinstance(items, list | tuple):
        return []
    return [item for item in items if isinstance(item, dict)]


def _cut(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows in two parts: `first` is shown at once, `rest` is folded."""
    return {'count': len(rows), 'first': rows[:_SHOWN], 'rest': rows[_SHOWN:]}


def _incident_facts(record: RunRecord) -> list[dict[str, str]]:
    context = record.context if isinstance(record.context, dict) else {}
    software = context.get('software')
    if not isinstance(software, dict):
        software = {}
    facts = (
        ('Instance', record.instance.label),
        ('Run', record.run),
        ('Role', record.role),
        ('Process id', record.pid),
        ('Started', moment(from_isotime(record.started))),
        ('Ended', moment(from_isotime(record.ended))),
        ('Was up', duration(record.uptime_seconds)),
        ('Verdict', record.verdict),
        ('Confidence', record.confidence),
        ('Signal', record.signal),
        ('Exit code', record.exit_code),
        ('Signature', record.signature),
        ('Got as far as', record.phase),
        ('Drill', drill_name(record)),
        ('Zope', software.get('zope')),
        ('Python', context.get('python')),
        ('System', context.get('platform')),
        ('C library', context.get('libc')),
        ('Started by', context.get('supervisor')),
    )
    known = [(label, value) for label, value in facts if value not in (None, '')]
    return [{'label': label, 'value': str(value)} for label, value in known]


def _thread(thread: dict[str, Any]) -> dict[str, Any]:
    frames = [frame_line(frame) for frame in _dicts(thread.get('frames'))]
    words = []
    ident = thread.get('ident')
    if isinstance(ident, int):
        words.append(f'0x{ident:x}')
    if thread.get('name'):
        words.append(str(thread['name']))
    return {
        'name': ' '.join(words),
        'crashed': bool(thread.get('crashed')),
        'note': thread.get('note', ''),
        'frames': frames,
        'room': room_words(thread),
        'top': frames[0] if frames else 'no Python frame',
        'cut': bool(thread.get('cut')),
    }


def known_issue(row: dict[str, Any]) -> dict[str, Any]:
    """A known issue that a run may have met."""
    matched = row.get('matched')
    against = row.get('against')
    strength = str(row.get('strength') or '')
    return {
        'title': row.get('title') or row.get('id') or '',
        'likeness': _LIKENESS.get(strength, strength),
        'matched': matched if isinstance(matched, list) else [],
        'against': against if isinstance(against, list) else [],
        'action': row.get('action') or '',
        'source': row.get('source') or '',
    }


def hang_row(hang: dict[str, Any]) -> dict[str, Any]:
    """A hang, deadlock or spinning thread of a dead run."""
    lasted = duration(hang.get('seconds'))
    lasts = hang.get('ended') is None
    return {
        'kind': event_kind(hang.get('kind', '')).title,
        'summary': hang.get('summary', ''),
        'started': moment(from_isotime(hang.get('started'))),
        'lasts': lasts,
        'lasted': f'{lasted}, until the end' if lasts else f'{lasted}; it dissolved',
    }


def _slow_requests(notes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest note of each slow request, the newest first."""
    slow = [note for note in notes if note['kind'].startswith('slow')]
    newest = {note.get('request'): note for note in slow}
    return [_slow(note) for note in reversed(newest.values())]


def _slow(note: dict[str, Any]) -> dict[str, Any]:
    """A note about a slow request, as a thread with its stack."""
    age = _took(note.get('seconds'))
    has_ended = note['kind'] == 'slow-ended'
    return _thread({'frames': note.get('frames'), 'cut': note.get('cut')}) | {
        'name': note.get('title', ''),
        'note': f'{age} in all' if has_ended else f'after {age}',
        'detail': note.get('detail', ''),
    }


def _native(frame: dict[str, Any]) -> str:
    line = f'{frame.get("binary", "")} {frame.get("symbol", "")}'
    offset = frame.get('offset')
    if isinstance(offset, int):
        line += f'+0x{offset:x}'
    at = frame.get('address')
    if isinstance(at, int):
        line += f' [0x{at:x}]'
    return line


def _log_line(line: dict[str, Any]) -> dict[str, Any]:
    level = str(line.get('level', ''))
    message = str(line.get('message', ''))
    return {
        'time': moment(from_isotime(line.get('time'))),
        'level': level,
        'logger': line.get('logger', ''),
        'message': f'{message} …' if line.get('cut') else message,
        'style': 'danger' if level in ('ERROR', 'CRITICAL') else 'warning',
    }


def downloads(run: str | None = None) -> list[dict[str, str]]:
    """{format, address} of the report in each of its formats."""
    about = {'run': run} if run else {}
    return [
        {
            'format': name,
            'label': _FORMAT_NAMES.get(name, name),
            'address': 'report?' + urlencode({'format': name} | about),
        }
        for name in FORMATS
    ]


# -- drills ----------------------------------------------------------------------------------------


def drill_page(life: ILivingRun, action: str) -> dict[str, Any]:
    rows = [
        {
            'id': drill.id,
            'title': drill.title,
            'what': drill.what,
            'verdict': verdict(drill.verdict).ending,
            'refusal': drills.refusal(life, drill),
        }
        for drill in drills.DRILLS
    ]
    return {
        'on': bool(life.options.drills),
        'drills': rows,
        'fields': csrftoken.fields(life, action),
        'recording': life.recorder is not None,
        'pid': life.pid,
        'run': life.name,
    }
