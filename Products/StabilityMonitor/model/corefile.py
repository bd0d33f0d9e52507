"""What a core file tells about a crash: the contents of `core.json` beside `incident.json`.  No
I/O.
"""

from dataclasses import dataclass
from dataclasses import field

from .records import Moment

#: How a core file was found to be that of a run: it names the black box that the run had mapped, or
#: only its name, pid and time fit.
BY_CONTENT = 'content'
BY_NAME = 'name'


@dataclass(frozen=True)
class MergedFrame:
    """One frame of a stack in which native and Python frames are merged.

    `function`, `file` (of the source) and `library` (the shared object or program of a native
    frame) are '' and `line` is None where they are not known.  `address` is that of the
    instruction in the process, and `offset` the same in the library, in bytes; 0: not known.
    """

    function: str = ''
    native: bool = True
    library: str = ''
    file: str = ''
    line: int | None = None
    address: int = 0
    offset: int = 0


@dataclass(frozen=True)
class CoreThread:
    """One thread of a core file; the innermost frame comes first."""

    native_id: int
    name: str = ''
    crashed: bool = False
    holds_gil: bool = False
    frames: tuple[MergedFrame, ...] = ()


@dataclass(frozen=True)
class Mapping:
    """The part of the address space in which an address lies.

    `file` is '' for anonymous memory.  `permissions` are as "r-x".  Addresses are in bytes.
    """

    start: int = 0
    end: int = 0
    permissions: str = ''
    file: str = ''


@dataclass(frozen=True)
class CoreFile:
    """What a core file tells about the end of a run.

    `path`, `size` (bytes) and `written` are those of the file, `time` is when this was written
    down.  `match` is BY_CONTENT, or BY_NAME if the content could not be read: then it is only
    likely that the file is of that run.

    `signal` ("SIGSEGV") and `code` ("SEGV_MAPERR", "SI_TKILL", "SI_KERNEL") are from siginfo, ''
    where not known; `address` is the address of the fault, None for signals without one.
    `sender` and `sender_uid` are the pid and the user that sent the signal, None if no process did
    or it is not known.  `abort_message` is the last message of glibc before abort().

    `thread` is the kernel's id of the thread that died, with `program_counter` and `stack_pointer`
    (0: not known); `code_at` is the mapping of the program counter, `data_at` that of `address`,
    and `stack_at` that of the stack pointer; None if nothing is mapped there or it is not known.
    `registers` are the general registers of that thread, {"rax": value}.

    `reader` is the program that read the stacks, '' if none could; `incomplete` says in sentences
    what is missing, and why; `command` is the command with which a person reads the file.
    """

    path: str
    time: Moment
    match: str = BY_NAME
    size: int = 0
    written: Moment | None = None
    signal: str = ''
    code: str = ''
    address: int | None = None
    sender: int | None = None
    sender_uid: int | None = None
    abort_message: str = ''
    thread: int = 0
    program_counter: int = 0
    stack_pointer: int = 0
    code_at: Mapping | None = None
    data_at: Mapping | None = None
    stack_at: Mapping | None = None
    registers: dict[str, int] = field(default_factory=dict)
    reader: str = ''
    threads: tuple[CoreThread, ...] = ()
    incomplete: tuple[str, ...] = ()
    command: str = ''

    @property
    def crashed(self) -> CoreThread | None:
        """The thread that died, if its stack was read."""
        for thread in self.threads:
            if thread.crashed:
                return thread
        return None
