"""Record requests as fast as possible, and be killed at a random moment, thousands of times a
minute.

    storm_program.py [--kills 2000] [--seconds 0] [--seed N]

Tests the recorder alone, without Zope.  Each run is a forked child with its own black box and an
independent journal in shared memory, in which each thread writes its own words before and after
`begin` and `end`.  Where the journal is certain, the black box must say the same; between two of
its words, either of the neighbouring states is right.
"""

import argparse
import itertools
import mmap
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from programs.handshake import until

from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import preallocate

THREADS = 6
#: Words of each thread: its ident, the request before and after `begin`, before and after `end`,
#: and the time of the call of `end`.
IDENT, BEGINS, BEGUN, ENDS, ENDED, END_TIME, END_TIME_PATH, WORDS = range(8)
PROBE = '/probe'
METHODS = ('GET', 'POST', 'PUT', 'PATROL')
USERS = ('', 'admin', 'jürgen')
FILLER = 'päth€/' * 30


def is_probe(number):
    """A third of the requests are probes, in sequences, so that some share an entry and some do
    not.
    """
    return number % 12 in (3, 4, 5, 6)


def path_of(thread, number):
    return PROBE if is_probe(number) else f'/{thread}/{number}/{FILLER[: number * 7 % 150]}'


def method_of(number):
    return 'GET' if is_probe(number) else METHODS[number % 4]


def status_of(number):
    return 200 if is_probe(number) else 200 + number % 5


# -- the child -------------------------------------------------------------------------------------


def live(path, journal, switch_interval):
    """Record requests in the child; never returns."""
    buffer = mmap.mmap(descriptor := preallocate(path, blackbox.SIZE), blackbox.SIZE)
    os.close(descriptor)
    recorder = Recorder(buffer)
    blackbox.lay_out(buffer)
    blackbox.seal(buffer)
    words, times, gate = (
        memoryview(journal).cast('Q'),
        memoryview(journal).cast('d'),
        threading.Event(),
    )
    for thread in range(THREADS):
        threading.Thread(
            target=serve, args=(recorder, words, times, gate, thread), daemon=True
        ).start()
    sys.setswitchinterval(switch_interval)
    gate.set()
    threading.Event().wait()


def serve(recorder, words, times, gate, thread):
    at = thread * WORDS
    words[at + IDENT] = threading.get_ident()
    gate.wait()
    for number in itertools.count(1):
        path, method = path_of(thread, number), method_of(number)
        words[at + BEGINS] = number
        recorder.begin(method, path, number % 3, number)
        words[at + BEGUN] = number
        recorder.phase(1)
        if path != PROBE and number % 3:
            recorder.user(USERS[number % 3])
        now = time.time()
        words[at + ENDS] = number
        times[at + END_TIME] = now
        if path != PROBE:
            times[at + END_TIME_PATH] = now
        recorder.end(status_of(number), number)
        words[at + ENDED] = number


# -- the check -------------------------------------------------------------------------------------


class Check:
    """Compares a black box with the journal.  `torn` and `lost` are sentences about errors."""

    def __init__(self, recording, journal):
        words, times = memoryview(journal).cast('Q'), memoryview(journal).cast('d')
        self.threads = [list(words[t * WORDS : t * WORDS + WORDS]) for t in range(THREADS)]
        self.end_times = [times[t * WORDS + END_TIME_PATH] for t in range(THREADS)]
        self.torn, self.lost, self.between = [], [], 0
        self.finished = recording.finished
        self.is_full = len(recording.finished) == blackbox.FINISHED_COUNT
        self.of_thread = {words[IDENT]: t for t, words in enumerate(self.threads) if words[IDENT]}
        self.ended = [[] for _ in range(THREADS)]
        self.probes = sum(map(self._finished, recording.finished))
        self._flights(recording.in_flight)
        for thread in range(THREADS):
            self._ring(thread)
        self._probes()

    def _finished(self, r):
        """Check that this entry is one complete request, and return how many probes it counts."""
        thread, ended = self.of_thread.get(r.ident), r.ended is not None and r.started <= r.ended
        if r.path == PROBE:
            if thread is None or (r.method, r.status, r.user) != ('GET', 200, '') or not ended:
                self.torn.append(f'finished: {r}')
            return r.count
        number = _number(r.path)
        if (
            thread is None
            or not number
            or not ended
            or r.count != 1
            or r.number != r.last_number
            or r.status != status_of(number)
            or not _fits(r, thread, number, number % 3)
        ):
            self.torn.append(f'finished: {r}')
        else:
            self.ended[thread].append(number)
        return 0

    def _flights(self, in_flight):
        flights = {}
        for r in in_flight:
            if r.ident not in self.of_thread or r.ident in flights:
                self.torn.append(f'in flight: {r}')
            flights[r.ident] = r
        for thread, (ident, begins, begun, ends, ended, *_) in enumerate(self.threads):
            r = flights.get(ident)
            self.between += begins != begun or ends != ended
            if r is not None and not _fits(r, thread, begins, None):
                self.torn.append(f'in flight: {r}; the journal: {self.threads[thread]}')
            elif r is None and begins == begun and ends < begins:
                self.lost.append(f'in flight: {thread}/{begins}')
            elif r is not None and begins == ended:
                self.torn.append(f'in flight, but over: {r}')
            elif (
                r is None
                and ends > ended
                and not is_probe(ends)
                and ends not in self.ended[thread]
                and self._is_kept(thread)
            ):
                self.lost.append(f'neither in flight nor finished: {thread}/{ends}')
            elif r is not None and begins in self.ended[thread]:
                self.torn.append(f'in flight and finished: {r}')

    def _ring(self, thread):
        """Check that the last requests of a thread are there without a gap; all of them if the ring
        is not full.
        """
        found, (_, _, _, ends, ended, *_) = set(self.ended[thread]), self.threads[thread]
        if any(n > ends for n in found) or len(found) < len(self.ended[thread]):
            self.torn.append(
                f'thread {thread}: finished {found}, the journal: {self.threads[thread]}'
            )
        oldest = min(found, default=None) if self.is_full else 1
        if oldest is None:
            if ends == ended and self._is_kept(thread):
                self.lost.append(
                    f'thread {thread}: nothing is kept, but {ended} ended later than what is'
                )
        elif missing := [n for n in range(oldest, ended + 1) if n not in found and not is_probe(n)]:
            self.lost.append(f'thread {thread}: finished, not kept: {missing}')

    def _is_kept(self, thread):
        """Return whether the ring must have the last request of this thread.

        The recorder may not have written it yet if the thread was killed within `end`: so only a
        request counts that certainly ended later than the oldest one in the ring.
        """
        return not self.is_full or self.end_times[thread] > self.finished[0].ended

    def _probes(self):
        if not self.is_full:
            sure = sum(sum(map(is_probe, range(1, words[ENDED] + 1))) for words in self.threads)
            most = sum(sum(map(is_probe, range(1, words[ENDS] + 1))) for words in self.threads)
            if not sure <= self.probes <= most:
                self.lost.append(f'probes: {self.probes} counted, {sure} to {most} ended')


