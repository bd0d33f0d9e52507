"""The pages of the panel in this process: a real panel and real templates, without HTTP.

with panel(life) as ask:
    ask('manage_incident', run='...')    the body, as bytes, that a browser would get
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

from AccessControl.SecurityManagement import newSecurityManager
from AccessControl.SecurityManagement import noSecurityManager
from AccessControl.users import system
from App.ApplicationManager import ApplicationManager
from OFS.Application import Application
from Testing.makerequest import makerequest
from zope.component import getGlobalSiteManager
from zope.pagetemplate.interfaces import IPageTemplateEngine
from zope.traversing.adapters import DefaultTraversable
from zope.traversing.interfaces import ITraversable

from Products.PageTemplates.engine import Program
from Products.StabilityMonitor.model.interfaces import ILivingRun
from Products.StabilityMonitor.recording.arming import STATE
from Products.StabilityMonitor.zmi.controlpanel import StabilityMonitor


@contextlib.contextmanager
def panel(life: ILivingRun) -> Iterator[Callable[..., bytes]]:
    """Show the pages of this living run to the system user, as long as the block runs."""
    components = getGlobalSiteManager()
    # What the ZCML of Zope registers, as far as the templates need it.
    components.registerAdapter(DefaultTraversable, (None,), ITraversable)
    components.registerUtility(Program, IPageTemplateEngine)
    newSecurityManager(None, system)
    before, STATE.life = STATE.life, life
    app = makerequest(Application())
    ours = StabilityMonitor().__of__(ApplicationManager().__of__(app))

    def ask(page: str, status: int = 200, **form: str) -> bytes:
        request = app.REQUEST
        request.form.clear()
        request.form.update(form)
        response = request.RESPONSE
        response.setStatus(200)
        response.setBody(getattr(ours, page)(request))
        assert response.getStatus() == status, (page, form, response.getStatus())
        body: bytes = response.body
        return body

    try:
        yield ask
    finally:
        STATE.life = before
        noSecurityManager()
        components.unregisterUtility(Program, IPageTemplateEngine)
        components.unregisterAdapter(DefaultTraversable, (None,), ITraversable)
