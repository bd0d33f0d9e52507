"""The traces of a run that has ended, as short lines for the patterns of rules to search."""

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

#: The records that have a stack.
_WithFrames = ThreadState | Note
#: Patterns are searched in at most this many different lines of each kind.
_LINES = 500
#: At most this many characters of a line are kept.
_LENGTH = 300
#: Only this many innermost frames of a Python stack are searched; outer frames only lead to them.
_FRAMES = 25
#: Only this many innermost frames of a C stack are searched.
_NATIVE = 8


@dataclass(frozen=True)
class Shown:
    """The signs of a run that show an issue, and sentences on traces that do not show it."""

    signs: tuple[Sign, ...]
    against: tuple[str, ...]


class Traces:
    """The traces of one run.

    `stack` has the frames of the crashed thread; if no thread crashed, as in a hang, the frames of
    all threads.  `messages` has the last words of C code, the evidence, the exception and the log
    lines, but not the summary of this product, which is made from them.
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
        self.messages = _different([*record.last_words, *facts, *exception, *log])
        self.signal = record.signal or ''
        self.record = record

    def show(self, rule: Rule) -> Shown:
        """Return the signs that show the issue of a rule, and the sentences against it."""
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
            elif lines and search.is_decisive:
                against.append(f'{search.word}: no recorded one matches')
        if self.signal in rule.signals:
            shown.append(Sign('signal', f'signal: {self.signal}'))
        return Shown((*shown, *signs), tuple(against))


@dataclass(frozen=True)
class _Search:
    """Where to search for one kind of sign.

    `patterns` is a field of the rule, `lines` a field of Traces, `word` its name in the sentence.
    `in_frames`: a match counts only if the run also shows all `signs` of the rule.  `is_decisive`:
    if lines were recorded and no pattern matches, that is a reason against the issue.
    """

    kind: str
    patterns: str
    lines: str
    word: str
    in_frames: bool = False
    is_decisive: bool = False


_SEARCHES = (
    _Search(
        'stack',
        patterns='frames',
        lines='stack',
        word='frame',
        in_frames=True,
        is_decisive=True,
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
        is_decisive=True,
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
    """Return each line once.  A long line is cut to its end, because there file names differ."""
    found: dict[str, None] = {}
    for line in islice(lines, 4 * _LINES):
        end = line[-4 * _LENGTH :]
        words = ' '.join(end.split())
        found[words[-_LENGTH:]] = None
    return tuple(found)[:_LINES]


def _first(patterns: Patterns, lines: Iterable[str]) -> str:
    """Return the first line that matches a pattern; '' if none does.  Earlier patterns win."""
    for pattern in patterns:
        for line in lines:
            if pattern.search(line):
                return line
    return ''
