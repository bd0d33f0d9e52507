"""Checks of output: where do standard output, standard error and the event log go?

The HOWTO describes a frozen terminal: a thread that writes to a stopped terminal, or into a full
pipe that nothing reads, waits for ever.
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

from ..model.action import Action
from ..model.counts import counted
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..recording.loghandler import BreadcrumbHandler
from ..system.runcontext import output
from .check import Check
from .endingsignals import deadly_signals
from .livesite import Site
from .serverfiles import logging_file

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # on Windows, pipes are not checked
    fcntl = None

#: A full pipe is watched for this many seconds, in this many steps.  A living reader reads
#: something in this time.
_PATIENCE, _STEPS = 0.5, 10


class StandardOutputs(Check):
    id = 'outputs'
    question = 'Do standard output and standard error go where writing never blocks?'
    source = 'poll, FIONREAD and /proc/self/fd'

    def look(self, site: Site) -> Finding | list[Finding]:
        action = Action(
            'Append ">>{log}/stdout.log 2>&1 </dev/null" to the line that starts Zope, or let a '
            'supervisor start it.',
            log=os.path.join(site.zope.client_home or '.', 'log'),
        )
        judges = {
            'closed': self._closed,
            'terminal': self._terminal,
            'pipe': self._pipe,
            'socket': self._pipe,
            'file': self._file,
            'device': self._device,
        }
        stuck = _full_and_not_read(site)
        findings = []
        facts = []
        for name, descriptor in site.outputs.items():
            goes = output(descriptor, site.proc) | {'stuck': descriptor in stuck}
            facts.append(f'{name}: {_described(goes)}')
            judge = judges.get(goes['kind'])
            if judge is None:
                continue
            about = name.replace(' ', '-')
            finding = judge(name, descriptor, goes, action, about)
            if finding is not None:
                findings.append(finding)
        findings += self._controlling(site)
        if findings:
            return findings
        return self.ok('Standard output and standard error never block.', '; '.join(facts))

    def _closed(
        self, name: str, descriptor: int, goes: dict[str, Any], action: Action, about: str
    ) -> Finding:
        return self.found(
            WARNING,
            f'{name.capitalize()} is closed.',
            f'The next file that is opened may get its descriptor, {descriptor}: output for {name} '
            'is then written into that file.',
            action,
            about,
        )

    def _terminal(
        self, name: str, descriptor: int, goes: dict[str, Any], action: Action, about: str
    ) -> Finding:
        return self.found(
            WARNING,
            f'{name.capitalize()} is a terminal ({goes["path"]}).',
            'When the terminal is stopped (Ctrl-S), each thread that writes to it waits; when it '
            'is closed, writing to it fails.',
            action,
            about,
        )

    def _controlling(self, site: Site) -> list[Finding]:
        """Find a terminal that ends Zope when it is closed, wherever the output goes."""
        if not _terminal_number(site.text('self/stat')) or not deadly_signals(site, ('SIGHUP',)):
            return []
        return [
            self.found(
                WARNING,
                'Zope ends when its terminal is closed.',
                'Zope has a controlling terminal, which sends SIGHUP when it is closed, and Zope '
                'has no handler for SIGHUP.',
                Action(
                    'Write "nohup" before the command that starts Zope and "&" after it, or '
                    '"setsid" before it; or better, let a supervisor start Zope.'
                ),
                'controlling-terminal',
            )
        ]

    def _device(
        self, name: str, descriptor: int, goes: dict[str, Any], action: Action, about: str
    ) -> Finding | None:
        if goes['path'] == '/dev/null' and descriptor == 2:
            return self.found(
                INFO,
                'Standard error goes to /dev/null.',
                'Messages of Python when it aborts, and of the C library, are lost.',
                action,
                about,
            )
        return None

    def _file(
        self, name: str, descriptor: int, goes: dict[str, Any], action: Action, about: str
    ) -> Finding | None:
        if goes['path'].endswith(' (deleted)'):
            size = counted(goes['size'], 'byte')
            return self.found(
                WARNING,
                f'{name.capitalize()} goes into a file that was deleted.',
                f'{goes["path"]}: the file still takes disk space ({size}) and '
                'can no longer be opened.',
                Action(
                    'Restart Zope, and write "copytruncate" into the logrotate recipe of that file.'
                ),
                about,
            )
        return None

    def _pipe(
        self, name: str, descriptor: int, goes: dict[str, Any], action: Action, about: str
    ) -> Finding | None:
        if fcntl is None:
            return None
        if _state(descriptor) == 'unread':
            return self.found(
                WARNING,
                f'{name.capitalize()} is a {goes["kind"]} whose reader is gone.',
                'Code that prints there gets an error (BrokenPipeError).',
                action,
                about,
            )
        if not goes['stuck']:
            return None
        waiting = _waiting(descriptor, goes['kind'])
        place = ''
        with contextlib.suppress(OSError, AttributeError):  # not a pipe, or not Linux
            size = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
            place = f' in a pipe of {size:,} bytes'
        return self.found(
            CRITICAL,
            f'{name.capitalize()} is a full {goes["kind"]} that nothing reads.',
            f'{waiting:,} bytes wait{place}, and nothing was read for {_PATIENCE:g} s; the next '
            'thread that prints or logs there waits until something is read: the site freezes.',
            action,
            about,
        )


def _terminal_number(status: str) -> int:
    """Return the number of the controlling terminal from the text of /proc/self/stat; 0: none."""
    fields = status.rpartition(')')[2].split()  # the name before it may contain blanks
    if len(fields) > 4 and fields[4].isdigit():
        return int(fields[4])
    return 0


def _described(goes: dict[str, Any]) -> str:
    return f'{goes["kind"]} {goes.get("path", "")}'.strip()


def _state(descriptor: int) -> str:
    """Return 'full', 'unread' (the reader is gone) or ''."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    events = dict(poll.poll(0)).get(descriptor, 0)
    if events & (select.POLLERR | select.POLLHUP):
        return 'unread'
    return '' if events & select.POLLOUT else 'full'


