"""The status as one line for Nagios, Icinga and others that run its plugins.

The line is `STABILITY <word> - <text> | <performance data>`, and the exit status has the meaning
that such plugins share: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.  See "Plugin Output for Nagios" and
"Performance Data" in https://www.monitoring-plugins.org/doc/guidelines.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..model.counts import counted
from ..model.jsonform import from_json
from ..model.plaintext import clean
from ..model.records import Instance
from ..model.records import duration
from ..model.records import from_isotime
from .exitstatus import WELL

#: The form of the output, beside those of `reporting.renderers.FORMATS`.
NAGIOS = 'nagios'

OK = 0
WARNING = 1
CRITICAL = 2
UNKNOWN = 3
_WORDS = ('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')

#: Characters of the text: older NRPE cuts an answer after 1,024 bytes, the performance data too.
_LONGEST = 600
#: (label, unit, key of the vital signs, key of the limit or ''); summed up over all servers.
_SUMS = (
    ('busy', '', 'in_flight', 'workers'),
    ('queue', '', 'queue', ''),
    ('connections', '', 'connections', 'connection_limit'),
    ('accept_queue', '', 'accept_queue', ''),
    ('descriptors', '', 'descriptors', 'descriptor_limit'),
    ('threads', '', 'threads', ''),
    ('rss', 'B', 'rss', ''),
)


def show(document: dict[str, Any]) -> int:
    """Print the line for a status (see `status.of`) and return its exit status."""
    problems = sorted(_problems(document), key=lambda problem: problem[0], reverse=True)
    level = problems[0][0] if problems else OK
    sentences = [sentence for _, sentence in problems] or list(_all_is_well(document))
    return _print(level, '; '.join(sentences), ' '.join(_performance(document)))


def unknown(sentence: str) -> int:
    """Print the line for a status that cannot be read, and return its exit status."""
    return _print(UNKNOWN, sentence)


def _print(level: int, text: str, performance: str = '') -> int:
    text = clean(text).replace('|', '/')  # what follows the first "|" is performance data
    if len(text) > _LONGEST:
        text = f'{text[:_LONGEST]}...'
    end = f' | {performance}' if performance else ''
    print(f'STABILITY {_WORDS[level]} - {text}{end}')
    return level


def _problems(document: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield (level, sentence) of everything that is not well."""
    servers = _servers(document)
    if not (servers or document['instances']):
        yield UNKNOWN, 'no run of a server has been recorded here yet'
    for process in document['living']:
        for level, hang in ((CRITICAL, process['hang']), (WARNING, process['delay'])):
            if hang:
                lasts = duration(hang['seconds'])
                yield level, f'process {process["pid"]}, for {lasts}: {hang["summary"]}'
    for known in document['instances']:
        label = from_json(Instance, known['instance']).label
        last = known['last_run']
        if known['crash_loop']:
            count = len(known['crash_loop'])
            yield CRITICAL, f'crash loop of {label}: {count} incidents in a row'
        elif last and last['is_open'] and document['exit_status'] != WELL:
            level = WARNING if known['living'] else CRITICAL
            now = '' if known['living'] else ' and is down'
            yield level, f'{label} ended {_ago(document, last)}{now}: {last["summary"]}'
    if document['instances'] and not servers and document['exit_status'] == WELL:
        yield WARNING, 'no server is running'


def _all_is_well(document: dict[str, Any]) -> Iterator[str]:
    count = len(_servers(document))
    yield counted(count, 'server is running', 'servers are running')
    for known in document['instances']:
        last = known['last_run']
        if last and known['living']:
            label = from_json(Instance, known['instance']).label
            yield f'the last run of {label} ended {_ago(document, last)}: {last["verdict"]}'


def _ago(document: dict[str, Any], run: dict[str, Any]) -> str:
    """For example "2 hours 3 min ago"; "at an unknown time" if that is not known."""
    now = from_isotime(document['generated'])
    ended = from_isotime(run['ended'])
    if now is None or ended is None:
        return 'at an unknown time'
    return f'{duration(max(0.0, now - ended))} ago'


def _servers(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [process for process in document['living'] if process['role'] == 'server']


# -- performance data ------------------------------------------------------------------------------


def _performance(document: dict[str, Any]) -> Iterator[str]:
    """Yield `label=value[unit];warn;crit;min;max` of all servers together.

    A value that no server knows is "U", so that the labels are always the same.
    """
    servers = _servers(document)
    vitals = [process['vitals'] or {} for process in servers]
    yield f'servers={len(servers)};;;0;'
    yield f'hanging={sum(1 for process in servers if process["hang"])};;;0;{len(servers)}'
    for label, unit, key, limit in _SUMS:
        most = _sum(vitals, limit) if limit else None
        yield f'{label}={_written(_sum(vitals, key), unit)};;;0;{"" if most is None else most}'
    waited = [each['waited'] for each in vitals if each.get('waited') is not None]
    yield f'waited={_written(max(waited, default=None), "s")};;;0;'


def _sum(vitals: list[dict[str, Any]], key: str) -> int | None:
    """Return the sum of what is known; None if nothing is."""
    known = [each[key] for each in vitals if each.get(key) is not None]
    return sum(known) if known else None


def _written(value: float | None, unit: str) -> str:
    if value is None:
        return 'U'
    number = f'{value:.3f}' if isinstance(value, float) else str(value)
    return f'{number}{unit}'
