"""The tab "Report": what a report is about, who files it, what is in it, and where it goes.

A report never leaves by itself: a person copies it, downloads it, or opens the page of a tracker.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from urllib.parse import unquote
from urllib.parse import urlencode

from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from ZPublisher import zpublish

from ..model.errors import NoSuchRun
from ..model.errors import NoSuchSnapshot
from ..model.errors import StabilityError
from ..model.interfaces import ILivingRun
from ..model.jsonform import items_from_json
from ..model.records import clocktime
from ..model.runrecord import RunRecord
from ..model.secretclasses import CLASSES
from ..model.siteparts import SitesRead
from ..model.suspects import Suspect
from ..model.verdicts import verdict
from ..postmortem.runhistory import of_instance
from ..recording.arming import STATE
from ..reporting import trackers
from ..reporting.fromdisk import Document
from ..reporting.parts import PARTS as READ_PARTS
from ..reporting.redaction import KEY
from ..reporting.redaction import Redactions
from ..reporting.redaction import policy_of_life
from ..reporting.redaction import redacted
from ..reporting.renderers import FORMATS
from ..reporting.renderers import render
from ..reporting.report import build
from ..reporting.report import build_of_snapshot
from ..reporting.reportchoice import MOST_NAME
from ..reporting.reportchoice import MOST_TEXT
from ..reporting.reportchoice import PARTS
from ..reporting.reportchoice import Reporter
from ..reporting.reportchoice import chosen
from ..reporting.secretvalues import PSEUDONYM
from ..store.archive import Archive
from ..store.rundirectory import RUN_NAME
from ..store.snapshotfiles import Snapshots
from . import csrftoken
from . import plonesites
from .addresses import of_run as address
from .forms import variable
from .names import VIEW
from .zopetypes import Request
from .zopetypes import Template

#: The cookie that holds name and e-mail address in the browser of the person, and its age in s.
_COOKIE = 'stabilitymonitor_reporter'
_COOKIE_AGE = 365 * 24 * 3600
_MOST_COOKIE = 2000  # characters
#: At most this many incidents can be chosen from the list.
_CHOICES = 30
_STATE = 'state'
#: What begins the value of a choice that is a snapshot.
_SNAPSHOT = 'snapshot:'
#: The format of what is opened in a tracker, and in the clipboard.
_FOR_TRACKERS = 'markdown'
#: The preview of a format that is no text shows this one.
_AS_TEXT = 'text'
_NO_TEXT = ('html', 'zip')
_LABELS = {
    'text': 'Text',
    'markdown': 'Markdown',
    'json': 'JSON, for programs',
    'html': 'HTML, one file with pictures',
    'zip': 'ZIP with everything',
}
_EMAIL = re.compile(r'[^@\s]+@[^@\s]+')
#: Marks which fields were sent: a box that is not checked is not sent at all.
_SENT = 'sent'


@dataclass(frozen=True)
class Wanted:
    """What the form asks for.  `run` and `snapshot` are '' for a report about this process."""

    run: str
    snapshot: str
    reporter: Reporter
    parts: tuple[str, ...]
    format: str
    title: str
    remembers: bool


def wanted(life: ILivingRun, request: Request) -> Wanted:
    """Return what a form or an address asks for.  Raises NoSuchRun for what is no name of a run."""
    form = request.form
    is_sent = bool(variable(form, _SENT))
    known = _remembered(request)
    name, email = life.options.support_name, life.options.support_contact
    reporter = Reporter(
        name=_line(form, 'name') if is_sent else known.get('name') or name,
        email=_line(form, 'email') if is_sent else known.get('email') or email,
        did=_text(form, 'did'),
        expected=_text(form, 'expected'),
    )
    format = variable(form, 'format')
    run, snapshot = _about(form)
    return Wanted(
        run=run,
        snapshot=snapshot,
        reporter=reporter,
        parts=_parts(form) if is_sent else tuple(PARTS),
        format=format if format in FORMATS else _FOR_TRACKERS,
        title=_line(form, 'title'),
        remembers=bool(variable(form, 'remember')) if is_sent else bool(known),
    )


def _about(form: dict[str, Any]) -> tuple[str, str]:
    """Return the names of the run and of the snapshot, of which at most one is not empty."""
    given = form.get('about') or form.get('run') or _STATE
    snapshot = form.get('snapshot')
    if isinstance(given, str) and given.startswith(_SNAPSHOT):
        snapshot = given.removeprefix(_SNAPSHOT)
    elif form.get('about'):
        snapshot = None
    if snapshot:
        return '', _named(snapshot, NoSuchSnapshot('This is not the name of a snapshot.'))
    if given == _STATE:
        return '', ''
    return _named(given, NoSuchRun('This is not the name of a run.')), ''


def _named(given: object, otherwise: NoSuchRun) -> str:
    if not isinstance(given, str) or not RUN_NAME.fullmatch(given):
        raise otherwise
    return given


def _line(form: dict[str, Any], name: str) -> str:
    return ' '.join(variable(form, name).split())[:MOST_NAME]


def _text(form: dict[str, Any], name: str) -> str:
    return variable(form, name).replace('\r\n', '\n').strip()[:MOST_TEXT]


def _parts(form: dict[str, Any]) -> tuple[str, ...]:
    value = form.get('parts')
    names = [value] if isinstance(value, str) else value
    return tuple(name for name in PARTS if isinstance(names, list) and name in names)


# -- who files it ----------------------------------------------------------------------------------


def _remembered(request: Request) -> dict[str, str]:
    """Return {name, email} as this browser remembers them; {} if it does not."""
    value = request.cookies.get(_COOKIE)
    if not isinstance(value, str) or len(value) > _MOST_COOKIE:
        return {}
    try:
        known = json.loads(unquote(value))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: _line(known, key) for key in ('name', 'email')}


def _remember(request: Request, asked: Wanted, path: str) -> None:
    """Let the browser keep or forget name and e-mail address."""
    response = request.RESPONSE
    if asked.remembers:
        value = quote(json.dumps({'name': asked.reporter.name, 'email': asked.reporter.email}))
        if len(value) <= _MOST_COOKIE:
            response.setCookie(
                _COOKIE, value, path=path, max_age=_COOKIE_AGE, http_only=True, same_site='Strict'
            )
    elif request.cookies.get(_COOKIE):
        response.expireCookie(_COOKIE, path=path)


def _lacking(reporter: Reporter) -> str:
    """Return what a tracker needs to know, in a sentence; '' if nothing is missing."""
    if not reporter.name or not reporter.email:
        return (
            'Enter your name and your e-mail address first. They are only written into the report.'
        )
    if not _EMAIL.fullmatch(reporter.email):
        return f'"{reporter.email}" is not an e-mail address.'
    return ''


# -- the report ------------------------------------------------------------------------------------


def document(life: ILivingRun, archive: Archive, asked: Wanted, sites: SitesRead) -> Document:
    """Return the report that the form asks for, before anything is taken out.  Raises NoSuchRun."""
    if asked.snapshot:
        record = Snapshots(archive.base).record(asked.snapshot)
        return chosen(build_of_snapshot(life, archive, record), asked.parts, asked.reporter)
    whole = build(life, archive, run=asked.run or None, sites=sites, parts=READ_PARTS)
    return chosen(whole, asked.parts, asked.reporter)


def values(life: ILivingRun, archive: Archive, asked: Wanted, sites: SitesRead) -> dict[str, Any]:
    """Return the values of the page.  Raises NoSuchRun."""
    report = document(life, archive, asked, sites)
    copy, done = redacted(report, policy_of_life(life))
    title = asked.title or _title(copy)
    shown = _AS_TEXT if asked.format in _NO_TEXT else asked.format
    return {
        'run': asked.run,
        'incident': address(asked.run) if asked.run else '',
        'choices': _choices(life, archive, asked),
        'reporter': vars(asked.reporter),
        'remembers': asked.remembers,
        'title_of_issue': title,
        'parts': [
            {'id': part.id, 'label': part.label, 'on': part.id in asked.parts}
            for part in PARTS.values()
        ],
        'formats': [
            {'id': name, 'label': _LABELS.get(name, name), 'on': name == asked.format}
            for name in FORMATS
        ],
        'is_text': asked.format not in _NO_TEXT,
        'tracker': _tracker(life, report, copy, title, asked),
        'paid': _paid_support(life),
        'address': report_address(asked),
        **_preview(copy, done, shown),
    }


def _choices(life: ILivingRun, archive: Archive, asked: Wanted) -> list[dict[str, Any]]:
    """Return what a report may be about: this process, and the newest incidents."""
    is_state = not (asked.run or asked.snapshot)
    rows = [{'id': _STATE, 'label': 'The current state of this process', 'on': is_state}]
    if asked.snapshot:
        label = f'The snapshot {asked.snapshot}'
        rows.append({'id': f'{_SNAPSHOT}{asked.snapshot}', 'label': label, 'on': True})
    incidents = [run for run in of_instance(archive.summaries(), life.instance) if run.is_incident]
    for run in incidents[:_CHOICES]:
        rows.append({'id': run.run, 'label': _choice(run), 'on': run.run == asked.run})
    if not any(row['on'] for row in rows):  # an older one, or one of another instance
        rows.append({'id': asked.run, 'label': f'The run {asked.run}', 'on': True})
    return rows


def _choice(run: RunRecord) -> str:
    return f'{clocktime(run.ended)}: it {verdict(run.verdict).ending}'


def _title(report: Document) -> str:
    """Return a title for the issue: what happened, and where."""
    incident = report.get('incident')
    if not incident:
        snapshot = report.get('snapshot') or {}
        summary = str(snapshot.get('summary') or '')
        return f'Zope: {summary}' if summary else 'Zope: a question about its stability'
    what = f'Zope {verdict(incident["verdict"]).ending}'
    where = str(incident.get('signature') or '').rpartition(' ')[0]
    return f'{what}: {where}' if where else what


def _tracker(
    life: ILivingRun, report: Document, copy: Document, title: str, asked: Wanted
) -> dict[str, str]:
    """Return the tracker, why it is this one, and the address that opens a new issue there."""
    incident = report.get('incident') or {}
    suspects = items_from_json(Suspect, incident.get('suspects'))
    found = trackers.tracker_of(life.options.tracker_url, suspects)
    problem = _lacking(asked.reporter)
    return {
        'tracker': found.address,
        'why': found.why,
        'problem': problem,
        'new': '' if problem else trackers.new_issue(found, title, _content(copy, _FOR_TRACKERS)),
    }


def _paid_support(life: ILivingRun) -> dict[str, str] | None:
    """Return who is paid to help, and how to reach them; None if the site has not said so."""
    name = life.options.paid_support_name
    contact = life.options.paid_support_contact
    if not name and not contact:
        return None
    link = ''
    if _EMAIL.fullmatch(contact):
        link = f'mailto:{contact}'
    elif contact.startswith(('https://', 'http://')):
        link = contact
    return {'name': name or contact, 'contact': contact, 'link': link}


def report_address(asked: Wanted) -> str:
    about = {'run': asked.run, 'snapshot': asked.snapshot}
    return 'report?' + urlencode({key: name for key, name in about.items() if name})


def _content(copy: Document, format: str) -> str:
    _, _, content = render(copy, format if format in FORMATS else _AS_TEXT)
    return content.decode('utf-8', 'replace')


def _preview(copy: Document, done: Redactions, format: str) -> dict[str, Any]:
    """Return the text of a report as it leaves, beside what was taken out of it.

    {pieces [{text, original}], taken [{pseudonym, original, what}], counts, off}: `original` is
    what a pseudonym stands for, '' for other text.
    """
    originals = done.originals()
    text = _content(copy, format)
    pieces = [
        {'text': part, 'original': originals.get(part, '')}
        for part in re.split(rf'\b({PSEUDONYM.pattern})\b', text)
        if part
    ]
    counts = copy[KEY]['values']
    return {
        'pieces': pieces,
        'length': f'{len(text):,} characters',
        'taken': list(_taken(done, originals)),
        'counts': [f'{CLASSES.get(name, name)}: {count}' for name, count in counts.items()],
        'off': [CLASSES[name] for name in copy[KEY]['off']],
    }


def _taken(done: Redactions, originals: dict[str, str]) -> Iterator[dict[str, str]]:
    for pseudonym, value in originals.items():
        what = CLASSES.get(done.classes[pseudonym], 'what "redact-pattern" matches')
        yield {'pseudonym': pseudonym, 'original': value, 'what': what}


class ReportPages:
    """The pages of the tab; a part of `controlpanel.StabilityMonitor`."""

    security = ClassSecurityInfo()

    _report: Template
    _page: Callable[[Template, Request, Callable[[ILivingRun, Archive], dict[str, Any]]], str]
    _refused: Callable[[Request, str, int], str]
    _download: Callable[[Request, str, str | bytes, str], str | bytes]
    absolute_url_path: Callable[[], str]
    getPhysicalRoot: Callable[[], Any]

    @security.protected(VIEW)
    @zpublish
    def manage_report(self, REQUEST: Request) -> str:
        """Show the report about the archived `run` or the `snapshot`, or else about this process,
        and the form.
        """

        def shown(life: ILivingRun, archive: Archive) -> dict[str, Any]:
            asked = wanted(life, REQUEST)
            self._keep_reporter(REQUEST, asked)
            return values(life, archive, asked, self._sites(life))

        return self._page(self._report, REQUEST, shown)

    @security.protected(VIEW)
    @zpublish
    def report(self, REQUEST: Request) -> str | bytes:
        """Return the report as a download.

        `format` is one of `renderers.FORMATS`.  `run` names an archived run, `snapshot` a snapshot;
        without them the report is about this process.
        """
        life = STATE.life
        if life is None:
            return self._refused(
                REQUEST, 'No report is available: the stability monitor did not start.', 503
            )
        try:
            asked = wanted(life, REQUEST)
            self._keep_reporter(REQUEST, asked)
            whole = document(life, Archive(life.base), asked, self._sites(life))
            format = variable(REQUEST.form, 'format') or next(iter(FORMATS))
            name, content_type, content = render(whole, format, policy_of_life(life))
        except StabilityError as error:
            return self._refused(REQUEST, str(error), 404)
        return self._download(REQUEST, name, content, content_type)

    def _keep_reporter(self, request: Request, asked: Wanted) -> None:
        if request.get('REQUEST_METHOD') == 'POST':
            csrftoken.refuse_cross_site(request)
            _remember(request, asked, self.absolute_url_path())

    def _sites(self, life: ILivingRun) -> SitesRead:
        return plonesites.read(self.getPhysicalRoot(), life)


InitializeClass(ReportPages)
