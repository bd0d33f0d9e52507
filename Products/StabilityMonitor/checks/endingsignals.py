"""Checks of signals: would a crash still be dumped into our fault log, would SIGTERM end the site,
and which signals would kill it by mistake?

Under `runwsgi`, Zope has no handler for SIGHUP, SIGUSR1 and SIGUSR2.  With ZServer they reopened
the logs; now they kill the process.
"""

from __future__ import annotations

import faulthandler
import signal

from ..model.action import Action
from ..model.counts import plural
from ..model.finding import Finding
from ..model.severities import INFO
from ..model.severities import WARNING
from ..recording.faulthandler_compat import FaultLog
from ..recording.faulthandler_compat import foreign_handlers
from ..system.runcontext import shell_as_pid_1
from .check import Check
from .check import several
from .livesite import Site
from .serverfiles import logging_file

_REOPENING = ('SIGHUP', 'SIGUSR1', 'SIGUSR2')
#: Modules that may refer to faulthandler, but do not count as another user of it.
_SELF = ('faulthandler', '__main__')


class FaultHandler(Check):
    id = 'fault-handler'
    question = 'Would a crash be dumped into our fault log?'
    source = 'faulthandler'

    def look(self, site: Site) -> Finding:
        trouble = _interference(site.fault_log)
        names = []
        for name, its in site.program_modules().items():
            is_ours = name.startswith('Products.StabilityMonitor') or name in _SELF
            if its.get('faulthandler') is faulthandler and not is_ours:
                names.append(name)
        users = several(sorted(names))
        if not trouble:
            detail = f'Other modules that import faulthandler: {users}.' if users else ''
            return self.ok('A crash is dumped into our fault log.', detail)
        if site.fault_log:
            action = Action(
                'Remove the call of faulthandler.enable or faulthandler.disable from that code.'
            )
        else:
            action = Action('The overview of this product shows what is off, and why.')
        return self.found(
            WARNING,
            'A crash would not be dumped into our fault log.',
            trouble + (f' Loaded modules that use faulthandler: {users}.' if users else ''),
            action,
        )


def _interference(fault_log: FaultLog | None) -> str:
    """Return what is wrong with the fault log now; '' if nothing.  The heartbeat repairs it."""
    if fault_log is None:
        return 'There is no fault log in this run.'
    if not fault_log.file.is_intact():
        return 'Its file descriptor was closed by other code.'
    if not faulthandler.is_enabled():
        return 'It was disabled by other code.'
    if fault_log.door() is None:  # faulthandler no longer writes to our file
        return 'It was redirected by other code.'
    return ''


class StopSignal(Check):
    """For pid 1 of a pid namespace, the kernel drops signals without a handler (docs/facts.rst).
    If that is a shell, it does not end either, and it passes no signal on.
    """

    id = 'stop-signal'
    question = 'Would SIGTERM end Zope?'
    source = 'the process id, and the signal handlers of this process'

    def look(self, site: Site) -> Finding:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
            return self.found(
                WARNING,
                'SIGTERM does not end Zope, because this process ignores it.',
                'What starts Zope ignores it ("trap" with an empty command in a shell), or code of '
                'the site does.',
                Action('Remove "trap \'\' TERM" from the script, or SIG_IGN from the code.'),
            )
        shell = shell_as_pid_1(site.parent, site.proc)
        if shell:
            return self.found(
                WARNING,
                f'A stop of the container does not reach Zope, because a shell ({shell}) is pid 1.',
                'The container runtime sends SIGTERM to pid 1 only, and a shell does not pass it '
                'on.  So each stop takes until the runtime kills all processes: Docker waits 10 s, '
                'Kubernetes 30 s.',
                Action(
                    'Write "exec" before the command that starts Zope, or give the command of the '
                    'container as a list (`CMD ["runwsgi", "etc/zope.ini"]`); and start the '
                    'container with "docker run --init", as Zope is pid 1 otherwise.'
                ),
            )
        if site.pid != 1:
            return self.ok('SIGTERM ends Zope, or runs the handler of other code.')
        if 'SIGTERM' not in deadly_signals(site, ('SIGTERM',)):
            return self.ok('Zope is pid 1 of its container, and SIGTERM has a handler.')
        return self.found(
            WARNING,
            'SIGTERM does not end Zope, because it is pid 1 of its container.',
            'The kernel drops a signal without a handler for pid 1.  So each stop takes until the '
            'container runtime kills Zope: Docker waits 10 s, Kubernetes 30 s.',
            Action(
                'Start the container with "docker run --init" (`init: true` in a compose file), or '
                'write "tini --" before the command that starts Zope.'
            ),
        )


class KillingSignals(Check):
    """Only `info`, because no Zope has handlers for these signals.

    `LogRotation` finds programs that send them.
    """

    id = 'killing-signals'
    question = 'Are SIGHUP, SIGUSR1 and SIGUSR2 harmless?'
    source = 'the signal handlers of this process'

    def look(self, site: Site) -> Finding:
        deadly = deadly_signals(site)
        if not deadly:
            return self.ok('SIGHUP, SIGUSR1 and SIGUSR2 do not end Zope.')
        return self.found(
            INFO,
            plural(len(deadly), 'This signal ends', 'These signals end')
            + f' Zope: {", ".join(deadly)}.',
            'Zope does not handle such signals: they do not reopen logs, as they did with ZServer.',
            Action(
                'To reopen logs, write "class = handlers.WatchedFileHandler" into '
                '`[handler_eventlog]` of {file}; to stop Zope, send SIGINT or SIGTERM.',
                file=logging_file(site),
            ),
        )


def deadly_signals(site: Site, names: tuple[str, ...] = _REOPENING) -> list[str]:
    """Return the signals that would end this process: not ignored, and without a handler in Python
    or in the C code of another package.
    """
    foreign = foreign_handlers(site.proc / 'self/status')
    deadly = []
    for name in names:
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) is not signal.SIG_DFL:
            continue
        # A signal that our own C handler records still ends the process.
        if number not in foreign or name in site.marked:
            deadly.append(name)
    return deadly
