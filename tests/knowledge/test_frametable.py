"""The table of frames: each row counts, and what it leaves of real stacks."""

import pytest
from support.deadcrashes import CTYPES
from support.deadcrashes import ETREE
from support.deadcrashes import FAST
from support.deadcrashes import FFI
from support.deadcrashes import HANDLER
from support.deadcrashes import LIBC
from support.deadcrashes import PYTHON
from support.deadcrashes import PYTHON_FRAME
from support.deadcrashes import native

from Products.StabilityMonitor.knowledge import frametable
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.records import NativeFrame

EVALUATION = native('_PyEval_EvalFrameDefault', PYTHON)


def functions(frames):
    return [each.frame.function for each in frametable.prepared(frames)]


def foreign(frames, executable=''):
    found = frametable.first_foreign(frametable.prepared(frames, executable), executable)
    return found and found[1].frame.function


def test_each_row_has_a_source_and_is_used_as_written():
    table = frametable.shipped()
    assert len(table.frames) > 8 and table.objects and table.modules
    for row in table.frames:
        for member in row.members:
            name = member.replace('*', 'x').replace('?', 'x')
            library = PYTHON if row.where else LIBC
            assert frametable.row_of(name, library), member


@pytest.mark.parametrize(
    'function, id',
    [
        ('__restore_rt', 'F1'),
        ('__GI_raise', 'F2'),
        ('malloc_printerr', 'F2'),
        ('_int_free', 'F3'),
        ('malloc@@GLIBC_2.2.5', 'F3'),
        ('_PyMem_DebugRawFree', 'F3'),
        ('__memcpy_avx_unaligned_erms', 'F4'),
        ('__strlen_evex', 'F4'),
        ('deduce_unreachable', 'F5'),
        ('gc_collect_main', 'F5'),
        ('subtype_dealloc', 'F6'),
        ('Per_dealloc', 'F6'),
        ('_zic_state_traverse', 'F5-traverse'),
        ('subtype_traverse', 'F5'),
        ('_PyEval_EvalFrameDefault', 'F7'),
        ('_PyEval_EvalFrameDefault.cold', 'F7'),
        ('ffi_call_unix64', 'F8'),
        ('__Pyx_PyObject_Call', 'F8'),
        ('start_thread', 'F9'),
        ('std::panicking::begin_panic_handler', 'F2'),
    ],
)
def test_functions_are_in_their_row(function, id):
    assert frametable.row_of(function).id == id


def test_a_function_of_other_code_is_in_no_row():
    assert frametable.row_of('xmlDictLookup', ETREE) is None
    assert frametable.row_of('method_of_mine', ETREE) is None, 'that row is only for Python'
    assert frametable.row_of('') is None


@pytest.mark.parametrize(
    'function, plain',
    [
        ('f.cold.1', 'f'),
        ('f.constprop.0.isra.3', 'f'),
        ('free@GLIBC_2.2.5', 'free'),
        ('__pyx_pw_3foo_1bar', 'foo_bar'),
        ('shop::fast::h0123456789abcdef', 'shop::fast'),
        ('.cold', '.cold'),
    ],
)
def test_what_compilers_add_is_taken_off(function, plain):
    assert frametable.plain_name(function) == plain


def test_what_ran_after_the_crash_is_left_out():
    frames = [*HANDLER, native('xmlDictLookup', ETREE), PYTHON_FRAME]
    assert functions(frames) == ['xmlDictLookup', 'view']


def test_the_trampoline_in_a_dump_of_python_has_no_name():
    frames = [native('_Py_DumpStack', PYTHON), native('', LIBC), native('go', FAST)]
    assert functions(frames) == ['go']
    frames[1:1] = [native('__restore_rt', LIBC)]
    assert functions(frames) == ['', 'go']


def test_a_crash_inside_of_a_handler_of_other_code_is_kept():
    frames = [*HANDLER, native('on_alarm', FAST), *HANDLER[-1:], native('f', ETREE)]
    assert functions(frames)[0] == 'on_alarm'


def test_what_only_ends_the_process_is_left_out():
    nameless = native('', LIBC)
    frames = [nameless, native('raise', LIBC), native('abort', LIBC), nameless]
    frames += [native('malloc_printerr', LIBC), native('_int_free', LIBC), native('free', LIBC)]
    assert functions([*frames, native('drop', FAST)]) == ['free', 'drop']
    assert foreign([*frames, native('drop', FAST)]) == 'drop'


def test_so_is_what_rust_does_in_each_module_before_it_ends_the_process():
    """Its functions may have lost their names."""
    nameless = native('', FAST)
    frames = [native('raise', LIBC), native('abort', LIBC), nameless]
    frames += [native('std::panicking::default_hook', FAST), nameless]
    frames += [native('std::panicking::panic_with_hook', FAST), nameless]
    assert functions([*frames, native('shop::price', FAST)]) == ['', 'shop::price']


