"""Memory: how near it is to its limit, whether it is given back, and whether the OOM killer's work
would be recognised.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.severities import Severity
from ..system.cgroups import smallest_limit
from ..system.vitalsigns import counter
from .check import Check
from .check import megabytes
from .check import several
from .limits import to_raise
from .livesite import Site
from .livesite import text

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

#: (severity, share of a limit): memory is short from this share on, the worst first.
_SHARES = ((CRITICAL, 0.95), (WARNING, 0.8))
#: The memory of the whole machine is short from this share on, and that is only a warning: caches
#: of ZFS count as used.
_HOST = 0.95
#: A fresh interpreter may have a few hundred frozen objects of its own (Python 3.12: 375); after
#: gc.freeze() there are far more.
_FROZEN = 2000
#: {version of cgroups: lines of memory.stat}: the page cache, and the part of it that must be
#: written to disk before the kernel can drop it.
_CACHE = {
    1: ((b'total_inactive_file', b'total_active_file'), (b'total_dirty', b'total_writeback')),
    2: ((b'inactive_file', b'active_file'), (b'file_dirty', b'file_writeback')),
}


class Limit(Check):
    id = 'memory-limit'
    question = 'Is there room between the memory in use and its limit?'
    source = '/proc/self/status, /proc/meminfo, the memory cgroup and RLIMIT_AS'

    def look(self, site: Site) -> Finding | list[Finding]:
        findings = []
        facts = []
        for about, what, used, most, action in _limits(site):
            fact = f'{megabytes(used)} of {megabytes(most)}'
            facts.append(f'{what}: {fact}')
            severity = _severity(about, used, most)
            if severity:
                title = f'Memory is short: {used / most:.0%} of its limit is in use ({what}).'
                findings.append(self.found(severity, title, f'{fact}.', action, about))
        own = _kibibytes(site.text('self/status'))
        mine = f'This process has {megabytes(own["VmRSS"])} in use. ' if 'VmRSS' in own else ''
        return findings or self.ok('There is room for more memory.', mine + '; '.join(facts))


def _severity(about: str, used: int, most: int) -> Severity | None:
    """How short memory is where `used` of `most` bytes are in use; None where it is not."""
    if about == 'host':
        return WARNING if used >= _HOST * most else None
    for severity, share in _SHARES:
        if used >= share * most:
            return severity
    return None


def _limits(site: Site) -> Iterator[tuple[str, str, int, int, Action]]:
    """(id, what it is, bytes in use, limit in bytes, what to do) for each limit that there is."""
    own = _kibibytes(site.text('self/status'))
    host = _kibibytes(site.text('meminfo'))
    yield from _groups(site.context.get('cgroup') or {})
    most = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    if resource and most != resource.RLIM_INFINITY and 'VmSize' in own:
        yield (
            'address-space',
            'address space, RLIMIT_AS',
            own['VmSize'],
            most,
            to_raise('AS', 'v', 2 * most >> 10, 'K') + Action('.'),
        )
    if host.get('MemTotal') and 'MemAvailable' in host:
        yield (
            'host',
            'the whole machine',
            host['MemTotal'] - host['MemAvailable'],
            host['MemTotal'],
            Action(
                'Look with "ps aux --sort=-rss" for who uses it; write a smaller "cache-size" '
                '(objects of each connection) or "cache-size-bytes 200MB" into `<zodb_db>` of '
                'zope.conf and restart.'
            ),
        )


def _groups(group: dict[str, Any]) -> Iterator[tuple[str, str, int, int, Action]]:
    """The same for each memory cgroup with a limit, from our own upwards.

    Memory that the kernel can drop at once does not count as used.
    """
    directory = Path(group.get('directory') or '/')
    version = group.get('version')
    if version not in (1, 2) or smallest_limit(directory, version) < 0:
        return
    for folder in (directory, *directory.parents):
        limit = _number(text(folder / Path(group['limit_file']).name))
        used = _number(text(folder / Path(group['current_file']).name))
        if 0 < limit < 1 << 60 and used >= 0:
            used -= _droppable(text(folder / 'memory.stat').encode(), version)
            yield (
                f'cgroup-{folder.name}' if folder != directory else 'cgroup',
                f'memory cgroup {folder}',
                used,
                limit,
                Action(
                    'Write "MemoryMax={more}" into `[Service]` of the unit, or run "docker update '
                    '--memory {more} --memory-swap -1 CONTAINER" (the limit is now {limit}); or '
                    'give Zope a smaller "cache-size" in `<zodb_db>` of zope.conf.',
                    more=2 * limit,
                    limit=limit,
                ),
            )


def _droppable(statistics: bytes, version: int) -> int:
    """Bytes of page cache that need not be written to disk first.  Locked pages are not in it."""
    cached, dirty = _CACHE[version]
    droppable = sum(max(0, counter(statistics, name)) for name in cached)
    droppable -= sum(max(0, counter(statistics, name)) for name in dirty)
    return max(0, droppable)


def _number(words: str) -> int:
    return int(words) if words.strip().isdigit() else -1


def _kibibytes(words: str) -> dict[str, int]:
    """{name: bytes} of lines such as "VmRSS:   123 kB"."""
    return {name: int(size) << 10 for name, size in re.findall(r'^(\w+):\s+(\d+) kB$', words, re.M)}


class Collector(Check):
    id = 'garbage-collector'
    question = 'Does the garbage collector run, on all objects?'
    source = 'the module gc'

    def look(self, site: Site) -> Finding:
        thresholds = gc.get_threshold()
        frozen = gc.get_freeze_count()
        flags = gc.get_debug()
        if flags & gc.DEBUG_SAVEALL:
            return self.found(
                CRITICAL,
                'The garbage collector keeps all that it finds (gc.DEBUG_SAVEALL).',
                'Memory grows without end.',
                Action('Take the call of gc.set_debug out of your code.'),
            )
        if not gc.isenabled() or not thresholds[0]:
            return self.found(
                WARNING,
                'The garbage collector is off.',
                'Objects that refer to each other are never given back: memory grows.',
                Action(
                    'Take gc.disable() or gc.set_threshold(0) out of your code when the experiment '
                    'is over.'
                ),
            )
        if frozen > _FROZEN:
            return self.found(
                INFO,
                f'{frozen:,} objects are frozen: the garbage collector never looks at them.',
                'A preforking server does this on purpose, once, before it forks.',
                Action('If yours does not fork, take gc.freeze() out of your code.'),
            )
        if flags:
            return self.found(
                INFO,
                f'The garbage collector reports on itself (gc.set_debug({flags})).',
                'It writes to standard error and is slow.',
                Action('Take gc.set_debug out of your code.'),
            )
        return self.ok('The garbage collector runs.', f'Thresholds {thresholds}.')


class Allocator(Check):
    """Looks at the environment that the process was started with.

    What zope.conf sets comes too late for an allocator, see `switches.LateVariables`.
    """

    id = 'allocator'
    question = 'Is memory allocated by what is meant to?'
    source = '/proc/self/environ and /proc/self/maps'

    _DEBUGGING = {'PYTHONMALLOC': ('debug', 'malloc_debug', 'pymalloc_debug', 'mimalloc_debug')}
    _CHECKING = ('MALLOC_CHECK_', 'MALLOC_PERTURB_')

    def look(self, site: Site) -> Finding | list[Finding]:
        given = started_with(site)
        if not given:
            return self.unknown('What this process was started with is not known here.')
        findings = [*self._slow(given), *self._preloaded(site, given)]
        facts = [
            f'{name}={given[name]}'
            for name in sorted(given)
            if name.startswith(('PYTHONMALLOC', 'MALLOC_'))
        ]
        if findings:
            return findings
        if not facts:
            return self.ok('The allocator has its defaults.')
        return self.ok('The allocator is set.', '; '.join(facts))

    def _slow(self, given: dict[str, str]) -> Iterator[Finding]:
        wrong = [name for name, values in self._DEBUGGING.items() if given.get(name) in values]
        wrong += [name for name in self._CHECKING if given.get(name, '0') not in ('', '0')]
        settings = dict.fromkeys(wrong, '')  # {variable: the part of its value that is wrong}
        if re.search(r'glibc\.malloc\.check=[1-9]', given.get('GLIBC_TUNABLES', '')):
            settings['GLIBC_TUNABLES'] = ' (glibc.malloc.check)'
        for name, setting in settings.items():
            yield self.found(
                WARNING,
                f'A checking allocator is on: {name}{setting}.',
                'It finds damaged memory, and costs much speed and memory.',
                Action(
                    'Write "unset {name}" before the line that starts Zope, when the experiment is '
                    'over.',
                    name=name,
                ),
                name,
            )

    def _preloaded(self, site: Site, given: dict[str, str]) -> Iterator[Finding]:
        libraries = re.findall(r'[^ :]+', given.get('LD_PRELOAD', '').strip())
        maps = site.text('self/maps') if libraries else ''
        for library in libraries:
            names = {os.path.basename(library), os.path.basename(os.path.realpath(library))}
            if maps and not any(name in maps for name in names):
                yield self.found(
                    WARNING,
                    f'A library that should be preloaded is not loaded: {library}.',
                    'The loader skips what it cannot open, with one line on standard error.',
                    Action(
                        'Correct LD_PRELOAD: is there a file "{library}" for this machine?',
                        library=library,
                    ),
                    f'missing-{os.path.basename(library)}',
                )
            else:
                yield self.found(
                    INFO,
                    f'A library is preloaded into Python: {library}.',
                    'It replaces functions of the C library; a crash in malloc or free may be its '
                    'own.',
                    Action('To rule it out, start Zope once with "env -u LD_PRELOAD".'),
                    f'preloaded-{os.path.basename(library)}',
                )


def started_with(site: Site) -> dict[str, str]:
    """The environment that this process was started with; {} where the system does not tell.

    A program that changes the title of its process may overwrite it.  Then fewer than half of the
    present variables are in it, and it tells nothing.
    """
    pairs = (line.partition('=') for line in site.text('self/environ').split('\0'))
    given = {name: value for name, found, value in pairs if found}
    common = given.keys() & site.environ.keys()
    return given if 2 * len(common) >= len(site.environ) else {}


class OomReporting(Check):
    id = 'oom-reporting'
    question = "Would a kill by the kernel's OOM killer be recognised?"
    source = 'the memory cgroup, /proc/vmstat and /dev/kmsg'

    def look(self, site: Site) -> Finding:
        group = site.context.get('cgroup') or {}
        counters = text(Path(group.get('counter_file') or '/nothing'))
        in_group = counter(counters.encode(), b'oom_kill') >= 0
        on_host = counter(site.text('vmstat').encode(), b'oom_kill') >= 0
        known = []
        if in_group:
            known.append(f'the cgroup {group["directory"]} counts its kills')
        if on_host:
            known.append('the kernel counts all kills')
        if os.access('/dev/kmsg', os.R_OK):
            known.append("the kernel's log can be read")
        facts = several(known)
        if in_group:
            return self.ok('A kill by the OOM killer would be recognised.', f'Known from: {facts}.')
        if on_host:
            return self.found(
                INFO,
                'A kill by the OOM killer would be recognised as likely only.',
                f'Known from: {facts}; no memory cgroup with a counter is to be seen.',
                Action(
                    'Run Zope as a service of systemd, with "MemoryAccounting=yes" in its '
                    '`[Service]` section.'
                ),
            )
        return self.found(
            INFO,
            'A kill by the OOM killer would not be recognised.',
            'Neither a memory cgroup nor the kernel tells of such kills here.',
            Action(
                'After a death without trace, ask the system: "journalctl -k | grep -i oom", or '
                'the container: "docker inspect" tells OOMKilled.'
            ),
        )
