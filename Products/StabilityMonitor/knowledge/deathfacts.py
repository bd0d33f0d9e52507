"""The facts about a death on which its class and its suspects rest, from all that a record has.

The core file says most.  Where it is missing, the kernel's line and the dump say a part of the
same.  A value in, a value out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..model.corefile import CoreFile
from ..model.corefile import Mapping
from ..model.corefile import MergedFrame
from ..model.faultfacts import OF_PYTHON
from ..model.faultfacts import PROTECTED
from ..model.faultfacts import FatalError
from ..model.faultfacts import KernelFault
from ..model.librarycopies import Copies
from ..model.librarycopies import library_copies
from ..model.records import Frame
from ..model.runrecord import RunRecord
from ..threads import codeorigin
from . import frametable
from .frametable import PreparedFrame

#: The beginnings of the codes that the kernel gives a fault, and the one that it gives one without
#: an address.
_OF_A_FAULT = ('SEGV_', 'BUS_', 'ILL_', 'FPE_')
NO_ADDRESS = 'SI_KERNEL'
_SENT = ('SI_USER', 'SI_TKILL', 'SI_QUEUE')
#: The functions of the import machinery that run code of a compiled module.
_LOADS = ('create_module', 'exec_module')
_FRAMES_REMOVED = '_call_with_frames_removed'
_MACHINERY = 'importlib._bootstrap_external'


@dataclass(frozen=True)
class DeathFacts:
    """What is known of a death.

    `code`, `address` (None: not known), `program_counter`, `stack_pointer` (0: not known),
    `registers` and the mappings are those of the fault, and empty if it was a signal that was sent.
    `sender` is the pid of another process that sent the signal.  `stack` is the native stack of the
    thread that died, as it was read, and `frames` what the table of frames leaves of it; innermost
    first.  `python` is the Python stack of that thread.  `words` are the last words of glibc, of
    other C code and of Python.  `library` is the shared object of the kernel's line.
    """

    record: RunRecord
    signal: str = ''
    code: str = ''
    sender: int | None = None
    address: int | None = None
    program_counter: int = 0
    stack_pointer: int = 0
    code_at: Mapping | None = None
    data_at: Mapping | None = None
    registers: ReadOnly[str, int] = field(default_factory=dict)
    has_core: bool = False
    stack: tuple[MergedFrame, ...] = ()
    frames: tuple[PreparedFrame, ...] = ()
    python: tuple[Frame, ...] = ()
    words: tuple[str, ...] = ()
    library: str = ''
    executable: str = ''

    @property
    def fatal(self) -> FatalError:
        return self.record.fatal or FatalError()

    @property
    def kernel(self) -> KernelFault | None:
        return self.record.kernel_fault

    @property
    def loads_module(self) -> bool:
        """Whether the thread was loading a compiled module, as its innermost Python frames say."""
        inner = self.python[:2]
        if inner and inner[0].function == _FRAMES_REMOVED:
            inner = inner[1:]
        if not inner or inner[0].function not in _LOADS:
            return False
        return codeorigin.place(inner[0].file).short == _MACHINERY

    @property
    def first_foreign(self) -> tuple[int, PreparedFrame] | None:
        return frametable.first_foreign(self.frames, self.executable)

    @property
    def copies(self) -> Copies | None:
        """The library with several copies in which the thread was, before any Python code."""
        files = {self.library} if self.library and not self.frames else set()
        for each in self.frames:
            if each.is_python:
                break
            files.add(each.frame.library)
        for copies in library_copies(self.record.shared_objects):
            for one in copies.objects:
                if one.file in files or os.path.basename(one.file) in files:
                    return copies
        return None

    @property
    def routine(self) -> MergedFrame | None:
        """The function with which C code began the thread that died, if it was such a thread."""
        return frametable.start_routine(self.stack, self.executable)

    @property
    def is_native_thread(self) -> bool:
        """Whether the thread that died is one that Python does not know."""
        if self.routine is not None:
            return True
        if any(not frame.native for frame in self.stack):
            return False
        # The names of the functions may be missing, as in libraries without symbols.
        return self.fatal.is_whole and bool(self.fatal.kind) and not self.fatal.names_thread


def facts_of(record: RunRecord) -> DeathFacts:
    core = record.core or CoreFile(path='', time=0.0)
    executable = record.context.get('executable')
    executable = executable if isinstance(executable, str) else ''
    stack = _stack(record, executable)
    facts = DeathFacts(
        record=record,
        signal=core.signal or record.signal or '',
        sender=_sender(core, record.pid),
        has_core=record.core is not None,
        stack=stack,
        frames=frametable.prepared(stack, executable),
        python=_python(record),
        words=_words(record),
        executable=executable,
        library=record.kernel_fault.library if record.kernel_fault else '',
    )
    if core.code == NO_ADDRESS or core.code.startswith(_OF_A_FAULT):
        return replace(
            facts,
            code=core.code,
            address=core.address,
            program_counter=core.program_counter,
            stack_pointer=core.stack_pointer,
            code_at=core.code_at,
            data_at=core.data_at,
            registers=_numbers(core.registers),
        )
    fault = record.kernel_fault
    if fault is None:
        return facts
    return replace(
        facts,
        code=_code(fault),
        address=fault.address,
        program_counter=fault.program_counter,
        stack_pointer=fault.stack_pointer,
    )


def _numbers(registers: ReadOnly[str, object]) -> dict[str, int]:
    """Return the registers whose values are numbers: the file may be damaged."""
    return {name: value for name, value in registers.items() if isinstance(value, int)}


def _code(fault: KernelFault) -> str:
    """Return the code of the signal that a fault of the kernel's line has led to."""
    if fault.what == 'segfault':
        return 'SEGV_ACCERR' if fault.error & PROTECTED else 'SEGV_MAPERR'
    return {
        'general protection': NO_ADDRESS,
        'stack segment': NO_ADDRESS,
        'invalid opcode': 'ILL_ILLOPN',
        'divide error': 'FPE_INTDIV',
    }.get(fault.what, '')