def _number(path):
    parts = path.split('/')
    return int(parts[2]) if len(parts) > 3 and parts[2].isdigit() else 0


def _fits(r, thread, number, user):
    """Return whether path, method, retry and user of `r` are those of this request.

    If `user` is None, `r` may have no user yet, or a part of it.
    """
    users = {''} if is_probe(number) else {USERS[number % 3]} | ({''} if user is None else set())
    return (r.path, r.method, r.retry) == (
        path_of(thread, number),
        method_of(number),
        number % 3,
    ) and (
        r.user in users or (user is None and USERS[number % 3].startswith(r.user.rstrip('\ufffd')))
    )


# -- the storm -------------------------------------------------------------------------------------


def kill_once(path, dice):
    """Run and kill one child, and return the Check of its black box."""
    journal = mmap.mmap(-1, max(mmap.PAGESIZE, THREADS * WORDS * 8))
    interval = dice.choice((1e-6, 1e-5, 1e-4, 5e-3))
    child = os.fork()
    if not child:
        try:
            live(path, journal, interval)
        finally:
            os._exit(70)
    words = memoryview(journal).cast('Q')
    until(lambda: any(words[BEGINS::WORDS]), 'the first request', pause=0.0001)
    time.sleep(10 ** dice.uniform(-5, -2))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL, f'the program ended by itself: {status}'
    data = path.read_bytes()
    path.unlink()
    return Check(blackboxreader.read(data), journal[:])


def storm(kills, seconds=0.0, seed=None, progress=lambda done, totals: None):
    """Return the totals of all runs: kills, kept, between, and the lists of sentences torn and
    lost.
    """
    dice = random.Random(seed)
    totals = {'kills': 0, 'kept': 0, 'between': 0, 'torn': [], 'lost': []}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='storm-') as folder:
        while totals['kills'] < kills and not (seconds and time.monotonic() - begun > seconds):
            check = kill_once(Path(folder) / 'blackbox.sbr', dice)
            totals['kills'] += 1
            totals['kept'] += len(check.finished)
            totals['between'] += check.between
            totals['torn'] += check.torn
            totals['lost'] += check.lost
            progress(totals['kills'], totals)
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=2000)
    parser.add_argument(
        '--seconds', type=float, default=0, help='stop after this many seconds (0: no limit)'
    )
    parser.add_argument('--seed', type=int)
    arguments = parser.parse_args()
    begun = time.monotonic()

    def progress(done, totals):
        if done % 100 == 0 and sys.stderr.isatty():
            print(f'\r{done} of {arguments.kills}', end='', file=sys.stderr)

    totals = storm(arguments.kills, arguments.seconds, arguments.seed, progress)
    for sentence in [*totals['torn'], *totals['lost']][:20]:
        print(sentence)
    print(
        f'\rrecorder alone: {totals["kills"]} kills in {time.monotonic() - begun:.0f} s, '
        f'{len(totals["torn"])} torn, {len(totals["lost"])} lost; {totals["kept"]} finished '
        'requests checked, '
        f'{totals["between"]} threads were killed within begin or end'
    )
    return 1 if totals['torn'] or totals['lost'] or not totals['kills'] else 0


if __name__ == '__main__':
    sys.exit(main())
