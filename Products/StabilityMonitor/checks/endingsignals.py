"""Signals: does a crash still come to our fault log, and which signals would kill the site by
mistake?

Zope under `runwsgi` has no handler for SIGHUP, SIGUSR1 and SIGUSR2.  In ZServer's days they
reopened the logs; today they kill.
"""

from __future__ import annotations

import faulthandler
import signal

from ..model.records import Finding
from ..recording.faulthandler_compat import FaultLog
from ..recording.faulthandler_compat import foreign_handlers
from .check import Check
from .check import several
from .livesite import Site

_REOPENING = ('SIGHUP', 'SIGUSR1', 'SIGUSR2')


class FaultHandler(Check):
    id = 'fault-handler'
    question = 'Would a crash be dumped into our fault log?'
    source = 'faulthandler'

    def look(self, site: Site) -> Finding:
        trouble = _interference(site.fault_log)
        users = several(
            sorted(
                name
                for name, its in site.program_modules().items()
                if its.get('faulthandler') is faulthandler and not _is_ours(name)
            )
        )
        if not trouble:
            return self.ok(
                'A crash is dumped into our fault log.',
                users and f'Others that know faulthandler: {users}.',
            )
        return self.found(
            'warning',
            'A crash would not be dumped into our fault log.',
            trouble + (f' Loaded modules that use faulthandler: {users}.' if users else ''),
            'Take the call of faulthandler.enable or faulthandler.disable out of that code.'
            if site.fault_log
            else 'Look on the overview for what is off, and why.',
        )


def _is_ours(name: str) -> bool:
    return name.startswith('Products.StabilityMonitor') or name in ('faulthandler', '__main__')


def _interference(fault_log: FaultLog | None) -> str:
    """What is wrong with it right now; nothing is put right here, the heartbeat does that."""
    if fault_log is None:
        return 'There is no fault log in this run.'
    if not fault_log.file.is_intact():
        return 'Its file descriptor was closed by other code.'
    if not faulthandler.is_enabled():
        return 'It was disabled by other code.'
    if fault_log.door() is None:  # faulthandler has let go of our file
        return 'It was redirected by other code.'
    return ''


class KillingSignals(Check):
    """`info`: it is so in every Zope; `LogRotation` finds who would send them."""

    id = 'killing-signals'
    question = 'Are SIGHUP, SIGUSR1 and SIGUSR2 harmless?'
    source = 'the signal handlers of this process'

    def look(self, site: Site) -> Finding:
        deadly = deadly_signals(site)
        if not deadly:
            return self.ok('SIGHUP, SIGUSR1 and SIGUSR2 do not end Zope.')
        return self.found(
            'info',
            f'These signals end Zope: {", ".join(deadly)}.',
            'Nobody handles them: they do not reopen logs, as they did in the days of ZServer.',
            'To reopen logs, write "class = handlers.WatchedFileHandler" into [handler_eventlog] '
            'of '
            'zope.ini; to stop Zope, send SIGINT or SIGTERM.',
        )


def deadly_signals(site: Site, names: tuple[str, ...] = _REOPENING) -> list[str]:
    """Which of them would end this process: no handler in Python, none of other C code, not
    ignored.
    """
    foreign = foreign_handlers(site.proc / 'self/status')
    return [
        name
        for name in names
        if hasattr(signal, name)
        and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL
        and (getattr(signal, name) not in foreign or name in site.marked)
    ]
