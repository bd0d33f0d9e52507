"""The crashes of products/compiled_crashes.py, and what the next start should say of each."""

import dataclasses
import sys

from support import crashers


@dataclasses.dataclass(frozen=True)
class Crash:
    """One page that dies.

    `culprit` is the distribution at fault; '' if no product is.  Then `damaged` is the distribution
    whose objects were damaged, which may be named; '' if they are Python's.
    `death` is the class of death that is right with a core file, and `bare` the one without, where
    a dump tells less.  '' means that there is no class.
    `signal` is what ends the process, '' if it exits.
    """

    page: str
    culprit: str
    death: str
    bare: str
    signal: str = 'SIGSEGV'
    damaged: str = ''

    @property
    def leaves_core(self):
        return bool(self.signal)


def _crash(page, culprit, death, bare='', signal='SIGSEGV', **more):
    if not bare:
        bare = 'unknown' if signal == 'SIGSEGV' else death
    return Crash(page, culprit, death, bare, signal, **more)


#: Those of compiled modules of products.
OF_PRODUCTS = (
    _crash('null', 'crasher-c', 'null-pointer'),
    _crash('write_read_only', 'crasher-c', 'read-only-memory'),
    _crash('missing_instruction', 'crasher-c', 'missing-instruction', signal='SIGILL'),
    _crash('stack_overflow', 'crasher-c', 'stack-end'),
    _crash('exit_in_c', 'crasher-c', '', signal=''),
    _crash('abort_in_c', 'crasher-c', 'abort-in-c', signal='SIGABRT'),
    _crash('failed_assertion', 'crasher-c', 'assertion', signal='SIGABRT'),
    _crash(
        'null_in_native_thread',
        'crasher-c',
        'native-thread',
        bare='native-thread',
    ),
    _crash('without_gil', 'crasher-c', 'api-misuse', signal='SIGABRT'),
    _crash('use_after_free', 'crasher-heap', 'wild-pointer'),
    _crash('double_free', 'crasher-heap', 'heap-misuse', signal='SIGABRT'),
    _crash('missing_incref', 'crasher-heap', 'wild-pointer'),
    _crash('wild_write', 'crasher-heap', 'damaged-earlier', bare='damaged-earlier'),
    _crash('damaged_heap', 'crasher-heap', 'heap-damaged', signal='SIGABRT'),
    _crash('through_ctypes', 'crasher-ctypes', 'null-pointer'),
    _crash('cut_pointer', 'crasher-ctypes', 'wild-pointer'),
    _crash('through_cffi', 'crasher-cffi', 'null-pointer'),
    _crash('through_cffi_api', 'crasher-cffi', 'null-pointer'),
    _crash('null_in_cython', 'crasher-cython', 'null-pointer'),
    _crash('out_of_bounds_in_cython', 'crasher-cython', 'wild-pointer'),
    _crash('null_in_cpp', 'crasher-cpp', 'null-pointer'),
    _crash(
        'uncaught_in_cpp',
        'crasher-cpp',
        'cpp-exception',
        signal='SIGABRT',
    ),
    _crash('null_in_rust', 'crasher-rust', 'null-pointer'),
    _crash('panic_in_rust', 'crasher-rust', 'rust-panic', signal='SIGABRT'),
    _crash('below_lxml', 'crasher-c', 'null-pointer'),
    _crash('below_orjson', 'crasher-heap', 'wild-pointer'),
    _crash('below_pydantic', 'crasher-cpp', 'null-pointer'),
    _crash('below_greenlet', 'crasher-rust', 'null-pointer'),
    _crash('below_numpy', 'crasher-c', 'null-pointer'),
)
#: Those that no module of a product has caused: in the C code of Zope or Python, with damaged
#: objects, and a file that was cut short.
OF_OTHERS = (
    _crash('damaged_btree', '', 'wild-pointer', damaged='btrees'),
    _crash('damaged_wrapper', '', 'wild-pointer', damaged='acquisition'),
    _crash('damaged_persistent', '', 'wild-pointer', damaged='persistent'),
    _crash('damaged_list', '', 'damaged-earlier', bare='damaged-earlier'),
    _crash('bad_bytecode', '', 'wild-pointer'),
    _crash('deep_repr', '', 'stack-end'),
    _crash('deep_pickle', '', 'stack-end'),
    _crash('truncated_mapping', '', 'file-cut-short', signal='SIGBUS'),
)
#: Those of modules that die while they are imported.
AT_IMPORT = tuple(
    _crash(page, 'crasher-imports', 'import')
    for page in (
        'import_prices',
        'import_taxes',
        'import_one_of_two?name=prices',
        'import_one_of_two?name=taxes',
        'import_by_name?name=prices',
        'import_by_name?name=taxes',
    )
)
#: Those that a limit of Python's own ends from Python 3.12 on, so that nothing crashes.
OF_DEPTH = ('deep_repr', 'deep_pickle')


def all_crashes():
    """Return those that happen on this Python and that this machine can build."""
    absent = crashers.lacking()
    return [
        crash
        for crash in OF_PRODUCTS + OF_OTHERS + AT_IMPORT
        if crash.culprit not in absent
        and (sys.version_info < (3, 12) or crash.page not in OF_DEPTH)
    ]


_NEED_ZOPE = ('damaged_btree', 'damaged_wrapper', 'damaged_persistent')
_OF_C = ('crasher-c', 'crasher-heap', 'crasher-ctypes', '')
#: Those that need neither Zope nor a distribution of the package index.
ALONE = tuple(
    crash
    for crash in OF_PRODUCTS + OF_OTHERS
    if crash.culprit in _OF_C
    and crash.page not in _NEED_ZOPE
    and crash.page not in OF_DEPTH
    and not crash.page.startswith('below_')
)
