"""Reads JSON that another process has written: it may be damaged, or made to do harm.

What is returned can be compared, computed with, shown and written again, and it takes a bounded
amount of memory and work.  A value that does not fit counts as missing: NaN and infinities, numbers
that no record holds, what is nested too deeply, and the rest of a list or object that is too long.
A text is cut.  A document with more values than this product ever writes counts as damaged.
"""

from __future__ import annotations

import json
import sys
from typing import Any

#: At most this many items of a list or an object are read: twice as many as there are samples, the
#: longest list that is written.
MOST_ITEMS = 2_000
#: The largest number that the black box can hold.
LARGEST = (1 << 64) - 1
#: Larger floats make no sense: as seconds, this is 30 billion years.
LARGEST_FLOAT = 1e18
#: At most this many characters of a text are read; the longest that is written is a traceback.
LONGEST_TEXT = 32 << 10
#: A document with more values is damaged.  The largest that this product writes is the record of a
#: run with a hundred deep stacks and full rings: about 80,000.  In memory, a value may take fifty
#: times as many bytes as in the file: an empty list takes two bytes there.
MOST_VALUES = 170_000
#: If the texts of a document need more bytes of memory, the document counts as damaged.  Texts that
#: are too long were cut before.  The largest record takes about 1 MiB in all.  A page escapes and
#: copies the texts, and may need twenty-five times as much memory.
MOST_TEXT = 1536 << 10
#: Values that are nested more deeply are left out.  This product nests eight levels.
_DEEPEST = 32

_NOTHING = object()


def parse(content: bytes) -> Any:
    """Return the document in `content`.  Raises ValueError if it is damaged."""
    # Each value but the first follows one of these.  They are counted first because the parser
    # itself would take the memory.  Those in texts count too.
    if sum(map(content.count, (b',', b'[', b'{'))) > MOST_VALUES:
        raise ValueError('too many values')
    try:
        document = json.loads(content.decode('utf-8', 'replace'))
    except RecursionError:
        raise ValueError('nested too deeply') from None
    document = tame(document)
    if _memory_of_texts(document) > MOST_TEXT:
        raise ValueError('too much text')
    return document


def _memory_of_texts(value: Any) -> int:
    """Return how many bytes of memory the characters of all texts need.

    Python stores all characters of a text in the same width.  So one emoji makes each character of
    its text four bytes wide.
    """
    if isinstance(value, str):
        return sys.getsizeof(value) - sys.getsizeof('')
    if isinstance(value, dict):
        return sum(map(_memory_of_texts, (*value, *value.values())))
    if isinstance(value, list):
        return sum(map(_memory_of_texts, value))
    return 0


def tame(document: Any) -> Any:
    """Return the document without the values that do not fit, see the module; None for such one."""
    found = _tame(document, _DEEPEST)
    return None if found is _NOTHING else found


def _tame(value: Any, deepest: int) -> Any:
    """Return the value, or _NOTHING if it does not fit."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else _NOTHING
    if isinstance(value, float):
        # Every comparison with NaN is false.
        return value if abs(value) <= LARGEST_FLOAT else _NOTHING
    if not deepest:
        return _NOTHING
    if isinstance(value, dict):
        known = {}
        for key, item in list(value.items())[:MOST_ITEMS]:
            tamed = _tame(item, deepest - 1)
            if tamed is not _NOTHING:
                known[str(key)[:LONGEST_TEXT]] = tamed
        return known
    if isinstance(value, list | tuple):
        items = []
        for item in value[:MOST_ITEMS]:
            tamed = _tame(item, deepest - 1)
            if tamed is not _NOTHING:
                items.append(tamed)
        return items
    return _NOTHING
