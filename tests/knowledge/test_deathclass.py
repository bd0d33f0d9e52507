"""The class of a death: each row of the table, from a core file, the kernel's line, the dump, or
the last words.
"""

from dataclasses import replace

import pytest
from support.deadcrashes import ETREE
from support.deadcrashes import FAST
from support.deadcrashes import LIBC
from support.deadcrashes import OBJECTS
from support.deadcrashes import PYTHON
from support.deadcrashes import PYTHON_FRAME
from support.deadcrashes import SITE
from support.deadcrashes import STACK
from support.deadcrashes import VIEW
from support.deadcrashes import XML2
from support.deadcrashes import core
from support.deadcrashes import crash
from support.deadcrashes import native
from support.deadcrashes import thread
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import deathclass
from Products.StabilityMonitor.knowledge.deathfacts import facts_of
from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.model.verdicts import VERDICTS

PARSE = native('parse', ETREE)
LOADING = (
    Frame('<frozen importlib._bootstrap>', 241, '_call_with_frames_removed'),
    Frame('<frozen importlib._bootstrap_external>', 1176, 'create_module'),
    Frame('<frozen importlib._bootstrap>', 676, '_load_unlocked'),
    Frame(VIEW, 3, '<module>'),
)
C_THREAD = CoreThread(7, '', True, False, (native('f', FAST), native('start_thread', LIBC)))


def shown(**values):
    return crash(PARSE, core=core(PARSE, **values), signal=values.get('signal', 'SIGSEGV'))


def kernel(what='segfault', address=0, library='x.so', error=4, signal='SIGSEGV'):
    fault = KernelFault(what, 7, address, 0x7F00_0000_1500, STACK, error, library)
    return crash(signal=signal, kernel_fault=fault)


def said(reason, *words, state='initialized', **values):
    fatal = FatalError('python', reason, state) if reason else None
    return crash(verdict='aborted', signal='SIGABRT', fatal=fatal, last_words=words, **values)


CASES = {
    'sent': shown(code='SI_USER', address=None, sender=99, sender_uid=0),
    'stack-end': crash(PARSE, verdict='stack-overflow', core=core(PARSE, address=STACK - 8)),
    'overrun': said('_PyMem_DebugRawFree: bad trailing pad byte'),
    'api-misuse': said("_PyMem_DebugRawFree: bad ID: Allocated using API 'm', verified using 'o'"),
    'reference-count': said('none_dealloc: deallocating None'),
    'heap-misuse': said('', 'free(): double free detected in tcache 2'),
    'heap-damaged': said('', 'corrupted size vs. prev_size'),
    'buffer-overflow': said('', '*** stack smashing detected ***: terminated'),
    'assertion': said('', "python: node.c:7: visit: Assertion `node' failed."),
    'cpp-exception': said('', "terminate called after throwing an instance of 'std::bad_alloc'"),
    'rust-panic': said('', "thread '<unnamed>' panicked at src/lib.rs:7:5: no"),
    'at-exit': said('_enter_buffered_busy: could not acquire lock', state='finalizing (tstate=1)'),
    'fatal-error': said('gilstate_tss_set: failed to set current tstate'),
    'import': crash(threads=(thread(*LOADING),)),
    'two-copies': crash(
        native('xmlDictLookup', XML2),
        shared_objects=(*OBJECTS, SharedObject('/lib/libxml2.so.2', (), 'libxml2.so.2', 'bb')),
    ),
    'native-thread': crash(PARSE, core=replace(core(PARSE), threads=(C_THREAD,))),
    'use-after-free': shown(code='SI_KERNEL', address=0, registers={'rax': 0xDDDDDDDDDDDDDDDD}),
    'jump-into-nowhere': shown(address=0x7F00_0000_1500, code_at=None),
    'file-cut-short': shown(
        signal='SIGBUS', code='BUS_ADRERR', address=0x5000, data_at=Mapping(1, 2, 'r--', '/a.dat')
    ),
    'missing-instruction': shown(signal='SIGILL', code='ILL_ILLOPN', address=0x1500),
    'arithmetic': shown(signal='SIGFPE', code='FPE_INTDIV', address=0x1500),
    'damaged-earlier': crash(native('visit_decref', PYTHON), native('gc_collect_main', PYTHON)),
    'null-pointer': shown(registers={'rax': 0, 'rbx': 5}),
    'read-only-memory': shown(
        code='SEGV_ACCERR', address=0x1800, data_at=Mapping(0x1000, 0x2000, 'r--', ETREE)
    ),
    'wild-pointer': shown(address=0x1234_5678_0000),
    'exit-in-c': crash(verdict='exited', signal=None, exit_code=3, fatal=None, threads=()),
    'abort-in-c': said(''),
    'unknown': crash(),
}


