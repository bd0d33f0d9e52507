"""The mailbox of a living run, through which other processes ask it for its state.

The heartbeat answers, even while no worker is free.  The mailbox is the file `bell` in the run's
directory: the run has it mapped since its start, and neither a question nor an answer opens or
makes a file in the run, see `answerboard`.  Only root and the owner of the run can write there.

Older releases ask with files, and are asked with files:

    <run>/questions/<16 hex>-<subject>.ask       empty, because Zope could not read a file of root
    <run>/questions/<16 hex>-<subject>.answer    JSON; the asker reads and removes it
    <run>/bell                                   its first 8 bytes are changed by the asker

Files that are not fetched are removed after a minute.  So a run whose file system cannot be mapped
is asked, too.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import time
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import TypeVar

from ..model.errors import NoAnswer
from . import answerboard
from .answerboard import ANSWER_MOST
from .answerboard import BELL_SIZE
from .answerboard import Board
from .regularfiles import NO_DESCRIPTOR
from .regularfiles import Folder
from .regularfiles import NotARegularFile
from .regularfiles import OfAnotherUser
from .regularfiles import open_regular
from .regularfiles import opened
from .rundirectory import preallocate
from .rundirectory import read_json

#: The folder of the mailbox.  The name stays, because processes of older releases use it.
FOLDER = 'questions'
BELL = 'bell'
_REQUEST = re.compile(r'([0-9a-f]{16}-([a-z]{1,20}))\.ask')
#: At most this many requests are answered in a beat.
_MOST_AT_ONCE = 20
#: Nanoseconds.  Two changes of a folder within this time may give it the same mtime.
_SAME_TIME = 2_000_000_000
#: Files older than this many seconds are removed.
_STALE = 60.0
_Result = TypeVar('_Result')


def ask(
    run: Path,
    subject: str,
    patience: float = 5.0,
    pause: float = 0.05,
) -> dict[str, Any]:
    """Ask the run in that directory and return its answer.

    Looks for the answer every `pause` seconds.  Raises NoAnswer after `patience` seconds, and
    OSError if this process may not write there.
    """
    try:
        descriptor = open_regular(run / BELL, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError, NotARegularFile):
        descriptor = -1
    if descriptor >= 0:
        try:
            answer = answerboard.ask(descriptor, subject, patience, pause)
        finally:
            os.close(descriptor)
        if answer is not None:
            return answer
    return _ask_with_files(run, subject, patience, pause)


def _ask_with_files(run: Path, subject: str, patience: float, pause: float) -> dict[str, Any]:
    """Ask a run of an older release, or one that could not map its mailbox."""
    number = os.urandom(8).hex()
    name = f'{number}-{subject}'
    request, answer = f'{name}.ask', f'{name}.answer'
    try:
        mailbox = opened(run / FOLDER)
    except (FileNotFoundError, NotADirectoryError, OfAnotherUser):
        raise NoAnswer('This run has no mailbox.') from None
    with mailbox:
        os.close(mailbox.create(request))
        try:
            _ring(run / BELL)
            until = time.monotonic() + patience
            while time.monotonic() < until:
                if mailbox.has(answer):
                    return read_json(run / FOLDER / answer, ANSWER_MOST)
                time.sleep(pause)
            raise NoAnswer(f'The process has not answered within {patience:g} s.')
        finally:
            mailbox.discard(request)
            mailbox.discard(answer)


def _ring(bell: Path) -> None:
    """Change the bell.  A run of an older release has none, and looks into the folder each beat."""
    try:
        descriptor = open_regular(bell, os.O_RDWR)
    except (FileNotFoundError, NotARegularFile):
        return
    with open(descriptor, 'r+b') as file:
        file.write(os.urandom(BELL_SIZE))


class Worker(Protocol):
    """Calls a function, and returns its result.  Raises TimeoutError."""

    def __call__(self, work: Callable[[], _Result], /) -> _Result: ...


class Inbox:
    """The side of the mailbox that answers.

    `answers` is {subject: function without arguments whose result can be written as JSON}.
    `worker` calls the function that is passed to it, and returns its result.
    """

    def __init__(
        self,
        run: Path,
        answers: dict[str, Callable[[], Any]],
        worker: Worker = lambda work: work(),
    ) -> None:
        self.folder = run / FOLDER
        self.answers = answers
        self._worker = worker
        with opened(run) as folder:
            folder.make(FOLDER)
        self._seen = 0
        self._is_rung = True  # a process may have asked before there was a bell
        self._board = _board(run / BELL)

    def listen(self) -> None:
        """Answer new requests.  This is called at each beat.

        It costs no system call while nobody asks.  If files cannot be mapped, there is no board,
        and it looks into the folder each time.
        """
        board = self._board
        if board is None:
            self.look()
            return
        asked = board.news()
        if asked is None and not self._is_rung:
            return
        for subject in asked or ():
            if subject == answerboard.RUNG:
                self._is_rung = True
            else:
                self._answer_on(board, subject)
        if self._is_rung:
            self._is_rung = not self.look()

    def _answer_on(self, board: Board, subject: str) -> None:
        board.begin(subject)
        with contextlib.suppress(TimeoutError):  # the worker is busy; the asker gives up
            board.write(subject, self._worker(lambda: self._packed(subject)))

    def _packed(self, subject: str) -> bytes:
        text = self._text(subject)
        found = answerboard.packed(text)
        if found is None:
            found = answerboard.packed(_refusal(subject, f'it has {len(text)} characters'))
        return found or b''

    def look(self) -> bool:
        """Answer new requests that are files.  It costs one system call if there are none.

        Returns False if it could not look because no descriptor is left; then it must look again.
        """
        # This call may follow a link above the folder, but it only compares two numbers.
        changed = os.stat(self.folder, follow_symlinks=False).st_mtime_ns
        if changed == self._seen:
            return True
        try:
            with opened(self.folder) as folder:
                found = sorted(folder.names())
                self._answer_all(folder, found)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                return False
            raise
        # The folder is not listed while its mtime is the remembered one.  But a second change
        # within the same clock tick does not alter the mtime, and files in the folder become
        # stale.  So the mtime is remembered only if the folder is empty and has not changed for a
        # while.
        unchanged_for = time.time_ns() - changed
        if not found and unchanged_for > _SAME_TIME:
            self._seen = changed
        return True

    def _answer_all(self, folder: Folder, found: Sequence[str]) -> None:
        requests: list[tuple[str, str]] = []
        for file in found:
            match = _REQUEST.fullmatch(file)
            if match:
                requests.append((match[1], match[2]))
        given: dict[str, str] = {}
        for name, subject in requests[:_MOST_AT_ONCE]:
            self._answer(folder, name, subject, given)
        for file in found:
            with contextlib.suppress(OSError):
                age = time.time() - folder.stat(file).st_mtime
                if age > _STALE:
                    folder.unlink(file)

    def _answer(
        self,
        folder: Folder,
        name: str,
        subject: str,
        given: dict[str, str],
    ) -> None:
        """Answer one request.

        `given` is {subject: answer} of this beat, so that ten equal requests cost one answer.
        """
        with contextlib.suppress(OSError):  # the asker has given up, or the disk is full
            folder.unlink(f'{name}.ask')
            if subject not in given:
                given[subject] = self._worker(lambda: self._text(subject))
            folder.write_whole(f'{name}.answer', given[subject].encode())

    def _text(self, subject: str) -> str:
        """Return the answer as JSON, or the reason why there is none."""
        reason = 'this process does not know that request'
        if subject in self.answers:
            answer = self.answers[subject]
            try:
                return json.dumps(answer())
            except (
                Exception
            ) as error:  # it may depend on the site's state; the next request may work
                reason = f'{type(error).__name__}: {error}'
        return _refusal(subject, reason)

    def detach(self) -> None:
        """Close the parent's mailbox in a forked child, which then answers nothing."""
        board = self._board
        self._board = None
        if board:
            board.close()


def _refusal(subject: str, reason: str) -> str:
    return json.dumps({'error': f'There is no answer to {subject!r}: {reason}.'})


def _board(bell: Path) -> Board | None:
    """Make the board, and map it into memory; None where files cannot be mapped."""
    try:
        descriptor = preallocate(bell, answerboard.SIZE, 0o600)
        try:
            return Board(mmap.mmap(descriptor, answerboard.SIZE))
        finally:
            os.close(descriptor)
    except OSError:
        return None
