"""How many threads a gthread worker of gunicorn may start.

It starts a thread only when a request finds none free.  So one busy thread may be all there is, and
the next visitor is answered all the same.

gunicorn is only read: `vars` of its objects calls none of its code.  The worker is a local variable
of its loop, which runs in MainThread.  Read in the sources of gunicorn 20.1.0, 23.0.0 and 27.0.1.
"""

from __future__ import annotations

import threading
from types import FrameType

from ..system.currentframes import current_frames

_LOOP = ('run', '/gunicorn/workers/gthread.py')


def most_threads() -> int:
    """Return how many threads may serve requests; 0 if no gthread worker runs in MainThread."""
    frames = current_frames()
    try:
        return _most_in(frames.get(threading.main_thread().ident or 0))
    finally:
        frames.clear()  # they refer to our own frame, which refers to them


def _most_in(frame: FrameType | None) -> int:
    name, file = _LOOP
    while frame is not None:
        code = frame.f_code
        if code.co_name == name and code.co_filename.replace('\\', '/').endswith(file):
            return _most_of(frame.f_locals.get('self'))
        frame = frame.f_back
    return 0


def _most_of(worker: object) -> int:
    try:
        most = vars(vars(worker)['tpool'])['_max_workers']
    except (KeyError, TypeError):  # of another release
        return 0
    return most if type(most) is int else 0
