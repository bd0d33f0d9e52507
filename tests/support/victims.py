"""A process that arms itself and goes one way to its end, with handshakes."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

from programs.handshake import PATIENCE
from programs.handshake import until

from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base

PROGRAM = Path(__file__).parents[1] / 'programs' / 'armed.py'


class Victim:
    """A process that goes one way, with handshakes; `directory` None makes it the control
    process.
    """

    def __init__(self, way, directory, *words, **popen):
        self.base = Base(directory or '/nonexistent')
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, way, directory or '-', *words],
            text=True,
            encoding='utf-8',
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **popen,
        )

    def hear(self):
        return self.process.stdout.readline().strip()

    def go(self, *heard):
        """Let it go its way, after it said that it is ready; it says `heard` then."""
        assert self.hear() == 'ready', self.process.stderr.read()
        return self.tell('go', *heard)

    def tell(self, word, *heard):
        self.process.stdin.write(f'{word}\n')
        self.process.stdin.flush()
        for expected in heard:
            assert self.hear() == expected
        return self

    def signal(self, name):
        self.process.send_signal(getattr(signal, name))
        return self

    def end(self):
        """Its exit status; what it said is kept."""
        self.said, self.errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def beats(self):
        """When there are two samples, the first beat is over: the dead man's timer runs."""

        def is_beating():
            try:
                return len(self.box.samples) > 1
            except (ValueError, OSError, UnreadableRecord):  # not even armed yet
                return False

        until(is_beating, 'the second beat')

    def clean_up(self):
        self.process.kill()
        self.process.communicate()

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
        return {name: text for name, text in self.marks().items() if name == 'deadman' and is_late}

    @property
    def box(self):
        return blackboxreader.read((self.path / BLACKBOX).read_bytes())
