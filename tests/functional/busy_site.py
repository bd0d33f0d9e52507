"""A site that is busy for long, but well: it must not be said to hang.

    python tests/functional/busy_site.py [--seconds 600] [--stall 30]

A real Zope has all workers busy for about 95 % of the time; visitors wait in waitress's queue for
up to a sixth of `stall` (5 s), and one export takes twice `stall` (60 s).  There must be no hang,
no finding that an idle site does not have, and no incident when a deployment then stops the site by
SIGTERM.  That all workers have been busy for longer than `stall` is told as the event "saturated".

With another `stall` all times change alike, so that a short run tries the same.
"""

import argparse
import collections
import dataclasses
import http.client
import math
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (2, 1)]

from support.childprograms import CHECKOUT
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.checks.allfindings import LAST_WORD
from Products.StabilityMonitor.model.eventkinds import event_kind

#: Seconds: the defaults of the options, which the other times are derived from.
STALL, SLOW = 30, 10
THREADS = 4
#: The share of each period in which visitors come; the last of them are served a little longer.
BUSY = 0.9
PAGES = """
import time

def ask_the_database(self, seconds):
    time.sleep(float(seconds))
    return 'rows'

def compute(self, seconds):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        sum(range(1000))
        time.sleep(0.002)
    return 'result'
"""


@dataclasses.dataclass
class Outcome:
    """What the site and the product said.  Times are in seconds.

    `busy_share` is the share of the time in which as many requests were in progress as there are
    workers.  `events` are {kind: how often}, `findings` those that the idle site did not have, and
    `statuses` {exit status of `stabilitymonitor status`: how often}.
    """

    seconds: float
    requests: int = 0
    failed: int = 0
    busy_share: float = 0.0
    longest_wait: float = 0.0
    export: float = 0.0
    events: dict[str, int] = dataclasses.field(default_factory=dict)
    findings: list[str] = dataclasses.field(default_factory=list)
    statuses: dict[int, int] = dataclasses.field(default_factory=dict)
    verdict: str = ''
    is_incident: bool = False
    summary: str = ''
    saturated: list[str] = dataclasses.field(default_factory=list)


