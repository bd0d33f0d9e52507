"""Tells whether a fatal signal may have been sent.  Frames and a line of source in, words out.

After `kill -SEGV` the dump has the same text as after a fault.  But a fault comes from code that
runs, and a thread that waits in a system call runs none.  So there the signal may as well have been
sent: by a person, or by a watchdog, which sends SIGABRT.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..model.records import Frame
from ..threads.activity import loop_in
from ..threads.activity import waits_for_work

#: Calls that wait in the kernel, in a line of Python code.
_WAITING_CALL = re.compile(
    r'\b(sleep|pause|sigwait|select|poll|_?accept|recv|recv_into|recvfrom|send|acquire|wait|'
    r'waitpid)\('
)
#: Who sends such a signal, apart from a person.
_SENDERS = {'SIGABRT': 'a watchdog'}


def harmless_place(frames: Sequence[Frame], line: str) -> str:
    """Return where a thread with these frames stood, as words, if nothing there can fault: it
    waited in a system call, or was in the loop of the server, which is Python alone.  Else ''.

    `line` is the source at which the innermost frame stands; '' if it is not known.
    """
    if not frames:
        return ''
    if waits_for_work(frames):
        return f'waited in a system call ({frames[0].function})'
    loop = loop_in(frames)
    if loop is not None:
        folder = os.path.dirname(frames[loop].file)
        if all(os.path.dirname(frame.file) == folder for frame in frames[:loop]):
            return f'was in the loop of the server ({frames[0].function})'
    found = _WAITING_CALL.search(line)
    return f'waited in a system call ({found[1]})' if found else ''


def explanation(signal: str, place: str) -> str:
    """Return the reason why this signal may have been sent to a thread; `place` is its
    `harmless_place`.
    """
    sender = _SENDERS.get(signal, 'another process')
    return (
        f'The thread {place}, so a person or {sender} may have sent {signal}. Only a core file, or '
        'a line of the kernel about a fault, would tell.'
    )
