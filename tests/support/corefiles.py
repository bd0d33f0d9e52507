"""Core files: real ones of armed processes, and small invented ones."""

import resource
import struct
from pathlib import Path

from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from support.childprograms import PROGRAMS
from support.childprograms import run_python

NT_PRSTATUS, NT_PRPSINFO, NT_FILE, NT_SIGINFO = 1, 3, 0x46494C45, 0x53494749


def why_no_core():
    """Return why a crash leaves no core file in the working directory here; '' if it does."""
    try:
        pattern = Path('/proc/sys/kernel/core_pattern').read_text().strip()
    except OSError:
        return 'this system has no core_pattern'
    if not pattern.startswith('core'):
        return f'core files go elsewhere here ({pattern})'
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return 'core files are not allowed here'
    return ''


class Crash:
    """A process that was armed with `core-files on` and died in `way`, and its core file.

    Its data directory is `folder`/stability, its working directory `folder`.
    """

    def __init__(self, folder, way='segv', *words, python=None):
        self.folder = folder
        self.base = Base(folder / 'stability')
        before = set(self.base.waiting())
        run_python(
            PROGRAMS / 'armed.py',
            way,
            folder / 'stability',
            *words,
            'core-files=on',
            input='go\n',
            stdin=None,
            cwd=folder,
        )
        (self.run,) = set(self.base.waiting()) - before
        self.cores = sorted(folder.glob('core*'))

    @property
    def core(self):
        (core,) = self.cores
        return core

    def judged(self):
        triage.triage(self.base)
        return self.record()

    def record(self):
        return Archive(self.base).record(self.run)


# -- invented --------------------------------------------------------------------------------------


def note(kind, content, name=b'CORE\0'):
    def padded(data):
        return data + bytes(-len(data) % 4)

    head = struct.pack('<III', len(name), len(content), kind)
    return head + padded(name) + padded(content)


def prstatus(native_id, signal=11, **registers):
    from Products.StabilityMonitor.system.coreformat import MACHINES

    names = MACHINES[62].registers
    values = [registers.get(name, 0) for name in names]
    head = struct.pack('<12xh2x16xI', signal, native_id).ljust(112, b'\0')
    return note(NT_PRSTATUS, head + struct.pack('<27Q', *values) + bytes(8))


def siginfo(signal=11, code=1, rest=b''):
    return note(NT_SIGINFO, struct.pack('<iiii', signal, 0, code, 0) + rest.ljust(112, b'\0'))


def prpsinfo(pid, uid=0, name=b'python3'):
    content = struct.pack('<4x4xQIIIIII16s80s', 0, uid, 0, pid, 1, 1, 1, name, b'')
    return note(NT_PRPSINFO, content)


def mapped(*files):
    """NT_FILE of (start, end, pages, path)."""
    table = struct.pack('<QQ', len(files), 4096)
    table += b''.join(struct.pack('<QQQ', *file[:3]) for file in files)
    return note(NT_FILE, table + b''.join(file[3].encode() + b'\0' for file in files))


def core(notes, *segments, machine=62, kind=4):
    """Return a core file; `segments` are (start, flags, content, size in memory)."""
    count = 1 + len(segments)
    offset = 64 + count * 56
    headers = [struct.pack('<IIQQQQQQ', 4, 0, offset, 0, 0, len(notes), 0, 4)]
    content = notes
    for start, flags, data, size in segments:
        at = offset + len(content)
        headers.append(struct.pack('<IIQQQQQQ', 1, flags, at, start, 0, len(data), size, 1))
        content += data
    identification = b'\x7fELF\x02\x01\x01'.ljust(16, b'\0')
    head = struct.pack(
        '<16sHHIQQQIHHHHHH', identification, kind, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    return head + b''.join(headers) + content


def of_run(run, pid=None, **status):
    """Return a core file of a process that had the black box of this run mapped, by default that
    of the run.
    """
    pid = pid or int(run.split('-')[1])
    box = f'/somewhere/runs/{run}/blackbox.sbr'
    notes = prstatus(pid, **status) + prpsinfo(pid) + siginfo(rest=struct.pack('<Q', 0x10))
    return core(notes + mapped((0x7000, 0x9000, 0, box)))
