"""Finds in a core file where a thread was when its signal arrived, if a handler has run since.

Python's faulthandler writes its dump in a handler and then raises the signal again, to end the
process as without it.  So the registers and the siginfo of the core file are those of that second
signal: SI_TKILL, sent by the process itself.  The registers of the first one are in the frame that
the kernel left on the stack to call the handler, and on x86_64 also the number of the CPU's trap
and the address of a page fault.  The siginfo is there only if the handler has asked for it
(SA_SIGINFO), and that of faulthandler has not.  While it dumps the stacks of threads that still
run, faulthandler may crash itself; then the core file tells that second fault.

The layouts are those of `struct rt_sigframe` in the kernel (arch/x86/include/asm/sigframe.h,
arch/arm64/kernel/signal.c).  On aarch64 without the siginfo, code and address stay unknown.
"""

from __future__ import annotations

import signal
import struct
from dataclasses import dataclass
from dataclasses import replace

from .coreformat import Core
from .coreformat import SignalInfo
from .coreformat import signal_info

#: Bytes of a stack that are searched.  faulthandler needs about 2 KiB of its own stack before it
#: raises the signal, and handlers of other code rarely more.
MOST = 256 << 10
#: At most so many handlers inside of each other are followed.
_MOST_HANDLERS = 4
_SIGINFO = 128  # bytes
_TGKILL = 131  # its number on aarch64
_FAULTS = ('SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP')
#: Numbers of traps of an x86 CPU, see "trapnr" in the kernel.
_INVALID_OPCODE, _STACK_SEGMENT, _PROTECTION, _PAGE_FAULT, _ALIGNMENT = 6, 12, 13, 14, 17


@dataclass(frozen=True)
class _Layout:
    """A frame.  It is found by the bytes `anchor`, which are always at the offset `anchor_at`.

    `context`, `siginfo` and `saved` are the offsets of the ucontext, the siginfo and the saved
    registers, all in bytes.
    """

    anchor: bytes
    anchor_at: int
    context: int
    siginfo: int
    saved: int
    registers: tuple[str, ...]
    size: int


_X86_64 = 'r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags'.split()
_AARCH64 = [*(f'x{number}' for number in range(31)), 'sp', 'pc', 'pstate']
_LAYOUTS = {
    # The segment registers of a process of 64 bits: cs, gs, fs, ss.
    'x86_64': _Layout(struct.pack('<4H', 0x33, 0, 0, 0x2B), 192, 8, 312, 48, tuple(_X86_64), 440),
    # The head of the floating-point registers: magic and size.
    'aarch64': _Layout(struct.pack('<II', 0x46508001, 528), 592, 128, 0, 312, tuple(_AARCH64), 600),
}
#: err, trapno, oldmask, cr2
_TRAP_AT = 200


@dataclass(frozen=True)
class Interrupted:
    """The signal that a thread took, and its registers at that moment.

    `stack` is the alternate signal stack of the thread: its start and size in bytes.
    """

    info: SignalInfo
    registers: dict[str, int]
    stack: tuple[int, int] = (0, 0)

    def is_around(self, stack_pointer: int) -> bool:
        """Whether that address is on the alternate stack."""
        start, size = self.stack
        return start <= stack_pointer < start + size


def interrupted(core: Core) -> Interrupted | None:
    """Return where the thread that died was when the signal arrived for the first time.

    None if the core file itself tells that: no handler has raised the signal again.
    """
    if core.info is None or not core.threads:
        return None
    found = None
    info, registers = core.info, core.threads[0].registers
    for _ in range(_MOST_HANDLERS):
        stack_pointer = registers.get(core.machine.stack_pointer, 0)
        outer = _next(core, stack_pointer, info.signal)
        if outer is None:
            break
        was_raised_again = info.code == 'SI_TKILL' and info.sender == core.pid
        # Else the frame may be an old one, of a handler that has returned.  On its own stack it
        # is that of the handler which is not installed any more: one that is would have been
        # called, and would have raised the signal.
        was_in_handler = not found and info.is_fault and outer.is_around(stack_pointer)
        if not was_raised_again and not was_in_handler:
            break
        found = outer
        info, registers = outer.info, outer.registers
    return found


