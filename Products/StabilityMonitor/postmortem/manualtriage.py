"""Triage by the command: it does what a start of Zope would do, with the options of that Zope.

Only the command imports this.  It cannot read zope.conf, so each run leaves the options that matter
in its context, see `options.for_record`.
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
    """What a start of Zope would do in that directory: the runs that it archived, and how many old
    ones it removed.

    The options are those of the newest run that has recorded them.  Where none has, files are for
    their owner alone, and nothing is removed: how much the site wants to keep is not known.
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
    """What `options.for_record` has left in the newest context that has it: of a server that lives,
    of another server, or of a script, in this order.
    """
    found = []
    for name in base.waiting():
        context = read_json(base.runs / name / CONTEXT)
        rank = context.get('role') != 'script', may_live(base.runs / name), name
        found.append((*rank, base.runs / name))
    for record in Archive(base).summaries():
        found.append((record.role == 'server', False, record.run, base.archive / record.run))
    for *_, path in sorted(found, reverse=True):
        options = from_record(read_json(path / CONTEXT).get('options'))
        if options:
            return options
    return {}


def _usable_group(base: Base, name: str) -> str:
    """The group, if it exists and the directory is open to it already, as a start would have made
    it; else "".

    Its name comes from a file that Zope's user may write: root must not give anything to a group
    that this user could not choose himself.
    """
    try:
        group = grp.getgrnam(name).gr_gid if name and grp else None
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return ''
    status = base.path.stat()
    is_open = status.st_gid == group and status.st_mode & 0o050 == 0o050
    return name if is_open else ''
