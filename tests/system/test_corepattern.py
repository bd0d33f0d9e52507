"""What kernel.core_pattern means: kinds, folders and names of core files."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.system.corepattern import ABRT
from Products.StabilityMonitor.system.corepattern import APPORT
from Products.StabilityMonitor.system.corepattern import FILE
from Products.StabilityMonitor.system.corepattern import NONE
from Products.StabilityMonitor.system.corepattern import PIPE
from Products.StabilityMonitor.system.corepattern import SOCKET
from Products.StabilityMonitor.system.corepattern import SYSTEMD
from Products.StabilityMonitor.system.corepattern import CoreName
from Products.StabilityMonitor.system.corepattern import parse

BOOT = '0123456789abcdef0123456789abcdef'
UUID = '01234567-89ab-cdef-0123-456789abcdef'
SYSTEMD_TEXT = '|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h'
APPORT_TEXT = '|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -- %E'
ABRT_TEXT = '|/usr/libexec/abrt-hook-ccpp %s %c %p %u %g %t %P %I'


@pytest.mark.parametrize(
    'text, kind, folder, program',
    [
        ('core', FILE, '/home/zope', ''),
        ('core\n', FILE, '/home/zope', ''),
        ('cores/core.%p', FILE, '/home/zope/cores', ''),
        ('../core.%p', FILE, '/home', ''),
        ('/core', FILE, '/', ''),
        ('/var/cores/%e/core.%p', FILE, '/var/cores', ''),
        ('/var/100%%/core.%p', FILE, '/var/100%', ''),
        ('', NONE, '', ''),
        ('\n', NONE, '', ''),
        ('|', NONE, '', ''),
        ('|/bin/false', NONE, '', '/bin/false'),
        ('|/opt/keep %p', PIPE, '', '/opt/keep'),
        (SYSTEMD_TEXT, SYSTEMD, '/var/lib/systemd/coredump', '/usr/lib/systemd/systemd-coredump'),
        (APPORT_TEXT, APPORT, '/var/lib/apport/coredump', '/usr/share/apport/apport'),
        (ABRT_TEXT, ABRT, '/var/spool/abrt', '/usr/libexec/abrt-hook-ccpp'),
        ('@/run/core.socket', SOCKET, '', ''),
        ('@@/run/core.socket', SOCKET, '', ''),
        ('@run/core.socket', NONE, '', ''),
        ('@/run/../core.socket', NONE, '', ''),
        ('@', NONE, '', ''),
    ],
)
def test_the_kind_and_folder_of_a_pattern_are_known(text, kind, folder, program):
    found = parse(text, '/home/zope')
    assert (found.kind, found.folder, found.program) == (kind, folder, program)


@pytest.mark.parametrize('text', ['@/run/core.socket', '@@/run/core.socket'])
def test_the_path_of_a_socket_is_known(text):
    assert parse(text, '/').socket == '/run/core.socket'


@pytest.mark.parametrize(
    'text, name, told',
    [
        ('core', 'core', CoreName()),
        ('core.%p', 'core.12', CoreName(pid=12)),
        ('core.%e.%p', 'core.a.b.12', CoreName(pid=12, program='a.b')),
        ('core-%h-%t-%s', 'core-a-b-99-11', CoreName(host='a-b', time=99, signal=11)),
        ('%p%%.%P.%u', '1%.2.3', CoreName(pid=1, host_pid=2, uid=3)),
        ('core.%p.%p', 'core.7.7', CoreName(pid=7)),
        ('core.%p.%p', 'core.7.8', None),
        ('core.%q%F.%p%', 'core..7', CoreName(pid=7)),
        ('/var/%e/core.%p', 'python3/core.7', CoreName(pid=7, program='python3')),
        ('core.%p', 'core.', None),
        ('core.%p', 'core.7.zst', None),
        ('core.%p', 'core.٧', None),
        ('core.[x]%E', 'core.[x]!usr!bin', CoreName()),
        (
            SYSTEMD_TEXT,
            f'core.python3\\x2e11.1000.{BOOT}.4711.1770000000123456.zst',
            CoreName(
                host_pid=4711, uid=1000, time=1770000000, program='python3\\x2e11', boot_id=BOOT
            ),
        ),
        (
            APPORT_TEXT,
            f'core._usr_bin_python3.0.{UUID}.4711.50429709',
            CoreName(
                pid=4711, uid=0, start_ticks=50429709, program='_usr_bin_python3', boot_id=BOOT
            ),
        ),
        (ABRT_TEXT, 'ccpp-2026-02-03-11:22:33.123456-4711/coredump', CoreName(host_pid=4711)),
        ('|/opt/keep', 'core', None),
    ],
)
def test_the_name_of_a_core_file_tells_whose_it_is(text, name, told):
    assert parse(text, '/').read(name) == told


def test_another_pid_does_not_match():
    pattern = parse('core.%p', '/')
    assert pattern.matches('core.7', 7) and not pattern.matches('core.8', 7)


def test_a_name_without_a_pid_may_be_of_any_process():
    assert parse('core', '/').matches('core', 7)


def test_the_pid_of_the_host_is_compared_where_it_is_known():
    pattern = parse('core.%P', '/')
    assert pattern.matches('core.9', 7) and pattern.matches('core.9', 7, 9)
    assert not pattern.matches('core.9', 7, 7)


@pytest.mark.parametrize(
    'text, name', [('core', 'core.7'), ('', '.7'), ('core%', 'core.7'), ('core.%P', 'core.9.7')]
)
def test_the_kernel_may_append_the_pid(text, name):
    assert parse(text, '/', uses_pid=True).matches(name, 7)
    assert not parse(text, '/').matches(name, 7)


def test_the_pid_is_appended_to_no_name_that_has_it():
    assert parse('core-%p', '/', uses_pid=True).matches('core-7', 7)


@pytest.mark.parametrize(
    'text, made',
    [
        ('core.[x].%e.%p', 'core.[x].python3.7'),
        ('%e/100%%-%p', 'python3/100%-7'),
        (SYSTEMD_TEXT, f'core.python3.0.{BOOT}.7.1770000000123456'),
        (ABRT_TEXT, 'ccpp-2026-02-03-11:22:33.123456-7/coredump'),
    ],
)
def test_the_glob_finds_what_matches(tmp_path, text, made):
    file = tmp_path / made
    file.parent.mkdir(exist_ok=True)
    file.touch()
    pattern = parse(text, str(tmp_path))
    assert list(tmp_path.glob(pattern.glob)) == [file] and pattern.matches(made, 7)


@given(st.text(st.sampled_from('core.%peEhtPs/|@ \n[*'), max_size=30), st.text(max_size=40))
def test_no_pattern_and_no_name_raise(text, name):
    pattern = parse(text, '/home/zope')
    pattern.read(name)
    assert bool(pattern.folder) == (pattern.kind == FILE) and pattern.matches('', 1) in (0, 1)


@pytest.mark.skipif(
    not Path('/proc/sys/kernel/core_pattern').exists(), reason='no core_pattern here'
)
def test_a_real_core_file_has_a_name_that_matches(tmp_path):
    pattern = parse(
        Path('/proc/sys/kernel/core_pattern').read_text(),
        str(tmp_path),
        Path('/proc/sys/kernel/core_uses_pid').read_text().strip() != '0',
    )
    if pattern.kind != FILE or not os.access(pattern.folder, os.W_OK):
        pytest.skip('the kernel writes no file here')
    before = set(Path(pattern.folder).glob(pattern.glob))
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    died = subprocess.Popen(
        [sys.executable, '-c', 'import os; os.abort()'],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
    )
    if died.wait(60) != -signal.SIGABRT or hard == 0:
        pytest.skip('no core file is allowed here')
    (core,) = set(Path(pattern.folder).glob(pattern.glob)) - before
    try:
        name = str(core.relative_to(pattern.folder))
        assert core.read_bytes()[:4] == b'\x7fELF' and pattern.matches(name, died.pid)
    finally:
        core.unlink()
