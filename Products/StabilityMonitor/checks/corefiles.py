"""The check of core files: would a crash leave one, where, and who may read it?

Only `info` when a crash leaves none: the fault log does not need one, but a core file has the C
frames, too.  What the kernel does is in core(5) and in fs/coredump.c of Linux 6.18.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from types import ModuleType

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import INFO
from ..system import corepattern
from ..system.corepattern import CorePattern
from ..system.processidentity import FIRST_NAMESPACE
from .check import Check
from .check import megabytes
from .livesite import Site
from .livesite import text

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

_PR_GET_DUMPABLE = 3
_NOT_DUMPABLE, _ONLY_FOR_ROOT = 0, 2
#: Bits of /proc/<pid>/coredump_filter: private memory without a file, and the heads of libraries.
_MEMORY, _HEADS = 1 << 0, 1 << 4
_TO_FILES = Action(
    'To have a file, run "sysctl -w kernel.core_pattern=/var/tmp/core.%p" as root. It holds for '
    'all processes of the machine.'
)
_TO_FILES_ON_HOST = Action(
    'To have a file, run "sysctl -w kernel.core_pattern=/var/tmp/core.%p" as root on the host, '
    'because a container has no setting of its own. The file is then in the container.'
)
_SYSTEMD_CONF = 'systemd/coredump.conf'
_STORAGE = re.compile(r'^\s*Storage\s*=\s*(\w+)', re.MULTILINE)
#: Who may read what a program keeps, and how a person gets it.
_KEEPERS = {
    corepattern.SYSTEMD: (
        'systemd-coredump keeps it below /var/lib/systemd/coredump. root may read it, and the user '
        'of this process unless it is a system user (a uid below 1000). "coredumpctl list" shows '
        'it.'
    ),
    corepattern.APPORT: (
        'apport keeps it below /var/lib/apport/coredump, for the user of this process only, and a '
        'report in /var/crash if it knows the program.'
    ),
    corepattern.ABRT: (
        'abrt keeps it below /var/spool/abrt, for root and the group abrt. It drops crashes of '
        'programs that are in no package, unless ProcessUnpackaged is on.'
    ),
}


@dataclass(frozen=True)
class _Limits:
    """RLIMIT_CORE and the size that a core file would have now, in bytes; `size` 0: not known."""

    soft: int
    hard: int
    size: int

    @property
    def is_too_small(self) -> bool:
        return 0 <= self.soft < self.size


class CoreFiles(Check):
    id = 'core-files'
    question = 'Would a crash leave a core file?'
    source = 'RLIMIT_CORE and /proc/sys/kernel/core_pattern'

    def look(self, site: Site) -> Finding:
        if resource is None or not (site.proc / 'sys/kernel/core_pattern').exists():
            return self.unknown('Whether a crash leaves a core file is not known on this system.')
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        limits = _Limits(soft, hard, _size_of_core(site))
        pattern = corepattern.parse(
            site.text('sys/kernel/core_pattern'),
            _working_directory(),
            uses_pid=site.text('sys/kernel/core_uses_pid').strip() not in ('', '0'),
        )
        dumpable = _dumpable()
        if dumpable == _NOT_DUMPABLE:
            return self._none(
                'The kernel writes no core file of this process.',
                'It is not dumpable: it changed its user after its start.',
                Action('Let the supervisor change the user before it starts Python.'),
            )
        dumped = _filter(site)
        if dumped is not None and not dumped & _MEMORY:
            return self._none(
                'A core file would be without the memory of this process.',
                'Bit 0 of /proc/self/coredump_filter is off, so it would have no stacks.',
                Action(
                    'Run "echo 0x33 >/proc/self/coredump_filter" in the shell that starts Zope.'
                ),
            )
        if pattern.kind == corepattern.NONE:
            return self._none(
                'A crash leaves no core file.',
                f'{_quoted(pattern)} Nothing keeps it.',
                _to_files(site),
            )
        if pattern.kind == corepattern.FILE:
            return self._file(site, pattern, limits, is_for_root=dumpable == _ONLY_FOR_ROOT)
        if pattern.kind == corepattern.SOCKET:
            return self._socket(site, pattern)
        return self._program(site, pattern, limits)

    def _none(self, title: str, detail: str, action: Action) -> Finding:
        return self.found(INFO, title, detail, action)

    def _file(
        self, site: Site, pattern: CorePattern, limits: _Limits, is_for_root: bool
    ) -> Finding:
        detail = _quoted(pattern)
        if not limits.soft:
            return self._none(
                'A crash leaves no core file.',
                f'RLIMIT_CORE is 0. {detail} The fault log still has the Python frames; a core '
                'file adds the frames of C code.',
                _how_to_allow(limits.hard),
            )
        if is_for_root and not pattern.text.startswith('/'):
            return self._none(
                'A crash leaves no core file.',
                f'{detail} The kernel writes core files of processes that changed their user only '
                'if it is an absolute path (fs.suid_dumpable is 2).',
                _to_files(site),
            )
        # A folder whose name has a specifier cannot be looked at before the crash.
        is_known = '/' not in pattern.glob
        if is_known and not is_for_root and not os.access(pattern.folder, os.W_OK):
            return self._none(
                'A core file could not be written.',
                f'{detail} {pattern.folder} is not writable for this process.',
                Action('Make {folder} writable. ', folder=pattern.folder) + _to_files(site),
            )
        if limits.is_too_small:
            return self._none(
                'A core file would be cut short.',
                f'{detail} RLIMIT_CORE is {megabytes(limits.soft)}, and it would have about '
                f'{megabytes(limits.size)} now.',
                _how_to_allow(limits.hard if limits.hard < 0 or limits.hard > limits.size else 0),
            )
        free = _free_space(pattern.folder)
        if 0 <= free < limits.size:
            return self._none(
                'There may be no room for a core file.',
                f'{detail} {pattern.folder} has {megabytes(free)} free, and it would have about '
                f'{megabytes(limits.size)} now.',
                Action('Make room in {folder}. ', folder=pattern.folder) + _to_files(site),
            )
        return self.ok(
            'A crash leaves a core file.',
            ' '.join(filter(None, (detail, _where(pattern, is_for_root), _notes(site, limits)))),
        )

    def _socket(self, site: Site, pattern: CorePattern) -> Finding:
        detail = (
            f'{_quoted(pattern)} A server at the socket {pattern.socket} of the host gets it, and '
            'decides whether it is kept and who may read it. RLIMIT_CORE does not count.'
        )
        if not _is_in_container(site) and not os.path.exists(pattern.socket):
            return self._none(
                'Core files are given to a socket that does not exist.', detail, _to_files(site)
            )
        return self.ok('Core files are given to a server.', detail)

    def _program(self, site: Site, pattern: CorePattern, limits: _Limits) -> Finding:
        detail = _quoted(pattern)
        if not _is_in_container(site) and not os.path.exists(pattern.program):
            return self._none(
                'Core files are given to a program that does not exist.', detail, _to_files(site)
            )
        storage = _storage_of_systemd(site) if pattern.kind == corepattern.SYSTEMD else ''
        if storage in ('none', 'journal'):
            return self._none(
                'systemd-coredump keeps no core file.'
                if storage == 'none'
                else 'systemd-coredump keeps core files in the journal.',
                f'{detail} Storage is {storage} in coredump.conf.',
                Action(
                    'Write "Storage=external" into `[Coredump]` of /etc/systemd/coredump.conf as '
                    'root.'
                ),
            )
        if not limits.soft:
            return self._none(
                'Core files are given to a program, which may keep none.',
                f'{detail} RLIMIT_CORE is 0: then systemd-coredump and others only log the crash.',
                _how_to_allow(limits.hard),
            )
        kept = _KEEPERS.get(pattern.kind, 'It decides whether the core file is kept, and where.')
        host = ' It is on the host, outside of this container.' if _is_in_container(site) else ''
        return self.ok('Core files are given to a program.', f'{detail} {kept}{host}')


def _quoted(pattern: CorePattern) -> str:
    return f'core_pattern is "{pattern.text}".'


def _where(pattern: CorePattern, is_for_root: bool) -> str:
    file = os.path.join(pattern.folder, pattern.glob)
    who = 'root' if is_for_root else 'the user of this process and root'
    always_same = '*' not in pattern.glob
    replaced = ' The next crash replaces it: its name has no pid.' if always_same else ''
    return f'The file is {file}, and only {who} may read it (mode 0600).{replaced}'


def _notes(site: Site, limits: _Limits) -> str:
    notes = []
    if limits.soft >= 0:
        notes.append(f'The limit is {limits.soft} bytes.')
    if limits.size:
        notes.append(f'It would have about {megabytes(limits.size)} now.')
    dumped = _filter(site)
    if dumped is not None and not dumped & _HEADS:
        notes.append(
            'Bit 4 of /proc/self/coredump_filter is off: it would not have the build ids of the '
            'libraries.'
        )
    return ' '.join(notes)


def _how_to_allow(hard: int) -> Action:
    if hard:
        return Action(
            'To have one, write "core-files on" into `<product-config stabilitymonitor>` of '
            'zope.conf and restart.'
        )
    return Action(
        'To have one, write "LimitCORE=infinity" into `[Service]` of the unit, or "ulimit -c '
        'unlimited" before the line that starts Zope; start a container with "--ulimit core=-1".'
    )


def _to_files(site: Site) -> Action:
    return _TO_FILES_ON_HOST if _is_in_container(site) else _TO_FILES


def _is_in_container(site: Site) -> bool:
    """Whether this process is in another pid namespace than the first programs of the machine."""
    return bool(site.context.get('pid_namespace', FIRST_NAMESPACE) != FIRST_NAMESPACE)


def _storage_of_systemd(site: Site) -> str:
    """Return the value of Storage in coredump.conf; '' if it is not set there."""
    found = ''
    drop_ins = sorted((site.etc / f'{_SYSTEMD_CONF}.d').glob('*.conf'))
    for file in (site.etc / _SYSTEMD_CONF, *drop_ins):
        for value in _STORAGE.findall(text(file)):
            found = value
    return found


def _size_of_core(site: Site) -> int:
    """Return about how many bytes a core file of this process has; 0 if that is not known.

    By default the kernel writes the memory that belongs to no file, also what is swapped out.
    """
    names = 'RssAnon|RssShmem|VmSwap'
    sizes = re.findall(rf'^(?:{names}):\s*([0-9]+) kB', site.text('self/status'), re.MULTILINE)
    return sum(map(int, sizes)) << 10


def _filter(site: Site) -> int | None:
    """Return which memory a core file has, None if that is not known."""
    try:
        return int(site.text('self/coredump_filter'), 16)
    except ValueError:
        return None


def _free_space(folder: str) -> int:
    """Return how many bytes this user may still write into that folder; -1: not known."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return -1
    return status.f_bavail * status.f_frsize


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return '/nonexistent'


def _dumpable() -> int:
    try:
        dumpable: int = ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    except (AttributeError, OSError, TypeError):
        return 1
    return dumpable
