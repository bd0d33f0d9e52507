"""Arming: this process starts to leave breadcrumbs.  Hooks follow its end and its forks.

A forked child never writes into the files of its parent.  A forked child that serves requests gets
a separate run (`arm_forked_worker`).
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

    In a forked child, `cut_off` holds the run of the parent.  This is a class, not a module or a
    SimpleNamespace, because each request reads an attribute: for instances of a class, Python
    caches where the attribute is stored.
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
    """Start to record, and return the living run.

    The caller must call `armed()` on the result when triage is done.
    """
    options, problems = load(configured, environ)
    life = LivingRun(options, instance, role, software)
    life.configured = configured
    life.environ = environ
    for problem in problems:
        life.findings.add(
            f'option-{problem.name}',
            f'The option {problem.name} is wrong.',
            problem.sentence,
            Action('Correct it in zope.conf or in the environment, and restart Zope.'),
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
    """Return a new run for a forked child that serves requests; None in any other process."""
    try:
        parent = STATE.cut_off.pop()
    except IndexError:
        return None
    life = arm(parent.configured, os.environ, parent.instance, 'server', parent.software)
    life.parent_stacks = parent.signal_stacks  # the thread that forked may still use one of them
    return life


def _hook() -> None:
    """Install the hooks of atexit, excepthook and fork, once.  Forked children inherit them."""
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
    _quietly(LivingRun.watch_end)
    _quietly(LivingRun.finish)


def _in_forking_parent() -> None:
    """Note the time of the fork.  The server may be the master of forked processes that serve the
    requests, so this process may serve none itself.
    """
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
            pass  # the child must run, even if something of the parent's run stays open in it


def _quietly(action: Callable[[LivingRun], None]) -> None:
    try:
        if STATE.life is not None:
            action(STATE.life)
    except Exception:
        LOGGER.warning('The end of this run is not recorded.', exc_info=True)
