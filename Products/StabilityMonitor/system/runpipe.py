"""The pipe by which a process tells `stabilitymonitor run` which run it has begun.

`run` makes it, and passes it through exec with the variable VARIABLE, "<descriptor>:<inode>".  A
process with a run writes one line: its pid, a space, and JSON with the path of its data directory
and the name of its run.  The pid stands in front so that `run`, which stays for the life of Zope,
needs no JSON.  `cli.runend` reads the rest.

Programs between the two may have closed the descriptor, or use its number for another file.  Then
nothing is told.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Mapping

#: It begins like an option but is none.  `model.options` names it, too.
VARIABLE = 'STABILITYMONITOR_RUN_PIPE'
#: Shorter lines are written whole or not at all.
_LONGEST = select.PIPE_BUF if hasattr(select, 'PIPE_BUF') else 512
#: As much is read at once; a pipe holds no more.
_PIECE = 1 << 16
#: At most this many lines are kept, the newest ones.  Each worker of gunicorn has a run.
_MOST_LINES = 256


def tell(environ: Mapping[str, str], pid: int, directory: str, run: str) -> None:
    """Tell `run`, if this process descends from one, which run this process has begun.

    From then on, programs that this process starts do not inherit the pipe.  Never waits.  Raises
    OSError or ValueError if the pipe is not there any more.
    """
    address = environ.get(VARIABLE)
    if not address:
        return
    import json

    number, _, inode = address.partition(':')
    descriptor = int(number)
    status = os.fstat(descriptor)
    if not stat.S_ISFIFO(status.st_mode) or status.st_ino != int(inode):
        return
    os.set_inheritable(descriptor, False)
    document = json.dumps({'directory': directory, 'run': run})
    line = f'{pid} {document}\n'.encode()
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    # POLLOUT: there is room for a whole line.  POLLERR is there if nobody reads any more, and then
    # SIGPIPE might end this process.
    if len(line) <= _LONGEST and poll.poll(0) == [(descriptor, select.POLLOUT)]:
        os.write(descriptor, line)


class RunPipe:
    """The side of `run`.  What it reads is not trusted; `lines` has the newest line of each pid."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.writer, False)
        self.lines: dict[int, bytes] = {}
        self._rest = b''

    @property
    def address(self) -> str:
        return f'{self.writer}:{os.fstat(self.writer).st_ino}'

    def close_writer(self) -> None:
        os.close(self.writer)

    def hear(self, child: int) -> None:
        """Read what has been told since the last time.  The line of that child is always kept."""
        try:
            content = self._rest + os.read(self._reader, _PIECE)
        except BlockingIOError:
            return
        *lines, self._rest = content.split(b'\n')
        if len(self._rest) > _LONGEST:
            self._rest = b''
        for line in lines:
            number, _, document = line.partition(b' ')
            if len(line) < _LONGEST and number.isdigit() and len(number) <= 10:
                self._keep(int(number), document, child)

    def _keep(self, pid: int, document: bytes, child: int) -> None:
        self.lines.pop(pid, None)
        self.lines[pid] = document
        if len(self.lines) > _MOST_LINES:
            oldest = next(each for each in self.lines if each != child)
            del self.lines[oldest]
