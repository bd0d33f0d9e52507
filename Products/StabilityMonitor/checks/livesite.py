"""What the checks look at: one frozen value, with a world that a test can replace field by field.

    Site.of(life)                                       this process
    Site(directory, python=Interpreter((3, 8, 0)))      another world

What only Zope can tell comes as `ZopeFacts`, made by `zmi.zopesite`.  Times are seconds since the
epoch.
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
from ..model.records import Sample
from ..recording.faulthandler_compat import FaultLog
from ..store.blackboxreader import read_samples
from ..store.regularfiles import open_regular
from ..system import runcontext
from ..system import stacksizes

#: A file is read in pieces: to ask for a megabyte takes one, and for good, however small the file
#: is.
_PIECE = 1 << 14


@dataclass(frozen=True)
class Database:
    """A ZODB database that is open here."""

    name: str
    storage: str  # dotted name of the storage's class
    pool_size: int
    mounted: tuple[str, ...] = ()
    file: str = ''  # of a FileStorage
    #: When its newest transaction was, None: not known.  Called by a check only: a storage may have
    #: to ask a server.
    last_transaction: Callable[[], float | None] = lambda: None


@dataclass(frozen=True)
class ZopeFacts:
    """What only Zope can tell.  The defaults stand for "not known"."""

    threads: int | None = None  # worker threads of the server
    databases: tuple[Database, ...] = ()
    #: Directives of zope.conf and their values in force, such as {'debug-mode': False}.
    switches: Mapping[str, object] = field(default_factory=dict)
    instance_home: str = ''
    client_home: str = ''
    pid_file: str = ''


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs."""

    version: tuple[int, int, int] = sys.version_info[:3]
    level: str = sys.version_info.releaselevel
    free_threaded: bool = 't' in getattr(sys, 'abiflags', '')
    has_gil: bool = getattr(sys, '_is_gil_enabled', lambda: True)()
    debug: bool = hasattr(sys, 'gettotalrefcount')
    prefix: str = sys.prefix

    @property
    def name(self) -> str:
        return (
            'Python '
            + '.'.join(map(str, self.version))
            + ('' if self.level == 'final' else f' ({self.level})')
        )


@dataclass(frozen=True)
class Site:
    """See the module.  `context` is `runcontext.collect`'s, `stack` size and guard of the smallest
    known one.
    """

    directory: Path
    context: Mapping[str, Any] = field(default_factory=dict)
    zope: ZopeFacts = field(default_factory=ZopeFacts)
    started: float | None = None
    started_monotonic: float | None = None
    samples: tuple[Sample, ...] = ()
    stack: tuple[int, int] | None = field(default_factory=stacksizes.default_stack)
    fault_log: FaultLog | None = None
    marked: frozenset[str] = frozenset()  # names of the signals that our own C handler notes
    now: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)
    python: Interpreter = field(default_factory=Interpreter)
    modules: Mapping[str, ModuleType] = field(default_factory=lambda: dict(sys.modules))
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    root_logger: logging.Logger = field(default_factory=logging.getLogger)
    outputs: Mapping[str, int] = field(
        default_factory=lambda: {'standard output': 1, 'standard error': 2}
    )
    parent: int = field(default_factory=os.getppid)
    proc: Path = Path('/proc')
    etc: Path = Path('/etc')
    unit_folders: tuple[Path, ...] = tuple(
        map(
            Path,
            (
                '/etc/systemd/system',
                '/run/systemd/system',
                '/usr/lib/systemd/system',
                '/lib/systemd/system',
            ),
        )
    )

    @classmethod
    def of(cls, life: ILivingRun, zope: ZopeFacts | None = None) -> Site:
        """The site of a living run (ILivingRun), also of one that records nothing."""
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
            stack=min(stacks, default=None),
            fault_log=life.fault_log,
            marked=frozenset(life.marks.files if life.marks else ()),
        )

    def text(self, name: str) -> str:
        """A file below /proc; '' where it cannot be read."""
        return text(self.proc / name)

    def lines(self, name: str) -> Iterator[str]:
        """Of a file below /proc that may be long, one by one: the whole of it would take room for
        good.
        """
        with (
            contextlib.suppress(OSError),
            open(self.proc / name, encoding='utf-8', errors='replace') as file,
        ):
            yield from file

    @property
    def log_files(self) -> list[str]:
        """The files that handlers of the root logger write to, by their paths."""
        files = (getattr(handler, 'baseFilename', '') for handler in self.root_logger.handlers)
        return [file for file in files if file]

    def program_modules(self) -> dict[str, dict[str, Any]]:
        """The globals of each loaded module, by its name.

        Only those of true modules: to ask a stand-in (a deprecated or deferred one) would wake it
        up.
        """
        return {
            name: object.__getattribute__(module, '__dict__')
            for name, module in self.modules.items()
            if issubclass(type(module), ModuleType)
        }


def text(path: Path, most: int = 1 << 20) -> str:
    """The beginning of a file, `most` bytes at the longest; '' where it cannot be read."""
    try:
        # Python 3.14 takes 128 KiB for a buffer whose size is not said
        with open(open_regular(path, follow=True), 'rb', buffering=_PIECE) as file:
            pieces = iter(lambda: file.read(_PIECE), b'')
            return b''.join(islice(pieces, -(-most // _PIECE)))[:most].decode('utf-8', 'replace')
    except (OSError, ValueError):
        return ''
