"""Takes secrets and personal data out of what leaves the site: documents in, documents out.

Every download and the command's reports pass through here, before any text is made of them.  The
pages of the site and its archive show what was recorded.

One value keeps one pseudonym within a document, as `user-1`, so that a reader can still follow it.
Values that we made ourselves (ids, versions, names of modules) are never looked at: see `_OURS`.
What people type for the report stays, too.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import ipaddress
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from urllib.parse import quote
from urllib.parse import quote_plus
from urllib.parse import unquote

from ..model.interfaces import ILivingRun
from ..model.jsonform import from_json
from ..model.jsonform import to_json
from ..model.options import pattern as valid_pattern
from ..model.secretclasses import CLASSES
from ..model.secretclasses import classes_of
from .directives import without_secrets
from .secretpatterns import PATTERNS
from .secretpatterns import Pattern
from .secretpatterns import hints_in
from .secretvalues import NOBODY
from .secretvalues import PSEUDONYM
from .secretvalues import is_pseudonym
from .secretvalues import smells

#: The key under which a redacted document says what was taken out of it.
KEY = 'redacted'
#: Keys of values, with all below them, that this product or an index of packages has made, or that
#: a person typed for the report.
_OURS = frozenset(
    'schema generated started ended as_of time when latest run id check issue severity verdict '
    'confidence signal role phase boot_id pid_namespace machine_id thread kind '
    'activity version zope python plone platform libc system distribution machine python_build '
    'compiler implementation build_id level state drill distributions builds compiled_modules '
    'function installed handled_signals products samples curve '
    'support extension_modules number supervisor then now module modules soname strength reader '
    'match permissions changed_since_stable'.split()
)
#: Keys of what a person typed about themselves, in the part "reporter" of a report.
_REPORTER = frozenset(('name', 'email'))
#: Keys of paths: only home directories and addresses of e-mail are looked for.
_PATHS = frozenset(
    'file binary library software_home instance_home client_home directory executable '
    'core_pattern'.split()
)
#: Keys of values that are never sent: they may be bytes of any text that was in memory.
_NEVER = frozenset(('registers',))
#: Keys of names of users.
_USERS = frozenset(('user', 'who', 'who_before'))
#: The option whose value is not shown.
_PATTERN = 'redact-pattern'
#: A value in what Python shows of a dict.
_ITEM = re.compile(r'(:\s*[bu]?["\']?)([^"\',{}]+)')
#: A secret of at least this many characters is replaced wherever it occurs again.
_LONG = 8
#: What `logging`, ZConfig, gunicorn and syslog write before a message; and what is put after it, so
#: that the message begins a line.  No log portion has a NUL.
_HEAD = re.compile(
    r'^(?:(?:[A-Z]{1,10} )?\[?\d{4}-\d\d-\d\d[T ][\d:.,]{8,15}(?: ?(?:Z|[+-]\d\d:?\d\d))?\]?'
    r'|[A-Z][a-z]{2} [ \d]\d [\d:]{8} [\w.-]{1,80})'
    r'(?: [A-Z]{4,8}(?: [\w.-]{1,80}(?= ))?| ?\[[^\]\n]{1,80}\]'
    r'| [\w./-]{1,40}(?:\[\d{1,10}\])?:)* ',
    re.MULTILINE,
)
_SPLIT = '\0\n'
_PERSONS = ('user', 'email', 'address')
#: Characters: some rows need time that grows with the square of the length, so a longer text is
#: looked at in parts.
_LONGEST = 8000
#: Fewer words than this are tried one after the other; and all below so many levels of beginnings.
_FEW, _DEEP = 6, 20
#: More spellings of secrets than this many are not looked for again.
_MOST_AGAIN = 20_000

Document = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """What is redacted: names of CLASSES, and a regular expression of the site or None."""

    classes: frozenset[str] = frozenset(CLASSES)
    pattern: re.Pattern[str] | None = None

    @property
    def off(self) -> list[str]:
        """The classes that are switched off, in their order."""
        return [name for name in CLASSES if name not in self.classes]


NOTHING = Policy(frozenset())
EVERYTHING = Policy()


def policy_of(options: Mapping[str, object]) -> Policy:
    """Return the policy of the options `redact` and `redact-pattern`, by their names; a wrong one
    counts as unset.
    """
    classes, text = EVERYTHING.classes, ''
    with contextlib.suppress(ValueError):
        classes = classes_of(str(options.get('redact', '')))
    with contextlib.suppress(ValueError):
        text = valid_pattern(str(options.get('redact-pattern', '')))
    return Policy(classes, re.compile(text) if text else None)


def policy_of_life(life: ILivingRun) -> Policy:
    """Return the policy of this process."""
    options = life.options
    return policy_of({'redact': options.redact, 'redact-pattern': options.redact_pattern})


@dataclass
class Redactions:
    """What was taken out: {(word, value): pseudonym}, and how many values of each class."""

    pseudonyms: dict[tuple[str, str], str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    classes: dict[str, str] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)
    _by_value: dict[str, str] = field(default_factory=dict)

    def pseudonym(self, word: str, value: str, redacts: str) -> str:
        """Return what stands for a value; the same for each of its spellings."""
        plain = _plain_spelling(word, value)
        key = word, plain
        found = self.pseudonyms.get(key)
        if found is None and len(plain) >= _LONG:
            found = self._by_value.get(plain)  # the same value in another place
        if found is None:
            self._numbers[word] += 1
            found = self.pseudonyms[key] = f'{word}-{self._numbers[word]}'
            self.classes[found] = redacts
            self._by_value.setdefault(plain, found)
            self.counts[redacts] += 1
        return found

    def originals(self) -> dict[str, str]:
        """Return {pseudonym: what it stands for}, for those who may see it."""
        return {pseudonym: value for (_, value), pseudonym in self.pseudonyms.items()}


def _plain_spelling(word: str, value: str) -> str:
    """Return a value without encodings, so that its spellings are the same."""
    plain = html.unescape(unquote(value)).strip()
    if word == 'email':
        return plain.lower()
    if word == 'address':
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(plain))
    return plain


def redacted(document: Document, policy: Policy = EVERYTHING) -> tuple[Document, Redactions]:
    """Return a copy of a document without what the policy names, and what was taken out.

    The copy says under KEY how many values of each class were taken out, and what is switched off.
    """
    done = Redactions()
    copy = _Redactor(policy, done).document(document)
    copy[KEY] = {
        'values': {name: done.counts[name] for name in (*CLASSES, 'pattern') if done.counts[name]},
        'off': policy.off,
    }
    return copy, done


def redacted_values(values: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """Return copies of values of the model without what the policy names, by the same keys.

    Each is a value, or a list of values, that `jsonform` knows.
    """
    document = {
        key: list(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)
        for key, value in values.items()
    }
    copy, _ = redacted(document, policy)
    return {
        key: tuple(from_json(type(each), made) for each, made in zip(value, copy[key], strict=True))
        if isinstance(value, list | tuple)
        else from_json(type(value), copy[key])
        for key, value in values.items()
    }


def _plain(value: Any) -> Document:
    return to_json(value, plain=True)


def redacted_text(text: str, policy: Policy = EVERYTHING) -> tuple[str, Redactions]:
    """Return a text without what the policy names, and what was taken out."""
    copy, done = redacted({'text': text}, policy)
    return copy['text'], done


class _Redactor:
    def __init__(self, policy: Policy, done: Redactions) -> None:
        self.policy = policy
        self.done = done
        self._copies: dict[int, Any] = {}  # by the id of the original, which lives as long
        self._special = {'configuration': self._configuration_file, 'logs': self._log_portion}
        self._made: list[Any] = []  # parts made here, whose ids must not be used again
        self._texts: list[tuple[Any, Any]] = []  # (dict or list of the copy, key or place)
        self._patterns = [row for row in PATTERNS if row.redacts in policy.classes]
        if policy.pattern:
            self._patterns.insert(0, Pattern('pattern', 'pattern', policy.pattern, 'the site'))
        of_paths = [row for row in self._patterns if row.redacts in ('homes', 'emails', 'pattern')]
        # Each text and each path is looked at once.
        self.text = functools.cache(functools.partial(self._by, self._patterns))
        self._path = functools.cache(functools.partial(self._by, of_paths))

    def document(self, document: Document) -> Document:
        copy: Document = self._copy(document, '')
        again = self._replacer()
        if again:
            for holder, key in self._texts:
                holder[key] = again(holder[key])
        return copy

    def _copy(self, node: Any, key: str) -> Any:
        """Return a redacted copy of a part of the document, which has this key."""
        if key == 'frames' and isinstance(node, list):  # by far the most values of a report
            return list(map(self._frame, node))
        special = self._special.get(key)
        if special and isinstance(node, list):
            node = [special(part) if isinstance(part, dict) else part for part in node]
            self._made.append(node)
        if isinstance(node, dict):
            if id(node) in self._copies:  # the last run may be the incident, too
                return self._copies[id(node)]
            copy: Any = {
                name: value if _is_ours(name, key) else self._copy(value, name)
                for name, value in node.items()
                if name not in _NEVER
            }
            if copy.get(_PATTERN):  # it may name what it hides
                copy[_PATTERN] = 'not shown'
            self._texts += [(copy, name) for name in copy if self._is_text(copy, name)]
            self._copies[id(node)] = copy
            return copy
        if isinstance(node, list):
            copy = [self._copy(item, key) for item in node]
            self._texts += [(copy, place) for place, item in enumerate(copy) if type(item) is str]
            return copy
        return self._leaf(node, key) if isinstance(node, str) and node else node

    def _frame(self, frame: Any) -> Any:
        if not isinstance(frame, dict):
            return frame
        for key in ('file', 'library'):
            file = frame.get(key)
            if isinstance(file, str) and (path := self._path(file)) != file:
                frame = frame | {key: path}
        return frame

    def _configuration_file(self, file: Document) -> Document:
        text = file.get('text')
        if not isinstance(text, str) or 'configuration' not in self.policy.classes:
            return file
        return file | {'text': without_secrets(text, self._setting)}

    def _log_portion(self, log: Document) -> Document:
        """Return a portion of a log, redacted as if each message began a line of its own.

        Some rows look at what is before a value in its line.
        """
        text = log.get('text')
        if not isinstance(text, str):
            return log
        return log | {'text': self.text(_HEAD.sub(rf'\g<0>{_SPLIT}', text)).replace(_SPLIT, '')}

    def _setting(self, value: str) -> str:
        if PSEUDONYM.fullmatch(value):
            return value
        return self.done.pseudonym('setting', value, 'configuration')

    @staticmethod
    def _is_text(holder: dict[str, Any], name: str) -> bool:
        return type(holder[name]) is str and name not in _OURS and name not in _PATHS

    def _leaf(self, text: str, key: str) -> str:
        if key in _USERS and 'users' in self.policy.classes:
            return text if text.lower() in NOBODY else self.done.pseudonym('user', text, 'users')
        if key in _PATHS:
            return self._path(text)
        if 'configuration' in self.policy.classes and smells(key):
            return self.done.pseudonym('setting', text, 'configuration')
        return self.text(text)

    def _by(self, patterns: Sequence[Pattern], text: str) -> str:
        """Return a text after these rows of the table."""
        if len(text) <= _LONGEST:
            return self._by_each(patterns, text)
        text = self._by_each([row for row in patterns if row.word == 'key'], text)  # many lines
        return ''.join(self._by_each(patterns, part) for part in _parts(text))

    def _by_each(self, patterns: Iterable[Pattern], text: str) -> str:
        hints = hints_in(text)
        for row in patterns:
            if not row.may_match(hints):
                continue
            text = row.sub(functools.partial(self._in_match, row), text)
        return text

    def _in_match(self, row: Pattern, match: re.Match[str]) -> str:
        if row.word == 'pattern':
            return self.done.pseudonym('pattern', match[0], 'pattern') if match[0] else ''
        if is_pseudonym(match) or row.is_exempt(match):
            return match[0]
        begin = match.start('v') - match.start()
        end = match.end('v') - match.start()
        whole = match[0]
        return whole[:begin] + self._of_value(match['v'], row) + whole[end:]

    def _of_value(self, value: str, row: Pattern) -> str:
        if row.redacts != 'query':
            return self.done.pseudonym(row.word, value, row.redacts)
        if value.startswith('{'):
            return _ITEM.sub(
                lambda item: item[1] + self.done.pseudonym(row.word, item[2], row.redacts), value
            )
        parts = re.split('([&;])', value)
        return ''.join(part if part in '&;' else self._of_parameter(part, row) for part in parts)

    def _of_parameter(self, part: str, row: Pattern) -> str:
        name, equals, value = part.partition('=')
        if not equals:
            name, value = '', part
        if not value or PSEUDONYM.fullmatch(value):
            return part
        return f'{name}{equals}{self.done.pseudonym(row.word, value, row.redacts)}'

    # -- once more -------------------------------------------------------------------------------

    def _replacer(self) -> Callable[[str], str] | None:
        """Return a function that replaces the known secrets wherever they occur again, or None.

        A secret that was found beside its name, as `password='...'`, may also stand alone in the
        message of an exception, or encoded.
        """
        spellings: dict[str, str] = {}
        for (word, value), pseudonym in self.done.pseudonyms.items():
            if _is_distinct(word, value):
                for spelling in _spellings(value):
                    spellings.setdefault(spelling, pseudonym)
        if not spellings or len(spellings) > _MOST_AGAIN:
            return None
        pattern = re.compile(rf'(?<!\w)(?:{_any_of(spellings)})(?!\w)')
        return functools.cache(lambda text: pattern.sub(lambda match: spellings[match[0]], text))


def _is_ours(name: str, holder: str) -> bool:
    return name in _OURS or (holder == 'reporter' and name in _REPORTER)


def _parts(text: str) -> Iterator[str]:
    """Yield the parts of a long text: whole lines, or else whole words, if there are such."""
    begin = 0
    while begin < len(text):
        end = begin + _LONGEST
        if end < len(text):
            for ending in ('\n', ' '):
                last = text.rfind(ending, begin, end)
                if last > begin:
                    end = last + 1
                    break
        yield text[begin:end]
        begin = end


def _any_of(words: Iterable[str], depth: int = 0) -> str:
    """Return an expression for any of the words, the longest first.

    Words with the same beginning stand together: the expression would try each word at each place
    of a text else.
    """
    by_letter: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        by_letter.setdefault(word[:1], []).append(word)
    parts: list[str] = []
    for alike in by_letter.values():
        if len(alike) < _FEW or depth > _DEEP:
            parts += map(re.escape, alike)
            continue
        begin = os.path.commonprefix(alike)
        rest = _any_of([word[len(begin) :] for word in alike], depth + 1)
        parts.append(f'{re.escape(begin)}(?:{rest})')
    return '|'.join(parts)


def _is_distinct(word: str, value: str) -> bool:
    """Whether a value is no ordinary word, so that it means the same wherever it occurs."""
    if '\n' in value:
        return False
    if word in _PERSONS:
        return len(value) >= 4 and not value.isalpha()
    has_digit = any(char.isdigit() for char in value)
    if word == 'value':
        return len(value) >= 2 * _LONG and has_digit
    if value.isalpha() or value.isdigit():
        return len(value) >= 2 * _LONG
    return len(value) >= _LONG or len(value) >= 5 and has_digit


def _spellings(value: str) -> set[str]:
    raw = value.encode('utf-8', 'replace')
    encoded = base64.b64encode(raw).decode().rstrip('=')
    return {
        value,
        quote(raw),
        quote(raw, safe=''),
        quote_plus(raw),
        html.escape(value),
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        *((encoded,) if len(encoded) >= _LONG else ()),
    }
