"""The result of the recursion probe: kept on disk while it is valid, and shown as a finding.

It is valid as long as Python, machine, C library, stack size and recursion limit are the same.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..model.action import NOTHING
from ..model.action import Action
from ..model.finding import Finding
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import WARNING
from ..model.severities import Severity
from ..store.rundirectory import read_json
from ..store.rundirectory import write_whole

#: A stack that survives with less than this share to spare causes a warning.
_SPARE = 1 / 4
#: The largest stack that is tried, in bytes.  A child may fill all of it, so it needs this memory.
LARGEST = 64 << 20


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe.  Sizes are in bytes, `took` is in seconds.

    If `error` is not '', the probe failed, and `error` is a sentence that says why.  `smallest` is
    the smallest size that survives every way, 0 if no size up to LARGEST does.

    If a thread with `stack_size` does not survive, `ways` are all ways that kill it.  If it does,
    `ways` has the first way that kills a thread whose stack is one step smaller than `smallest`.
    `signal` is the signal of the first of these ways; '' if the exit status was lost, or if the
    system allows no smaller stack.
    """

    stack_size: int
    recursion_limit: int
    survives: bool = False
    ways: tuple[str, ...] = ()
    signal: str = ''
    smallest: int = 0
    python: str = ''
    took: float = 0.0
    error: str = ''


def keep(file: Path, result: ProbeResult) -> None:
    """Write the result to a file.  Raises OSError."""
    document = {
        'key': _key(result.stack_size, result.recursion_limit),
        'result': to_json(result),
    }
    write_whole(file, json.dumps(document))


def read(
    file: Path,
    stack_size: int,
    recursion_limit: int = 0,
) -> ProbeResult | None:
    """Return the kept result; None if Python, machine, program, stack or limit are different."""
    document = read_json(file)
    values = document.get('result')
    if not isinstance(values, dict):
        return None
    # The key is computed only if there is a result: it imports the ways to recurse, which a start
    # does not need.
    limit = recursion_limit or sys.getrecursionlimit()
    if document.get('key') != _key(stack_size, limit):
        return None
    try:
        return from_json(ProbeResult, values, strict=True)
    except ValueError:  # damaged
        return None


def _key(stack_size: int, recursion_limit: int) -> str:
    """The hash of everything that can change the result: Python, machine, C library, ways ..."""
    world = [
        sys.version,
        sys.executable,
        platform.machine(),
        platform.libc_ver(),
        list(_ways()),
        stack_size,
        recursion_limit,
    ]
    return hashlib.sha256(json.dumps(world).encode()).hexdigest()


def _ways() -> Mapping[str, object]:
    """The ways to recurse.  Like the rest of the experiment, they are imported only when needed."""
    from .recursionprogram import WAYS

    return WAYS


# -- the finding -----------------------------------------------------------------------------------


def finding(result: ProbeResult) -> Finding:
    """Return the finding: does a recursion to the limit raise an exception or kill the process?"""
    severity, title = _severity_and_title(result)
    if result.error:
        detail = result.error
        action = Action('Remove the cause, and run the probe again.')
    else:
        detail = (
            f'With a recursion limit of {result.recursion_limit} and {result.stack_size >> 10} KiB '
            f'of stack, a thread {_outcome(result)}'
        )
        action = NOTHING if severity == OK else _advice(result)
    return Finding('recursion-probe', severity, title, detail, action, 'recursion probe')


def _severity_and_title(result: ProbeResult) -> tuple[Severity, str]:
    if result.error:
        return (
            INFO,
            'The recursion probe gave no answer.',
        )
    if not result.survives:
        return CRITICAL, 'A deep recursion kills this process instead of raising RecursionError.'
    if result.smallest > result.stack_size * (1 - _SPARE):
        return (
            WARNING,
            'A deep recursion ends with RecursionError, but leaves little stack to spare.',
        )
    return OK, 'A deep recursion ends with RecursionError.'


def _outcome(result: ProbeResult) -> str:
    """How a recursion ended, and which stack size is enough."""
    if result.smallest:
        needs = f'{result.smallest >> 10} KiB are enough.'
    else:
        needs = f'{LARGEST >> 10} KiB are not enough.'
    if result.survives:
        return f'survives a recursion to the limit through C code; {needs}'
    by = f' by {result.signal}' if result.signal else ''
    some = ', '.join(result.ways[:3])
    if len(result.ways) > 3:
        some += ', ...'
    return (
        f'dies{by} in {len(result.ways)} of {len(_ways())} ways to recurse through C code '
        f'({some}); {needs}'
    )


def _advice(result: ProbeResult) -> Action:
    if not result.smallest:
        return Action(
            'Find the code that calls sys.setrecursionlimit, and give it a smaller number: no '
            'reasonable stack holds that many calls.'
        )
    megabytes = max(8, -(-2 * result.smallest >> 20))
    return Action(
        'Write "thread-stack-size {size}MB" into `<product-config stabilitymonitor>` of zope.conf '
        'and restart.',
        size=megabytes,
    )
