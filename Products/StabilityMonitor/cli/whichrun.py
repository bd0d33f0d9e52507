"""Find the data directory, and the run that a word on the command line names."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from ..model.counts import counted
from ..model.errors import AmbiguousRun
from ..model.errors import NoDirectory
from ..model.errors import NoSuchRun
from ..postmortem.allruns import AllRuns
from ..store.regularfiles import own_user
from ..store.rundirectory import LONGEST_NAME
from ..store.rundirectory import Base
from . import dataowner
from . import directoryoption
from .dataowner import Owner
from .terminal import notice

#: `-1` is the newest incident, `-2` the one before it.
_NUMBER = re.compile(r'-[1-9]\d{0,5}', re.ASCII)
_MOST_CANDIDATES = 5


class PermissionDenied(NoDirectory):
    """A folder belongs to another user; `is_data`: it is the data directory, not one above it."""

    def __init__(self, folder: str, owner: Owner, is_data: bool) -> None:
        super().__init__(f'Permission denied: {folder} belongs to {owner.label}.')
        user = owner.name or f'#{owner.uid}'
        again = shlex.join(['sudo', '-u', user, *_this_command()])
        self.next_step = f'Run this as that user: {again}'
        if is_data:
            self.next_step = (
                'Set the option "group" in zope.conf, so that a group may read it, or run this as '
                f'that user: {again}'
            )


def _this_command() -> list[str]:
    """Return the words that run this command again, where sudo has removed the environment."""
    kept = []
    for name in ('PYTHONPATH', 'STABILITYMONITOR_DIRECTORY', 'INSTANCE_HOME', 'CLIENT_HOME'):
        if name in os.environ:
            kept.append(f'{name}={os.environ[name]}')
    words = [sys.executable, *sys.orig_argv[1:]]
    return ['env', *kept, *words] if kept else words


# -- the data directory ----------------------------------------------------------------------------


def data_directory(
    options: Namespace,
    environ: Mapping[str, str] = os.environ,
) -> Base:
    """Return the directory from the options, else from the environment, else a likely one.

    A guess is reported on standard error.  Raises NoDirectory.
    """
    named = getattr(options, 'directory', None)
    home = getattr(options, 'client_home', None)
    usual = _of_home(home) if home else environ.get('STABILITYMONITOR_DIRECTORY')
    if not named and usual:
        named = _last_used(usual.rstrip('/') or '/')
    if named:
        return Base(_checked(named))
    closed = []
    for how, likely in _guesses(environ):
        path = _last_used(os.path.abspath(_of_home(likely)))
        if _has_runs(path):
            notice(f'Using the data directory {path}, {how}.')
            return Base(_checked(path))
        if os.path.isdir(path):
            closed.append(path)
    for path in closed:
        check_readable(path)
    raise NoDirectory('No data directory was found.')


def _guesses(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (how it was found, path) of possible CLIENT_HOMEs, the most likely first."""
    how = 'found below the current directory'
    yield how, 'var'
    yield how, '.'
    for variable, below in (('INSTANCE_HOME', 'var'), ('CLIENT_HOME', '')):
        home = environ.get(variable)
        if home:
            yield f'found with the variable {variable}', os.path.join(home, below)


def _of_home(client_home: str) -> str:
    """Return the data directory of a CLIENT_HOME: that of zope.conf, else the folder in it."""
    usual = os.path.join(client_home, 'stability')
    named = directoryoption.named_directory(client_home)
    if named is None:
        return usual
    if not named.is_resolved:
        notice(
            f'{named.conf} sets the option "directory" to {named.path}, which this command cannot '
            'resolve: name the directory with --directory.'
        )
        return usual
    if not os.path.isdir(named.path):  # as before the restart that makes it
        return usual
    notice(f'{named.conf} sets the option "directory": {named.path}.')
    return named.path


