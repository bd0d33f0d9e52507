"""Suspects: which module is named for what trace, and how much speaks for it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.deadcrashes import ACQUISITION
from support.deadcrashes import CTYPES
from support.deadcrashes import ETREE
from support.deadcrashes import FAST
from support.deadcrashes import FFI
from support.deadcrashes import LIBC
from support.deadcrashes import OBJECTS
from support.deadcrashes import OOBTREE
from support.deadcrashes import PYTHON
from support.deadcrashes import SITE
from support.deadcrashes import STACK
from support.deadcrashes import VIEW
from support.deadcrashes import XML2
from support.deadcrashes import core
from support.deadcrashes import crash
from support.deadcrashes import native
from support.deadcrashes import thread
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.model.suspects import STRENGTHS

CALLS_FAST = {VIEW: 'from shop import _fast\n\n_fast.go()'}
ELSEWHERE = thread(Frame('/site/a.py', 1, 'f'))
DEALLOC = native('subtype_dealloc', PYTHON)
COLLECTS = native('gc_collect_main', PYTHON)
LOOKUP = native('lookdict', PYTHON)
COLLECTING = FatalError('signal', 'Segmentation fault', collecting=True, names_thread=True)


def named(run, earlier=(), sources=None):
    """Return [(module, strength)] of the suspects."""
    found = diagnosed(run, earlier, (sources or {}).get)
    assert found.death, 'nothing was raised'
    assert all(each.why.endswith('.') and each.strength in STRENGTHS for each in found.suspects)
    scores = [each.score for each in found.suspects]
    assert scores == sorted(scores, reverse=True)
    return [(each.module, each.strength) for each in found.suspects]


def first(*args, **values):
    return named(*args, **values)[0]


# -- with a native stack ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    'frames, expected',
    [
        ([native('go', FAST)], ('shop._fast', 'strong')),
        ([native('__strlen_evex', LIBC), native('go', FAST)], ('shop._fast', 'strong')),
        ([native('PyDict_GetItem', PYTHON), native('go', FAST)], ('shop._fast', 'likely')),
        ([native('bucket_get', OOBTREE)], ('BTrees._OOBTree', 'strong')),
        ([native('Wrapper_findattr', ACQUISITION)], ('Acquisition._Acquisition', 'strong')),
        ([native('widget', f'{SITE}/lib/libwidget.so'), native('ffi_call', FFI)],
         ('libwidget.so', 'strong')),
        ([native('xmlDictLookup', XML2), native('parse', ETREE)], ('lxml.etree', 'strong')),
        ([native('ldap_search', '/usr/lib/libldap.so.2'), native('go', FAST)],
         ('libldap.so.2', 'strong')),
        ([native('', FAST)], ('shop._fast', 'strong')),
    ],
)  # fmt: skip
def test_the_first_foreign_frame_is_the_first_suspect(frames, expected):
    assert first(crash(*frames)) == expected


def test_a_suspect_has_its_distribution_version_and_file():
    (suspect,) = diagnosed(crash(native('go', FAST))).suspects
    assert (suspect.distribution, suspect.version, suspect.file) == ('shop', '2.0', FAST)


def test_the_module_that_called_a_library_of_the_system_is_named_too():
    frames = [native('ldap_search', '/usr/lib/libldap.so.2'), native('go', FAST)]
    assert named(crash(*frames))[1] == ('shop._fast', 'likely')


def test_code_that_passes_on_is_weak_unless_it_is_on_top():
    frames = [LOOKUP, native('Wrapper_findattr', ACQUISITION), native('go', FAST)]
    assert named(crash(*frames)) == [
        ('Acquisition._Acquisition', 'weak'),
        ('shop._fast', 'weak'),
    ]


@pytest.mark.parametrize(
    'frames',
    [
        [LOOKUP],
        [LOOKUP, native('PyObject_GetAttr', PYTHON)],
        [native('__strlen_evex', LIBC), native('ffi_call', FFI), native('string_at', CTYPES)],
    ],
)
def test_python_itself_leaves_nothing_or_what_is_weak(frames):
    """What Python code called, C code of others further out, is no suspect."""
    assert named(crash(*frames, threads=(ELSEWHERE,))) == []
    assert {strength for _, strength in named(crash(*frames), sources=CALLS_FAST)} == {'weak'}


@pytest.mark.parametrize(
    'values, strength',
    [
        ({'code': 'SEGV_ACCERR', 'data_at': Mapping(1, 2, 'r--', ETREE)}, 'strong'),
        ({'code': 'SI_KERNEL', 'address': 0}, 'likely'),
        ({'code': 'SI_KERNEL', 'registers': {'rax': 0xDDDDDDDDDDDDDDDD}}, 'strong'),
        ({'address': 0x7F00_0000_1500, 'code_at': None}, 'weak'),
        ({'signal': 'SIGILL', 'code': 'ILL_ILLOPN'}, 'strong'),
    ],
)
def test_the_class_says_how_much_the_first_foreign_frame_means(values, strength):
    go = native('go', FAST)
    signal = values.get('signal', 'SIGSEGV')
    assert first(crash(go, core=core(go, **values), signal=signal)) == ('shop._fast', strength)


@pytest.mark.parametrize(
    'words, strength',
    [
        ('free(): invalid pointer', 'likely'),
        ('corrupted size vs. prev_size', 'weak'),
        ('terminate called after throwing an instance of x', 'strong'),
        ("thread '<unnamed>' panicked at src/lib.rs:1:1:", 'strong'),
    ],
)
def test_after_an_abort_the_caller_is_meant(words, strength):
    frames = [native('abort', LIBC), native('free', LIBC), native('go', FAST)]
    run = crash(*frames, verdict='aborted', signal='SIGABRT', last_words=(words,))
    assert first(run) == ('shop._fast', strength)


def test_misuse_of_the_c_api_is_certain():
    fatal = FatalError('python', '_PyMem_DebugMalloc: called without holding the GIL')
    frames = [native('abort', LIBC), native('_PyMem_DebugMalloc', PYTHON), native('go', FAST)]
    run = crash(*frames, verdict='aborted', signal='SIGABRT', fatal=fatal)
    assert first(run) == ('shop._fast', 'certain')


def test_a_dealloc_or_traverse_of_other_code_on_top_is_likely():
    assert first(crash(native('thing_dealloc', FAST), DEALLOC)) == ('shop._fast', 'likely')
    assert first(crash(native('_state_traverse', FAST), COLLECTS)) == ('shop._fast', 'likely')


@pytest.mark.parametrize('top', [DEALLOC, COLLECTS], ids=['dealloc', 'gc'])
def test_earlier_damage_is_never_more_than_likely(top):
    run = crash(top, native('go', FAST))
    assert first(run) == ('shop._fast', 'weak')
    assert first(crash(top), sources=CALLS_FAST) == ('shop._fast', 'likely')


def test_a_thread_of_c_code_names_its_start_routine():
    frames = (LOOKUP, native('step', ETREE), native('work', FAST), native('start_thread', LIBC))
    run = crash(LOOKUP, core=replace(core(), threads=(CoreThread(7, '', True, False, frames),)))
    assert ('shop._fast', 'strong') in named(run)


def test_a_recursion_in_c_names_the_object_that_repeats():
    frames = [native('down', FAST)] * 30
    run = crash(core=core(*frames, address=STACK - 8))
    assert diagnosed(run).verdict == 'stack-overflow'
    assert first(run) == ('shop._fast', 'strong')


def test_a_recursion_through_python_names_nothing():
    through = [native('call', FAST), LOOKUP] * 30
    assert named(crash(core=core(*through, address=STACK - 8))) == []


def test_the_owners_of_two_copies_are_both_named():
    other = f'{SITE}/xmlsec.libs/libxml2-ffffffff.so.2'
    objects = (*OBJECTS, SharedObject(other, (), 'libxml2.so.2', 'bb', 'xmlsec', '1.3'))
    run = crash(native('xmlDictLookup', XML2), shared_objects=objects)
    assert [each.distribution for each in diagnosed(run).suspects] == ['lxml', 'xmlsec']
    assert {strength for _, strength in named(run)} == {'strong'}


@pytest.mark.parametrize(
    'values',
    [
        {'code': 'SI_USER', 'sender': 99, 'address': None},
        {'signal': 'SIGBUS', 'code': 'BUS_ADRERR', 'data_at': Mapping(1, 2, 'r--', '/a.dat')},
    ],
)
def test_a_signal_from_outside_and_a_cut_file_name_no_module(values):
    go = native('go', FAST)
    run = crash(go, core=core(go, **values), signal=values.get('signal', 'SIGSEGV'))
    assert named(run, sources=CALLS_FAST) == []


def test_the_c_stack_of_a_dump_names_the_module_without_a_core():
    stack = [
        NativeFrame(PYTHON, '_Py_DumpStack', 66, None),
        NativeFrame(LIBC, '', 0x3DEF0, None),
        NativeFrame(FAST, '', 0x1139, None),
        NativeFrame(PYTHON, '_PyEval_EvalFrameDefault', 9, None),
        NativeFrame(ACQUISITION, '', 9, None),
    ]
    assert named(crash(native=tuple(stack))) == [('shop._fast', 'strong')]


# -- without one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'library, expected',
    [
        (FAST.rpartition('/')[2], [('shop._fast', 'strong')]),
        ('libc.so.6', []),
        ('libpython3.11.so.1.0', []),
        ('python3.11', []),
        ('', []),
    ],
)
def test_the_kernel_names_an_object(library, expected):
    fault = KernelFault('segfault', 7, 0x10, 0x7F0000001500, STACK, 4, library)
    assert named(crash(kernel_fault=fault, threads=(ELSEWHERE,))) == expected


def test_what_the_line_calls_is_likely():
    assert first(crash(), sources=CALLS_FAST) == ('shop._fast', 'likely')


def test_the_compiled_modules_of_the_package_alone_are_weak():
    assert named(crash()) == [('shop._fast', 'weak')]


def test_the_module_that_is_imported_is_strong():
    frames = (
        Frame('<frozen importlib._bootstrap>', 241, '_call_with_frames_removed'),
        Frame('<frozen importlib._bootstrap_external>', 1176, 'create_module'),
        Frame(VIEW, 1, '<module>'),
    )
    run = crash(threads=(thread(*frames),))
    for source in ('import numba._core', 'from numba import _core'):
        assert named(run, sources={VIEW: source})[0] == ('numba._core', 'strong')
    assert named(run) == []


def test_what_crashed_runs_had_in_common_is_at_most_likely():
    bad = crash(threads=(), fatal=COLLECTING)
    good = record(0, compiled_modules=('lxml.etree', 'BTrees._OOBTree'))
    earlier = [replace(bad, compiled_modules=(*good.compiled_modules, 'shop._fast'))] * 9
    earlier += [good] * 9
    now = replace(bad, compiled_modules=earlier[0].compiled_modules)
    assert named(now, earlier) == [('shop._fast', 'likely')]


@pytest.mark.parametrize('collects, strength', [(True, 'likely'), (False, 'weak')])
def test_a_distribution_that_changed_is_a_suspect(collects, strength):
    stable = record(0, context={'distributions': {'shop': '1.0', 'lxml': '5.2.1', 'text': '1'}})
    now = crash(
        threads=(),
        fatal=COLLECTING if collects else FatalError(),
        context={'distributions': {'shop': '2.0', 'lxml': '5.2.1', 'text': '2'}},
    )
    assert named(now, [stable]) == [('shop._fast', strength)]


def test_of_an_unknown_thread_what_others_were_calling_is_weak():
    fatal = FatalError('signal', 'Segmentation fault', is_whole=True)
    waits = replace(thread(), crashed=False)
    idle = replace(ELSEWHERE, crashed=False)
    run = crash(fatal=fatal, threads=(idle, waits))
    assert named(run, sources=CALLS_FAST) == [('shop._fast', 'weak')]
    assert named(run) == []


def test_nothing_points_anywhere():
    assert named(crash(threads=())) == []


def test_at_most_five_are_named():
    modules = tuple(f'm{number}' for number in range(9))
    source = '\n'.join(f'import {name}' for name in modules) + f'\nx = [{"(), ".join(modules)}()]'
    run = crash(shared_objects=(), compiled_modules=modules, threads=(
        thread(Frame('/site/a.py', 10, 'f')),
    ))  # fmt: skip
    assert 1 <= len(named(run, sources={'/site/a.py': source})) <= 5


def test_no_innocent_module_is_strong_when_zopes_own_code_crashes():
    """The stack of a request goes through Acquisition, and the innocent are loaded."""
    for frames in ([native('bucket_get', OOBTREE)], [LOOKUP, native('_BTree_get', OOBTREE)]):
        found = named(crash(*frames), sources={VIEW: 'from lxml import etree\nimport shop\nx[1]'})
        strong = {module for module, strength in found if strength in ('strong', 'certain')}
        assert strong <= {'BTrees._OOBTree'} and found[0][0] == 'BTrees._OOBTree'


# -- whatever the record holds ---------------------------------------------------------------------

TEXTS = st.sampled_from(['', FAST, LIBC, PYTHON, '/', 'x.so', '\0', 'SI_USER', 'SEGV_MAPERR'])
NUMBERS = st.sampled_from([None, -1, 0, 1, STACK, STACK - 8, 1 << 64, 1 << 80])
FRAMES = st.lists(
    st.fixed_dictionaries(
        {
            'function': st.sampled_from(['', 'go', 'abort', 'gc_collect_main', 'start_thread']),
            'native': st.booleans(),
            'library': TEXTS,
            'file': TEXTS,
            'line': NUMBERS,
        }
    ),
    max_size=5,
)
RECORDS = st.fixed_dictionaries(
    {
        'run': st.just('20260921T133320Z-4711-abcd'),
        'verdict': st.sampled_from(['crashed', 'aborted', 'stack-overflow', 'exited']),
        'signal': st.sampled_from([None, '', 'SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGILL']),
        'core': st.none()
        | st.fixed_dictionaries(
            {
                'path': TEXTS,
                'time': st.just('2026-09-21T13:33:20.000Z'),
                'match': st.just('content'),
                'code': TEXTS,
                'address': NUMBERS,
                'sender': NUMBERS,
                'program_counter': NUMBERS,
                'stack_pointer': NUMBERS,
                'registers': st.dictionaries(TEXTS, NUMBERS, max_size=2),
                'data_at': st.none() | st.fixed_dictionaries({'file': TEXTS}),
                'threads': FRAMES.map(lambda frames: [{'crashed': True, 'frames': frames}]),
            }
        ),
        'fatal': st.none()
        | st.fixed_dictionaries({'kind': TEXTS, 'reason': TEXTS, 'is_whole': st.booleans()}),
        'kernel_fault': st.none()
        | st.fixed_dictionaries({'what': TEXTS, 'library': TEXTS, 'address': NUMBERS}),
        'shared_objects': st.lists(
            st.fixed_dictionaries({'file': TEXTS, 'modules': st.lists(TEXTS, max_size=2)}),
            max_size=3,
        ),
        'compiled_modules': st.lists(TEXTS, max_size=3),
        'threads': FRAMES.map(lambda frames: [{'crashed': True, 'frames': frames}]),
        'context': st.dictionaries(
            st.sampled_from(['executable', 'distributions']),
            NUMBERS | TEXTS | st.dictionaries(TEXTS, NUMBERS | TEXTS, max_size=2),
        ),
        'last_words': st.lists(TEXTS, max_size=2),
    }
)
SOURCES = st.sampled_from([None, '', 'x', '\0', 'import x.so\nx.so.f()', '((', 'def f(: pass'])


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.lists(RECORDS, max_size=3), SOURCES)
def test_no_record_makes_a_rule_raise(document, earlier, source):
    def read(document):
        return RunRecord.from_json(json.loads(json.dumps(document)))

    found = diagnosed(read(document), [read(each) for each in earlier], lambda path: source)
    assert found.death is not None, 'a rule raised'
