"""Hostile values for the files of a data directory, and documents that hold one of them.

The documents are made from the annotations of the model, so a new field is tried without a change
here.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from dataclasses import fields
from dataclasses import is_dataclass
from types import NoneType
from types import UnionType
from typing import Annotated
from typing import Any

import pytest

from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.records import Moment
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.severities import WARNING
from Products.StabilityMonitor.model.severities import Severity
from Products.StabilityMonitor.model.threadstates import Event
from support.syntheticruns import HERE
from support.syntheticruns import STARTED

HTML = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&'


def _text(value: str) -> str:
    return json.dumps(value)


#: {what it is: JSON text}.  Python's reader accepts all of them but the last three.
VALUES = {
    'NaN': 'NaN',
    'Infinity': 'Infinity',
    '-Infinity': '-Infinity',
    'a number that is read as infinity': '1e999',
    'a huge float': '1e308',
    'a large float': '1e17',
    'a huge integer': f'1{"0" * 400}',
    'the largest integer': '18446744073709551615',
    'a large negative integer': '-18446744073709551615',
    'minus one': '-1',
    'zero': '0',
    'a float': '1.5',
    'a tiny float': '5e-324',
    'true': 'true',
    'false': 'false',
    'null': 'null',
    'an empty text': '""',
    'a huge text': _text('x' * 300_000),
    'a huge text of large characters': f'"{chr(92)}ud83d{chr(92)}ude00{"ü" * 100_000}"',
    'a lone surrogate': f'"a{chr(92)}ud800b{chr(92)}udfff"',
    'control characters': _text('a\0b\x1b[2J\r\n\x9b\x7f'),
    'bidirectional controls': _text('\u202egpj.exe\u2066 \u2028\ufeff'),
    'HTML': _text(HTML),
    'a path upwards': _text('../../etc/passwd'),
    'an absolute path': _text('/etc/passwd'),
    'a path with NUL': _text('/etc\0/passwd'),
    'a format': _text('%s %d {0} {x!r} ${y}'),
    'digits': _text('٣' * 5000),
    'a time in year 0': _text('0000-00-00T00:00:00.000Z'),
    'a time in year 99999': _text('99999-01-01T00:00:00.000Z'),
    'the first time': _text('0001-01-01T00:00:00.000Z'),
    'the last time': _text('9999-12-31T23:59:59.999Z'),
    'a time without a zone': _text('0001-01-01T00:00:00'),
    'the name of another run': _text('20200101T000000Z-1-abcd'),
    'an impossible name': _text('99999999T999999Z-4242-abcd'),
    'a list': '[1, "x", null]',
    'an object': '{"a": 1, "file": "x"}',
    'a list of lists': '[[["x"]], [{}]]',
    'a long list': json.dumps(list(range(30_000))),
    'a long list of objects': json.dumps([{}] * 20_000),
    'a large object': json.dumps({str(number): number for number in range(20_000)}),
    'odd keys': f'{{"{chr(92)}ud800": 1, "": 2, "a{chr(92)}u0000": 3, "{HTML[2:10]}": NaN}}',
    'an object with hostile values': '{"a": NaN, "b": [Infinity, 1e999], "c": {"d": -Infinity}}',
    'a nested list': '[' * 200 + ']' * 200,
    'a deep list': '[' * 700 + ']' * 700,
    'a very deep list': '[' * 100_000 + ']' * 100_000,
    'very deep objects': '{"a":' * 100_000 + '1' + '}' * 100_000,
    'an integer of 5000 digits': '9' * 5000,
}


def few(*quick: str) -> pytest.MarkDecorator:
    """Return the mark that tries a test with each value; all but these belong to the sweep."""
    cases = []
    for name in VALUES:
        marks = [] if name in quick else [pytest.mark.sweep]
        cases.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize('name', cases)


#: Values of fields whose words decide what is shown: {(class, field): value}.
_MEANINGFUL: dict[tuple[type, str], Any] = {
    (Note, 'kind'): 'slow',
    (Event, 'kind'): 'deadlock',
    (Event, 'ended'): None,
    (RunRecord, 'instance'): HERE,
    (RunRecord, 'role'): 'server',
    (RunRecord, 'verdict'): 'crashed',
    (RunRecord, 'confidence'): 'certain',
}


def whole(cls: Any, **known: Any) -> Any:
    """Return a value of a class in which every field is set, and every list has two items."""
    values = {}
    for field in fields(cls):
        if field.name in known:
            values[field.name] = known[field.name]
        elif (cls, field.name) in _MEANINGFUL:
            values[field.name] = _MEANINGFUL[cls, field.name]
        else:
            values[field.name] = _example(field.type)
    return cls(**values)


def _example(annotation: Any) -> Any:
    if annotation in _EXAMPLES:
        return _EXAMPLES[annotation]
    if is_dataclass(annotation):
        return whole(annotation)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return _example(arguments[0])
    if origin is tuple:
        return (_example(arguments[0]), _example(arguments[0]))
    if origin is dict:
        return {'a': 1, 'b': {'c': 'd'}}
    assert origin in (UnionType, typing.Union) and arguments[1] is NoneType, annotation
    return _example(arguments[0])


_EXAMPLES: dict[Any, Any] = {
    str: 'word',
    int: 7,
    float: 1.5,
    bool: True,
    Moment: STARTED + 50,
    Severity: WARNING,
    Action: Action('Write "x" into `y`.'),
}

Place = tuple[str | int, ...]


def places(document: Any, here: Place = ()) -> Iterator[Place]:
    """Yield the way to each value of a document, and to the first item of each list."""
    if here:
        yield here
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*here, key))
    elif isinstance(document, list | tuple) and document:
        yield from places(document[0], (*here, 0))


def with_value(document: Any, place: Place, value: str) -> str:
    """Return the document as JSON, with a JSON text in that place."""
    return with_values(document, {place: value})


def with_values(document: Any, values: dict[Place, str]) -> str:
    """Return the document as JSON, with these JSON texts in their places."""
    marked = json.loads(json.dumps(document))
    marks = {}
    for number, (place, value) in enumerate(values.items()):
        mark = f'@{number}@'
        marks[mark] = value
        inner = marked
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = mark
    text = json.dumps(marked)
    pieces = []
    for piece in text.split('"@'):
        number, end, rest = piece.partition('@"')
        if end and f'@{number}@' in marks:
            pieces.append(marks[f'@{number}@'] + rest)
        else:
            pieces.append(piece if not pieces else f'"@{piece}')
    return ''.join(pieces)


def leaves(document: Any) -> list[Place]:
    """Return the places of a document that contain no other place."""
    found = list(places(document))
    return [place for place in found if not any(_is_within(other, place) for other in found)]


def _is_within(inner: Place, outer: Place) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer
