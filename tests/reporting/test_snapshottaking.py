"""A snapshot of a process that does not answer: the kernel, the black box and the watchdog tell."""

import os

from support.snapshots import snapshot
from support.syntheticruns import STARTED
from support.syntheticruns import WORKER
from support.syntheticruns import mark
from support.syntheticruns import note
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import traces

from Products.StabilityMonitor.inspection.outside import Seen
from Products.StabilityMonitor.inspection.outside import View
from Products.StabilityMonitor.model.records import ThreadSlot
from Products.StabilityMonitor.model.snapshotrecord import FAILED
from Products.StabilityMonitor.model.snapshotrecord import READ
from Products.StabilityMonitor.reporting import snapshottaking
from Products.StabilityMonitor.system.tasks import KernelThreads

STACK = b"""Timeout (0:00:05)!
Thread 0x00007f0000000010 (most recent call first):
  File "/site/shop.py", line 7 in view
"""
PYSTACK = """Traceback for thread 7 (python) [] (most recent call last):
    (Python) File "/site/shop.py", line 7, in view
    (C) File "parser.c", line 9, in parse (libxml2.so.2)
"""


def view(**values):
    """This process, whose main thread is said to be a worker that serves a request."""
    pid = os.getpid()
    slot = ThreadSlot(pid, name='waitress-0', stack_size=8 << 20, stack_used=9000)
    known = recording(
        in_flight=(request(1, native_id=pid, path='/slow'),),
        threads={WORKER: slot},
        notes=(note('hang', title='All workers were busy.'),),
    )
    task = KernelThreads(pid=pid).task(pid)
    return View(
        pid,
        STARTED + 60,
        True,
        (Seen(task, ident=WORKER, cpu=0.5),),
        traces(recording=known, stuck={WORKER: mark(text=STACK)}, **values),
    )


def test_a_thread_has_what_kernel_black_box_and_watchdog_know():
    stacks = snapshottaking.from_outside(view())
    (thread,) = [each for each in stacks.threads if each.ident == WORKER]
    assert (thread.name, thread.kind, thread.native_id) == ('waitress-0', 'worker', os.getpid())
    assert (thread.cpu, thread.stack_used) == (0.5, 9000)
    assert (thread.request.path, thread.request.seconds) == ('/slow', 10.0)
    assert [frame.function for frame in thread.frames] == ['view']
    assert thread.activity
    (hang,) = stacks.hangs
    assert (hang.kind, hang.lasts, hang.summary) == ('hang', True, 'All workers were busy.')


def test_without_a_black_box_the_kernel_tells_alone():
    seen = view()
    alone = View(seen.pid, seen.time, True, (), traces(recording=None))
    stacks = snapshottaking.from_outside(alone)
    assert os.getpid() in [thread.native_id for thread in stacks.threads]
    assert stacks.hangs == () and not any(thread.request for thread in stacks.threads)


def test_native_stacks_have_the_names_that_python_gave():
    threads = (snapshottaking.ThreadState(WORKER, 'waitress-0', native_id=7),)
    found = snapshottaking.with_native(snapshot(threads=threads), PYSTACK, 'A part is missing.')
    assert (found.native_state, found.native_error) == (READ, 'A part is missing.')
    assert found.native_threads[0].name == 'waitress-0'
    assert [frame.function for frame in found.native_threads[0].frames] == ['parse', 'view']
    assert snapshottaking.with_native(snapshot(), '', 'No tool.').native_state == FAILED
