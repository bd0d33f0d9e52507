"""Checks of memory: is it near its limit, does it grow, is it given back, and would a kill by the
OOM killer be recognised?
"""

from __future__ import annotations

import gc
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..knowledge.growth import memory_growth
from ..model.action import Action
from ..model.finding import Finding
from ..model.records import duration
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
#: The memory of the whole machine is short from this share on.  That is only a warning, because the
#: caches of ZFS count as used.
_HOST = 0.95
#: Seconds: growth for this long is a warning, and growth that reaches the limit so soon.
_LASTING = 3600.0
_SOON = 3600.0
#: A fresh interpreter may already have a few hundred frozen objects (Python 3.12: 375); after
#: gc.freeze() there are far more.
_FROZEN = 2000
#: {version of cgroups: lines of memory.stat}: first the page cache, then the part of it that must
#: be written to disk before the kernel can drop it.
_CACHE = {
    1: ((b'total_inactive_file', b'total_active_file'), (b'total_dirty', b'total_writeback')),
    2: ((b'inactive_file', b'active_file'), (b'file_dirty', b'file_writeback')),
}


class Limit(Check):
    id = 'memory-limit'
    question = 'Is the memory in use well below its limit?'
    source = '/proc/self/status, /proc/meminfo, the memory cgroup and RLIMIT_AS'

    def look(self, site: Site) -> Finding | list[Finding]:
        findings = []
        facts = []
        for usage in _usages(site):
            fact = f'{megabytes(usage.used)} of {megabytes(usage.most)}'
            facts.append(f'{usage.what}: {fact}')
            if usage.severity is None:
                continue
            share = usage.used / usage.most
            finding = self.found(
                usage.severity,
                f'Memory is short: {share:.0%} of its limit is in use ({usage.what}).',
                f'{fact}.',
                usage.action,
                usage.about,
            )
            findings.append(finding)
        own = _kibibytes(site.text('self/status'))
        if 'VmRSS' in own:
            facts.insert(0, f'This process uses {megabytes(own["VmRSS"])}')
        return findings or self.ok('There is enough free memory.', '; '.join(facts))


@dataclass(frozen=True)
class _Usage:
    """How much of a memory limit is in use: `used` of `most`, in bytes.

    `about` is the end of the id of a finding, `what` names the limit, `action` says what to do.
    """

    about: str
    what: str
    used: int
    most: int
    action: Action

    @property
    def severity(self) -> Severity | None:
        """How severe the shortage of memory is; None if there is enough."""
        if self.about == 'host':
            return WARNING if self.used >= _HOST * self.most else None
        for severity, share in _SHARES:
            if self.used >= share * self.most:
                return severity
        return None


def _usages(site: Site) -> Iterator[_Usage]:
    """Yield a _Usage for each memory limit of this process."""
    own = _kibibytes(site.text('self/status'))
    host = _kibibytes(site.text('meminfo'))
    yield from _groups(site.context.get('cgroup') or {})
    most = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    if resource and most != resource.RLIM_INFINITY and 'VmSize' in own:
        yield _Usage(
            'address-space',
            'address space, RLIMIT_AS',
            own['VmSize'],
            most,
            to_raise('AS', 'v', 2 * most >> 10, 'K') + Action('.'),
        )
    if host.get('MemTotal') and 'MemAvailable' in host:
        yield _Usage(
            'host',
            'the whole machine',
            host['MemTotal'] - host['MemAvailable'],
            host['MemTotal'],
            Action(
                'Look with "ps aux --sort=-rss" which process uses the memory; if it is Zope, '
                'write a smaller "cache-size" (objects of each connection) or "cache-size-bytes '
                '200MB" into `<zodb_db>` of zope.conf and restart.'
            ),
        )