def _next(core: Core, stack_pointer: int, signal_name: str) -> Interrupted | None:
    """Return what the innermost frame of a handler says, above that address."""
    layout = _LAYOUTS[core.machine.name]
    stack = core.memory(stack_pointer, MOST)
    anchor = -1
    while (anchor := stack.find(layout.anchor, anchor + 1)) >= 0:
        at = anchor - layout.anchor_at
        if at < 0 or at + layout.size > len(stack):
            continue
        flags, link, start, stack_flags, size = struct.unpack_from(
            '<QQQI4xQ', stack, at + layout.context
        )
        if flags < 0x10 and link == 0 and stack_flags < 0x10:
            frame = stack[at : at + layout.size]
            return replace(_frame(core, layout, frame, signal_name), stack=(start, size))
    return None


def _frame(core: Core, layout: _Layout, frame: bytes, signal_name: str) -> Interrupted:
    values = struct.unpack_from(f'<{len(layout.registers)}Q', frame, layout.saved)
    registers = dict(zip(layout.registers, values, strict=True))
    info = signal_info(frame[layout.siginfo : layout.siginfo + _SIGINFO])
    if info is None or info.signal != signal_name or info.code.startswith('code '):
        info = _by_system_call(core, signal_name, registers)
    if info is None and core.machine.name == 'x86_64':
        _, trap, _, address = struct.unpack_from('<QQQQ', frame, _TRAP_AT)
        info = _by_trap(core, signal_name, trap, address, registers['rip'])
    return Interrupted(info or SignalInfo(signal_name), registers)


def _by_system_call(core: Core, name: str, registers: dict[str, int]) -> SignalInfo | None:
    """Return the siginfo if the thread was in a system call that sent this signal to itself."""
    number = getattr(signal, name, 0)
    thread = core.threads[0].native_id
    if core.machine.name == 'aarch64':
        raised = (registers['x8'], registers['x1'], registers['x2']) == (_TGKILL, thread, number)
        killed = False
    else:
        # The instruction "syscall" leaves the address of the next one in rcx.
        called = registers['rcx'] == registers['rip'] and registers['rdi'] == core.pid
        raised = called and (registers['rsi'], registers['rdx']) == (thread, number)
        killed = called and registers['rsi'] == number
    if raised or killed:
        return SignalInfo(name, 'SI_TKILL' if raised else 'SI_USER', None, core.pid, core.uid)
    return None


def _by_trap(
    core: Core, name: str, trap: int, address: int, program_counter: int
) -> SignalInfo | None:
    """Return the siginfo that the kernel makes of a trap of an x86 CPU.

    Without a trap the signal was sent, but not by whom: SI_USER.  The number of a trap stays from
    an earlier one, so None is returned where it does not fit the signal.
    """
    if trap == _PAGE_FAULT and name == 'SIGSEGV':
        # The kernel decides by the mappings, not by the page tables.
        is_mapped = core.segment_at(address) is not None
        return SignalInfo(name, 'SEGV_ACCERR' if is_mapped else 'SEGV_MAPERR', address)
    if trap == _PAGE_FAULT and name == 'SIGBUS':
        return SignalInfo(name, 'BUS_ADRERR', address)
    if trap == _ALIGNMENT and name == 'SIGBUS':
        return SignalInfo(name, 'BUS_ADRALN')
    if (trap, name) in ((_PROTECTION, 'SIGSEGV'), (_STACK_SEGMENT, 'SIGBUS')):
        return SignalInfo(name, 'SI_KERNEL')
    if trap == _INVALID_OPCODE and name == 'SIGILL':
        return SignalInfo(name, 'ILL_ILLOPN', program_counter)
    if trap == 0 and name == 'SIGFPE':
        return SignalInfo(name)  # the trap of a division has this number, and so has none
    if trap == 0 or name not in _FAULTS:
        return SignalInfo(name, 'SI_USER')
    return None
