"""Triage by the command: it does what a start of Zope does, with the options of that Zope.

Only the command imports this module.  The command cannot read zope.conf; it takes the options from
the context of a run, see `options.for_record`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..model.options import from_record
from ..model.runrecord import RunRecord
from ..store.archive import Archive
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import read_json
from .triage import triage

try:
    import grp
except ImportError:  # Windows: there are no groups
    grp = None  # type: ignore[assignment]  # a module or nothing


def by_hand(
    base: Base, on_error: Callable[[str, Exception], object]
) -> tuple[list[RunRecord], int]:
    """Judge, archive and prune in that directory, as a start of Zope does.

    Returns the records of the runs that it archived, and how many old runs it removed.  The options
    are those of the newest run that recorded them.  Where no run did, only their owner can read the
    files, and nothing is removed: how much the site wants to keep is not known.
    """
    options = recorded_options(base)
    base = Base(base.path, _usable_group(base, str(options.get('group', ''))))
    done = triage(base, on_error=on_error)
    runs = options.get('keep-runs')
    days = options.get('keep-days')
    size = options.get('keep-bytes')
    if not isinstance(runs, int) or not isinstance(days, int | float) or not isinstance(size, int):
        return done, 0
    return done, Archive(base).prune(runs, days, size)


def recorded_options(base: Base) -> dict[str, str | int | float]:
    """The options that `options.for_record` left in the newest context that has them.

    A server that lives comes first, then other servers, then scripts.
    """
    found = []  # (is a server, may live, name, path)
    for name in base.waiting():
        path = base.runs / name
        is_server = read_json(path / CONTEXT).get('role') != 'script'
        found.append((is_server, may_live(path), name, path))
    for record in Archive(base).summaries():
        found.append((record.role == 'server', False, record.run, base.archive / record.run))
    for _, _, _, path in sorted(found, reverse=True):
        options = from_record(read_json(path / CONTEXT).get('options'))
        if options:
            return options
    return {}


def _usable_group(base: Base, name: str) -> str:
    """The group, if it exists and a start of Zope has opened the directory to it already; else "".

    The name comes from a file that Zope's user can write.  Where root runs the command, it must not
    open files to a group of which that user is no member.
    """
    try:
        group = grp.getgrnam(name).gr_gid if name and grp else None
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return ''
    status = base.path.stat()
    is_open = status.st_gid == group and status.st_mode & 0o050 == 0o050
    return name if is_open else ''
