"""A process that arms itself and goes one way to its end, and what it leaves."""

import itertools

from programs.handshake import until

from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from support.childprograms import PROGRAMS
from support.childprograms import Program


class Victim(Program):
    """A process that goes one way of programs/armed.py; `directory` None makes it the control
    process.
    """

    def __init__(self, way, directory, *words, **how):
        self.base = Base(directory or '/nonexistent')
        super().__init__(PROGRAMS / 'armed.py', way, directory or '-', *words, **how)

    def beats(self):
        """When there are two samples, the first beat is over: the watchdog's timer runs."""

        def is_beating():
            try:
                return len(self.box.samples) > 1
            except (ValueError, OSError, UnreadableRecord):  # not even armed yet
                return False

        until(is_beating, 'the second beat')

    @property
    def path(self):
        (name,) = self.base.waiting()
        return self.base.runs / name

    def marks(self):
        """The marks that C code has made: name and text."""
        found = {
            path.stem: path.read_bytes().strip(b'\0').decode() for path in self.path.glob('*.mark')
        }
        return {name: text for name, text in found.items() if text}

    def late_marks(self, stall):
        """The mark of the heartbeat, if a busy machine has let it come too late by that; no other
        is ever excused.
        """
        times = [sample.monotonic for sample in self.box.samples]
        is_late = any(
            later - earlier >= 0.9 * stall for earlier, later in itertools.pairwise(times)
        )
        return {name: text for name, text in self.marks().items() if name == 'watchdog' and is_late}

    @property
    def box(self):
        return blackboxreader.read((self.path / BLACKBOX).read_bytes())
