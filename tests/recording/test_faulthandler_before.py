"""Where faulthandler was enabled before, its file gets no dump any more; a finding says so."""

import signal
import sys

import pytest
from support.childprograms import environment
from support.childprograms import run_python

from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='Windows has no such signal')
PROGRAM = """
import faulthandler, os, signal, sys
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording import arming

directory, file = sys.argv[1:]
if file:
    kept = open(file, 'w')
    faulthandler.enable(kept)
life = arming.arm({'directory': directory}, {}, Instance('test', '/', ''), 'server', {})
print([(found.id, found.severity.code) for found in life.findings], flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""
FOUND = [('faulthandler-moved', 'info')]


@pytest.mark.parametrize(
    'options, variables, is_file, found',
    [
        ((), {}, False, []),
        (('-X', 'faulthandler'), {}, False, FOUND),
        ((), {'PYTHONFAULTHANDLER': '1'}, False, FOUND),
        ((), {}, True, FOUND),
    ],
    ids=['never', 'option', 'variable', 'file'],
)
def test_a_faulthandler_of_before_is_a_finding(tmp_path, options, variables, is_file, found):
    file = tmp_path / 'dump'
    file.touch()
    done = run_python(
        *options,
        '-c',
        PROGRAM,
        tmp_path / 'data',
        file if is_file else '',
        env=environment() | variables,
    )
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == f'{found}\n'
    assert 'Fatal Python error' not in done.stderr + file.read_text()
    base = Base(tmp_path / 'data')
    (name,) = base.waiting()
    assert b'Fatal Python error' in (base.runs / name / 'faults.mark').read_bytes()
