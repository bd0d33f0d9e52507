"""Vital signs: memory, CPU, threads, descriptors and the kernel's counters of OOM kills.

Files of /proc are opened once and read repeatedly with pread.  With one read a second, each read
takes 20 to 40 us of CPU time.  So a sample reads only what changes within a second, and `look`,
which is called less often, reads the rest.  Where there is no /proc (macOS, FreeBSD), memory,
threads and descriptors come from psutil, if it is installed.  -1 means "not known on this system".
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model.records import Sample
from . import procfiles

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

#: Most descriptors are in use above this share of the limit.
_MANY = 0.8
#: With more descriptors than this, they are not listed for each sample: it takes 1 us for each.
_MOST_LISTED = 256
_PAGE = os.sysconf('SC_PAGESIZE') if hasattr(os, 'sysconf') else 4096


class Vitals:
    """Takes samples of this process.  `cgroup` is what `cgroups.find` returned.

    Files are held open, or opened for each reading where `holds_files` is false.
    """

    def __init__(
        self,
        cgroup: dict[str, Any],
        proc: Path = Path('/proc'),
        holds_files: bool = True,
    ) -> None:
        self._descriptors = f'{proc}/self/fd'
        self._tasks = f'{proc}/self/task'
        self._links_count = False
        self.limit = cgroup.get('limit', -1)
        self._most_descriptors = descriptor_limit()
        self._files: dict[str, int] = {}
        self._paths: dict[str, Path | str] = {}  # of files that are not held open
        self._slow = _Slow()
        self._watches_stderr = False
        self._counts = _counts(self._descriptors)
        self._process = None if (proc / 'self').exists() else _process()
        flags = os.O_RDONLY | getattr(os, 'O_CLOEXEC', 0)
        for name, path in (
            ('statm', proc / 'self/statm'),
            ('stat', proc / 'self/stat'),
            ('vmstat', proc / 'vmstat'),
            ('counter', cgroup.get('counter_file')),
            ('current', cgroup.get('current_file')),
        ):
            if path is None:  # there is no memory cgroup
                continue
            if not holds_files:
                self._paths[name] = path
                continue
            try:
                self._files[name] = os.open(path, flags)
            except (OSError, TypeError):
                pass
        try:
            self._links_count = os.stat(self._tasks).st_nlink - 2 == self._read_thread_count()
        except OSError:
            pass

    def detach(self) -> None:
        for descriptor in self._files.values():
            try:
                os.close(descriptor)
            except OSError:
                pass
        self._files = {}
        self._paths = {}
        self._process = None

    def look(self) -> None:
        """Read the values that change slowly or are expensive to read."""
        slow = self._slow
        slow.descriptors = self._descriptor_count()
        slow.stderr_size, self._watches_stderr = _stderr()
        self._most_descriptors = descriptor_limit()
        self._look_at_group()

    @property
    def descriptors(self) -> int:
        """How many descriptors were open at the last `look`.

        They are counted again while most of those that the limit allows are in use.
        """
        found = self._slow.descriptors
        if 0 < self._most_descriptors * _MANY < found:
            found = self._slow.descriptors = self._descriptor_count()
        return found

    def look_at_host(self) -> None:
        """Read the OOM kills of the whole host.  Separate: /proc/vmstat has all kernel counters."""
        self._slow.host_kills = counter(self._read('vmstat', 16384), b'oom_kill')

    def sample(
        self,
        in_flight: int,
        overdue: int,
        workers: int,
        queue: int = -1,
        waited: float = -1.0,
        connections: int = -1,
        accept_queue: int = -1,
        accept_errors: int = -1,
        connection_limit: int = -1,
    ) -> Sample:
        """Return a sample; the arguments are fields of it.

        The values that matter if the process dies right now are read again: its memory, threads and
        descriptors, the memory of a cgroup with a limit, and the size of stderr.  Where descriptors
        must be listed to count them (before Linux 6.2), and there are many, their number is that of
        the last `look`.
        """
        if self.limit >= 0:
            self._look_at_group()
        slow = self._slow
        if self._watches_stderr:
            slow.stderr_size, _ = _stderr()
        if self._counts or slow.descriptors <= _MOST_LISTED:
            slow.descriptors = self._descriptor_count()
        return Sample(
            time.time(),
            time.monotonic(),
            self._resident_memory(),
            time.process_time(),
            self._thread_count(),
            slow.descriptors,
            in_flight,
            overdue,
            workers,
            slow.cgroup_current,
            self.limit,
            slow.cgroup_kills,
            slow.host_kills,
            slow.stderr_size,
            queue,
            waited,
            connections,
            accept_queue,
            accept_errors,
            self._most_descriptors,
            connection_limit,
        )

    def _look_at_group(self) -> None:
        self._slow.cgroup_current = _number(self._read('current'))
        self._slow.cgroup_kills = counter(self._read('counter'), b'oom_kill')

    def _read(self, name: str, size: int = 4096) -> bytes:
        if name in self._paths:
            return procfiles.read(self._paths[name], size)
        try:
            return os.pread(self._files[name], size, 0)
        except (KeyError, OSError):
            return b''

    def _ask_psutil(self, read: Callable[[Any], int]) -> int:
        """Return the answer of psutil; -1 without psutil, or if it fails."""
        if self._process is None:
            return -1
        try:
            return read(self._process)
        except Exception:  # psutil raises its own exceptions when the system refuses
            return -1

    def _resident_memory(self) -> int:
        try:
            fields = self._read('statm', 256).split()
            pages = int(fields[1])
        except (IndexError, ValueError):
            return self._ask_psutil(lambda process: process.memory_info().rss)
        return pages * _PAGE

    def _thread_count(self) -> int:
        # Each thread adds one link to the directory that lists them; a stat is cheaper than a read.
        if self._links_count:
            try:
                return os.stat(self._tasks).st_nlink - 2
            except OSError:
                pass
        return self._read_thread_count()

    def _read_thread_count(self) -> int:
        _, _, after_name = self._read('stat').rpartition(b')')
        fields = after_name.split()
        if len(fields) > 17:
            return int(fields[17])
        return self._ask_psutil(lambda process: process.num_threads())

    def _descriptor_count(self) -> int:
        try:
            if self._counts:
                return os.stat(self._descriptors).st_size
            return _listed(self._descriptors)
        except OSError as error:
            if error.errno == errno.EMFILE:  # the listing itself needs one, and none is left
                return self._most_descriptors
            return self._ask_psutil(lambda process: process.num_fds())


def descriptor_limit() -> int:
    """Return how many files this process may have open; -1 if there is no limit."""
    if resource is None:
        return -1
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return -1 if limit == resource.RLIM_INFINITY else limit


def descriptors_now(proc: Path = Path('/proc')) -> int:
    """Return how many descriptors this process has open; -1 if that is not known."""
    folder = f'{proc}/self/fd'
    try:
        # Before Linux 6.2 it is 0.  Where it counts, it can be read when no descriptor is left.
        return os.stat(folder).st_size or _listed(folder)
    except OSError as error:
        return descriptor_limit() if error.errno == errno.EMFILE else -1


class _Slow:
    """The values of the last `look`, for samples."""

    descriptors = -1
    cgroup_current = -1
    cgroup_kills = -1
    host_kills = -1
    stderr_size = -1


def _counts(descriptors: str) -> bool:
    """Return whether the size of this directory is the number of descriptors (since Linux 6.2)."""
    try:
        return os.stat(descriptors).st_size == _listed(descriptors)
    except OSError:
        return False


def _listed(descriptors: str) -> int:
    return len(os.listdir(descriptors)) - 1  # 1: the descriptor that `os.listdir` uses itself


def _process() -> Any:
    """Return this process as a psutil object; None without psutil."""
    try:
        import psutil  # type: ignore[import-untyped]  # it has no type hints

        return psutil.Process()
    except Exception:  # an optional library must never keep Zope from starting
        return None


def counter(text: bytes, name: bytes) -> int:
    """Return the number after a name in lines of "name number"; -1 if it is missing."""
    _, found, rest = (b'\n' + text).partition(b'\n' + name + b' ')
    if not found:
        return -1
    value, _, _ = rest.partition(b'\n')
    return _number(value)


def _stderr() -> tuple[int, bool]:
    """Return (size of the file behind stderr, whether it is a regular file, which can grow)."""
    try:
        status = os.fstat(2)
    except OSError:
        return -1, False
    return status.st_size, stat.S_ISREG(status.st_mode)


def _number(text: bytes) -> int:
    text = text.strip()
    if not text.isdigit():
        return -1
    return int(text)
