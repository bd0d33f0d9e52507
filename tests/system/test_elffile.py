"""What identifies an ELF file, from real libraries of this process and from damaged ones."""

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.system import elffile
from Products.StabilityMonitor.system.mappedfiles import executable_files

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux') or sys.maxsize < 1 << 32 or sys.byteorder != 'little',
    reason='only 64-bit little-endian files are read',
)

SOURCE = """
int known_address(void) { return 1; }
int other_function(void) { return 2; }
extern int getpid(void);
int calls(void) { return getpid(); }
"""


def mapped_libc():
    maps = Path('/proc/self/maps').read_text()
    for file in executable_files(maps):
        if re.match(r'(libc\.so|libc-|ld-musl)', os.path.basename(file.path)):
            return file
    pytest.skip('the C library is not known by its name')


def build(folder, *options):
    compiler = shutil.which('cc') or shutil.which('gcc')
    if not compiler:
        pytest.skip('no C compiler here')
    source, made = folder / 'made.c', folder / 'made.so'
    source.write_text(SOURCE)
    command = [compiler, '-shared', '-fPIC', '-nostdlib', *options, '-o', made, source]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip('this linker does not know these options')
    return made


def test_a_symbol_is_where_the_process_has_it():
    file = mapped_libc()
    bias = elffile.read(file.path).bias(file.offset, file.start)
    address = elffile.symbol_address(file.path, 'getpid')
    assert bias + address == ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert elffile.symbol_address(file.path, 'no_such_symbol') is None


def test_the_message_of_abort_is_found_in_glibc():
    file = mapped_libc()
    if b'GLIBC_PRIVATE' not in Path(file.path).read_bytes():
        pytest.skip('another C library')
    assert elffile.symbol_address(file.path, '__abort_msg')


@pytest.mark.parametrize('style', ['gnu', 'sysv', 'both'])
def test_what_the_linker_wrote_is_read(tmp_path, style):
    made = build(
        tmp_path,
        '-Wl,-soname,libmade-0a1b2c3d.so.1',
        '-Wl,--build-id=0x0123456789abcdef',
        f'-Wl,--hash-style={style}',
    )
    found = elffile.read(str(made))
    assert (found.soname, found.build_id) == ('libmade-0a1b2c3d.so.1', '0123456789abcdef')
    assert not found.is_fixed and any(each.is_executable for each in found.segments)
    own = ctypes.CDLL(str(made))
    bias = next(
        found.bias(file.offset, file.start)
        for file in executable_files(Path('/proc/self/maps').read_text())
        if file.path == str(made.resolve())
    )
    for name in ('known_address', 'other_function'):
        real = ctypes.cast(getattr(own, name), ctypes.c_void_p).value
        assert bias + elffile.symbol_address(str(made), name) == real
    assert elffile.symbol_address(str(made), 'getpid') is None


def test_a_file_without_names_has_none(tmp_path):
    found = elffile.read(build(tmp_path, '-Wl,--build-id=none'))
    assert (found.soname, found.build_id) == ('', '')


def test_an_address_outside_of_the_file_has_no_bias():
    assert elffile.read(sys.executable).bias(1 << 60, 0) is None


@pytest.mark.parametrize('content', [b'', b'\x7fELF', b'#!/bin/sh\n', b'\x7fELF\x01\x01\x01' * 99])
def test_other_files_are_not_known(tmp_path, content):
    file = tmp_path / 'file'
    file.write_bytes(content)
    assert elffile.read(file) is None and elffile.symbol_address(file, 'x') is None


def test_what_is_no_file_is_not_known(tmp_path):
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, tmp_path / 'missing', '\0', '/dev/zero'):
        assert elffile.read(path) is None and elffile.symbol_address(path, 'x') is None


@functools.cache
def small_library():
    """Return the content of a small shared object of this Python."""
    maps = Path('/proc/self/maps').read_text()
    files = [file.path for file in executable_files(maps) if '.so' in file.path]
    return Path(min(files, key=os.path.getsize)).read_bytes()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_content_raises_or_takes_long(tmp_path_factory, data):
    content = bytearray(small_library())
    cut = data.draw(st.integers(0, len(content)))
    near = st.integers(0, 4096) | st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(near, max_size=8)):
        content[place] = data.draw(st.integers(0, 255) | st.just(255))
    file = tmp_path_factory.getbasetemp() / f'damaged-{os.getpid()}'
    file.write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    found = elffile.read(file)
    assert found is None or len(found.soname) <= 256
    elffile.symbol_address(file, 'PyInit_x')