def _full_and_not_read(site: Site) -> dict[int, int]:
    """Return {descriptor: waiting bytes} of the full pipes and sockets that nothing reads.

    All of them are watched at the same time, for _PATIENCE seconds.
    """
    full: dict[int, int] = {}
    if fcntl is None:
        return full
    kinds: dict[int, str] = {}
    for descriptor in site.outputs.values():
        kinds[descriptor] = output(descriptor, site.proc)['kind']
        if kinds[descriptor] in ('pipe', 'socket') and _state(descriptor) == 'full':
            full[descriptor] = _waiting(descriptor, kinds[descriptor])
    for _ in range(_STEPS):
        if not full:
            break
        time.sleep(_PATIENCE / _STEPS)
        for descriptor, waiting in list(full.items()):
            is_full = _state(descriptor) == 'full'
            if not is_full or _waiting(descriptor, kinds[descriptor]) != waiting:
                del full[descriptor]
    return full


def _waiting(descriptor: int, kind: str) -> int:
    """Return the number of bytes that were written and not yet read."""
    if fcntl is None:
        return 0
    import termios  # seldom needed, and it loads a shared library

    asked = termios.FIONREAD if kind == 'pipe' else termios.TIOCOUTQ
    with contextlib.suppress(OSError):
        return int.from_bytes(fcntl.ioctl(descriptor, asked, bytes(4)), sys.byteorder)
    return 0


class EventLog(Check):
    id = 'event-log'
    question = 'Is there an event log, and can it still be read tomorrow?'
    source = 'the handlers of the root logger'

    def look(self, site: Site) -> Finding:
        kept: list[str] = []
        lost: list[str] = []
        troubles: list[str] = []
        for handler in site.root_logger.handlers:
            if isinstance(handler, logging.FileHandler):
                trouble = _file_trouble(handler)
                if trouble:
                    troubles.append(trouble)
                else:
                    kept.append(handler.baseFilename)
            elif not isinstance(handler, BreadcrumbHandler | logging.NullHandler):
                trouble = _stream_trouble(handler, site)
                if trouble:
                    lost.append(trouble)
                else:
                    kept.append(type(handler).__name__)
        if not kept:
            detail = ' '.join(troubles + lost)
            return self.found(
                WARNING,
                'There is no event log.',
                detail or 'The root logger has no handler: errors of the site are lost.',
                _follow(site) if troubles else self._how_to_add_one(site),
            )
        level = site.root_logger.level
        disabled = site.root_logger.manager.disable
        if level > logging.WARNING or disabled >= logging.WARNING:
            return self.found(
                WARNING,
                'Warnings do not reach the event log.',
                f'The level of the root logger is {logging.getLevelName(level)}, and '
                f'logging.disable is at {disabled}.',
                Action(
                    'Write "level = INFO" into `[logger_root]` of {file} and restart.',
                    file=logging_file(site),
                ),
            )
        if troubles:
            return self.found(
                WARNING,
                'An event log does not reach its file.',
                ' '.join(troubles),
                _follow(site),
            )
        return self.ok('There is an event log.', '; '.join(kept))

    @staticmethod
    def _how_to_add_one(site: Site) -> Action:
        return Action(
            'In {ini}, add ", eventlog" to "keys" of `[handlers]`, to "keys" of `[formatters]` '
            'and to "handlers" of `[logger_root]`, unless it is already there; write the lines '
            '"[handler_eventlog]", "class = handlers.WatchedFileHandler", '
            '"args = (r\'{file}\', \'a\')", "level = INFO", "formatter = eventlog", '
            '"[formatter_eventlog]", '
            '"format = %(asctime)s %(levelname)s [%(name)s] %(message)s"; and restart.',
            ini=logging_file(site),
            file=os.path.join(site.zope.client_home or '.', 'log', 'event.log'),
        )


def _follow(site: Site) -> Action:
    """Return how to let an event log follow its file when that is renamed."""
    return Action(
        'Make sure that the file can be written; in {file}, in the section of its handler, for '
        'example `[handler_eventlog]`, replace "class = FileHandler" by "class = '
        'handlers.WatchedFileHandler"; and restart.',
        file=logging_file(site),
    )


def _file_trouble(handler: logging.FileHandler) -> str:
    """Return a sentence on why the output of a handler does not reach its file; '' if it does."""
    file = handler.baseFilename
    stream = getattr(handler, 'stream', None)
    if stream is None:  # with `delay`, the first record opens the file
        place = file if os.path.exists(file) else os.path.dirname(file)
        return '' if os.access(place, os.W_OK) else f'{file} cannot be written.'
    try:
        if os.path.samestat(os.fstat(stream.fileno()), os.stat(file)):
            return ''
    except ValueError:
        return f'{file} is closed.'
    except OSError:
        pass  # there is no longer a file with that name
    if isinstance(handler, handlers.WatchedFileHandler):
        return ''  # it opens a new file at the next record
    return f'{file} was renamed or deleted, and the log still goes into the old file.'


def _stream_trouble(handler: logging.Handler, site: Site) -> str:
    """Return why the output of this handler is lost; '' if it is not.

    The handler may write to something other than a file.
    """
    stream: Any = getattr(handler, 'stream', None)
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # an unknown kind of stream: it may be fine
        return ''
    goes = output(descriptor, site.proc)
    is_lost = goes['kind'] in ('closed', 'terminal') or goes.get('path') == '/dev/null'
    return f'{type(handler).__name__} writes to {_described(goes)}.' if is_lost else ''
