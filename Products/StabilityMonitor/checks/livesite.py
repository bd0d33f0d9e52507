"""The data that the checks read: one frozen value, whose fields a test can replace one by one.

    Site.of(life)                                       this process
    Site(directory, python=Interpreter((3, 8, 0)))      a made-up site, for a test

`zmi.zopesite` makes the `ZopeFacts`, which only Zope knows.  Times are seconds since the epoch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model.interfaces import ILivingRun
from ..model.records import LifePoint
from ..model.records import Sample
from ..recording.faulthandler_compat import FaultLog
from ..store.blackboxreader import read_curve
from ..store.blackboxreader import read_samples
from ..store.regularfiles import open_outside
from ..system import runcontext
from ..system import stacksizes

#: Files are read in pieces of this many bytes.  One read of a megabyte would allocate a megabyte,
#: however small the file is, and the process would not give that memory back.
_PIECE = 1 << 14


@dataclass(frozen=True)
class Database:
    """A ZODB database that is open here."""

    name: str
    storage: str  # dotted name of the storage's class
    pool_size: int
    mounted: tuple[str, ...] = ()
    file: str = ''  # the path of a FileStorage
    #: Returns the time of the newest transaction; None: not known.  Only a check calls it, because
    #: a check has a time limit and a storage may have to ask a server.
    last_transaction: Callable[[], float | None] = lambda: None


@dataclass(frozen=True)
class ZopeFacts:
    """Facts that only Zope knows.  The defaults mean "not known"."""

    threads: int | None = None  # worker threads of the server
    databases: tuple[Database, ...] = ()
    #: Directives of zope.conf and their values in force, for example {'debug-mode': False}.
    switches: Mapping[str, object] = field(default_factory=dict)
    instance_home: str = ''
    client_home: str = ''
    pid_file: str = ''


@dataclass(frozen=True)
class Interpreter:
    """The running Python."""

    version: tuple[int, int, int] = sys.version_info[:3]
    level: str = sys.version_info.releaselevel
    free_threaded: bool = 't' in getattr(sys, 'abiflags', '')
    has_gil: bool = getattr(sys, '_is_gil_enabled', lambda: True)()
    debug: bool = hasattr(sys, 'gettotalrefcount')
    prefix: str = sys.prefix

    @property
    def name(self) -> str:
        name = f'Python {".".join(map(str, self.version))}'
        return name if self.level == 'final' else f'{name} ({self.level})'


@dataclass(frozen=True)
class Site:
    """See the module.  `context` is the result of `runcontext.collect`; `stack` is the smallest
    known stack of a thread, as (size, guard) in bytes.
    """

    directory: Path
    context: Mapping[str, Any] = field(default_factory=dict)
    zope: ZopeFacts = field(default_factory=ZopeFacts)
    started: float | None = None
    started_monotonic: float | None = None
    samples: tuple[Sample, ...] = ()
    curve: tuple[LifePoint, ...] = ()
    stack: tuple[int, int] | None = field(default_factory=stacksizes.default_stack)
    fault_log: FaultLog | None = None
    marked: frozenset[str] = frozenset()  # names of the signals that our own C handler records
    now: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)
    python: Interpreter = field(default_factory=Interpreter)
    modules: Mapping[str, ModuleType] = field(default_factory=lambda: dict(sys.modules))
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    #: The command line; an embedded Python may have none.
    arguments: tuple[str, ...] = field(
        default_factory=lambda: tuple(getattr(sys, 'argv', None) or ())
    )
    root_logger: logging.Logger = field(default_factory=logging.getLogger)
    outputs: Mapping[str, int] = field(
        default_factory=lambda: {'standard output': 1, 'standard error': 2}
    )
    pid: int = field(default_factory=os.getpid)
    parent: int = field(default_factory=os.getppid)
    proc: Path = Path('/proc')
    etc: Path = Path('/etc')
    unit_folders: tuple[Path, ...] = (
        Path('/etc/systemd/system'),
        Path('/run/systemd/system'),
        Path('/usr/lib/systemd/system'),
        Path('/lib/systemd/system'),
    )
    journals: tuple[Path, ...] = (Path('/var/log/journal'), Path('/run/log/journal'))
    kernel_logs: tuple[Path, ...] = (
        Path('/dev/kmsg'),
        Path('/var/log/kern.log'),
        Path('/var/log/messages'),
    )

    @classmethod
    def of(cls, life: ILivingRun, zope: ZopeFacts | None = None) -> Site:
        """Return the Site of a living run (ILivingRun), also of a run that records nothing."""
        context = life.context or runcontext.collect(life.software, life.instance, life.role)
        known = filter(None, (life.smallest_stack, context.get('thread_stack')))
        stacks = [(size, guard) for size, guard in known]
        return cls(
            directory=life.path,
            zope=zope or ZopeFacts(threads=life.software.get('threads')),
            context=context,
            started=life.started,
            started_monotonic=life.started_monotonic,
            samples=read_samples(life.recorder.buffer) if life.recorder else (),
            curve=read_curve(life.recorder.buffer) if life.recorder else (),
            stack=min(stacks, default=None),
            fault_log=life.fault_log,
            marked=frozenset(life.marks.files if life.marks else ()),
        )

    def text(self, name: str) -> str:
        """Return the text of a file below /proc; '' if it cannot be read."""
        return text(self.proc / name)

    def lines(self, name: str) -> Iterator[str]:
        """Yield the lines of a file below /proc, which may be long.

        Reading it all at once would take memory that the process never gives back.
        """
        with (
            contextlib.suppress(OSError),
            open(self.proc / name, encoding='utf-8', errors='replace') as file,
        ):
            yield from file

    @property
    def log_files(self) -> list[str]:
        """The paths of the files that handlers of the root logger write to."""
        files = (getattr(handler, 'baseFilename', '') for handler in self.root_logger.handlers)
        return [file for file in files if file]

    def program_modules(self) -> dict[str, dict[str, Any]]:
        """Return {name of a loaded module: its globals}.

        Placeholder objects for deprecated or deferred modules are left out: reading their
        attributes would import something.
        """
        return {
            name: object.__getattribute__(module, '__dict__')
            for name, module in self.modules.items()
            if issubclass(type(module), ModuleType)
        }


def text(path: Path, most: int = 1 << 20) -> str:
    """Return the beginning of a file, at most `most` bytes; '' if it cannot be read."""
    try:
        # Without an explicit size, Python 3.14 makes a buffer of 128 KiB.
        with open(open_outside(path, follow=True), 'rb', buffering=_PIECE) as file:
            pieces = iter(lambda: file.read(_PIECE), b'')
            return b''.join(islice(pieces, -(-most // _PIECE)))[:most].decode('utf-8', 'replace')
    except (OSError, ValueError):
        return ''
