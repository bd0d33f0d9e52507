"""The record of a crash keeps what the dump and the kernel say, as fields."""

import pytest
from support.syntheticruns import FATAL_ERROR
from support.syntheticruns import SEGFAULT
from support.syntheticruns import dump
from support.syntheticruns import faulty
from support.syntheticruns import traces

from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import judge

COLLECTING = SEGFAULT.replace(
    b'  File "/site/bad.py"', b'  Garbage-collecting\n  File "/site/bad.py"'
)
SEGMENTATION = 'Segmentation fault'
KERNEL = 'python3[7]: segfault at 8 ip 00007f0000001500 sp 00007ffc00001000 error 4 in x.so[1+2]'


def fatal(found):
    return incident.record(found, judge(found)).fatal


@pytest.mark.parametrize(
    'text, expected',
    [
        (SEGFAULT, FatalError('signal', SEGMENTATION, '', False, True, True)),
        (COLLECTING, FatalError('signal', SEGMENTATION, '', True, True, True)),
        (
            SEGFAULT.replace(b'Current thread', b'Thread'),
            FatalError('signal', SEGMENTATION, '', False, False, True),
        ),
        (
            SEGFAULT.partition(b'Current')[0] + b'Curr',
            FatalError('signal', SEGMENTATION, '', False, False, False),
        ),
    ],
    ids=['plain', 'collecting', 'no current thread', 'torn'],
)
def test_the_dump_of_a_signal_is_kept(text, expected):
    assert fatal(faulty(text)) == expected


def test_the_words_of_python_win_over_the_abort_that_follows():
    found = faulty(
        SEGFAULT.replace(b'Segmentation fault', b'Aborted'), stderr_fault=dump(FATAL_ERROR)
    )
    assert fatal(found) == FatalError(
        'python', 'take: the GIL is gone', 'initialized', False, True, True
    )


def test_without_a_dump_there_is_nothing():
    record = incident.record(traces(), judge(traces()))
    assert record.fatal is None and record.kernel_fault is None


def test_the_line_of_the_kernel_is_kept():
    found = faulty(kernel_fault=KERNEL)
    record = incident.record(found, judge(found))
    assert (record.kernel_fault.address, record.kernel_fault.library) == (8, 'x.so')
    assert RunRecord.from_json(record.to_json()) == record
