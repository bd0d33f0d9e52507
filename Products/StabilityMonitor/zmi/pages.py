"""The values that the pages show, made from the living run, the archive and the report.

This module does not import Zope.  The templates only decide the layout.  They escape all values,
except the SVG charts, which this product makes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from ..checks.allfindings import Look
from ..inspection import vitalsnow
from ..knowledge.rulesinforce import of_incident
from ..model.eventkinds import event_kind
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.options import from_record
from ..model.records import LogLine
from ..model.records import NativeFrame
from ..model.records import Note
from ..model.records import Request
from ..model.records import duration
from ..model.records import from_isotime
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.severities import INFO
from ..model.severities import WORST_FIRST
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..model.verdicts import VERDICTS
from ..model.verdicts import verdict
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..postmortem.runhistory import seconds_between
from ..postmortem.runhistory import seconds_since_end
from ..reporting import charts
from ..reporting import fromdisk
from ..reporting import vitalwords
from ..reporting.axes import moment
from ..reporting.renderers import FORMATS
from ..reporting.renderers import at_the_end
from ..reporting.renderers import change_line
from ..reporting.renderers import change_lines
from ..reporting.renderers import checks_note
from ..reporting.renderers import end_of_hang
from ..reporting.renderers import strength_words
from ..reporting.report import checks_state
from ..reporting.report import in_flight
from ..reporting.report import process
from ..reporting.stacksdocument import room_words
from ..reporting.threadtext import frame_line
from ..reporting.threadtext import without_repetition
from ..store.archive import Archive
from ..store.blackboxreader import read_curve
from ..store.blackboxreader import read_samples
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from ..system import processidentity
from . import csrftoken
from . import drills

_CONFIDENCE_SENTENCES = {
    'certain': 'This is certain.',
    'strong': 'The evidence is strong.',
    'likely': 'This is likely.',
    'weak': 'The evidence is weak.',
}
_FORMAT_NAMES = {'text': 'text', 'json': 'JSON', 'html': 'HTML', 'zip': 'ZIP'}
#: At most this many past runs are in the timeline.
_TIMELINE_RUNS = 200
#: Rows of a long list that are shown at once; the others are folded.
_SHOWN = 12
#: The facts that the Stability HOWTO asks for, with the labels of Zope's Control Panel.  They are
#: always shown.
_HOWTO = (
    ('zope', 'Zope Version'),
    ('python', 'Python Version'),
    ('platform', 'System Platform'),
    ('software_home', 'SOFTWARE_HOME'),
    ('instance_home', 'INSTANCE_HOME'),
    ('client_home', 'CLIENT_HOME'),
    ('pid', 'Process Id'),
    ('running_for', 'Running For'),
)
#: Facts that are shown if they are known.
_MORE = (
    ('started_at', 'Started'),
    ('listen', 'Listening address'),
    ('threads', 'Worker threads'),
    ('system', 'Operating system'),
    ('libc', 'C library'),
    ('supervisor', 'Supervisor'),
    ('server_software', 'Server software'),
    ('debug_mode', 'Debug mode'),
    ('directory', 'Data directory'),
    ('recording', 'Recording'),
    ('run', 'Run'),
)


def overview(life: ILivingRun, archive: Archive) -> dict[str, Any]:
    ours = of_instance(archive.summaries(), life.instance)
    last = last_server_run(ours)
    living = RunRecord(
        run=life.name,
        started=life.started,
        verdict='running',
        summary='This process.',
        uptime_seconds=time.monotonic() - life.started_monotonic,
    )
    in_timeline = [living, *ours[:_TIMELINE_RUNS]]

    def link(run: str) -> str:
        return '' if run == life.name else address(run)

    state, look = checks_state(life)
    return {
        'last': alone(last, lambda run: ending(run, 'The last run')) if last else None,
        'loop': together(ours, lambda runs: _loop_facts(crash_loop(runs))),
        'facts': _facts(process(life) | {'listen': life.instance.listen}),
        'vitals': _vitals(life),
        'in_flight': [request_row(request) for request in in_flight(life)],
        'checks_note': checks_note(state),
        'findings': findings(_pressing(life, look)),
        'past': len(ours),
        'timeline': together(in_timeline, lambda runs: charts.timeline(runs, time.time(), link)),
        'legend': together(in_timeline, lambda runs: charts.legend(run.verdict for run in runs)),
    }


@functools.cache
def _boot_id() -> str:
    boot_id: str = processidentity.identity()['boot_id']
    return boot_id


def _loop_facts(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Return the runs of a crash loop, and the time between their first and last start.

    None if there is no crash loop.
    """
    if not runs:
        return None
    return {
        'count': len(runs),
        'within': duration(max(seconds_between(run, runs[0]) for run in runs)),
        'runs': [ending(run, 'A run') for run in runs[:5]],
    }