def test_a_dump_tells_only_what_is_before_the_first_frame_that_may_run_python():
    nameless = native('', PYTHON)
    handler = [native('_Py_DumpStack', PYTHON), nameless, native('', LIBC)]
    inner = [native('f', FAST), native('PyObject_Call', PYTHON), native('g', ETREE)]
    for end in (nameless, EVALUATION):
        found = frametable.before_python([*handler, *inner, end, native('h', FAST)])
        assert found == (*handler, *inner)
    assert frametable.before_python([*handler, *inner]) == (*handler, *inner)


def test_frames_of_one_kind_in_a_row_are_one():
    frames = [native('visit_decref', PYTHON), native('gc_collect_main', PYTHON)]
    (gc,) = frametable.prepared(frames)
    assert (gc.category, gc.count) == ('gc', 2)


def test_a_dealloc_of_other_code_stays_apart_from_those_of_python():
    frames = [native('thing_dealloc', FAST), native('_Py_Dealloc', PYTHON)]
    assert functions(frames) == ['thing_dealloc', '_Py_Dealloc']


def test_python_code_replaces_what_runs_it():
    call = native('PyObject_Vectorcall', PYTHON)
    assert functions([call, EVALUATION, PYTHON_FRAME]) == ['view']
    assert functions([call, EVALUATION, EVALUATION]) == ['_PyEval_EvalFrameDefault']


def test_below_the_base_of_a_thread_is_nothing():
    assert functions([native('work', FAST), native('start_thread', LIBC), EVALUATION]) == ['work']


def test_the_search_ends_at_python_code():
    assert foreign([native('dict_get', PYTHON), PYTHON_FRAME, native('f', ETREE)]) is None
    assert foreign([native('dict_get', PYTHON), EVALUATION, native('f', ETREE)]) is None


def test_the_library_behind_ctypes_is_meant():
    glue = [native('ffi_call', FFI), native('_ctypes_callproc', CTYPES)]
    assert foreign([native('widget', '/opt/libwidget.so'), *glue]) == 'widget'
    assert foreign([native('__strlen_evex', LIBC), *glue, PYTHON_FRAME]) is None


@pytest.mark.parametrize(
    'file, role',
    [
        (LIBC, 'platform'),
        ('/lib/ld-musl-x86_64.so.1', 'platform'),
        ('/lib64/ld-linux-x86-64.so.2', 'platform'),
        (PYTHON, 'platform'),
        ('/usr/bin/python3.13', 'platform'),
        ('/usr/lib/python3.11/lib-dynload/_json.cpython-311.so', 'platform'),
        (CTYPES, 'glue'),
        (FFI, 'glue'),
        ('/x/_cffi_backend.cpython-311-x86_64-linux-gnu.so', 'glue'),
        ('/x/Acquisition/_Acquisition.cpython-311.so', 'passes-on'),
        ('', 'platform'),
        ('/opt/zope/bin/zopeserver', 'platform'),
        (ETREE, ''),
        ('/usr/lib/libldap.so.2', ''),
    ],
)
def test_objects_have_their_role(file, role):
    assert frametable.object_role(file, '/opt/zope/bin/zopeserver') == role


def test_modules_have_their_roles():
    assert frametable.module_roles('waitress.task') == {'plumbing'}
    assert frametable.module_roles('ctypes') == {'glue'}
    assert frametable.module_roles('BTrees._OOBTree') == {'zope'}
    assert not frametable.module_roles('waitressx')


def test_a_thread_of_c_code_begins_in_its_routine():
    base = [native('start_thread', LIBC), native('clone3', LIBC)]
    frames = [*HANDLER, native('step', FAST), native('worker', FAST), *base]
    assert frametable.start_routine(frames).function == 'worker'
    of_python = [native('f', FAST), EVALUATION, native('thread_run', PYTHON), *base]
    assert frametable.start_routine(of_python) is None
    assert frametable.start_routine([PYTHON_FRAME, *base]) is None
    assert frametable.start_routine([native('main', FAST)]) is None


def test_the_c_stack_of_a_dump_has_the_same_form():
    (frame,) = frametable.merged([NativeFrame('/x.so', 'f', 3, None)])
    assert frame == MergedFrame('f', library='/x.so')


GOOD = 'id = "X"\ncategory = "x"\neffect = "drop"\nmembers = ["f"]\nsource = "s"\n'


@pytest.mark.parametrize(
    'text, words',
    [
        ('[[frames]]\n' + GOOD.replace('drop', 'fall'), 'no effect'),
        ('[[frames]]\n' + GOOD.replace('["f"]', '[]'), 'members'),
        ('[[frames]]\n' + GOOD.replace('source = "s"\n', ''), 'source'),
        ('[[frames]]\n' + GOOD + '[[frames]]\n' + GOOD, 'Two rows'),
        ('[[other]]\n', 'Unknown'),
        ('[[suffixes]]\nid = "X"\nsource = "s"\npattern = "("', 'X'),
        ('[[objects]]\nid = "X"\nrole = "x"\nnames = ["f"]\nsource = "s"', 'no role'),
    ],
)
def test_a_row_that_is_not_complete_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        frametable.load(text)


def test_a_good_row_is_read():
    assert frametable.load('[[frames]]\n' + GOOD).frames[0].pattern.fullmatch('f')
