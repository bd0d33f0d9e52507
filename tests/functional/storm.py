"""The storm: kill real Zopes under load at random moments; no record may be torn or lost.

    python tests/functional/storm.py --kills 1000 [--jobs 2] [--alone 5000] [--stops 1000]

Each run is a runwsgi with waitress; client threads request pages with unique paths, and one
health probe.  The page keeps its own journal: a record of 16 bytes when it begins and when it ends.
After SIGKILL the next start judges the run (the last run of each chunk is judged by a direct call
of `triage`), and its record must agree:

* a request that the client has the answer of is finished; one that only begins in the journal is in
  flight; none is missing;
* only requests that were sent and not answered are in flight; each line is a request that was
  really sent, and it is complete.

tests/programs/storm_program.py kills the recorder alone, and much more often;
tests/functional/storm_of_stops.py stops, restarts and kills Zopes, and looks at the verdicts.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import http.client
import itertools
import json
import multiprocessing
import os
import random
import struct
import sys
import tempfile
import threading
import time
import urllib.parse
import zlib
from datetime import datetime
from pathlib import Path

if __name__ in ('__main__', '__mp_main__'):
    sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (2, 1)]

from programs import storm_program
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.rundirectory import Base

CLIENTS, THREADS, CHUNK = 7, 4, 10
KEPT = blackbox.FINISHED_COUNT
#: Seconds: times in records are cut to milliseconds, and the threads read the clock one after the
#: other.
CLOCK = 0.005
PROBE = '/storm/probe'

PAGE = '''
import os, random, struct, time
from Acquisition import Implicit
from OFS.Application import Application
from ZPublisher import zpublish

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_JOURNAL = os.open(os.environ.get("STORM_JOURNAL", os.devnull), _FLAGS)
_WAITS = (0, 0, 0, 0.001, 0.01)


class Storm(Implicit):
    """Answers at every path below it."""
    __roles__ = None
    __allow_access_to_unprotected_subobjects__ = True

    def __bobo_traverse__(self, request, name):
        return self

    @zpublish
    def __call__(self, REQUEST):
        """The page."""
        number = int(REQUEST.environ["HTTP_X_STORM_NUMBER"])
        os.write(_JOURNAL, struct.pack("=cxxxxxxxQ", b"B", number))
        time.sleep(random.choice(_WAITS))
        REQUEST.RESPONSE.setStatus(int(REQUEST.environ["HTTP_X_STORM_STATUS"]))
        os.write(_JOURNAL, struct.pack("=cxxxxxxxQ", b"E", number))
        return "answer %d" % number


Application.storm = Storm()
'''


# -- requests --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sent:
    """One request as the client knows it; times are in seconds since the epoch."""

    number: int
    path: str
    method: str
    status: int
    sent: float
    answered: float = 0.0

    @property
    def is_probe(self):
        return self.path == PROBE


def request(number, dice):
    if dice.random() < 0.35:
        return Sent(number, PROBE, 'GET', 200, time.time())
    filler = dice.choice(
        ('', '/page', '/földer/€uro/' + 'x' * dice.randrange(200), '/' + 'long-ü' * 80)
    )
    path = f'/storm/{number}/{zlib.crc32(b"%d" % number)}{filler}'
    return Sent(
        number,
        path,
        dice.choice(('GET', 'GET', 'POST')),
        dice.choice((200, 200, 404, 500)),
        time.time(),
    )


class Client(threading.Thread):
    """Sends requests until the server is gone, and keeps them in `book`."""

    def __init__(self, port, numbers, book, dice):
        super().__init__(daemon=True)
        self.port, self.numbers, self.book, self.dice = port, numbers, book, dice

    def run(self):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        try:
            while True:
                self._ask(connection, request(next(self.numbers), self.dice))
        except (OSError, http.client.HTTPException):
            pass  # killed
        finally:
            connection.close()

    def _ask(self, connection, sent):
        self.book[sent.number] = sent
        connection.request(
            sent.method,
            urllib.parse.quote(sent.path),
            headers={
                'X-Storm-Number': str(sent.number),
                'X-Storm-Status': str(sent.status),
                'Content-Length': '0',
            },
        )
        answer = connection.getresponse()
        if answer.status != sent.status or answer.read() != b'answer %d' % sent.number:
            raise AssertionError(f'{sent}: {answer.status}')
        sent.answered = time.time()


# -- one run ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Life:
    """What is known of a killed Zope without its record."""

    pid: int
    killed: float
    book: dict
    journal: Path


class Zopes:
    """One instance, which is started and killed again and again."""

    def __init__(self, folder, seed):
        self.dice = random.Random(seed)
        self.folder = Path(folder)
        options = {'keep-runs': str(2 * CHUNK), 'sample-interval': '0.2s'}
        self.zope = ZopeInstance(
            self.folder / 'zope', options=options, threads=THREADS, stderr='null'
        )
        self.zope.publish(PAGE).create()
        self.journals = itertools.count(1)

    def life(self):
        journal = self.folder / f'journal-{next(self.journals)}'
        self.zope.env['STORM_JOURNAL'] = str(journal)
        self.zope.start(wait='port')

    def load_and_kill(self):
        book, numbers = {}, itertools.count(1)
        clients = [
            Client(self.zope.port, numbers, book, random.Random(self.dice.random()))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        if self.dice.random() < 0.9:  # else kill it during its first requests
            wait_for(
                lambda: any(sent.answered for sent in list(book.values())), 60, 'the first answer'
            )
        time.sleep(self.dice.uniform(0, 0.3))
        self.zope.kill()
        self.zope.wait_exit()
        killed = time.time()
        for client in clients:
            client.join(60)
        return Life(self.zope.pid, killed, book, Path(self.zope.env['STORM_JOURNAL']))

    def record(self, life):
        """Return the one archived record of a run."""
        found = list((self.zope.stability / 'archive').glob(f'*-{life.pid}-*/incident.json'))
        records = [
            r
            for r in (json.loads(path.read_text('utf-8')) for path in found)
            if _seconds(r['started']) > life.killed - 120
        ]
        assert len(records) == 1, f'{len(records)} records of process {life.pid}: {found}'
        return records[0]

    def judge(self):
        triage.triage(Base(self.zope.stability))

    def destroy(self):
        self.zope.destroy()


# -- the check -------------------------------------------------------------------------------------


class Check:
    """Compares the record of a run with what the client and the journal know."""

    def __init__(self, record, life):
        self.record, self.life, self.book = record, life, life.book
        self.torn, self.lost = [], []
        self.begun, self.ended = _read_journal(life.journal)
        self.is_full = len(record['recent']) >= KEPT
        self.oldest = min((_seconds(r['ended']) for r in record['recent']), default=0.0)
        self.probes_flying = self.probes_finished = 0
        self.flying = {self._flight(r) for r in record['requests']} - {None}
        self.finished = {self._finished(r) for r in record['recent']} - {None}
        self._whole()
        self._complete()
        self._probes()
        self._verdict()

    @property
    def between(self):
        """How many requests were killed between two writes: in flight in the record, but in the
        journal not begun yet, or ended already.
        """
        return len(self.flying - self.begun) + len(self.flying & self.ended)

    def _expect(self, condition, list_, *words):
        if not condition:
            list_.append(f'process {self.life.pid}: ' + ' '.join(map(str, words)))

    def _sent(self, r):
        """Compare all fields of a line of the record with the request that was sent.

        Return that request; None for a probe or a torn line.
        """
        if r['path'] == PROBE:
            self._expect((r['method'], r['cut']) == ('GET', False), self.torn, 'probe:', r)
            return None
        parts = r['path'].split('/')
        number = int(parts[2]) if len(parts) > 3 and parts[2].isdigit() else 0
        sent = self.book.get(number)
        path, cut = blackbox.cut(sent.path if sent else '', blackbox.PATH_MAX)
        whole = sent and (r['path'], r['cut'], r['method']) == (
            path.decode(),
            bool(cut),
            sent.method,
        )
        self._expect(whole, self.torn, 'not what was sent:', r, sent)
        if whole:
            begun = _seconds(r['started'])
            self._expect(
                sent.sent - CLOCK <= begun <= (sent.answered or self.life.killed) + CLOCK,
                self.torn,
                'began at another time:',
                r,
                sent,
            )
        return sent if whole else None

    def _flight(self, r):
        self._expect(r['ended'] is None, self.torn, 'in flight:', r)
        self.probes_flying += r['path'] == PROBE
        sent = self._sent(r)
        if sent is None:
            return None
        if sent.number in self.begun - self.ended:
            self._expect(
                r['phase'] == 'publishing', self.torn, 'in its method, not in this phase:', r
            )
        return sent.number

    def _finished(self, r):
        sent = self._sent(r)
        self._expect(
            r['ended']
            and _seconds(r['started']) <= _seconds(r['ended']) <= self.life.killed + CLOCK,
            self.torn,
            'finished:',
            r,
        )
        if r['path'] == PROBE:
            self._expect(r['status'] == 200 and r['count'] >= 1, self.torn, 'probe:', r)
            self.probes_finished += r['count']
            return None
        if sent is None:
            return None
        self._expect((r['status'], r['count']) == (sent.status, 1), self.torn, 'finished:', r, sent)
        return sent.number

    def _whole(self):
        """Check that nothing is there twice, and nothing impossible."""
        threads = [r['thread'] for r in self.record['requests']]
        self._expect(len(set(threads)) == len(threads) <= THREADS, self.torn, 'threads:', threads)
        recent = collections.Counter(r['path'] for r in self.record['recent'] if r['path'] != PROBE)
        self._expect(not recent or max(recent.values()) == 1, self.torn, 'twice:', recent)
        answered = {n for n, sent in self.book.items() if sent.answered}
        self._expect(
            not self.flying & self.finished,
            self.torn,
            'in flight and finished:',
            self.flying & self.finished,
        )
        self._expect(
            not self.flying & answered,
            self.torn,
            'in flight, but answered:',
            self.flying & answered,
        )
        self._expect(
            self.finished <= self.ended,
            self.torn,
            'finished, but not ended:',
            self.finished - self.ended,
        )

    def _complete(self):
        """Check that each request is in flight or finished, or older than the 256 finished
        requests that are kept.
        """
        unique = {n for n, sent in self.book.items() if not sent.is_probe}
        in_method = (self.begun - self.ended) & unique
        self._expect(in_method <= self.flying, self.lost, 'not in flight:', in_method - self.flying)
        kept = {n for n in unique if not self.is_full or self.book[n].sent > self.oldest + CLOCK}
        answered = {n for n in kept if self.book[n].answered}
        self._expect(
            answered <= self.finished,
            self.lost,
            'answered, not finished:',
            answered - self.finished,
        )
        either = self.flying | self.finished
        self._expect(
            self.begun & kept <= either, self.lost, 'not there at all:', self.begun & kept - either
        )

    def _probes(self):
        probes = {n for n, sent in self.book.items() if sent.is_probe}
        begun, ended = len(self.begun & probes), len(self.ended & probes)
        self._expect(
            begun - ended <= self.probes_flying,
            self.lost,
            f'probes in flight: {self.probes_flying}',
        )
        if not self.is_full:
            answered = sum(bool(self.book[n].answered) for n in probes)
            self._expect(
                answered <= self.probes_finished,
                self.lost,
                f'probes: {self.probes_finished} counted, {answered} answered',
            )
            self._expect(
                begun <= self.probes_flying + self.probes_finished,
                self.lost,
                f'probes: {self.probes_finished} counted, {self.probes_flying} in flight, '
                f'{begun} begun',
            )
            self._expect(
                self.probes_finished <= ended,
                self.torn,
                f'probes: {self.probes_finished} counted, {ended} ended',
            )

    def _verdict(self):
        usual = 'vanished' if any(sent.answered for sent in self.book.values()) else None
        verdicts = {usual} if usual else {'vanished', 'startup-failed'}
        self._expect(
            self.record['verdict'] in verdicts, self.torn, 'verdict:', self.record['verdict']
        )
        self._expect(
            not self.record['counters']['requests_without_slot'], self.lost, 'too few slots'
        )

    @property
    def counts(self):
        return {
            'kills': 1,
            'sent': len(self.book),
            'answered': sum(bool(s.answered) for s in self.book.values()),
            'finished': sum(r['count'] for r in self.record['recent']),
            'flying': len(self.record['requests']),
            'between': self.between,
            'full': int(self.is_full),
        }


def _read_journal(path):
    """Return (numbers of the requests with a begin, numbers of those with an end)."""
    begun, ended = set(), set()
    if path.exists():
        content = path.read_bytes()
        assert len(content) % 16 == 0, f'{path}: {len(content)} bytes'
        for kind, number in struct.iter_unpack('=cxxxxxxxQ', content):
            (begun if kind == b'B' else ended).add(number)
    return begun, ended


def _seconds(text):
    return datetime.fromisoformat(text).timestamp()


# -- the storm -------------------------------------------------------------------------------------


def chunk(kills, seed):
    """Kill one instance several times: (counts, torn, lost)."""
    counts, torn, lost = collections.Counter(), [], []

    def check(life):
        found = Check(zopes.record(life), life)
        counts.update(found.counts)
        torn.extend(found.torn)
        lost.extend(found.lost)
        life.journal.unlink(missing_ok=True)

    with tempfile.TemporaryDirectory(prefix='storm-') as folder:
        zopes, last = Zopes(folder, seed), None
        try:
            for _ in range(kills):
                zopes.life()
                if last is not None:
                    check(last)
                last = zopes.load_and_kill()
            zopes.judge()
            check(last)
        finally:
            zopes.destroy()
    return counts, torn, lost


def storm(kills, jobs=2, seed=None, progress=lambda counts, torn, lost: None):
    """Kill Zopes this often: (counts, torn, lost)."""
    dice, counts, torn, lost = random.Random(seed), collections.Counter(), [], []
    sizes = [CHUNK] * (kills // CHUNK) + [kills % CHUNK] * bool(kills % CHUNK)
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        chunks = [pool.submit(chunk, size, dice.random()) for size in sizes]
        try:
            for done in concurrent.futures.as_completed(chunks):
                one, its_torn, its_lost = done.result()
                counts.update(one)
                torn += its_torn
                lost += its_lost
                progress(counts, torn, lost)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts, torn, lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=1000)
    parser.add_argument(
        '--jobs', type=int, default=max(2, os.cpu_count() or 1), help='Zopes at the same time'
    )
    parser.add_argument(
        '--alone', type=int, default=2000, help='kills of the recorder alone, before the Zopes'
    )
    parser.add_argument('--stops', type=int, default=0, help='stops, restarts and kills of Zopes')
    parser.add_argument('--seed', type=float)
    arguments = parser.parse_args()
    begun, failed = time.monotonic(), 0
    if arguments.alone:
        totals = storm_program.storm(arguments.alone, seed=arguments.seed)
        failed += report(
            'recorder alone',
            totals['torn'],
            totals['lost'],
            f'{totals["kills"]} kills in {time.monotonic() - begun:.0f} s, {totals["kept"]} '
            'finished '
            f'requests checked, {totals["between"]} threads were within begin or end',
        )
    if arguments.kills:
        failed += storm_of_kills(arguments)
    if arguments.stops:
        failed += stop_often(arguments)
    return 1 if failed else 0


def storm_of_kills(arguments):
    """Kill Zopes, print what was found, and return how many records are torn or lost."""
    begun = time.monotonic()

    def progress(counts, torn, lost):
        seconds = time.monotonic() - begun
        print(
            f'{counts["kills"]:5} of {arguments.kills} kills, {seconds:4.0f} s: {len(torn)} '
            f'torn, {len(lost)} lost',
            end='\r' if sys.stdout.isatty() else '\n',
            flush=True,
        )

    counts, torn, lost = storm(arguments.kills, arguments.jobs, arguments.seed, progress)
    failed = report(
        'Zope',
        torn,
        lost,
        (
            f'{counts["kills"]} kills in {time.monotonic() - begun:.0f} s, {counts["sent"]} '
            'requests sent, '
            f'{counts["answered"]} answered, {counts["finished"]} finished ones checked '
            f'({counts["full"]} full rings), '
            f'{counts["flying"]} in flight at the end, {counts["between"]} of them just '
            'beginning or ending'
        ),
    )
    return failed + abs(arguments.kills - counts['kills'])


def stop_often(arguments):
    """Stop, restart and kill Zopes, print what was found, and return how many faults there are."""
    import storm_of_stops  # which imports this module

    begun = time.monotonic()
    shown = [0]

    def progress(counts, faults):
        ends = sum(counts.values()) - counts['recorded']
        print(f'{ends:5} of {arguments.stops} ends, {len(faults)} faults', flush=True)
        for sentence in faults[shown[0] :]:
            print(f'    {sentence}', flush=True)
        shown[0] = len(faults)

    counts, faults = storm_of_stops.run(arguments.stops, arguments.jobs, arguments.seed, progress)
    ways = ', '.join(f'{way}: {count}' for way, count in sorted(counts.items()))
    print(f'Stops: {len(faults)} faults in {time.monotonic() - begun:.0f} s; {ways}', flush=True)
    return len(faults)


def report(what, torn, lost, counts):
    for sentence in [*torn, *lost][:20]:
        print(f'    {sentence}')
    print(f'{what}: {len(torn)} torn, {len(lost)} lost records; {counts}', flush=True)
    return len(torn) + len(lost)


if __name__ == '__main__':
    sys.exit(main())
