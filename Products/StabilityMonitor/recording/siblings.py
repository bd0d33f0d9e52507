"""Siblings: the other living servers of the data directory.  This one sees when they end.

SIGKILL and `os._exit` leave no trace in the process that they end.  So each server holds a
descriptor of each other one, and leaves with a dead run what the kernel tells of its end.  This
needs no configuration.  All siblings write the same file; the first one wins.

The heartbeat opens, polls and asks, which are system calls that do not wait.  The thread "errands"
reads and writes files.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model.errors import NoSuchRun
from ..model.witnesses import Witness
from ..store import witnessfiles
from ..store.regularfiles import NO_DESCRIPTOR
from ..store.regularfiles import opened
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import is_possible
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system import processend
from ..system.processend import CannotTell
from ..system.processend import ProcessDescriptor
from ..system.processend import ProcessEnd
from ..system.processidentity import identity
from ..system.vitalsigns import descriptor_limit
from .background import in_background
from .partguard import Findings

#: At most this many siblings are watched, and at most one for this many files that this process may
#: open: the site needs its descriptors.
MOST = 32
_FILES_FOR_ONE = 32
#: After the end of a sibling, its status is asked for this many seconds: the kernel tells it only
#: when the parent has waited for the process.
PATIENCE = 60.0
#: At most this many contexts are read after one look at the names of the runs, the newest first.
_MOST_READ = 128
#: What a sibling may not write into is of another user; and that is as it should be.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)

#: {name of a run: identity of its process}
_Found = Mapping[str, Mapping[str, Any]]


@dataclass
class _Sibling:
    """A sibling.  `ended` is when its end was seen, in seconds since the epoch; `until` is the
    monotonic time until which it is asked how it ended.
    """

    run: str
    process: ProcessDescriptor
    ended: float = 0.0
    until: float = 0.0


class Siblings:
    """Watches the siblings of the run `own`.  `look` is called at each beat.

    `open_process(its identity, own identity)` opens a process, and `errand` runs a function in
    another thread; both can be replaced by tests, like the clocks.
    """

    def __init__(
        self,
        base: Base,
        own: str,
        findings: Findings,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        open_process: Callable[..., ProcessDescriptor] = processend.opened,
        errand: Callable[[Callable[[], object]], None] = in_background,
    ) -> None:
        self.base = base
        self.own = own
        self.findings = findings
        self._clock = clock
        self._monotonic = monotonic
        self._open_process = open_process
        self._errand = errand
        self._runs = str(base.runs)
        self._identity = identity()
        limit = descriptor_limit()
        self._most = MOST if limit < 0 else min(MOST, limit // _FILES_FOR_ONE)
        self._poll = select.poll()
        self._living: dict[int, _Sibling] = {}  # by descriptor
        self._dying: list[_Sibling] = []
        # Names of runs that are watched, or were and are dead, or are no siblings.
        self._known: set[str] = set()
        self._changed = 0  # when the folder of the runs had changed, at the last look at its names
        self._is_reading = False
        # Handed over by the other thread: all names, and the servers among the new ones.
        self._news: tuple[set[str], _Found] | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """The names of the living runs that are watched."""
        return tuple(sibling.run for sibling in self._living.values())

    def look(self) -> None:
        """Look for ends, and for new siblings if the folder of the runs has changed."""
        try:
            # In this order: who has died since the names were read must not count as moved away.
            if self._living:
                self._look_for_ends()
            if self._dying:
                self._ask()
            if self._news:
                self._take_news(*self._news)
                self._news = None
            self._look_for_new()
        except BaseException:
            self.detach()  # the heartbeat does not call this again
            raise

    def look_at_all(self) -> None:
        """Read the names again at the next beat, even if the folder seems unchanged: the time of a
        folder may be as coarse as two seconds.  Called in each round.
        """
        self._changed = 0

    # -- ends

    def _look_for_ends(self) -> None:
        for descriptor, _ in self._poll.poll(0):
            sibling = self._living.pop(descriptor)
            self._poll.unregister(descriptor)
            if not sibling.process.is_intact:  # other code has closed it
                self._known.discard(sibling.run)
                self._changed = 0
                continue
            sibling.ended = self._clock()
            sibling.until = self._monotonic() + PATIENCE
            self._dying.append(sibling)

    def _ask(self) -> None:
        for sibling in tuple(self._dying):
            end = None
            why = ''
            try:
                end = sibling.process.end()
            except CannotTell:
                why = 'this kernel does not tell it, Linux 6.15 and newer do'
            else:
                if end is None and self._monotonic() < sibling.until:
                    continue
                why = 'its parent has not waited for it'
            self._dying.remove(sibling)
            sibling.process.close()
            witness = self._witness(sibling.ended, end, why)
            self._errand(functools.partial(self._leave, sibling.run, witness))

    def _witness(self, ended: float, end: ProcessEnd | None, why: str) -> Witness:
        """Return what was seen; `why` says why the status is not known, if `end` is None."""
        seen = f'this Zope (pid {self._identity["pid"]}) saw it'
        if end is None:
            fact = f'The process ended; {seen}, but not with which status: {why}.'
            return Witness('sibling', self._clock(), fact, ended)
        how = f'by {end.signal}'
        if end.signal is None:
            how = f'with exit status {end.exit_code}'
        return Witness(
            'sibling',
            self._clock(),
            f'The process ended {how}; {seen}.',
            ended,
            end.exit_code,
            end.signal,
            end.core_dumped,
        )

    def _leave(self, run: str, witness: Witness) -> None:
        """Write down what was seen.  Called in the other thread."""
        with self.findings.guarded(
            'sibling-witness', 'How another Zope ended was seen, and could not be written down.'
        ):
            try:
                last = witnessfiles.last_of_process(self.base, run)
                witnessfiles.add(self.base, last, witness)
            except NoSuchRun:  # it was counted only, as clean runs of scripts are, or removed
                pass
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise

    # -- new siblings

    def _look_for_new(self) -> None:
        try:
            changed = os.stat(self._runs).st_mtime_ns
        except OSError:  # a check of the run directory tells it
            return
        if changed == self._changed or self._is_reading:
            return
        self._changed = changed
        self._is_reading = True
        self._errand(self._read)

    def _read(self) -> None:
        """Read who is there.  Called in the other thread."""
        with self.findings.guarded('siblings', 'The ends of other Zopes are not seen.'):
            try:
                with opened(self.base.runs) as folder:
                    names = set(filter(RUN_NAME.fullmatch, folder.names()))
                new = sorted(names - self._known, reverse=True)
                if self._is_full():
                    new = []
                self._news = names, self._servers(new[:_MOST_READ])
            except OSError:  # the next round looks again
                pass
            finally:
                self._is_reading = False

    def _servers(self, names: Iterable[str]) -> _Found:
        """Return these runs; the identity is empty for those that are no sibling."""
        found: dict[str, Mapping[str, Any]] = {}
        for name in names:
            found[name] = {}
            if name == self.own or not is_possible(name):
                continue
            context = read_json(self.base.runs / name / CONTEXT)
            known = context.get('identity')
            if not isinstance(known, dict) or known.get('pid') != name_facts(name)[1]:
                continue
            if context.get('role') == 'server':
                found[name] = known
        return found

    def _take_news(self, names: set[str], found: _Found) -> None:
        self._known &= names
        for sibling in tuple(self._living.values()):
            if sibling.run not in names:  # its process lives, but runs another program by now
                self._forget(sibling)
        for name, known in found.items():
            if self._is_full():
                return
            try:
                process = self._open_process(known, self._identity) if known else None
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:  # the next round looks again
                    return
                process = None  # it is dead, or out of our reach
            self._known.add(name)
            if process is None:
                continue
            self._living[process.number] = _Sibling(name, process)
            self._poll.register(process.number, select.POLLIN)

    def _is_full(self) -> bool:
        return len(self._living) + len(self._dying) >= self._most

    def _forget(self, sibling: _Sibling) -> None:
        del self._living[sibling.process.number]
        self._poll.unregister(sibling.process.number)
        sibling.process.close()

    # -- the end

    def detach(self) -> None:
        """Close all descriptors; in a forked child, too, where they belong to the parent."""
        for sibling in (*self._living.values(), *self._dying):
            sibling.process.close()
        self._living = {}
        self._dying = []
        self._poll = select.poll()
