"""The logger of this product.  Its filter makes sure that untrusted text cannot forge log lines.

The path of a request comes from the client, and the text of an exception may come from a damaged
file: neither may begin a line of the log.  Use this logger, not a child of it: `logging` does not
pass the records of a child to the filters of its parent.
"""

from __future__ import annotations

import logging
import traceback
from numbers import Number

from ..model.plaintext import clean

_INDENT = '    '


class _Cleaned(logging.Filter):
    """Cleans the message and its arguments, and indents the lines of tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True.  Raises nothing: `logging` does not catch the exceptions of a filter."""
        try:
            record.msg = clean(record.msg)
            if isinstance(record.args, dict):
                record.args = {key: _cleaned(value) for key, value in record.args.items()}
            elif record.args:
                record.args = tuple(map(_cleaned, record.args))
            if record.exc_info and record.exc_info[0]:
                traceback_lines = traceback.format_exception(*record.exc_info)
                record.exc_text = _indented(''.join(traceback_lines))
            if record.stack_info:
                record.stack_info = _indented(record.stack_info)
        except Exception as error:
            record.msg = 'A log message could not be formatted: %s.'
            record.args = (type(error).__name__,)
            record.exc_info = None
            record.exc_text = None
            record.stack_info = None
        return True


def _cleaned(value: object) -> object:
    if isinstance(value, Number):  # the message may have "%d" for it
        return value
    return clean(value)


def _indented(text: str) -> str:
    lines = []
    for line in text.rstrip('\n').split('\n'):
        lines.append(_INDENT + clean(line))
    return '\n'.join(lines)


LOGGER = logging.getLogger('StabilityMonitor')
_is_cleaned = any(isinstance(known, _Cleaned) for known in LOGGER.filters)
if not _is_cleaned:
    LOGGER.addFilter(_Cleaned())
