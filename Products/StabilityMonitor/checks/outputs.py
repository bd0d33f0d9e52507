"""Where output goes: standard output and standard error, and the event log.

The HOWTO's frozen terminal: who writes to a terminal that is gone, or into a full pipe that nobody
reads, waits for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import time
from logging import handlers
from types import ModuleType
from typing import Any

from ..model.records import Finding
from ..recording.loghandler import BreadcrumbHandler
from ..system.runcontext import output
from .check import Check
from .endingsignals import deadly_signals
from .livesite import Site

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: such a pipe is not looked into
    fcntl = None

#: A full pipe is looked at so long, in so many steps: a reader that lives has read something by
#: then.
_PATIENCE, _LOOKS = 0.5, 10
_FOLLOW = (
    'See that the file can be written, write "class = handlers.WatchedFileHandler" in place of '
    '"class = '
    'FileHandler" into its handler, such as [handler_eventlog], in zope.ini, and restart.'
)
_TO_FILES = (
    'Write ">>{log}/stdout.log 2>&1 </dev/null" behind the line that starts Zope, or let a '
    'supervisor '
    'start it.'
)


class StandardOutputs(Check):
    id = 'outputs'
    question = 'Do standard output and standard error go where writing never blocks?'
    source = 'poll, FIONREAD and /proc/self/fd'

    def look(self, site: Site) -> Finding | list[Finding]:
        stuck = _standing_full(site)
        findings = [
            finding
            for name, descriptor in site.outputs.items()
            if (finding := self._output(site, name, descriptor, stuck)) is not None
        ]
        findings += self._controlling(site)
        facts = '; '.join(
            f'{name}: {_described(output(descriptor, site.proc))}'
            for name, descriptor in site.outputs.items()
        )
        return findings or self.ok('Standard output and standard error never block.', facts)

    def _output(
        self, site: Site, name: str, descriptor: int, stuck: dict[int, int]
    ) -> Finding | None:
        goes, about = (
            output(descriptor, site.proc) | {'stuck': descriptor in stuck},
            name.replace(' ', '-'),
        )
        action = _TO_FILES.format(log=os.path.join(site.zope.client_home or '.', 'log'))
        look = {
            'closed': self._closed,
            'terminal': self._terminal,
            'pipe': self._pipe,
            'socket': self._pipe,
            'file': self._file,
            'device': self._device,
        }.get(goes['kind'])
        return look(name, descriptor, goes, action, about) if look else None

    def _closed(
        self, name: str, descriptor: int, goes: dict[str, Any], action: str, about: str
    ) -> Finding:
        return self.found(
            'warning',
            f'{name.capitalize()} is closed.',
            f'The next file that is opened may get its number, {descriptor}: what is meant for '
            f'{name} is then written into that file.',
            action,
            about,
        )

    def _terminal(
        self, name: str, descriptor: int, goes: dict[str, Any], action: str, about: str
    ) -> Finding:
        return self.found(
            'warning',
            f'{name.capitalize()} is a terminal ({goes["path"]}).',
            'When it is stopped (Ctrl-S), whoever writes there waits; when it is closed, that '
            'fails.',
            action,
            about,
        )

    def _controlling(self, site: Site) -> list[Finding]:
        """A terminal that can end Zope, wherever output goes."""
        if not _terminal_number(site.text('self/stat')) or not deadly_signals(site, ('SIGHUP',)):
            return []
        return [
            self.found(
                'warning',
                'Zope ends when its terminal is closed.',
                'It has a controlling terminal, which sends SIGHUP then, and nobody handles that '
                'here.',
                'Write "nohup" in front of the command that starts Zope and "&" behind it, or '
                '"setsid" in '
                'front of it; better, let a supervisor start it.',
                'controlling-terminal',
            )
        ]

    def _device(
        self, name: str, descriptor: int, goes: dict[str, Any], action: str, about: str
    ) -> Finding | None:
        if goes['path'] == '/dev/null' and descriptor == 2:
            return self.found(
                'info',
                'Standard error goes to /dev/null.',
                'What Python says when it aborts, and what the C library says, is lost.',
                action,
                about,
            )
        return None

    def _file(
        self, name: str, descriptor: int, goes: dict[str, Any], action: str, about: str
    ) -> Finding | None:
        if goes['path'].endswith(' (deleted)'):
            return self.found(
                'warning',
                f'{name.capitalize()} goes into a file that was deleted.',
                f'{goes["path"]}: its {goes["size"]:,} bytes still take room, and nobody can '
                'read them.',
                'Restart Zope, and write "copytruncate" into the logrotate recipe of that file.',
                about,
            )
        return None

    def _pipe(
        self, name: str, descriptor: int, goes: dict[str, Any], action: str, about: str
    ) -> Finding | None:
        if fcntl is None:
            return None
        if _state(descriptor) == 'unread':
            return self.found(
                'warning',
                f'{name.capitalize()} is a {goes["kind"]} whose reader is gone.',
                'Whoever prints gets an error (BrokenPipeError).',
                action,
                about,
            )
        if not goes['stuck']:
            return None
        return self.found(
            'critical',
            f'{name.capitalize()} is a {goes["kind"]} that stands full.',
            f'{_waiting(descriptor, goes["kind"]):,} bytes wait{_room(descriptor)}, and none was '
            'read for '
            f'{_PATIENCE:g} s; the next thread that prints or logs there waits until they are: '
            'the site freezes.',
            action,
            about,
        )


def _terminal_number(status: str) -> int:
    """The controlling terminal in /proc/self/stat, behind the name of the process; 0: none, or not
    told.
    """
    fields = status.rpartition(')')[2].split()
    return int(fields[4]) if fields[4:5] and fields[4].isdigit() else 0


def _described(goes: dict[str, Any]) -> str:
    return f'{goes["kind"]} {goes.get("path", "")}'.strip()


def _state(descriptor: int) -> str:
    """'full', 'unread' (nobody can read it any more) or ''."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    events = dict(poll.poll(0)).get(descriptor, 0)
    if events & (select.POLLERR | select.POLLHUP):
        return 'unread'
    return '' if events & select.POLLOUT else 'full'


