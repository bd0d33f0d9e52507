"""What a run that has ended has left, as lines that the patterns of a rule are tried on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from itertools import chain
from itertools import islice
from typing import Any

from ..model.runrecord import RunRecord
from .rules import Rule
from .symptoms import SIGNS

#: Different lines of each kind of trace, and characters of one, that patterns are tried on.
_LINES, _LENGTH = 500, 300
#: Innermost frames of a stack, in Python and in C, that may show an issue; those further out only
#: lead there.
_FRAMES, _NATIVE = 25, 8


class Traces:
    """What a run has left, as short lines that patterns are tried on.

    `stack` is that of the crashed thread; where none crashed, as in a hang, those of all.
    """

    def __init__(self, record: RunRecord) -> None:
        crashed = [thread for thread in record.threads if thread.get('crashed')]
        others = [
            thread for thread in (*record.threads, *record.stood_still) if not thread.get('crashed')
        ]
        self.stack = _lines(map(_frames, crashed or others))
        self.others = _lines(map(_frames, others if crashed else ()))
        self.native = _lines(
            [[f'{frame.get("binary")}:{frame.get("symbol")}' for frame in record.native[:_NATIVE]]]
        )
        self.messages = _lines(
            [
                [record.summary],
                [item.fact for item in record.evidence],
                record.exception.splitlines(),
                [f'{line.get("logger")}: {line.get("message")}' for line in record.log],
            ]
        )
        self.signal = record.signal or ''
        self.record = record

    def show(self, rule: Rule) -> tuple[list[tuple[str, str]], list[str]]:
        """([(kind, sentence)], [sentence]): what shows the issue, and what was recorded and does
        not.
        """
        signs = [sign for name in rule.signs if (sign := SIGNS[name](self.record))]
        shown: list[tuple[str, str]] = []
        against: list[str] = []
        wanted = _WANTED if len(signs) == len(rule.signs) else _WANTED[2:]
        for kind, patterns, tried, word in wanted:
            lines = getattr(self, tried)
            if getattr(rule, patterns):
                line = _first(getattr(rule, patterns), lines)
                shown += [(kind, f'{word}: {line}')] if line else []
                against += (
                    [f'{word}: none of those recorded']
                    if lines and not line and kind in _TELLING
                    else []
                )
        if self.signal in rule.signals:
            shown.append(('signal', f'signal: {self.signal}'))
        return shown + signs, against


#: Kind, patterns of the rule, lines that they are tried on, and the word for it; frames first.
_WANTED = (
    ('stack', 'frames', 'stack', 'frame'),
    ('frame', 'frames', 'others', 'frame of another thread'),
    ('native', 'native', 'native', 'native frame'),
    ('message', 'messages', 'messages', 'message'),
)
_TELLING = ('stack', 'native')


def _frames(thread: dict[str, Any]) -> Iterator[str]:
    return (
        f'{frame.get("file")}:{frame.get("function")}'
        for frame in thread.get('frames', ())[:_FRAMES]
    )


def _lines(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Different lines, the ends of long ones: files differ at their end."""
    lines = islice(chain.from_iterable(groups), 4 * _LINES)
    return tuple(
        dict.fromkeys(' '.join(line[-4 * _LENGTH :].split())[-_LENGTH:] for line in lines)
    )[:_LINES]


def _first(patterns: Iterable[re.Pattern[str]], lines: Iterable[str]) -> str:
    return next((line for pattern in patterns for line in lines if pattern.search(line)), '')
