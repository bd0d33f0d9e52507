"""The traces of a run that has ended, as short lines on which the patterns of a rule are tried."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from itertools import chain
from itertools import islice

from ..model.records import Note
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from .rules import Rule
from .symptoms import SIGNS

#: Where a stack is found.
_WithFrames = ThreadState | Note
#: Patterns are tried on at most this many different lines of each kind.
_LINES = 500
#: Characters that are kept of a line.
_LENGTH = 300
#: Innermost frames of a Python stack that may show an issue; those further out only lead there.
_FRAMES = 25
#: The same for a stack of C code.
_NATIVE = 8


class Traces:
    """The traces of one run.

    `stack` has the frames of the crashed thread; where none crashed, as in a hang, those of all.
    `messages` has what others wrote and what was found; our own summary is made from that, and is
    not in it.
    """

    def __init__(self, record: RunRecord) -> None:
        crashed = [thread for thread in record.threads if thread.crashed]
        others: list[_WithFrames] = [thread for thread in record.threads if not thread.crashed]
        others += record.stood_still
        frames = record.native[:_NATIVE]
        native = [f'{frame.binary}:{frame.symbol}' for frame in frames]
        log = [f'{line.logger}: {line.message}' for line in record.log]
        facts = [item.fact for item in record.evidence]
        self.stack = _lines(map(_frames, crashed or others))
        self.others = _lines(map(_frames, others if crashed else ()))
        self.native = _lines([native])
        self.messages = _lines([facts, record.exception.splitlines(), log])
        self.signal = record.signal or ''
        self.record = record

    def show(self, rule: Rule) -> tuple[list[tuple[str, str]], list[str]]:
        """([(kind, sentence)], [sentence]): what shows the issue, and what was recorded and does
        not show it.
        """
        answers = [SIGNS[name](self.record) for name in rule.signs]
        signs = [answer for answer in answers if answer]
        # Frames count only together with all signs that the rule asks for.
        wanted = _WANTED if len(signs) == len(rule.signs) else _WANTED[2:]
        shown: list[tuple[str, str]] = []
        against: list[str] = []
        for kind, field, tried, word in wanted:
            patterns: tuple[re.Pattern[str], ...] = getattr(rule, field)
            lines: tuple[str, ...] = getattr(self, tried)
            if not patterns:
                continue
            line = _first(patterns, lines)
            if line:
                shown.append((kind, f'{word}: {line}'))
            elif lines and kind in _TELLING:
                against.append(f'{word}: none of those recorded')
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
#: Kinds that speak against an issue where they were recorded and no pattern matches.
_TELLING = ('stack', 'native')


def _frames(thread: _WithFrames) -> Iterator[str]:
    for frame in thread.frames[:_FRAMES]:
        yield f'{frame.file}:{frame.function}'


def _lines(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The different lines, each once; of a long line its end, where the names of files differ."""
    found: dict[str, None] = {}
    for line in islice(chain.from_iterable(groups), 4 * _LINES):
        words = line[-4 * _LENGTH :].split()
        found[' '.join(words)[-_LENGTH:]] = None
    return tuple(found)[:_LINES]


def _first(patterns: Iterable[re.Pattern[str]], lines: Iterable[str]) -> str:
    for pattern in patterns:
        for line in lines:
            if pattern.search(line):
                return line
    return ''
