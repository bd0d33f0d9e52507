"""The table of verdicts: how a run can end, and the words and colours for each.

A new verdict needs a row here and a rule in `postmortem.verdict` (CONTRIBUTING.rst has all steps).
`running` is never judged.  `killed` and `exited` have no rule yet.  The legend of the charts has
the order of this table: wanted ends first, unreadable records last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Verdict:
    """One verdict, and how pages and charts show it.

    `ending` follows the words "The last run" or "This run"; `label` is for the legend of a chart.
    `colour` is the colour of the bar in the timeline; similar ends share one.  `letter`, which
    occurs once, is the mark of an incident there; '' is for a wanted end, which is no incident.
    """

    code: str
    ending: str
    label: str
    colour: str
    letter: str = ''
    is_crash: bool = False

    @property
    def is_wanted(self) -> bool:
        return not self.letter


# White letters on these colours have a contrast of at least 4.5.
_ORANGE = '#c05500'
_BROWN = '#7a3b00'
_BLUE = '#0072b2'
_GREY = '#6b6b6b'

_ROWS = (
    Verdict('running', 'is still running', 'running', '#56b4e9'),
    Verdict('stopped', 'was stopped as asked', 'stopped as asked', '#009e73'),
    Verdict(
        'host-restarted', 'ended when the machine was restarted', 'machine restarted', '#8fb8a8'
    ),
    Verdict('crashed', 'crashed', 'crashed', _ORANGE, 'C', is_crash=True),
    Verdict(
        'stack-overflow',
        'crashed: its stack overflowed',
        'stack overflow',
        _ORANGE,
        'S',
        is_crash=True,
    ),
    Verdict('aborted', 'was aborted', 'aborted', _ORANGE, 'A', is_crash=True),
    Verdict('out-of-memory', 'was killed: memory ran out', 'out of memory', '#aa4499', 'M'),
    Verdict('hung', 'was hanging', 'hung', '#946c09', 'H'),
    Verdict('startup-failed', 'failed to start', 'startup failed', _BROWN, 'F'),
    Verdict(
        'unhandled-exception',
        'ended with an unhandled exception',
        'unhandled exception',
        _BROWN,
        'E',
    ),
    Verdict('signalled', 'was ended by a signal', 'ended by a signal', _BLUE, 'G'),
    Verdict('killed', 'was killed', 'killed', _BLUE, 'K'),
    Verdict('exited', 'exited without clean-up', 'exited from C', _BLUE, 'X'),
    Verdict('vanished', 'vanished without a trace', 'vanished', '#4d4d4d', '?'),
    Verdict('unreadable', 'left an unreadable record', 'record unreadable', _GREY, '!'),
)
VERDICTS: Mapping[str, Verdict] = MappingProxyType({row.code: row for row in _ROWS})
#: The codes of ends that are no incidents; lists of 10,000 runs ask for each.
WANTED = frozenset(row.code for row in _ROWS if row.is_wanted)


def verdict(code: str) -> Verdict:
    """The row of a code; for a code of a later release, a row that shows the code itself."""
    return VERDICTS.get(code) or Verdict(code, code, 'unknown', _GREY, '!')
