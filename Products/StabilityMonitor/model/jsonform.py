"""The JSON form of the model's values: it comes from their annotations, and is checked when read.

A value is a frozen dataclass.  In JSON it is an object with a key for each field, in their order;
the properties that `ALSO_IN_JSON` of its class names follow.  What is read may be damaged, or
written by another release: an unknown key is ignored, and what has the wrong type, is not finite or
is out of bounds counts as if it was not there.

The annotations are read as objects.  So the modules that define values do not postpone them (no
`from __future__ import annotations`): to evaluate text later is what no thread of ours may do.
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

#: At most this many items of a list are read: ten times what is ever written.
MOST_ITEMS = 10_000
#: The largest number that the black box can hold.
LARGEST = (1 << 64) - 1
#: Larger floats mean nothing: in seconds, these are 30 billion years.
LARGEST_FLOAT = 1e18


@dataclass(frozen=True)
class Form:
    """How an annotated field looks in a file: `Annotated[float, Form(isotime, from_isotime)]`.

    `decode` returns None for what does not fit.  `key` is the key of the field in JSON, where that
    is not its name.  `always`: there is no plain form, so also `plain` has this one.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    key: str = ''
    always: bool = False


@dataclass(frozen=True)
class _Codec:
    """Reads and writes the values of one annotation.

    `decode` raises ValueError for what does not fit.  `nothing` makes what stands for a value that
    is not there.  `encode` and `encode_plain` are None where a value is its own JSON form.
    """

    decode: Callable[[Any], Any]
    nothing: Callable[[], Any]
    encode: Callable[[Any], Any] | None = None
    encode_plain: Callable[[Any], Any] | None = None
    key: str = ''
    is_required: bool = False  # a field without a default


def to_json(value: Any, plain: bool = False) -> dict[str, Any]:
    """The JSON form of a value; `plain` leaves out every Form, so that times are numbers.

    Do not change the dicts in it: they are the value's own.
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
    """The value that a document describes, see above.

    Raises ValueError if it is no object; with `strict`, also for a value that does not fit, and for
    one that is missing and has no default.
    """
    if not isinstance(document, dict):
        raise ValueError('not an object')
    values = {}
    for name, codec in _codecs(cls):
        # A plain document has the name of the field, any other one the key of its Form.
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
    """The values that a list describes.  What does not fit is left out."""
    if not isinstance(documents, list | tuple):
        return ()
    return _read_items(_codec(cls), documents)


# -- by annotation ---------------------------------------------------------------------------------

#: By class.  Two threads may both make an entry: they make the same.
_CODECS: dict[type, list[tuple[str, _Codec]]] = {}


def _codecs(cls: type) -> list[tuple[str, _Codec]]:
    """(name, codec) of each field of a class, in their order."""
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
    """Raises TypeError for an annotation that a value of the model cannot have."""
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
    """Reads the plain form as well as the other one."""
    try:
        found = plain.decode(value)
    except ValueError:
        return plain.decode(form.decode(value))
    if form.encode(found) is None:  # such as a time in a year that does not exist
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
    if not isinstance(value, int) or isinstance(value, bool):  # a bool is an int, too
        raise ValueError('not a whole number')
    if abs(value) > LARGEST:
        raise ValueError('too large')
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError('not a number')
    if abs(value) <= LARGEST_FLOAT:
        return value
    raise ValueError('too large, or NaN')  # no comparison with NaN is true


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
