import time
import timeit

import pytest

from Products.StabilityMonitor.knowledge.manglednames import unmangled


@pytest.mark.parametrize(
    ('function', 'plain'),
    [
        ('_ZN5boost6python4callEv', 'boost::python::call'),
        ('_ZNK3foo3barEi', 'foo::bar'),
        ('_Z4openPKc', 'open'),
        ('_ZL4openPKc', 'open'),
        ('_ZN12crasher_rust4null17h0123456789abcdefE', 'crasher_rust::null'),
        (
            '_RNvNtCsjrHSEGnQ3l9_3std9panicking12default_hook',
            'std::panicking::default_hook',
        ),
        ('_RNvCs1234_7mycrate3foo', 'mycrate::foo'),
        ('__pyx_pw_4lxml_5etree_12_ElementTree_3write', 'lxml_etree__ElementTree_write'),
        ('__pyx_f_7crasher_at', 'crasher_at'),
    ],
)
def test_the_path_of_names_is_read(function, plain):
    assert unmangled(function) == plain


@pytest.mark.parametrize(
    'function',
    [
        '',
        'memcpy',
        '_Z',
        '_ZN',
        '_ZN99fooE',
        '_R',
        '_RNv',
        '_Py_Dealloc',
        '_ZNSt6vectorIiE',
        '__pyx_',
        f'_ZN{"9" * 5000}fooE',
    ],
)
def test_other_names_and_broken_ones_stay(function):
    assert unmangled(function) == function


def test_the_number_of_a_function_of_cython_does_not_count():
    assert unmangled('__pyx_pw_1a_3write') == unmangled('__pyx_pw_1a_15write')


def test_the_time_for_a_hostile_name_grows_no_faster_than_its_length():
    def seconds(length):
        name = f'_RA{"Cs" * length}'
        return min(timeit.repeat(lambda: unmangled(name), time.thread_time, number=20, repeat=3))

    assert seconds(8 * 500) < 8 * 3 * seconds(500)
