"""Calls a library through ctypes; `new` does not say that it returns a pointer, which is then cut
to 32 bits.
"""

import ctypes
from pathlib import Path

_library = ctypes.CDLL(str(Path(__file__).with_name('libwidget.so')))


def new():
    return _library.widget_new()


def area(widget):
    return _library.widget_area(widget)
