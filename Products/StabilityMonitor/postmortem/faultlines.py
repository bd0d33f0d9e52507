"""Reads single lines and words of a fault log.  `faultlog` puts them together.

Bytes in, values out; None for a line that a dying process has not written to its end.
"""

from __future__ import annotations

import re

from ..model.records import Frame
from ..model.records import NativeFrame

SIGNALS = {
    'Segmentation fault': 'SIGSEGV',
    'Aborted': 'SIGABRT',
    'Bus error': 'SIGBUS',
    'Illegal instruction': 'SIGILL',
    'Floating point exception': 'SIGFPE',
    'Floating-point exception': 'SIGFPE',
}
MARK = b'Fatal Python error'
_ESCAPES = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))')


def decode_escapes(text: str) -> str:
    r"""`text` with faulthandler's \xNN, \uNNNN and \UNNNNNNNN turned back into characters.

    faulthandler does not escape the backslash itself, so `C:\xe9` may be a folder `xe9` or a name
    `é`: the latter is assumed.  What faulthandler cannot have written stays: `\x41` and `\u00e9`
    (it takes the shortest form), upper case digits, `C:\users`.  So do control characters,
    surrogates and what else is not printable, for the result goes to terminals and pages.
    """
    return _ESCAPES.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    form = match.lastindex or 1  # one of the three always matches
    low = (0x80, 0x100, 0x10000)[form - 1]
    code = int(match[form], 16)
    printable = low <= code <= 0x10FFFF and chr(code).isprintable()
    return chr(code) if printable else match[0]


def read_text(raw: bytes) -> str:
    """Bytes as text that can be shown: what is not printable is escaped."""
    text = raw.decode('utf-8', 'backslashreplace')
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def read_name(raw: bytes) -> str:
    return decode_escapes(read_text(raw))


def read_decimal(raw: bytes, digits: bytes = b'0123456789') -> int | None:
    """A plain number or None; int() takes signs, spaces and '_' too, and refuses 5000 digits."""
    if not 0 < len(raw) <= 20 or raw.strip(digits):
        return None
    return int(raw, len(digits))


def read_hexadecimal(raw: bytes) -> int | None:
    return read_decimal(raw, b'0123456789abcdef')


def read_reason(header: bytes) -> tuple[str, str | None]:
    """(reason, signal) of a header.  Another header may stand in the middle of its text."""
    what, _, rest = header.partition(b': ')
    reason = read_text(rest)
    if what != MARK:
        signal = f'SIG{reason}' if read_decimal(rest) else None
        return f'unexpected signum: {reason}', signal
    found = [name for name in SIGNALS if name in reason]
    if not found:
        return reason, None
    first = min(found, key=reason.find)
    return first, SIGNALS[first]


def read_frame(line: bytes) -> Frame | None:
    """`  File "/x.py", line 7 in name`, of which each part may be ???."""
    file, found, rest = line.removeprefix(b'  File ').rpartition(b', line ')
    number, _, function = rest.partition(b' in ')
    is_quoted = len(file) > 1 and file[:1] == file[-1:] == b'"'
    if not found or not function:
        return None
    if not is_quoted and file != b'???':
        return None
    line_number = read_decimal(number)
    if line_number is None and number != b'???':
        return None
    name = read_name(file[1:-1] if is_quoted else file)
    return Frame(name, line_number, read_name(function))


def read_native(line: bytes) -> NativeFrame | None:
    """`  Binary file "/x.so", at symbol+0x1f [0x7f00]`; without `, at ...` where nothing is
    known.
    """
    place, _, bracketed = line.removeprefix(b'  Binary file ').rpartition(b' [0x')
    address = read_hexadecimal(bracketed.removesuffix(b']'))
    binary, at, where = place.rpartition(b'", at ')
    if not at:
        binary = place[:-1]
        where = b''
    sign = max(b'+', b'-', key=lambda sign: where.rfind(sign + b'0x'))
    symbol, _, digits = where.rpartition(sign + b'0x')
    offset = read_hexadecimal(digits)
    if address is None or (at and offset is None):
        return None
    if offset and sign == b'-':
        offset = -offset
    return NativeFrame(read_text(binary[1:]), read_text(symbol), offset, address)
