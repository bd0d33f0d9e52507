"""A script has no thread of this product before it serves a request.

From Python 3.12 on, a process with more than one thread gets a warning at each fork.
"""

import sys

import pytest
from support.childprograms import run_python

from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='the threads are counted in /proc'
)
PROGRAM = """
import os, sys
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording import arming

directory, role, serves = sys.argv[1:]
configured = {'directory': directory, 'sample-interval': '50ms'}
life = arming.arm(configured, {}, Instance('test', '/nowhere', ''), role, {'zope': '6.3'})
life.armed()
done = []
life.in_background(lambda: done.append('errand'))
if serves == 'serves':
    from programs.handshake import until
    life.recorder.begin('GET', '/the/request')
    life.recorder.end()
    until(lambda: life.rounds.heartbeat.beats > 1)
print(len(os.listdir('/proc/self/task')), life.is_watched, *done, flush=True)
if serves == 'forks':
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run(tmp_path, role, serves):
    done = run_python(
        '-W', 'always::DeprecationWarning', '-c', PROGRAM, tmp_path / 'data', role, serves
    )
    return done.stdout.splitlines(), done.stderr


def samples(tmp_path):
    base = Base(tmp_path / 'data')
    (name,) = base.waiting()
    return blackboxreader.read((base.runs / name / BLACKBOX).read_bytes()).samples


def test_a_script_that_forks_has_one_thread_and_gets_no_warning(tmp_path):
    said, errors = run(tmp_path, 'script', 'forks')
    assert (said, errors) == (['1 False errand', '7'], '')
    (sample,) = samples(tmp_path)  # what has changed at the end is compared with it
    assert sample.rss > 0 and sample.host_kills >= 0


def test_a_server_has_threads_from_its_start(tmp_path):
    said, _ = run(tmp_path, 'server', 'waits')
    assert int(said[0].split()[0]) > 1 and said[0].split()[1] == 'True'


def test_a_script_that_serves_a_request_is_watched_from_then_on(tmp_path):
    said, _ = run(tmp_path, 'script', 'serves')
    assert int(said[0].split()[0]) > 1 and said[0].split()[1:] == ['True', 'errand']
    assert len(samples(tmp_path)) > 1
