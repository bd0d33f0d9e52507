"""A real Zope crashes in a request: soon after the next start the archive has what its core file
told.
"""

import resource
import shutil
import subprocess

import pytest
from support.corefiles import why_no_core
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.postmortem import corestacks
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = [
    pytest.mark.zope,
    pytest.mark.thorough,
    pytest.mark.skipif(bool(why_no_core()), reason=why_no_core()),
]
PATIENCE = 120
PAGES = """
import ctypes

def crash(self):
    ctypes.string_at(0x10)
"""


@pytest.fixture
def site(tmp_path):
    site = ZopeInstance(tmp_path, options={'core-files': 'on', 'keep-cores': '1'})
    site.create().publish(PAGES)
    # Only the option may lift the limit.
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield site
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    site.destroy()


def crash(site):
    """Let it crash; return the name of its run and its core file, which no later crash replaces."""
    (run,) = [path.name for path in (site.stability / 'runs').iterdir() if path.name[0] == '2']
    site.crash('/crash')
    pid = run.split('-')[1]
    core = site.home / f'core.{pid}'
    if not core.exists():  # core_uses_pid is off
        (site.home / 'core').rename(core)
    return run, core


def core_of(site, run):
    archive = Archive(Base(site.stability))
    wait_for(
        lambda: (site.stability / 'archive' / run / 'core.json').exists(), PATIENCE, 'core.json'
    )
    return archive.record(run)


def test_a_crash_in_a_request_has_its_merged_stack(site):
    site.start()
    first, first_core = crash(site)
    site.start()
    record = core_of(site, first)
    assert (record.verdict, record.confidence) == ('crashed', 'certain')
    core = record.core
    assert core.path == str(first_core)
    assert (core.signal, core.code, core.address) == ('SIGSEGV', 'SEGV_MAPERR', 0x10)
    if 'pystack' in corestacks.find_readers():
        frames = core.crashed.frames
        assert core.reader == 'pystack' and core.incomplete == ()
        python = [frame.function for frame in frames if not frame.native]
        assert python[:2] == ['string_at', 'crash'] and 'publish' in python
        assert frames[0].native and frames[0].library.endswith('libc.so.6')
        assert any('libffi' in frame.library for frame in frames)
        assert len(core.threads) > site.threads
    # The next crash: the older core file is beyond keep-cores.
    second, second_core = crash(site)
    site.start()
    assert core_of(site, second).core.path == str(second_core)
    wait_for(lambda: not first_core.exists(), PATIENCE, 'the removal of the older core file')
    assert second_core.exists()
    if shutil.which('gdb'):
        line = record.core.command.replace(str(first_core), str(second_core))
        done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE)
        assert 'string_at' in done.stdout