def test_each_class_has_a_case():
    assert {row.id for row in (*deathclass.CLASSES, deathclass.UNKNOWN)} == set(CASES)


def death_class(run):
    return deathclass.class_of(facts_of(run))


@pytest.mark.parametrize('id', CASES)
def test_a_death_has_its_class(id):
    found = death_class(CASES[id])
    assert found.id == id
    assert found.title and found.why.endswith(('.', '".'))
    assert found.advice or id == 'exit-in-c'


@pytest.mark.parametrize('verdict', [name for name in VERDICTS if name not in deathclass.VERDICTS])
def test_other_verdicts_have_none(verdict):
    assert diagnosed(record(0, verdict)).death is None


@pytest.mark.parametrize(
    'id, run',
    [
        ('null-pointer', kernel(address=0x18)),
        ('null-pointer', kernel(address=0, error=0x14)),
        ('read-only-memory', kernel(address=0x7F00_0000_0000, error=7)),
        ('wild-pointer', kernel(address=0x1234_5678_0000)),
        ('wild-pointer', kernel('general protection', address=None)),
        ('jump-into-nowhere', kernel(address=0x7F00_0000_1500, error=0x14, library='')),
        ('missing-instruction', kernel('invalid opcode', address=None, signal='SIGILL')),
        ('arithmetic', kernel('divide error', address=None, signal='SIGFPE')),
        ('use-after-free', kernel(address=0xDDDD_DDDD_DDDD_DDF5)),
    ],
)
def test_the_line_of_the_kernel_gives_a_class_without_a_core(id, run):
    assert death_class(run).id == id


@pytest.mark.parametrize(
    'id, values',
    [
        ('damaged-earlier', {'fatal': FatalError('signal', 'x', collecting=True)}),
        ('native-thread', {'fatal': FatalError('signal', 'x', is_whole=True), 'threads': ()}),
        ('unknown', {'fatal': FatalError('signal', 'x'), 'threads': ()}),
        ('missing-instruction', {'signal': 'SIGILL'}),
        ('file-cut-short', {'signal': 'SIGBUS'}),
        ('arithmetic', {'signal': 'SIGFPE'}),
        ('at-exit', {'phase': 'finished'}),
    ],
)
def test_the_dump_alone_gives_a_class(id, values):
    assert death_class(crash(**values)).id == id


def test_the_dump_helps_where_the_functions_of_python_have_no_names():
    collecting = FatalError('signal', 'x', collecting=True)
    nameless = native('', PYTHON)
    assert death_class(crash(nameless, fatal=collecting)).id == 'damaged-earlier'
    assert death_class(crash(PARSE, fatal=collecting)).id == 'null-pointer'
    whole = FatalError('signal', 'x', is_whole=True)
    c_thread = replace(C_THREAD, frames=(PARSE, native('', LIBC)))
    run = crash(PARSE, core=replace(core(PARSE), threads=(c_thread,)), fatal=whole)
    assert death_class(run).id == 'native-thread'