def _groups(group: dict[str, Any]) -> Iterator[_Usage]:
    """Yield a _Usage for each memory cgroup that has a limit, from the cgroup of this process up.

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
            yield _Usage(
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
    """Return the bytes of page cache that the kernel can drop at once, without locked pages."""
    cached, dirty = _CACHE[version]
    droppable = sum(max(0, counter(statistics, name)) for name in cached)
    droppable -= sum(max(0, counter(statistics, name)) for name in dirty)
    return max(0, droppable)


def _number(words: str) -> int:
    return int(words) if words.strip().isdigit() else -1


def _kibibytes(words: str) -> dict[str, int]:
    """Return {name: bytes} for lines such as "VmRSS:   123 kB"."""
    return {name: int(size) << 10 for name, size in re.findall(r'^(\w+):\s+(\d+) kB$', words, re.M)}


class Growth(Check):
    id = 'memory-growth'
    question = 'Does the memory of this process stay about as large as it is?'
    source = 'the samples of this run, and its curve over its whole life'

    def look(self, site: Site) -> Finding:
        if not any(sample.rss > 0 for sample in site.samples):
            return self.unknown('Whether the memory of this process grows is not known.')
        growth = memory_growth(site.curve, site.samples, site.started_monotonic)
        if growth is None:
            return self.ok('No growth of the memory of this process is found.')
        near = [
            (seconds, usage)
            for usage in _groups(site.context.get('cgroup') or {})
            if (seconds := growth.seconds_until(usage.used, usage.most)) is not None
        ]
        seconds, usage = min(near, key=lambda pair: pair[0], default=(math.inf, None))
        detail = 'No limit of its memory is known.'
        if usage:
            detail = (
                f'At this rate the limit of {megabytes(usage.most)} ({usage.what}) is reached in '
                f'about {duration(seconds)}.'
            )
        # A site that has just started, or a single long request, may grow for some minutes.
        is_lasting = growth.seconds >= _LASTING or seconds < _SOON
        return self.found(
            WARNING if is_lasting else INFO,
            f'The memory of this process grows: it {growth.summary}.',
            detail,
            Action(
                'Restart Zope before memory runs out.  Known issues on this page may be the cause; '
                'if there are none, find what keeps the memory, for example with "memray attach '
                '{pid}".',
                pid=site.pid,
            ),
        )


class Collector(Check):
    id = 'garbage-collector'
    question = 'Is the garbage collector on, and does it see all objects?'
    source = 'the module gc'

    def look(self, site: Site) -> Finding:
        thresholds = gc.get_threshold()
        frozen = gc.get_freeze_count()
        flags = gc.get_debug()
        if flags & gc.DEBUG_SAVEALL:
            return self.found(
                CRITICAL,
                'The garbage collector keeps all the garbage that it finds (gc.DEBUG_SAVEALL).',
                'Memory grows without end.',
                Action('Remove the call of gc.set_debug from your code.'),
            )
        if not gc.isenabled() or not thresholds[0]:
            return self.found(
                WARNING,
                'The garbage collector is off.',
                'Objects that refer to each other are never freed: memory grows.',
                Action(
                    'Remove gc.disable() or gc.set_threshold(0) from your code when the experiment '
                    'is over.'
                ),
            )
        if frozen > _FROZEN:
            return self.found(
                INFO,
                f'{frozen:,} objects are frozen: the garbage collector never looks at them.',
                'A preforking server does this on purpose, once, before it forks.',
                Action('If your server does not fork, remove gc.freeze() from your code.'),
            )
        if flags:
            return self.found(
                INFO,
                f'The garbage collector writes debug output (gc.set_debug({flags})).',
                'It writes to standard error and is slow.',
                Action('Remove gc.set_debug from your code.'),
            )
        return self.ok('The garbage collector runs.', f'Thresholds {thresholds}.')


class Allocator(Check):
    """Reads the environment that the process was started with.

    Variables set in zope.conf come too late for an allocator, see `switches.LateVariables`.
    """

    id = 'allocator'
    question = 'Is the memory allocator the intended one?'
    source = '/proc/self/environ and /proc/self/maps'

    _DEBUGGING = {'PYTHONMALLOC': ('debug', 'malloc_debug', 'pymalloc_debug', 'mimalloc_debug')}
    _CHECKING = ('MALLOC_CHECK_', 'MALLOC_PERTURB_')

    def look(self, site: Site) -> Finding | list[Finding]:
        given = started_with(site)
        if not given:
            return self.unknown('The environment that this process was started with is not known.')
        findings = [*self._slow(given), *self._preloaded(site, given)]
        facts = [
            f'{name}={given[name]}'
            for name in sorted(given)
            if name.startswith(('PYTHONMALLOC', 'MALLOC_'))
        ]
        if findings:
            return findings
        if not facts:
            return self.ok('The memory allocator has its default settings.')
        return self.ok('The memory allocator has settings that do no harm.', '; '.join(facts))

    def _slow(self, given: dict[str, str]) -> Iterator[Finding]:
        wrong = [name for name, values in self._DEBUGGING.items() if given.get(name) in values]
        wrong += [name for name in self._CHECKING if given.get(name, '0') not in ('', '0')]
        settings = dict.fromkeys(wrong, '')  # {variable: the part of its value that is wrong}
        if re.search(r'glibc\.malloc\.check=[1-9]', given.get('GLIBC_TUNABLES', '')):
            settings['GLIBC_TUNABLES'] = ' (glibc.malloc.check)'
        for name, setting in settings.items():
            yield self.found(
                WARNING,
                f'A debugging memory allocator is on: {name}{setting}.',
                'It finds damaged memory, but makes the process slow and large.',
                Action(
                    'When the experiment is over, write "unset {name}" before the line that starts '
                    'Zope, and restart.',
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
                        'Correct LD_PRELOAD: check that "{library}" exists and fits this machine.',
                        library=library,
                    ),
                    f'missing-{os.path.basename(library)}',
                )
            else:
                yield self.found(
                    INFO,
                    f'A library is preloaded into Python: {library}.',
                    'It replaces functions of the C library; it may be the cause of a crash in '
                    'malloc or free.',
                    Action('To rule it out, start Zope once with "env -u LD_PRELOAD".'),
                    f'preloaded-{os.path.basename(library)}',
                )


def started_with(site: Site) -> dict[str, str]:
    """Return the environment that this process was started with; {} if it is not known.

    A program that changes the title of its process may overwrite that memory.  So the environment
    counts as not known if fewer than half of the current variables are in it.
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
                'A kill by the OOM killer would be recognised, but only as "likely".',
                f'Known from: {facts}; no memory cgroup with a counter was found.',
                Action(
                    'Run Zope as a service of systemd, with "MemoryAccounting=yes" in its '
                    '`[Service]` section.'
                ),
            )
        return self.found(
            INFO,
            'A kill by the OOM killer would not be recognised.',
            'Neither a memory cgroup nor the kernel counts such kills here.',
            Action(
                'After a death without a trace, run "journalctl -k | grep -i oom" on the machine, '
                'or look for OOMKilled in the output of "docker inspect".'
            ),
        )
