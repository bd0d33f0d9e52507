"""Plain names of functions whose names compilers have changed ("mangled").  Text in, text out.

Only the path of names is read, as "package::Class::method"; types are left out.  Sources: Itanium
C++ ABI, 5.1; Rust RFC 2603 (names that begin with `_R`) and the older form with a hash; Cython
Compiler/Naming.py.
"""

from __future__ import annotations

import re

_NESTED = re.compile(r'_ZN[rVKRO]*(?=\d)')
_PLAIN = re.compile(r'_ZL?(?=\d)')
_RUST = re.compile(r'_R(?=[A-Z])')
_RUST_HASH = re.compile(r'h[0-9a-f]{16}')
#: What tells crates of one name apart: 64 bits to base 62.  It changes with each release of the
#: compiler.
_RUST_DISAMBIGUATOR = re.compile(r'(?<=C)s[0-9A-Za-z]{0,11}_')
#: The length of a name.  The function may be from a damaged file: no name is longer.
_LENGTH = re.compile(r'\d{1,5}', re.ASCII)
_CYTHON = re.compile(r'__pyx_(?:pw|pf|f|fuse_\d+__pyx_\w\w)_')
#: The lengths of names, and the number of the function: that changes with each function above it.
_CYTHON_NUMBER = re.compile(r'(?:(?<=_)|^)\d+(?=[A-Za-z_])')


def unmangled(function: str) -> str:
    """Return the plain name of a function; one that is not mangled as it is."""
    nested = _NESTED.match(function)
    if nested:
        return '::'.join(_names(function[nested.end() :])) or function
    plain = _PLAIN.match(function)
    if plain:
        return '::'.join(_names(function[plain.end() :])[:1]) or function
    if _RUST.match(function):
        path = _RUST_DISAMBIGUATOR.sub('', function[2:])
        first = re.search(r'\d', path)
        return '::'.join(_names(path[first.start() :] if first else '', '_')) or function
    cython = _CYTHON.match(function)
    if cython:
        return _CYTHON_NUMBER.sub('', function[cython.end() :]) or function
    return function


def _names(text: str, separator: str = '') -> list[str]:
    """Split "5boost6python4callEv" into its names: each has its length before it.

    A name may have a separator before it that does not count.
    """
    found = []
    while digits := _LENGTH.match(text):
        start = digits.end() + (bool(separator) and text.startswith(separator, digits.end()))
        name = text[start : start + int(digits[0])]
        if len(name) < int(digits[0]):
            return []
        if not _RUST_HASH.fullmatch(name):
            found.append(name)
        text = text[start + len(name) :]
    return found
