/* A module of Python that dies while it is imported, under the name that the compiler is given. */

#include <Python.h>

#define JOINED(prefix, name) prefix##name
#define INITIALIZER(name) JOINED(PyInit_, name)

static int
read_version(volatile int *table)
{
    return table[2];
}

PyMODINIT_FUNC
INITIALIZER(NAME)(void)
{
    return PyLong_FromLong(read_version(NULL));
}
