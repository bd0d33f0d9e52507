"""A fake living run, for tests of code that only asks a run: nothing is armed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

from zope.interface import implementer

from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.model.interfaces import ILivingRun
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.store.rundirectory import Base


@implementer(ILivingRun)
class FakeLife:
    """See ILivingRun.  `known` replaces any attribute.

    Registered functions are kept in `beats`, `rounds` and `answers`.  An errand runs in the
    background at once, unless `errands` is a list: then the errand is appended to this list.
    """

    def __init__(self, path: Path, **known):
        self.path = path
        self.base = Base(path)
        self.name = '20260921T160000Z-1-abcd'
        self.pid = os.getpid()
        self.instance = Instance('test', str(path), '')
        self.role = 'server'
        self.options, _ = options.load({}, {})
        self.findings = Findings()
        self.context, self.software = {}, {}
        self.started, self.started_monotonic = time.time(), time.monotonic()
        self.recorder = self.fault_log = self.marks = self.smallest_stack = None
        self.directory = None
        self.safe_mode, self.is_watched, self.is_serving = False, True, True
        self.beats, self.rounds, self.answers, self.errands = [], [], {}, None
        vars(self).update(known)

    def start(self):
        pass

    def in_background(self, errand):
        if self.errands is None:
            errand()
        else:
            self.errands.append(errand)

    def every_beat(self, duty):
        self.beats.append(duty)

    def every_round(self, duty):
        self.rounds.append(duty)

    def answer(self, subject, tell):
        self.answers[subject] = tell

    def stacks(self):
        return Stacks()

    def slow_requests(self):
        return ()

    def serving(self, listen=''):
        pass

    def armed(self):
        pass

    def failed(self, kind, error, trace):
        pass

    def finish(self):
        pass

    def detach(self):
        pass


def with_directory(life: FakeLife) -> FakeLife:
    """Return it with an existing directory of its own."""
    folder = life.path / 'runs' / life.name
    folder.mkdir(parents=True, exist_ok=True)
    life.directory = SimpleNamespace(path=folder)
    return life
