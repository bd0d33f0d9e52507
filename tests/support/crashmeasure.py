"""How often the class of a death and the first suspect are right: real Zopes die in compiled code,
and the next process says why.

    with CrashSite(folder, cores=True) as site:
        outcomes = [site.outcome(crash) for crash in crashes]
    print(table(outcomes))
"""

import dataclasses
import os
from pathlib import Path

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.knowledge.diagnosis import source_reader
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.store import corerecords
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import OBJECTS
from Products.StabilityMonitor.store.rundirectory import Base
from support import crashers
from support.crashtable import Crash
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

_PRODUCTS = Path(__file__).resolve().parent.parent / 'products'
#: Suspects of these strengths are a claim, not a guess.
_CLAIMS = ('certain', 'strong')
_READING = 120  # seconds until a core file is read


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is said of one crash.  `record` is diagnosed."""

    crash: Crash
    record: RunRecord

    @property
    def first(self):
        """The first suspect, or None."""
        return self.record.suspects[0] if self.record.suspects else None

    @property
    def death(self):
        """The id of the class of death, '' if there is none."""
        return self.record.death.id if self.record.death else ''

    @property
    def expected(self):
        return self.crash.death if self.record.core else self.crash.bare

    @property
    def has_right_class(self):
        if self.death == self.expected:
            return True
        # Without a core file the dump tells the class, and faulthandler may die in its own dump.
        is_cut = self.record.fatal is None or not self.record.fatal.is_whole
        return self.record.core is None and is_cut and self.death == 'unknown'

    @property
    def blames_the_culprit(self):
        return self.first is not None and _is_of(self.first, self.crash.culprit)

    @property
    def accused(self):
        """The innocent distributions that are said to be the cause."""
        claims = {_name(each) for each in self.record.suspects if each.strength in _CLAIMS}
        return sorted(claims - {self.crash.culprit, self.crash.damaged})

    @property
    def row(self):
        first = self.first
        core = self.record.core
        right = (self.blames_the_culprit or not self.crash.culprit) and not self.accused
        return (
            self.crash.page,
            self.crash.culprit or f'- {self.crash.damaged}',
            'core' if core else 'no core',
            self.death or '-',
            '' if self.has_right_class else f'not {self.expected}',
            f'{first.module} ({_name(first)})' if first else '-',
            first.strength if first else '-',
            'right' if right else 'WRONG',
        )


def _is_of(suspect, culprit):
    return culprit in (_name(suspect), crashers.canonical(suspect.module.partition('.')[0]))


def _name(suspect):
    return crashers.canonical(suspect.distribution or suspect.module)


def diagnose(crash, record):
    return Outcome(crash, diagnosed(record, read=source_reader(record)))


def share(outcomes):
    """Return the share of crashes of products whose first suspect is right."""
    of_products = [each for each in outcomes if each.crash.culprit]
    return sum(each.blames_the_culprit for each in of_products) / len(of_products)


def table(outcomes):
    """Return the outcomes as text in columns."""
    rows = [('crash', 'culprit', 'core', 'class', '', 'first suspect', 'strength', '')]
    rows += [outcome.row for outcome in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append('  '.join(cells).rstrip())
    return '\n'.join(lines)


class CrashSite(ZopeInstance):
    """One Zope with the modules that crash and ten innocent ones; its processes die one after the
    other.  With `cores`, each crash leaves a core file, which the next process reads.
    """

    def __init__(self, folder, cores):
        super().__init__(folder, options={'core-files': 'on' if cores else 'off'})
        self.cores = cores

    def create(self):
        super().create()
        self.publish((_PRODUCTS / 'innocents.py').read_text(), 'TestInnocents')
        self.publish((_PRODUCTS / 'compiled_crashes.py').read_text(), 'TestCrashes')
        paths = (self.products_dir, CHECKOUT, *self.crashers())
        self.env['PYTHONPATH'] = os.pathsep.join(map(str, paths))
        return self

    def crashers(self):
        """Return the folders of the compiled modules."""
        return [crashers.site(), crashers.innocents()]

    def outcome(self, crash):
        """Let the process die so, and return what the next process says."""
        return diagnose(crash, self.record(crash))

    def record(self, crash):
        """Let the process die so, start the next one, and return what is known of the death."""
        base = Base(self.stability)
        (run,) = base.waiting()
        wait_for((base.runs / run / OBJECTS).exists, what='the note of what is loaded')
        self.crash(f'/{crash.page}')
        self.start()
        wait_for(lambda: (base.archive / run).is_dir(), what=f'the record of {run}')
        if self.cores and crash.leaves_core:
            wait_for(lambda: corerecords.has(base, run), _READING, f'the core file of {run}')
        return Archive(base).record(run)
