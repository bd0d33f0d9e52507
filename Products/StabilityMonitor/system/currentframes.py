"""The frames of all threads, without the deadlock of Python 3.11.0 to 3.11.8."""

from __future__ import annotations

import gc
import sys
from types import FrameType

#: There, a garbage collection may begin inside `sys._current_frames`, which holds a lock of the
#: interpreter.  When it frees what gives up the GIL or needs that lock, as a `threading.local`, the
#: whole process stands still (CPython issue 106883; 3.11.7 froze within 40 s of a test made for
#: it).  Python 3.11.9 switches the collection off meanwhile, and 3.12 never collects there.
MAY_DEADLOCK = (3, 11) <= sys.version_info < (3, 11, 9)


def current_frames() -> dict[int, FrameType]:
    """{ident: innermost frame} of every thread; for the calling one, that of this function.

    Clear it when done: it holds a frame of the caller, which holds it.
    """
    if not (MAY_DEADLOCK and gc.isenabled()):
        return sys._current_frames()
    # Not atomic: when another thread calls gc.disable() between these lines, that is undone.  It
    # would need a change of threads at exactly this place, and costs that thread no more than a
    # collection.
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        gc.enable()
