"""Calls a library through cffi, in its ABI mode and in its API mode."""

from pathlib import Path

import cffi

from crasher_cffi import _gadget

_ffi = cffi.FFI()
_ffi.cdef('long gadget_price(void *gadget);')
_library = _ffi.dlopen(str(Path(__file__).with_name('libgadget.so')))


def price():
    return _library.gadget_price(_ffi.NULL)


def weigh():
    return _gadget.lib.gadget_weight(_gadget.ffi.NULL)
