"""The tab "Checks": the values that its page shows, and the actions of its forms.

No check runs inside a request: the first visit starts a run in the background, and the page shows
its progress.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from typing import Any

from AccessControl import getSecurityManager
from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from ZPublisher import zpublish

from ..checks import allfindings
from ..checks.muted import MuteRefused
from ..checks.runner import Progress
from ..checks.runner import Results
from ..inspection import recursionresult
from ..model.action import Action
from ..model.counts import counted
from ..model.counts import plural
from ..model.errors import StabilityError
from ..model.finding import Finding
from ..model.interfaces import ILivingRun
from ..model.records import clocktime
from ..model.records import duration
from ..model.severities import OK
from ..model.severities import SEVERITIES
from ..model.severities import WORST_FIRST
from ..recording.arming import STATE
from ..store.archive import Archive
from ..store.rundirectory import KNOWN_ISSUES
from . import csrftoken
from .forms import message_query
from .forms import variable
from .names import MANAGE
from .names import VIEW
from .zopechecks import standing_of
from .zopetypes import Request
from .zopetypes import Template

ACTION = 'checks'
#: Days that a finding is muted: the date proposed in the form, and the latest date allowed.
_MUTE_DAYS = 30
_MOST_MUTE_DAYS = 366
#: A finding, and the values of its row on the page.
_Shown = tuple[Finding, dict[str, Any]]


# -- what the page shows ---------------------------------------------------------------------------


def page(life: ILivingRun, may_manage: bool) -> dict[str, Any]:
    """Return the values for `www/checks.pt`.  The first call starts a run of the checks."""
    standing = standing_of(life)
    if standing.checks.results is None and not standing.checks.error:
        standing.start()
    # The progress is read before the results.  When the checks end between the two, the page still
    # says "busy", and its script asks again.
    progress = standing.checks.progress
    results = standing.checks.results
    look = standing.look()
    shown = [(finding, _row(number, finding)) for number, finding in enumerate(look.shown)]
    standing.look_up_known()
    looks_up_known = standing.known_issues.running  # read before its result, for the same reason
    today = datetime.now(UTC).date()
    muted = _muted(standing, look)
    return {
        'fields': csrftoken.fields(life, ACTION) if may_manage else None,
        'run': _progress(standing, progress, results, look),
        'counts': _counts(look),
        'groups': _groups(shown),
        'fine': [row for finding, row in shown if finding.severity == OK],
        'muted': muted,
        'muted_words': _muted_words(muted),
        'known': _known(standing, shown),
        'looks_up_known': looks_up_known,
        'probe': _probe(standing),
        'today': today.isoformat(),
        'until': (today + timedelta(_MUTE_DAYS)).isoformat(),
        'latest': (today + timedelta(_MOST_MUTE_DAYS)).isoformat(),
    }


def _progress(
    standing: allfindings.Standing,
    progress: Progress | None,
    results: Results | None,
    look: allfindings.Look,
) -> dict[str, Any]:
    """Return the progress of the current run of the checks, when the last run was, and where all
    findings come from.
    """
    last = None
    if results is not None:
        answers = len(results.findings)
        others = len(look.shown) + len(look.muted) - answers
        last = {
            'answers': counted(answers, 'answer'),
            'others': counted(others, 'more comes', 'more come') if others > 0 else '',
            'when': clocktime(results.when),
            'ago': duration(standing.checks.seconds_ago),
            'checks': counted(len(results.seconds), 'check'),
            'took': f'{results.took:.2f} s',
        }
    return {
        'busy': progress is not None,
        'percent': round(100 * progress.share) if progress else 0,
        'words': progress.words if progress else '',
        'error': standing.checks.error,
        'last': last,
    }


def _counts(look: allfindings.Look) -> list[dict[str, Any]]:
    found = Counter(finding.severity for finding in look.shown)
    counts: list[dict[str, Any]] = []
    for severity in WORST_FIRST:
        count = found[severity]
        words = plural(count, severity.one, severity.many)
        counts.append({'severity': severity.code, 'count': count, 'words': words})
    counts.append({'severity': 'muted', 'count': len(look.muted), 'words': 'muted'})
    return counts


def _groups(shown: list[_Shown]) -> list[dict[str, Any]]:
    """Group the findings by severity, the worst first.  Empty groups are left out."""
    groups = []
    for severity in WORST_FIRST:
        found = [row for finding, row in shown if finding.severity == severity]
        if found and severity != OK:  # fine findings have their own list on the page
            groups.append(
                {
                    'severity': severity.code,
                    'heading': severity.heading,
                    'icon': severity.icon,
                    'findings': found,
                }
            )
    return groups


def _row(number: int | str, finding: Finding) -> dict[str, Any]:
    return {
        'key': f'finding-{number}',
        'id': finding.id,
        'severity': finding.severity.code,
        'title': finding.title,
        'detail': finding.detail,
        'action': pieces(finding.action),
        'source': finding.source,
        'known': bool(finding.issue),
    }


def pieces(action: Action) -> list[dict[str, Any]]:
    """Return an action as [{text, code}]; text that is code has no quotation marks."""
    return [{'text': piece.text, 'code': piece.is_code} for piece in action.pieces]


def _muted(standing: allfindings.Standing, look: allfindings.Look) -> list[dict[str, Any]]:
    """Return the mutes of this instance that are in force, also those without a finding now."""
    muted = {finding.id: finding for finding, _ in look.muted}
    found = {finding.id: finding for finding in look.shown} | muted
    today = datetime.now(UTC).date().isoformat()
    mutes = standing.mute_list()
    kept, _ = mutes.rows()
    rows: list[dict[str, Any]] = []
    for mute in kept:
        if mute.instance not in ('', mutes.instance) or mute.until < today:
            continue
        finding = found.get(mute.id)
        if finding is None:
            note = 'The last run of the checks did not find it.'
        elif mute.id in muted:
            note = ''
        else:
            note = 'It is shown again: it became worse, or is fine now.'
        badge = ''
        if finding and finding.severity != OK:
            badge = finding.severity.code
        rows.append(
            {
                'id': mute.id,
                'title': finding.title if finding else mute.id,
                'badge': badge,
                'reason': mute.reason,
                'until': mute.until,
                'who': mute.who,
                'since': mute.since[:10],
                'note': note,
            }
        )
    return sorted(rows, key=lambda row: bool(row['note']))


def _muted_words(rows: list[dict[str, Any]]) -> str:
    """Return how many findings the rows of `_muted` hide, and how many rows hide nothing now."""
    idle = sum(1 for row in rows if row['note'])
    words = counted(len(rows) - idle, 'finding')
    if idle:
        words += f', and {counted(idle, "mute that hides", "mutes that hide")} nothing now'
    return words


def _known(standing: allfindings.Standing, shown: list[_Shown]) -> dict[str, Any] | None:
    """Return the known issues of this process, each with the key of its finding on the page.

    None if they have not been looked up yet.
    """
    facts = standing.known_issues.result
    if facts is None:
        return None
    keys = {finding.issue: row['key'] for finding, row in shown}
    return {
        'affected': [
            {
                'title': match.rule.title,
                'severity': match.rule.severity.code,
                'alert': match.rule.severity.alert,
                'reasons': ', '.join(match.reasons),
                'key': keys.get(match.rule.id, ''),
            }
            for match in facts.affected
        ],
        'unaffected': [
            {'title': match.rule.title, 'why': match.failed} for match in facts.unaffected
        ],
        'muted': [
            {'id': mute.id, 'reason': mute.reason, 'until': mute.until} for mute in facts.muted
        ],
        'problems': [problem.finding.title for problem in facts.problems],
        'count': facts.count,
        'of_incidents': counted(
            facts.count - len(facts.affected) - len(facts.unaffected),
            'more matches incidents only and is',
            'more match incidents only and are',
        ),
        'file': str(standing.life.path / KNOWN_ISSUES),
    }


def _probe(standing: allfindings.Standing) -> dict[str, Any]:
    """Return the progress of the recursion probe, and its last result."""
    probe = standing.probe
    progress = probe.progress
    result = standing.probed
    finding = None
    if result and progress is None:
        finding = _row('probe', recursionresult.finding(result))
    share, words = progress or (0.0, '')
    return {
        'busy': progress is not None,
        'percent': round(100 * share),
        'words': words,
        'error': '' if finding else probe.error,
        'finding': finding,
        'took': f'{result.took:.1f} s' if result else '',
        'size': allfindings.stack_size(standing.life) >> 10,
    }


# -- what its forms do -----------------------------------------------------------------------------


class NoSuchFinding(MuteRefused):
    next_step = 'The page shows the current findings.'


def _shown_finding(standing: allfindings.Standing, id: str) -> Finding:
    """Return the finding with this id that is not muted.  Raises NoSuchFinding."""
    for finding in standing.look().shown:
        if finding.id == id:
            return finding
    raise NoSuchFinding('This finding no longer exists.')


def run_again(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).start()  # if this fails, the page shows the reason
    return ''


def mute(life: ILivingRun, form: dict[str, Any]) -> str:
    """Mute the finding that the form names.  Raises MuteRefused."""
    standing = standing_of(life)
    found = _shown_finding(standing, variable(form, 'id'))
    severity = variable(form, 'severity')  # the severity that the user saw
    if severity not in SEVERITIES:
        severity = found.severity.code
    user = getSecurityManager().getUser()
    mutes = standing.mute_list(life.base.file_mode)
    new = mutes.mute(
        found.id,
        reason=variable(form, 'reason'),
        until=variable(form, 'until'),
        who=user.getUserName() or '?',
        severity=severity,
    )
    return f'Muted until {new.until}: {found.title}'


def show_again(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).mute_list(life.base.file_mode).unmute(variable(form, 'id'))
    return ''


def start_probe(life: ILivingRun, form: dict[str, Any]) -> str:
    standing_of(life).start_probe()
    return ''


class CheckPages:
    """The methods of the panel for the tab "Checks"."""

    security = ClassSecurityInfo()

    # The panel provides these, see `controlpanel`.
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
    def manage_mute(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, mute)

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_show_again(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, show_again, '#muted')

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_recursion_probe(self, REQUEST: Request) -> str | None:
        return self._do(REQUEST, start_probe, '#probe')

    def _do(
        self,
        request: Request,
        action: Callable[[ILivingRun, dict[str, Any]], str],
        anchor: str = '',
    ) -> str | None:
        """Check the token, do what the form asks for, and redirect to the page with a message."""
        life = STATE.life
        if life is None:
            return self._refused(
                request, 'No checks are available: the stability monitor did not start.', 503
            )
        try:
            csrftoken.check(request, life, ACTION)
            message = action(life, request.form)
            kind = 'success'
        except (StabilityError, OSError) as error:
            message = str(error)
            kind = 'warning'
        query = message_query(message, kind)
        request.RESPONSE.redirect(f'{self.absolute_url()}/manage_checks{query}{anchor}')
        return None


InitializeClass(CheckPages)
