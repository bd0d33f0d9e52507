"""The features of a run that are compared with those of others.  A record in, values out.

What only the whole record tells is kept beside it (`features_of`): so hundreds of runs can be
compared without reading their records.  What its summary tells is made from that
(`features_of_summary`).  Sets of distributions and modules are large, and many runs share them,
so that only the digests of the sets are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.feature import HOUR
from ..model.feature import INSTALLED
from ..model.feature import MEMORY
from ..model.feature import MEMORY_SHARE
from ..model.feature import OBJECTS
from ..model.feature import PATH
from ..model.feature import PYTHON
from ..model.feature import THREADS
from ..model.feature import USER
from ..model.feature import ZOPE
from ..model.feature import Feature
from ..model.records import local_time
from ..model.runrecord import RunRecord
from ..store import objectsets
from . import pathtemplates

#: The steps of what is compared with "at least": percent of the limit, MiB, and threads.
STEPS: dict[str, tuple[int, ...]] = {
    MEMORY_SHARE: (50, 80, 90, 95),
    MEMORY: tuple(128 << power for power in range(14)),
    THREADS: tuple(8 << power for power in range(12)),
}
#: At most this many different paths and users of one run count.
_MOST = 32
_MIB = 1 << 20


def features_of(record: RunRecord) -> tuple[Feature, ...]:
    """Return the features that only the whole record of a run tells."""
    found = [
        Feature(kind, str(_highest(STEPS[kind], amount)))
        for kind, amount in amounts_of(record).items()
    ]
    python = _word(record.context.get('python'))
    if python:
        found.append(Feature(PYTHON, 'Python', python))
    software = record.context.get('software')
    zope = _word(software.get('zope')) if isinstance(software, dict) else ''
    if zope:
        found.append(Feature(ZOPE, 'Zope', zope))
    installed = _word(record.context.get('installed'))
    if installed:
        found.append(Feature(INSTALLED, installed))
    if record.shared_objects:
        found.append(Feature(OBJECTS, objectsets.digest_of(record.shared_objects)))
    return tuple(found)


def features_of_summary(record: RunRecord) -> tuple[Feature, ...]:
    """Return the features that also the summary of a run tells: paths, users and the hour.

    The hour is that of the time zone of this process, as each time that people see.
    """
    paths = sorted({pathtemplates.template(request.path) for request in record.requests} - {''})
    users = sorted({request.user for request in record.requests} - {''})
    found = [Feature(PATH, path) for path in paths[:_MOST]]
    found += [Feature(USER, who=user) for user in users[:_MOST]]
    ended = local_time(record.ended)
    if ended:
        found.append(Feature(HOUR, str(ended.hour)))
    return tuple(found)


def reached(feature: Feature) -> tuple[Feature, ...]:
    """Return all steps that a run with this feature has reached; others stand for themselves."""
    steps = STEPS.get(feature.kind)
    if steps is None:
        return (feature,)
    if not feature.name.isdecimal():  # it is from a file
        return ()
    most = int(feature.name[:9])
    return tuple(Feature(feature.kind, str(step)) for step in steps if step <= most)


def amounts_of(record: RunRecord) -> dict[str, int]:
    """Return {kind: percent of the limit, MiB, or threads} at the end of a run, as far as known."""
    if not record.samples:
        return {}
    last = max(record.samples, key=lambda sample: sample.monotonic)
    found = {}
    if last.cgroup_limit > 0 and last.cgroup_current >= 0:
        found[MEMORY_SHARE] = last.cgroup_current * 100 // last.cgroup_limit
    if last.rss >= 0:
        found[MEMORY] = last.rss // _MIB
    if last.threads >= 0:
        found[THREADS] = last.threads
    return found


def versions_of(record: RunRecord) -> dict[str, str]:
    """Return {distribution: version} of a whole record; {} if they are not known."""
    known = record.context.get('distributions')
    if not isinstance(known, dict):
        return {}
    return {str(name): value for name, value in known.items() if isinstance(value, str) and value}


def _highest(steps: Sequence[int], number: int) -> int:
    return max((step for step in steps if step <= number), default=0)


def _word(text: object) -> str:
    """Return the first word of a text from a file; '' for anything else."""
    words = text.split(maxsplit=1) if isinstance(text, str) else []
    return words[0][:100] if words else ''
