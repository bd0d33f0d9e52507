"""Questions to a living run, left in its directory; its heartbeat answers, even while no worker is
free.

    <run>/questions/<16 hex>-<subject>.ask       empty: it may belong to root, whom Zope cannot read
    <run>/questions/<16 hex>-<subject>.answer    JSON; the asker reads and removes it <run>/bell
    changed by the asker; the run has it mapped into its memory

Only root and the owner of the run can write there.  What nobody takes back is removed after a
minute.
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

from ..model.errors import NoAnswer
from .regularfiles import NotARegularFile
from .regularfiles import open_regular
from .rundirectory import preallocate
from .rundirectory import read_json
from .rundirectory import write_whole

FOLDER, BELL = 'questions', 'bell'
_BELL_SIZE = 8
#: Bytes of an answer that are read at most.
ANSWER_MOST = 16 << 20
_QUESTION = re.compile(r'([0-9a-f]{16}-([a-z]{1,20}))\.ask')
_MOST_AT_ONCE, _STALE = 20, 60.0


def ask(run: Path, subject: str, patience: float = 5.0, pause: float = 0.05) -> dict[str, Any]:
    """The answer of the run in that directory.  Raises NoAnswer after `patience` seconds, OSError
    without rights.
    """
    name = f'{os.urandom(8).hex()}-{subject}'
    question, answer = run / FOLDER / f'{name}.ask', run / FOLDER / f'{name}.answer'
    try:
        question.touch(0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise NoAnswer('This run takes no questions.') from None
    try:
        _ring(run / BELL)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if os.path.lexists(answer):
                return read_json(answer, ANSWER_MOST)
            time.sleep(pause)
        raise NoAnswer(f'The process has not answered within {patience:g} s.')
    finally:
        for file in (question, answer):
            file.unlink(missing_ok=True)


def _ring(bell: Path) -> None:
    """A run of an older release has none, and looks at the folder at each beat."""
    with contextlib.suppress(FileNotFoundError, NotARegularFile):
        with open(open_regular(bell, os.O_RDWR), 'r+b') as file:
            file.write(os.urandom(_BELL_SIZE))


class Inbox:
    """The answering side.  `answers`: {subject: function of no arguments that returns what JSON can
    hold}; what it takes to answer is called by `worker`.
    """

    def __init__(
        self,
        run: Path,
        answers: dict[str, Callable[[], Any]],
        worker: Callable[[Callable[[], str]], str] = lambda work: work(),
    ) -> None:
        self.folder = run / FOLDER
        self.answers = answers
        self._worker = worker
        self.folder.mkdir(mode=0o700)
        self._seen = 0
        self._rung = b''
        self._bell = _mapped(run / BELL)

    def listen(self) -> None:
        """At each beat; costs no system call while nobody rings, where files can be mapped."""
        rung = self._bell[:]
        if rung != self._rung or not rung:
            self._rung = rung
            self.look()

    def look(self) -> None:
        """Now and then; costs one system call while nobody asks."""
        changed = os.stat(self.folder).st_mtime_ns
        if changed == self._seen:
            return
        found = sorted(os.listdir(self.folder))
        self._take(found)
        # A change within the same tick shows in no time stamp, and what lies there becomes stale.
        if not found and time.time_ns() - changed > 2_000_000_000:
            self._seen = changed

    def _take(self, found: Sequence[str]) -> None:
        given: dict[str, str] = {}
        questions = [match for match in map(_QUESTION.fullmatch, found) if match]
        for question in questions[:_MOST_AT_ONCE]:
            self._answer(question[1], question[2], given)
        for name in found:
            self._remove_stale(self.folder / name)

    def _answer(self, name: str, subject: str, given: dict[str, str]) -> None:
        with contextlib.suppress(OSError):  # the asker has lost patience, or the disk is full
            (self.folder / f'{name}.ask').unlink()
            if subject not in given:  # ten askers, one look
                given[subject] = self._worker(lambda: self._text(subject))
            write_whole(self.folder / f'{name}.answer', given[subject])

    def _text(self, subject: str) -> str:
        """The answer as JSON; one that cannot be given says why, and the next question is another
        matter.
        """
        if subject not in self.answers:
            return json.dumps(
                {'error': f'There is no answer to {subject!r}: the question is not known here.'}
            )
        try:
            return json.dumps(self.answers[subject]())
        except Exception as error:
            return json.dumps(
                {'error': f'There is no answer to {subject!r}: {type(error).__name__}: {error}.'}
            )

    def _remove_stale(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE:
                path.unlink()

    def detach(self) -> None:
        """In a forked child: let go of the parent's file."""
        bell = self._bell
        self._bell = b''
        if isinstance(bell, mmap.mmap):
            bell.close()


def _mapped(bell: Path) -> mmap.mmap | bytes:
    """Its memory; b'' where files cannot be mapped."""
    try:
        descriptor = preallocate(bell, _BELL_SIZE, 0o600)
        try:
            return mmap.mmap(descriptor, _BELL_SIZE)
        finally:
            os.close(descriptor)
    except OSError:
        return b''
