"""What Python and the kernel say about the fault that ended a run, as values.  No I/O."""

from dataclasses import dataclass

#: What a dump is of: a fatal signal, or Py_FatalError, with which Python ends itself.
OF_SIGNAL = 'signal'
OF_PYTHON = 'python'
#: The lowest page-fault bits of x86: the page is mapped but does not allow it, it was a write, and
#: an instruction was to be read there.
PROTECTED = 1
WRITE = 2
FETCH = 16
#: An access this near to the stack pointer, in bytes, is one of the thread's own stack.
_STACK = 64 << 10
#: Addresses below are those of a null pointer, with the offset of a field.
NULL_END = 64 << 10


@dataclass(frozen=True)
class FatalError:
    """What the dump of a fatal error says besides the stacks, in the words of Python.

    `kind` is OF_SIGNAL or OF_PYTHON, '' if the line that says so is missing.  `reason` is for
    example "Segmentation fault" or "none_dealloc: deallocating None", `runtime_state` for example
    "finalizing (tstate=0x...)".  `collecting`: the thread that died was collecting garbage.
    `names_thread`: it is known which thread died.  `is_whole`: the dump shows all threads that
    Python knows, so a thread that is not in it is one of C code.
    """

    kind: str = ''
    reason: str = ''
    runtime_state: str = ''
    collecting: bool = False
    names_thread: bool = False
    is_whole: bool = False

    @property
    def was_ending(self) -> bool:
        return self.runtime_state.startswith('finalizing')


@dataclass(frozen=True)
class KernelFault:
    """The kernel's line about a fault: "python3[4711]: segfault at 0 ip ... error 4 in libc.so.6".

    `what` is "segfault", "general protection", or the name of a trap ("invalid opcode").  `thread`
    is the kernel's id of the thread.  `address` is the address that was accessed, None if the line
    has none.  `error` has the page-fault bits of the CPU.  `library` is the name of the file,
    without its folder, in which the instruction was, and `offset` the place in it, in bytes; '' and
    0 where the kernel does not say so.
    """

    what: str
    thread: int = 0
    address: int | None = None
    program_counter: int = 0
    stack_pointer: int = 0
    error: int = 0
    library: str = ''
    offset: int = 0

    @property
    def is_at_stack_end(self) -> bool:
        return self.what == 'segfault' and is_at_stack_end(self.address, self.stack_pointer)

    @property
    def is_above_stack_pointer(self) -> bool:
        """Whether a buffer that was overrun past the other end of the stack looks the same."""
        return self.address is not None and self.address > self.stack_pointer


def is_at_stack_end(address: int | None, stack_pointer: int) -> bool:
    """Whether a fault at this address shows that the thread's stack has come to its end.

    The memory around the stack pointer is the stack, so that nothing can be accessed there means
    that the stack ends there.
    """
    if address is None or address < NULL_END or stack_pointer < NULL_END:
        return False
    return abs(address - stack_pointer) <= _STACK