@pytest.mark.parametrize(
    'id, words',
    [
        ('heap-misuse', 'double free or corruption (!prev)'),
        ('heap-misuse', 'free(): invalid pointer'),
        ('heap-misuse', 'munmap_chunk(): invalid pointer'),
        ('heap-damaged', 'free(): invalid next size (fast)'),
        ('heap-damaged', 'malloc(): unaligned tcache chunk detected'),
        ('heap-damaged', 'malloc_consolidate(): unaligned fastbin chunk detected'),
        ('heap-damaged', 'corrupted double-linked list'),
        ('buffer-overflow', '*** buffer overflow detected ***: terminated'),
        (
            'api-misuse',
            'Modules/gcmodule.c:446: PyObject_GC_Track: Assertion "!(...)" failed: object already '
            'tracked by the garbage collector',
        ),
        ('rust-panic', 'fatal runtime error: failed to initiate panic, error 5'),
        ('cpp-exception', 'pure virtual method called'),
    ],
)
def test_last_words_give_a_class(id, words):
    assert death_class(said('', words)).id == id
    assert death_class(said('', core=replace(core(PARSE), abort_message=words))).id == id


@pytest.mark.parametrize(
    'id, reason',
    [
        ('overrun', '_PyMem_DebugRawFree: bad leading pad byte'),
        (
            'api-misuse',
            '_PyMem_DebugMalloc: Python memory allocator called without holding the GIL',
        ),
        ('api-misuse', 'PyEval_SaveThread: the function must be called with the GIL held'),
        ('api-misuse', '_PyThreadState_Delete: non-NULL old thread state'),
        (
            'api-misuse',
            'PyThreadState_Get: the function must be called with the GIL held, but the '
            'GIL is released (the current Python thread state is NULL)',
        ),
        (
            'api-misuse',
            '_Py_CheckFunctionResult: a function returned NULL without setting an exception',
        ),
        (
            'api-misuse',
            '_Py_CheckSlotResult: Slot __getitem__ of type Thing succeeded with an exception set',
        ),
        ('reference-count', 'bool_dealloc: deallocating True or False: This is likely caused by'),
    ],
)
def test_the_words_of_python_give_a_class(id, reason):
    assert death_class(said(reason)).id == id


def test_words_count_only_after_an_abort():
    """Another process may have written them to the same log."""
    assert death_class(crash(last_words=('double free or corruption',))).id == 'unknown'


def test_a_signal_that_faulthandler_raised_again_was_not_sent():
    run = shown(code='SI_TKILL', address=None, sender=100)
    assert run.pid == 100 and death_class(run).id == 'unknown'


def test_what_the_handler_did_is_not_taken_for_the_fault():
    run = shown(code='SI_TKILL', sender=100, registers={'rax': 0xDDDDDDDDDDDDDDDD})
    assert death_class(run).id == 'unknown'


def test_a_call_of_a_null_function_is_a_null_pointer():
    assert death_class(shown(program_counter=0, address=0, code_at=None)).id == 'null-pointer'


def test_a_module_of_python_code_that_is_imported_is_no_compiled_one():
    frames = (Frame(VIEW, 3, '<module>'), *LOADING[1:])
    assert death_class(crash(threads=(thread(*frames),))).id == 'unknown'


def test_a_crash_in_the_loader_is_one_at_import():
    assert death_class(crash(native('do_lookup_x', '/lib64/ld-linux-x86-64.so.2'))).id == 'import'


def test_the_python_stack_may_come_from_the_core_alone():
    frames = [replace(PYTHON_FRAME, file=each.file, function=each.function) for each in LOADING]
    threads = (CoreThread(7, crashed=True, frames=tuple(frames)),)
    found = death_class(crash(PARSE, threads=(), core=replace(core(PARSE), threads=threads)))
    assert found.id == 'import'


def test_a_library_outside_of_the_stack_is_no_clash():
    copies = (*OBJECTS, SharedObject(f'{SITE}/x.libs/libxml2-ffffffff.so.2', (), 'libxml2.so.2'))
    assert death_class(crash(native('f', FAST), shared_objects=copies)).id == 'null-pointer'


def test_a_signal_without_a_sender_was_sent_all_the_same():
    """So it is after kill -SEGV of a process whose handler is that of faulthandler."""
    found = death_class(shown(code='SI_USER', address=None, sender=None))
    assert found.id == 'sent' and 'not by whom' in found.why


def test_who_has_a_core_file_is_not_told_to_have_one():
    assert 'core-files' in death_class(crash()).advice
    assert (
        'core-files' not in death_class(crash(core=replace(core(), code='', address=None))).advice
    )
