"""The kernel's lines about faults and OOM kills: joined by id and time."""

import time

import pytest

from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.postmortem import kernellog
from Products.StabilityMonitor.system import kernelmessages

NOW = 1_790_000_100.0
SEGFAULT = (
    'python3[4712]: segfault at 0 ip 00007f9341a14499 sp 00007ffcc72065f8 error 4 in libc.so.6'
    '[16a499,7f93418d2000+168000] likely on CPU 1 (core 1, socket 0)'
)
OOM = (
    'Memory cgroup out of memory: Killed process 4711 (python3) total-vm:1234kB, anon-rss:99kB, '
    'file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:8kB oom_score_adj:0'
)


def seen(message, pid=4711, threads=(4712,)):
    return kernellog.witness([(NOW - 60, message)], pid, threads, NOW)


@pytest.mark.parametrize(
    'message, signal, cause',
    [
        (SEGFAULT, 'SIGSEGV', 'fault'),
        (SEGFAULT.replace('4712', '4711'), 'SIGSEGV', 'fault'),
        (
            'traps: waitress-0[4712] general protection fault ip:5 sp:6 error:0 in x.so[1,2+3]',
            'SIGSEGV',
            'fault',
        ),
        ('traps: python3[4712] trap invalid opcode ip:5 sp:6 error:0 in x[1+2]', 'SIGILL', 'fault'),
        ('traps: python3[4712] trap divide error ip:5 sp:6 error:0 in x[1+2]', 'SIGFPE', 'fault'),
        ('traps: python3[4712] trap int3 ip:5 sp:6 error:0 in x[1+2]', None, ''),
        (OOM, 'SIGKILL', 'out-of-memory'),
        ('Out of memory: Killed process 4711 (python3) total-vm:1kB', 'SIGKILL', 'out-of-memory'),
    ],
)
def test_a_line_tells_signal_and_cause(message, signal, cause):
    found = seen(message)
    assert (found.source, found.signal, found.cause) == ('kernel', signal, cause)
    assert (found.ended, found.time) == (NOW - 60, NOW)
    assert message in found.fact


@pytest.mark.parametrize(
    'message, fault',
    [
        (
            SEGFAULT,
            KernelFault(
                'segfault', 4712, 0, 0x7F9341A14499, 0x7FFCC72065F8, 4, 'libc.so.6', 0x16A499
            ),
        ),
        (  # before Linux 6.4 without the place in the file
            'python3[4712]: segfault at 7ffc00000ff8 ip 00007f0000001500 sp 00007ffc00001000 error '
            '6 in _fast.cpython-311-x86_64-linux-gnu.so[7f0000001000+2000]',
            KernelFault(
                'segfault',
                4712,
                0x7FFC00000FF8,
                0x7F0000001500,
                0x7FFC00001000,
                6,
                '_fast.cpython-311-x86_64-linux-gnu.so',
            ),
        ),
        (
            'python3[4712]: segfault at 55d0 ip 00000000000055d0 sp 00007ffc00001000 error 14',
            KernelFault('segfault', 4712, 0x55D0, 0x55D0, 0x7FFC00001000, 0x14),
        ),
        (
            'traps: waitress-0[4712] general protection fault ip:15 sp:6 error:0 in x.so[1,2+3]',
            KernelFault('general protection', 4712, None, 0x15, 6, 0, 'x.so', 1),
        ),
        (
            'traps: python3[4712] trap invalid opcode ip:5 sp:6 error:0 in x[1+2]',
            KernelFault('invalid opcode', 4712, None, 5, 6, 0, 'x'),
        ),
        ('python3[4712]: segfault at zz', KernelFault('segfault', 4712)),
        ('python3[4712]: something else', None),
        (OOM, None),
        ('', None),
    ],
)
def test_the_fault_is_read_from_the_line(message, fault):
    assert kernellog.fault_of(message) == fault
    if fault:
        assert seen(message).fault == fault


@pytest.mark.parametrize(
    'message',
    [
        SEGFAULT.replace('4712', '471'),
        SEGFAULT.replace('4712', '47120'),
        OOM.replace('4711', '4712'),  # a thread is never killed alone
        OOM.replace('4711', '47110'),
        'python3[4711]: something else',
        '',
    ],
)
def test_other_lines_tell_nothing(message):
    assert seen(message) is None


def test_the_first_of_several_lines_counts():
    lines = [(NOW - 10, SEGFAULT), (NOW - 20, OOM)]
    assert kernellog.witness(lines, 4711, (4712,), NOW).signal == 'SIGKILL'


def test_lines_of_syslog_have_their_time():
    day = time.strftime('%b %e %H:%M:%S', time.localtime(NOW - 60))
    iso = time.strftime('%Y-%m-%dT%H:%M:%S.123456+00:00', time.gmtime(NOW - 50))
    text = (
        f'{day} host kernel: [12345.678901] {SEGFAULT}\n'
        f'{iso} host kernel: {OOM}\n'
        f'{day} host python3[99]: kernel: {OOM}\n'
        f'Feb 31 10:00:00 host kernel: {OOM}\n'
        f'{day} host kernel: [1.0] torn'
    )
    assert list(kernellog.of_file(text, NOW)) == [(NOW - 60, SEGFAULT), (NOW - 50, OOM)]


def test_a_line_of_december_is_read_in_january():
    now = time.mktime((2027, 1, 1, 0, 10, 0, 0, 0, -1))
    ((moment, _),) = kernellog.of_file('Dec 31 23:50:00 host kernel: x\n', now)
    assert moment == now - 1200


def test_records_of_the_device_have_the_time_of_the_kernel(tmp_path):
    log = tmp_path / 'kmsg'
    log.write_text(f'4,1,90000000,-;{SEGFAULT}\n')
    assert list(kernelmessages.timed(log, 88)) == [(90.0, SEGFAULT)]
    assert list(kernelmessages.timed(log, 97)) == []
    assert kernelmessages.is_readable(log) and not kernelmessages.is_readable(tmp_path / 'missing')
