"""The recipes of logrotate: does one kill this site with a signal from ZServer's days, or lose a
log that is open?
"""

from __future__ import annotations

import fnmatch
import logging
import re
import signal
from collections.abc import Iterator
from logging import handlers
from pathlib import Path

from ..model.records import Finding
from .check import Check
from .check import several
from .endingsignals import deadly_signals
from .livesite import Site
from .livesite import text
from .supervision import unit

#: What asks for something else than a stop, and kills where nobody handles it.
_KILLING = ('SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT', 'SIGALRM', 'SIGXCPU')
#: A command that can send a signal, and its arguments.
_COMMAND = re.compile(r'\b(kill|pkill|killall|supervisorctl)\b([^\n;|&<>]*)')
_SIGNAL = re.compile(
    r'(?:^|(?<=\s))(?:-s\s+|-n\s+|--signal[=\s]\s*|-|signal\s+)(?:SIG|sig)?([A-Za-z]+[12]?|\d+)(?!\S)'
)
_WHOLE = re.compile(r'\s-\w*f\w*\b')
_STANZA = re.compile(r'([^{}]*)\{([^}]*)\}')
_WORD = re.compile(r'"([^"]+)"|(\S+)')
_RECIPES = 300


class LogRotation(Check):
    id = 'log-rotation'
    question = 'Do the recipes of logrotate leave this site alive, and its log in one piece?'
    source = '/etc/logrotate.d'

    def look(self, site: Site) -> Finding | list[Finding]:
        deadly = deadly_signals(site, _KILLING)
        findings: list[Finding] = []
        seen: list[str] = []
        for recipe, names, body in _stanzas(site):
            mine = _mine(site, names, body)
            if not mine:
                continue
            seen.append(f'{recipe} ({mine})')
            finding = self._kills(site, recipe, body, mine, deadly) or self._moves(
                site, recipe, names, body
            )
            if finding:
                findings.append(finding)
        return findings or self.ok(
            'No recipe of logrotate harms this site.'
            if seen
            else 'No recipe of logrotate that can be read names this site.',
            several(seen),
        )

    def _kills(
        self, site: Site, recipe: Path, body: str, mine: str, deadly: list[str]
    ) -> Finding | None:
        sent = {
            name
            for program, command in _COMMAND.findall(body)
            for name in _sent(command)
            if _aims_at_us(site, program, command, body)
        }
        killing = [name for name in deadly if name in sent]
        if not killing:
            return None
        return self.found(
            'critical',
            f'{recipe} would end Zope with {killing[0]}.',
            f'It names {mine}, and sends a signal that nobody handles here: Zope dies at the '
            'next rotation.',
            f'In {recipe}, take the command that sends the signal out and write "copytruncate" '
            'in its place.',
            recipe.name,
        )

    def _moves(self, site: Site, recipe: Path, names: list[str], body: str) -> Finding | None:
        if re.search(r'^\s*copytruncate\b', body, re.M):
            return None
        moved = [
            handler.baseFilename
            for handler in site.root_logger.handlers
            if isinstance(handler, logging.FileHandler)
            and not isinstance(handler, handlers.WatchedFileHandler)
            and any(fnmatch.fnmatch(handler.baseFilename, name) for name in names)
        ]
        return (
            self.found(
                'warning',
                f'{recipe} renames an event log that Zope goes on writing to.',
                f'{several(moved)}: after a rotation the log goes into the renamed file, and is '
                'deleted with it.',
                f'Write "copytruncate" into {recipe}, or "class = handlers.WatchedFileHandler" '
                'into the handler of '
                'zope.ini.',
                recipe.name,
            )
            if moved
            else None
        )


def _sent(command: str) -> set[str]:
    """The names of the signals among the arguments of a command."""
    numbers = {str(int(getattr(signal, name))): name for name in _KILLING if hasattr(signal, name)}
    return {numbers.get(word, f'SIG{word.upper()}') for word in _SIGNAL.findall(command)}


def _aims_at_us(site: Site, program: str, command: str, body: str) -> bool:
    """Logs of others, such as nginx, may lie in our folders, and are rotated with a signal to
    them.
    """
    homes = [home for home in (site.zope.instance_home, site.zope.client_home) if len(home) > 1]
    if (
        any(home in command for home in homes)
        or site.zope.pid_file
        and Path(site.zope.pid_file).name in body
    ):
        return True
    words = [
        word.strip('\'"`$()')
        for word in _SIGNAL.sub(' ', command).split()
        if not word.startswith('-')
    ]
    if (
        program == 'pkill' or 'pgrep' in command
    ):  # a part of the name or, with -f, of the command line
        ours = site.text('self/cmdline' if _WHOLE.search(command) else 'self/comm').replace(
            '\0', ' '
        )
        return any(word and word in ours for word in words)
    return not _names(site).isdisjoint(words)


def _names(site: Site) -> set[str]:
    """What this process is called: its name for the kernel, its unit, its program under
    supervisord.
    """
    service = unit(site.text('self/cgroup'))
    names = {site.text('self/comm').strip(), service, service.removesuffix('.service')}
    program = site.environ.get('SUPERVISOR_PROCESS_NAME')
    if program:
        group = site.environ.get('SUPERVISOR_GROUP_NAME')
        names |= {program, f'{group}:{program}', f'{group}:*', 'all'}
    return names - {''}


def _stanzas(site: Site) -> Iterator[tuple[Path, list[str], str]]:
    """(recipe, names of logs, body) of each stanza in the recipes that this process may read."""
    folder = site.etc / 'logrotate.d'
    recipes = [
        site.etc / 'logrotate.conf',
        *sorted(folder.iterdir() if folder.is_dir() else ())[:_RECIPES],
    ]
    for recipe in recipes:
        words = re.sub(r'^\s*#.*$', '', text(recipe, 1 << 16), flags=re.M)
        for head, body in _STANZA.findall(words):
            yield recipe, [quoted or bare for quoted, bare in _WORD.findall(head)], body


def _mine(site: Site, names: list[str], body: str) -> str:
    """The first word that ties a stanza to this site: its pid file, a log of it, its home; '' for
    others'.
    """
    if site.zope.pid_file and site.zope.pid_file in body:
        return site.zope.pid_file
    homes = [
        f'{home.rstrip("/")}/'
        for home in (site.zope.instance_home, site.zope.client_home)
        if len(home) > 1
    ]
    return next(
        (
            name
            for name in names
            if any(name.startswith(home) for home in homes)
            or any(fnmatch.fnmatch(log, name) for log in site.log_files)
        ),
        '',
    )