def _standing_full(site: Site) -> dict[int, int]:
    """The descriptors of full pipes and sockets from which nothing is read while we look; of all at
    the same time.
    """
    kinds = {
        descriptor: output(descriptor, site.proc)['kind'] for descriptor in site.outputs.values()
    }
    full = {
        descriptor: _waiting(descriptor, kind)
        for descriptor, kind in kinds.items()
        if fcntl and kind in ('pipe', 'socket') and _state(descriptor) == 'full'
    }
    for _ in range(_LOOKS if full else 0):
        time.sleep(_PATIENCE / _LOOKS)
        full = {
            descriptor: waiting
            for descriptor, waiting in full.items()
            if _state(descriptor) == 'full' and _waiting(descriptor, kinds[descriptor]) == waiting
        }
    return full


def _waiting(descriptor: int, kind: str) -> int:
    """Bytes that were written and not yet read."""
    if fcntl is None:
        return 0
    import termios  # a rare question, and a library of its own

    asked = termios.FIONREAD if kind == 'pipe' else termios.TIOCOUTQ
    with contextlib.suppress(OSError):
        return int.from_bytes(fcntl.ioctl(descriptor, asked, bytes(4)), sys.byteorder)
    return 0


def _room(descriptor: int) -> str:
    if fcntl is None:
        return ''
    with contextlib.suppress(OSError, AttributeError):
        return f' in a pipe of {fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ):,}'
    return ''


class EventLog(Check):
    id = 'event-log'
    question = 'Is there an event log that somebody can read tomorrow?'
    source = 'the handlers of the root logger'

    def look(self, site: Site) -> Finding:
        kept: list[str] = []
        lost: list[str] = []
        troubles: list[str] = []
        for handler in site.root_logger.handlers:
            if isinstance(handler, logging.FileHandler):
                trouble = _file_trouble(handler)
                (troubles if trouble else kept).append(trouble or handler.baseFilename)
            elif not isinstance(handler, BreadcrumbHandler | logging.NullHandler):
                trouble = _stream_trouble(handler, site)
                (lost if trouble else kept).append(trouble or type(handler).__name__)
        if not kept:
            return self.found(
                'warning',
                'There is no event log.',
                ' '.join(troubles + lost)
                or 'The root logger has no handler: errors of the site are lost.',
                _FOLLOW if troubles else self._action(site),
            )
        if (
            site.root_logger.manager.disable >= logging.WARNING
            or site.root_logger.level > logging.WARNING
        ):
            return self.found(
                'warning',
                'Warnings do not reach the event log.',
                'The level of the root logger is '
                f'{logging.getLevelName(site.root_logger.level)}, and logging.disable is at '
                f'{site.root_logger.manager.disable}.',
                'Write "level = INFO" into [logger_root] of zope.ini and restart.',
            )
        if troubles:
            return self.found(
                'warning',
                'An event log is written where nobody finds it.',
                ' '.join(troubles),
                _FOLLOW,
            )
        return self.ok('There is an event log.', '; '.join(kept))

    @staticmethod
    def _action(site: Site) -> str:
        file = os.path.join(site.zope.client_home or '.', 'log', 'event.log')
        lines = (
            '[handler_eventlog]',
            'class = handlers.WatchedFileHandler',
            f"args = (r'{file}', 'a')",
            'level = INFO',
            'formatter = eventlog',
            '[formatter_eventlog]',
            'format = %(asctime)s %(levelname)s [%(name)s] %(message)s',
        )
        return (
            'In zope.ini, add ", eventlog" to "keys" of [handlers], to "keys" of [formatters] '
            'and to "handlers" of '
            '[logger_root], unless it is there; write the lines '
            f'{", ".join(map(_quoted, lines))}; and restart.'
        )


def _quoted(line: str) -> str:
    return f'"{line}"'


def _file_trouble(handler: logging.FileHandler) -> str:
    """Why nobody will find what this handler writes, in one sentence; '' if somebody will."""
    file = handler.baseFilename
    stream = getattr(handler, 'stream', None)
    if stream is None:  # with `delay`, the first line opens it
        able = os.access(file if os.path.exists(file) else os.path.dirname(file), os.W_OK)
        return '' if able else f'{file} cannot be written.'
    try:
        if os.path.samestat(os.fstat(stream.fileno()), os.stat(file)):
            return ''
    except ValueError:
        return f'{file} is closed.'
    except OSError:
        pass
    follows = isinstance(handler, handlers.WatchedFileHandler)
    return (
        ''
        if follows
        else f'{file} was renamed or deleted, and the log still goes into the old file.'
    )


def _stream_trouble(handler: logging.Handler, site: Site) -> str:
    """The same for a handler that need not be one of a file."""
    stream: Any = getattr(handler, 'stream', None)
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # a stream of somebody's own: who knows
        return ''
    goes = output(descriptor, site.proc)
    lost = goes['kind'] in ('closed', 'terminal') or goes.get('path') == '/dev/null'
    return f'{type(handler).__name__} writes to {_described(goes)}.' if lost else ''
