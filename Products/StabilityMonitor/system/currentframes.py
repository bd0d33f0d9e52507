"""The frames of all threads, without the deadlock of Python 3.11.0 to 3.11.8."""

from __future__ import annotations

import gc
import sys
from types import FrameType

#: In these versions a garbage collection may begin inside `sys._current_frames`, which holds a lock
#: of the interpreter.  If the collection frees an object that releases the GIL or needs that lock
#: (for example a `threading.local`), the whole process hangs (CPython issue 106883; 3.11.7 hung
#: within 40 s in a test made for it).  Python 3.11.9 disables the collection during the call, and
#: 3.12 never collects there.
MAY_DEADLOCK = (3, 11) <= sys.version_info < (3, 11, 9)


def current_frames() -> dict[int, FrameType]:
    """Return {ident: innermost frame} of every thread; for the caller, the frame of this call.

    Clear the dict after use: it refers to a frame of the caller, which refers to the dict.
    """
    if not (MAY_DEADLOCK and gc.isenabled()):
        return sys._current_frames()
    # If another thread calls gc.disable() during the call below, gc.enable() undoes it.  That is
    # rare, because threads would have to switch exactly here, and harmless: the other thread only
    # gets garbage collections that it did not want.
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        gc.enable()