def _look(code: str) -> str:
    """Return the CSS class with the colour of a verdict; a record may hold any text as its code."""
    known = code if code in VERDICTS else 'unknown'
    return f'stability-verdict-{known}'


def ending(run: RunRecord, subject: str) -> dict[str, Any]:
    """Return how a run ended: its headline, facts, page and look.

    `subject` begins the headline, for example "The last run".
    """
    ago = ''
    passed = seconds_since_end(run, _boot_id(), time.monotonic(), time.time())
    if passed is not None:
        ago = f'{duration(passed)} ago'
    return {
        'run': run.run,
        'address': address(run.run),
        'verdict': run.verdict,
        'look': _look(run.verdict),
        'headline': f'{subject} {verdict(run.verdict).ending}',
        'summary': run.summary,
        'incident': run.is_incident,
        'alert': 'danger' if run.is_incident else 'success',
        'confidence_sentence': _CONFIDENCE_SENTENCES.get(run.confidence, ''),
        'confidence': run.confidence,
        'started': moment(run.started),
        'ended': moment(run.ended),
        'ago': ago,
        'uptime': duration(run.uptime_seconds),
        'instance': run.instance.label,
        'role': run.role,
        'pid': run.pid,
        'signature': run.signature,
        'drill': drill_name(run),
        'signal': run.signal or '',
    }


def drill_name(run: RunRecord) -> str:
    """Return the title of the drill that ended a run; '' if it was not a drill."""
    for drill in drills.DRILLS:
        if drill.id == run.drill:
            return drill.title
    return run.drill  # '', or the id of a drill of another release


def address(run: str) -> str:
    """Return the URL of the page of a past run."""
    return 'manage_incident?' + urlencode({'run': run})


def _facts(known: dict[str, Any]) -> list[dict[str, str]]:
    known = known | {
        'running_for': duration(known['uptime_seconds']),
        'started_at': moment(from_isotime(known['started'])),
    }
    rows = list(_HOWTO)
    for key, label in _MORE:
        if known.get(key) not in (None, ''):
            rows.append((key, label))
    return [{'label': label, 'value': _shown(known.get(key))} for key, label in rows]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return 'on' if value else 'off'
    if value in (None, ''):
        return 'unknown'
    return str(value)


