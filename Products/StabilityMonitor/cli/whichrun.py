"""What the command looks at: which data directory, and which run is meant by a word."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..model.errors import AmbiguousRun
from ..model.errors import NoDirectory
from ..model.errors import NoSuchRun
from ..postmortem.allruns import AllRuns
from ..store.rundirectory import Base
from .terminal import notice

#: `-1` is the newest incident, `-2` the one before.
_NUMBER = re.compile(r'-[1-9]\d{0,5}', re.ASCII)
_MOST_CANDIDATES = 5


# -- the data directory ----------------------------------------------------------------------------


def data_directory(
    options: Namespace,
    environ: Mapping[str, str] = os.environ,
) -> Base:
    """The directory that the options name, else the environment, else one that is found.

    One that is found is named on standard error.  Raises NoDirectory.
    """
    named = getattr(options, 'directory', None)
    home = getattr(options, 'client_home', None)
    if not named and home:
        named = os.path.join(home, 'stability')
    if not named:
        named = environ.get('STABILITYMONITOR_DIRECTORY')
    if named:
        return Base(_checked(named))
    for how, path in _guesses(environ):
        if not _has_runs(path):
            continue
        path = os.path.abspath(path)
        notice(f'{path} is looked at, {how}.')
        return Base(_checked(path))
    raise NoDirectory('There is no data directory to look into.')


def _guesses(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(how it was found, path) of directories where data may be, the likeliest first."""
    here = 'found from the current directory'
    yield here, os.path.join('var', 'stability')
    yield here, 'stability'  # where the current directory is the CLIENT_HOME
    for variable, below in (
        ('INSTANCE_HOME', 'var/stability'),
        ('CLIENT_HOME', 'stability'),
    ):
        home = environ.get(variable)
        if home:
            yield f'as the variable {variable} says', os.path.join(home, below)


def _checked(path: str) -> str:
    can_be_read = os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)
    if not can_be_read:
        raise NoDirectory(f'{path} is not a directory that can be read.')
    if not _has_runs(path):
        raise NoDirectory(f'{path} is no data directory: it has neither "runs" nor "archive".')
    return path


def _has_runs(path: str) -> bool:
    """Whether it may be a data directory: each start of Zope makes both of these folders."""
    for name in ('runs', 'archive'):
        if os.path.isdir(os.path.join(path, name)):
            return True
    return False


# -- a run -----------------------------------------------------------------------------------------


def incident(runs: AllRuns, word: str | None) -> str:
    """The name of the dead run that is meant: `-2` is the last incident but one, None the last one,
    other words are the beginning of a name.  Raises NoSuchRun, AmbiguousRun.
    """
    if word is None:
        word = '-1'
    if _NUMBER.fullmatch(word):
        return _numbered(runs, word)
    names = [record.run for record in runs.summaries()]
    return by_beginning(names, word)


def any_run(runs: AllRuns, word: str) -> str:
    """As `incident`, also for runs that live.  A word that fits no run is returned as it is."""
    if _NUMBER.fullmatch(word):
        return _numbered(runs, word)
    return by_beginning(runs.names(), word)


def by_beginning(names: Sequence[str], word: str) -> str:
    """The only one of these names that begins with the word, or the word itself if none does.

    Raises AmbiguousRun.
    """
    if not word:
        return word
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
        raise AmbiguousRun(f'{word!r} is the beginning of {count} runs: {shown}.')
    return found.pop()


def _numbered(runs: AllRuns, word: str) -> str:
    """The incident that a word such as `-2` means.  Raises NoSuchRun."""
    number = int(word.removeprefix('-'))
    incidents = runs.incidents
    count = len(incidents)
    if not count:
        raise NoSuchRun('No incident has been recorded here.')
    if number > count:
        there = f'are only {count} incidents' if count > 1 else 'is one incident'
        raise NoSuchRun(f'There {there} here, so there is no {word}.')
    return incidents[number - 1].run
