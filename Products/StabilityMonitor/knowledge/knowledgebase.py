"""The knowledge base of crashes: reads the rules, and compares them with a system or a dead run.

A file is a list of `[[issue]]` and `[[mute]]` tables.  Each table is parsed separately, so that a
broken one does not affect the others; therefore a line that begins with `[[` always begins a table.
Comparing versions needs the library `packaging`, which Zope does not require.  Without it there are
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
from ..store.regularfiles import open_regular
from ..store.regularfiles import read_start_outside
from ..store.rundirectory import KNOWN_ISSUES
from .conditions import hold
from .leftlines import Traces
from .rules import EFFECTS
from .rules import KINDS
from .rules import Mistake
from .rules import MutedIssue
from .rules import Rule
from .rules import checked
from .rules import has_packaging
from .systemfacts import System
from .systemfacts import of_run

SHIPPED = Path(__file__).with_name('known_issues.toml')
#: The most bytes of a file; a larger one is not read.
FILE_LIMIT = 512 << 10
#: The most bytes of one table; a larger one is not read.
TABLE_LIMIT = 16 << 10
#: The most tables in a file.
TABLES = 1000
#: At most this many problems of one file are reported; the others are dropped.
_PROBLEMS = 50

WITHOUT_PACKAGING = (
    'Known issues are not looked up: the library "packaging", which compares '
    'versions, is not installed.'
)
#: {kind of a table in releases before 1.0: its kind now}
_OLD_KINDS = {'silence': 'mute'}
_TABLE = re.compile(rb'^[ \t]*\[\[', re.M)
_AT_LINE = re.compile(r' ?\(at (?:line (?P<line>\d+), column \d+|end of document)\)')


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of rules, and in which line (0: in no particular line)."""

    line: int
    sentence: str
    file: str = ''
    lacks: str = ''  # the missing library that is needed to read the files

    @property
    def finding(self) -> Finding:
        return self.finding_with('pip')

    def finding_with(self, pip: str) -> Finding:
        """Return the finding; `pip` is the command that installs into this Python."""
        if self.lacks:
            install = Action(
                'Install it: `{pip} install {lacks}`',
                pip=pip,
                lacks=self.lacks,
            )
            return Finding(
                'known-issues-off',
                WARNING,
                self.sentence,
                'Versions are not compared, neither with known issues nor with each other.',
                install,
            )
        where = self.file
        if self.line:
            where = f'{self.file}, line {self.line}'
        # The line number is not part of it: an edit elsewhere in the file must not unmute the
        # finding.
        fingerprint = zlib.crc32(self.sentence.encode())
        return Finding(
            f'known-issues-{self.file}-{fingerprint:08x}',
            WARNING,
            f'{where}: {self.sentence}',
            'The other rules are used.',
            Action('Correct {where}.', where=where),
        )


@dataclass(frozen=True)
class Knowledge:
    """The content of one or several files: the good tables, and a problem for each bad one."""

    rules: tuple[Rule, ...] = ()
    muted: tuple[MutedIssue, ...] = ()
    problems: tuple[Problem, ...] = ()


# -- reading ---------------------------------------------------------------------------------------


def load(source: Path | str | bytes, name: str = '') -> Knowledge:
    """Return the rules in a text, in bytes or in the file at a Path.

    Raises nothing.  A file that does not exist counts as empty.
    """
    if not has_packaging():
        problem = Problem(0, WITHOUT_PACKAGING, lacks='packaging')
        return Knowledge(problems=(problem,))
    if not name:
        name = source.name if isinstance(source, Path) else 'text'
    reader = _Reader(name)
    raw = _content(source, reader)
    reader.read(raw)
    return Knowledge(
        rules=tuple(reader.rules.values()),
        muted=tuple(reader.muted.values()),
        problems=tuple(reader.problems),
    )


@functools.cache
def shipped() -> Knowledge:
    """Return the rules that come with the product, read once in a process."""
    return load(SHIPPED)


def in_force(directory: Path | str, today: date | None = None) -> Knowledge:
    """Return the shipped rules and those of the site, without those that the site mutes; and the
    mutes in force.

    The rules of the site are in its data directory.  Like the mute of a finding, a mute of a rule
    is in force up to and including its last day (UTC).
    """
    if today is None:
        today = datetime.now(UTC).date()
    ours = shipped()
    file = Path(directory) / KNOWN_ISSUES
    site = load(file)
    known = {rule.id: rule for rule in ours.rules}
    problems = list(ours.problems)
    for problem in site.problems:
        if problem not in ours.problems:  # without `packaging` both files have the same problem
            problems.append(problem)
    for rule in site.rules:
        if rule.id in known:
            sentence = (
                f'The id {rule.id!r} belongs to a shipped rule; mute that rule and '
                'give this one another id.'
            )
            problems.append(Problem(rule.line, sentence, KNOWN_ISSUES))
        else:
            known[rule.id] = rule
    rules = dict(known)
    muted = []
    for mute in site.muted:
        if mute.id in known:
            if mute.until is None or today <= mute.until:
                muted.append(mute)
                del rules[mute.id]
        elif known:  # without `packaging` no issue is known
            sentence = f'No issue has the id {mute.id!r}, so it cannot be muted.'
            problems.append(Problem(mute.line, sentence, KNOWN_ISSUES))
    return Knowledge(
        rules=tuple(rules.values()),
        muted=tuple(muted),
        problems=tuple(problems),
    )


