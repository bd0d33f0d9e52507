"""What each thread of this process has had of the processors, read in each round of the heartbeat.

After some seconds nothing of /proc is in the processor's caches: to list twelve threads and to open a file of each takes
1,000 us.  So the files stay open, and threads are listed only when one has begun or ended: 200 us.
"""
from __future__ import annotations

import os
import threading

from . import procfiles
from .kernelthreads import KernelThreads
from .kernelthreads import Reading
from .kernelthreads import read_schedstat

#: Descriptors that are kept; of more threads each file is opened anew.
MOST = 64


class Meters:
    """`read` may be called by any thread: who comes while another one reads opens files of his own."""

    def __init__(self, kernel: KernelThreads):
        self._kernel = kernel
        self._files = {}                                # {native id: (descriptor, what it was when it was opened)}
        self._reads = threading.Lock()

    def read(self) -> dict[int, Reading]:
        """{native id: Reading} of all threads; {} where there is no /proc."""
        if not self._reads.acquire(blocking=False):
            return self._with_new({}, self._kernel.ids())
        try:
            known = {tid: read_schedstat(procfiles.reread(file)) for tid, (file, _) in self._files.items()}
            known = {tid: reading for tid, reading in known.items() if reading}
            return known if len(known) == len(self._files) == self._count() else self._anew(known)
        finally:
            self._reads.release()

    def _count(self):
        """How many threads there are: a directory is linked by each one in it."""
        try:
            return os.stat(self._kernel.tasks).st_nlink - 2
        except OSError:
            return -1

    def _anew(self, known):
        ids = self._kernel.ids()
        for tid in [tid for tid in self._files if tid not in known or tid not in ids]:
            _close(*self._files.pop(tid))
        for tid in ids:
            if tid not in self._files and len(self._files) < MOST:
                self._open(tid)
        return self._with_new(known, ids)

    def _with_new(self, known, ids):
        readings = {tid: known.get(tid) or self._kernel.reading(tid) for tid in ids}
        return {tid: reading for tid, reading in readings.items() if reading}

    def _open(self, tid):
        try:
            file = os.open(self._kernel.schedstat(tid), os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return
        self._files[tid] = file, _identity(file)

    def close(self) -> None:
        for tid in list(self._files):
            _close(*self._files.pop(tid))


def _identity(file):
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _close(file, identity):
    """Other code may have closed the descriptor, and its number may be another file's by now."""
    try:
        if _identity(file) == identity:
            os.close(file)
    except OSError:
        pass
