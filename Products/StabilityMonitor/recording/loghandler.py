"""A logging handler that keeps the last log records in the black box.

It overrides `handle`, not `emit`: `logging.Handler.handle` takes a lock, for which requests would
wait.
"""

from __future__ import annotations

import logging
import time
import traceback

from .recorder import Recorder

#: The logger of waitress, and its function that logs an error of accept().  Read in the sources of
#: waitress 2.1.2 and 3.0.2, `BaseWSGIServer.handle_accept`.
_WAITRESS = logging.getLogger('waitress')
_ACCEPTS = 'handle_accept'


class BreadcrumbHandler(logging.Handler):
    """Writes records of `level` and above through `recorder`.  After an error of the recorder, it
    writes nothing any more.

    `accept_errors` counts how often waitress has logged that it could not accept a connection.
    """

    def __init__(self, recorder: Recorder, level: int) -> None:
        super().__init__(level)
        self.recorder = recorder
        self.accept_errors = 0

    @property
    def sees_accept_errors(self) -> bool:
        """Whether this handler gets what waitress logs of errors of accept(), as a warning."""
        return max(self.level, _WAITRESS.getEffectiveLevel()) <= logging.WARNING

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            if record.funcName == _ACCEPTS and record.name == _WAITRESS.name:
                self.accept_errors += 1  # only the loop of waitress logs it, so no lock is needed
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
