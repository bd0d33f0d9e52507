"""The server that a thread waits for, where only a local variable of a known library names it.

ZEO connects in a thread of its own, so no socket of the waiting thread says which server is meant.
This is the only place where a local variable of another thread is read: one argument of one known
function, and only if it consists of exact str, int, list and tuple.  Nothing of the site is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FrameType

from ..model.records import Frame
from ..system.currentframes import current_frames

#: Where a thread waits for a server: (end of the file name, function, its argument with the
#: address, name of the server).
_WAITS = (('/ZEO/ClientStorage.py', 'ClientStorage.__init__', 'addr', 'ZEO'),)
#: At most this many addresses, and characters of an address, are named.
_MOST_ADDRESSES = 4
_LONGEST = 100


@dataclass(frozen=True)
class Awaited:
    """`frame` is the function that waits, with its qualified name.  `server` is for example "ZEO at
    10.0.0.5:8100".
    """

    frame: Frame
    server: str


def awaited(ident: int) -> Awaited | None:
    """Return the server that a thread waits for; None if it is in no known function."""
    frames = current_frames()
    try:
        frame = frames.get(ident)
        while frame is not None:
            found = _awaited_in(frame)
            if found is not None:
                return found
            frame = frame.f_back
    finally:
        frames.clear()  # break the cycle: it refers to our own frame, which refers to it
    return None


def _awaited_in(frame: FrameType) -> Awaited | None:
    code = frame.f_code
    for ending, function, argument, name in _WAITS:
        if code.co_qualname != function or not code.co_filename.endswith(ending):
            continue
        server = name
        addresses = _addresses(frame.f_locals.get(argument))
        if addresses:
            server = f'{name} at {" or ".join(addresses)}'
        return Awaited(Frame(code.co_filename, frame.f_lineno, function), server)
    return None


def _addresses(value: object) -> list[str]:
    """Return the addresses in words: "10.0.0.5:8100", "[::1]:8100", or the path of a socket.

    `value` is (host, port), a path, or a list or tuple of these.  Anything else gives no address.
    """
    one = _address(value)
    if one:
        return [one]
    found: list[str] = []
    if type(value) is list or type(value) is tuple:
        for part in value[:_MOST_ADDRESSES]:
            address = _address(part)
            if address:
                found.append(address)
    return found


def _address(value: object) -> str:
    if type(value) is str:
        return value[:_LONGEST]
    if type(value) is not tuple or len(value) != 2:
        return ''
    host, port = value
    if type(host) is not str or type(port) is not int:
        return ''
    if ':' in host:
        host = f'[{host}]'
    return f'{host[:_LONGEST]}:{port}'
