"""Under gevent, the ident of a thread is the address of a greenlet: no C function gets it."""

import sys

import pytest
from support.childprograms import PROGRAMS
from support.childprograms import run_python

from Products.StabilityMonitor.system import tasks

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux has the clocks of threads'
)


def run(directory, how):
    done = run_python(PROGRAMS / 'greenlets.py', directory, how)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_ident_that_is_no_pthread_does_not_crash_the_process(tmp_path):
    said = run(tmp_path / 'stability', 'faked')
    assert said == ['stack True', 'watchdog True', 'findings']


def test_under_gevent_a_site_serves_and_only_the_watchdog_is_off(tmp_path):
    pytest.importorskip('gevent')
    said = run(tmp_path / 'stability', 'real')
    assert said == [
        'stack True',
        'watchdog False',
        'findings RuntimeError: the heartbeat has no thread of its own, as under gevent.',
    ]


def test_the_clock_of_a_thread_needs_only_the_id_of_the_kernel():
    code = """if True:
        import threading, time
        from Products.StabilityMonitor.system.tasks import clock_id
        ours = clock_id(threading.get_native_id())
        print(ours == time.pthread_getcpuclockid(threading.get_ident()))
    """
    assert run_python('-c', code).stdout == 'True\n'
    assert tasks.clock_id(0) is None
