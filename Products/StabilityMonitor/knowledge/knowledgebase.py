"""The knowledge base of crashes: reads the rules, and compares them with a system or a dead run.

A file is a list of `[[issue]]` and `[[silence]]` tables.  Each table is read alone, so that a
broken one does not harm the others; a line that begins with `[[` therefore always begins a table.
To compare versions needs the library `packaging`, which Zope does not bring.  Without it there are
no rules, and one finding says so.
"""

from __future__ import annotations

import functools
import re
import tomllib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from datetime import date
from datetime import datetime
from pathlib import Path
from typing import Any

from ..model.action import Action
from ..model.finding import Finding
from ..model.runrecord import KnownIssue
from ..model.runrecord import RunRecord
from ..model.severities import WARNING
from ..store.regularfiles import read_start
from ..store.rundirectory import KNOWN_ISSUES
from .conditions import hold
from .leftlines import Traces
from .rules import EFFECTS
from .rules import KINDS
from .rules import Rule
from .rules import Silence
from .rules import checked
from .rules import has_packaging
from .systemfacts import System
from .systemfacts import of_run

SHIPPED = Path(__file__).with_name('known_issues.toml')
#: The most bytes of a file.
FILE_LIMIT = 512 << 10
#: The most bytes of one table.
TABLE_LIMIT = 16 << 10
#: The most tables in a file.
TABLES = 1000
#: The most problems that are told of one file.
_PROBLEMS = 50

WITHOUT_PACKAGING = (
    'Known issues are not looked up: the library "packaging" that compares '
    'versions is not installed.'
)
_TABLE = re.compile(rb'^[ \t]*\[\[', re.M)
_AT_LINE = re.compile(r' ?\(at (?:line (\d+), column \d+|end of document)\)')


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of rules, and in which line (0: no line in particular)."""

    line: int
    sentence: str
    file: str = ''
    lacks: str = ''  # a library without which no file is read

    @property
    def finding(self) -> Finding:
        return self.finding_with('pip')

    def finding_with(self, pip: str) -> Finding:
        """The finding; `pip` is the command that installs into this Python."""
        if self.lacks:
            return Finding(
                'known-issues-off',
                WARNING,
                self.sentence,
                action=Action('Install it: `{pip} install {lacks}`', pip=pip, lacks=self.lacks),
            )
        where = f'{self.file}, line {self.line}' if self.line else self.file
        return Finding(
            f'known-issues-{self.file}-{self._mark}',
            WARNING,
            f'{where}: {self.sentence}',
            'The other rules count.',
            Action('Correct {where}.', where=where),
        )

    @property
    def _mark(self) -> str:
        """Without the line: an edit elsewhere in the file must not unmute the finding."""
        return f'{zlib.crc32(self.sentence.encode()):08x}'


@dataclass(frozen=True)
class Knowledge:
    """What one or several files hold: the good tables, and a problem for each bad one."""

    rules: tuple[Rule, ...] = ()
    silences: tuple[Silence, ...] = ()
    problems: tuple[Problem, ...] = ()


# -- reading ---------------------------------------------------------------------------------------


def load(source: Path | str | bytes, name: str = '') -> Knowledge:
    """The rules in a text, in bytes or in the file at a Path.

    Raises nothing.  A file that does not exist is an empty one.
    """
    if not has_packaging():
        return Knowledge(problems=(Problem(0, WITHOUT_PACKAGING, lacks='packaging'),))
    reader = _Reader(name or (source.name if isinstance(source, Path) else 'text'))
    reader.read(_bytes(source, reader))
    return Knowledge(
        tuple(reader.rules.values()), tuple(reader.silences.values()), tuple(reader.problems)
    )


@functools.cache
def shipped() -> Knowledge:
    """The product's own rules, read once in a process."""
    return load(SHIPPED)


