"""The logger of this product.  No foreign text begins a line of the log, so nobody can forge one.

The path of a request comes from anybody, and the text of an exception may come from a damaged file.
Use this logger and no child of it: `logging` does not show a child's records to this filter.
"""

from __future__ import annotations

import logging
import traceback
from numbers import Number

from ..model.plaintext import clean

_INDENT = '    '


class _Cleaned(logging.Filter):
    """Cleans message and arguments, and indents the lines of tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true.  Raises nothing: a filter is called outside of what `logging` guards."""
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
            record.msg = 'A message could not be made: %s.'
            record.args = (type(error).__name__,)
            record.exc_info = None
            record.exc_text = None
            record.stack_info = None
        return True


def _cleaned(value: object) -> object:
    if isinstance(value, Number):  # the message may format it as one, as in "%d"
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
