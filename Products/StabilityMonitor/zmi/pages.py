"""The values that the pages show, made from the living run, the archive and the report.

This module does not import Zope.  The templates only decide the layout.  They escape all values,
except the SVG charts, which this product makes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from .. import __version__
from ..checks.allfindings import Look
from ..inspection import vitalsnow
from ..knowledge import signedruns
from ..knowledge.rulesinforce import of_incident
from ..model.action import Action
from ..model.corefile import CoreFile
from ..model.corefile import CoreThread
from ..model.counts import counted
from ..model.drillkinds import VERDICTS_OF_DRILLS
from ..model.drillkinds import WITH_WITNESS
from ..model.drillkinds import expectation
from ..model.eventkinds import event_kind
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.options import from_record
from ..model.records import Frame
from ..model.records import LogLine
from ..model.records import NativeFrame
from ..model.records import Note
from ..model.records import Request
from ..model.records import clocktime
from ..model.records import duration
from ..model.records import from_isotime
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.severities import INFO
from ..model.severities import WORST_FIRST
from ..model.suspects import Suspect
from ..model.threadstates import Event
from ..model.threadstates import ThreadState
from ..model.verdicts import VERDICTS
from ..model.verdicts import verdict
from ..postmortem.runhistory import crash_loop
from ..postmortem.runhistory import last_server_run
from ..postmortem.runhistory import of_instance
from ..postmortem.runhistory import seconds_between
from ..reporting import causewords
from ..reporting import charts
from ..reporting import fromdisk
from ..reporting import vitalwords
from ..reporting.endwords import amended_words
from ..reporting.endwords import end_words
from ..reporting.endwords import hang_words
from ..reporting.endwords import uptime_words
from ..reporting.endwords import when_it_ended
from ..reporting.equalthreads import equal_threads
from ..reporting.equalthreads import slow_requests
from ..reporting.equalthreads import slow_words
from ..reporting.equalthreads import thread_label
from ..reporting.nextsteps import next_steps
from ..reporting.reading import at_the_end
from ..reporting.report import checks_state
from ..reporting.report import in_flight
from ..reporting.report import process
from ..reporting.runtext import change_line
from ..reporting.runtext import change_lines
from ..reporting.runtext import checks_note
from ..reporting.runtext import strength_words
from ..reporting.stacksdocument import room_words
from ..reporting.threadtext import frame_line
from ..reporting.threadtext import without_repetition
from ..store.archive import Archive
from ..store.blackboxreader import read_curve
from ..store.blackboxreader import read_samples
from ..store.damagedrecords import alone
from ..store.damagedrecords import together
from . import acknowledging
from . import addresses
from . import csrftoken
from . import drills
from . import earlierincidents

_CONFIDENCE_SENTENCES = {
    'certain': 'This is certain.',
    'strong': 'The evidence is strong.',
    'likely': 'This is likely.',
    'weak': 'The evidence is weak.',
}
#: Where README and CHANGES can be read.
_DOCUMENTS = 'https://pypi.org/project/Products.StabilityMonitor/'
#: At most this many past runs are in the timeline.
_TIMELINE_RUNS = 200
#: Rows of a long list that are shown at once; the others are folded.
_SHOWN = 12
#: The facts that the Stability HOWTO asks for, with the labels of Zope's Control Panel.  Those that
#: are not known are listed, too.
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
#: Facts that are listed if they are known.
_MORE = (
    ('plone', 'Plone Version'),
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
#: The facts that are shown at once, in this order; the others never change and are folded.
_FIRST = ('product', 'zope', 'python', 'pid', 'running_for')
#: Looks of the section about the last run.
_GOOD = {'look': 'stability-good', 'icon': 'fa-check-circle'}
_ACKNOWLEDGED = {'look': 'stability-closed', 'icon': 'fa-clipboard-check'}
_OPEN_BEFORE = {'look': 'stability-warned', 'icon': 'fa-exclamation-triangle'}
_OPEN = {'look': 'stability-bad', 'icon': 'fa-exclamation-triangle'}


def overview(life: ILivingRun, archive: Archive, may_manage: bool = False) -> dict[str, Any]:
    ours = of_instance(archive.summaries(), life.instance)
    last = last_server_run(ours)
    incidents = acknowledging.OpenIncidents(archive, ours)
    open_form = incidents.form(life, last, may_manage)
    living = RunRecord(
        run=life.name,
        started=life.started,
        verdict='running',
        summary='This process.',
        uptime_seconds=time.monotonic() - life.started_monotonic,
    )
    in_timeline = [living, *ours[:_TIMELINE_RUNS]]

    def link(run: str) -> str:
        return '' if run == life.name else addresses.of_run(run)

    def last_ending(run: RunRecord) -> dict[str, Any]:
        return ending(run, 'The last run') | incidents.state(run)

    state, look = checks_state(life)
    pressing = _pressing(life, look)
    if incidents.problem:
        pressing.append(incidents.problem)
    shown = alone(last, last_ending) if last else None
    requests = in_flight(life)
    return {
        'title': 'Overview',
        'last': shown,
        'mood': _mood(shown, open_form),
        'open_form': open_form,
        'loop': together(ours, lambda runs: _loop_facts(crash_loop(runs, incidents.acknowledged))),
        'now': now_words(requests, threading.get_ident(), life),
        'facts': _facts(process(life) | {'listen': life.instance.listen}),
        'documents': _DOCUMENTS,
        'vitals': _vitals(life),
        'in_flight': [request_row(request) for request in requests],
        'checks_note': checks_note(state),
        'findings': findings(pressing),
        'past': len(ours),
        'timeline': together(in_timeline, lambda runs: charts.timeline(runs, time.time(), link)),
        'legend': together(in_timeline, lambda runs: charts.legend(run.verdict for run in runs)),
    }


def _mood(last: dict[str, Any] | None, open_form: dict[str, Any] | None) -> dict[str, str]:
    """Return the look of the section about the last run: the worst of what it says."""
    if last and last['open']:
        return _OPEN
    if open_form:
        return _OPEN_BEFORE
    return _ACKNOWLEDGED if last and last['incident'] else _GOOD


def now_words(requests: Sequence[Request], own: int, life: ILivingRun) -> dict[str, Any] | None:
    """Return the line about the workers: {words, slow}; None if requests are not recorded.

    `own` is the ident of the thread that makes the page; it does not count as busy.  `slow`: a
    request takes longer than the option `slow-request`, or something hangs.
    """
    if life.recorder is None:
        return None
    others = [request for request in requests if request.ident != own]
    hangs = [hang for hang in life.stacks().hangs if hang.lasts]
    known = life.software.get('threads')
    if isinstance(known, int) and known > 0:
        words = f'{len(others) or "none"} of {counted(known, "thread")} busy'
    else:
        words = f'{counted(len(others), "thread")} busy'
    oldest = max((request.seconds or 0.0 for request in others), default=0.0)
    if others:
        words += f', the oldest for {duration(oldest)}'
    lasting = []
    for hang in hangs:
        seconds = hang.seconds or max(0.0, time.time() - hang.started)
        lasting.append(f'{event_kind(hang.kind).title.lower()} for {duration(seconds)}')
    return {
        'words': '; '.join([*lasting, words]),
        'slow': bool(hangs) or oldest > life.options.slow_request,
    }


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


def look(code: str) -> str:
    """Return the CSS class with the colour of a verdict; a record may hold any text as its code."""
    known = code if code in VERDICTS else 'unknown'
    return f'stability-verdict-{known}'


def ending(run: RunRecord, subject: str) -> dict[str, Any]:
    """Return how a run ended: its headline, facts, page and look.

    `subject` begins the headline, for example "The last run".
    """
    ago = ''
    passed = acknowledging.seconds_ago(run)
    if passed is not None:
        ago = f'{duration(passed)} ago'
    return {
        'run': run.run,
        'address': addresses.of_run(run.run),
        'verdict': run.verdict,
        'look': look(run.verdict),
        'headline': f'{subject} {verdict(run.verdict).ending}',
        'summary': run.summary,
        'incident': run.is_incident,
        'alert': 'danger' if run.is_incident else 'success',
        'confidence_sentence': _CONFIDENCE_SENTENCES.get(run.confidence, ''),
        'confidence': run.confidence,
        'started': clocktime(run.started),
        'ended': clocktime(run.ended),
        'ago': ago,
        'when': when_it_ended(run, ago),
        'uptime': uptime_words(run),
        'instance': run.instance.label,
        'role': run.role,
        'pid': run.pid,
        'drill': drill_name(run),
        'signal': run.signal or '',
    }


def drill_name(run: RunRecord) -> str:
    """Return the title of the drill that ended a run; '' if it was not a drill."""
    for drill in drills.DRILLS:
        if drill.id == run.drill:
            return drill.title
    return run.drill  # '', or the id of a drill of another release


def _facts(known: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the facts of this process: `first` is shown at once, `rest` is folded."""
    known = known | {
        'product': __version__,
        'running_for': duration(known['uptime_seconds']),
        'started_at': clocktime(from_isotime(known['started'])),
    }
    rows = {'product': 'Stability Monitor', **dict(_HOWTO)}
    for key, label in _MORE:
        if known.get(key) not in (None, ''):
            rows[key] = label
    shown = {key: {'label': label, 'value': _shown(known.get(key))} for key, label in rows.items()}
    first = [shown.pop(key) for key in _FIRST]
    return {'first': first, 'rest': list(shown.values())}


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
        'started': clocktime(request.started or None),
        'state': request.state,
        'took': _took(request.seconds),
        'thread': request.served_by,
        'user': request.user,
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


