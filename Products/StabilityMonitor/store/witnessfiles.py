"""The files `witness-<source>.json` beside the evidence of a run: what others saw of its end.

Each is written once, whole: the first writer of a source wins.  They may come before, during and
after triage.  `incident.json` is never rewritten; who reads a record reads these files, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from ..model import foreignjson
from ..model.errors import NoSuchRun
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.witnesses import SOURCES
from ..model.witnesses import Witness
from .regularfiles import Folder
from .regularfiles import names_in
from .regularfiles import opened
from .regularfiles import own_user
from .regularfiles import read_tail
from .rundirectory import CONTEXT
from .rundirectory import RUN_NAME
from .rundirectory import Base
from .rundirectory import name_facts
from .rundirectory import number_of
from .rundirectory import read_json

#: In the archive: a line with the name of a run for each file of a witness, and each `core.json`,
#: that was written, so that those who keep records in memory know which to read again.
AMENDED = 'amended'
#: At most this many bytes of a file of a witness are read.
MOST = 64 << 10
_NAME = re.compile(r'witness-([a-z]{1,20})\.json', re.ASCII)
#: Names of signals: "SIGKILL", "SIGRTMIN+3", "signal 37".
_SIGNAL = re.compile(r'SIG[A-Z0-9+-]{1,20}|signal \d{1,3}', re.ASCII)
_FACT = 2000  # characters
_ROOT = 0


def file_name(source: str) -> str:
    return f'witness-{source}.json'


def add(base: Base, run: str, witness: Witness) -> bool:
    """Leave what a witness saw with a dead run, wherever that is now.

    Returns False if there is a file of this source already.  Raises NoSuchRun if the run is in no
    folder, and OSError if the system refuses.
    """
    document = to_json(witness) | {'fact': witness.fact[:_FACT]}
    content = json.dumps({'format': 1} | document).encode()
    for above in (base.runs, base.archive):  # in this order, because a run moves only that way
        try:
            with opened(above) as folder, folder.folder(run) as place:
                written = write_once(place, file_name(witness.source), content, base.file_mode)
                break
        except FileNotFoundError:
            continue
    else:
        raise NoSuchRun(f'There is no dead run {run!r}.')
    if written:
        with contextlib.suppress(OSError):
            note(base, run)
    return written


def last_of_process(base: Base, run: str) -> str:
    """Return the last run of the process that began this run.

    A process that replaces itself (os.execv) begins another run: only that one ended with it.
    """
    own = base.folder_of(run)
    identity = read_json(own / CONTEXT).get('identity')
    _, pid = name_facts(run)
    found = [(number_of(own), run)]
    for name in {*names_in(base.runs), *names_in(base.archive)}:
        if identity and name != run and RUN_NAME.fullmatch(name) and name_facts(name)[1] == pid:
            place = base.folder_of(name)
            if read_json(place / CONTEXT).get('identity') == identity:
                found.append((number_of(place), name))
    return max(found)[1]


def read(folder: Folder) -> tuple[Witness, ...]:
    """Return what the witnesses in the folder of a run saw.  Files that do not fit are left out."""
    found = []
    for name in folder.names():
        match = _NAME.fullmatch(name)
        if not match or match[1] not in SOURCES:
            continue
        with contextlib.suppress(OSError, ValueError):
            document = foreignjson.parse(folder.read_whole(name, MOST))
            witness = from_json(Witness, document, strict=True)
            if witness.source == match[1] and _is_possible(witness):
                found.append(witness)
    return tuple(found)


def of_run(path: Path) -> tuple[Witness, ...]:
    """Return what others saw of the end of the run in that directory; () if it is gone."""
    with contextlib.suppress(OSError), opened(path) as folder:
        return read(folder)
    return ()


def _is_possible(witness: Witness) -> bool:
    is_code = witness.exit_code is None or 0 <= witness.exit_code <= 255
    is_signal = witness.signal is None or bool(_SIGNAL.fullmatch(witness.signal))
    is_asked = not witness.asked or bool(_SIGNAL.fullmatch(witness.asked))
    is_one = witness.exit_code is None or witness.signal is None
    return is_code and is_signal and is_asked and is_one


def write_once(place: Folder, name: str, content: bytes, mode: int) -> bool:
    """Write a file that must not exist yet.  Another process sees it whole or not at all."""
    if place.has(name):
        return False
    beside = place.beside(name)
    try:
        with open(place.create(beside, mode), 'wb') as file:
            file.write(content)
            _give_to_owner(file.fileno(), place)
        try:
            place.link(beside, name)
        except FileExistsError:
            return False
        except OSError:  # a volume without hard links
            place.rename(beside, name)
    finally:
        place.discard(beside)
    return True


def _give_to_owner(descriptor: int, place: Folder) -> None:
    """Root, as a witness, writes a file that the user of the site must be able to read."""
    if own_user() != _ROOT or not hasattr(os, 'fchown'):
        return
    with place.itself() as itself:
        status = os.stat(itself)
    os.fchown(descriptor, status.st_uid, status.st_gid)


def note(base: Base, run: str) -> None:
    """Note that more is known of a run than before, see AMENDED.  Raises OSError."""
    with opened(base.archive) as archive:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with open(archive.open(AMENDED, flags, base.file_mode), 'ab', buffering=0) as file:
            _give_to_owner(file.fileno(), archive)
            file.write(f'{run}\n'.encode())


class Amended:
    """Tells for which archived runs a file of a witness was written since the last look."""

    def __init__(self) -> None:
        self._inode = 0
        self._size = 0

    def names(self, base: Base) -> set[str] | None:
        """Return the names of those runs; None if that is not known, so any may be meant."""
        try:
            with opened(base.archive) as archive:
                status = archive.stat(AMENDED)
                if (status.st_ino, status.st_size) == (self._inode, self._size):
                    return set()
                with open(archive.open(AMENDED), 'rb') as file:
                    new = read_tail(file.fileno(), MOST, self._size)
        except FileNotFoundError:
            return set()
        except OSError:
            return None
        is_continued = (
            self._inode in (0, status.st_ino) and 0 <= status.st_size - self._size <= MOST
        )
        self._inode, self._size = status.st_ino, status.st_size
        return set(new.decode('ascii', 'replace').split()) if is_continued else None