def in_force(directory: Path | str, today: date | None = None) -> Knowledge:
    """The shipped rules and those of the site, without what the site silences; and the silences in
    force.

    The rules of the site are in its data directory.  A silence ends with a day of UTC, as a mute
    does.
    """
    today = today or datetime.now(UTC).date()
    ours = shipped()
    site = load(Path(directory) / KNOWN_ISSUES)
    known = {rule.id: rule for rule in ours.rules}
    problems = [*ours.problems, *(p for p in site.problems if p not in ours.problems)]
    for rule in site.rules:
        if rule.id in known:
            sentence = (
                f'The id {rule.id!r} is taken by a shipped rule; silence that one and '
                'give this one another id.'
            )
            problems.append(Problem(rule.line, sentence, KNOWN_ISSUES))
        else:
            known[rule.id] = rule
    silences = []
    for silence in site.silences:
        if silence.id in known:
            if silence.until is None or today <= silence.until:
                silences.append(silence)
        elif known:  # without `packaging` nothing is known
            sentence = f'There is no issue {silence.id!r} to silence.'
            problems.append(Problem(silence.line, sentence, KNOWN_ISSUES))
    silent = {silence.id for silence in silences}
    rules = [rule for rule in known.values() if rule.id not in silent]
    return Knowledge(tuple(rules), tuple(silences), tuple(problems))


def _bytes(source: Path | str | bytes, reader: _Reader) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        return source.encode('utf-8', 'surrogatepass')
    try:
        # A site may keep its rules elsewhere, behind a link.
        return read_start(source, FILE_LIMIT + 1, follow=True)
    except FileNotFoundError:
        return b''
    except (OSError, ValueError) as error:
        reader.problem(0, f'The file cannot be read: {error}.')
        return b''


class _Reader:
    """Reads one file, table by table, and notes what is wrong with each."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.rules: dict[str, Rule] = {}
        self.silences: dict[str, Silence] = {}
        self.problems: list[Problem] = []

    def problem(self, line: int, sentence: str) -> None:
        if len(self.problems) >= _PROBLEMS:
            return
        shown = ''.join(char if char.isprintable() else '?' for char in ' '.join(sentence.split()))
        self.problems.append(Problem(line, shown[:400], self.file))

    def read(self, raw: bytes) -> None:
        starts = [match.start() for match in _TABLE.finditer(raw)]
        if len(raw) > FILE_LIMIT or len(starts) > TABLES:
            sentence = (
                f'The file is too large: at most {FILE_LIMIT >> 10} KiB and {TABLES} tables are '
                'read.'
            )
            self.problem(1, sentence)
            return
        line = 1
        for begin, end in zip([0, *starts], [*starts, len(raw)], strict=True):
            self._piece(raw[begin:end], line)
            line += raw.count(b'\n', begin, end)

    def _piece(self, raw: bytes, line: int) -> None:
        for kind, tables in self._parsed(raw, line).items():
            for table in tables if isinstance(tables, list) else [None]:
                if kind in KINDS and isinstance(table, dict):
                    self._table(kind, table, raw, line)
                else:
                    sentence = f'There is no {kind!r} here; begin with [[issue]] or [[silence]].'
                    self.problem(line, sentence)

    def _parsed(self, raw: bytes, line: int) -> dict[str, Any]:
        try:
            if len(raw) > TABLE_LIMIT:
                raise ValueError(f'a table is longer than {TABLE_LIMIT >> 10} KiB')
            text = raw.decode('utf-8-sig' if line == 1 else 'utf-8')
            return tomllib.loads(text.replace('\r\n', '\n'))
        except UnicodeDecodeError as error:
            before = raw.count(b'\n', 0, error.start)
            self.problem(line + before, 'The text is not UTF-8; save the file as UTF-8.')
        except (ValueError, RecursionError) as error:
            at = _AT_LINE.search(str(error))
            inside = int(at[1]) - 1 if at and at[1] else 0
            self.problem(line + inside, f'This cannot be read: {_AT_LINE.sub("", str(error))}.')
        return {}

    def _table(self, kind: str, table: dict[str, object], raw: bytes, line: int) -> None:
        values, problems = checked(table, kind)
        known = self.rules if kind == 'issue' else self.silences
        if not problems and values['id'] in known:
            sentence = f'There are two tables with the id {values["id"]!r}; give this one another.'
            problems.append(('id', sentence))
        for key, sentence in problems:
            self.problem(line + _line_of(key, raw), sentence)
        if not problems:
            made = KINDS[kind][0](**values, line=line)
            if isinstance(made, Rule):
                self.rules[made.id] = made
            else:
                self.silences[made.id] = made


def _line_of(key: str, raw: bytes) -> int:
    """In which line of a table, from 0 on, one of its fields stands; 0 for the table itself."""
    if not key:
        return 0
    field = rf'^[ \t]*["\']?{re.escape(key)}["\']?[ \t]*[=.]'
    found = re.search(field.encode(), raw, re.M)
    return raw.count(b'\n', 0, found.start()) if found else 0


# -- a living system -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A rule and what the system answers to it: why it applies, or why it does not."""

    rule: Rule
    reasons: tuple[str, ...]
    failed: str = ''  # the first condition that does not hold, where it does not affect the system

    def __str__(self) -> str:
        return f'{self.rule.title}: {", ".join(self.reasons)}'


