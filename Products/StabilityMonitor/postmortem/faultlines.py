"""Reads single lines and words of a fault log; `faultlog` combines them.

Bytes in, values out.  None means that a line is torn: the dying process did not complete it.
"""

from __future__ import annotations

import re
import sys

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
#: What faulthandler writes for a name or a line number that it does not know.
_UNKNOWN = b'???'
_ESCAPES = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))')
#: The lowest character code that faulthandler writes in each of these forms.
_LOWEST_CODES = (0x80, 0x100, 0x10000)
#: Number of digits of the largest number that is read: 2 ** 64 - 1.
_MOST_DIGITS = 20


def decode_escapes(text: str) -> str:
    r"""Return `text` with faulthandler's \xNN, \uNNNN and \UNNNNNNNN turned back into characters.

    faulthandler does not escape the backslash itself, so `C:\xe9` may be a folder `xe9` or a name
    `é`; the name is assumed.  What faulthandler cannot have written is kept as it is: `\x41` and
    `\u00e9` (faulthandler uses the shortest form), upper case digits, `C:\users`.  Escapes of
    control characters, surrogates and other characters that cannot be printed are kept too, because
    the result is shown on terminals and pages.
    """
    return _ESCAPES.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    form = match.lastindex or 1  # one of the three always matches
    lowest = _LOWEST_CODES[form - 1]
    code = int(match[form], 16)
    if not lowest <= code <= sys.maxunicode:
        return match[0]
    character = chr(code)
    if not character.isprintable():
        return match[0]
    return character


def read_text(raw: bytes) -> str:
    """Return bytes as text that can be shown: characters that cannot be printed are escaped."""
    text = raw.decode('utf-8', 'backslashreplace')
    if text.isprintable():
        return text
    shown = []
    for character in text:
        if not character.isprintable():
            character = character.encode('unicode_escape').decode()
        shown.append(character)
    return ''.join(shown)


def read_name(raw: bytes) -> str:
    return decode_escapes(read_text(raw))


def read_decimal(raw: bytes, digits: bytes = b'0123456789') -> int | None:
    """Return a plain number or None.

    int() alone would also accept signs, spaces and "_", and raise for 5000 digits.
    """
    if not 0 < len(raw) <= _MOST_DIGITS:
        return None
    if raw.strip(digits):
        return None
    return int(raw, len(digits))


def read_hexadecimal(raw: bytes) -> int | None:
    return read_decimal(raw, b'0123456789abcdef')


def read_reason(header: bytes) -> tuple[str, str | None]:
    """Return (reason, signal) of a header.  The text of another header may be inside it."""
    what, _, rest = header.partition(b': ')
    reason = read_text(rest)
    if what != MARK:
        signal = None
        if read_decimal(rest):
            signal = f'SIG{reason}'
        return f'unexpected signum: {reason}', signal
    found = [name for name in SIGNALS if name in reason]
    if not found:
        return reason, None
    first = min(found, key=reason.find)
    return first, SIGNALS[first]


def read_frame(line: bytes) -> Frame | None:
    """Read `  File "/x.py", line 7 in name`, in which each part may be ???."""
    content = line.removeprefix(b'  File ')
    file, found, rest = content.rpartition(b', line ')
    number, _, function = rest.partition(b' in ')
    if not found or not function:
        return None
    is_quoted = len(file) > 1 and file[:1] == file[-1:] == b'"'
    if is_quoted:
        file = file[1:-1]
    elif file != _UNKNOWN:
        return None
    line_number = read_decimal(number)
    if line_number is None and number != _UNKNOWN:
        return None
    return Frame(
        file=read_name(file),
        line=line_number,
        function=read_name(function),
    )


def read_native(line: bytes) -> NativeFrame | None:
    """Read `  Binary file "/x.so", at symbol+0x1f [0x7f00]`.

    The part `, at ...` is missing if faulthandler does not know it.
    """
    content = line.removeprefix(b'  Binary file ')
    place, _, bracketed = content.rpartition(b' [0x')
    address = read_hexadecimal(bracketed.removesuffix(b']'))
    if address is None:
        return None
    binary, at, where = place.rpartition(b'", at ')
    if not at:
        return NativeFrame(
            binary=read_text(place[1:-1]),
            symbol='',
            offset=None,
            address=address,
        )
    is_before = where.rfind(b'-0x') > where.rfind(b'+0x')
    sign = b'-' if is_before else b'+'
    symbol, _, digits = where.rpartition(sign + b'0x')
    offset = read_hexadecimal(digits)
    if offset is None:
        return None
    if is_before:
        offset = -offset
    return NativeFrame(
        binary=read_text(binary[1:]),
        symbol=read_text(symbol),
        offset=offset,
        address=address,
    )
