"""The start and the end of real Zopes are watched: what MainThread waits for reaches the command
while it lasts, and the verdict of the next process.
"""

import os
import signal
import subprocess

import pytest
from support import standstills
from support.standstills import PATIENCE
from support.zopekit import free_port
from support.zopekit import wait_for

pytestmark = pytest.mark.zope

ZEO = """
%import ZEO
<zodb_db other>
  <clientstorage>
    server 127.0.0.1:{port}
    storage 1
    wait-timeout 300
  </clientstorage>
  mount-point /other
</zodb_db>
"""
#: Fills standard output, which nobody reads, and holds its lock: Python flushes it at its end.
CHATTER = """
def chatter(self):
    while True:
        print('x' * 1000)
"""


class SilentSite(standstills.StandingSite):
    """Its standard output is a pipe that is never read."""

    def start(self, wait=True, timeout=standstills.PATIENCE):
        self.never_read, output = os.pipe()
        self.process = subprocess.Popen(
            self.command(),
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=open(self.stderr_path, 'ab'),
            start_new_session=True,
        )
        os.close(output)
        return self.wait_ready(timeout=timeout)


def told(site, word, *words):
    """Return the output of a command once it has the word."""
    found = []

    def has_word():
        found[:] = [site.tell(*words)]
        return word in found[0].stdout

    wait_for(has_word, PATIENCE, word)
    return found[0]


def test_a_zope_that_waits_for_zeo_says_so(tmp_path):
    pytest.importorskip('ZEO')
    site = standstills.StandingSite(tmp_path / 'site')
    port = free_port()
    site.zope_conf_extra = ZEO.format(port=port)
    site.create().configure(**{'sample-interval': '100ms', 'slow-request': '1s'})
    try:
        site.start(wait=False)
        done = told(site, 'STARTS SLOWLY: ', 'status')
        words = f'MainThread is in ClientStorage.__init__ and waits for ZEO at 127.0.0.1:{port}.'
        assert done.returncode == 0 and words in done.stdout
        assert 'SLOW START began 20' in told(site, words, 'stacks').stdout
        assert f'[info] Zope does not serve yet: {words}' in site.tell('checks').stdout
        site.kill(signal.SIGTERM)
        site.wait_exit()
        (line,) = site.tell('triage').stdout.splitlines()
        assert line.endswith(']') and 'it did not get ready in ' in line
        assert f': MainThread waited for ZEO at 127.0.0.1:{port}.' in line
    finally:
        site.destroy()


def test_a_stop_that_does_not_end_tells_where_it_stands(tmp_path):
    site = SilentSite(tmp_path / 'site')
    site.publish(CHATTER, 'TestChatter')
    site.create().configure(**{'sample-interval': '100ms', 'slow-request': '1s'})
    try:
        site.start()
        site.background('/chatter')
        told(site, 'stdout is a pipe that is not read', 'stacks')
        site.kill(signal.SIGINT)
        words = 'MainThread runs no Python code: it waits in C code in the system call futex; '
        done = told(site, words, 'status')
        assert done.returncode == 0 and 'STOPS SLOWLY: ' in done.stdout
        assert 'GET /chatter is blocked on a standard stream' in done.stdout
        site.kill(signal.SIGKILL)
        site.wait_exit()
        site.tell('triage')
        facts = [evidence['fact'] for evidence in site.archive()[0]['evidence']]
        (fact,) = (fact for fact in facts if fact.startswith('Zope has not ended yet: '))
        assert words in fact and ' or later, for at least ' in fact
    finally:
        site.destroy()
