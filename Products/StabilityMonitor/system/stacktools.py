"""Tools that read the stacks of a process or of a core file: where they are, how they run, and what
they print.

pystack and py-spy show C and Python frames.  A separate program, the warden (`toolwarden`), runs
the tool and ends it after a time limit.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .childprocess import ChildProcess
from .childprocess import python_command

#: Additional seconds for the warden.
GRACE = 5.0
_WARDEN = os.path.join(os.path.dirname(__file__), 'toolwarden.py')
#: A tool that may use no limited amount of memory.
UNLIMITED = 0


@dataclass(frozen=True)
class Limits:
    """What a tool may take: seconds, bytes of output, bytes of memory of its own, and bytes of
    address space, which includes the files that it maps.
    """

    seconds: float = 30.0
    output: int = 2 << 20
    memory: int = UNLIMITED
    addresses: int = UNLIMITED


@dataclass(frozen=True)
class Outcome:
    """How a tool ended, and what it printed.

    `ended` says why: "itself", "time", "parent" (the parent of the warden has ended), or "lost"
    (the warden was killed).  `code` is its exit status, negative for a signal, None if unknown.
    """

    ended: str
    code: int | None
    output: str = ''


def find_tools(
    names: Iterable[str],
    executable: str = sys.executable,
    path: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return {name: command} of the tools that are next to the executable, on PATH, or importable.

    {} on other systems than Linux.
    """
    if sys.platform != 'linux':
        return {}
    if path is None:
        path = os.environ.get('PATH', '')
    folders = os.pathsep.join((os.path.dirname(executable), path))
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        program = shutil.which(name, path=folders)
        if program:
            found[name] = (program,)
            continue
        folder = _import_folder(name)
        if folder:
            found[name] = (
                '/usr/bin/env',
                f'PYTHONPATH={folder}',
                executable,
                '-P',  # no module from the working directory of the site
                '-m',
                name,
            )
    return found


def _import_folder(name: str) -> str:
    """The folder on sys.path that holds a package; '' if it cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (
        ImportError,
        AttributeError,
        ValueError,
        TypeError,
    ):  # the module of that name is damaged or unusual
        return ''
    if spec is None or not spec.origin:
        return ''
    package = os.path.dirname(spec.origin)
    return os.path.dirname(package)


class GuardedTool:
    """A tool that the warden runs.  `Outcome` has its output.

    `pid` is the process that the tool reads, 0 if it reads a file.  As a context manager it starts
    the warden, whose pid is `warden`, and ends both.  Raises OSError if it cannot be started.
    """

    def __init__(self, command: Iterable[str], pid: int = 0, limits: Limits = Limits()) -> None:
        self._limits = limits
        guarded = python_command(
            interpreter(),
            _WARDEN,
            pid,
            limits.seconds,
            limits.output,
            limits.memory,
            limits.addresses,
            *command,
        )
        self._child = ChildProcess(guarded, environment(), listens=True)

    @property
    def warden(self) -> int:
        return self._child.pid

    def __enter__(self) -> GuardedTool:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.end()

    def run(self) -> Outcome:
        """Let the tool run, and wait until it has ended."""
        self._child.write(b'go\n')
        answer, _ = self._child.read(time.monotonic() + self._limits.seconds + GRACE)
        return _outcome(answer)

    def end(self) -> None:
        """End the warden, which ends its tool when its standard input is closed."""
        self._child.end(GRACE)


def _outcome(answer: bytes) -> Outcome:
    head, _, output = answer.partition(b'\n')
    if not head:
        return Outcome('lost', None)
    told = json.loads(head)
    return Outcome(told['ended'], told['code'], output.decode('utf-8', 'replace'))


def interpreter() -> str:
    """Return the Python that runs programs of this product."""
    found = sys.executable or ''
    if 'python' not in os.path.basename(found):
        # This server embeds Python, so `sys.executable` is the server.
        found = os.path.join(sys.exec_prefix, 'bin', 'python3')
    return found


def environment() -> dict[str, str]:
    """The environment of a tool: plain output, no backtrace of the tool, no download of symbols."""
    environment = dict(os.environ)
    environment.pop('DEBUGINFOD_URLS', None)
    environment['NO_COLOR'] = '1'
    environment['RUST_BACKTRACE'] = '0'
    environment['PYTHONIOENCODING'] = 'utf-8:backslashreplace'
    return environment


#: The first line of a thread and the line of a frame, in the output of each tool.
_PYSTACK_HEAD = re.compile(
    r'Traceback for thread (?P<id>\d+)'
    r'(?: \((?P<name>.*)\))? '
    r'(?P<status>\[[^]]*\] )?'
    r'\(most recent'
)
_PYSTACK_FRAME = re.compile(
    r'\s+\((?P<kind>C|Python)\) '
    r'File "(?P<file>.*)", line (?P<line>-?\d+), '
    r'in (?P<function>.*?)'
    r'(?: \((?P<library>[^()]*)\))?$'
)
_PY_SPY_HEAD = re.compile(
    r'Thread (?P<id>\d+) '
    r'\((?P<status>[^)]*)\)'
    r'(?:: "(?P<name>.*)")?$'
)
_PY_SPY_FRAME = re.compile(
    r'    (?P<kind>)(?P<function>\S.*) '
    r'\((?P<file>.*?)(?P<library>)'
    r'(?::(?P<line>\d+))?\)$'
)


def parse(text: str) -> list[dict[str, Any]]:
    """Read the output of a tool.

    Returns [{native_id, name, holds_gil, frames: [{file, line, function, native, library}]}],
    innermost frame first.  Unknown lines are skipped.  What is not known is None (`line`) or ''.
    """
    threads: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    is_pystack = True
    for line in text.splitlines():
        head = _PYSTACK_HEAD.match(line) or _PY_SPY_HEAD.match(line)
        if head:
            is_pystack = head.re is _PYSTACK_HEAD
            frames = []
            status = head['status'] or ''
            holds_gil = 'Has the GIL' in status or '+gil' in status
            threads.append(
                {
                    'native_id': int(head['id']),
                    'name': head['name'] or '',
                    'frames': frames,
                    'holds_gil': holds_gil,
                }
            )
        elif not threads:
            continue
        elif is_pystack:
            found = _PYSTACK_FRAME.match(line)
            if found:
                frames.append(_frame(found))
        else:
            found = _PY_SPY_FRAME.match(line)
            if found:
                frames.append(_frame(found))
    if is_pystack:  # it prints the innermost frame last
        for thread in threads:
            thread['frames'].reverse()
    return threads


def _frame(found: re.Match[str]) -> dict[str, Any]:
    file = found['file']
    line = int(found['line'] or 0)
    if found['kind']:  # only pystack prints the kind
        native = found['kind'] == 'C'
    else:
        native = not file.endswith('.py') and not file.startswith('<')
    library = found['library'] or ''
    if native and not line and not library:
        library = file  # py-spy prints the library if it does not know the source file
    if file in ('???', library):
        file = ''
    return {
        'file': file,
        'line': line or None,
        'native': native,
        'function': found['function'].replace('???', ''),
        'library': library,
    }
