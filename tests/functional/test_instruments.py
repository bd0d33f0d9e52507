"""When it is worst, the instruments answer: a real Zope that has used up its descriptors, and whose
log floods (sagecell 396), is asked with the command.
"""

import socket

import pytest
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX

pytestmark = pytest.mark.zope
PATIENCE = 60
OPTIONS = {'stall': '3s', 'slow-request': '1s', 'sample-interval': '100ms'}
SOURCE = """
import os, threading, time
_kept = []

def leak(self, until):
    def free():
        while not os.path.exists(until):
            time.sleep(0.05)
        _kept.clear()
    threading.Thread(target=free, daemon=True).start()
    while True:
        try:
            _kept.append(open('/dev/null'))
        except OSError:
            return 'full'
"""


class FewDescriptors(ZopeInstance):
    def command(self):
        return ['prlimit', '--nofile=80:80', *super().command()]

    def tell(self, *words):
        where = ('--client-home', self.client_home)
        return run_python(*COMMAND, *where, *words, timeout=PATIENCE, cwd=CHECKOUT)

    def log_lines(self):
        (run,) = (self.stability / 'runs').glob('2*')
        return blackboxreader.read((run / BLACKBOX).read_bytes()).log


@pytest.fixture
def zope(tmp_path):
    made = FewDescriptors(tmp_path / 'site', options=OPTIONS).publish(SOURCE).create()
    made.kept = []
    yield made
    for client in made.kept:
        client.close()
    made.destroy()


def test_a_process_without_a_descriptor_answers(zope, tmp_path):
    sign = tmp_path / 'go-on'
    zope.start()
    checked = wait_for(
        lambda: list((zope.stability / 'runs').glob('2*/checks.json')), PATIENCE, 'the checks'
    )
    assert zope.get(f'/leak?until={sign}').text == 'full'
    for _ in range(3):  # the first takes the descriptor of the connection that has ended
        client = socket.create_connection(('127.0.0.1', zope.port))
        client.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
        zope.kept.append(client)
    flood = wait_for(lambda: [line for line in zope.log_lines() if line.count > 500], PATIENCE)

    # The flood is one line of the ring.
    assert [line.message for line in flood] == [
        'server accept() threw an exception: OSError: [Errno 24] Too many open files'
    ]
    assert len(zope.log_lines()) < 20
    before = checked[0].read_bytes()

    checks = zope.tell('checks')
    assert checks.returncode == 1, checks
    assert '[critical] File descriptors are running out.' in checks.stdout
    assert '80 of 80 descriptors are open' in checks.stdout and ', checked ' in checks.stdout
    for wrong in ('damaged', 'were deleted', 'A check failed', 'switched off', 'Errno'):
        assert wrong not in checks.stdout, checks.stdout
    assert checked[0].read_bytes() == before, 'the checks must not run now'

    stacks = zope.tell('stacks')
    assert stacks.stdout.startswith('80 of 80 descriptors of process '), stacks
    assert 'This command has read from the kernel' in stacks.stdout
    assert 'MainThread (native id ' in stacks.stdout and 'waitress' in stacks.stdout
    assert 'in an unknown state' not in stacks.stdout
    assert zope.tell('status').stdout.startswith('running: pid ')
    assert (checks.stderr, stacks.stderr) == ('', '')

    # When descriptors are there again, nothing has been switched off for good.
    sign.touch()
    assert wait_for(lambda: zope.get('/').status == 200, PATIENCE)
    titles = ' '.join(check['title'] for check in zope.report()['checks'])
    assert 'running out' not in titles and 'switched off' not in titles
    stacks = zope.tell('stacks')
    assert stacks.stdout.startswith('Threads of process '), stacks
