"""The knowledge base of crashes: read the rules, compare them with a system, and with how a run
ended.

A file is a row of `[[issue]]` and `[[silence]]` tables.  Each is read by itself, so that a broken
one costs only itself; a line that begins with `[[` therefore always begins a table.  Versions need
the library `packaging`, which Zope does not bring: without it there are no rules, and one finding
that says so.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from datetime import date
from datetime import datetime
from pathlib import Path
from typing import Any

from ..model.records import Finding
from ..model.runrecord import RunRecord
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
#: Bytes of a file and of one table in it, tables in a file, problems that are told of one file.
FILE_LIMIT, TABLE_LIMIT, TABLES, _PROBLEMS = 512 << 10, 16 << 10, 1000, 50

WITHOUT_PACKAGING = (
    'Known issues are not looked up: the library "packaging" that compares '
    'versions is not installed.'
)
_severity = Finding.SEVERITIES.index
_TABLE = re.compile(rb'^[ \t]*\[\[', re.M)
_AT_LINE = re.compile(r' ?\(at (?:line (\d+), column \d+|end of document)\)')


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of rules, and in which line of it (0: no line in particular)."""

    line: int
    sentence: str
    file: str = ''

    @property
    def finding(self) -> Finding:
        if self.sentence == WITHOUT_PACKAGING:
            return Finding(
                'known-issues-off',
                'warning',
                self.sentence,
                action='Install it: pip install packaging',
            )
        where = f'{self.file}, line {self.line}' if self.line else self.file
        return Finding(
            f'known-issues-{self.file}-{self._mark}',
            'warning',
            f'{where}: {self.sentence}',
            'The other rules count.',
            f'Correct {where}.',
        )

    @property
    def _mark(self) -> str:
        """The same wherever it stands: an edit elsewhere in the file must not undo a hush."""
        return f'{zlib.crc32(self.sentence.encode()):08x}'


@dataclass(frozen=True)
class Knowledge:
    """What a file holds, or several together: the good tables, and a problem for each other one."""

    rules: tuple[Rule, ...] = ()
    silences: tuple[Silence, ...] = ()
    problems: tuple[Problem, ...] = ()


# -- reading ---------------------------------------------------------------------------------------


def load(source: Path | str | bytes, name: str = '') -> Knowledge:
    """The rules in a text, in bytes or in the file at a Path.  Raises nothing; a file that is not
    there is empty.
    """
    if not has_packaging():
        return Knowledge(problems=(Problem(0, WITHOUT_PACKAGING),))
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
    """Shipped rules and those of the site in the data directory, without what it silences;
    `silences` in force.

    A day is one of UTC, as it is for hushes.
    """
    ours, site, today = (
        shipped(),
        load(Path(directory) / KNOWN_ISSUES),
        today or datetime.now(UTC).date(),
    )
    known = {rule.id: rule for rule in ours.rules}
    problems = [*ours.problems, *(p for p in site.problems if p not in ours.problems)]
    for rule in site.rules:
        if known.setdefault(rule.id, rule) is not rule:
            problems.append(
                Problem(
                    rule.line,
                    f'The id {rule.id!r} is taken by a shipped rule; silence that one and '
                    'give this one another id.',
                    KNOWN_ISSUES,
                )
            )
    for silence in site.silences:
        if known and silence.id not in known:
            problems.append(
                Problem(silence.line, f'There is no issue {silence.id!r} to silence.', KNOWN_ISSUES)
            )
    silences = tuple(
        s for s in site.silences if s.id in known and (s.until is None or today <= s.until)
    )
    silent = {silence.id for silence in silences}
    return Knowledge(
        tuple(r for r in known.values() if r.id not in silent), silences, tuple(problems)
    )


def _bytes(source: Path | str | bytes, reader: _Reader) -> bytes:
    if not isinstance(source, Path):
        return source.encode('utf-8', 'surrogatepass') if isinstance(source, str) else source
    try:
        return read_start(
            source, FILE_LIMIT + 1, follow=True
        )  # a site may keep its rules elsewhere
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
            self.problem(
                1,
                f'The file is too large: at most {FILE_LIMIT >> 10} KiB and {TABLES} tables are '
                'read.',
            )
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
                    self.problem(
                        line, f'There is no {kind!r} here; begin with [[issue]] or [[silence]].'
                    )

    def _parsed(self, raw: bytes, line: int) -> dict[str, Any]:
        import tomllib  # not for a site where nothing is looked up

        try:
            if len(raw) > TABLE_LIMIT:
                raise ValueError(f'a table is longer than {TABLE_LIMIT >> 10} KiB')
            return tomllib.loads(
                raw.decode('utf-8-sig' if line == 1 else 'utf-8').replace('\r\n', '\n')
            )
        except UnicodeDecodeError as error:
            self.problem(
                line + raw.count(b'\n', 0, error.start),
                'The text is not UTF-8; save the file as UTF-8.',
            )
        except (ValueError, RecursionError) as error:
            at = _AT_LINE.search(str(error))
            inside = int(at[1]) - 1 if at and at[1] else 0
            self.problem(line + inside, f'This cannot be read: {_AT_LINE.sub("", str(error))}.')
        return {}

    def _table(self, kind: str, table: dict[str, object], raw: bytes, line: int) -> None:
        values, problems = checked(table, kind)
        known = self.rules if kind == 'issue' else self.silences
        if not problems and values['id'] in known:
            problems.append(
                ('id', f'There are two tables with the id {values["id"]!r}; give this one another.')
            )
        for key, sentence in problems:
            self.problem(line + _line_of(key, raw), sentence)
        if not problems:
            made = KINDS[kind][0](**values, line=line)
            if isinstance(made, Rule):
                self.rules[made.id] = made
            else:
                self.silences[made.id] = made


