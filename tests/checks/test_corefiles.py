"""The check of core files, in made-up worlds: core_pattern is that of the whole machine."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from Products.StabilityMonitor.checks import corefiles
from Products.StabilityMonitor.checks.livesite import Site

SYSTEMD = '/usr/lib/systemd/systemd-coredump'
MIB = 1 << 20
INFINITY = -1


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Return a function that runs the check in a made-up world."""
    proc = tmp_path / 'proc'
    (proc / 'sys/kernel').mkdir(parents=True)
    (proc / 'self').mkdir()

    def look(
        pattern, soft=INFINITY, hard=INFINITY, anonymous=10, dumped='33', uses_pid='0', dumpable=1,
        context=None,
    ):  # fmt: skip
        (proc / 'sys/kernel/core_pattern').write_text(f'{pattern}\n')
        (proc / 'sys/kernel/core_uses_pid').write_text(f'{uses_pid}\n')
        (proc / 'self/status').write_text(f'RssAnon:\t{anonymous << 10} kB\nVmSwap:\t1024 kB\n')
        (proc / 'self/coredump_filter').write_text(f'000000{dumped}\n')
        limits = SimpleNamespace(getrlimit=lambda name: (soft, hard), RLIMIT_CORE=4)
        monkeypatch.setattr(corefiles, 'resource', limits)
        monkeypatch.setattr(corefiles, '_dumpable', lambda: dumpable)
        site = Site(tmp_path, context or {}, proc=proc, etc=tmp_path / 'etc')
        return corefiles.CoreFiles().look(site)

    return look


@pytest.fixture
def helper(tmp_path):
    """Return a function that makes a program with the name of one that keeps core files."""

    def helper(name):
        program = tmp_path / name
        program.touch()
        return program

    return helper


def severity(found):
    return found.severity.code


def test_a_file_is_named_with_those_who_may_read_it(look, tmp_path):
    found = look(f'{tmp_path}/core.%p')
    assert severity(found) == 'ok' and f'{tmp_path}/core.*' in found.detail
    assert 'the user of this process and root' in found.detail and '11 MiB' in found.detail
    assert 'replaces' not in found.detail


def test_a_relative_name_is_in_the_working_directory(look, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = look('core')
    assert severity(found) == 'ok' and f'The file is {tmp_path}/core,' in found.detail
    assert 'The next crash replaces it' in found.detail
    assert f'{tmp_path}/core.*' in look('core', uses_pid='1').detail


@pytest.mark.parametrize(
    'soft, hard, title, action',
    [
        (0, INFINITY, 'leaves no core file', '"core-files on"'),
        (0, 0, 'leaves no core file', '"LimitCORE=infinity"'),
        (5 * MIB, INFINITY, 'cut short', '"core-files on"'),
        (5 * MIB, 99 * MIB, 'cut short', '"core-files on"'),
        (5 * MIB, 5 * MIB, 'cut short', '--ulimit core=-1'),
    ],
)
def test_a_limit_that_is_too_low_can_be_raised(look, tmp_path, soft, hard, title, action):
    found = look(f'{tmp_path}/core', soft, hard)
    assert severity(found) == 'info' and title in found.title and action in str(found.action)


def test_a_core_file_needs_room(look, tmp_path):
    found = look(f'{tmp_path}/core', anonymous=1 << 30)
    assert 'no room' in found.title and str(tmp_path) in str(found.action)


def test_a_folder_that_depends_on_the_crash_is_not_judged(look, tmp_path):
    assert severity(look(f'{tmp_path}/missing/%e/core.%p')) == 'ok'


def test_a_missing_folder_is_noticed(look, tmp_path):
    found = look(f'{tmp_path}/missing/core.%p')
    assert 'could not be written' in found.title and 'sysctl -w' in str(found.action)


def test_a_process_that_changed_its_user_leaves_files_for_root_only(look, tmp_path):
    found = look(f'{tmp_path}/missing/core', dumpable=2)
    assert severity(found) == 'ok' and 'only root may read it' in found.detail
    found = look('core', dumpable=2)
    assert severity(found) == 'info' and 'absolute path' in found.detail
    assert 'not dumpable' in look('core', dumpable=0).detail


def test_a_core_file_without_memory_is_noticed(look, tmp_path):
    found = look(f'{tmp_path}/core', dumped='32')
    assert 'without the memory' in found.title and 'coredump_filter' in str(found.action)
    assert 'Bit 4' in look(f'{tmp_path}/core', dumped='23').detail


@pytest.mark.parametrize('pattern', ['', '|/bin/false', '@core.socket'])
def test_where_nothing_keeps_it_the_command_for_files_is_given(look, pattern):
    found = look(pattern)
    assert severity(found) == 'info' and 'leaves no core file' in found.title
    assert '"sysctl -w kernel.core_pattern=' in str(found.action)


def test_in_a_container_the_setting_is_that_of_the_host(look):
    found = look('|/bin/false', context={'pid_namespace': 'pid:[4026532000]'})
    assert 'on the host' in str(found.action)


@pytest.mark.parametrize('pattern', [f'|{SYSTEMD} %P', '@/run/no.socket'])
def test_a_program_on_the_host_of_a_container_is_believed(look, pattern):
    context = {'pid_namespace': 'pid:[4026532000]'}
    if not os.path.exists(SYSTEMD):
        assert 'does not exist' in look(pattern).title
    assert severity(look(pattern, context=context)) == 'ok'


@pytest.mark.parametrize('prefix', ['@', '@@'])
def test_a_socket_gets_the_core_file_whatever_the_limit(look, helper, prefix):
    socket = helper('core.socket')
    found = look(f'{prefix}{socket}', soft=0, hard=0)
    assert severity(found) == 'ok' and str(socket) in found.detail


@pytest.mark.parametrize(
    'name, says',
    [
        ('systemd-coredump', 'coredumpctl'),
        ('apport', '/var/lib/apport/coredump'),
        ('abrt-hook-ccpp', '/var/spool/abrt'),
        ('keeper', 'It decides'),
    ],
)
def test_a_program_is_known_by_its_name(look, helper, name, says):
    program = helper(name)
    found = look(f'|{program} %P')
    assert severity(found) == 'ok' and says in found.detail
    assert 'may keep none' in look(f'|{program} %P', soft=0).title


@pytest.mark.parametrize(
    'main, drop_in, title',
    [
        ('[Coredump]\nStorage=none\n', '', 'keeps no core file'),
        ('#Storage=none\n', '[Coredump]\nStorage = journal\n', 'in the journal'),
        ('Storage=none\n', '[Coredump]\nStorage=external\n', 'given to a program.'),
        ('[Coredump]\n#Storage=none\n', '', 'given to a program.'),
    ],
)
def test_the_configuration_of_systemd_is_read(look, helper, tmp_path, main, drop_in, title):
    folder = tmp_path / 'etc/systemd/coredump.conf.d'
    folder.mkdir(parents=True)
    (folder.parent / 'coredump.conf').write_text(main)
    (folder / 'a.conf').write_text(drop_in)
    assert title in look(f'|{helper("systemd-coredump")} %P').title


def test_without_a_proc_nothing_is_known(tmp_path):
    site = Site(tmp_path, proc=tmp_path / 'proc')
    assert 'not known' in corefiles.CoreFiles().look(site).title


def test_the_real_size_and_filter_of_this_process_are_read(tmp_path):
    if not Path('/proc/self/coredump_filter').exists():
        pytest.skip('no coredump_filter here')
    site = Site(tmp_path)
    assert corefiles._size_of_core(site) > MIB and corefiles._filter(site) is not None
    assert corefiles._dumpable() in (0, 1, 2)
