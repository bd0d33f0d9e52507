/* C++: an exception that nobody catches, and a call of a method of no object. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdexcept>

namespace shapes {

class Shape {
public:
    virtual ~Shape() {}
    virtual long corners() const = 0;
};

static long
count(Shape *volatile shape)
{
    return shape->corners();
}

static void
draw(int corners)
{
    if (corners < 3) {
        throw std::runtime_error("a shape with so few corners");
    }
}

}

extern "C" {

static PyObject *
null(PyObject *, PyObject *)
{
    return PyLong_FromLong(shapes::count(nullptr));
}

static PyObject *
throw_uncaught(PyObject *, PyObject *)
{
    shapes::draw(2);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"null", null, METH_NOARGS, nullptr},
    {"throw_uncaught", throw_uncaught, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "crasher_cpp", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr,
};

PyMODINIT_FUNC
PyInit_crasher_cpp(void)
{
    return PyModule_Create(&definition);
}

}
