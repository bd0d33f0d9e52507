"""A Python layer above a compiled module, as lxml and psycopg2 have one."""

from crasher_heap._native import Handle
from crasher_heap._native import first
from crasher_heap._native import write_past_end
from crasher_heap._native import write_wildly

__all__ = ['Cache', 'Handle', 'first', 'write_past_end', 'write_wildly']


class Cache:
    """Keeps a compiled module behind an attribute."""

    def __init__(self):
        from crasher_heap import _native

        self._implementation = _native

    def get(self):
        return self._implementation.read_freed()
