"""What the command looks at: which data directory, and which run is meant by a word."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..model.errors import AmbiguousRun
from ..model.errors import NoDirectory
from ..model.errors import NoSuchRun
from ..model.plaintext import clean
from ..postmortem.allruns import AllRuns
from ..store.rundirectory import Base

#: `-1` is the newest incident, `-2` the one before.
_NUMBER = re.compile(r'-[1-9]\d{0,5}', re.ASCII)
_MOST_CANDIDATES = 5


# -- the data directory ----------------------------------------------------------------------------


def data_directory(options: Namespace, environ: Mapping[str, str] = os.environ) -> Base:
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
        if _has_runs(path):
            path = os.path.abspath(path)
            print(clean(f'stabilitymonitor: {path} is looked at, {how}.'), file=sys.stderr)
            return Base(_checked(path))
    raise NoDirectory('There is no data directory to look into.')


def _guesses(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    here = 'found from the current directory'
    yield here, os.path.join('var', 'stability')
    yield here, 'stability'  # where the current directory is the CLIENT_HOME
    for variable, below in (('INSTANCE_HOME', 'var/stability'), ('CLIENT_HOME', 'stability')):
        if environ.get(variable):
            yield f'as the variable {variable} says', os.path.join(environ[variable], below)


def _checked(path: str) -> str:
    if not os.path.isdir(path) or not os.access(path, os.R_OK | os.X_OK):
        raise NoDirectory(f'{path} is not a directory that can be read.')
    if not _has_runs(path):
        raise NoDirectory(f'{path} is no data directory: it has neither "runs" nor "archive".')
    return path


def _has_runs(path: str) -> bool:
    """Whether it may be a data directory: each start of Zope makes both of these folders."""
    return any(os.path.isdir(os.path.join(path, name)) for name in ('runs', 'archive'))


# -- a run -----------------------------------------------------------------------------------------


def incident(runs: AllRuns, word: str | None) -> str:
    """The name of the dead run that is meant: `-2` is the last incident but one, None the last one,
    other words are the beginning of a name.  Raises NoSuchRun, AmbiguousRun.
    """
    if word is None:
        word = '-1'
    if _NUMBER.fullmatch(word):
        return _numbered(runs, int(word[1:]))
    return by_beginning([record.run for record in runs.summaries()], word)


def any_run(runs: AllRuns, word: str) -> str:
    """The same, also for runs that live.  A word that fits no run is returned as it is."""
    if _NUMBER.fullmatch(word):
        return _numbered(runs, int(word[1:]))
    return by_beginning(runs.names(), word)


def by_beginning(names: Sequence[str], word: str) -> str:
    """The only one of these names that begins with the word, or the word itself if none does.

    Raises AmbiguousRun.
    """
    if not word:
        return word
    found = sorted({name for name in names if name.startswith(word)}, reverse=True)
    if word in found or not found:
        return word
    if len(found) > 1:
        shown = ', '.join(found[:_MOST_CANDIDATES])
        more = len(found) - _MOST_CANDIDATES
        if more > 0:
            shown += f' and {more} more'
        raise AmbiguousRun(f'{word!r} is the beginning of {len(found)} runs: {shown}.')
    return found[0]


def _numbered(runs: AllRuns, number: int) -> str:
    incidents = runs.incidents
    if not incidents:
        raise NoSuchRun('No incident has been recorded here.')
    if number > len(incidents):
        count = f'are only {len(incidents)} incidents' if len(incidents) > 1 else 'is one incident'
        raise NoSuchRun(f'There {count} here, so there is no -{number}.')
    return incidents[number - 1].run
