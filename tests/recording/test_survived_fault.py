"""After a fatal signal that the process survived, the next one is dumped, too."""

import sys

import pytest
from support.childprograms import run_python

from Products.StabilityMonitor.postmortem import faultlog

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='Windows cannot send SIGSEGV')
PROGRAM = """
import os, signal, sys
from pathlib import Path
from Products.StabilityMonitor.recording.faulthandler_compat import FaultLog

# a handler of other code, so that the process survives a SIGSEGV that was sent
signal.signal(signal.SIGSEGV, lambda *args: None)
log = FaultLog(Path(sys.argv[1]))
for again in range(2):
    os.kill(os.getpid(), signal.SIGSEGV)
    for beat in range(2):
        assert log.check() == ''
print(log.file.length)
"""


def test_a_fault_after_a_survived_one_is_dumped_too(tmp_path):
    done = run_python('-c', PROGRAM, tmp_path)
    assert done.returncode == 0, done.stderr
    dumps = faultlog.parse((tmp_path / 'faults.mark').read_bytes())
    assert [dump.signal for dump in dumps] == ['SIGSEGV', 'SIGSEGV']