def _last_used(path: str) -> str:
    """Return the data directory that Zope used last: this one, or `<directory>-<uid>` beside it.

    It uses the other one if this one belongs to another user (`recording.livingrun`).
    """
    used = []
    found = [path]
    with contextlib.suppress(ValueError):  # a path with NUL
        found += glob.glob(glob.escape(path) + '-*')
    possible = re.compile(re.escape(path) + r'(-\d{1,10})?', re.ASCII)
    for each in filter(possible.fullmatch, found):
        with contextlib.suppress(OSError):
            if _has_runs(each):
                changed = os.stat(os.path.join(each, 'runs')).st_mtime  # by each start of Zope
                used.append((changed, each))
    if not used:
        return path
    *older, (_, last) = sorted(used)
    if older:
        others = ', '.join(sorted(each for _, each in older))
        notice(f'Using the data directory {last}, which Zope used last; beside it: {others}.')
    elif last != path:
        notice(f'Using the data directory {last}.')
    return last


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raise NoDirectory if this user cannot read the directory, with what helps."""
    can_be_read = os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)
    if can_be_read:
        return
    closed = _closed_folder(path)
    if closed:
        owner = dataowner.owner_of_path(closed)
        if owner.uid != own_user():
            raise PermissionDenied(closed, owner, closed == os.path.abspath(path))
    raise NoDirectory(f'{path} is not a readable directory.')


def _closed_folder(path: str | os.PathLike[str]) -> str:
    """Return the first folder of a path that this user may not pass through or read; '' if none."""
    whole = Path(os.path.abspath(path))
    for folder in reversed((whole, *whole.parents)):
        needed = os.X_OK | os.R_OK if folder == whole else os.X_OK
        if not os.path.isdir(folder):
            return ''
        if not os.access(folder, needed):
            return str(folder)
    return ''


def _checked(path: str) -> str:
    check_readable(path)
    if not _has_runs(path):
        raise NoDirectory(f'{path} is not a data directory: it has neither "runs" nor "archive".')
    return path


def _has_runs(path: str) -> bool:
    """Whether this may be a data directory: each start of Zope makes both of these folders."""
    for name in ('runs', 'archive'):
        if os.path.isdir(os.path.join(path, name)):
            return True
    return False


# -- a run -----------------------------------------------------------------------------------------


def incident(runs: AllRuns, word: str | None) -> str:
    """Return the name of the dead run that `word` means.

    None and `-1` mean the newest incident, `-2` the one before it; any other word is the beginning
    of a name.  Raises NoSuchRun, AmbiguousRun.
    """
    if word is None:
        word = '-1'
    if _NUMBER.fullmatch(word):
        return _numbered(runs, word)
    names = [record.run for record in runs.summaries()]
    return by_beginning(names, word)


def any_run(runs: AllRuns, word: str) -> str:
    """Like `incident`, but also for living runs.  A word that fits no run is returned unchanged."""
    if _NUMBER.fullmatch(word):
        return _numbered(runs, word)
    return by_beginning(runs.names(), word)


def by_beginning(names: Sequence[str], word: str) -> str:
    """Return the only name that begins with the word, or the word itself if no name does.

    Raises AmbiguousRun, and NoSuchRun if no name can be as long as the word.
    """
    if not word:
        return word
    if len(word) > LONGEST_NAME:
        raise NoSuchRun(f'No run has so long a name: {word[:LONGEST_NAME]!r}...')
    found = {name for name in names if name.startswith(word)}
    if word in found or not found:
        return word
    count = len(found)
    if count > 1:
        newest_first = sorted(found, reverse=True)
        shown = ', '.join(newest_first[:_MOST_CANDIDATES])
        more = count - _MOST_CANDIDATES
        if more > 0:
            shown += f' and {more} more'
        raise AmbiguousRun(f'{word!r} fits {count} runs: {shown}.')
    return found.pop()


def _numbered(runs: AllRuns, word: str) -> str:
    """Return the incident that a word such as `-2` means.  Raises NoSuchRun."""
    number = int(word.removeprefix('-'))
    incidents = runs.incidents
    count = len(incidents)
    if not count:
        raise NoSuchRun('No incident has been recorded here.')
    if number > count:
        there = counted(count, 'incident has', 'incidents have')
        raise NoSuchRun(f'Only {there} been recorded here, so there is no {word}.')
    return incidents[number - 1].run
