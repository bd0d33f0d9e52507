"""The words for vital signs: what is not known is said to be not known."""

from __future__ import annotations

from collections.abc import Iterator

from ..inspection.vitalsnow import VitalsNow
from ..model.counts import counted
from ..model.records import Sample
from ..model.records import duration
from .axes import size

NOT_KNOWN = 'not known'
#: Why nothing is known about the server.
NO_SERVER = 'not known (the server is not waitress, or is not found yet)'


def facts(now: VitalsNow) -> Iterator[tuple[str, str]]:
    """Yield (label, words) for each vital sign of a living process."""
    sample = now.sample
    yield 'Requests that wait for a worker', _queue(sample)
    yield 'Connections', _of(sample.connections, sample.connection_limit, NO_SERVER)
    yield 'Connections that wait in the kernel', _count(sample.accept_queue)
    yield 'Failed accept()', _failed(now)
    yield 'Open descriptors', _of(sample.descriptors, sample.descriptor_limit, NOT_KNOWN)
    yield 'Memory', _memory(sample)
    yield 'Growth of memory', _growth(now)


def of_the_end(sample: Sample) -> Iterator[str]:
    """Yield what a sample of a dead run says about the server, as far as it was known."""
    if sample.queue >= 0:
        words = f'requests waiting for a worker {sample.queue}'
        if sample.queue and sample.waited >= 0:
            words += f' (the oldest for {sample.waited:.1f} s)'
        yield words
    if sample.connections >= 0:
        yield f'connections {_of(sample.connections, sample.connection_limit, "")}'
    if sample.accept_queue >= 0:
        yield f'waiting in the kernel {sample.accept_queue}'
    if sample.accept_errors > 0:
        yield f'failed accept() {sample.accept_errors:,}'


def _queue(sample: Sample) -> str:
    if sample.queue < 0:
        return NO_SERVER
    if sample.queue and sample.waited >= 0:
        return f'{sample.queue:,}, the oldest for {sample.waited:.1f} s'
    return f'{sample.queue:,}'


def _count(number: int) -> str:
    return f'{number:,}' if number >= 0 else NOT_KNOWN


def _of(number: int, limit: int, unknown: str) -> str:
    """For example "97 of 100"."""
    if number < 0:
        return unknown
    return f'{number:,} of {limit:,}' if limit > 0 else f'{number:,}'


def _failed(now: VitalsNow) -> str:
    count = now.sample.accept_errors
    if count < 0:
        return 'not known (the server does not log it)'
    if count == 0:
        return 'never'
    words = f'{counted(count, "time")} since the start'
    if now.new_errors >= 0:
        words += f', {now.new_errors:,} of them in the last {duration(now.span)}'
    return words


def _growth(now: VitalsNow) -> str:
    if now.growth is None:
        return 'none was found'
    if now.seconds_to_limit is None:
        return now.growth.summary
    left = duration(now.seconds_to_limit)
    return f'{now.growth.summary}; its memory cgroup is full in about {left} at this rate'


def _memory(sample: Sample) -> str:
    if sample.rss < 0:
        return NOT_KNOWN
    words = size(sample.rss)
    if sample.cgroup_current >= 0 and sample.cgroup_limit > 0:
        group = f'{size(sample.cgroup_current)} of {size(sample.cgroup_limit)}'
        words += f'; its memory cgroup {group}'
    return words
