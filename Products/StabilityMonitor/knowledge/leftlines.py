"""The traces of a run that has ended, as short lines on which the patterns of a rule are tried."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ..model.records import Note
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from .rules import Patterns
from .rules import Rule
from .symptoms import SIGNS
from .symptoms import Sign

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


@dataclass(frozen=True)
class Shown:
    """What of a run shows an issue, and sentences on what was recorded and does not show it."""

    signs: tuple[Sign, ...]
    against: tuple[str, ...]


class Traces:
    """The traces of one run.

    `stack` has the frames of the crashed thread; where none crashed, as in a hang, those of all.
    `messages` has what others wrote and what was found; our own summary is made from that, and is
    not in it.
    """

    def __init__(self, record: RunRecord) -> None:
        crashed: list[_WithFrames] = []
        others: list[_WithFrames] = []
        for thread in record.threads:
            if thread.crashed:
                crashed.append(thread)
            else:
                others.append(thread)
        others.extend(record.stood_still)
        if not crashed:
            crashed = others
            others = []
        innermost = record.native[:_NATIVE]
        native = [f'{frame.binary}:{frame.symbol}' for frame in innermost]
        facts = [item.fact for item in record.evidence]
        exception = record.exception.splitlines()
        log = [f'{line.logger}: {line.message}' for line in record.log]
        self.stack = _different(_frames(crashed))
        self.others = _different(_frames(others))
        self.native = _different(native)
        self.messages = _different([*facts, *exception, *log])
        self.signal = record.signal or ''
        self.record = record

    def show(self, rule: Rule) -> Shown:
        """What shows the issue of a rule, and what speaks against it."""
        signs = []
        for name in rule.signs:
            sign = SIGNS[name](self.record)
            if sign:
                signs.append(sign)
        has_all_signs = len(signs) == len(rule.signs)
        shown = []
        against = []
        for search in _SEARCHES:
            if search.in_frames and not has_all_signs:
                continue
            patterns: Patterns = getattr(rule, search.patterns)
            lines: tuple[str, ...] = getattr(self, search.lines)
            if not patterns:
                continue
            line = _first(patterns, lines)
            if line:
                sentence = f'{search.word}: {line}'
                shown.append(Sign(search.kind, sentence))
            elif lines and search.is_telling:
                against.append(f'{search.word}: none of those recorded')
        if self.signal in rule.signals:
            shown.append(Sign('signal', f'signal: {self.signal}'))
        return Shown((*shown, *signs), tuple(against))


@dataclass(frozen=True)
class _Search:
    """Where to look for one kind of sign.

    `patterns` is a field of the rule, `lines` one of the Traces, `word` what the sentence calls it.
    `in_frames`: it counts only together with all signs that the rule asks for.  `is_telling`: lines
    that were recorded speak against the issue where no pattern matches.
    """

    kind: str
    patterns: str
    lines: str
    word: str
    in_frames: bool = False
    is_telling: bool = False


_SEARCHES = (
    _Search(
        'stack',
        patterns='frames',
        lines='stack',
        word='frame',
        in_frames=True,
        is_telling=True,
    ),
    _Search(
        'frame',
        patterns='frames',
        lines='others',
        word='frame of another thread',
        in_frames=True,
    ),
    _Search(
        'native',
        patterns='native',
        lines='native',
        word='native frame',
        is_telling=True,
    ),
    _Search(
        'message',
        patterns='messages',
        lines='messages',
        word='message',
    ),
)


def _frames(threads: Iterable[_WithFrames]) -> Iterator[str]:
    for thread in threads:
        for frame in thread.frames[:_FRAMES]:
            yield f'{frame.file}:{frame.function}'


def _different(lines: Iterable[str]) -> tuple[str, ...]:
    """The different lines, each once; of a long line its end, where the names of files differ."""
    found: dict[str, None] = {}
    for line in islice(lines, 4 * _LINES):
        end = line[-4 * _LENGTH :]
        words = ' '.join(end.split())
        found[words[-_LENGTH:]] = None
    return tuple(found)[:_LINES]


def _first(patterns: Patterns, lines: Iterable[str]) -> str:
    """The line that shows the first pattern that is shown at all, or ''."""
    for pattern in patterns:
        for line in lines:
            if pattern.search(line):
                return line
    return ''
