"""Check of the logrotate recipes, which can harm this site in two ways.

A recipe may send a signal that was harmless with ZServer and now kills Zope.  Or it may rename a
log file that Zope keeps open.
"""

from __future__ import annotations

import fnmatch
import logging
import re
import signal
from collections.abc import Iterator
from logging import handlers
from pathlib import Path

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import WARNING
from .check import Check
from .check import several
from .endingsignals import deadly_signals
from .livesite import Site
from .livesite import text
from .serverfiles import logging_file
from .supervision import unit

#: Signals that do not mean "stop", and kill a process that has no handler for them.
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
    question = 'Are the recipes of logrotate harmless for this site and its log?'
    source = '/etc/logrotate.d'

    def look(self, site: Site) -> Finding | list[Finding]:
        deadly = deadly_signals(site, _KILLING)
        findings: list[Finding] = []
        seen: list[str] = []
        for recipe, names, body in _stanzas(site):
            link = _link_to_this_site(site, names, body)
            if not link:
                continue
            seen.append(f'{recipe} ({link})')
            finding = self._kills(site, recipe, body, link, deadly)
            if finding is None:
                finding = self._moves(site, recipe, names, body)
            if finding is not None:
                findings.append(finding)
        if findings:
            return findings
        if not seen:
            return self.ok('No readable recipe of logrotate names this site.')
        return self.ok('No recipe of logrotate harms this site.', several(seen))

    def _kills(
        self, site: Site, recipe: Path, body: str, link: str, deadly: list[str]
    ) -> Finding | None:
        sent: set[str] = set()
        for program, command in _COMMAND.findall(body):
            if _is_sent_to_this_process(site, program, command, body):
                sent |= _signals_in(command)
        killing = [name for name in deadly if name in sent]
        if not killing:
            return None
        return self.found(
            CRITICAL,
            f'{recipe} would end Zope with {killing[0]}.',
            f'It names {link}, and sends a signal that Zope has no handler for: Zope dies at the '
            'next rotation.',
            Action(
                'In {recipe}, remove the command that sends the signal and write "copytruncate" '
                'instead.',
                recipe=recipe,
            ),
            recipe.name,
        )

    def _moves(self, site: Site, recipe: Path, names: list[str], body: str) -> Finding | None:
        if re.search(r'^\s*copytruncate\b', body, re.M):
            return None
        moved = []
        for handler in site.root_logger.handlers:
            if isinstance(handler, handlers.WatchedFileHandler):
                continue  # it notices that its file was renamed
            if isinstance(handler, logging.FileHandler):
                file = handler.baseFilename
                if any(fnmatch.fnmatch(file, name) for name in names):
                    moved.append(file)
        if not moved:
            return None
        return self.found(
            WARNING,
            f'{recipe} renames an event log that Zope keeps open.',
            f'{several(moved)}: after a rotation Zope still writes into the renamed file, and the '
            'log is deleted with it.',
            Action(
                'Write "copytruncate" into {recipe}, or "class = handlers.WatchedFileHandler" into '
                'the handler in {file}.',
                recipe=recipe,
                file=logging_file(site),
            ),
            recipe.name,
        )


def _signals_in(command: str) -> set[str]:
    """Return the names of the signals among the arguments of a command."""
    numbers = {str(int(getattr(signal, name))): name for name in _KILLING if hasattr(signal, name)}
    return {numbers.get(word, f'SIG{word.upper()}') for word in _SIGNAL.findall(command)}


def _is_sent_to_this_process(site: Site, program: str, command: str, body: str) -> bool:
    """Whether a command sends its signal to this process.

    Other servers, for example nginx, may keep their logs in the folders of this site: the recipe
    for those logs sends its signal to that server.
    """
    homes = [home for home in (site.zope.instance_home, site.zope.client_home) if len(home) > 1]
    if any(home in command for home in homes):
        return True
    if site.zope.pid_file and Path(site.zope.pid_file).name in body:
        return True
    arguments = _SIGNAL.sub(' ', command).split()
    words = [word.strip('\'"`$()') for word in arguments if not word.startswith('-')]
    if program == 'pkill' or 'pgrep' in command:
        # Both match a part of the process name or, with -f, of the command line.
        ours = site.text('self/cmdline' if _WHOLE.search(command) else 'self/comm')
        ours = ours.replace('\0', ' ')
        return any(word and word in ours for word in words)
    return not _names(site).isdisjoint(words)


def _names(site: Site) -> set[str]:
    """Return the names that the kernel, systemd and supervisord have for this process."""
    service = unit(site.text('self/cgroup'))
    names = {site.text('self/comm').strip(), service, service.removesuffix('.service')}
    program = site.environ.get('SUPERVISOR_PROCESS_NAME')
    if program:
        group = site.environ.get('SUPERVISOR_GROUP_NAME')
        names |= {program, f'{group}:{program}', f'{group}:*', 'all'}
    return names - {''}


def _stanzas(site: Site) -> Iterator[tuple[Path, list[str], str]]:
    """Yield (recipe, names of logs, body) of each stanza in the recipes that can be read."""
    folder = site.etc / 'logrotate.d'
    recipes = [
        site.etc / 'logrotate.conf',
        *sorted(folder.iterdir() if folder.is_dir() else ())[:_RECIPES],
    ]
    for recipe in recipes:
        words = re.sub(r'^\s*#.*$', '', text(recipe, 1 << 16), flags=re.M)
        for head, body in _STANZA.findall(words):
            yield recipe, [quoted or bare for quoted, bare in _WORD.findall(head)], body


def _link_to_this_site(site: Site, names: list[str], body: str) -> str:
    """Return what connects a stanza with this site: its pid file, one of its logs, or a file in its
    home; '' if nothing does.
    """
    if site.zope.pid_file and site.zope.pid_file in body:
        return site.zope.pid_file
    homes = [
        f'{home.rstrip("/")}/'
        for home in (site.zope.instance_home, site.zope.client_home)
        if len(home) > 1
    ]
    for name in names:
        if any(name.startswith(home) for home in homes):
            return name
        if any(fnmatch.fnmatch(log, name) for log in site.log_files):
            return name
    return ''
