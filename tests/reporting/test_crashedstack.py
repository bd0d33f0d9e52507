"""The stack of the thread that died: native and Python frames merged, without the handler."""

import pytest
from support import recordedcrashes
from support.samplereports import STACK
from support.syntheticruns import record

from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting import crashedstack

CRASHED = (ThreadState(ident=1, crashed=True, frames=STACK),)
#: The C stack of a dump of Python 3.14, which begins in the handler.
DUMP = tuple(
    NativeFrame(library, function, 0, address)
    for address, (library, function) in enumerate(
        (
            ('/usr/bin/python3.14', '_Py_DumpStack'),
            ('/usr/bin/python3.14', 'faulthandler_fatal_error'),
            ('/lib/libc.so.6', '__restore_rt'),
            ('/srv/site-packages/lxml/etree.so', 'parse'),
            ('/usr/bin/python3.14', '_PyEval_EvalFrameDefault'),
            ('/usr/bin/python3.14', 'main'),
        ),
        0x1000,
    )
)


@pytest.fixture(scope='module')
def records():
    return recordedcrashes.read().records


def functions(run):
    return [frame.function for frame in crashedstack.frames(run)]


def test_without_native_frames_the_python_stack_is_shown():
    run = record(0, 'crashed', threads=CRASHED)
    assert crashedstack.lines(run)[0].endswith('views.py", line 12, in render')
    assert functions(run) == ['render', 'call_object']


def test_the_c_stack_of_a_dump_stands_above_the_python_stack():
    run = record(0, 'crashed', threads=CRASHED, native=DUMP)
    assert functions(run) == ['parse', 'render', 'call_object']


def test_a_c_stack_without_a_python_stack_is_shown_whole():
    run = record(0, 'crashed', native=DUMP)
    assert functions(run) == ['parse', '_PyEval_EvalFrameDefault', 'main']


def test_the_stack_of_a_core_file_begins_below_the_handler(records):
    shown = functions(records['abort_in_c'])
    assert 'abort' in shown[:4] and shown.index('abort') < shown.index('leave')
    assert shown.index('leave') < shown.index('abort_in_c') < shown.index('publish')


def test_a_recursion_is_told_with_a_count(records):
    lines = crashedstack.lines(records['deep_repr'])
    assert any('more time' in line for line in lines) and len(lines) < 200


def test_a_run_that_did_not_crash_has_no_such_stack():
    assert crashedstack.lines(record(0, 'hung')) == []
