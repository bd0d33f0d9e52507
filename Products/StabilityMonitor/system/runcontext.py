"""The context of a run, recorded at its start: versions, system, limits, supervisor, outputs.

It is read once, during arming.  Nothing here needs Zope.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model.jsonform import to_json
from ..model.records import Instance
from . import cgroups
from . import stacksizes
from . import supervisorlog
from .processidentity import identity
from .signalmask import has_python_handler
from .signalmask import signal_set
from .vitalsigns import counter

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

_LIMITS = ('CORE', 'STACK', 'AS', 'NOFILE', 'NPROC')
#: The name of a program without a version or a suffix, such as "gunicorn" in "gunicorn:".
_PROGRAM = re.compile(r'[\w-]*')
_PARENT = re.compile(rb'^PPid:\s*(\d{1,10})$', re.MULTILINE)
#: Names of programs that restart what they start.
_RESTARTERS = {
    'zdaemon': 'zdaemon',
    'zdrun': 'zdaemon',
    'zdctl': 'zdaemon',
    'supervisord': 'supervisord',
    'gunicorn': 'gunicorn',
    'uwsgi': 'uwsgi',
    'circus': 'circus',
    'circusd': 'circus',
    'runsv': 'runsv',
    's6-supervise': 's6-supervise',
}
#: The parents of a main process: pid 1, or the systemd of a user.
_SYSTEMD = 'systemd'
#: Names of the command of this product: its script, and the package as started with "-m".
_COMMANDS = ('stabilitymonitor', 'Products.StabilityMonitor', '__main__.py')
_FILE_KINDS = {
    stat.S_IFREG: 'file',
    stat.S_IFIFO: 'pipe',
    stat.S_IFSOCK: 'socket',
    stat.S_IFCHR: 'device',
}
#: Environment variables that a supervisor sets, and the name of the supervisor.
_SUPERVISORS = (
    ('INVOCATION_ID', 'systemd'),
    ('SUPERVISOR_ENABLED', 'supervisord'),
    ('KUBERNETES_SERVICE_HOST', 'kubernetes'),
    ('container', 'container'),
)

#: The name of the supervisor if it is only known that this process is pid 1.
FIRST_IN_CONTAINER = 'container (this process is its pid 1)'
#: The same if a shell is pid 1, and this process descends from it.
SHELL_IN_CONTAINER = 'container (a shell is its pid 1)'
#: Names of processes that are shells.
_SHELLS = frozenset(('ash', 'bash', 'dash', 'ksh', 'sh', 'zsh'))
#: At most this many logs are noted.
_MOST_LOGS = 16
#: At most this many parents of parents are read.
_MOST_ANCESTORS = 20

#: Bits of this Python.  A 32-bit Python may run on a 64-bit kernel, and `uname` names the kernel.
BITS = 64 if sys.maxsize > 1 << 32 else 32


def collect(
    software: dict[str, Any],
    instance: Instance,
    role: str,
    proc: Path = Path('/proc'),
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Return the context of a run, ready for JSON.  `software` is what the caller knows of Zope."""
    boot_time = -1
    if (proc / 'stat').exists():
        boot_time = counter((proc / 'stat').read_bytes(), b'btime')
    arguments = getattr(sys, 'argv', None)  # an embedded Python may have none
    name = supervisor(proc, environ)
    return {
        'format': 1,
        'identity': identity(proc=proc),
        'instance': to_json(instance),
        'role': role,
        'started': time.time(),
        'monotonic': time.monotonic(),
        'software': software,
        'python': sys.version,
        'platform': system_name(),
        'implementation': platform.python_implementation(),
        'bits': BITS,
        'executable': sys.executable,
        'program': os.path.basename(arguments[0]) if arguments else '',
        'libc': _libc(),
        'machine_id': _line(Path('/etc/machine-id')),
        'boot_time': boot_time,
        'main_ident': threading.main_thread().ident,
        'recursion_limit': sys.getrecursionlimit(),
        'thread_stack': stacksizes.default_stack(),
        'cgroup': cgroups.find(proc),
        'handled_signals': handled_signals(proc / 'self/status'),
        'host_kills': counter(_bytes(proc / 'vmstat'), b'oom_kill'),
        'limits': _resource_limits(),
        'core_pattern': _line(proc / 'sys/kernel/core_pattern'),
        'cwd': _working_directory(),
        'supervisor': name,
        'supervisor_log': supervisorlog.find(name, os.getppid(), os.getpid(), proc),
        'invocation_id': environ.get('INVOCATION_ID', ''),
        'outputs': {str(fd): output(fd, proc) for fd in (1, 2)},
        'logs': log_files(),
        'release': os_release(),
        'container': container(environ),
        'abort_handler': has_python_handler('SIGABRT'),
        'hostname': socket.gethostname(),
        'parent': os.getppid(),
        'parent_name': _line(proc / str(os.getppid()) / 'comm'),
        'unit_process': _unit_process(environ),
    }


def _working_directory() -> str:
    """Return the working directory, into which a core file may be written; '' if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ''


def _unit_process(environ: Mapping[str, str]) -> int:
    """Return the pid of the process that systemd itself has started; 0 if it does not tell.

    It tells from version 248 on.  Descendants of that process inherit the variable.
    """
    found = environ.get('SYSTEMD_EXEC_PID', '')
    return int(found) if found.isascii() and found.isdigit() and len(found) <= 10 else 0


def system_name() -> str:
    """Return for example "Linux-6.1.0-x86_64".  `platform.platform` would start a child process."""
    if not hasattr(os, 'uname'):
        return sys.platform
    system = os.uname()
    return f'{system.sysname}-{system.release}-{system.machine}'


def supervisor(
    proc: Path = Path('/proc'),
    environ: Mapping[str, str] = os.environ,
    parent: int | None = None,
) -> str:
    """Return what started and restarts this process, such as "zdaemon"; "" if not known.

    `stabilitymonitor run` restarts nothing, so what started that counts.
    """
    if parent is None:
        parent = os.getppid()
    if is_run(_words(parent, proc)):
        parent = _parent(parent, proc)
    found = restarter(parent, proc)
    if found:
        return found
    if os.getpid() == 1:
        return FIRST_IN_CONTAINER
    if shell_as_pid_1(parent, proc):
        return SHELL_IN_CONTAINER
    for variable, name in _SUPERVISORS:
        if environ.get(variable):
            return name
    return ''


def shell_as_pid_1(parent: int, proc: Path = Path('/proc')) -> str:
    """Return the name of the shell that is pid 1 of the container, such as "sh"; '' if none is.

    Docker makes it so for a command in its shell form.  Only an ancestor counts, and no shell that
    has a handler for SIGTERM ("trap"), which may pass the signal on.  `parent` is the parent of the
    process in question.
    """
    pid = parent
    for _ in range(_MOST_ANCESTORS):
        if pid <= 1:
            break
        pid = _parent(pid, proc)
    name = _line(proc / '1/comm') if pid == 1 else ''
    if name not in _SHELLS or signal.SIGTERM in signal_set('SigCgt', proc / '1/status'):
        return ''
    return name


def _parent(pid: int, proc: Path) -> int:
    """Return the parent of a process; 0 if it is not known, or outside of this container."""
    found = _PARENT.search(_bytes(proc / str(pid) / 'status'))
    return int(found[1]) if found else 0


def restarter(pid: int, proc: Path = Path('/proc')) -> str:
    """Return the name of process `pid` if it is known to restart its children, else "".

    It is recognized by the programs on its command line.
    """
    for argument in _words(pid, proc):
        path, _, _ = argument.partition(' ')
        name = os.path.basename(path)
        program = _PROGRAM.match(name)
        if program is None:
            continue
        known = _RESTARTERS.get(program[0])
        if known:
            return known
    return ''


def is_run(words: Sequence[str]) -> bool:
    """Whether this is a command line of `stabilitymonitor run`."""
    names = [os.path.basename(word) for word in words]
    pairs = zip(names, names[1:], strict=False)
    return any(name in _COMMANDS and following == 'run' for name, following in pairs)


def is_main_process(context: Mapping[str, Any], pid: int) -> bool:
    """Whether process `pid` with that context certainly is the main process of a service.

    What systemd says about the main process counts for that process alone, but all its descendants
    have the same invocation.  An orphan has the parent 1, too; systemd from 248 on tells which
    process it has started.
    """
    return (
        context.get('supervisor') == _SYSTEMD
        and (context.get('parent') == 1 or context.get('parent_name') == _SYSTEMD)
        and context.get('unit_process') in (None, 0, pid)
    )


def _words(pid: int, proc: Path) -> list[str]:
    """Return the command line of a process."""
    return _bytes(proc / str(pid) / 'cmdline').decode(errors='replace').split('\0')


def output(descriptor: int, proc: Path = Path('/proc')) -> dict[str, Any]:
    """Return what a descriptor refers to: its kind, path, size in bytes, device and inode."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return {'kind': 'closed'}
    kind = _FILE_KINDS.get(stat.S_IFMT(status.st_mode), 'other')
    if kind == 'device' and os.isatty(descriptor):
        kind = 'terminal'
    try:
        path = os.readlink(proc / 'self/fd' / str(descriptor))
    except OSError:
        path = ''
    return {
        'kind': kind,
        'path': path,
        'size': status.st_size,
        'device': status.st_dev,
        'inode': status.st_ino,
    }


