"""A logging handler that keeps the last log records in the black box.

It overrides `handle`, not `emit`: `logging.Handler.handle` takes a lock, for which requests would
wait.
"""

from __future__ import annotations

import logging
import time
import traceback

from .recorder import Recorder


class BreadcrumbHandler(logging.Handler):
    """Writes records of `level` and above through `recorder`.  After an error of the recorder, it
    writes nothing any more.
    """

    def __init__(self, recorder: Recorder, level: int) -> None:
        super().__init__(level)
        self.recorder = recorder

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            text = _text(record)
            self.recorder.log(record.levelno, record.name, text, time.time())
        except Exception:
            self.setLevel(logging.CRITICAL + 1)
        return True


def _text(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, _ = record.exc_info
            lines = traceback.format_exception_only(kind, error)
            message += f': {lines[-1].strip()}'
        return message
    except Exception:  # the record is wrong, for example its arguments do not fit its message
        if isinstance(record.msg, str):
            return record.msg
        return f'({type(record.msg).__name__})'
