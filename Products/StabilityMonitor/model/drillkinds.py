"""What each drill should be reported as: the page of drills says it, and the incident compares.

`zmi.drills` performs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: {id of a drill: the verdict of the next process}
VERDICTS_OF_DRILLS = {
    'segfault': 'crashed',
    'abort': 'aborted',
    'fatal-error': 'aborted',
    'stack-overflow': 'stack-overflow',
    'exit': 'vanished',
    'kill': 'vanished',
    'memory': 'out-of-memory',
    'gil': 'hung',
    'lock': 'hung',
}
#: {id of a drill: the verdict if a witness has seen the exit status, see `model.witnesses`}
WITH_WITNESS = {'exit': 'exited', 'kill': 'killed'}
#: The drills whose only trace is a dump in the fault log.
_DUMPED = ('segfault', 'abort', 'stack-overflow')
#: {kind of an output in a run context: words for it}
_KINDS = {'closed': 'closed', 'other': 'no file'}


@dataclass(frozen=True)
class Expectation:
    """The verdict that a drill should lead to; `since` is the reason if it is not the usual one."""

    verdict: str
    since: str = ''

    def __str__(self) -> str:
        return f'{self.verdict}, since {self.since}' if self.since else self.verdict


def expectation(
    drill: str, context: Mapping[str, Any], has_fault_log: bool = True
) -> Expectation | None:
    """Return what the drill with this id should be reported as; None for an unknown id.

    `context` is the context of the run, which may come from a damaged file.
    """
    usual = VERDICTS_OF_DRILLS.get(drill)
    if usual is None:
        return None
    if drill in _DUMPED and not has_fault_log:
        return Expectation('vanished', 'the fault log is off')
    if drill == 'fatal-error':
        kind = _kind_of_stderr(context)
        if kind != 'file':
            what = _KINDS.get(kind, f'a {kind}')
            return Expectation('vanished', f'standard error is {what}')
    return Expectation(usual)


def _kind_of_stderr(context: Mapping[str, Any]) -> str:
    """Return the kind of standard error, see `runcontext.output`; "file" if it is not known."""
    outputs = context.get('outputs')
    output = outputs.get('2') if isinstance(outputs, dict) else None
    kind = output.get('kind') if isinstance(output, dict) else None
    return kind if isinstance(kind, str) else 'file'
