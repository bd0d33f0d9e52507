"""The storm of stops: stop, restart and kill busy Zopes; no stop may be taken for anything else.

    python tests/functional/storm.py --stops 1000 [--jobs 2]

While clients request pages, each run of an instance ends in one of the ways of `WAYS`, and the next
one starts at once.  The record of each run must agree:

* a process that was asked to stop, by SIGTERM or SIGINT, is `stopped` and no incident, whenever it
  was asked, also while it started, was frozen before, or was killed because it did not end at once;
* SIGKILL alone leaves `vanished`, which is the truth;
* no run has hung, and stops are no crash loop.
"""

import collections
import concurrent.futures
import itertools
import json
import multiprocessing
import random
import signal
import tempfile
import time
from pathlib import Path

import storm
from support.childprograms import CHECKOUT
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.model.eventkinds import event_kind
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.store.rundirectory import Base

CHUNK = 10
#: Verdicts of a run that was killed before it served.
KILLED_EARLY = {'vanished', 'startup-failed'}
KILLED = {'vanished'}
STOPPED = {'stopped'}
#: The kernel obeys SIGKILL first: if the handler of the first signal has not run yet, there is no
#: mark.
KILLED_SOON = {'stopped', 'vanished'}
#: {name: (signals, each sent up to so many seconds after the one before, allowed verdicts)}
WAYS = {
    'SIGTERM': ([('SIGTERM', 0)], STOPPED),
    'SIGINT': ([('SIGINT', 0)], STOPPED),
    'SIGTERM twice': ([('SIGTERM', 0), ('SIGTERM', 0.01)], STOPPED),
    'SIGINT twice': ([('SIGINT', 0), ('SIGINT', 0.2)], STOPPED),
    'SIGINT, then SIGTERM': ([('SIGINT', 0), ('SIGTERM', 0.5)], STOPPED),
    'SIGTERM, then SIGKILL': ([('SIGTERM', 0), ('SIGKILL', 0.05)], KILLED_SOON),
    'SIGINT, then SIGKILL': ([('SIGINT', 0), ('SIGKILL', 0.5)], KILLED_SOON),
    'SIGTERM after it was frozen': (
        [('SIGSTOP', 0), ('SIGCONT', 2), ('SIGTERM', 0.5)],
        STOPPED,
    ),
    'SIGKILL': ([('SIGKILL', 0)], KILLED),
}
#: The first of these signals comes while Zope starts.
EARLY_WAYS = {
    'SIGTERM, early': ([('SIGTERM', 0)], STOPPED),
    'SIGINT, early': ([('SIGINT', 0)], STOPPED),
    'SIGKILL, early': ([('SIGKILL', 0)], KILLED_EARLY),
}
#: A loop needs three incidents in a row, so two kills are never followed by a third.
MOST_KILLS = 2


class Stops:
    """One instance, which is started and ended again and again."""

    def __init__(self, folder, seed):
        self.dice = random.Random(seed)
        options = {'keep-runs': str(2 * CHUNK), 'sample-interval': '0.2s', 'stall': '5s'}
        self.zope = ZopeInstance(
            Path(folder) / 'zope', options=options, threads=storm.THREADS, stderr='null'
        )
        self.zope.publish(storm.PAGE).create()
        self.kills = 0

    def life(self):
        """Start and end it once: (way, process id, when it was started)."""
        begun = time.time()
        if self.dice.random() < 0.15:
            way = self._pick(EARLY_WAYS)
            self.zope.start(wait=False)
            time.sleep(self.dice.uniform(0, 2))
            self._end(EARLY_WAYS[way][0])
        else:
            way = self._pick(WAYS)
            self.zope.start(wait='port')
            clients = self._visit()
            self._end(WAYS[way][0])
            for client in clients:
                client.join(60)
        return way, self.zope.pid, begun

    def _pick(self, ways):
        way = self.dice.choice(list(ways))
        while way.startswith('SIGKILL') and self.kills >= MOST_KILLS:
            way = self.dice.choice(list(ways))
        self.kills = self.kills + 1 if way.startswith('SIGKILL') else 0
        return way

    def _visit(self):
        """Begin to request pages, and return the clients when one has had an answer."""
        book, numbers = {}, itertools.count(1)
        clients = [
            storm.Client(self.zope.port, numbers, book, random.Random(self.dice.random()))
            for _ in range(storm.CLIENTS)
        ]
        for client in clients:
            client.start()
        wait_for(lambda: any(sent.answered for sent in list(book.values())), 60, 'an answer')
        time.sleep(self.dice.uniform(0, 1))
        return clients

    def _end(self, signals):
        for name, latest in signals:
            time.sleep(self.dice.uniform(0, latest))
            if self.zope.running:
                self.zope.kill(getattr(signal, name))
        self.zope.wait_exit(120)

    def record(self, pid, begun):
        """Return the archived record of a run; None if it ended before it was recorded."""
        triage.triage(Base(self.zope.stability))
        found = (self.zope.stability / 'archive').glob(f'*-{pid}-*/incident.json')
        records = [json.loads(path.read_text('utf-8')) for path in found]
        ours = [one for one in records if storm._seconds(one['started']) >= begun - 1]
        assert len(ours) <= 1, f'{len(ours)} records of process {pid}'
        return ours[0] if ours else None

    def status(self):
        """Return what `stabilitymonitor status` says, if it says that something is wrong."""
        where = ('--client-home', self.zope.client_home)
        done = run_python(*COMMAND, *where, 'status', timeout=120, cwd=CHECKOUT)
        return f'{done.stdout}{done.stderr}' if done.returncode else ''

    def destroy(self):
        self.zope.destroy()


def faults(way, record):
    """Return what is wrong with the record of a run that ended in this way."""
    allowed = {**WAYS, **EARLY_WAYS}[way][1]
    if record is None:
        is_early = way in EARLY_WAYS
        return [] if is_early else [f'{way}: no record']
    found = []
    if record['verdict'] not in allowed:
        found.append(f'{way}: {record["verdict"]}, {record["confidence"]}: {record["summary"]}')
    for hang in record['hangs']:
        if event_kind(hang['kind']).is_trouble:
            found.append(f'{way}: {hang["kind"]}: {hang["summary"]}')
    return found


def chunk(ends, seed):
    """End one instance several times: ({way: how often}, faults)."""
    # A shell lets what it starts in the background ignore SIGINT, and Zope would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    counts, found = collections.Counter(), []
    with tempfile.TemporaryDirectory(prefix='storm-of-stops-') as folder:
        stops = Stops(folder, seed)
        try:
            for _ in range(ends):
                way, pid, begun = stops.life()
                record = stops.record(pid, begun)
                counts[way] += 1
                counts['recorded'] += record is not None
                found += faults(way, record)
                said = stops.status()
                was_stopped = record and record['verdict'] == 'stopped'
                if 'CRASH LOOP' in said or (said and was_stopped):
                    found.append(f'{way}: status says: {said}')
        finally:
            stops.destroy()
    return counts, found


def run(ends, jobs=2, seed=None, progress=lambda counts, found: None):
    """End Zopes so often: ({way: how often}, faults)."""
    dice, counts, found = random.Random(seed), collections.Counter(), []
    sizes = [CHUNK] * (ends // CHUNK) + [ends % CHUNK] * bool(ends % CHUNK)
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        chunks = [pool.submit(chunk, size, dice.random()) for size in sizes]
        try:
            for done in concurrent.futures.as_completed(chunks):
                its_counts, its_faults = done.result()
                counts.update(its_counts)
                found += its_faults
                progress(counts, found)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts, found
