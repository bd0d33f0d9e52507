"""The tab "Stability" of the Control Panel: pages, downloads and drills.

The values of the pages come from `pages`, `checkpages`, `incidenttable`,
`signaturepages` and `threadpages`.  The
panel is never stored in the database: it is a class attribute of the Control Panel, see `tab`.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from AccessControl import getSecurityManager
from AccessControl.class_init import InitializeClass
from AccessControl.SecurityInfo import ClassSecurityInfo
from Acquisition import Implicit
from Acquisition import aq_parent
from ComputedAttribute import ComputedAttribute
from OFS.SimpleItem import Item
from ZPublisher import zpublish

from Products.PageTemplates.Expressions import getTrustedEngine
from Products.PageTemplates.PageTemplateFile import PageTemplateFile

from ..model.errors import NoSuchRun
from ..model.errors import NoSuchSignature
from ..model.errors import NoSuchSnapshot
from ..model.errors import StabilityError
from ..model.interfaces import ILivingRun
from ..recording.arming import STATE
from ..reporting import runtrace
from ..reporting.redaction import policy_of_life
from ..reporting.tracetext import as_text
from ..store.archive import Archive
from ..store.rundirectory import RUN_NAME
from . import acknowledging
from . import checkpages
from . import contentpolicy
from . import csrftoken
from . import drills
from . import incidenttable
from . import pages
from . import reportpages
from . import signaturepages
from . import snapshotpages
from . import tablequery
from . import threadpages
from .forms import message_query
from .forms import variable
from .names import ID
from .names import LABEL
from .names import MANAGE
from .names import VIEW
from .zopetypes import Request
from .zopetypes import Template

STYLES = '++resource++stabilitymonitor/stability.css'
_WWW = str(Path(__file__).parent.parent / 'www')
_DRILL = 'drill'
_TEXT = 'text/plain; charset=utf-8'
_CHOOSE_A_SIGNATURE = 'Choose one from the list of incidents by signature.'
_CHOOSE_A_RUN = 'Choose a run from the list of incidents.'


class Page(PageTemplateFile):
    """A template in `www`.  It runs without security checks, as all code of this product does."""

    def __init__(self, name: str) -> None:
        super().__init__(f'{name}.pt', _WWW)

    def pt_getEngine(self) -> object:
        return getTrustedEngine()


class StabilityMonitor(checkpages.CheckPages, reportpages.ReportPages, Item, Implicit):
    id = ID
    title = LABEL
    meta_type = 'Stability Monitor'
    zmi_icon = 'fas fa-heartbeat'
    zmi_show_add_dialog = False

    security = ClassSecurityInfo()
    security.declareObjectProtected(VIEW)

    manage_options = (
        {'label': 'Control Panel', 'action': '../manage_main'},
        {'label': LABEL, 'action': 'manage_main'},
        {'label': 'Threads', 'action': 'manage_threads'},
        {'label': 'Checks', 'action': 'manage_checks'},
        {'label': 'Incidents', 'action': 'manage_incidents'},
        {'label': 'Report', 'action': 'manage_report'},
        {'label': 'Drills', 'action': 'manage_drills'},
    )
    zmi_additional_css_paths = ComputedAttribute(
        lambda self: (f'{self.REQUEST["BASEPATH1"]}/{STYLES}',), 1
    )

    _overview = Page('overview')
    _threads = Page('threads')
    _threads_fragment = Page('threadsfragment')
    _checks = Page('checks')
    _incidents = Page('incidents')
    _incident = Page('incident')
    _signatures = Page('signatures')
    _signature = Page('signature')
    _snapshot = Page('snapshot')
    _report = Page('report')
    _drills = Page('drills')
    _message = Page('message')
    #: Macros that several pages use.
    _pieces = Page('pieces')
    _thread_pieces = Page('threadpieces')
    #: The label of the active tab, by the template of the page.
    _labels = {
        'threads': 'Threads',
        'checks': 'Checks',
        'incidents': 'Incidents',
        'incident': 'Incidents',
        'signatures': 'Incidents',
        'signature': 'Incidents',
        'snapshot': 'Incidents',
        'report': 'Report',
        'drills': 'Drills',
    }

    # -- pages -------------------------------------------------------------------------------------

    @security.protected(VIEW)
    @zpublish
    def manage_main(self, REQUEST: Request) -> str:
        may_manage = _may_manage(self)
        return self._page(
            self._overview,
            REQUEST,
            lambda life, archive: (
                pages.overview(life, archive, may_manage) | snapshotpages.form(life, may_manage)
            ),
        )

    @security.protected(VIEW)
    @zpublish
    def manage_workspace(self, REQUEST: Request) -> None:
        REQUEST.RESPONSE.redirect(f'{self.absolute_url()}/manage_main')

    @security.protected(VIEW)
    @zpublish
    def manage_incidents(self, REQUEST: Request) -> str:
        """Show past runs; with `by=signature` the incidents that are the same fault."""
        if variable(REQUEST.form, 'by') == tablequery.SIGNATURES:
            return self._page(
                self._signatures,
                REQUEST,
                lambda life, archive: signaturepages.table(life, archive, REQUEST.form),
            )

        def values(life: ILivingRun, archive: Archive) -> dict[str, Any]:
            shown = incidenttable.table(life, archive, REQUEST.form)
            return shown | snapshotpages.listed(life, shown['all_instances'])

        return self._page(self._incidents, REQUEST, values)

    @security.protected(VIEW)
    @zpublish
    def manage_signature(self, REQUEST: Request) -> str:
        """Show the incidents of the signature `id`, and what they have in common."""
        return self._page(
            self._signature,
            REQUEST,
            lambda life, archive: signaturepages.signature(archive, REQUEST.form),
        )

    @security.protected(VIEW)
    @zpublish
    def manage_incident(self, REQUEST: Request) -> str:
        may_manage = _may_manage(self)
        return self._page(
            self._incident,
            REQUEST,
            lambda life, archive: pages.incident(life, archive, _run(REQUEST), may_manage),
        )

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_acknowledge(self, REQUEST: Request) -> str | None:
        """Acknowledge incidents, and redirect to the overview."""
        life = STATE.life
        if life is None:
            return self._refused(
                REQUEST, 'No incidents are available: the stability monitor did not start.', 503
            )
        who = getSecurityManager().getUser().getUserName() or '?'
        try:
            csrftoken.check(REQUEST, life, acknowledging.ACTION)
            message = acknowledging.acknowledge(life, Archive(life.base), REQUEST.form, who)
            kind = 'success'
        except (StabilityError, OSError) as error:
            message = str(error)
            kind = 'warning'
        query = message_query(message, kind)
        REQUEST.RESPONSE.redirect(f'{self.absolute_url()}/manage_main{query}')
        return None

    @security.protected(VIEW)
    @zpublish
    def manage_snapshot(self, REQUEST: Request) -> str:
        """Show the snapshot of that name."""
        return self._page(
            self._snapshot,
            REQUEST,
            lambda life, archive: snapshotpages.snapshot(life, _named_snapshot(REQUEST)),
        )

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_keep_snapshot(self, REQUEST: Request) -> str | None:
        """Keep a snapshot of this process, and redirect to its page."""
        life = STATE.life
        if life is None:
            return self._refused(
                REQUEST, 'No snapshot is possible: the stability monitor did not start.', 503
            )
        who = getSecurityManager().getUser().getUserName() or '?'
        try:
            csrftoken.check(REQUEST, life, snapshotpages.ACTION)
            name = snapshotpages.keep(life, REQUEST.form, who)
            target = snapshotpages.address(name)
        except (StabilityError, OSError) as error:
            target = f'manage_main{message_query(str(error), "warning")}'
        REQUEST.RESPONSE.redirect(f'{self.absolute_url()}/{target}')
        return None

    # -- threads -----------------------------------------------------------------------------------

    @security.protected(VIEW)
    @zpublish
    def manage_threads(self, REQUEST: Request) -> str:
        def values(life: ILivingRun, archive: Archive) -> dict[str, Any]:
            may_manage = _may_manage(self)
            shown = threadpages.native(life, may_manage) | threadpages.threads(life)
            return shown | snapshotpages.form(life, may_manage)

        return self._page(self._threads, REQUEST, values)

    @security.protected(VIEW)
    @zpublish
    def threads_fragment(self, REQUEST: Request) -> str:
        """Return a part of the Threads page for its script: `part` is "live" or "native"."""

        def values(life: ILivingRun, archive: Archive) -> dict[str, Any]:
            if variable(REQUEST.form, 'part') == 'native':
                return threadpages.native(life, _may_manage(self))
            return threadpages.threads(life)

        return self._page(self._threads_fragment, REQUEST, values)

    @security.protected(VIEW)
    @zpublish
    def flames(self, REQUEST: Request) -> str:
        """Return the flame graph of a slow request as SVG.

        The Threads page links here, with `run` and `request` in the query string.
        """
        life = STATE.life
        picture = ''
        if life is not None:
            form = REQUEST.form
            picture = threadpages.picture(life, variable(form, 'run'), variable(form, 'request'))
        if not picture:
            return self._refused(REQUEST, 'The samples of this request are no longer kept.', 404)
        REQUEST.RESPONSE.setHeader('Content-Type', 'image/svg+xml; charset=utf-8')
        REQUEST.RESPONSE.setHeader('Cache-Control', 'private, max-age=600')
        contentpolicy.send(REQUEST.RESPONSE, contentpolicy.NOTHING)
        return picture

    @security.protected(VIEW)
    @zpublish
    def stacks(self, REQUEST: Request) -> str | bytes:
        """Return the stacks of all threads as a text to download."""
        return self._text(REQUEST, 'stacks', threadpages.stacks_text)

    @security.protected(VIEW)
    @zpublish
    def trace(self, REQUEST: Request) -> str | bytes:
        """Return the last requests of this process, or of `run`, as a trace log.

        docs/trace-log.txt describes the format.
        """
        if REQUEST.form.get('run'):
            return self._trace_of_run(REQUEST)
        return self._text(REQUEST, 'trace', threadpages.trace_text)

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_native_stacks(self, REQUEST: Request) -> str | None:
        """Start to take native stacks in the background; the page shows the progress."""
        life = STATE.life
        if life is None:
            return self._refused(
                REQUEST, 'No stacks are available: the stability monitor did not start.', 503
            )
        try:
            csrftoken.check(REQUEST, life, threadpages.NATIVE_ACTION)
            threadpages.take_native(life)
            message = ''
        except StabilityError as error:
            message = str(error)
        query = message_query(message, 'warning')
        REQUEST.RESPONSE.redirect(f'{self.absolute_url()}/manage_threads{query}#native')
        return None

    # -- drills ------------------------------------------------------------------------------------

    @security.protected(MANAGE)
    @zpublish
    def manage_drills(self, REQUEST: Request) -> str:
        return self._page(
            self._drills, REQUEST, lambda life, archive: pages.drill_page(life, _DRILL)
        )

    @security.protected(MANAGE)
    @zpublish(methods='POST')
    def manage_drill(self, REQUEST: Request) -> str | None:
        """End this process.  If the drill is refused, redirect to the page with the reason."""
        life = STATE.life
        if life is None:
            return self._refused(
                REQUEST, 'No drills are available: the stability monitor did not start.', 503
            )
        try:
            csrftoken.check(REQUEST, life, _DRILL)
            drills.perform(life, variable(REQUEST.form, 'drill'))
            message = 'The drill did not end this process.'
        except StabilityError as error:
            message = str(error)
        query = message_query(message, 'warning')
        REQUEST.RESPONSE.redirect(f'{self.absolute_url()}/manage_drills{query}')
        return None

    # -- how a page is made ------------------------------------------------------------------------

    def _page(
        self,
        template: Template,
        request: Request,
        values: Callable[[ILivingRun, Archive], dict[str, Any]],
    ) -> str:
        life = STATE.life
        if life is None:
            return self._refused(
                request,
                'The stability monitor did not start. The event log shows the reason. '
                'Restart Zope after fixing it.',
                200,
            )
        try:
            shown = values(life, Archive(life.base))
        except NoSuchRun as error:
            return self._refused(request, f'{error.args[0]} {_CHOOSE_A_RUN}', 404)
        except NoSuchSignature as error:
            return self._refused(request, f'{error.args[0]} {_CHOOSE_A_SIGNATURE}', 404)
        return self._rendered(template, request, shown)

    def _text(
        self, request: Request, name: str, text: Callable[[ILivingRun], str | bytes]
    ) -> str | bytes:
        life = STATE.life
        if life is None or life.recorder is None:
            return self._refused(
                request,
                'No data is available: this process is not recorded. Either the option "enabled" '
                'is off, or the findings on the "Stability" tab show the reason.',
                503,
            )
        return self._download(request, f'{name}-{life.name}.txt', text(life), _TEXT)

    def _trace_of_run(self, request: Request) -> str | bytes:
        life = STATE.life
        if life is None:
            return self._refused(
                request, 'No trace log is available: the stability monitor did not start.', 503
            )
        try:
            run = _run(request)
            text = as_text(runtrace.trace(life.base, run, policy_of_life(life)))
        except NoSuchRun as error:
            return self._refused(request, f'{error.args[0]} {_CHOOSE_A_RUN}', 404)
        except StabilityError as error:
            return self._refused(request, str(error), 404)
        return self._download(request, f'trace-{run}.txt', text, _TEXT)

    def _download(
        self, request: Request, name: str, content: str | bytes, content_type: str
    ) -> str | bytes:
        response = request.RESPONSE
        response.setHeader('Content-Type', content_type)
        safe = contentpolicy.file_name(name)
        response.setHeader('Content-Disposition', f'attachment; filename="{safe}"')
        response.setHeader('Cache-Control', 'no-store')
        contentpolicy.send(response, contentpolicy.NOTHING)
        return content

    def _refused(self, request: Request, message: str, status: int) -> str:
        request.RESPONSE.setStatus(status)
        return self._rendered(self._message, request, {'title': 'Message', 'message': message})

    def _rendered(self, template: Template, request: Request, shown: dict[str, Any]) -> str:
        request.RESPONSE.setHeader('Cache-Control', 'no-store')
        instance = host = 'this process'
        if STATE.life is not None:
            instance = STATE.life.instance.label
            host = STATE.life.instance.host
        view = self._labels.get(template.getId(), LABEL)
        panel = self._titled(f'{shown.get("title", view)} - {LABEL} - {host}')
        footer = ''

        def zope_footer(rendered: str) -> str:
            nonlocal footer
            footer = rendered
            return rendered

        html: str = template.__of__(panel)(
            page=shown,
            zope_footer=zope_footer,
            instance=instance,
            macros=self._pieces.pt_macros(),
            parts=self._thread_pieces.pt_macros(),
            view=view,
            manage_tabs_message=variable(request.form, 'manage_tabs_message') or None,
            manage_tabs_type=_tabs_type(request),
        )
        policy = contentpolicy.of_page(footer, self.manage_navbar, request)
        contentpolicy.send(request.RESPONSE, policy)
        return html

    def _titled(self, title: str) -> StabilityMonitor:
        """Return a panel in the same place whose title Zope's header shows as that of the page."""
        panel = StabilityMonitor()
        panel.title = escape(title)  # the header does not quote it
        placed: StabilityMonitor = panel.__of__(aq_parent(self))
        return placed


InitializeClass(StabilityMonitor)


def _may_manage(panel: StabilityMonitor) -> bool:
    return bool(getSecurityManager().checkPermission(MANAGE, panel))


def _tabs_type(request: Request) -> str:
    """Return the colour of the message above the page; it is one of Bootstrap's."""
    wanted = variable(request.form, 'manage_tabs_type')
    if wanted in ('success', 'info', 'warning', 'danger'):
        return wanted
    return 'success'


def _run(request: Request) -> str:
    """Return the name of the run in the query.  Raises NoSuchRun if it is not a valid name."""
    run = variable(request.form, 'run')
    if not RUN_NAME.fullmatch(run):
        raise NoSuchRun('This is not the name of a run.')
    return run


def _named_snapshot(request: Request) -> str:
    """Return the name of the snapshot in the query.  Raises NoSuchSnapshot if it is not valid."""
    name = variable(request.form, 'snapshot')
    if not RUN_NAME.fullmatch(name):
        raise NoSuchSnapshot('This is not the name of a snapshot.')
    return name
