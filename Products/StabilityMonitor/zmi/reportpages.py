"""The tab "Report": what a report is about, who files it, what is in it, and where it goes.

A report never leaves by itself: a person copies it, downloads it, or opens the page of a tracker.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from AccessControl import getSecurityManager
from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from ZPublisher import zpublish

from ..knowledge import crashgroups
from ..model.errors import NoSuchSignature
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
from ..reporting.reportchoice import PARTS
from ..reporting.reportchoice import chosen
from ..reporting.secretvalues import PSEUDONYM
from ..reporting.signaturereport import about_signature
from ..reporting.signedpast import signed_past
from ..store.archive import Archive
from ..store.snapshotfiles import Snapshots
from . import addresses
from . import csrftoken
from . import plonesites
from . import reportform
from .forms import variable
from .names import MANAGE
from .names import VIEW
from .reportform import About
from .reportform import Wanted
from .zopetypes import Request
from .zopetypes import Template

#: At most this many incidents can be chosen from the list.
_CHOICES = 30
#: And so many signatures with more than one incident.
_SIGNATURES = 10
#: And so many snapshots.
_SNAPSHOTS = 10
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


def document(life: ILivingRun, archive: Archive, asked: Wanted, sites: SitesRead) -> Document:
    """Return the report that the form asks for, before anything is taken out.

    Raises NoSuchRun, NoSuchSnapshot or NoSuchSignature.
    """
    about = asked.about
    if about.kind == reportform.SNAPSHOT:
        whole = build_of_snapshot(life, archive, Snapshots(archive.base).record(about.name))
    elif about.kind == reportform.SIGNATURE:
        group = crashgroups.find(signed_past(archive).groups, about.name)
        if group is None:
            raise NoSuchSignature('There is no such signature in the archive.')
        whole = build(life, archive, run=group.runs[0].run, sites=sites, parts=READ_PARTS)
        whole = about_signature(whole, group)
    else:
        whole = build(life, archive, run=about.name or None, sites=sites, parts=READ_PARTS)
    return chosen(whole, asked.parts, asked.reporter)


def values(
    life: ILivingRun, archive: Archive, asked: Wanted, sites: SitesRead, may_manage: bool
) -> dict[str, Any]:
    """Return the values of the page; what was taken out only if the user `may_manage`.

    Raises NoSuchRun.
    """
    report = document(life, archive, asked, sites)
    copy, done = redacted(report, policy_of_life(life))
    suggested = _title(copy)
    title = asked.title or suggested
    shown = _AS_TEXT if asked.format in _NO_TEXT else asked.format
    return {
        'page': _page_of(asked.about),
        'choices': _choices(life, archive, asked),
        'reporter': vars(asked.reporter),
        'remembers': asked.remembers,
        'title_of_issue': title,
        'suggested': suggested,
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
        **_preview(copy, done, shown, may_manage),
    }


def _page_of(about: About) -> str:
    """Return the address of the page of what a report is about; '' for this process."""
    if about.kind == reportform.RUN:
        return addresses.of_run(about.name)
    if about.kind == reportform.SIGNATURE:
        return addresses.of_signature(about.name)
    return f'manage_snapshot?{about.query}' if about.name else ''


def _choices(life: ILivingRun, archive: Archive, asked: Wanted) -> list[dict[str, Any]]:
    """Return what a report may be about: this process, the newest incidents, and signatures."""
    labels = {About(): 'The current state of this process'}
    summaries = archive.summaries()
    incidents = [run for run in of_instance(summaries, life.instance) if run.is_incident]
    for run in incidents[:_CHOICES]:
        labels[About(reportform.RUN, run.run)] = _choice(run)
    repeated = [each for each in signed_past(archive, summaries).groups if each.count > 1]
    for group in repeated[:_SIGNATURES]:
        label = f'All {group.count} incidents of: {group.signature.title}'
        labels[About(reportform.SIGNATURE, group.id)] = label
    for snapshot in Snapshots(archive.base).summaries()[:_SNAPSHOTS]:
        label = f'{clocktime(snapshot.time)}: snapshot, {snapshot.summary}'
        labels[About(reportform.SNAPSHOT, snapshot.id)] = label
    # What is asked for may be older, or of another instance.
    labels.setdefault(asked.about, f'The {asked.about.kind} {asked.about.name}')
    return [
        {'id': about.value, 'label': label, 'on': about == asked.about}
        for about, label in labels.items()
    ]


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
    """Return the tracker, why it is this one, the whole text of a new issue, and the address that
    opens it there with as much of that text as fits.
    """
    incident = report.get('incident') or {}
    suspects = items_from_json(Suspect, incident.get('suspects'))
    found = trackers.tracker_of(life.options.tracker_url, suspects)
    problem = reportform.lacking(asked.reporter)
    text = '' if problem else _content(copy, reportform.FOR_TRACKERS)
    return {
        'tracker': found.address,
        'why': found.why,
        'problem': problem,
        'text': text,
        'new': trackers.new_issue(found, title, text) if text else '',
    }


def _paid_support(life: ILivingRun) -> dict[str, str] | None:
    """Return who is paid to help, and how to reach them; None if the site has not said so."""
    name = life.options.paid_support_name
    contact = life.options.paid_support_contact
    if not name and not contact:
        return None
    link = ''
    if reportform.EMAIL.fullmatch(contact):
        link = f'mailto:{contact}'
    elif contact.startswith(('https://', 'http://')):
        link = contact
    return {'name': name or contact, 'contact': contact, 'link': link}


def _content(copy: Document, format: str) -> str:
    _, _, content = render(copy, format if format in FORMATS else _AS_TEXT)
    return content.decode('utf-8', 'replace')


def _preview(
    copy: Document, done: Redactions, format: str, shows_originals: bool
) -> dict[str, Any]:
    """Return the text of a report as it leaves, beside what was taken out of it.

    {pieces [{text, is_marked, original}], taken [{pseudonym, original, what}], counts, off}:
    `original` is what a pseudonym stands for, '' for other text and if it is not shown.
    """
    originals = done.originals()
    shown = originals if shows_originals else {}
    text = _content(copy, format)
    pieces = [
        {'text': part, 'is_marked': part in originals, 'original': shown.get(part, '')}
        for part in re.split(rf'\b({PSEUDONYM.pattern})\b', text)
        if part
    ]
    counts = copy[KEY]['values']
    return {
        'pieces': pieces,
        'length': f'{len(text):,} characters',
        'taken': list(_taken(done, shown)),
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

        What was taken out, as a password in zope.conf, is shown to those who may manage only.
        """

        may_manage = bool(getSecurityManager().checkPermission(MANAGE, self))

        def shown(life: ILivingRun, archive: Archive) -> dict[str, Any]:
            asked = reportform.wanted(life, REQUEST)
            self._keep_reporter(REQUEST, asked)
            return values(life, archive, asked, self._sites(life), may_manage)

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
            asked = reportform.wanted(life, REQUEST)
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
            reportform.remember(request, asked, self.absolute_url_path())

    def _sites(self, life: ILivingRun) -> SitesRead:
        return plonesites.read(self.getPhysicalRoot(), life)


InitializeClass(ReportPages)
