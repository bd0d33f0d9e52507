"""What is not known about a dead run is said, with the reason that its record has."""

from dataclasses import replace

import pytest
from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample

from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.reportparts import LOGS
from Products.StabilityMonitor.model.reportparts import MISSING
from Products.StabilityMonitor.model.reportparts import REASONS
from Products.StabilityMonitor.model.reportparts import Gap
from Products.StabilityMonitor.model.runrecord import Amendment
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting.gaps import of_record

STACK = ThreadState(1, crashed=True, frames=(Frame('/x.py', 1, 'f'),))
CORE = CoreFile('/core', 1.0, reader='gdb', threads=(CoreThread(1, crashed=True),))
#: A crash of which everything is known.
CRASH = record(
    0,
    'crashed',
    signal='SIGSEGV',
    samples=(sample(),),
    requests=(request(),),
    threads=(STACK,),
    native=(NativeFrame('x.so', 'f', 0, 0),),
    core=CORE,
)
VERSIONS = {'zope': '6.0'}


def test_of_a_crash_of_which_everything_is_known_nothing_is_missing():
    assert of_record(CRASH, VERSIONS) == []


def test_of_a_wanted_stop_nothing_is_missing():
    assert of_record(record(0, 'stopped'), {}) == []


@pytest.mark.parametrize(
    'changes, gap',
    [
        ({'ended_before': 1.0}, Gap('end', 'not-recorded')),
        ({'verdict': 'vanished', 'signal': None}, Gap('status', 'nobody-saw')),
        (
            {'verdict': 'vanished', 'signal': None, 'amendments': (Amendment(1.0, 'sibling'),)},
            Gap('status', 'not-recorded'),
        ),
        ({'samples': (), 'requests': ()}, Gap('black-box', 'not-recorded')),
        ({'verdict': 'unreadable'}, Gap('black-box', 'damaged')),
        ({'threads': ()}, Gap('python-stacks', 'not-recorded')),
        ({'threads': (replace(STACK, cut=True),)}, Gap('python-stacks', 'cut')),
        ({'native': ()}, None),
        ({'native': (), 'core': replace(CORE, threads=())}, Gap('native-stack', 'not-recorded')),
        ({'core': replace(CORE, reader='')}, Gap('core-file', 'not-read', '/core')),
        (
            {'core': replace(CORE, incomplete=('No gdb.',))},
            Gap('core-file', 'incomplete', '/core', 'No gdb.'),
        ),
    ],
)
def test_each_part_that_is_missing_is_told(changes, gap):
    found = of_record(replace(CRASH, **changes), VERSIONS)
    assert found == ([gap] if gap else [])


def test_a_run_that_did_not_note_its_versions_says_so():
    assert of_record(CRASH, {}) == [Gap('versions', 'not-recorded')]


@pytest.mark.parametrize(
    'pattern, limit, gap',
    [
        ('core', 0, Gap('core-file', 'switched-off', detail='RLIMIT_CORE is 0')),
        ('', -1, Gap('core-file', 'switched-off', detail='core_pattern is ""')),
        ('/cores/core.%p', -1, Gap('core-file', 'not-found', '/cores')),
        ('|/x %p', -1, Gap('core-file', 'kept-elsewhere', detail='core_pattern is "|/x %p"')),
        ('core', None, Gap('core-file', 'not-found', '/')),
    ],
)
def test_why_there_is_no_core_file_is_told(pattern, limit, gap):
    context = {'core_pattern': pattern, 'limits': {'CORE': [limit, -1]}}
    assert of_record(replace(CRASH, core=None, context=context), VERSIONS) == [gap]


def test_of_a_run_without_a_context_nothing_is_claimed_about_core_files():
    found = of_record(replace(CRASH, core=None, context={}), VERSIONS)
    assert found == [Gap('core-file', 'not-found')]


def test_a_damaged_context_raises_nothing():
    for value in (7, [], {'CORE': []}, {'CORE': 7}, None):
        context = {'core_pattern': value, 'limits': value}
        (gap,) = of_record(replace(CRASH, core=None, context=context), VERSIONS)
        assert gap.what == 'core-file'


def test_each_code_has_words():
    assert not LOGS.keys() & MISSING.keys() and all(REASONS.values())
