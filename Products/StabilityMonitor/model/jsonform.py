"""The JSON form of the model's values: made from their annotations, and checked when it is read.

A value is a frozen dataclass.  In JSON it is an object with a key for each field, in order; then
come the properties that `ALSO_IN_JSON` of its class names.  A document may be damaged, or written
by another release: unknown keys are ignored, and a value of the wrong type, not finite or out of
bounds counts as missing.

This module needs the annotations as objects.  So the modules that define values do not postpone
them (no `from __future__ import annotations`): our threads must not evaluate annotations later.
"""

import typing
from collections.abc import Callable
from dataclasses import MISSING
from dataclasses import Field
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import is_dataclass
from dataclasses import replace
from functools import partial
from types import NoneType
from types import UnionType
from typing import Annotated
from typing import Any
from typing import TypeVar

Value = TypeVar('Value')

#: At most this many items of a list are read: ten times as many as are ever written.
MOST_ITEMS = 10_000
#: The largest number that the black box can hold.
LARGEST = (1 << 64) - 1
#: Larger floats make no sense: as seconds, this is 30 billion years.
LARGEST_FLOAT = 1e18


@dataclass(frozen=True)
class Form:
    """The JSON form of an annotated field: `Annotated[float, Form(isotime, from_isotime)]`.

    `decode` returns None for a value that does not fit.  `key` is the JSON key of the field, if it
    is not its name.  `always`: the field has no plain form, so `plain` documents use this form too.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    key: str = ''
    always: bool = False


@dataclass(frozen=True)
class _Codec:
    """Reads and writes the values of one annotation.

    `decode` raises ValueError for a value that does not fit.  `nothing` makes the value for a key
    that is missing.  `encode` and `encode_plain` are None if a value is its own JSON form.
    """

    decode: Callable[[Any], Any]
    nothing: Callable[[], Any]
    encode: Callable[[Any], Any] | None = None
    encode_plain: Callable[[Any], Any] | None = None
    key: str = ''
    is_required: bool = False  # a field without a default


def to_json(value: Any, plain: bool = False) -> dict[str, Any]:
    """Return the JSON form of a value; `plain` uses no Form, so that times are numbers.

    Do not change the dicts in it: they belong to the value.
    """
    known = vars(value)
    document = {}
    for name, codec in _codecs(type(value)):
        item = known[name]
        encode = codec.encode_plain if plain else codec.encode
        key = name if plain else codec.key or name
        document[key] = encode(item) if encode else item
    for name in getattr(value, 'ALSO_IN_JSON', ()):
        document[name] = getattr(value, name)
    return document


def from_json(cls: type[Value], document: object, strict: bool = False) -> Value:
    """Return the value that a document describes, see the module.

    Raises ValueError if the document is not an object; with `strict`, also for a value that does
    not fit, and for a missing value without a default.
    """
    if not isinstance(document, dict):
        raise ValueError('not an object')
    values = {}
    for name, codec in _codecs(cls):
        # A plain document uses the name of the field, any other document the key of its Form.
        key = name if name in document else codec.key or name
        if key not in document:
            if strict and codec.is_required:
                raise ValueError(f'{name} is missing')
            values[name] = codec.nothing()
            continue
        try:
            values[name] = codec.decode(document[key])
        except ValueError:
            if strict:
                raise
            values[name] = codec.nothing()
    return cls(**values)


def items_from_json(cls: type[Value], documents: object) -> tuple[Value, ...]:
    """Return the values that a list describes.  Items that do not fit are skipped."""
    if not isinstance(documents, list | tuple):
        return ()
    return _read_items(_codec(cls), documents)


# -- by annotation ---------------------------------------------------------------------------------

#: By class.  It needs no lock: two threads that make an entry at once make the same one.
_CODECS: dict[type, list[tuple[str, _Codec]]] = {}


def _codecs(cls: type) -> list[tuple[str, _Codec]]:
    """(name, codec) of each field of a class, in order."""
    found = _CODECS.get(cls)
    if found is None:
        found = [(field.name, _of_field(field)) for field in fields(cls)]
        _CODECS[cls] = found
    return found


def _of_field(field: 'Field[Any]') -> _Codec:
    codec = _codec(field.type)
    default = field.default
    if default is not MISSING:
        return replace(codec, nothing=lambda: default)
    if field.default_factory is not MISSING:
        return replace(codec, nothing=field.default_factory)
    return replace(codec, is_required=True)


def _codec(annotation: Any) -> _Codec:
    """Return the codec of an annotation.  Raises TypeError if it is not supported."""
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if is_dataclass(annotation):
        return _of_class(annotation)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        inner, form = arguments
        return _of_form(_codec(inner), form)
    if origin is tuple:
        return _of_items(_codec(arguments[0]))
    if origin is dict:
        return _Codec(_dict, nothing=dict)
    if origin in (UnionType, typing.Union) and arguments[1] is NoneType:
        return _of_optional(_codec(arguments[0]))
    raise TypeError(f'{annotation} has no JSON form')


def _of_class(cls: Any) -> _Codec:
    return _Codec(
        decode=partial(from_json, cls),
        nothing=partial(from_json, cls, {}),
        encode=to_json,
        encode_plain=partial(to_json, plain=True),
    )


def _of_form(plain: _Codec, form: Form) -> _Codec:
    decode = partial(_decode_either, plain, form)
    encode_plain = plain.encode_plain
    if form.always:
        decode = partial(_decode_form, form)
        encode_plain = form.encode
    return _Codec(
        decode=decode,
        nothing=plain.nothing,
        encode=form.encode,
        encode_plain=encode_plain,
        key=form.key,
    )


def _decode_form(form: Form, value: Any) -> Any:
    found = form.decode(value)
    if found is None:
        raise ValueError('does not fit')
    return found


def _decode_either(plain: _Codec, form: Form, value: Any) -> Any:
    """Read a value that has its plain form, or the form that its Form describes."""
    try:
        found = plain.decode(value)
    except ValueError:
        return plain.decode(form.decode(value))
    if form.encode(found) is None:  # for example a time in a year that does not exist
        raise ValueError('cannot be written')
    return found


def _of_optional(inner: _Codec) -> _Codec:
    encode = None
    if inner.encode:
        encode = partial(_unless_none, inner.encode)
    encode_plain = None
    if inner.encode_plain:
        encode_plain = partial(_unless_none, inner.encode_plain)
    return _Codec(
        decode=partial(_unless_none, inner.decode),
        nothing=lambda: None,
        encode=encode,
        encode_plain=encode_plain,
        key=inner.key,
    )


def _of_items(inner: _Codec) -> _Codec:
    return _Codec(
        decode=partial(_read_items, inner),
        nothing=tuple,
        encode=partial(_write_items, inner.encode),
        encode_plain=partial(_write_items, inner.encode_plain),
    )


def _read_items(inner: _Codec, items: Any) -> tuple[Any, ...]:
    if not isinstance(items, list | tuple):
        raise ValueError('not a list')
    found = []
    for item in items[:MOST_ITEMS]:
        try:
            found.append(inner.decode(item))
        except ValueError:
            continue  # one damaged item is no reason to lose the others
    return tuple(found)


def _write_items(encode: Callable[[Any], Any] | None, items: tuple[Any, ...]) -> list[Any]:
    if encode is None:
        return list(items)
    return list(map(encode, items))


def _unless_none(function: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else function(value)


# -- what is checked -------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('not a text')
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):  # a bool is an int in Python
        raise ValueError('not a whole number')
    if abs(value) > LARGEST:
        raise ValueError('too large')
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError('not a number')
    if abs(value) <= LARGEST_FLOAT:
        return value
    raise ValueError('too large, or NaN')  # every comparison with NaN is false


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError('neither true nor false')
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError('not an object')
    return value


_SCALARS: dict[Any, _Codec] = {
    str: _Codec(_text, nothing=str),
    int: _Codec(_integer, nothing=int),
    float: _Codec(_number, nothing=float),
    bool: _Codec(_flag, nothing=bool),
}
