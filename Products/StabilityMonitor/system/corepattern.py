"""Where a crash of a process would leave a core file: what kernel.core_pattern means.  No I/O.

    pattern = parse('/var/cores/core.%e.%p', cwd='/')
    pattern.folder                              '/var/cores'
    pattern.read('core.python3.4711')           CoreName(pid=4711, program='python3')
    pattern.matches('core.python3.4711', 4711)  True

Sources: core(5), fs/coredump.c of Linux 6.18 (`coredump_parse`), and for the programs that keep
core files their own: systemd (src/coredump), apport (apport/fileutils.py), abrt (abrt-hook-ccpp).
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass

#: The kernel writes a file.
FILE = 'file'
#: The kernel gives the core file to a program, as root and in the namespaces of the host.
PIPE = 'pipe'
SYSTEMD = 'systemd-coredump'
APPORT = 'apport'
ABRT = 'abrt'
#: The kernel gives it to a server at a Unix socket ("@/path", "@@/path"; from Linux 6.16 on).
SOCKET = 'socket'
#: Nothing is kept.
NONE = 'none'

_BOOT_ID = r'(?P<boot_id>[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12})'
#: For each program by its name: what it is, where it keeps core files, and their names there.
_KEEPERS = {
    'systemd-coredump': (
        SYSTEMD,
        '/var/lib/systemd/coredump',
        # The last number is in microseconds.
        r'core\.(?P<program>.*)\.(?P<uid>[0-9]{1,20})\.' + _BOOT_ID + r'\.(?P<host_pid>[0-9]{1,20})'
        r'\.(?P<time>[0-9]{1,20})[0-9]{6}(?:\.(?:zst|lz4|xz))?',
        'core.*',
    ),
    'apport': (
        APPORT,
        '/var/lib/apport/coredump',
        # The last number is the start time of the process, as in /proc/<pid>/stat.
        r'core\.(?P<program>.*)\.(?P<uid>[0-9]{1,20})\.' + _BOOT_ID + r'\.(?P<pid>[0-9]{1,20})'
        r'\.(?P<start_ticks>[0-9]{1,20})',
        'core.*',
    ),
    'abrt-hook-ccpp': (
        ABRT,
        '/var/spool/abrt',
        r'ccpp-[0-9:.-]+-(?P<host_pid>[0-9]{1,20})/coredump',
        'ccpp-*/coredump',
    ),
}
#: Programs that keep nothing.
_KEEP_NOTHING = ('true', 'false')
#: Specifiers whose value is a number.
_NUMBERS = 'cCdgiIpPstu'
#: Specifiers whose value is a text without a slash.
_TEXTS = 'eEfh'
#: What the values of some specifiers are called in a CoreName.
_MEANINGS = {
    'p': 'pid',
    'P': 'host_pid',
    't': 'time',
    's': 'signal',
    'u': 'uid',
    'e': 'program',
    'h': 'host',
}


@dataclass(frozen=True)
class CoreName:
    """What the name of a core file tells; None or '': the name does not tell it.

    `pid` is that in the namespace of the process, and `host_pid` that in the first one.  `time` is
    in seconds since the epoch, `start_ticks` is the start of the process as in /proc/<pid>/stat.
    `program` is the kernel's name of the thread that died ("python3"); systemd-coredump and apport
    replace some characters in it.  `boot_id` has no hyphens.
    """

    pid: int | None = None
    host_pid: int | None = None
    time: int | None = None
    signal: int | None = None
    uid: int | None = None
    start_ticks: int | None = None
    program: str = ''
    host: str = ''
    boot_id: str = ''


@dataclass(frozen=True)
class CorePattern:
    """What a value of kernel.core_pattern means for one process.

    `kind` is FILE, PIPE, SYSTEMD, APPORT, ABRT, SOCKET or NONE.  `folder` is an absolute path
    below which core files appear, '' if that is not known; `glob` fits their names, relative to
    the folder, and may contain slashes.  `program` is the program of a pipe, and `socket` the path
    of a socket.
    """

    text: str
    kind: str
    folder: str = ''
    glob: str = ''
    program: str = ''
    socket: str = ''
    _names: str = ''

    def read(self, name: str) -> CoreName | None:
        """Return what the name of a file tells, relative to `folder`; None if it does not fit."""
        if not self.folder:
            return None
        found = re.fullmatch(self._names, name, re.ASCII | re.DOTALL)
        if not found:
            return None
        told = found.groupdict('')
        return CoreName(
            pid=_number(told.get('pid')),
            host_pid=_number(told.get('host_pid')),
            time=_number(told.get('time')),
            signal=_number(told.get('signal')),
            uid=_number(told.get('uid')),
            start_ticks=_number(told.get('start_ticks')),
            program=told.get('program', ''),
            host=told.get('host', ''),
            boot_id=told.get('boot_id', '').replace('-', ''),
        )

    def matches(self, name: str, pid: int, host_pid: int | None = None) -> bool:
        """Return whether the core file of this process may have this name, relative to `folder`.

        A pid that the name does not tell, or that is not given, is not compared.  Outside of
        containers `host_pid` is the same as `pid`.
        """
        told = self.read(name)
        if told is None:
            return False
        if told.pid is not None and told.pid != pid:
            return False
        return told.host_pid is None or host_pid is None or told.host_pid == host_pid


def parse(text: str, cwd: str, uses_pid: bool = False) -> CorePattern:
    """Return the meaning of the content of /proc/sys/kernel/core_pattern.

    `cwd` is the working directory of the process, and `uses_pid` whether kernel.core_uses_pid is
    on.
    """
    text = text.partition('\n')[0]
    if text.startswith('|'):
        return _of_program(text)
    if text.startswith('@'):
        path = text[1:].removeprefix('@')
        valid = path.startswith('/') and ' ' not in path and '..' not in path.split('/')
        return CorePattern(text, SOCKET if valid else NONE, socket=path)
    template = text
    if uses_pid and 'p' not in _specifiers(text):
        template = _without_half_a_specifier(text) + '.%p'
    if not template:
        return CorePattern(text, NONE)
    return _of_file(text, template, cwd)


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _of_program(text: str) -> CorePattern:
    words = text[1:].split()
    program = words[0] if words else ''
    name = os.path.basename(program)
    if not program or name in _KEEP_NOTHING:
        return CorePattern(text, NONE, program=program)
    if name not in _KEEPERS:
        return CorePattern(text, PIPE, program=program)
    kind, folder, names, fitting = _KEEPERS[name]
    return CorePattern(text, kind, folder, fitting, program, _names=names)


def _of_file(text: str, template: str, cwd: str) -> CorePattern:
    """Split the template at the last slash before its first specifier."""
    fixed, varying = '', ''
    for part in _parts(template):
        if varying or part.startswith('%') and part != '%%':
            varying += part
        else:
            fixed += part
    folder, _, name = fixed.rpartition('/')
    folder = os.path.join(cwd, folder or '/' if '/' in fixed else '').replace('%%', '%')
    parts = _parts(name + varying)
    return CorePattern(
        text,
        FILE,
        os.path.normpath(folder),
        ''.join(map(_glob, parts)),
        _names=_expression(parts),
    )


def _parts(template: str) -> list[str]:
    """Split a template into literal texts and specifiers ("%p", "%%")."""
    return re.findall(r'%.|%$|[^%]+', template, re.DOTALL)


def _specifiers(template: str) -> set[str]:
    return {part[1:] for part in _parts(template) if part.startswith('%')}


def _without_half_a_specifier(template: str) -> str:
    """Drop a single "%" at the end, as the kernel does: ".%p" follows."""
    parts = _parts(template)
    if parts and parts[-1] == '%':
        parts.pop()
    return ''.join(parts)


def _glob(part: str) -> str:
    if part == '%%':
        return '%'
    if not part.startswith('%'):
        return glob.escape(part)
    return '*' if part[1:] and part[1:] in _NUMBERS + _TEXTS else ''


def _expression(parts: list[str]) -> str:
    """Return the regular expression of the names that a template makes.

    A specifier that stands there twice has the same value in both places.  The kernel drops those
    that it does not know, and %F outside of pipes.
    """
    pieces = []
    seen = set()
    for part in parts:
        letter = part[1:]
        if not part.startswith('%'):
            pieces.append(re.escape(part))
        elif letter == '%':
            pieces.append('%')
        elif letter and letter in _NUMBERS + _TEXTS:
            group = _MEANINGS.get(letter, f'_{letter}')
            value = '[0-9]{1,20}' if letter in _NUMBERS else '[^/]+'
            pieces.append(f'(?P={group})' if letter in seen else f'(?P<{group}>{value})')
            seen.add(letter)
    return ''.join(pieces)
