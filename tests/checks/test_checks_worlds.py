"""For each check, a real bad case is made in a child process and must be found; a good case must be
`ok`.
"""

import contextlib
import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from programs.handshake import until
from support.advice import follow_in_ini
from support.childprograms import PROGRAMS
from support.childprograms import environment
from support.childprograms import run_python

from Products.StabilityMonitor.checks import software

PROGRAM = PROGRAMS / 'check_worlds.py'
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='these cases can be made on Linux only'
)


def findings(world, folder, *arguments, python=(), environ=(), stderr=None):
    """Return the findings of the check in a world of `check_worlds.py`, as dicts."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('PYTHON', 'MALLOC', 'LD_', 'GLIBC', 'COV_'))
    }
    env |= {'PYTHONPATH': environment()['PYTHONPATH'], **dict(environ)}
    done = run_python(
        *(*python, PROGRAM, world, folder, *arguments),
        env=env,
        stderr=stderr or subprocess.PIPE,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


#: world, id of the finding, severity, words of its title, words of its action ('' if it is `ok`)
WORLDS = [
    ('small_stack', 'thread-stacks', 'critical', 'too small', 'thread-stack-size'),
    (
        'high_recursion_limit',
        'recursion-limit',
        'warning',
        'too small for the recursion limit',
        'ulimit -Ss ',
    ),
    (
        'raised_recursion_limit',
        'recursion-limit',
        'info',
        'raised to 3000',
        'sys.setrecursionlimit',
    ),
    ('gc_off', 'garbage-collector', 'warning', 'is off', 'gc.disable()'),
    ('gc_threshold_zero', 'garbage-collector', 'warning', 'is off', 'gc.set_threshold(0)'),
    ('gc_saves_all', 'garbage-collector', 'critical', 'DEBUG_SAVEALL', 'gc.set_debug'),
    ('gc_frozen', 'garbage-collector', 'info', 'objects are frozen', 'gc.freeze()'),
    ('plain_gc', 'garbage-collector', 'ok', 'runs', ''),
    ('allocator', 'allocator', 'ok', 'default settings', ''),
    (
        'little_address_space',
        'memory-limit:address-space',
        'warning',
        'Memory is short',
        'ulimit -Sv ',
    ),
    ('few_descriptors', 'descriptors', 'critical', 'running out', 'LimitNOFILE=4096'),
    ('no_core_files', 'core-files', 'info', 'no core file', 'LimitCORE=infinity'),
    (
        'core_files_for_false',
        'core-files',
        'info',
        'no core file',
        'sysctl -w kernel.core_pattern=',
    ),
    (
        'core_files_for_nobody',
        'core-files',
        'info',
        'that does not exist',
        'sysctl -w kernel.core_pattern=',
    ),
    ('core_files_for_a_program', 'core-files', 'ok', 'given to a program', ''),
    (
        'core_files_for_a_program_without_limit',
        'core-files',
        'info',
        'may keep none',
        'LimitCORE=infinity',
    ),
    (
        'core_files_without_a_place',
        'core-files',
        'info',
        'could not be written',
        'sysctl -w kernel.core_pattern=',
    ),
    (
        'not_dumpable',
        'core-files',
        'info',
        'The kernel writes no core file',
        'Let the supervisor change the user',
    ),
    ('full_pipe', 'outputs:standard-error', 'critical', 'a full pipe that', 'stdout.log'),
    ('full_socket', 'outputs:standard-error', 'critical', 'a full socket that', 'stdout.log'),
    ('busy_pipe', 'outputs', 'ok', 'never block', ''),
    ('pipe', 'outputs', 'ok', 'never block', ''),
    (
        'pipe_without_reader',
        'outputs:standard-error',
        'warning',
        'whose reader is gone',
        'stdout.log',
    ),
    ('terminal', 'outputs:standard-output', 'warning', 'is a terminal', '</dev/null'),
    (
        'controlling_terminal',
        'outputs:controlling-terminal',
        'warning',
        'ends when its terminal is closed',
        '"nohup"',
    ),
    ('controlling_terminal_under_nohup', 'outputs', 'ok', 'never block', ''),
    ('closed_error', 'outputs:standard-error', 'warning', 'is closed', 'stdout.log'),
    ('deleted_file', 'outputs:standard-output', 'warning', 'was deleted', 'copytruncate'),
    ('own_outputs', 'outputs', 'ok', 'never block', ''),
    ('no_log', 'event-log', 'warning', 'no event log', '[handler_eventlog]'),
    ('log_file', 'event-log', 'ok', 'There is an event log', ''),
    ('renamed_log', 'event-log', 'warning', 'no event log', 'WatchedFileHandler'),
    ('renamed_and_watched_log', 'event-log', 'ok', 'There is an event log', ''),
    ('closed_log', 'event-log', 'warning', 'no event log', 'WatchedFileHandler'),
    ('log_of_errors_only', 'event-log', 'warning', 'Warnings do not reach', 'level = INFO'),
    ('disabled_log', 'event-log', 'warning', 'Warnings do not reach', 'level = INFO'),
    ('log_to_null', 'event-log', 'warning', 'no event log', '[handler_eventlog]'),
    ('fault_log', 'fault-handler', 'ok', 'is dumped', ''),
    (
        'fault_log_disabled',
        'fault-handler',
        'warning',
        'would not be dumped',
        'faulthandler.disable',
    ),
    (
        'fault_log_redirected',
        'fault-handler',
        'warning',
        'would not be dumped',
        'faulthandler.enable',
    ),
    ('fault_log_closed', 'fault-handler', 'warning', 'would not be dumped', 'faulthandler.enable'),
    (
        'default_signals',
        'killing-signals',
        'info',
        'SIGHUP, SIGUSR1, SIGUSR2',
        'WatchedFileHandler',
    ),
    ('marked_signals', 'killing-signals', 'info', 'SIGHUP, SIGUSR1, SIGUSR2', 'SIGINT'),
    ('foreign_signal', 'killing-signals', 'info', 'SIGHUP, SIGUSR2', 'SIGINT'),
    ('ignored_signals', 'killing-signals', 'ok', 'do not end Zope', ''),
    ('usual_stop_signal', 'stop-signal', 'ok', 'SIGTERM ends Zope', ''),
    ('ignored_stop_signal', 'stop-signal', 'warning', 'ignores it', 'SIG_IGN'),
    ('python_switches', 'python-switches', 'ok', 'without switches', ''),
    ('tracing', 'python-switches:tracing', 'warning', 'trace', 'profiler'),
    (
        'memory_tracing',
        'python-switches:tracemalloc',
        'warning',
        'tracemalloc',
        'PYTHONTRACEMALLOC',
    ),
    (
        'late_variable',
        'late-variables',
        'warning',
        'PYTHONMALLOC',
        '"export MALLOC_ARENA_MAX=2" and "export PYTHONMALLOC=malloc"',
    ),
    ('no_late_variable', 'late-variables', 'ok', 'before the start', ''),
    ('clock_set_back', 'clock-jumps', 'warning', 'jumped back by 3600 s', 'systemd-timesyncd'),
    ('clock_set_forward', 'clock-jumps', 'info', 'jumped forward by 3600 s', 'systemd-timesyncd'),
    (
        'unsafe_adapter',
        'dbapi:fakedb',
        'critical',
        'must not share the database adapter fakedb',
        'threads = 1',
    ),
    ('adapter_of_level_1', 'dbapi', 'ok', 'can safely share', ''),
    (
        'shared_adapter_of_level_1',
        'dbapi:fakedb',
        'info',
        'connection of fakedb',
        'Products.ZFakeDA',
    ),
    (
        'connection_in_a_module',
        'dbapi:fakedb-shared',
        'warning',
        'shared by all threads',
        'of program.connection,',
    ),
    (
        'connection_in_a_class',
        'dbapi:fakedb-shared',
        'warning',
        'shared by all',
        'of program.Product.connection,',
    ),
    ('connection_of_each_thread', 'dbapi', 'ok', 'can safely share', ''),
    ('lazy_stand_in', 'dbapi', 'ok', '', ''),
    (
        'strange_compiled_module',
        'compiled-modules:outside-the-environment',
        'info',
        '1 compiled module comes',
        'Install',
    ),
    (
        'replaced_library',
        'replaced-libraries',
        'warning',
        '1 library was replaced',
        'Restart Zope',
    ),
]


@pytest.mark.parametrize(
    'world, id, severity, title, action', WORLDS, ids=[row[0] for row in WORLDS]
)
def test_each_check_finds_its_bad_case(tmp_path, world, id, severity, title, action):
    with (tmp_path / 'stderr').open('wb') as stderr:
        found = findings(world, tmp_path, stderr=stderr)
    assert [(f['id'], f['severity']) for f in found] == [(id, severity)], found
    assert title in found[0]['title']
    assert action in found[0]['action'] if action else not found[0]['action']


@pytest.mark.root
@pytest.mark.parametrize(
    'world, severity, title, action',
    [
        ('stop_signal', 'warning', 'SIGTERM does not end Zope', 'docker run --init'),
        ('marked_stop_signal', 'warning', 'SIGTERM does not end Zope', 'tini --'),
        ('handled_stop_signal', 'ok', 'SIGTERM has a handler', ''),
    ],
)
def test_pid_1_of_a_namespace_without_a_handler_for_sigterm(
    tmp_path, world, severity, title, action
):
    unshare = ('unshare', '--pid', '--fork', '--mount-proc', '--kill-child')
    done = subprocess.run(
        [*unshare, sys.executable, str(PROGRAM), world, str(tmp_path)],
        env=os.environ | {'PYTHONPATH': environment()['PYTHONPATH']},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert (found['id'], found['severity']) == ('stop-signal', severity)
    assert title in found['title']
    assert action in found['action']


@pytest.mark.root
@pytest.mark.parametrize(
    'script, severity, action',
    [
        ('"$@"; exit $?', 'warning', 'Write "exec" before the command'),
        ('trap "kill -TERM \\$child" TERM; "$@" & child=$!; wait $child', 'ok', ''),
    ],
)
def test_a_shell_as_pid_1_passes_sigterm_on_or_not(tmp_path, script, severity, action):
    unshare = ('unshare', '--pid', '--fork', '--mount-proc', '--kill-child')
    init = ('sh', '-c', script, 'sh')
    done = subprocess.run(
        [*unshare, *init, sys.executable, str(PROGRAM), 'stop_signal', str(tmp_path)],
        env=os.environ | {'PYTHONPATH': environment()['PYTHONPATH']},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert (found['id'], found['severity']) == ('stop-signal', severity)
    assert action in found['action']


@pytest.mark.parametrize(
    'world, severity', [('near_the_end_of_select', 'warning'), ('beyond_the_end_of_select', 'ok')]
)
def test_descriptors_near_the_limit_of_select_are_a_warning(tmp_path, world, severity):
    """After the advice is followed, there is no finding."""
    pytest.importorskip('waitress')
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip('the hard limit of descriptors is below 4096')
    (found,) = findings(world, tmp_path)
    assert found['severity'] == severity, found
    assert severity == 'ok' or 'asyncore_use_poll = true' in found['action']


@pytest.mark.parametrize(
    'world, limit, hard',
    [
        ('few_descriptors_and_more_to_have', 'NOFILE', 1000),
        ('high_recursion_limit', 'STACK', 4 << 20),
    ],
)
def test_the_advised_ulimit_works_up_to_the_hard_limit(tmp_path, world, limit, hard):
    """Without the rights of root; for more than the hard limit the advice is for root."""
    (found,) = findings(world, tmp_path)
    line = re.search(r'"(ulimit -S\w \d+)" before', found['action'])[1]
    number = getattr(resource, f'RLIMIT_{limit}')

    def as_it_is_there():
        resource.setrlimit(number, (64 if limit == 'NOFILE' else 2 << 20, hard))
        os.geteuid() or os.setuid(65534)

    done = subprocess.run(
        ['sh', '-c', f'{line} && {line.rpartition(" ")[0]}'],
        preexec_fn=as_it_is_there,
        cwd='/',
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == line.rpartition(' ')[2], done
    assert 'limits.conf' in found['action'] and f'Limit{limit}=' in found['action']


def test_ulimit_is_not_advised_above_the_hard_limit(tmp_path):
    action = findings('few_descriptors', tmp_path)[0]['action']
    assert 'ulimit' not in action and '"* - nofile 4096" into /etc/security/limits.conf' in action


def test_a_missing_optional_library_is_found(tmp_path):
    """Libraries that are not installed on this machine are found too."""
    found = {f['id']: f for f in findings('missing_library', tmp_path)}
    anyway = {name for name, *_ in software.OPTIONAL if importlib.util.find_spec(name) is None}
    assert set(found) == {f'optional-libraries:{name}' for name in anyway | {'pystack'}}
    pystack = found['optional-libraries:pystack']
    assert pystack['severity'] == 'info' and '[native]' in pystack['action']


def test_the_module_that_redirects_faulthandler_is_named(tmp_path):
    assert 'culprit' in findings('fault_log_redirected', tmp_path)[0]['detail']


def test_the_bytes_that_wait_in_a_full_pipe_are_shown(tmp_path):
    assert (
        '65,536 bytes wait in a pipe of 65,536 bytes'
        in findings('full_pipe', tmp_path)[0]['detail']
    )


def test_two_full_pipes_are_watched_together(tmp_path):
    found = findings('two_full_pipes', tmp_path)
    assert {f['id'] for f in found if f['severity'] == 'critical'} == {
        'outputs:standard-output',
        'outputs:standard-error',
    }


@pytest.mark.parametrize(
    'world, environ, title',
    [
        (
            'allocator',
            {'PYTHONMALLOC': 'debug'},
            'A debugging memory allocator is on: PYTHONMALLOC',
        ),
        (
            'allocator',
            {'MALLOC_PERTURB_': '165'},
            'A debugging memory allocator is on: MALLOC_PERTURB_',
        ),
        (
            'allocator',
            {'GLIBC_TUNABLES': 'glibc.malloc.check=3'},
            'A debugging memory allocator is on: GLIBC_TUNABLES',
        ),
        (
            'allocator',
            {'LD_PRELOAD': '/nonexistent/libjemalloc.so.2'},
            'is not loaded: /nonexistent/libjemalloc.so.2',
        ),
    ],
)
def test_a_harmful_allocator_setting_is_a_warning(tmp_path, world, environ, title):
    (found,) = findings(world, tmp_path, environ=environ)
    assert found['severity'] == 'warning' and title in found['title']


def test_a_preloaded_library_is_for_information(tmp_path):
    maps = Path('/proc/self/maps').read_text()
    library = re.search(r'/\S*/(?:libm|libc)[.-]\S*so\S*', maps)[0]
    (found,) = findings('allocator', tmp_path, environ={'LD_PRELOAD': library})
    assert found['severity'] == 'info' and library in found['title']


def test_harmless_settings_of_the_allocator_are_ok(tmp_path):
    (found,) = findings(
        'allocator', tmp_path, environ={'MALLOC_ARENA_MAX': '2', 'PYTHONMALLOC': 'malloc'}
    )
    assert (
        found['severity'] == 'ok' and found['detail'] == 'MALLOC_ARENA_MAX=2; PYTHONMALLOC=malloc'
    )


@pytest.mark.parametrize(
    'switches, environ, id',
    [
        (['-X', 'dev'], {}, 'python-switches:dev-mode'),
        (['-O'], {}, 'python-switches:optimize'),
        ([], {'PYTHONDEVMODE': '1'}, 'python-switches:dev-mode'),
        ([], {'PYTHONTRACEMALLOC': '1'}, 'python-switches:tracemalloc'),
    ],
)
def test_debugging_switches_of_python_are_found(tmp_path, switches, environ, id):
    found = findings('python_switches', tmp_path, python=switches, environ=environ)
    assert [f['id'] for f in found] == [id]


def test_standard_error_to_dev_null_is_for_information(tmp_path):
    (found,) = findings('own_outputs', tmp_path, stderr=subprocess.DEVNULL)
    assert (found['id'], found['severity']) == ('outputs:standard-error', 'info')


NO_EVENT_LOG = """
[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = generic

[formatter_generic]
format = %(message)s

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
"""


def test_the_advice_for_an_event_log_can_be_followed(tmp_path):
    (tmp_path / 'log').mkdir()
    (tmp_path / 'zope.ini').write_text(NO_EVENT_LOG)
    advice = findings('configured_log', tmp_path, stderr=subprocess.DEVNULL)[0]['action']
    assert str(tmp_path / 'log' / 'event.log') in advice
    follow_in_ini(tmp_path / 'zope.ini', advice)
    (found,) = findings('configured_log', tmp_path)
    assert found['severity'] == 'ok' and str(tmp_path) in found['detail'], found
    line = (tmp_path / 'log' / 'event.log').read_text()
    assert re.fullmatch(r'\d{4}-\S+ \S+ WARNING \[root\] configured\n', line)


@pytest.mark.skipif(
    not Path('/proc/sys/kernel/core_pattern').exists(), reason='no core_pattern here'
)
def test_the_core_pattern_of_this_machine_is_shown(tmp_path):
    pattern = Path('/proc/sys/kernel/core_pattern').read_text()
    (found,) = findings('core_files', tmp_path)
    assert found['severity'] == 'ok' or 'not writable' in found['detail'] or pattern.startswith('|')
    assert pattern.strip() in found['detail']


# -- supervision -----------------------------------------------------------------------------------


def test_a_supervisor_that_dies_is_noticed(tmp_path):
    """zdaemon starts a process and is killed: from then on nothing restarts the process."""
    pytest.importorskip('zdaemon')
    zdaemon = [
        sys.executable,
        '-m',
        'zdaemon.zdctl',
        '-s',
        str(tmp_path / 'socket'),
        '-z',
        str(tmp_path),
        '-p',
        f'{sys.executable} {PROGRAM} orphan {tmp_path}',
        'start',
    ]
    subprocess.run(
        zdaemon,
        env=environment(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    before = json.loads(until((tmp_path / 'before').exists) and (tmp_path / 'before').read_text())
    os.kill(before['parent'], signal.SIGKILL)
    after = json.loads(until((tmp_path / 'after').exists) and (tmp_path / 'after').read_text())
    assert before['severity'] == 'ok' and 'zdaemon restarts this process' in before['title']
    assert (
        after['severity'] == 'warning' and 'zdaemon is gone' in after['title'] and after['action']
    )


# -- file systems and cgroups ----------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a file system below the folder of this test, until the test ends."""
    made = []

    def mount(kind, options, name='volume'):
        folder = tmp_path / name
        folder.mkdir()
        done = subprocess.run(
            ['mount', '-t', kind, '-o', options, kind, str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f'{kind} cannot be mounted here: {done.stderr.strip()}')
        made.append(folder)
        return folder

    yield mount
    for folder in reversed(made):
        subprocess.run(['umount', str(folder)], check=True)


def memory_file_system():
    kind = Path('/dev/shm')
    if not kind.is_dir() or not os.access(kind, os.W_OK):
        pytest.skip('there is no /dev/shm to write to')
    return kind


def test_breadcrumbs_in_memory_are_a_warning():
    with tempfile.TemporaryDirectory(dir=memory_file_system()) as folder:
        (found,) = findings('place', folder)
    assert found['severity'] == 'warning' and 'in memory only (tmpfs)' in found['title']
    assert '"directory /var/lib/stability"' in found['action']


@pytest.mark.root
def test_breadcrumbs_in_a_container_layer_are_a_warning(tmp_path, mounted):
    base = mounted('tmpfs', 'size=1m', 'base')
    lower, upper, work = (base / name for name in ('lower', 'upper', 'work'))
    for folder in (lower, upper, work):
        folder.mkdir()
    (found,) = findings(
        'place', mounted('overlay', f'lowerdir={lower},upperdir={upper},workdir={work}')
    )
    assert (
        found['severity'] == 'warning' and "container's writable layer (overlay)" in found['title']
    )
    assert f'-v /srv/stability:{tmp_path}/volume"' in found['action']


@pytest.mark.root
@pytest.mark.parametrize(
    'filled, severity', [(0, 'ok'), (3892 << 10, 'warning'), (4076 << 10, 'critical')]
)
def test_a_disk_that_fills_up_is_found(mounted, filled, severity):
    folder = mounted('tmpfs', 'size=4m')
    (folder / 'rest').write_bytes(bytes(filled))
    (found,) = findings('room', folder)
    assert found['severity'] == severity
    assert severity == 'ok' or 'nearly full' in found['title'] and str(folder) in found['action']


@pytest.mark.root
def test_a_disk_without_inodes_is_a_warning(mounted):
    folder = mounted('tmpfs', 'size=4m,nr_inodes=20')
    with contextlib.suppress(OSError):
        for number in range(30):
            (folder / str(number)).touch()
    (found,) = findings('room', folder)
    assert found['severity'] == 'warning' and 'only 0 more files can be created' in found['detail']


@pytest.mark.root
def test_a_read_only_disk_is_critical(mounted):
    (found,) = findings('room', mounted('tmpfs', 'ro,size=1m'))
    assert (
        found['severity'] == 'critical'
        and 'read-only' in found['title']
        and 'remount,rw' in found['action']
    )


@pytest.fixture
def small_group(tmp_path):
    """A memory cgroup of 64 MiB."""
    from Products.StabilityMonitor.system import cgroups

    above = cgroups.find()
    if not above:
        pytest.skip('no memory cgroup was found')
    folder = Path(above['directory']) / f'stability-test-{os.getpid()}'
    limit = {1: 'memory.limit_in_bytes', 2: 'memory.max'}[above['version']]
    try:
        folder.mkdir()
        (folder / limit).write_text(str(64 << 20))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f'a memory cgroup cannot be made: {error}')
    yield folder
    folder.rmdir()


@pytest.mark.root
def test_memory_near_its_limit_is_found(small_group):
    found = [f for f in findings('little_cgroup', small_group) if f['id'] == 'memory-limit:cgroup']
    assert found and found[0]['severity'] in ('warning', 'critical'), found
    assert 'of 64 MiB' in found[0]['detail'] and str(64 << 20) in found[0]['action']


@pytest.mark.root
def test_page_cache_does_not_count_as_memory_in_use(small_group, tmp_path):
    (found,) = findings('cached_cgroup', small_group, tmp_path / 'large')
    assert found['severity'] == 'ok' and 'of 64 MiB' in found['detail']
