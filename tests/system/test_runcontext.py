"""The context of a run: its handlers of signals, and what started it."""

import logging
import signal

import pytest

from Products.StabilityMonitor.model.records import Instance
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


# -- a shell as pid 1 ------------------------------------------------------------------------------


def processes(folder, first, *parents, caught=0):
    """Write a /proc: `first` is the name of pid 1, `parents` are pairs (process, parent)."""
    for pid, parent in ((1, 0), *parents):
        (folder / str(pid)).mkdir()
        (folder / str(pid) / 'comm').write_text(f'{first if pid == 1 else "python3"}\n')
        status = f'Name:\tx\nPPid:\t{parent}\nSigCgt:\t{caught if pid == 1 else 0:016x}\n'
        (folder / str(pid) / 'status').write_text(status)
    return folder


@pytest.mark.parametrize(
    'first, parent, shell',
    [
        ('sh', 1, 'sh'),
        ('bash', 7, 'bash'),
        ('bash', 9, 'bash'),
        ('sh', 0, ''),  # docker exec, or pid 1 itself
        ('sh', 77, ''),  # a process that is not known
        ('tini', 1, ''),
        ('systemd', 9, ''),
    ],
)
def test_a_shell_that_is_pid_1_and_an_ancestor_is_found(tmp_path, first, parent, shell):
    proc = processes(tmp_path, first, (7, 1), (9, 7))
    assert runcontext.shell_as_pid_1(parent, proc) == shell
    wanted = runcontext.SHELL_IN_CONTAINER if shell else ''
    assert runcontext.supervisor(proc, {}, parent) == wanted


def test_a_shell_with_a_trap_may_pass_the_signal_on(tmp_path):
    proc = processes(tmp_path, 'sh', caught=1 << signal.SIGTERM - 1)
    assert runcontext.shell_as_pid_1(1, proc) == ''


def test_a_circle_of_parents_ends(tmp_path):
    assert runcontext.shell_as_pid_1(7, processes(tmp_path, 'sh', (7, 9), (9, 7))) == ''


@pytest.mark.parametrize(
    'environ, invocation, process',
    [
        ({}, '', 0),
        ({'INVOCATION_ID': 'ab' * 16, 'SYSTEMD_EXEC_PID': '4711'}, 'ab' * 16, 4711),
        ({'SYSTEMD_EXEC_PID': 'nonsense'}, '', 0),
        ({'SYSTEMD_EXEC_PID': '9' * 11}, '', 0),
    ],
)
def test_the_start_of_the_unit_is_recorded(environ, invocation, process):
    context = runcontext.collect({}, Instance('host', '/home', ''), 'server', environ=environ)
    assert (context['invocation_id'], context['unit_process']) == (invocation, process)


# -- `stabilitymonitor run` ------------------------------------------------------------------------


@pytest.mark.parametrize(
    'command, yes',
    [
        ('/usr/bin/python3 /opt/bin/stabilitymonitor run -- gunicorn app', True),
        ('python3 -m Products.StabilityMonitor run runwsgi zope.ini', True),
        ('python3 -m Products.StabilityMonitor status', False),
        ('/opt/bin/stabilitymonitor status run', False),
        ('run stabilitymonitor', False),
        ('', False),
    ],
)
def test_the_command_line_of_run_is_known(command, yes):
    assert runcontext.is_run(command.split(' ')) == yes


@pytest.mark.parametrize('above, wanted', [('zdaemon', 'zdaemon'), ('systemd', '')])
def test_run_restarts_nothing_so_what_started_it_counts(tmp_path, above, wanted):
    proc = processes(tmp_path, 'systemd', (40, 1), (50, 40))
    (proc / '40/cmdline').write_bytes(f'/bin/{above}\0-C\0x.conf\0'.encode())
    (proc / '50/cmdline').write_bytes(b'stabilitymonitor\0run\0--\0gunicorn\0app\0')
    assert runcontext.supervisor(proc, {}, 50) == wanted


def test_the_files_that_logging_writes_to_are_noted(tmp_path):
    handlers = {}
    for name in ('noted', 'noted.child', 'noted.other'):
        handlers[name] = logging.FileHandler(tmp_path / name.removesuffix('.other'), delay=True)
        logging.getLogger(name).addHandler(handlers[name])
    logging.getLogger('noted').addHandler(logging.NullHandler())
    try:
        found = runcontext.log_files()
    finally:
        for name, handler in handlers.items():
            logging.getLogger(name).removeHandler(handler)
    ours = [each for each in found if each['file'].startswith(str(tmp_path))]
    assert ours == [
        {'logger': 'noted', 'file': str(tmp_path / 'noted')},
        {'logger': 'noted.child', 'file': str(tmp_path / 'noted.child')},
    ], 'each file once'


def test_a_container_is_known_by_its_variable_or_its_file(tmp_path):
    assert runcontext.container({}, tmp_path) == ''
    assert runcontext.container({'container': 'lxc'}, tmp_path) == 'lxc'
    assert runcontext.container({'KUBERNETES_SERVICE_HOST': 'x'}, tmp_path) == 'kubernetes'
    (tmp_path / '.dockerenv').touch()
    assert runcontext.container({}, tmp_path) == 'docker'


@pytest.mark.parametrize(
    'release, level',
    [
        ({'PRETTY_NAME': 'Fedora 40', 'VERSION_ID': '40', 'ID': 'fedora'}, '40'),
        ({'PRETTY_NAME': 'Arch', 'ID': 'arch'}, ''),
    ],
)
def test_the_release_of_the_system_has_its_maintenance_level(monkeypatch, release, level):
    monkeypatch.setattr('platform.freedesktop_os_release', lambda: release)
    assert runcontext.os_release() == {'name': release['PRETTY_NAME'], 'level': level}


def test_a_system_without_os_release_has_no_level(monkeypatch):
    def missing():
        raise OSError('there is none')

    monkeypatch.setattr('platform.freedesktop_os_release', missing)
    assert runcontext.os_release() == {'name': '', 'level': ''}
