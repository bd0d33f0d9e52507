"""A process that arms itself and ends in one of many ways, and the traces that it leaves."""

import itertools

from programs.handshake import until

from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base
from support.childprograms import PROGRAMS
from support.childprograms import Program


class Victim(Program):
    """A process of programs/armed.py that goes this way; with `directory` None it is the control
    process, which is not armed.
    """

    def __init__(self, way, directory, *words, **how):
        self.base = Base(directory or '/nonexistent')
        super().__init__(PROGRAMS / 'armed.py', way, directory or '-', *words, **how)

    def beats(self):
        """Wait for two samples: then the first beat is over, and the timer of the watchdog runs."""

        def is_beating():
            try:
                return len(self.box.samples) > 1
            except (ValueError, OSError, UnreadableRecord):  # not armed yet
                return False

        until(is_beating, 'the second beat')

    @property
    def path(self):
        (name,) = self.base.waiting()
        return self.base.runs / name

    def marks(self):
        """Return {name: text} of the marks that C code has written."""
        found = {
            path.stem: path.read_bytes().strip(b'\0').decode() for path in self.path.glob('*.mark')
        }
        return {name: text for name, text in found.items() if text}

    def late_marks(self, stall):
        """Return the mark of the heartbeat, if a busy machine delayed a sample by nearly the stall
        time; no other mark is excused.
        """
        times = [sample.monotonic for sample in self.box.samples]
        is_late = any(
            later - earlier >= 0.9 * stall for earlier, later in itertools.pairwise(times)
        )
        return {name: text for name, text in self.marks().items() if name == 'watchdog' and is_late}

    @property
    def box(self):
        return blackboxreader.read((self.path / BLACKBOX).read_bytes())
