"""Pages that die in compiled code: each calls a module of tests/crashers, as products do.

`zopekit.publish` publishes them.  support/crashtable.py lists them with what is expected of each.
"""

import contextlib
import ctypes
import gc
import importlib
import opcode
import os
import pickle
import sys
import tempfile

import crasher_c
import crasher_ctypes
import crasher_heap
from crasher_c import recurse

with contextlib.suppress(ImportError):  # each of these needs a compiler of its own
    import crasher_cffi
with contextlib.suppress(ImportError):
    import crasher_cpp
with contextlib.suppress(ImportError):
    import crasher_cython
with contextlib.suppress(ImportError):
    import crasher_rust
try:
    from Products.TestInnocents import use_all
except ImportError:  # without Zope
    use_all = int


#: Pointers to where nothing is mapped.
_JUNK = (0x4141_4141_4141).to_bytes(8, sys.byteorder) * 12


class _Item:
    """An object of 96 bytes, with its header of the garbage collector."""

    __slots__ = ('label', 'price', 'size', 'weight', 'color', 'maker', 'stock', 'place')

    def __init__(self, label):
        self.label = label


# -- in C ------------------------------------------------------------------------------------------


def null(self):
    use_all()
    crasher_c.null()


def write_read_only(self):
    use_all()
    crasher_c.write_read_only()


def missing_instruction(self):
    use_all()
    return f'The answer is {crasher_c.missing_instruction()}.'


def stack_overflow(self):
    use_all()
    recurse()


def exit_in_c(self):
    use_all()
    crasher_c.leave()


def abort_in_c(self):
    use_all()
    crasher_c.give_up()


def failed_assertion(self):
    use_all()
    crasher_c.assert_wrongly()


def null_in_native_thread(self):
    use_all()
    crasher_c.null_in_thread()


def truncated_mapping(self):
    use_all()
    with tempfile.TemporaryDirectory() as folder:
        crasher_c.read_cut_file(os.path.join(folder, 'index.dat'))


def without_gil(self):
    use_all()
    crasher_c.lose_gil()


# -- at import -------------------------------------------------------------------------------------


def import_prices(self):
    use_all()
    import crasher_prices

    return crasher_prices.VERSION


def import_taxes(self):
    use_all()
    import crasher_taxes

    return crasher_taxes.VERSION


def import_one_of_two(self, name):
    """Only the line tells which one it is."""
    use_all()
    if name == 'prices':
        import crasher_prices as module
    else:
        import crasher_taxes as module
    return module.VERSION


def import_by_name(self, name):
    """Not even the line tells which one it is."""
    use_all()
    return importlib.import_module(f'crasher_{name}').VERSION


# -- memory ----------------------------------------------------------------------------------------


def use_after_free(self):
    use_all()
    cache = crasher_heap.Cache()
    return cache.get()


def double_free(self):
    use_all()
    handle = crasher_heap.Handle()
    handle.close()
    handle.close()


def missing_incref(self):
    """The item is freed while the list still has it; then other data has its memory."""
    use_all()
    items = [_Item('only'), _Item('other')]
    crasher_heap.first(items)
    others = [bytearray(_JUNK[:95]) for _ in range(1000)]
    return items[0].label, others


def wild_write(self):
    """The collector finds the damage in another function."""
    use_all()
    victim = [[]]
    crasher_heap.write_wildly(victim[0])
    _collect()
    return victim


def _collect():
    use_all()
    gc.collect()


def damaged_heap(self):
    """The next code that needs memory from the C library finds the damage."""
    use_all()
    crasher_heap.write_past_end()
    for _ in range(100):
        use_all()


# -- through bindings ------------------------------------------------------------------------------


def through_ctypes(self):
    use_all()
    crasher_ctypes.area(None)


def cut_pointer(self):
    use_all()
    widget = crasher_ctypes.new()
    return crasher_ctypes.area(ctypes.c_void_p(widget))


def through_cffi(self):
    use_all()
    crasher_cffi.price()


