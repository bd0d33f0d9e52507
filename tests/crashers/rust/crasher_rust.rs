//! A module of Python in Rust without any crate: its few declarations of Python's C API are here.
//! They hold for builds of Python with a GIL, on machines of 64 bits.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

type Object = *mut c_void;
type Function = unsafe extern "C" fn(Object, Object) -> Object;

#[repr(C)]
struct MethodDef {
    name: *const c_char,
    function: Option<Function>,
    flags: c_int,
    doc: *const c_char,
}

#[repr(C)]
struct ModuleDef {
    references: isize,
    kind: *mut c_void,
    init: *mut c_void,
    index: isize,
    copy: *mut c_void,
    name: *const c_char,
    doc: *const c_char,
    size: isize,
    methods: *mut MethodDef,
    slots: *mut c_void,
    traverse: *mut c_void,
    clear: *mut c_void,
    free: *mut c_void,
}

extern "C" {
    fn PyModule_Create2(definition: *mut ModuleDef, api_version: c_int) -> Object;
    fn PyLong_FromLong(value: i64) -> Object;
}

const METH_NOARGS: c_int = 4;
const API_VERSION: c_int = 1013;

/// Panic in a function that must not unwind: Rust aborts.
unsafe extern "C" fn panic(_module: Object, _arguments: Object) -> Object {
    let prices: Vec<i64> = Vec::new();
    PyLong_FromLong(prices[std::hint::black_box(3)])
}

#[inline(never)]
unsafe fn dereference(pointer: *const i64) -> i64 {
    ptr::read_volatile(std::hint::black_box(pointer).wrapping_add(2))
}

unsafe extern "C" fn null(_module: Object, _arguments: Object) -> Object {
    PyLong_FromLong(dereference(ptr::null()))
}

const fn method(name: *const c_char, function: Option<Function>) -> MethodDef {
    MethodDef { name, function, flags: METH_NOARGS, doc: ptr::null() }
}

static mut METHODS: [MethodDef; 3] = [
    method(c"panic".as_ptr(), Some(panic)),
    method(c"null".as_ptr(), Some(null)),
    method(ptr::null(), None),
];

static mut DEFINITION: ModuleDef = ModuleDef {
    references: 1,
    kind: ptr::null_mut(),
    init: ptr::null_mut(),
    index: 0,
    copy: ptr::null_mut(),
    name: c"crasher_rust".as_ptr(),
    doc: ptr::null(),
    size: -1,
    methods: ptr::null_mut(),
    slots: ptr::null_mut(),
    traverse: ptr::null_mut(),
    clear: ptr::null_mut(),
    free: ptr::null_mut(),
};

#[no_mangle]
pub unsafe extern "C" fn PyInit_crasher_rust() -> Object {
    let definition = &raw mut DEFINITION;
    (*definition).methods = &raw mut METHODS as *mut MethodDef;
    PyModule_Create2(definition, API_VERSION)
}
