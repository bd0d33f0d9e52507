"""Zope's events, told to the recorder.

These functions run inside every request: they never raise, take no lock, make no system call and
keep no reference to a request.  The recorder gets the id of the request object as its `token`, so
that the end of a nested request does not end the breadcrumb of the outer one.
"""

from __future__ import annotations

from collections.abc import Callable

from ..model.action import Action
from ..model.interfaces import ILivingRun
from ..model.interfaces import IRecorder
from ..recording import arming
from ..recording.arming import STATE
from ..store.blackbox import PHASES
from ..system import signalmask
from ..system.backgroundjob import BackgroundJob
from ..threads import locks  # noqa: F401 (loaded before Zope serves, not when something hangs)
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
        recorder.end(response.status if response is not None else 0, id(request))
    except Exception:
        _switch_off()


def _marks(phase_name: str) -> Callable[[Event], None]:
    """A subscriber that notes a phase.

    Each phase has a function of its own: one that is shared would cost each request another call.
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
        pass  # nobody is logged in, or the user has no name


def process_starting(event: Event) -> None:
    """Zope is configured, its database is open, its products are installed: now it serves."""
    life = STATE.life
    if life is not None and life.recorder is not None:
        life.serving()
        if life.role == 'server':
            zopechecks.begin(life)


def _switch_off() -> None:
    """The recorder has failed: no later request uses it."""
    STATE.recorder = None
    life = STATE.life
    if life is not None:  # a request may outlive it, as in a forked child
        life.findings.add(
            'recorder',
            'Requests are no longer recorded: the recorder has failed.',
            '',
            Action('Restart Zope; report this with the traceback of the event log.'),
        )


def _forked_worker() -> IRecorder | type[_Nothing]:
    """The recorder for the first request of a forked server worker, which gets its own run here."""
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
    """Judge dead runs in the background, since a request waits; an error is a finding."""
    job = BackgroundJob[None, None](
        'triage',
        lambda: _triage(life),
        first=None,
        not_started='It could not be started: {}.',
        failed='{}.',
    )

    def show_error() -> None:
        if job.error:
            life.findings.add(
                'triage',
                'Dead runs could not be judged.',
                job.error,
                'Run "stabilitymonitor triage" by hand to see the error.',
            )

    if not job.start(then=show_error):
        show_error()


def _triage(life: ILivingRun) -> tuple[None, str]:
    signalmask.be_like_main_thread()  # triage logs, and log handlers of a site may start children
    from ..postmortem import triage

    if life.options.enabled:
        triage.at_start(life)
    life.armed()
    return None, ''


class _Nothing:
    """Stands for the recorder where there is none."""

    @staticmethod
    def begin(*args: object) -> None:
        """Nothing is recorded."""
