"""The address of a fault proves a stack overflow, from a core file or from the kernel's line."""

from dataclasses import replace

import pytest
from support.deadcrashes import STACK
from support.deadcrashes import core
from support.deadcrashes import crash
from support.syntheticruns import STARTED

from Products.StabilityMonitor.model.corefile import BY_NAME
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.model.stackends import judged
from Products.StabilityMonitor.model.witnesses import FAULT
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.model.witnesses import amended

AT_END = {'address': STACK - 24, 'code': 'SEGV_MAPERR'}


def end(run):
    return run.verdict, run.confidence


def with_core(run, told):
    return judged(replace(run, core=told))


def test_a_fault_at_the_stack_pointer_is_a_stack_overflow():
    run = with_core(crash(confidence='strong'), core(**AT_END))
    assert end(run) == ('stack-overflow', 'certain')
    assert run.evidence[-1].source == 'core file' and run.core
    assert judged(run).evidence == run.evidence, 'it is said once'


@pytest.mark.parametrize(
    'values',
    [
        {'address': STACK - (1 << 20)},
        {'address': 0x10},
        {'address': None},
        {'code': 'SI_TKILL'},
        {'program_counter': AT_END['address']},
        {'match': BY_NAME},
        {'stack_pointer': 0},
        {'address': STACK + 0x9000},  # the first byte above the stack
    ],
    ids=str,
)
def test_other_faults_stay_crashes(values):
    assert with_core(crash(), core(**AT_END | values)).verdict == 'crashed'


def test_the_guard_page_may_be_mapped_without_access():
    guard = Mapping(STACK - 4096, STACK, '---')
    assert with_core(crash(), core(**AT_END | {'data_at': guard})).verdict == 'stack-overflow'


def test_the_guard_may_be_in_a_mapping_that_is_writable():
    stack = Mapping(STACK - 4096, STACK + 4096, 'rw-')
    values = AT_END | {'code': 'SEGV_ACCERR', 'data_at': stack}
    assert with_core(crash(), core(**values)).verdict == 'stack-overflow'


def test_other_verdicts_stay():
    assert with_core(crash(verdict='aborted'), core(**AT_END)).verdict == 'aborted'


@pytest.mark.parametrize('verdict', ['vanished', 'crashed'])
def test_the_line_of_the_kernel_decides_when_the_witness_comes(verdict):
    fault = KernelFault('segfault', 7, STACK - 8, 0x1234, STACK, 6, 'libc.so.6')
    saw = Witness('kernel', STARTED + 70, 'It logged.', STARTED + 60, None, 'SIGSEGV')
    waited = Witness('run', STARTED + 60, 'It died.', STARTED + 60, None, 'SIGSEGV')
    run = amended(
        replace(crash(), verdict=verdict, confidence='likely'),
        [replace(saw, cause=FAULT, fault=fault), waited],
    )
    assert end(run) == ('stack-overflow', 'certain') and run.kernel_fault == fault
    assert [each.after.verdict for each in run.amendments] == ['crashed', 'stack-overflow']


def test_what_triage_saw_of_the_kernel_wins():
    own = KernelFault('segfault', 7, 0, 1, STACK, 4, 'x.so')
    saw = Witness('kernel', STARTED, '', signal='SIGSEGV', fault=replace(own, library='y.so'))
    assert amended(crash(kernel_fault=own), [saw]).kernel_fault == own


def test_an_address_above_the_stack_pointer_may_be_an_overrun_buffer():
    """The kernel's line does not say where the stack is."""
    above = KernelFault('segfault', 7, STACK + 4096, 0x1234, STACK, 6, 'libc.so.6')
    assert end(judged(crash(kernel_fault=above))) == ('stack-overflow', 'strong')
    below = replace(above, address=STACK - 8)
    assert end(judged(crash(kernel_fault=below))) == ('stack-overflow', 'certain')


@pytest.mark.parametrize('verdict', ['vanished', 'crashed'])
def test_a_core_file_that_shows_it_decides_without_being_read_again(verdict):
    """Lists have no core file: reading it for each of their rows would take seconds."""
    saw = Witness('core', STARTED + 70, 'It is there.', signal='SIGSEGV', cause=FAULT)
    run = amended(replace(crash(), verdict=verdict), [replace(saw, at_stack_end=True)])
    assert end(run) == ('stack-overflow', 'certain') and run.core is None
    assert end(amended(replace(crash(), verdict=verdict), [saw]))[0] == 'crashed'
