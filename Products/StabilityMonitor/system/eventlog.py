"""The logger of this product.  Whatever it is given, no foreign text begins a line, so that nobody
can forge a record.  (A child logger would not be covered: `logging` shows it to no filter here.)

The path of a request comes from anybody, and the text of an exception may come from a damaged file.
"""

from __future__ import annotations

import logging
import traceback
from numbers import Number

from ..model.plaintext import clean

_INDENT = '    '


class _Cleaned(logging.Filter):
    """Cleans message and arguments.  The lines of a traceback are indented: none looks like a
    record's beginning.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true.  Raises nothing: a filter is called outside of what `logging` guards."""
        try:
            _clean(record)
        except Exception as error:
            record.msg, record.args = 'A message could not be made: %s.', (type(error).__name__,)
            record.exc_info = record.exc_text = record.stack_info = None
        return True


def _clean(record: logging.LogRecord) -> None:
    record.msg = clean(record.msg)
    if isinstance(record.args, dict):
        record.args = {key: _cleaned(value) for key, value in record.args.items()}
    elif record.args:
        record.args = tuple(map(_cleaned, record.args))
    if record.exc_info and record.exc_info[0]:
        record.exc_text = _indented(''.join(traceback.format_exception(*record.exc_info)))
    if record.stack_info:
        record.stack_info = _indented(record.stack_info)


def _cleaned(value: object) -> object:
    return value if isinstance(value, Number) else clean(value)


def _indented(text: str) -> str:
    return '\n'.join(_INDENT + clean(line) for line in text.rstrip('\n').split('\n'))


LOGGER = logging.getLogger('StabilityMonitor')
if not any(isinstance(known, _Cleaned) for known in LOGGER.filters):
    LOGGER.addFilter(_Cleaned())