def _sender(core: CoreFile, pid: int) -> int | None:
    """Return the pid of another process that sent the signal.

    faulthandler sends the signal of a fault again, to its own process: that says nothing.
    """
    if core.code not in _SENT or core.sender in (None, 0, pid):
        return None
    return core.sender


def _stack(record: RunRecord, executable: str) -> tuple[MergedFrame, ...]:
    core = record.core
    frames = core.crashed.frames[: frametable.MOST] if core and core.crashed else ()
    if frames and frames[0].native:
        return frames
    # Without a reader there is no stack, and the native frames of a greenlet and of a Python
    # without symbols are not found: the dump of Python 3.14 has them.
    of_dump = _of_dump(record, executable)
    if of_dump:
        return of_dump
    # The place of the fault is known all the same.
    if core and core.code_at and core.code_at.file:
        return (MergedFrame(library=core.code_at.file, address=core.program_counter), *frames)
    return frames


def _of_dump(record: RunRecord, executable: str) -> tuple[MergedFrame, ...]:
    """Return the C stack of the dump, as far as it is within the Python code, and that code."""
    native = frametable.merged(record.native[: frametable.MOST])
    python = _python(record)
    if not native or not python:
        return native
    native = frametable.before_python(native, executable)
    return native + tuple(
        MergedFrame(frame.function, native=False, file=frame.file, line=frame.line)
        for frame in python
    )


def _python(record: RunRecord) -> tuple[Frame, ...]:
    """Return the Python stack of the thread that died, innermost first.

    That of the dump, unless it met a frame that was no frame any more: a reader of the core file
    may go on there.
    """
    crashed = record.core.crashed if record.core else None
    of_core = tuple(
        Frame(frame.file, frame.line, frame.function)
        for frame in (crashed.frames if crashed else ())
        if not frame.native
    )
    for thread in record.threads:
        if thread.crashed and thread.frames:
            return of_core if thread.note and len(of_core) > len(thread.frames) else thread.frames
    return of_core


def _words(record: RunRecord) -> tuple[str, ...]:
    words = list(record.last_words)
    if record.core and record.core.abort_message:
        words.insert(0, record.core.abort_message)
    if record.fatal and record.fatal.kind == OF_PYTHON:
        words.insert(0, record.fatal.reason)
    return tuple(words)
