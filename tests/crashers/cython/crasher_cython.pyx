# cython: language_level=3
"""Cython without its safety."""

cimport cython


cdef struct Point:
    double x
    double y


cdef class Line:
    cdef Point *end

    def __cinit__(self):
        self.end = NULL

    def length(self):
        return self.end.x + self.end.y


@cython.boundscheck(False)
@cython.wraparound(False)
def at(const unsigned char[:] values, Py_ssize_t index):
    return values[index]
