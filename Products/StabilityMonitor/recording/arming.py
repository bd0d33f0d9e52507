"""Arming: makes this process leave breadcrumbs, and hooks into its end and its forks.

A forked child never writes into what is the parent's; one that serves requests gets a run of its
own (`arm_forked_worker`).
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ..model.action import Action
from ..model.options import load
from ..model.records import Instance
from ..system.eventlog import LOGGER
from .livingrun import LivingRun
from .recorder import Recorder


class State:
    """The living run of this process, and its recorder (None: nothing is recorded).

    `cut_off` holds the run of the parent in a forked child.  This is a class and not a module or
    SimpleNamespace: each request reads an attribute, and Python caches where it lies.
    """

    def __init__(self) -> None:
        self.life: LivingRun | None = None
        self.recorder: Recorder | None = None
        self.cut_off: list[LivingRun] = []
        self.hooked = False
        self.record_query = False
        self.record_user = False


STATE = State()


def arm(
    configured: Mapping[str, str],
    environ: Mapping[str, str],
    instance: Instance,
    role: str,
    software: dict[str, Any],
) -> LivingRun:
    """Make this process leave breadcrumbs.  `armed()` of the result must be called when triage is
    done.
    """
    options, problems = load(configured, environ)
    life = LivingRun(options, instance, role, software)
    life.configured = configured
    for number, problem in enumerate(problems):
        life.findings.add(
            f'option-{number}',
            'An option is wrong.',
            problem,
            Action('Correct it in zope.conf and restart.'),
        )
    if options.enabled:
        life.start()
        _hook()
    STATE.record_query = options.record_query
    STATE.record_user = options.record_user
    STATE.life = life
    STATE.recorder = life.recorder
    return life


def arm_forked_worker() -> LivingRun | None:
    """A run of its own for a forked child that serves; None if this process is no such child."""
    try:
        parent = STATE.cut_off.pop()
    except IndexError:
        return None
    life = arm(parent.configured, os.environ, parent.instance, 'server', parent.software)
    life.parent_stacks = parent.signal_stacks  # the thread that forked may still stand on one
    return life


def _hook() -> None:
    """Hook into atexit, excepthook and fork, once; forked children inherit it."""
    if STATE.hooked:
        return
    STATE.hooked = True
    atexit.register(_at_exit)
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_parent=_in_forking_parent, after_in_child=_in_forked_child)
    previous = sys.excepthook

    def excepthook(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        _quietly(lambda life: life.failed(kind, error, trace))
        previous(kind, error, trace)

    sys.excepthook = excepthook


def _at_exit() -> None:
    _quietly(LivingRun.finish)


def _in_forking_parent() -> None:
    """A server that forks after it is ready may be the master of workers that serve for it."""
    recorder = STATE.recorder
    if recorder is not None:
        recorder.stamp('forked', time.time())


def _in_forked_child() -> None:
    life = STATE.life
    STATE.life = None
    STATE.recorder = None
    if life is not None:
        STATE.cut_off[:] = [life]
        try:
            life.detach()
        except Exception:
            pass  # the child must run, whatever is left of ours


def _quietly(action: Callable[[LivingRun], None]) -> None:
    try:
        if STATE.life is not None:
            action(STATE.life)
    except Exception:
        LOGGER.warning('The end of this run is not recorded.', exc_info=True)
