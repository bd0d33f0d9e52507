"""A logging handler that leaves the last log records in the black box.

`handle` is overridden, not `emit`: the lock of logging.Handler would be one that requests wait for.
"""

from __future__ import annotations

import logging
import time
import traceback

from .recorder import Recorder


class BreadcrumbHandler(logging.Handler):
    """Writes records from `level` on through `recorder`; on an error of its own it goes quiet."""

    def __init__(self, recorder: Recorder, level: int) -> None:
        super().__init__(level)
        self.recorder = recorder

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            self.recorder.log(record.levelno, record.name, _text(record), time.time())
        except Exception:
            self.setLevel(logging.CRITICAL + 1)
        return True


def _text(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            message += ': ' + traceback.format_exception_only(*record.exc_info[:2])[-1].strip()
    except Exception:  # the record is at fault, not we
        message = record.msg if isinstance(record.msg, str) else f'({type(record.msg).__name__})'
    return message
