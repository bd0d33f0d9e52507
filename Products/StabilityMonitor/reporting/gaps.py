"""What this host could not tell about the end of a run, and why: from facts of its record.

Values in, values out; `model.reportparts` has the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from ..model.reportparts import Gap
from ..model.runrecord import RunRecord
from ..model.verdicts import verdict
from ..model.witnesses import SOURCES
from ..system import corepattern

#: Verdicts after which the kernel may have written a core file.
_WITH_CORE = ('crashed', 'stack-overflow', 'aborted')


def of_record(record: RunRecord, versions: Mapping[str, str]) -> list[Gap]:
    """Return what is not known about a dead run; `versions` are those of what was installed."""
    found: list[Gap] = []
    if not record.is_incident:
        return found
    if record.ended_before is not None:
        found.append(Gap('end', 'not-recorded'))
    if record.verdict == 'vanished' or not (record.signal or record.exit_code is not None):
        found += _of_status(record)
    if record.verdict == 'unreadable':
        found.append(Gap('black-box', 'damaged'))
    elif not (record.samples or record.recent or record.requests):
        found.append(Gap('black-box', 'not-recorded'))
    if verdict(record.verdict).is_crash:
        found += _of_stacks(record)
    if record.verdict in _WITH_CORE:
        found += _of_core(record)
    if not versions:
        found.append(Gap('versions', 'not-recorded'))
    return found


def _of_status(record: RunRecord) -> Iterator[Gap]:
    """Others saw it, but could not tell the status: the kernel tells another Zope only the end."""
    seen = [amendment.source for amendment in record.amendments if amendment.source in SOURCES]
    yield Gap('status', 'not-recorded' if seen else 'nobody-saw')


def _of_stacks(record: RunRecord) -> Iterator[Gap]:
    if not any(thread.frames for thread in record.threads):
        yield Gap('python-stacks', 'not-recorded')
    elif any(thread.cut for thread in record.threads):
        yield Gap('python-stacks', 'cut')
    native = record.native or (record.core and record.core.crashed)
    if not native:
        yield Gap('native-stack', 'not-recorded')


def _of_core(record: RunRecord) -> Iterator[Gap]:
    core = record.core
    if core is None:
        yield _without_core(record)
    elif not core.reader:
        yield Gap('core-file', 'not-read', core.path)
    else:
        for sentence in core.incomplete:
            yield Gap('core-file', 'incomplete', core.path, sentence)


def _without_core(record: RunRecord) -> Gap:
    """Return why there is no core file, as far as the context of the run tells."""
    context = record.context
    text = context.get('core_pattern')
    if not isinstance(text, str):
        return Gap('core-file', 'not-found')
    pattern = corepattern.parse(text, '/')
    limits = context.get('limits')
    limit = limits.get('CORE') if isinstance(limits, dict) else None
    soft = limit[0] if isinstance(limit, list | tuple) and limit else None
    if pattern.kind == corepattern.NONE:
        return Gap('core-file', 'switched-off', detail=f'core_pattern is "{pattern.text}"')
    if soft == 0 and pattern.kind != corepattern.SOCKET:
        return Gap('core-file', 'switched-off', detail='RLIMIT_CORE is 0')
    if pattern.kind != corepattern.FILE:
        return Gap('core-file', 'kept-elsewhere', detail=f'core_pattern is "{pattern.text}"')
    return Gap('core-file', 'not-found', pattern.folder)