def affected(
    rules: Iterable[Rule], system: System, has_started: bool = False
) -> tuple[tuple[Match, ...], tuple[Match, ...]]:
    """(rules that affect the system, the most severe first; rules that do not).

    A rule `incident_only` that would apply is in neither of them.  A site that has started is not
    affected by an issue that keeps Zope from starting.
    """
    hit = []
    missed = []
    for rule in rules:
        answers = hold(rule, system)
        failed = [answer.words for answer in answers if not answer.holds]
        if has_started and rule.effect == 'start':
            failed.append('it has started')
        if failed:
            missed.append(Match(rule, (f'not affected: {failed[0]}',), failed[0]))
        elif not rule.incident_only:
            hit.append(Match(rule, tuple(answer.words for answer in answers if answer.words)))
    hit.sort(key=lambda match: (-match.rule.severity.rank, match.rule.id))
    return tuple(hit), tuple(missed)


# -- a run that has ended --------------------------------------------------------------------------

#: What each match adds to a score.  'against': traces were recorded, and do not show the issue.
WEIGHTS = {
    'conditions': 30,
    'stack': 40,
    'frame': 20,
    'native': 40,
    'message': 40,
    'signal': 40,
    'memory': 10,
    'processor': 10,
    'against': -20,
}


def match_incident(rules: Iterable[Rule], record: RunRecord, system: System) -> list[KnownIssue]:
    """Known issues that a RunRecord may have met, likeliest first.

    `system` is this one (`systemfacts.here()`); what was recorded with the run wins over it.
    `strength` is "strong" (versions and a trace), "likely" (versions and a frame of another
    thread), "possible" (versions alone) or "weak" (a trace, but versions that are not affected).
    `matched` and `against` are sentences such as "version: waitress 2.1 is < 3.0.1".
    """
    then = of_run(record.context, record.compiled_modules, system)
    traces = Traces(record)
    found: list[tuple[Rule, KnownIssue]] = []
    for rule in rules:
        match = _weigh(rule, record, then, traces)
        if match:
            found.append((rule, match))
    found.sort(key=lambda pair: (-pair[1].score, -pair[0].severity.rank, pair[0].id))
    return [match for _, match in found]


def _weigh(rule: Rule, record: RunRecord, then: System, traces: Traces) -> KnownIssue | None:
    if not rule.fits(record):
        return None
    answers = hold(rule, then)
    failed = [answer.words for answer in answers if not answer.holds]
    shown, against = traces.show(rule)
    kinds = {kind for kind, _ in shown}
    proof = kinds - {'memory', 'processor'}  # these have many causes
    if failed:
        strength = 'weak' if proof & {'native', 'message'} else ''
    elif proof:
        strength = 'likely' if proof == {'frame'} else 'strong'
    else:
        strength = 'possible' if EFFECTS[rule.effect] and not rule.incident_only else ''
    if not strength:
        return None
    score = sum(WEIGHTS[kind] for kind in kinds)
    if failed:
        score = min(score // 4, 20)
    else:
        score += WEIGHTS['conditions']
        if against and not proof:
            score += WEIGHTS['against']
    versions = [f'version: {answer.words}' for answer in answers if answer.holds and answer.words]
    return KnownIssue(
        id=rule.id,
        title=rule.title,
        severity=rule.severity.code,
        strength=strength,
        score=min(score, 100),
        matched=(*versions, *(words for _, words in shown)),
        against=(*(f'version: {words}' for words in failed), *against),
        fixed=rule.fixed,
        action=str(rule.action),
        source=rule.source,
    )
