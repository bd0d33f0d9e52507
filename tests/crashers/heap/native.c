/* Errors in the use of memory: most surface later, in code that has done nothing wrong. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next;
    long value;
};

/* Free an entry, let other data have its memory, and follow its pointer. */
static PyObject *
read_freed(PyObject *self, PyObject *args)
{
    struct entry *entry = PyMem_Malloc(sizeof(*entry));
    entry->next = NULL;
    PyMem_Free(entry);
    char *text = PyMem_Malloc(sizeof(*entry));
    memset(text, 'A', sizeof(*entry));
    long value = ((volatile struct entry *)entry)->next->value;
    PyMem_Free(text);
    return PyLong_FromLong(value);
}

/* Return the first item of a list, but forget to take a reference to it. */
static PyObject *
first(PyObject *self, PyObject *list)
{
    return PyList_GetItem(list, 0);
}

/* Write a line of text that ends in another object. */
static PyObject *
write_wildly(PyObject *self, PyObject *other)
{
    memset((char *)other + offsetof(PyObject, ob_type), 0, sizeof(void *));
    Py_RETURN_NONE;
}

/* Write past the end of a block, onto the unused rest of the heap. */
static PyObject *
write_past_end(PyObject *self, PyObject *args)
{
    for (int attempt = 0; attempt < 8; attempt++) {
        char *block = malloc(100 << 10);
        memset(block, 0xff, malloc_usable_size(block) + 2 * sizeof(size_t));
    }
    Py_RETURN_NONE;
}

typedef struct {
    PyObject_HEAD
    void *buffer;
} Handle;

static PyObject *
new_handle(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Handle *handle = (Handle *)type->tp_alloc(type, 0);
    if (handle != NULL) {
        handle->buffer = malloc(64);
    }
    return (PyObject *)handle;
}

/* A second close frees the buffer again. */
static PyObject *
close_handle(Handle *handle, PyObject *args)
{
    free(handle->buffer);
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"close", (PyCFunction)close_handle, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject handle_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "crasher_heap._native.Handle",
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = handle_methods,
    .tp_new = new_handle,
};

static PyMethodDef methods[] = {
    {"read_freed", read_freed, METH_NOARGS, NULL},
    {"first", first, METH_O, NULL},
    {"write_wildly", write_wildly, METH_O, NULL},
    {"write_past_end", write_past_end, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "crasher_heap._native", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || PyType_Ready(&handle_type) < 0) {
        return NULL;
    }
    Py_INCREF(&handle_type);
    PyModule_AddObject(module, "Handle", (PyObject *)&handle_type);
    return module;
}