class BusySite:
    """One instance with its visitors."""

    def __init__(self, folder, seconds, stall):
        self.seconds, self.scale = seconds, stall / STALL
        options = {}
        if stall != STALL:
            options = {'stall': f'{stall:g}s', 'slow-request': f'{SLOW * self.scale:g}s'}
        self.zope = ZopeInstance(folder, options=options, threads=THREADS, stderr='null')
        self.zope.publish(PAGES).create()
        self.outcome = Outcome(seconds)
        self.lock = threading.Lock()
        self.in_progress = 0
        self.over = threading.Event()

    @property
    def period(self):
        """Seconds from the beginning of one rush to that of the next."""
        return 2 * STALL * self.scale

    def visitors_wanted(self, passed):
        """How many visitors come at this moment.

        Their number rises and falls four times in each rush.  With the most of them, the queue is
        as long as all workers need for a sixth of `stall`.
        """
        phase = passed % self.period / self.period
        if phase > BUSY:
            return 0
        most_waiting = THREADS * STALL / 6
        height = (1 - math.cos(8 * math.pi * phase / BUSY)) / 2
        return THREADS + 1 + int(most_waiting * height)

    def page_of(self, rush):
        """In each second rush, workers wait at the same place in one request after the other."""
        return 'compute' if rush % 2 else 'ask_the_database'

    def visit(self, number, begun):
        """Be one of the visitors until the end."""
        dice = random.Random(number)
        while not self.over.is_set():
            if number >= self.visitors_wanted(time.monotonic() - begun):
                self.over.wait(0.05 * self.scale)
                continue
            needs = dice.uniform(0.2, 1.8) * self.scale
            page = self.page_of((time.monotonic() - begun) // self.period)
            took = self.ask(f'/{page}?seconds={needs:.3f}')
            if self.over.is_set():
                return
            with self.lock:
                self.outcome.longest_wait = max(self.outcome.longest_wait, took - needs)

    def ask(self, path):
        """Send one request, and return how long it took."""
        with self.lock:
            self.in_progress += 1
            self.outcome.requests += 1
        sent = time.monotonic()
        try:
            is_good = self.zope.get(path, auth=False, timeout=20 * STALL).status == 200
        except (OSError, http.client.HTTPException):
            is_good = self.over.is_set()  # the site was stopped
        with self.lock:
            self.in_progress -= 1
            self.outcome.failed += not is_good
        return time.monotonic() - sent

    def export(self):
        self.over.wait(min(2 * self.period, self.seconds / 2))
        needs = 2 * STALL * self.scale
        self.outcome.export = self.ask(f'/compute?seconds={needs:g}')

    def count_busy(self):
        looks = busy = 0
        while not self.over.wait(0.05):
            looks += 1
            busy += self.in_progress >= THREADS
        self.outcome.busy_share = busy / max(1, looks)

    def ask_for_status(self):
        statuses = collections.Counter()
        while not self.over.wait(max(2, 5 * self.scale)):
            statuses[self.tell('status').returncode] += 1
        self.outcome.statuses = dict(statuses)

    def tell(self, *words):
        where = ('--client-home', self.zope.client_home)
        return run_python(*COMMAND, *where, *words, timeout=20 * STALL, cwd=CHECKOUT)

    def findings(self):
        """Run the checks; return {id of a finding: title}, without what is well or only told."""
        self.tell('checks')
        checks = self.zope.report()['checks']
        return {one['id']: one['title'] for one in checks if one['severity'] not in ('ok', 'info')}

    def run(self):
        self.zope.start()
        wait_for(
            lambda: list(self.zope.stability.glob(f'runs/*/{LAST_WORD}')), what='the first checks'
        )
        before = self.findings()
        begun = time.monotonic()
        most = max(self.visitors_wanted(self.period * n / 1000) for n in range(1000))
        work = [threading.Thread(target=self.visit, args=(n, begun)) for n in range(most)]
        others = (self.export, self.count_busy, self.ask_for_status)
        work += [threading.Thread(target=each) for each in others]
        for thread in work:
            thread.start()
        time.sleep(self.seconds)
        self._collect(before)
        self.over.set()
        self.zope.kill(signal.SIGTERM)  # a deployment, while visitors are served
        self.zope.wait_exit(20 * STALL)
        for thread in work:
            thread.join()
        self._judge()
        return self.outcome

    def _collect(self, before):
        report = self.zope.report()
        found = self.findings()
        self.outcome.findings = [found[one] for one in sorted(found.keys() - before.keys())]
        self.outcome.events = collections.Counter(hang['kind'] for hang in report['hangs'])

    def _judge(self):
        self.tell('triage')
        record = self.zope.archive()[0]
        self.outcome.verdict = record['verdict']
        self.outcome.summary = record['summary']
        self.outcome.is_incident = record['verdict'] != 'stopped'
        facts = [one['fact'] for one in record['evidence']]
        facts += [hang['summary'] for hang in record['hangs']]
        self.outcome.saturated = [fact for fact in facts if 'progress is made' in fact]


def keep_busy(folder, seconds=600, stall=STALL):
    """Return the Outcome of a site that is busy for so long."""
    site = BusySite(folder, seconds, stall)
    try:
        return site.run()
    finally:
        site.over.set()
        site.zope.destroy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--stall', type=float, default=STALL)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='busy-') as folder:
        outcome = keep_busy(folder, arguments.seconds, arguments.stall)
    for field in dataclasses.fields(outcome):
        print(f'{field.name:>12}: {getattr(outcome, field.name)}')
    return 1 if wrong(outcome) else 0


def wrong(outcome):
    """Return sentences about what should not be in an Outcome; [] if all is well."""
    found = []
    if any(event_kind(kind).is_trouble for kind in outcome.events):
        found.append(f'events: {outcome.events}')
    if not outcome.events.get('saturated'):
        found.append('it was not told that all workers were busy')
    if outcome.findings:
        found.append(f'findings: {outcome.findings}')
    if set(outcome.statuses) != {0}:
        found.append(f'exit statuses of `status`: {outcome.statuses}')
    if outcome.is_incident:
        found.append(f'an incident: {outcome.summary}')
    return found


if __name__ == '__main__':
    sys.exit(main())
