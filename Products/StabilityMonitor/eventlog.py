"""The logger of this product.  Whatever it is given, each record is one line, so that nobody can
forge another one.

The path of a request comes from anybody, and the text of an exception may come from a damaged file.
"""

from __future__ import annotations

import logging
import traceback

from .plaintext import clean

_INDENT = '    '


class _Cleaned(logging.Filter):
    """Cleans message and arguments.  The lines of a traceback are indented: none looks like a
    record's beginning.
    """

    def filter(self, record) -> bool:
        record.msg = clean(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg if isinstance(arg, int | float) else clean(arg) for arg in record.args
            )
        if record.exc_info and record.exc_info[0]:
            lines = ''.join(traceback.format_exception(*record.exc_info)).rstrip('\n').split('\n')
            record.exc_text = '\n'.join(_INDENT + clean(line) for line in lines)
        return True


LOGGER = logging.getLogger('StabilityMonitor')
if not any(isinstance(known, _Cleaned) for known in LOGGER.filters):
    LOGGER.addFilter(_Cleaned())
