"""Who holds the lock of a database file, if a run could not start because of it.

`zc.lockfile` locks `Data.fs.lock` and writes the pid into it.  A child of the run that took the
lock, which was forked and left behind, keeps it locked.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from ..model.tracebacksummary import exception_line
from ..store.regularfiles import names_in
from ..store.regularfiles import read_start_outside
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import name_facts
from ..system import filelocks

#: The exception of zc.lockfile, whose message ends with the name of the file, as `repr` gives it.
_LOCK_ERROR = re.compile(
    r"(?:zc\.lockfile\.)?LockError: Couldn't lock (?P<file>'[^']{1,1000}\.lock'|"
    r'"[^"]{1,1000}\.lock")'
)
#: At most this many bytes of the lock file are read.
_MOST = 200
_PID = re.compile(rb' *(\d{1,10})\b')


@dataclass(frozen=True)
class LockedFile:
    """The lock file that a run could not lock, and who holds it now.

    `taken_by` is the pid in the file, 0 if there is none, and `run` the run of that process, '' if
    it is none of this data directory.  `held` is None if it is not known who holds the lock.
    """

    file: str
    held: filelocks.Held | None
    taken_by: int = 0
    run: str = ''


def look(exception: str, path: Path, proc: Path) -> LockedFile | None:
    """Return the file that the run in the directory `path` could not lock; None if there is none.

    `exception` is the traceback of the exception that ended the run.
    """
    match = _LOCK_ERROR.fullmatch(exception_line(exception))
    if not match:
        return None
    try:
        file = Path(ast.literal_eval(match['file']))
        content = read_start_outside(file, _MOST)
    except (OSError, ValueError, SyntaxError):
        return None
    pid = _PID.match(content)
    taken_by = int(pid[1]) if pid else 0
    held = filelocks.held(file, proc)
    return LockedFile(str(file), held, taken_by, _run_of(taken_by, path) if taken_by else '')


def _run_of(pid: int, path: Path) -> str:
    """Return the newest run of this pid that began before the run in the directory `path`."""
    base = path.parent.parent
    found = []
    for folder in (base / 'runs', base / 'archive'):
        try:
            names = names_in(folder)
        except OSError:
            continue
        for name in names:
            if RUN_NAME.fullmatch(name) and name_facts(name)[1] == pid and name < path.name:
                found.append(name)
    return max(found, default='')
