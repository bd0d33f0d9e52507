"""Only regular files are opened, without waiting, and no more is read than the caller allows."""

import os
import socket
import subprocess
import sys

import pytest
from support.childprograms import CHECKOUT
from support.hostiledirectory import Steps

from Products.StabilityMonitor.store import regularfiles
from Products.StabilityMonitor.store.regularfiles import NotARegularFile
from Products.StabilityMonitor.store.regularfiles import TooLarge
from Products.StabilityMonitor.store.regularfiles import open_outside
from Products.StabilityMonitor.store.regularfiles import open_regular
from Products.StabilityMonitor.store.regularfiles import opened
from Products.StabilityMonitor.store.regularfiles import read_start_outside
from Products.StabilityMonitor.store.regularfiles import read_tail
from Products.StabilityMonitor.store.regularfiles import read_whole
from Products.StabilityMonitor.store.rundirectory import Base


def fifo(path):
    os.mkfifo(path)


def link_to_a_device(path):
    path.symlink_to('/dev/zero')


def link_to_a_file(path):
    path.with_name('target').write_bytes(b'secret')
    path.symlink_to('target')


def link_to_nothing(path):
    path.symlink_to('nowhere')


def listening_socket(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()


def folder(path):
    path.mkdir()


def descriptors():
    """The open descriptors of this process, on systems that list them."""
    folder = '/proc/self/fd'
    return set(os.listdir(folder)) if os.path.exists(folder) else set()


ODD = [fifo, link_to_a_device, link_to_a_file, link_to_nothing, listening_socket, folder]


@pytest.mark.parametrize('make', ODD)
@pytest.mark.parametrize('flags', [os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
@pytest.mark.parametrize('way', [open_regular, open_outside])
def test_anything_but_a_regular_file_is_refused(tmp_path, make, flags, way):
    make(tmp_path / 'odd')
    before = descriptors()
    with pytest.raises(NotARegularFile):
        way(tmp_path / 'odd', flags)
    assert descriptors() <= before
    assert not (tmp_path / 'nowhere').exists()


def test_a_missing_file_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / 'nothing')


def test_a_link_is_followed_on_request(tmp_path):
    link_to_a_file(tmp_path / 'link')
    assert read_start_outside(tmp_path / 'link', 100, follow=True) == b'secret'
    link_to_a_device(tmp_path / 'device')
    with pytest.raises(NotARegularFile):
        read_start_outside(tmp_path / 'device', 100, follow=True)


def test_read_whole_refuses_a_file_above_its_limit(tmp_path):
    file = tmp_path / 'file'
    file.write_bytes(b'12345678')
    assert read_whole(file, 8) == b'12345678'
    with pytest.raises(TooLarge):
        read_whole(file, 7)


def test_read_whole_refuses_a_huge_file_and_read_start_reads_its_start(tmp_path):
    file = tmp_path / 'huge'
    file.touch()
    os.truncate(file, 1 << 40)
    with pytest.raises(TooLarge):
        read_whole(file, 1 << 20)
    assert read_start_outside(file, 3) == b'\0\0\0'


@pytest.mark.parametrize(
    'most, start, tail',
    [
        (3, 0, b'678'),
        (100, 0, b'12345678'),
        (100, 5, b'678'),
        (3, 7, b'8'),
        (3, 8, b''),
        (3, 99, b''),
    ],
)
def test_read_tail_returns_the_end_from_start_on(tmp_path, most, start, tail):
    (tmp_path / 'file').write_bytes(b'12345678')
    descriptor = open_regular(tmp_path / 'file')
    try:
        assert read_tail(descriptor, most, start) == tail
    finally:
        os.close(descriptor)


def test_an_error_names_the_file(tmp_path):
    fifo(tmp_path / 'odd')
    with pytest.raises(NotARegularFile, match=r"It is not a regular file: '.*/odd'"):
        read_whole(tmp_path / 'odd', 10)


# -- folders ---------------------------------------------------------------------------------------


def test_an_error_names_the_whole_path(tmp_path):
    with opened(tmp_path) as folder:
        for act in (folder.unlink, folder.open, folder.folder, folder.stat, folder.touch):
            with pytest.raises(FileNotFoundError, match=rf": '{tmp_path}/gone'$"):
                act('gone')
        with pytest.raises(FileNotFoundError, match=rf": '{tmp_path}/gone' -> '{tmp_path}/new'$"):
            folder.rename('gone', 'new')
        (tmp_path / 'there').touch()
        with pytest.raises(FileExistsError, match=rf": '{tmp_path}/there'$"):
            folder.create('there')
    with pytest.raises(NotADirectoryError, match=rf": '{tmp_path}/there'$"):
        opened(tmp_path / 'there' / 'in')


WITHOUT = """
import os, sys
if sys.argv[1] == 'O_PATH':
    del os.O_PATH
else:
    os.supports_dir_fd = frozenset()
from Products.StabilityMonitor.store import regularfiles
assert regularfiles._O_PATH == 0 or not regularfiles._HAS_DESCRIPTORS
from Products.StabilityMonitor.store.rundirectory import Base, read_json, write_whole
base = Base(sys.argv[2])
run = base.create('20260921T160000Z-1-abcd', {'role': 'server'})
write_whole(run.path / 'file', '{"a": 1}')
assert read_json(run.path / 'file') == {'a': 1} and base.waiting() == [run.path.name]
os.symlink('runs', base.path / 'link')
if regularfiles._HAS_DESCRIPTORS:
    assert read_json(base.path / 'link' / run.path.name / 'file') == {}
with regularfiles.opened(base.runs) as runs:
    runs.remove(run.path.name)
assert os.listdir(base.runs) == []
"""


@pytest.mark.parametrize('what', ['O_PATH', 'descriptors of folders'])
def test_it_works_on_a_system_without(tmp_path, what):
    """As on macOS, and on Windows."""
    environ = os.environ | {'PYTHONPATH': str(CHECKOUT)}
    program = [sys.executable, '-c', WITHOUT, what, str(tmp_path / 'stability')]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_way_to_a_file_costs_few_system_calls(tmp_path, monkeypatch):
    """Two for each component of its path: it is opened and closed."""
    base = Base(tmp_path / 'stability')
    base.prepare()
    (base.runs / 'file').write_text('{}')
    steps = Steps(0, lambda: None)
    monkeypatch.setattr(regularfiles, 'os', steps)
    assert read_whole(base.runs / 'file', 10) == b'{}'
    assert steps.number <= len((base.runs / 'file').parts)
