"""The JSON Schema of a report, made from the annotations in `reportdocument` and in the model.

`tools/report_schema.py` writes it to `report.schema.json`, which ships with the product.  Nothing
at run time imports this module.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from dataclasses import fields
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from ..model.jsonform import Form
from ..model.records import LogLine
from ..model.records import Moment
from ..model.severities import SEVERITIES
from ..model.severities import SeverityCode
from ..model.threadstates import Ident
from .report import SCHEMA
from .reportdocument import PLAIN
from .reportdocument import Changed
from .reportdocument import Report

FILE = Path(__file__).with_name('report.schema.json')
_DIALECT = 'https://json-schema.org/draft/2020-12/schema'
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {'type': 'string'},
    int: {'type': 'integer'},
    float: {'type': 'number'},
    bool: {'type': 'boolean'},
    Any: {},
}
#: Keys that never leave the site, see `redaction`.
_NEVER_SENT = ('registers',)


def _form(annotation: Any) -> Form:
    """Return the Form of an `Annotated[type, Form(...)]`."""
    found: Form = typing.get_args(annotation)[1]
    return found


#: {how a Form writes a value: the schema of what it writes}
_WRITTEN: dict[Any, dict[str, Any]] = {
    _form(Moment).encode: {
        'type': ['string', 'null'],
        'pattern': r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$',
    },
    _form(Ident).encode: {'type': ['integer', 'null']},
    _form(typing.get_type_hints(LogLine, include_extras=True)['ident']).encode: {
        'type': ['string', 'null'],
        'pattern': '^0x[0-9a-f]+$',
    },
    _form(SeverityCode).encode: {'enum': list(SEVERITIES)},
    str: {'type': 'string'},
}


def report_schema(is_closed: bool = False) -> dict[str, Any]:
    """Return the schema.

    It allows further keys, because keys are added; with `is_closed` it refuses them, so that a test
    finds a key that has no annotation.
    """
    definitions: dict[str, Any] = {}
    maker = _Maker(definitions, is_closed)
    return {
        '$schema': _DIALECT,
        '$id': f'urn:{SCHEMA.replace("/", ":")}',
        'title': 'A report of Products.StabilityMonitor',
        **maker.of(Report),
        '$defs': definitions,
    }


def schema_text() -> str:
    """Return the content of the file that ships."""
    return json.dumps(report_schema(), indent=1) + '\n'


class _Maker:
    """Makes the schema of an annotation; those of classes are collected in `definitions`."""

    def __init__(self, definitions: dict[str, Any], is_closed: bool) -> None:
        self._definitions = definitions
        self._is_closed = is_closed

    def of(self, annotation: Any, plain: bool = False) -> dict[str, Any]:
        """Return the schema of an annotation, for its plain JSON form or the usual one.

        Raises TypeError for one that is not known here.
        """
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        if is_dataclass(annotation) or typing.is_typeddict(annotation):
            return self._reference(annotation, plain)
        origin = typing.get_origin(annotation)
        arguments = typing.get_args(annotation)
        if origin is typing.NotRequired:
            return self.of(arguments[0], plain)
        if origin is typing.Annotated:
            return self._annotated(annotation, plain)
        if origin is typing.Literal:
            return {'enum': list(arguments)}
        if origin in (tuple, list):
            return {'type': 'array', 'items': self.of(arguments[0], plain)}
        if origin is dict:
            return {'type': 'object', 'additionalProperties': self.of(arguments[1], plain)}
        if origin in (types.UnionType, typing.Union) and arguments[1:] == (types.NoneType,):
            return _or_null(self.of(arguments[0], plain))
        raise TypeError(f'{annotation} has no JSON Schema: add it to {__name__}')

    def _annotated(self, whole: Any, plain: bool) -> dict[str, Any]:
        inner, extra = typing.get_args(whole)
        if extra is PLAIN:
            return self.of(inner, plain=True)
        if isinstance(extra, Changed):
            return self._reference(inner, plain, extra)
        if isinstance(extra, str):
            return {'const': extra}
        if not isinstance(extra, Form):
            raise TypeError(f'{whole} has no JSON Schema: add it to {__name__}')
        if plain and not extra.always:
            return self.of(inner)
        if extra.encode not in _WRITTEN:
            raise TypeError(f'{whole} has no JSON Schema: add its Form to _WRITTEN in {__name__}')
        return _WRITTEN[extra.encode]

    def _reference(self, cls: type, plain: bool, changed: Changed | None = None) -> dict[str, Any]:
        name = changed.name if changed else cls.__name__
        if plain:
            name = f'Plain{name}'
        if name not in self._definitions:
            self._definitions[name] = {}  # a class may refer to itself
            self._definitions[name].update(self._object(cls, plain, changed or Changed(name)))
        return {'$ref': f'#/$defs/{name}'}

    def _object(self, cls: type, plain: bool, changed: Changed) -> dict[str, Any]:
        keys = self._keys(cls, plain)
        required = set(getattr(cls, '__required_keys__', keys))
        if changed.more:
            keys |= self._keys(changed.more, plain)
            required |= getattr(changed.more, '__required_keys__', frozenset())
        found: dict[str, Any] = {'type': 'object'}
        words = _words(cls)
        if words:
            found['description'] = words
        optional = {*changed.optional, *_NEVER_SENT}
        properties = {key: value for key, value in keys.items() if key not in changed.without}
        found['properties'] = properties
        found['required'] = [key for key in properties if key in required - optional]
        if self._is_closed:
            found['additionalProperties'] = False
        return found

    def _keys(self, cls: type, plain: bool) -> dict[str, Any]:
        """Return {key: schema} of a class, in the order in which it is written."""
        hints = typing.get_type_hints(cls, include_extras=True)
        if not is_dataclass(cls):
            return {key: self.of(hint, plain) for key, hint in hints.items()}
        found = {}
        for field in fields(cls):
            found[_key(hints[field.name], field.name, plain)] = self.of(hints[field.name], plain)
        for name in getattr(cls, 'ALSO_IN_JSON', ()):
            found[name] = self.of(typing.get_type_hints(getattr(cls, name).fget)['return'])
        return found


def _key(annotation: Any, name: str, plain: bool) -> str:
    """Return the key of a field: its name, if its Form does not have another one."""
    for extra in getattr(annotation, '__metadata__', ()):
        if isinstance(extra, Form) and extra.key and not plain:
            return extra.key
    return name


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get('type')
    if isinstance(kind, str):
        return schema | {'type': [kind, 'null']}
    if isinstance(kind, list) and 'null' in kind:
        return schema
    return {'anyOf': [schema, {'type': 'null'}]}


def _words(cls: type) -> str:
    """Return the docstring of a class; '' if it has none of its own."""
    words = inspect.cleandoc(cls.__doc__ or '')
    return '' if words.startswith(f'{cls.__name__}(') else words
