"""The findings that a plain, living Zope should have on this machine, computed without the product.

The sources are `stat`, files of the kernel and the calendar; `site` is a running `ZopeInstance`.
"""

import datetime
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def file_system(path):
    return subprocess.run(
        ['stat', '-f', '-c', '%T', str(path)], capture_output=True, text=True
    ).stdout.strip()


def fleeting_place(site):
    return file_system(site.stability) in ('tmpfs', 'ramfs', 'overlayfs', 'aufs', 'nfs')


def little_room(site):
    disk = shutil.disk_usage(site.home)
    return disk.free < min(0.05 * disk.total, 1 << 30)


def no_core_file(site):
    pattern = Path('/proc/sys/kernel/core_pattern').read_text()
    status = Path(f'/proc/{site.pid}/status').read_text()
    size = sum(
        1024 * int(kilobytes)
        for kilobytes in re.findall(r'^(?:RssAnon|RssShmem|VmSwap):\s*(\d+)', status, re.M)
    )
    soft = resource.getrlimit(resource.RLIMIT_CORE)[0]
    if not soft:
        return True
    if pattern.startswith('|'):
        program = Path(pattern[1:].split()[0])
        return program.name in ('true', 'false') or not program.exists()
    folder = Path(pattern if pattern.startswith('/') else site.home / pattern).parent
    if '%' in str(folder):
        return False
    too_large = 0 < soft < size or shutil.disk_usage(folder).free < size
    return too_large or not os.access(folder, os.W_OK)


def copies_of_libraries(site):
    """Return the ids of the findings that a library is mapped from more than one file."""
    files = {}
    for line in Path(f'/proc/{site.pid}/maps').read_text().splitlines():
        found = re.search(r' r-xp .* (/.*/(lib[^/]+?)(?:-[0-9a-f]{8})?\.so[^/]*)$', line)
        if found:
            files.setdefault(found[2], set()).add(found[1])
    copied = {name for name in files if len(files[name]) > 1}
    dangerous = copied & {'libssl', 'libcrypto', 'libxml2', 'libxslt', 'libexslt'}
    usual = {'library-copies'} if copied - dangerous else set()
    return usual | {f'library-copies:{name}' for name in dangerous}


def signals_kill(site):
    """Whether one of the signals kills: under nohup and similar programs they are ignored."""
    ignored = int(
        re.search(r'^SigIgn:\s*(\w+)', Path(f'/proc/{site.pid}/status').read_text(), re.M)[1], 16
    )
    return any(
        not ignored >> (number - 1) & 1
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    )


def no_counter_of_kills(site):
    groups = [
        line.split(':', 2) for line in Path(f'/proc/{site.pid}/cgroup').read_text().splitlines()
    ]
    folders = [
        Path('/sys/fs/cgroup', 'memory' if 'memory' in names else '', *inside)
        for _, names, path in groups
        if names == '' or 'memory' in names.split(',')
        for inside in ((path.lstrip('/'),), ())
    ]
    files = [
        folder / name for folder in folders for name in ('memory.events', 'memory.oom_control')
    ]
    return not any('oom_kill ' in file.read_text() for file in files if file.exists())


#: The difference of wall clock and monotonic clock when the tests began.
BEGAN = time.time() - time.monotonic()


def clock_that_jumped(site):
    return abs(time.time() - time.monotonic() - BEGAN) > 1


def little_memory(site):
    """Whether less than a twentieth of the memory of the machine is available."""
    sizes = dict(re.findall(r'^(\w+): +(\d+)', Path('/proc/meminfo').read_text(), re.M))
    return int(sizes['MemAvailable']) < 0.05 * int(sizes['MemTotal'])


def short_groups(site):
    """Return the findings of the memory cgroups, from the one of the site upwards, that are at
    least four fifths full.
    """
    return {
        f'memory-limit:cgroup{f"-{folder.name}" if number else ""}'
        for number, folder in enumerate(groups_of(site))
        if share(folder) >= 0.8
    }


def groups_of(site):
    path = next(
        path
        for number, names, path in (
            line.split(':', 2) for line in Path(f'/proc/{site.pid}/cgroup').read_text().splitlines()
        )
        if not names or 'memory' in names.split(',')
    )
    for base in (Path('/sys/fs/cgroup/memory'), Path('/sys/fs/cgroup')):
        if base.is_dir():
            own = base / path.lstrip('/')
            return [own, *own.parents][: len(Path(path).parts)] if own.is_dir() else [base]
    return []


def share(folder):
    """Return the used share of the limit, without page cache that the kernel can drop."""

    def number(*names):
        words = next(
            (file.read_text().strip() for name in names if (file := folder / name).exists()), ''
        )
        return int(words) if words.isdigit() else 0

    limit = number('memory.max', 'memory.limit_in_bytes')
    if not limit:
        return 0
    lines = dict(line.split() for line in (folder / 'memory.stat').read_text().splitlines())
    cache = sum(
        int(lines.get(f'total_{name}', lines.get(name, 0)))
        for name in ('inactive_file', 'active_file')
    )
    return (number('memory.current', 'memory.usage_in_bytes') - cache) / limit


def old_python(site):
    """Whether the support of this Python ends in less than half a year: in October, five years
    after its release.
    """
    end = datetime.date(2016 + sys.version_info[1], 10, 31)
    return end - datetime.date.today() < datetime.timedelta(180)


def without(library):
    return lambda site: importlib.util.find_spec(library) is None


#: The possible findings of a plain Zope, and a function for each that says whether it applies.
#: Two always apply: nothing restarts this Zope, and nothing else sees its end.
POSSIBLE_FINDINGS = {
    'supervisor': lambda site: True,
    'witnesses': lambda site: True,
    'killing-signals': signals_kill,
    'core-files': no_core_file,
    'breadcrumbs-place': fleeting_place,
    'disk-room:the-breadcrumbs': little_room,
    'oom-reporting': no_counter_of_kills,
    'python-end-of-life': old_python,
    'memory-limit:host': little_memory,
    'clock-jumps': clock_that_jumped,
    **{f'optional-libraries:{name}': without(name) for name in ('psutil', 'pystack')},
}


def what_is_so(site):
    """Return the ids of all findings that a plain Zope should have here and now."""
    return {id for id, applies in POSSIBLE_FINDINGS.items() if applies(site)} | (
        short_groups(site) | copies_of_libraries(site)
    )
