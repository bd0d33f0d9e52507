"""The pipe by which a process tells `stabilitymonitor run` which run it has begun."""

import json
import os

import pytest

from Products.StabilityMonitor.model import options
from Products.StabilityMonitor.system.runpipe import VARIABLE
from Products.StabilityMonitor.system.runpipe import RunPipe
from Products.StabilityMonitor.system.runpipe import tell

RUN = '20261123T074501Z-4711-a3f0'


@pytest.fixture
def pipe():
    pipe = RunPipe()
    yield pipe
    os.close(pipe._reader)
    os.close(pipe.writer)


@pytest.fixture
def heard(pipe):
    """A function that tells a run through the pipe, and returns what is heard."""

    def heard(address=None, directory='/srv/site', pid=4711):
        tell({VARIABLE: pipe.address if address is None else address}, pid, directory, RUN)
        pipe.hear(pid)
        return pipe.lines

    return heard


def test_a_run_is_told(heard):
    lines = heard(directory='/srv/ü\udcff')
    assert json.loads(lines.pop(4711)) == {'directory': '/srv/ü\udcff', 'run': RUN}
    assert lines == {}


def test_the_variable_is_no_unknown_option():
    assert options.RUN_PIPE == VARIABLE
    _, problems = options.load({}, {VARIABLE: '5:17'})
    assert problems == []


def test_programs_that_are_started_later_do_not_inherit_the_pipe(pipe, heard):
    os.set_inheritable(pipe.writer, True)
    heard()
    assert not os.get_inheritable(pipe.writer)


def test_without_run_nothing_is_told(pipe):
    tell({}, 4711, '/srv/site', RUN)
    pipe.hear(4711)
    assert pipe.lines == {}


def test_another_pipe_with_that_number_is_left_alone(pipe, heard):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    inode = os.fstat(pipe.writer).st_ino
    assert heard(f'{writer}:{inode}') == {}
    assert os.get_inheritable(writer)
    os.close(writer)
    assert os.read(reader, 1) == b''
    os.close(reader)


@pytest.mark.parametrize('make', [lambda path: os.open(path, os.O_CREAT | os.O_RDWR)])
def test_a_file_with_that_number_is_left_alone(tmp_path, heard, make):
    descriptor = make(tmp_path / 'file')
    assert heard(f'{descriptor}:{os.fstat(descriptor).st_ino}') == {}
    assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)


@pytest.mark.parametrize('address', ['nonsense', '1000000:5', '-1:5', ':'])
def test_an_address_that_leads_nowhere_is_an_error(heard, address):
    with pytest.raises((OSError, ValueError)):
        heard(address)


def test_a_full_pipe_does_not_block(pipe, heard):
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe.writer, b'x' * 4096)
    tell({VARIABLE: pipe.address}, 4711, '/srv/site', RUN)


def test_a_pipe_that_nobody_reads_raises_no_signal():
    pipe = RunPipe()
    os.close(pipe._reader)
    tell({VARIABLE: pipe.address}, 4711, '/srv/site', RUN)
    os.close(pipe.writer)


def test_a_line_that_is_too_long_is_not_told(heard):
    assert heard(directory='/x' * 3000) == {}


def test_what_is_no_line_of_ours_is_dropped(pipe):
    os.write(pipe.writer, b'nonsense\n\n-5 {}\n99999999999 {}\n' + b'y' * 9000)
    pipe.hear(4711)
    pipe.hear(4711)
    os.write(pipe.writer, b'\n12 {}\n')
    pipe.hear(4711)
    assert pipe.lines == {12: b'{}'}


def test_a_line_may_come_in_two_parts(pipe):
    os.write(pipe.writer, b'12 {"ru')
    pipe.hear(4711)
    os.write(pipe.writer, b'n"}\n')
    pipe.hear(4711)
    assert pipe.lines == {12: b'{"run"}'}


def test_the_newest_lines_are_kept_and_that_of_the_child(pipe):
    for pid in range(1, 600):
        os.write(pipe.writer, b'%d {}\n' % pid)
    pipe.hear(1)
    assert list(pipe.lines) == [1, *range(345, 600)]