def incident(
    life: ILivingRun, archive: Archive, run: str, may_manage: bool = False
) -> dict[str, Any]:
    """Return the values for the page of one past run.  Raises NoSuchRun."""

    def values(record: RunRecord) -> dict[str, Any]:
        form = acknowledging.of_run(life, archive, record, may_manage)
        return _incident(life, archive, record) | form

    return alone(archive.record(run), values)


def _incident(life: ILivingRun, archive: Archive, record: RunRecord) -> dict[str, Any]:
    record = signedruns.of_archive(archive, record)
    requests = list(map(request_row, record.requests))
    recent = list(map(request_row, record.recent))
    issues = of_incident(record, archive.base.path)
    steps = next_steps(replace(record, known_issues=issues))
    return {
        'title': f'Incident {record.run}',
        'run': record.run,
        'end': ending(record, 'This run'),
        'steps': list(map(_pieces, steps)),
        'evidence': [to_json(evidence) for evidence in record.evidence],
        'ruled_out': list(record.ruled_out),
        'candidates': list(record.candidates),
        'crashing': [request for request in requests if request['crashed']],
        'in_flight': [request for request in requests if not request['crashed']],
        'recent': cut(recent),
        'threads': list(map(_threads, equal_threads(record.threads))),
        'hangs': [hang_row(hang, record) for hang in record.hangs],
        'slow': cut(list(map(_slow, slow_requests(record.notes)))),
        'native': list(map(_native, record.native)),
        'exception': record.exception,
        'charts': charts.vital_signs(record.samples, record.curve, _stall(record.context)),
        'log': cut([log_row(line) for line in reversed(record.log)]),
        'modules': _modules(record),
        'versions': _versions(life, archive, record),
        **why(record, issues),
        'seen_before': earlierincidents.values(archive, record),
        'core': _core(record.core) if record.core else None,
        'core_state': _core_state(record),
        'facts': _incident_facts(record),
        'report': 'manage_report?' + urlencode({'run': record.run}),
        'everything': 'report?' + urlencode({'format': 'zip', 'run': record.run}),
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


def cut(rows: list[dict[str, Any]], shown: int = _SHOWN) -> dict[str, Any]:
    """Return the rows in two parts: `first` is shown at once, `rest` is folded."""
    return {'count': len(rows), 'first': rows[:shown], 'rest': rows[shown:]}


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
        ('Started', clocktime(record.started)),
        ('Ended', end_words(record)),
        ('Uptime', uptime_words(record)),
        ('Verdict', record.verdict),
        ('Confidence', record.confidence),
        ('Amended', amended_words(record)),
        ('Signal', record.signal),
        ('Exit code', record.exit_code),
        ('Signature', record.signature),
        ('Phase at the end', record.phase),
        ('Drill', drill_name(record)),
        ('Zope', software.get('zope')),
        ('Plone', software.get('plone')),
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


def _threads(group: list[ThreadState]) -> dict[str, Any]:
    """Return the values of a thread with its stack, or of several with the same stack."""
    thread = group[0]
    rooms = [room for room in map(room_words, group) if room]
    return _stack(thread.frames, thread.cut) | {
        'name': thread_label(group),
        'crashed': thread.crashed,
        'alone': len(group) == 1 and not thread.crashed,
        'note': thread.note,
        'room': rooms[0] if len(group) == 1 and rooms else '',
    }


def _stack(stack: Sequence[Frame], cut: bool) -> dict[str, Any]:
    frames = list(without_repetition(list(map(frame_line, stack))))
    return {
        'frames': frames,
        'top': frames[0] if frames else 'no Python frames',
        'cut': cut,
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


def hang_row(hang: Event, record: RunRecord) -> dict[str, Any]:
    """Return the values of a hang, deadlock or spinning thread of a dead run.

    The evidence has the summary of those that lasted to its end.
    """
    return {
        'kind': event_kind(hang.kind).title,
        'summary': '' if hang.lasts else hang.summary,
        'started': clocktime(hang.started or None),
        'lasts': hang.lasts,
        'lasted': hang_words(hang, record),
    }


def _slow(group: list[Note]) -> dict[str, Any]:
    """Return the values of a slow request with its stack, or of several in the same place."""
    note = group[0]
    return _stack(note.frames, note.cut) | {
        'name': note.title,
        'times': f'{len(group)} times' if len(group) > 1 else '',
        'note': slow_words(group),
        'detail': note.detail,
    }


def _pieces(action: Action) -> list[dict[str, Any]]:
    return [{'text': piece.text, 'code': piece.is_code} for piece in action.pieces]


def why(record: RunRecord, issues: Sequence[KnownIssue]) -> dict[str, Any]:
    """Return why a run died: {cause, suspects, known_issues}."""
    return {
        'cause': _cause(record),
        'suspects': list(map(_suspect, record.suspects)),
        'known_issues': list(map(known_issue, issues)),
    }


def _cause(record: RunRecord) -> dict[str, Any]:
    """Return why the run died, for the top of the page: {death, first, none}."""
    death = record.death
    first = record.suspects[0] if record.suspects else None
    return {
        'death': causewords.death_words(death) if death else '',
        'first': _suspect(first) if first else None,
        'none': causewords.no_suspect(record),
    }


def _suspect(suspect: Suspect) -> dict[str, str]:
    return {
        'module': suspect.module,
        'name': causewords.suspect_name(suspect),
        'distribution': suspect.distribution,
        'version': suspect.version,
        'strength': suspect.strength,
        'why': suspect.why,
    }


def _core_state(record: RunRecord) -> str:
    """Return that a core file was found but not read yet, and how far this process has come."""
    words = causewords.unread_core(record)
    if not words:
        return ''
    from ..postmortem import corereading  # loaded only after a crash

    doing = corereading.progress()
    return f'{words} Now: {doing}. Load this page again to see it.' if doing else words


def _core(core: CoreFile) -> dict[str, Any]:
    """Return the values of a core file: {facts, gaps, threads}."""
    return {
        'facts': [{'label': label, 'value': words} for label, words in causewords.core_facts(core)],
        'gaps': causewords.core_gaps(core),
        'threads': list(map(_core_threads, causewords.core_threads(core))),
    }


def _core_threads(threads: Sequence[CoreThread]) -> dict[str, Any]:
    frames = causewords.merged_lines(threads[0].frames)
    return {
        'title': causewords.core_threads_title(threads),
        'crashed': threads[0].crashed,
        'top': frames[0].strip() if frames else 'no frames',
        'frames': frames,
    }


def _modules(record: RunRecord) -> list[str]:
    """Return the compiled modules, with their owners if the run noted them."""
    if record.shared_objects:
        return list(map(causewords.object_line, record.shared_objects))
    return list(record.compiled_modules)


def _native(frame: NativeFrame) -> str:
    line = f'{frame.binary} {frame.symbol}'
    if frame.offset is not None:
        line += f'+0x{frame.offset:x}'
    if frame.address is not None:
        line += f' [0x{frame.address:x}]'
    return line


def log_row(line: LogLine) -> dict[str, Any]:
    return {
        'time': clocktime(line.time or None),
        'level': line.level,
        'logger': line.logger,
        'message': f'{line.message} …' if line.cut else line.message,
        'repeated': '' if line.count < 2 else f'{line.count} times, last {clocktime(line.latest)}',
        'style': 'danger' if line.level in ('ERROR', 'CRITICAL') else 'warning',
    }


# -- drills ----------------------------------------------------------------------------------------


def _expected(drill: str) -> str:
    """Return what a drill is reported as, in words."""
    words = verdict(VERDICTS_OF_DRILLS[drill]).ending
    if drill in WITH_WITNESS:
        words += f'; if another process sees it: {verdict(WITH_WITNESS[drill]).ending}'
    return words


def _expected_here(life: ILivingRun, drill: drills.Drill) -> str:
    """Return what this site will report of a drill, with the reason; '' for the usual report."""
    expected = expectation(drill.id, life.context, life.fault_log is not None)
    return str(expected) if expected and expected.since else ''


def drill_page(life: ILivingRun, action: str) -> dict[str, Any]:
    rows = [
        {
            'id': drill.id,
            'title': drill.title,
            'what': drill.what,
            'button': drill.button,
            'verdict': _expected(drill.id),
            'here': _expected_here(life, drill),
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