def _line_of(key: str, raw: bytes) -> int:
    """In which line of a table, from 0 on, one of its fields stands."""
    found = (
        re.search(rf'^[ \t]*["\']?{re.escape(key)}["\']?[ \t]*[=.]'.encode(), raw, re.M)
        if key
        else None
    )
    return raw.count(b'\n', 0, found.start()) if found else 0


# -- a living system -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A rule and what the system answers to it: why it applies, or why it does not."""

    rule: Rule
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f'{self.rule.title}: {", ".join(self.reasons)}'


def affected(
    rules: Iterable[Rule], system: System, has_started: bool = False
) -> tuple[tuple[Match, ...], tuple[Match, ...]]:
    """(affected by severity, unaffected).  A rule `incident_only` that would apply is in neither of
    them.

    A site that has started is not affected by what would have kept it from that.
    """
    hit, missed = [], []
    for rule in rules:
        answers = hold(rule, system)
        failed = next(
            (answer.words for answer in answers if not answer.holds),
            'it has started' if has_started and rule.effect == 'start' else '',
        )
        if failed:
            missed.append(Match(rule, (f'not affected: {failed}',)))
        elif not rule.incident_only:
            hit.append(Match(rule, tuple(answer.words for answer in answers if answer.words)))
    hit.sort(key=lambda match: (-_severity(match.rule.severity), match.rule.id))
    return tuple(hit), tuple(missed)


# -- a run that has ended --------------------------------------------------------------------------

#: What each thing that matches adds to a score; 'against' is what was recorded and does not show
#: it.
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


def match_incident(
    rules: Iterable[Rule], record: RunRecord, system: System
) -> list[dict[str, Any]]:
    """Known issues that a RunRecord may have met, likeliest first.

    `system` is this one (`known_system.here()`); what was recorded with the run wins over it.  Each
    is {id, title, severity, strength, score, matched, against, action, source}.  `strength` is
    "strong" (versions and a trace), "likely" (versions and a frame of another thread), "possible"
    (versions alone) or "weak" (a trace, but versions that are not affected).  `matched` and
    `against` are sentences such as "version: waitress 2.1 is < 3.0.1".
    """
    then, traces = of_run(record.context, record.compiled_modules, system), Traces(record)
    found = [match for rule in rules if (match := _weigh(rule, record, then, traces))]
    return sorted(
        found, key=lambda match: (-match['score'], -_severity(match['severity']), match['id'])
    )


def _weigh(rule: Rule, record: RunRecord, then: System, traces: Traces) -> dict[str, Any] | None:
    if not rule.fits(record):
        return None
    verdicts, answers = EFFECTS[rule.effect], hold(rule, then)
    shown, against = traces.show(rule)
    kinds, failed = (
        {kind for kind, _ in shown},
        [answer.words for answer in answers if not answer.holds],
    )
    proof = kinds - {'memory', 'processor'}
    if failed:
        strength = 'weak' if proof & {'native', 'message'} else ''
    elif proof:
        strength = 'likely' if proof == {'frame'} else 'strong'
    else:
        strength = 'possible' if verdicts and not rule.incident_only else ''
    if not strength:
        return None
    score = sum(WEIGHTS[kind] for kind in kinds) + (0 if failed else WEIGHTS['conditions'])
    score = (
        min(score // 4, 20)
        if failed
        else score + (WEIGHTS['against'] if against and not proof else 0)
    )
    versions = [f'version: {answer.words}' for answer in answers if answer.holds and answer.words]
    return {
        'id': rule.id,
        'title': rule.title,
        'severity': rule.severity,
        'strength': strength,
        'score': min(score, 100),
        'matched': versions + [words for _, words in shown],
        'against': [f'version: {words}' for words in failed] + against,
        'fixed': rule.fixed,
        'action': rule.action,
        'source': rule.source,
    }