def findings(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return [{severity, alert, findings}], the worst first.  Empty groups are left out."""
    groups = []
    for severity in WORST_FIRST:
        rows = [finding.to_json() for finding in found if finding.severity == severity]
        if rows:
            group = {'severity': severity.code, 'alert': severity.alert, 'findings': rows}
            groups.append(group)
    return groups


def _pressing(life: ILivingRun, look: Look) -> list[Finding]:
    """Return the findings that need action, and the findings of this process about itself.

    All others are on the Checks page only.
    """
    own = {finding.id for finding in life.findings}
    pressing = []
    for finding in look.shown:
        is_own = finding.severity == INFO and finding.id in own
        if is_own or finding.severity.presses:
            pressing.append(finding)
    return pressing


def request_row(request: Request) -> dict[str, Any]:
    return {
        'method': request.method,
        'path': f'{request.path} …' if request.cut else request.path,
        'started': moment(request.started or None),
        'phase': request.phase,
        'took': _took(request.seconds),
        'thread': request.thread,
        'user': request.user,
        'status': request.answer,
        'crashed': request.crashed,
        'retry': request.retry,
        'times': f'{request.count} times' if request.count > 1 else '',
    }


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ''
    if seconds >= 60:
        return duration(seconds)
    if seconds >= 1:
        return f'{seconds:.1f} s'
    return f'{seconds * 1000:.1f} ms'


# -- one incident ----------------------------------------------------------------------------------


def incident(life: ILivingRun, archive: Archive, run: str) -> dict[str, Any]:
    """Return the values for the page of one past run.  Raises NoSuchRun."""
    return alone(archive.record(run), lambda record: _incident(life, archive, record))


def _incident(life: ILivingRun, archive: Archive, record: RunRecord) -> dict[str, Any]:
    requests = list(map(request_row, record.requests))
    recent = list(map(request_row, record.recent))
    issues = of_incident(record, archive.base.path)
    return {
        'run': record.run,
        'end': ending(record, 'This run'),
        'evidence': [to_json(evidence) for evidence in record.evidence],
        'ruled_out': list(record.ruled_out),
        'candidates': list(record.candidates),
        'crashing': [request for request in requests if request['crashed']],
        'in_flight': [request for request in requests if not request['crashed']],
        'recent': _cut(recent),
        'threads': list(map(_thread, record.threads)),
        'hangs': list(map(hang_row, record.hangs)),
        'slow': _cut(_slow_requests(record.notes)),
        'native': list(map(_native, record.native)),
        'exception': record.exception,
        'charts': charts.vital_signs(record.samples, record.curve, _stall(record.context)),
        'log': _cut([_log_line(line) for line in reversed(record.log)]),
        'modules': list(record.compiled_modules),
        'versions': _versions(life, archive, record),
        'suspects': list(record.suspects),
        'known_issues': list(map(known_issue, issues)),
        'facts': _incident_facts(record),
        'downloads': downloads(record.run),
        'trace': 'trace?' + urlencode({'run': record.run}),
    }


def _stall(context: dict[str, Any]) -> float:
    """Return the option `stall` of a run, in seconds; -1.0 if it is not known."""
    stall = from_record(context.get('options')).get('stall')
    return stall if isinstance(stall, int | float) else -1.0


def _vitals(life: ILivingRun) -> dict[str, Any]:
    """Return the vital signs of this process: {facts, charts}, both [] without a sample."""
    if life.recorder is None:
        return {'facts': [], 'charts': []}
    samples = read_samples(life.recorder.buffer)
    curve = read_curve(life.recorder.buffer)
    now = vitalsnow.of(samples, curve, life.started_monotonic)
    facts = vitalwords.facts(now) if now else ()
    return {
        'facts': [{'label': label, 'value': words} for label, words in facts],
        'charts': charts.vital_signs(samples, curve, life.options.stall, charts.UNTIL_NOW),
    }


def _versions(life: ILivingRun, archive: Archive, record: RunRecord) -> dict[str, Any]:
    """Return what was installed and what has changed since: {then, note, changed, all}."""
    run = fromdisk.of_record(archive, record)
    changes = fromdisk.compared(run, life, None)
    versions = sorted(fromdisk.versions(run).items())
    return {
        'then': at_the_end(record.verdict),
        'note': next(change_lines(changes, record.verdict)),
        'changed': [change_line(change) for change in changes['changed'] or ()],
        'all': [f'{name} {version}' for name, version in versions],
    }


def _cut(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows in two parts: `first` is shown at once, `rest` is folded."""
    return {'count': len(rows), 'first': rows[:_SHOWN], 'rest': rows[_SHOWN:]}


def _incident_facts(record: RunRecord) -> list[dict[str, str]]:
    context = record.context
    software = context.get('software')
    if not isinstance(software, dict):
        software = {}
    facts = (
        ('Instance', record.instance.label),
        ('Run', record.run),
        ('Role', record.role),
        ('Process Id', record.pid),
        ('Started', moment(record.started)),
        ('Ended', moment(record.ended)),
        ('Uptime', duration(record.uptime_seconds)),
        ('Verdict', record.verdict),
        ('Confidence', record.confidence),
        ('Signal', record.signal),
        ('Exit code', record.exit_code),
        ('Signature', record.signature),
        ('Phase reached', record.phase),
        ('Drill', drill_name(record)),
        ('Zope', software.get('zope')),
        ('Python', context.get('python')),
        ('System', context.get('platform')),
        ('C library', context.get('libc')),
        ('Supervisor', context.get('supervisor')),
    )
    rows = []
    for label, value in facts:
        if value not in (None, ''):
            rows.append({'label': label, 'value': str(value)})
    return rows


def _thread(thread: ThreadState) -> dict[str, Any]:
    frames = list(without_repetition(list(map(frame_line, thread.frames))))
    words = []
    if thread.ident:
        words.append(f'0x{thread.ident:x}')
    if thread.name:
        words.append(thread.name)
    return {
        'name': ' '.join(words),
        'crashed': thread.crashed,
        'note': thread.note,
        'frames': frames,
        'room': room_words(thread),
        'top': frames[0] if frames else 'no Python frames',
        'cut': thread.cut,
    }


def known_issue(issue: KnownIssue) -> dict[str, Any]:
    """Return the values of a known issue that may have affected a run."""
    return {
        'title': issue.title or issue.id,
        'strength_words': strength_words(issue.strength),
        'matched': list(issue.matched),
        'against': list(issue.against),
        'action': issue.action,
        'source': issue.source,
    }


def hang_row(hang: Event) -> dict[str, Any]:
    """Return the values of a hang, deadlock or spinning thread of a dead run."""
    return {
        'kind': event_kind(hang.kind).title,
        'summary': hang.summary,
        'started': moment(hang.started or None),
        'lasts': hang.lasts,
        'lasted': f'{duration(hang.seconds)}, {end_of_hang(hang)}',
    }


def _slow_requests(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Return the newest note of each slow request, the newest request first."""
    newest = {}  # by number of the request: later notes replace earlier ones
    for note in notes:
        if note.kind in ('slow', 'slow-ended'):
            newest[note.request] = note
    return [_slow(note) for note in reversed(newest.values())]


def _slow(note: Note) -> dict[str, Any]:
    """Return the values of a note about a slow request: a thread with its stack."""
    age = _took(note.seconds)
    has_ended = note.kind == 'slow-ended'
    thread = ThreadState(frames=note.frames, cut=note.cut)
    return _thread(thread) | {
        'name': note.title,
        'note': f'ended after {age}' if has_ended else f'after {age}',
        'detail': note.detail,
    }


def _native(frame: NativeFrame) -> str:
    line = f'{frame.binary} {frame.symbol}'
    if frame.offset is not None:
        line += f'+0x{frame.offset:x}'
    if frame.address is not None:
        line += f' [0x{frame.address:x}]'
    return line


def _log_line(line: LogLine) -> dict[str, Any]:
    return {
        'time': moment(line.time or None),
        'level': line.level,
        'logger': line.logger,
        'message': f'{line.message} …' if line.cut else line.message,
        'repeated': '' if line.count < 2 else f'{line.count} times, last {moment(line.latest)}',
        'style': 'danger' if line.level in ('ERROR', 'CRITICAL') else 'warning',
    }


def downloads(run: str | None = None) -> list[dict[str, str]]:
    """Return [{format, label, address}]: the downloads of the report in each format."""
    about = {'run': run} if run else {}
    return [
        {
            'format': name,
            'label': f'Download {_FORMAT_NAMES.get(name, name)} report',
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