def _content(source: Path | str | bytes, reader: _Reader) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str):
        return source.encode('utf-8', 'surrogatepass')
    try:
        if source == SHIPPED:  # an installer may have made it a link
            return read_start_outside(source, FILE_LIMIT + 1, follow=True)
        with open(open_regular(source), 'rb') as file:
            return file.read(FILE_LIMIT + 1)
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
        self.muted: dict[str, MutedIssue] = {}
        self.problems: list[Problem] = []

    def problem(self, line: int, sentence: str) -> None:
        if len(self.problems) >= _PROBLEMS:
            return
        words = ' '.join(sentence.split())
        shown = ''
        for char in words[:400]:
            shown += char if char.isprintable() else '?'
        self.problems.append(Problem(line, shown, self.file))

    def read(self, raw: bytes) -> None:
        starts = [match.start() for match in _TABLE.finditer(raw)]
        is_too_large = len(raw) > FILE_LIMIT or len(starts) > TABLES
        if is_too_large:
            limit = FILE_LIMIT >> 10
            sentence = f'The file is too large: at most {limit} KiB and {TABLES} tables are read.'
            self.problem(1, sentence)
            return
        line = 1
        begins = [0, *starts]
        ends = [*starts, len(raw)]
        for begin, end in zip(begins, ends, strict=True):
            piece = raw[begin:end]
            for kind, value in self._parsed(piece, line).items():
                self._tables(kind, value, piece, line)
            line += piece.count(b'\n')

    def _parsed(self, raw: bytes, line: int) -> dict[str, Any]:
        """Return the parsed content of a piece of the file; `line` is its first line."""
        if len(raw) > TABLE_LIMIT:
            limit = TABLE_LIMIT >> 10
            self.problem(line, f'This cannot be read: a table is longer than {limit} KiB.')
            return {}
        # Some editors put a byte order mark before the text.
        encoding = 'utf-8-sig' if line == 1 else 'utf-8'
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            before = raw.count(b'\n', 0, error.start)
            self.problem(line + before, 'The text is not UTF-8; save the file as UTF-8.')
            return {}
        unix_lines = text.replace('\r\n', '\n')
        try:
            return tomllib.loads(unix_lines)
        except (ValueError, RecursionError) as error:
            said = str(error)
            place = _AT_LINE.search(said)
            if place and place['line']:
                line += int(place['line']) - 1
            reason = _AT_LINE.sub('', said)
            self.problem(line, f'This cannot be read: {reason}.')
            return {}

    def _tables(self, kind: str, value: object, raw: bytes, line: int) -> None:
        """Take the value of one name: a list of tables, if the file is correct."""
        tables = value if isinstance(value, list) else [None]
        kind = _OLD_KINDS.get(kind, kind)
        for table in tables:
            if kind in KINDS and isinstance(table, dict):
                self._table(kind, table, raw, line)
            else:
                sentence = f'{kind!r} is not allowed here; begin with [[issue]] or [[mute]].'
                self.problem(line, sentence)

    def _table(self, kind: str, table: dict[str, object], raw: bytes, line: int) -> None:
        found = checked(table, kind)
        mistakes = list(found.mistakes)
        id = found.values.get('id')
        known = self.rules if kind == 'issue' else self.muted
        if not mistakes and id in known:
            sentence = f'Two tables have the id {id!r}; give this one another id.'
            mistakes.append(Mistake('id', sentence))
        for mistake in mistakes:
            inside = _line_of(mistake.key, raw)
            self.problem(line + inside, mistake.sentence)
        if mistakes:
            return
        if kind == 'issue':
            rule = Rule(**found.values, line=line)
            self.rules[rule.id] = rule
        else:
            mute = MutedIssue(**found.values, line=line)
            self.muted[mute.id] = mute


def _line_of(key: str, raw: bytes) -> int:
    """Return the line of a field, counted from 0 in its table; 0 for the table itself."""
    if not key:
        return 0
    field = rf'^[ \t]*["\']?{re.escape(key)}["\']?[ \t]*[=.]'
    found = re.search(field.encode(), raw, re.M)
    if not found:
        return 0
    return raw.count(b'\n', 0, found.start())