def through_cffi_api(self):
    use_all()
    return str(crasher_cffi.weigh())


# -- in other languages ----------------------------------------------------------------------------


def null_in_cython(self):
    use_all()
    line = crasher_cython.Line()
    return str(line.length())


def out_of_bounds_in_cython(self):
    use_all()
    return str(crasher_cython.at(b'some bytes', 1 << 40))


def null_in_cpp(self):
    use_all()
    crasher_cpp.null()


def uncaught_in_cpp(self):
    use_all()
    crasher_cpp.throw_uncaught()


def null_in_rust(self):
    use_all()
    crasher_rust.null()


def panic_in_rust(self):
    use_all()
    crasher_rust.panic()


# -- with innocent compiled code between the page and the culprit ----------------------------------


def below_lxml(self):
    from lxml import etree

    class Target:
        def start(self, tag, attributes):
            crasher_c.null()

        def close(self):
            return None

    etree.fromstring(b'<shop><item/></shop>', etree.XMLParser(target=Target()))


def below_orjson(self):
    import orjson

    orjson.dumps({'item': _Item('one')}, default=_as_json)


def _as_json(item):
    return crasher_heap.Cache().get()


def below_pydantic(self):
    from pydantic_core import SchemaValidator
    from pydantic_core import core_schema

    schema = core_schema.no_info_plain_validator_function(lambda value: crasher_cpp.null())
    SchemaValidator(schema).validate_python(1)


def below_greenlet(self):
    import greenlet

    def work():
        crasher_rust.null()

    greenlet.greenlet(work).switch()


def below_numpy(self):
    """C code calls C code: no frame of Python is between the two."""
    import numpy

    numpy.frompyfunc(crasher_c.null_of, 1, 1)(numpy.arange(3))


# -- in the C code of Zope and of Python -----------------------------------------------------------


def _overwrite(thing, offset, value=0):
    """Write a pointer into the memory of an object, at a number of pointers from its start."""
    ctypes.c_void_p.from_address(id(thing) + offset * ctypes.sizeof(ctypes.c_void_p)).value = value


def damaged_btree(self):
    """The pointer to the first child is damaged."""
    from BTrees.OOBTree import OOBTree

    use_all()
    tree = OOBTree({str(number): number for number in range(1000)})
    size = OOBTree.__basicsize__ // ctypes.sizeof(ctypes.c_void_p)
    for offset in range(size - 4, size):
        _overwrite(tree, offset, 0x4141414141414141)
    return tree['5']


def damaged_wrapper(self):
    from Acquisition import Implicit

    class Folder(Implicit):
        pass

    use_all()
    folder = Folder()
    folder.child = Folder()
    wrapper = folder.child
    _overwrite(wrapper, 2, 0x4141414141414141)
    return wrapper.title


def damaged_persistent(self):
    """Its pointer to the cache is damaged, and it changes."""
    from persistent import Persistent

    use_all()
    thing = Persistent()
    _overwrite(thing, 2, 0x4141414141414141)
    thing.title = 'changed'


def damaged_list(self):
    """The type of a list is gone, and the collector visits it."""
    use_all()
    victim = [[]]
    _overwrite(victim[0], 1)
    gc.collect()


def bad_bytecode(self):
    """Load a constant far beyond those that the code has."""
    use_all()
    load = bytes([*[_opcode('EXTENDED_ARG'), 0x7F] * 3, _opcode('LOAD_CONST'), 0xF0])
    code = _plain.__code__
    exec(code.replace(co_code=load + code.co_code))


def _plain():
    return None


def _opcode(name):
    return opcode.opmap[name]


def deep_repr(self):
    """Each level of a list is a call in C."""
    use_all()
    nested = []
    for _ in range(1000000):
        nested = [nested]
    sys.setrecursionlimit(1 << 30)
    return repr(nested)


def deep_pickle(self):
    use_all()
    nested = []
    for _ in range(1000000):
        nested = [nested]
    sys.setrecursionlimit(1 << 30)
    return pickle.dumps(nested)
