"""Triage by the command: it does what a start of Zope does, with the options of that Zope.

Only the command imports this module.  The command does not read zope.conf.  It takes the options
from the context of a run, see `options.for_record`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Mapping

from ..model.errors import NoSuchRun
from ..model.options import from_record
from ..model.runrecord import RunRecord
from ..store.archive import Archive
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import may_live
from ..store.rundirectory import number_of
from ..store.rundirectory import read_json
from ..system.eventlog import LOGGER
from .evidence import World
from .triage import triage

try:
    import grp
except ImportError:  # Windows: there are no groups
    grp = None  # type: ignore[assignment]  # a module or nothing

_GROUP_MAY_READ = 0o050  # list a directory and go into it


def by_hand(
    base: Base,
    on_error: Callable[[str, Exception, RunRecord | None], object],
    starts_programs: bool = True,
) -> tuple[list[RunRecord], int]:
    """Judge, archive and prune the runs of that directory, as a start of Zope does.

    Returns the records of the runs that it archived, and how many old runs it removed.  The options
    are those of the newest run that recorded them.  If no run recorded them, only their owner can
    read the files, and nothing is removed, because it is not known how much the site wants to keep.
    Where no programs may be started, the journal is not asked, and no core file is looked for.
    """
    options = recorded_options(base)
    base = as_recorded(base, options)
    done = triage(base, on_error=on_error)
    if done:
        done = _with_witnesses(base, done, on_error, starts_programs)
    runs = options.get('keep-runs')
    days = options.get('keep-days')
    size = options.get('keep-bytes')
    if not isinstance(runs, int):
        return done, 0
    if not isinstance(days, int | float):
        return done, 0
    if not isinstance(size, int):
        return done, 0
    removed = Archive(base).prune(keep_runs=runs, keep_days=days, keep_bytes=size)
    return done, removed


def _with_witnesses(
    base: Base,
    done: list[RunRecord],
    on_error: Callable[[str, Exception, RunRecord | None], object],
    starts_programs: bool,
) -> list[RunRecord]:
    """Ask the logs of others about these runs and about recent ones; return the records of these
    runs with what the logs say.
    """
    from . import witnesslogs  # it is needed only if a run was dead

    judged = {record.run for record in done}
    others = [record for record in witnesslogs.recent(base) if record.run not in judged]
    world = World() if starts_programs else World(journalctl=None)
    witnesslogs.ask(base, [*done, *others], lambda name, error: on_error(name, error, None), world)
    if starts_programs:
        from . import corereading

        corereading.read_now(base, judged, _log_unread)
    archive = Archive(base)
    found = []
    for record in done:
        with contextlib.suppress(NoSuchRun):  # clean runs of scripts are only counted
            record = archive.record(record.run)
        found.append(record)
    return found


def _log_unread(run: str, error: Exception) -> None:
    LOGGER.warning('The core file of the run %s could not be read: %s.', run, error)


def as_recorded(base: Base, options: Mapping[str, str | int | float]) -> Base:
    """Return that data directory with the group that these recorded options name, if it may read.

    New files then get the permissions that Zope gives them.
    """
    return Base(base.path, _usable_group(base, str(options.get('group', ''))))


def recorded_options(base: Base) -> dict[str, str | int | float]:
    """Return the options that a run recorded in its context with `options.for_record`.

    A living server is preferred, then another server, then a script; among equals, the newest run.
    """
    found = []  # (is a server, may live, number, name, path)
    for name in base.waiting():
        path = base.runs / name
        context = read_json(path / CONTEXT)
        is_server = context.get('role') != 'script'
        found.append((is_server, may_live(path), number_of(path), name, path))
    for record in Archive(base).summaries():
        path = base.archive / record.run
        is_server = record.role == 'server'
        found.append((is_server, False, record.number, record.run, path))
    found.sort(reverse=True)
    for *_, path in found:
        context = read_json(path / CONTEXT)
        options = from_record(context.get('options'))
        if options:
            return options
    return {}


def _usable_group(base: Base, name: str) -> str:
    """Return the group if it exists and may already read the directory; else "".

    The name comes from a file that Zope's user can write.  When root runs the command, it must not
    open files to a group of which that user is not a member.
    """
    status = base.path.lstat()
    if not name or not grp:
        return ''
    try:
        group = grp.getgrnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return ''
    if status.st_gid != group.gr_gid:
        return ''
    if status.st_mode & _GROUP_MAY_READ != _GROUP_MAY_READ:
        return ''
    return name
