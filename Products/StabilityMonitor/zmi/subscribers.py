"""Zope's events, told to the recorder.

These run inside every request: they never raise, take no lock, make no system call and keep no
reference to a request.  `token` is the id of the request object, so that the end of a nested
request does not end this one's breadcrumb.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..model.interfaces import ILivingRun
from ..model.interfaces import IRecorder
from ..recording import arming
from ..recording.arming import STATE
from ..store.blackbox import PHASES
from ..system import signalmask
from ..threads import locks  # noqa: F401 (before Zope serves, and not when something hangs)
from . import zopechecks
from .zopetypes import Event
from .zopetypes import Request

_PUBLISHING, _COMMITTING, _ABORTING, _FAILED, _STREAMING = map(
    PHASES.index, ('publishing', 'committing', 'aborting', 'failed', 'streaming')
)


def request_begins(event: Event) -> None:
    recorder = STATE.recorder
    if recorder is None:
        if not STATE.cut_off:
            return
        recorder = _forked_worker()
    try:
        request = event.request
        environ = request.environ
        try:
            method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
        except KeyError:
            method, path = environ.get('REQUEST_METHOD', ''), environ.get('PATH_INFO', '')
        if STATE.record_query and environ.get('QUERY_STRING'):
            path = f'{path}?{environ["QUERY_STRING"]}'
        recorder.begin(method, path, request.retry_count, id(request))
    except Exception:
        _switch_off()


def request_ends(event: Event) -> None:
    recorder = STATE.recorder
    if recorder is None:
        return
    try:
        request = event.request
        response = request.response
        recorder.end(response.status if response is not None else 0, id(request))
    except Exception:
        _switch_off()


def _marks(phase: int) -> Callable[[Event], None]:
    """A subscriber that notes a phase.  One function each: a call less in every request."""

    def mark(event: Event) -> None:
        recorder = STATE.recorder
        if recorder is not None:
            try:
                recorder.phase(phase)
            except Exception:
                _switch_off()

    return mark


committing, aborting, failed, streaming = map(_marks, (_COMMITTING, _ABORTING, _FAILED, _STREAMING))


def traversed(event: Event) -> None:
    recorder = STATE.recorder
    if recorder is None:
        return
    try:
        recorder.phase(_PUBLISHING)
        if STATE.record_user:
            _note_user(recorder, event.request)
    except Exception:
        _switch_off()


def _note_user(recorder: IRecorder, request: Request) -> None:
    try:
        recorder.user(request['AUTHENTICATED_USER'].getUserName())
    except Exception:
        pass  # nobody is logged in, or the user has no name


def process_starting(event: Event) -> None:
    """Zope is configured, its database is open, its products are installed: it serves."""
    life = STATE.life
    if life is not None and life.recorder is not None:
        life.serving()
        if life.role == 'server':
            zopechecks.begin(life)


def _switch_off() -> None:
    """The recorder has failed: no request shall meet it again."""
    STATE.recorder = None
    life = STATE.life
    if life is not None:  # a request may outlive it, as in a forked child
        life.findings.add(
            'recorder',
            'Requests are no longer recorded: the recorder has failed.',
            '',
            'Restart Zope; report this with the traceback of the event log.',
        )


def _forked_worker() -> IRecorder | type[_Nothing]:
    """The first request in a forked server worker: it gets a run of its own."""
    try:
        life = arming.arm_forked_worker()
        if life is None:
            return STATE.recorder or _Nothing
        if life.recorder:
            life.serving()
            zopechecks.begin(life)
        signalmask.start(
            threading.Thread(
                target=_triage, args=(life,), name='StabilityMonitor triage', daemon=True
            )
        )
        return life.recorder or _Nothing
    except Exception:
        return _Nothing


def _triage(life: ILivingRun) -> None:
    signalmask.be_like_main_thread()  # it logs, and handlers of the site may start children
    from ..postmortem import triage

    if life.options.enabled:
        triage.at_start(life)
    life.armed()


class _Nothing:
    """Stands for the recorder where there is none."""

    @staticmethod
    def begin(*args: object) -> None:
        """Nothing is recorded."""