# -- a living system -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A rule, and why it applies to the system, or why it does not."""

    rule: Rule
    reasons: tuple[str, ...]
    failed: str = ''  # the first condition that does not hold; '' if the rule applies

    def __str__(self) -> str:
        reasons = ', '.join(self.reasons)
        return f'{self.rule.title}: {reasons}'


def affected(
    rules: Iterable[Rule], system: System, has_started: bool = False
) -> tuple[tuple[Match, ...], tuple[Match, ...]]:
    """Return (rules that affect the system, the most severe first; rules that do not affect it).

    A rule that would apply but is `incident_only` is in neither of them.  A site that has started
    is not affected by an issue that keeps Zope from starting.
    """
    hit = []
    missed = []
    for rule in rules:
        answers = hold(rule, system)
        failed = [answer.words for answer in answers if not answer.holds]
        if has_started and rule.effect == 'start':
            failed.append('the site has started')
        if failed:
            reason = f'not affected: {failed[0]}'
            match = Match(rule, (reason,), failed=failed[0])
            missed.append(match)
        elif not rule.incident_only:
            reasons = [answer.words for answer in answers if answer.words]
            match = Match(rule, tuple(reasons))
            hit.append(match)

    def worst_first(match: Match) -> tuple[int, str]:
        return -match.rule.severity.rank, match.rule.id

    hit.sort(key=worst_first)
    return tuple(hit), tuple(missed)


# -- a run that has ended --------------------------------------------------------------------------

#: {kind of sign: points that it adds to the score of an issue}.  'against': traces were recorded,
#: but do not show the issue.
WEIGHTS = {
    'conditions': 30,
    'stack': 40,
    'frame': 20,
    'native': 40,
    'message': 40,
    'signal': 40,
    'memory': 10,
    'cpu': 10,
    'against': -20,
}


def match_incident(rules: Iterable[Rule], record: RunRecord, system: System) -> list[KnownIssue]:
    """Return the known issues that a RunRecord may have met, likeliest first.

    `system` is the current system (`systemfacts.here()`).  Facts that the run recorded are used
    instead of those of the current system.
    `strength` is "strong" (versions and a trace), "likely" (versions and a frame of another
    thread), "possible" (versions alone) or "weak" (a trace, but versions that are not affected).  A
    version that is known, and not older than the release with the fix, rules the issue out.
    `matched` and `against` are sentences such as "version: waitress 2.1 is < 3.0.1".
    """
    then = of_run(record.context, record.compiled_modules, system)
    traces = Traces(record)
    found: list[tuple[Rule, KnownIssue]] = []
    for rule in rules:
        match = _weigh(rule, record, then, traces)
        if match:
            found.append((rule, match))

    def likeliest_first(pair: tuple[Rule, KnownIssue]) -> tuple[int, int, str]:
        rule, match = pair
        return -match.score, -rule.severity.rank, rule.id

    found.sort(key=likeliest_first)
    return [match for _, match in found]


def _weigh(rule: Rule, record: RunRecord, then: System, traces: Traces) -> KnownIssue | None:
    if not rule.fits(record):
        return None
    answers = hold(rule, then)
    if any(answer.is_fixed for answer in answers):
        return None
    holding = [answer.words for answer in answers if answer.holds]
    failed = [answer.words for answer in answers if not answer.holds]
    shown = traces.show(rule)
    kinds = {sign.kind for sign in shown.signs}
    proof = kinds - {'memory', 'cpu'}  # a busy CPU or growing memory has many other causes
    strength = _strength(rule, proof, is_affected=not failed)
    if not strength:
        return None
    score = sum(WEIGHTS[kind] for kind in kinds)
    if failed:
        score = min(score // 4, 20)
    else:
        score += WEIGHTS['conditions']
        if shown.against and not proof:
            score += WEIGHTS['against']
    sentences = [sign.sentence for sign in shown.signs]
    return KnownIssue(
        id=rule.id,
        title=rule.title,
        severity=rule.severity.code,
        strength=strength,
        score=min(score, 100),
        matched=(*_of_versions(holding), *sentences),
        against=(*_of_versions(failed), *shown.against),
        fixed=rule.fixed,
        action=str(rule.action),
        source=rule.source,
    )


def _strength(rule: Rule, proof: set[str], is_affected: bool) -> str:
    """Return how strongly a run suggests an issue, see `match_incident`; '' if it does not.

    `proof` has the kinds of the traces that were found.
    """
    if not is_affected:
        return 'weak' if proof & {'native', 'message'} else ''
    if proof == {'frame'}:
        return 'likely'
    if proof:
        return 'strong'
    ends_runs = bool(EFFECTS[rule.effect])
    if ends_runs and not rule.incident_only:
        return 'possible'
    return ''


def _of_versions(answers: list[str]) -> list[str]:
    return [f'version: {words}' for words in answers if words]
