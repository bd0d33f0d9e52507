"""Subscribers to Zope's events, which pass them to the recorder.

These functions run inside every request: they never raise, take no lock, make no system call and
keep no reference to a request.  The recorder gets the id of the request object as its `token`, so
that the end of a nested request does not end the record of the outer request.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import sys
from collections.abc import Callable

from transaction.interfaces import TransientError
from zExceptions import HTTPException

from ..model.action import Action
from ..model.interfaces import ILivingRun
from ..model.interfaces import IRecorder
from ..recording import arming
from ..recording.arming import STATE
from ..store.blackbox import PHASES
from ..system import signalmask
from ..system.backgroundjob import BackgroundJob
from ..threads import locks  # noqa: F401 (imported before Zope serves, not during a hang)
from . import zopechecks
from .zopetypes import Event
from .zopetypes import Request

_PUBLISHING = PHASES.index('publishing')


def request_begins(event: Event) -> None:
    recorder: IRecorder | type[_Nothing] | None = STATE.recorder
    if recorder is None:
        if not STATE.cut_off:
            return
        recorder = _forked_worker()
    try:
        request = event.request
        environ = request.environ
        try:
            method = environ['REQUEST_METHOD']
            path = environ['PATH_INFO']
        except KeyError:
            method = environ.get('REQUEST_METHOD', '')
            path = environ.get('PATH_INFO', '')
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
        status = 0
        if response is not None:
            status = response.status
            error = sys.exception()
            if error is not None:
                status = _status_after(error, request, status)
        recorder.end(status, id(request))
    except Exception:
        _switch_off()


def _status_after(error: BaseException, request: Request, status: int) -> int:
    """Return the status of the answer to a request that ends while `error` is handled; 0: none.

    `status` is that of the response, which begins with 200 and is not sent if the error leaves the
    publisher.  The server answers after an Exception, but not after another error as SystemExit.
    """
    if not isinstance(error, Exception):
        return 0
    trace = error.__traceback__
    left = trace is not None and trace.tb_frame.f_code.co_name == 'publish_module'
    if not left or status >= 400:
        return status  # code that handles an error of its own has called Zope
    if isinstance(error, TransientError) and request.retry_count < request.retry_max_count:
        return 0  # Zope tries again
    if isinstance(error, HTTPException):
        status_of_error: int = error.status
        return status_of_error
    return 500


def _marks(phase_name: str) -> Callable[[Event], None]:
    """Return a subscriber that records a phase.

    Each phase has a separate function: a shared one would cost each request another call.
    """
    phase = PHASES.index(phase_name)

    def mark(event: Event) -> None:
        recorder = STATE.recorder
        if recorder is not None:
            try:
                recorder.phase(phase)
            except Exception:
                _switch_off()

    return mark


committing = _marks('committing')
aborting = _marks('aborting')
failed = _marks('failed')
streaming = _marks('streaming')


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
        pass  # no user is logged in, or the user has no name


def process_starting(event: Event) -> None:
    """Zope starts to serve: it is configured, its database is open, its products are installed."""
    life = STATE.life
    if life is not None and life.recorder is not None:
        life.serving()
        if life.role == 'server':
            zopechecks.begin(life)


def _switch_off() -> None:
    """Stop recording requests, because the recorder has failed."""
    STATE.recorder = None
    life = STATE.life
    if life is not None:  # a request can outlive the run, as in a forked child
        life.findings.add(
            'recorder',
            'Requests are no longer recorded: the recorder has failed.',
            '',
            Action('Restart Zope, and report this with the traceback in the event log.'),
        )


def _forked_worker() -> IRecorder | type[_Nothing]:
    """Arm a forked server worker as a new run at its first request, and return the recorder."""
    try:
        life = arming.arm_forked_worker()
        if life is None:
            return STATE.recorder or _Nothing
        if life.recorder:
            life.serving()
            zopechecks.begin(life)
        _begin_triage(life)
        return life.recorder or _Nothing
    except Exception:
        return _Nothing


def _begin_triage(life: ILivingRun) -> None:
    """Judge dead runs in the background, because a request waits; an error becomes a finding."""
    job = BackgroundJob[None, None](
        'triage',
        lambda: _triage(life),
        first=None,
        not_started='The thread could not be started: {}.',
        failed='{}.',
    )

    def show_error() -> None:
        if job.error:
            life.findings.add(
                'triage',
                'Dead runs could not be judged.',
                job.error,
                'Run "stabilitymonitor triage" to see the error.',
            )

    if not job.start(then=show_error):
        show_error()


def _triage(life: ILivingRun) -> tuple[None, str]:
    signalmask.be_like_main_thread()  # triage logs; a log handler may start a process
    from ..postmortem import triage

    if life.options.enabled:
        triage.at_start(life)
    life.armed()
    return None, ''


class _Nothing:
    """Stands in for the recorder if nothing is recorded."""

    @staticmethod
    def begin(*args: object) -> None:
        """Record nothing."""
