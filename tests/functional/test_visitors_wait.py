"""Visitors of a real Zope wait: in waitress's queue, in the kernel, or for workers that do not
progress.

What people reported (waitress 67, 181, 242, 301; sagecell 396; plone-backend 41).  Before, these
sites looked well: Zope itself had nothing to do.
"""

import contextlib
import os
import re
import signal
import socket
import time

import pytest
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX

pytestmark = pytest.mark.zope
STALL = 3
OPTIONS = {'stall': f'{STALL}s', 'slow-request': '2s', 'sample-interval': '100ms'}
PATIENCE = 60
SOURCE = """
import time
_kept = []

def leak(self):
    while True:
        try:
            _kept.append(open('/dev/null'))
        except OSError:
            return 'full'

def work(self, seconds):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        sum(range(1000))
        time.sleep(0.001)
    return 'done'

def stand(self, seconds):
    time.sleep(float(seconds))

def large(self):
    return 'x' * (40 << 20)
"""


class Site(ZopeInstance):
    """A site whose clients stay connected until its end."""

    prefix = ()

    def command(self):
        return [*self.prefix, *super().command()]

    def signal(self, name):
        os.kill(self.pid, getattr(signal, name))

    def noted(self, kind):
        """Return the notes of this kind in the black box."""
        (run,) = (self.stability / 'runs').glob('2*')
        notes = blackboxreader.read((run / BLACKBOX).read_bytes()).notes
        return [note for note in notes if note.kind == kind]

    def keep(self, text):
        client = socket.create_connection(('127.0.0.1', self.port))
        client.sendall(text)
        self.kept.append(client)

    def tell(self, *words):
        where = ('--client-home', self.client_home)
        return run_python(*COMMAND, *where, *words, timeout=PATIENCE, cwd=CHECKOUT)

    def hangs(self):
        """Return what `status` says while the site hangs, else ''."""
        told = self.tell('status')
        return told.stdout if told.returncode == 1 and 'HANGS' in told.stdout else ''

    def judged(self, name='SIGTERM'):
        self.signal(name)
        self.wait_exit()
        self.tell('triage')
        return self.archive()[0]


class FewDescriptors(Site):
    prefix = ('prlimit', '--nofile=80:80')


@pytest.fixture
def site(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(cls=Site, **more):
            made = cls(tmp_path / 'site', options=OPTIONS, **more)
            made.kept = []
            made.publish(SOURCE).create()
            stack.callback(made.destroy)
            for_all = stack.enter_context(contextlib.ExitStack())
            for_all.callback(lambda: [client.close() for client in made.kept])
            return made.start()

        yield make


def test_all_connections_are_used_up(site):
    zope = site()
    for _ in range(98):
        zope.keep(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    zope.keep(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')  # the kernel holds this one
    told = wait_for(zope.hangs, PATIENCE, 'a hang')
    assert '100 of 100 connections are in use, and 1 visitor waits' in told
    assert '    Connections: 100 of 100\n    Connections that wait in the kernel: 1\n' in told
    found = zope.judged()
    assert (found['verdict'], found['hangs'][0]['reason']) == ('hung', 'connections')
    assert 'all connections are in use' in found['summary']


def test_all_descriptors_are_used_up(site):
    zope = site(FewDescriptors)
    assert zope.get('/leak').text == 'full'
    for _ in range(8):  # the first take the descriptors of what has ended meanwhile
        zope.keep(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    told = wait_for(zope.hangs, PATIENCE, 'a hang')
    assert 'has used up its file descriptors, and ' in told
    assert re.search('Failed accept[(][)]: [1-9][0-9,]* times since the start', told), told
    assert re.search('Open descriptors: (79|80) of 80', told), told
    for word in ('checks', 'stacks'):
        answer = zope.tell(word).stdout
        assert 'not answered' not in answer and 'No answer' not in answer, answer
    found = zope.judged()
    sample = found['samples'][-1]
    assert sample['accept_errors'] > 0 and sample['descriptor_limit'] == 80
    assert found['curve'][0]['rss'] > 0
    reasons = {hang['reason'] for hang in found['hangs'] if hang['kind'] == 'hang'}
    assert (found['verdict'], reasons) == ('hung', {'descriptors'})
    assert 'all file descriptors are in use' in found['summary']


@pytest.mark.parametrize('page', ['work', 'stand'])
def test_requests_wait_for_a_worker(site, page):
    """Each request ends, also where all of them wait at the same place."""
    zope = site(threads=1)
    for _ in range(8):
        zope.background(f'/{page}?seconds=2')
    told = wait_for(zope.hangs, PATIENCE, 'a hang')
    assert 'wait for a worker, the oldest for longer than 3 s' in told
    assert re.search('Requests that wait for a worker: [1-7], the oldest for ', told), told
    found = zope.judged('SIGKILL')
    reasons = {hang['reason'] for hang in found['hangs'] if hang['kind'] == 'hang'}
    assert (found['verdict'], reasons) == ('hung', {'queue'})
    sample = found['samples'][-1]
    assert sample['queue'] > 1 and sample['waited'] > STALL and sample['connections'] > 3


def test_clients_that_do_not_read_keep_all_workers_busy(site):
    zope = site(threads=2)
    for _ in range(2):
        zope.keep(b'GET /large HTTP/1.1\r\nHost: x\r\n\r\n' * 2)
    told = wait_for(zope.hangs, PATIENCE, 'a hang')
    assert 'waits for a socket: a client that does not read its answer' in told
    found = zope.judged()
    assert (found['verdict'], found['hangs'][0]['reason']) == ('hung', 'workers')


def test_workers_that_do_not_progress_when_a_probe_stops_the_site(site):
    zope = site(threads=2)
    for _ in range(2):
        zope.background('/stand?seconds=60')
    wait_for(zope.hangs, PATIENCE, 'a hang')
    found = zope.judged()
    assert (found['verdict'], found['hangs'][0]['reason']) == ('hung', 'workers')


def test_a_busy_worker_that_progresses_is_no_hang(site):
    """One thread, and a healthy export that takes long when a deployment stops the site."""
    zope = site(threads=1)
    zope.background('/work?seconds=60')
    wait_for(lambda: zope.noted('saturated'), PATIENCE, 'the event')
    time.sleep(2 * STALL)
    told = zope.tell('status')
    assert (told.returncode, 'HANGS' in told.stdout) == (0, False), told
    found = zope.judged()
    assert found['verdict'] == 'stopped', found['summary']
    assert 'progress is made' in str(found['evidence'])
