"""What is different from the last run of the same kind that ended as wanted.  Values in, values
out.

Nothing that a site may hide is told: of the options only those that are numbers or switches.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from ..model.options import from_record
from ..model.records import Instance
from ..model.reportparts import Change
from ..model.runrecord import RunRecord

#: {key of a context: name for people}, then of its part `software`.
_SOFTWARE = {'python': 'Python', 'libc': 'C library', 'platform': 'kernel'}
_OF_ZOPE = {'zope': 'Zope', 'plone': 'Plone'}
_SETTINGS = {
    'core_pattern': 'core_pattern',
    'supervisor': 'supervisor',
    'recursion_limit': 'recursion limit',
    'thread_stack': 'stack of a thread',
    'container': 'container',
}
#: Changes of distributions and modules beyond these are not told.
_MOST = 500


@dataclass(frozen=True)
class RunFacts:
    """What a run was: its context, {distribution: version}, and its compiled modules.

    An empty value stands for "not known".
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    modules: Collection[str] = ()


def last_stable(
    summaries: Iterable[RunRecord], role: str, instance: Instance, before: int | None = None
) -> RunRecord | None:
    """Return the newest run of the same kind that ended as wanted; `summaries` are newest first.

    `before` is the number of the run that is compared; None: it lives.
    """
    for run in summaries:
        is_earlier = before is None or run.number < before
        is_alike = run.role == role and run.instance == instance
        if is_earlier and is_alike and not run.is_incident and not run.drill:
            return run
    return None


def changes(before: RunFacts, now: RunFacts) -> tuple[Change, ...]:
    """Return what differs.  What one of the two does not know is no difference."""
    found: list[Change] = []
    found += _of_keys('software', _SOFTWARE, before.context, now.context)
    found += _of_keys('software', _OF_ZOPE, _software(before), _software(now))
    if before.versions and now.versions:
        found += _different('distribution', before.versions, now.versions)
    if before.modules and now.modules:
        found += _different(
            'module', dict.fromkeys(before.modules, 'loaded'), dict.fromkeys(now.modules, 'loaded')
        )
    found += _of_options(before, now)
    found += _of_keys('setting', _SETTINGS, before.context, now.context)
    threads = {'threads': 'worker threads', 'debug_mode': 'debug-mode'}
    found += _of_keys('setting', threads, _software(before), _software(now))
    found += _of_limits(before, now)
    return tuple(found)


def _software(facts: RunFacts) -> Mapping[str, Any]:
    software = facts.context.get('software')
    return software if isinstance(software, dict) else {}


def _of_keys(
    kind: str, names: Mapping[str, str], before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[Change]:
    for key, name in names.items():
        if key in before and key in now:
            then, today = _words(before[key]), _words(now[key])
            if then != today:
                yield Change(kind, name, then, today)


def _different(kind: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterable[Change]:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    for name in names[:_MOST]:
        yield Change(kind, name, before.get(name, ''), now.get(name, ''))


def _of_options(before: RunFacts, now: RunFacts) -> Iterator[Change]:
    one, other = (from_record(facts.context.get('options')) for facts in (before, now))
    for name in sorted(one.keys() & other.keys()):
        is_told = not isinstance(other[name], str)
        if is_told and one[name] != other[name]:
            yield Change('option', name, _words(one[name]), _words(other[name]))


def _of_limits(before: RunFacts, now: RunFacts) -> Iterator[Change]:
    one, other = before.context.get('limits'), now.context.get('limits')
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() & other.keys()):
            then, today = _words(one[name]), _words(other[name])
            if then != today:
                yield Change('setting', f'RLIMIT_{name}', then, today)


def _words(value: object) -> str:
    """Return a value of a context for a person.

    A pair is a list in a file, and a tuple in this process.
    """
    if isinstance(value, list | tuple):
        return ', '.join(map(str, value[:4]))
    if isinstance(value, bool):
        return 'on' if value else 'off'
    return '' if value is None else str(value)[:300]
