"""The tab "Checks": what its page shows, as plain values for the template, and what its forms do.

Nothing is asked inside a request: the first visit begins a run in the background, and shows how far
it is.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

from __future__ import annotations

import re
import time
from collections.abc import Callable
from collections.abc import Collection
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from AccessControl import getSecurityManager
from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from ZPublisher import zpublish

from ..checks import allfindings
from ..checks.knownissues import KnownIssues
from ..checks.muted import Hush
from ..checks.muted import HushRefused
from ..checks.runner import Progress
from ..checks.runner import Results
from ..inspection import recursionresult
from ..model.errors import StabilityError
from ..model.interfaces import ILivingRun
from ..model.records import Finding
from ..model.records import clocktime
from ..model.records import duration
from ..recording.arming import STATE
from ..store.archive import Archive
from ..store.rundirectory import KNOWN_ISSUES
from . import csrftoken
from .names import MANAGE
from .names import VIEW
from .zopechecks import standing_of
from .zopetypes import Request
from .zopetypes import Template

ACTION = 'checks'
#: severity: heading, icon; what is fine is shown elsewhere on the page.
GROUPS = {
    'critical': ('Critical', 'fa-times-circle'),
    'warning': ('Warnings', 'fa-exclamation-triangle'),
    'info': ('For information', 'fa-info-circle'),
}
_HUSH_DAYS, _MOST_HUSH_DAYS = 30, 366
_COUNTS = (
    ('critical', 'critical', 'critical'),
    ('warning', 'warning', 'warnings'),
    ('info', 'for information', 'for information'),
    ('ok', 'fine', 'fine'),
)
#: What is to be written or typed stands in quotation marks, or is a section of a file, or the whole
#: action.
_CODE = re.compile(
    r'"([^"]+)"|(<[^<>]+>|\[[^\[\]]+\])|(^(?:\S+ -m )?pip install [^(),]*[^(), ])|'
    r'(^[\w.-]+ [<>=]=? [\w.]+$)'
)


# -- what the page shows ---------------------------------------------------------------------------


def page(life: ILivingRun, may_manage: bool) -> dict[str, Any]:
    here = standing_of(life)
    if here.checks.results is None and not here.checks.error:
        here.start()
    # In this order: checks that end meanwhile are still busy, and the page asks again.
    progress, results, look = here.checks.progress, here.checks.results, here.look()
    rows = [_row(number, finding) for number, finding in enumerate(look.shown)]
    today = datetime.now(UTC).date()
    return {
        'fields': csrftoken.fields(life, ACTION) if may_manage else None,
        'run': _progress(here, progress, results),
        'counts': _counts(look),
        'groups': _groups(rows),
        'fine': [row for row in rows if row['severity'] == 'ok'],
        'hushed': _hushed(here, look),
        'known': _known(here, rows),
        'looks_up_known': here.looks_up_known,
        'probe': _probe(here),
        'today': today.isoformat(),
        'until': (today + timedelta(_HUSH_DAYS)).isoformat(),
        'latest': (today + timedelta(_MOST_HUSH_DAYS)).isoformat(),
    }


def _progress(
    here: allfindings.Standing, progress: Progress | None, results: Results | None
) -> dict[str, Any]:
    return {
        'busy': progress is not None,
        'percent': round(100 * progress.share) if progress else 0,
        'words': progress.words if progress else '',
        'error': here.checks.error,
        'last': results
        and {
            'when': clocktime(results.when),
            'ago': duration(max(0.0, time.time() - results.when)),
            'number': len(results.seconds),
            'took': f'{results.took:.2f} s',
        },
    }


def _counts(look: allfindings.Look) -> list[dict[str, Any]]:
    found = [finding.severity for finding in look.shown]
    counts: list[dict[str, Any]] = [
        {
            'severity': severity,
            'count': found.count(severity),
            'words': one if found.count(severity) == 1 else many,
        }
        for severity, one, many in _COUNTS
    ]
    return counts + [{'severity': 'hushed', 'count': len(look.hushed), 'words': 'hushed'}]


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups = [
        {
            'severity': severity,
            'heading': heading,
            'icon': icon,
            'findings': [row for row in rows if row['severity'] == severity],
        }
        for severity, (heading, icon) in GROUPS.items()
    ]
    return [group for group in groups if group['findings']]


def _row(number: int | str, finding: Finding) -> dict[str, Any]:
    return {
        'key': f'finding-{number}',
        'id': finding.id,
        'severity': finding.severity,
        'title': finding.title,
        'detail': finding.detail,
        'action': pieces(finding.action),
        'source': finding.source,
        'known': finding.id.startswith(KnownIssues.id + ':'),
    }


def pieces(action: str) -> list[dict[str, Any]]:
    """[{text, code}]: an action, with what is to be written or typed apart from the words around
    it.
    """
    found, at = [], 0
    for match in _CODE.finditer(action):
        found += [(action[at : match.start()], False), (match[match.lastindex or 0], True)]
        at = match.end()
    return [{'text': text, 'code': code} for text, code in [*found, (action[at:], False)] if text]


def _hushed(here: allfindings.Standing, look: allfindings.Look) -> list[dict[str, Any]]:
    """Every hush of this instance that still counts, also of what is not found at present."""
    hushed = here.hushed()
    found = {finding.id: finding for finding in look.shown} | {
        finding.id: finding for finding, _ in look.hushed
    }
    quiet = {finding.id for finding, _ in look.hushed}
    today = datetime.now(UTC).date().isoformat()
    rows = [
        hush
        for hush in hushed.rows()[0]
        if hush.instance in ('', hushed.instance) and hush.until >= today
    ]
    return [
        {
            'id': hush.id,
            'title': found[hush.id].title if hush.id in found else hush.id,
            'severity': found[hush.id].severity if hush.id in found else 'ok',
            'reason': hush.reason,
            'until': hush.until,
            'who': hush.who,
            'since': hush.since[:10],
            'note': _note(hush, found, quiet),
        }
        for hush in rows
    ]


def _note(hush: Hush, found: Collection[str], quiet: Collection[str]) -> str:
    if hush.id not in found:
        return 'It is not found at present.'
    return '' if hush.id in quiet else 'It is shown again: it has become worse, or is well.'


def _known(here: allfindings.Standing, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    facts = here.known()
    if facts is None:
        return None
    shown, prefix = {row['id']: row['key'] for row in rows}, KnownIssues.id + ':'
    return {
        'affected': [
            {
                'title': match.rule.title,
                'severity': match.rule.severity,
                'reasons': ', '.join(match.reasons),
                'key': shown.get(prefix + match.rule.id, ''),
            }
            for match in facts.affected
        ],
        'unaffected': [
            {
                'title': match.rule.title,
                'why': ', '.join(match.reasons).removeprefix('not affected: '),
            }
            for match in facts.unaffected
        ],
        'silences': [
            {'id': silence.id, 'reason': silence.reason, 'until': silence.until}
            for silence in facts.silences
        ],
        'problems': [problem.finding.title for problem in facts.problems],
        'count': facts.count,
        'file': str(here.life.path / KNOWN_ISSUES),
    }


def _probe(here: allfindings.Standing) -> dict[str, Any]:
    probe, result = here.probe, here.probed
    finding = recursionresult.finding(result) if result and not probe.running else None
    share, words = probe.progress
    return {
        'busy': probe.running,
        'percent': round(100 * share),
        'words': words,
        'error': probe.error if not finding else '',
        'finding': finding and _row('probe', finding),
        'took': f'{result.took:.1f} s' if result else '',
        'size': allfindings.stack_size(here.life) >> 10,
    }


# -- what its forms do -----------------------------------------------------------------------------


class NoSuchFinding(HushRefused):
    next_step = 'Look at the page as it is now.'


def run_again(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).start()  # where it cannot, the page says why
    return ''


def hush(life: ILivingRun, form: dict[str, Any]) -> str:
    """The finding of the form is hushed.  Raises HushRefused."""
    here, id, severity = standing_of(life), _word(form, 'id'), _word(form, 'severity')
    look = here.look()
    found = next((finding for finding in look.shown if finding.id == id), None)
    if found is None:
        raise NoSuchFinding('There is no such finding any more.')
    seen = severity if severity in Finding.SEVERITIES else found.severity
    who = getSecurityManager().getUser().getUserName()
    new = here.hushed(life.base.file_mode).hush(
        id, _word(form, 'reason'), _word(form, 'until'), who or '?', seen
    )
    return f'Hushed until {new.until}: {found.title}'


def show_again(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).hushed(life.base.file_mode).unhush(_word(form, 'id'))
    return ''


def start_probe(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).start_probe()
    return ''


def _word(form: dict[str, Any], name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ''


class CheckPages:
    """The part of the panel that is the tab "Checks"."""

    security = ClassSecurityInfo()

    # What the panel brings, see `controlpanel`.
    _checks: Template
    _page: Callable[[Template, Request, Callable[[ILivingRun, Archive], dict[str, Any]]], str]
    _refused: Callable[[Request, str, int], str]
    absolute_url: Callable[[], str]

    @security.protected(VIEW)
    @zpublish
    def manage_checks(self, REQUEST: Request) -> str:
        may_manage = bool(getSecurityManager().checkPermission(MANAGE, self))
        return self._page(self._checks, REQUEST, lambda life, archive: page(life, may_manage))

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_run_checks(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, run_again)

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_hush(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, hush)

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_show_again(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, show_again, '#hushed')

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_recursion_probe(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, start_probe, '#probe')

    def _do(
        self, request: Request, deed: Callable[[ILivingRun, dict[str, Any]], str], place: str = ''
    ) -> str | None:
        """Do what a form asks for, and go back to the page with what there is to say."""
        life, kind = STATE.life, 'success'
        if life is None:
            return self._refused(
                request, 'There are no checks: the stability monitor is not armed.', 503
            )
        try:
            csrftoken.check(request, life, ACTION)
            message = deed(life, request.form)
        except (StabilityError, OSError) as error:
            message, kind = str(error), 'warning'
        query = (
            '?' + urlencode({'manage_tabs_message': message, 'manage_tabs_type': kind})
            if message
            else ''
        )
        request.RESPONSE.redirect(f'{self.absolute_url()}/manage_checks{query}{place}')
        return None


InitializeClass(CheckPages)
