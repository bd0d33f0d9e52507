"""How many threads a server may use: gunicorn with gthread, and uWSGI.

gunicorn starts a thread only when a request finds none free, and threads of uWSGI are unknown to
Python until they serve.  So one busy thread may be all that is seen, and the next visitor is
answered all the same.

The servers are only read: `vars` of their objects calls none of their code.  The worker of gunicorn
is a local variable of its loop, which runs in MainThread.  Read in the sources of gunicorn 20.1.0,
23.0.0 and 27.0.1; `uwsgi.opt` was tried with uWSGI 2.0.31.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType

from ..system.currentframes import current_frames

_LOOP = ('run', '/gunicorn/workers/gthread.py')
#: A larger number is none of threads.
_MOST = 10_000


def most_threads() -> int:
    """Return how many threads may serve requests; 0 if it is neither of these servers."""
    uwsgi = sys.modules.get('uwsgi')
    if uwsgi is not None:
        return _of_uwsgi(uwsgi)
    frames = current_frames()
    try:
        return _of_gunicorn(frames.get(threading.main_thread().ident or 0))
    finally:
        frames.clear()  # they refer to our own frame, which refers to them


def _of_uwsgi(module: object) -> int:
    """Return its option "threads", which is bytes."""
    try:
        return _number(int(vars(module)['opt']['threads']))
    except (KeyError, TypeError, ValueError):  # without threads, or of another release
        return 0


def _of_gunicorn(frame: FrameType | None) -> int:
    name, file = _LOOP
    while frame is not None:
        code = frame.f_code
        if code.co_name == name and code.co_filename.replace('\\', '/').endswith(file):
            return _of_worker(frame.f_locals.get('self'))
        frame = frame.f_back
    return 0


def _of_worker(worker: object) -> int:
    try:
        return _number(vars(vars(worker)['tpool'])['_max_workers'])
    except (KeyError, TypeError):  # of another release
        return 0


def _number(most: object) -> int:
    return most if type(most) is int and 0 < most <= _MOST else 0
