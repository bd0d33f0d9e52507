/* Functions of Python that die, each in its own way; the fault is always in the function itself. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct node {
    struct node *next;
    int value;
};

static const int constant = 7;

static int
read_node(volatile struct node *node)
{
    return node->value;
}

static PyObject *
null(PyObject *self, PyObject *args)
{
    return PyLong_FromLong(read_node(NULL));
}

/* Like null, with one argument, so that C code of others can call it as a function of their data. */
static PyObject *
null_of(PyObject *self, PyObject *argument)
{
    return PyLong_FromLong(read_node(NULL));
}

static PyObject *
write_read_only(PyObject *self, PyObject *args)
{
    *(volatile int *)&constant = 8;
    Py_RETURN_NONE;
}

static PyObject *
missing_instruction(PyObject *self, PyObject *args)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("ud2");
#else
    __builtin_trap();
#endif
    Py_RETURN_NONE;
}

static int
count_down(volatile char *caller, long depth)
{
    volatile char frame[512];
    frame[0] = caller[0];
    if (depth == 0) {
        return frame[0];
    }
    return count_down(frame, depth - 1) + frame[0];
}

static PyObject *
recurse(PyObject *self, PyObject *args)
{
    char first = 1;
    return PyLong_FromLong(count_down(&first, LONG_MAX));
}

static PyObject *
leave(PyObject *self, PyObject *args)
{
    exit(6);
}

static PyObject *
give_up(PyObject *self, PyObject *args)
{
    abort();
}

static PyObject *
assert_wrongly(PyObject *self, PyObject *args)
{
    volatile int size = -1;
    assert(size >= 0);
    Py_RETURN_NONE;
}

static void *
work(void *nothing)
{
    return (void *)(long)read_node(NULL);
}

static PyObject *
null_in_thread(PyObject *self, PyObject *args)
{
    pthread_t thread;
    Py_BEGIN_ALLOW_THREADS
    pthread_create(&thread, NULL, work, NULL);
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Map a file of two pages, cut it short, and read the second page. */
static PyObject *
read_cut_file(PyObject *self, PyObject *name)
{
    long page = sysconf(_SC_PAGESIZE);
    const char *path = PyUnicode_AsUTF8(name);
    int descriptor = path ? open(path, O_RDWR | O_CREAT, 0600) : -1;
    if (descriptor < 0 || ftruncate(descriptor, 2 * page)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    volatile char *data = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED || ftruncate(descriptor, 1)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(data[page + 1]);
}

static PyObject *
lose_gil(PyObject *self, PyObject *args)
{
    PyEval_SaveThread();
    PyThreadState_Get();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"null", null, METH_NOARGS, NULL},
    {"null_of", null_of, METH_O, NULL},
    {"write_read_only", write_read_only, METH_NOARGS, NULL},
    {"missing_instruction", missing_instruction, METH_NOARGS, NULL},
    {"recurse", recurse, METH_NOARGS, NULL},
    {"leave", leave, METH_NOARGS, NULL},
    {"give_up", give_up, METH_NOARGS, NULL},
    {"assert_wrongly", assert_wrongly, METH_NOARGS, NULL},
    {"null_in_thread", null_in_thread, METH_NOARGS, NULL},
    {"read_cut_file", read_cut_file, METH_O, NULL},
    {"lose_gil", lose_gil, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "crasher_c", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit_crasher_c(void)
{
    return PyModule_Create(&definition);
}
