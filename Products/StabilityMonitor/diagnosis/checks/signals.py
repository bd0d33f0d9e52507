"""Signals: does a crash still come to our fault log, and which signals would kill the site by mistake?

Zope under `runwsgi` has no handler for SIGHUP, SIGUSR1 and SIGUSR2.  In ZServer's days they reopened the
logs, and recipes of logrotate still send them: today they kill.
"""
from __future__ import annotations

import faulthandler
import fnmatch
import logging
import re
import signal
from logging import handlers
from pathlib import Path

from ...recording.faulthandler_compat import foreign_handlers
from ..site import text
from .check import Check
from .check import several

_REOPENING = ('SIGHUP', 'SIGUSR1', 'SIGUSR2')
_KILL = re.compile(r'\bp?kill(?:all)?\s+(?:-s\s+|--signal[= ]|-)(?:SIG)?(HUP|USR1|USR2|1|10|12)\b')
_STANZA = re.compile(r'([^{}]*)\{([^}]*)\}')
_WORD = re.compile(r'"([^"]+)"|(\S+)')
_RECIPES = 300


class FaultHandler(Check):
    id = 'fault-handler'
    question = 'Would a crash be dumped into our fault log?'
    source = 'faulthandler'

    def look(self, site):
        trouble = _interference(site.fault_log)
        users = several(sorted(name for name, its in site.program_modules().items()
                               if its.get('faulthandler') is faulthandler and not _is_ours(name)))
        if not trouble:
            return self.ok('A crash is dumped into our fault log.',
                           users and f'Others that know faulthandler: {users}.')
        return self.found('warning', 'A crash would not be dumped into our fault log.',
                          trouble + (f' Loaded modules that use faulthandler: {users}.' if users else ''),
                          'Take the call of faulthandler.enable or faulthandler.disable out of that code.'
                          if site.fault_log else 'Look on the overview for what is off, and why.')


def _is_ours(name):
    return name.startswith('Products.StabilityMonitor') or name in ('faulthandler', '__main__')


def _interference(fault_log):
    """What is wrong with it right now; nothing is put right here, the heartbeat does that."""
    if fault_log is None:
        return 'There is no fault log in this run.'
    if not fault_log.file.is_intact():
        return 'Its file descriptor was closed by other code.'
    if not faulthandler.is_enabled():
        return 'It was disabled by other code.'
    if fault_log.door() is None:                       # faulthandler has let go of our file
        return 'It was redirected by other code.'
    return ''


class KillingSignals(Check):
    """`info`: it is so in every Zope; `LogRotation` finds who would send them."""

    id = 'killing-signals'
    question = 'Are SIGHUP, SIGUSR1 and SIGUSR2 harmless?'
    source = 'the signal handlers of this process'

    def look(self, site):
        deadly = deadly_signals(site)
        if not deadly:
            return self.ok('SIGHUP, SIGUSR1 and SIGUSR2 do not end Zope.')
        return self.found('info', f'These signals end Zope: {", ".join(deadly)}.',
                          'Nobody handles them: they do not reopen logs, as they did in the days of ZServer.',
                          'To reopen logs, write "class = handlers.WatchedFileHandler" into [handler_eventlog] of '
                          'zope.ini; to stop Zope, send SIGINT or SIGTERM.')


def deadly_signals(site) -> list[str]:
    """Which of the three would end this process: no handler in Python, none of other C code, not ignored."""
    foreign = foreign_handlers(site.proc / 'self/status')
    return [name for name in _REOPENING if hasattr(signal, name)
            and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL
            and (getattr(signal, name) not in foreign or name in site.marked)]


class LogRotation(Check):
    id = 'log-rotation'
    question = "Do the recipes of logrotate leave this site alive, and its log in one piece?"
    source = '/etc/logrotate.d'

    def look(self, site):
        deadly, findings, seen = deadly_signals(site), [], []
        for recipe, names, body in _stanzas(site):
            mine = _mine(site, names, body)
            if not mine:
                continue
            seen.append(f'{recipe} ({mine})')
            finding = self._kills(site, recipe, body, mine, deadly) or self._moves(site, recipe, names, body)
            if finding:
                findings.append(finding)
        return findings or self.ok('No recipe of logrotate harms this site.' if seen else 'No recipe of logrotate that '
                                   'can be read names this site.', several(seen))

    def _kills(self, site, recipe, body, mine, deadly):
        sent = {_name(word) for word in _KILL.findall(body)}
        killing = [name for name in deadly if name in sent and _aims_at_us(site, body)]
        return killing and self.found(
            'critical', f'{recipe} would end Zope with {killing[0]}.',
            f'It names {mine}, and sends a signal that nobody handles here: Zope dies at the next rotation.',
            f'In {recipe}, take the "kill" out and write "copytruncate" in its place.', recipe.name)

    def _moves(self, site, recipe, names, body):
        if re.search(r'^\s*copytruncate\b', body, re.M):
            return None
        moved = [handler.baseFilename for handler in site.root_logger.handlers
                 if isinstance(handler, logging.FileHandler) and not isinstance(handler, handlers.WatchedFileHandler)
                 and any(fnmatch.fnmatch(handler.baseFilename, name) for name in names)]
        return self.found(
            'warning', f'{recipe} renames an event log that Zope goes on writing to.',
            f'{several(moved)}: after a rotation the log goes into the renamed file, and is deleted with it.',
            f'Write "copytruncate" into {recipe}, or "class = handlers.WatchedFileHandler" into the handler of '
            'zope.ini.', recipe.name) if moved else None


def _aims_at_us(site, body):
    """Logs of others, such as nginx, may lie in our folders, and are rotated with a signal to them."""
    shots = ' '.join(line for line in body.splitlines() if _KILL.search(line))
    homes = [home for home in (site.zope.instance_home, site.zope.client_home) if len(home) > 1]
    pid_file = site.zope.pid_file
    return any(home in shots for home in homes) or bool(pid_file) and Path(pid_file).name in body


def _name(word):
    numbers = {str(int(getattr(signal, name))): name for name in _REOPENING if hasattr(signal, name)}
    return numbers.get(word, f'SIG{word}')


def _stanzas(site):
    """(recipe, names of logs, body) of each stanza in the recipes that this process may read."""
    folder = site.etc / 'logrotate.d'
    recipes = [site.etc / 'logrotate.conf', *sorted(folder.iterdir() if folder.is_dir() else ())[:_RECIPES]]
    for recipe in recipes:
        words = re.sub(r'^\s*#.*$', '', text(recipe, 1 << 16), flags=re.M)
        for head, body in _STANZA.findall(words):
            yield recipe, [quoted or bare for quoted, bare in _WORD.findall(head)], body


def _mine(site, names, body):
    """The first word that ties a stanza to this site: its pid file, a log of it, its home; '' for others'."""
    logs = [handler.baseFilename for handler in site.root_logger.handlers if getattr(handler, 'baseFilename', '')]
    if site.zope.pid_file and site.zope.pid_file in body:
        return site.zope.pid_file
    homes = [f'{home.rstrip("/")}/' for home in (site.zope.instance_home, site.zope.client_home) if len(home) > 1]
    return next((name for name in names if any(name.startswith(home) for home in homes)
                 or any(fnmatch.fnmatch(log, name) for log in logs)), '')
