"""The context of a run: which signals had a handler at its start."""

import signal

import pytest

from Products.StabilityMonitor.system import runcontext


@pytest.fixture
def handler_of_usr2():
    before = signal.signal(signal.SIGUSR2, lambda *args: None)
    yield
    signal.signal(signal.SIGUSR2, before)


def test_handlers_of_python_are_known_without_proc(tmp_path, handler_of_usr2):
    names = runcontext.handled_signals(tmp_path / 'nowhere')
    assert 'SIGUSR2' in names and 'SIGKILL' not in names, names
    assert names == sorted(names)


def test_handlers_of_c_code_are_those_that_the_kernel_lists(tmp_path):
    caught = 1 << signal.SIGPROF - 1 | 1 << signal.SIGRTMIN + 3 - 1
    status = tmp_path / 'status'
    status.write_text(f'Name:\tpython3\nSigCgt:\t{caught:016x}\n')
    names = runcontext.handled_signals(status)
    assert 'SIGPROF' in names
    assert not {name for name in names if name.startswith('SIGRT')}, 'it has no name'


def test_a_process_without_other_handlers_handles_only_what_python_handles():
    assert 'SIGVTALRM' not in runcontext.handled_signals()