def log_files() -> list[dict[str, str]]:
    """Return {logger, file} for each file that a handler of `logging` writes to.

    The logger is '' for the root logger, which comes first.
    """
    loggers = logging.root.manager.loggerDict
    found: dict[str, str] = {}
    for name in ('', *sorted(loggers)):
        logger = loggers.get(name) if name else logging.root
        for handler in getattr(logger, 'handlers', ()):  # a placeholder has none
            file = getattr(handler, 'baseFilename', '')
            if isinstance(file, str) and file and len(found) < _MOST_LOGS:
                found.setdefault(file, name)
    return [{'logger': name, 'file': file} for file, name in found.items()]


def os_release() -> dict[str, str]:
    """Return {name, level} of the operating system: "Debian GNU/Linux 12 (bookworm)" and "12.8".

    The maintenance level is '' where the name has it, or nothing tells it.
    """
    try:
        release = platform.freedesktop_os_release()
    except (OSError, AttributeError, UnicodeDecodeError):
        return {'name': '', 'level': ''}
    name = release.get('PRETTY_NAME', '')
    level = _line(Path('/etc/debian_version')) if release.get('ID') == 'debian' else ''
    return {'name': name, 'level': level or release.get('VERSION_ID', '')}


def container(environ: Mapping[str, str] = os.environ, root: Path = Path('/')) -> str:
    """Return what kind of container this process is in, such as "docker"; '' if none is seen."""
    if environ.get('KUBERNETES_SERVICE_HOST'):
        return 'kubernetes'
    named = environ.get('container', '')
    if named:
        return named[:40]
    for file, name in (('.dockerenv', 'docker'), ('run/.containerenv', 'podman')):
        if (root / file).exists():
            return name
    return ''


def handled_signals(status: Path = Path('/proc/self/status')) -> list[str]:
    """Return the sorted names of the signals that have a handler, in Python or in C code.

    A system that does not list the caught signals (without /proc) tells only those of Python.
    """
    handled = signal_set('SigCgt', status)
    names = []
    for number in signal.Signals:
        default = (signal.SIG_DFL, signal.SIG_IGN, None)
        if number in handled or signal.getsignal(number) not in default:
            names.append(number.name)
    return sorted(names)


def compiled_modules() -> list[str]:
    """Return the sorted names of loaded modules that are shared objects but not Python's own."""
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, '__file__', None)
        if not isinstance(file, str) or 'lib-dynload' in file:
            continue
        if file.endswith(('.so', '.pyd', '.dylib')):
            found.append(name)
    return sorted(found)


def products() -> list[str]:
    """Return the sorted names of the imported Zope products."""
    found = set()
    for name in list(sys.modules):
        if name.startswith('Products.'):
            found.add(name.split('.')[1])
    return sorted(found)


def _resource_limits() -> dict[str, tuple[int, int]]:
    if resource is None:
        return {}
    limits = {}
    for name in _LIMITS:
        number = getattr(resource, f'RLIMIT_{name}', None)
        if number is not None:
            limits[name] = resource.getrlimit(number)
    return limits


def _libc() -> str:
    """Return name and version of the C library.  `platform` knows glibc only, so look for musl."""
    known = ' '.join(platform.libc_ver()).strip()
    if known:
        return known
    return 'musl' if any(Path('/lib').glob('ld-musl-*')) else ''


def _line(path: Path) -> str:
    return _bytes(path).decode(errors='replace').strip()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b''
