"""The facts of a death: the core file first, then the kernel's line, then the dump."""

from dataclasses import replace

from support.deadcrashes import ETREE
from support.deadcrashes import FAST
from support.deadcrashes import LIBC
from support.deadcrashes import PYTHON
from support.deadcrashes import core
from support.deadcrashes import crash
from support.deadcrashes import native
from support.deadcrashes import thread

from Products.StabilityMonitor.knowledge.deathfacts import facts_of
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.model.records import NativeFrame

F = native('f', FAST)
FAULT = KernelFault('segfault', 7, 0x99, 0x1, 0x2, 6, 'y.so')


def test_the_core_says_more_than_the_kernel():
    facts = facts_of(crash(F, kernel_fault=FAULT))
    assert (facts.code, facts.address, facts.has_core) == ('SEGV_MAPERR', 0x10, True)


def test_the_kernel_tells_what_a_raised_signal_hides():
    raised = replace(core(F), code='SI_TKILL', sender=100, address=None)
    facts = facts_of(crash(F, core=raised, kernel_fault=FAULT))
    assert (facts.code, facts.address, facts.sender) == ('SEGV_MAPERR', 0x99, None)


def test_the_c_stack_of_a_dump_stands_in_for_that_of_a_core():
    run = crash(native=(NativeFrame(FAST, 'f', 1, None),))
    assert facts_of(run).frames[0].frame.function == 'f'


def test_the_place_of_the_fault_stands_in_for_a_stack_that_was_not_read():
    fault = Mapping(0x1000, 0x2000, 'r-x', FAST)
    page = MergedFrame('page', native=False, file='/page.py', line=1)
    for frames in ((), (page,)):
        died = CoreThread(7, crashed=True, frames=frames)
        facts = facts_of(crash(core=replace(core(), code_at=fault, threads=(died,))))
        assert facts.first_foreign[1].frame.library == FAST
        assert facts.stack[1:] == frames


def test_the_c_stack_of_a_dump_ends_where_python_code_runs():
    """What is below that called the Python code, and is not to blame."""
    nameless = NativeFrame(PYTHON, '', None, 8)
    handler = (NativeFrame(PYTHON, '_Py_DumpStack', 4, 8), nameless, NativeFrame(LIBC, '', 9, 8))
    outer = (nameless, NativeFrame(ETREE, 'parse', 1, 8))
    stack = (*handler, NativeFrame(FAST, '', 0x21, 8), *outer)
    unread = replace(core(), code_at=None, threads=(CoreThread(7, crashed=True, frames=()),))
    for record in (crash(native=stack), crash(native=stack, core=unread)):
        facts = facts_of(record)
        own, python = facts.frames[-2:]
        assert (own.frame.library, own.frame.offset) == (FAST, 0x21)
        assert (python.frame.function, python.is_python) == ('view', True)
    assert facts_of(crash(native=(*handler, *outer))).first_foreign is None


def test_a_dump_that_met_an_invalid_frame_tells_less_than_a_core_file():
    broken = replace(thread(), note='<invalid frame>')
    page = MergedFrame('page', native=False, file='/page.py', line=1)
    found = CoreThread(7, crashed=True, frames=(F, page, page))
    read = replace(core(), threads=(found,))
    assert [frame.function for frame in facts_of(crash(core=read)).python] == ['view']
    facts = facts_of(crash(core=read, threads=(broken,)))
    assert [frame.function for frame in facts.python] == ['page', 'page']
    assert facts_of(crash(threads=(broken,))).python == broken.frames


def test_words_come_from_python_glibc_and_standard_error():
    run = crash(
        fatal=FatalError('python', 'first'),
        core=replace(core(F), abort_message='second'),
        last_words=('third',),
    )
    assert facts_of(run).words == ('first', 'second', 'third')


def test_a_register_without_a_number_is_left_out():
    damaged = replace(core(F), registers={'rax': None, 'rbx': 1})
    assert facts_of(crash(F, core=damaged)).registers == {'rbx': 1}


def test_a_damaged_context_is_no_error():
    assert facts_of(crash(context={'executable': 3})).executable == ''
