"""Processes that die in compiled code, on every version of Python: how each dies, what its end is
judged to be, and its class of death.

tests/functional/test_suspects.py does this in real Zopes, beside innocent compiled modules.
"""

import os
import signal

import pytest
from support import crashers
from support.childprograms import PROGRAMS
from support.childprograms import environment
from support.childprograms import run_python
from support.corefiles import why_no_core
from support.crashtable import ALONE

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.postmortem import corereading
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = [pytest.mark.gcc, pytest.mark.thorough]
NO_CORE = why_no_core()

#: What CI tries; each takes seconds.
CHOSEN = {'stack_overflow', 'null_in_native_thread', 'without_gil', 'double_free', 'wild_write'}


def _each(crashes):
    for crash in crashes:
        marks = () if crash.page in CHOSEN else pytest.mark.sweep
        yield pytest.param(crash, id=crash.page, marks=marks)


@pytest.mark.parametrize('crash', list(_each(ALONE)))
def test_a_process_dies_in_compiled_code_and_its_class_of_death_is_found(crash, tmp_path):
    base = Base(tmp_path / 'stability')
    try:
        site = crashers.site(*crashers.OF_C)
    except crashers.Unavailable as error:  # such as a compiler without the headers of Python
        pytest.skip(str(error))
    path = os.pathsep.join([environment()['PYTHONPATH'], str(site)])
    with open(tmp_path / 'stderr', 'w') as stderr:  # a file, which has the last words
        died = run_python(
            PROGRAMS / 'crashing.py',
            base.path,
            crash.page,
            cwd=tmp_path,
            env=environment(PYTHONPATH=path),
            stderr=stderr,
        )
    assert died.returncode == (-getattr(signal, crash.signal) if crash.signal else 6)
    (judged,) = triage(base)
    assert judged.signal == (crash.signal or None)
    corereading.read_now(base, [judged.run], _raise)
    record = diagnosed(Archive(base).record(judged.run))
    assert (record.death.id if record.death else '') == (crash.bare if NO_CORE else crash.death)


def _raise(run, error):
    raise error
