"""Whether the address of a fault proves that a thread came to the end of its stack.  No I/O.

A recursion in C code shows in no Python stack, so its verdict is `crashed` as long as only the
dump is known.  The address of the fault, from the core file or from the kernel's line, tells it
from every other crash: it is where the thread's own stack pointer is.
"""

from dataclasses import replace

from .corefile import BY_CONTENT
from .corefile import CoreFile
from .corefile import Mapping
from .faultfacts import is_at_stack_end
from .records import Evidence
from .runrecord import RunRecord

_FAULTS = ('SEGV_MAPERR', 'SEGV_ACCERR')
_SUMMARY = 'A thread overflowed its stack: its recursion was endless or too deep.'


def judged(record: RunRecord, is_in_core: bool = False) -> RunRecord:
    """Return the record; a crash at the end of a stack is a stack overflow.

    `is_in_core`: the core file of this run shows it, although the record does not have it.
    """
    if record.verdict not in ('crashed', 'stack-overflow'):
        return record
    source, confidence = ('core file', 'certain') if is_in_core else _proof(record)
    if not source:
        return record
    if record.verdict == 'stack-overflow':
        is_certain = 'certain' in (confidence, record.confidence)
        return replace(record, confidence='certain' if is_certain else record.confidence)
    fact = 'The address of the fault is at the end of the stack of the thread that crashed.'
    return replace(
        record,
        verdict='stack-overflow',
        confidence=confidence,
        summary=_SUMMARY,
        evidence=(*record.evidence, Evidence(source, fact)),
    )


def _proof(record: RunRecord) -> tuple[str, str]:
    """Return what says so, the name of a source of evidence, and how certain that is; '' if nothing
    does.
    """
    if record.core and record.core.match == BY_CONTENT and of_core(record.core):
        return 'core file', 'certain'
    fault = record.kernel_fault
    if fault and fault.is_at_stack_end:
        # The kernel does not say where the stack is: a buffer in it may have been overrun.
        return 'kernel log', 'strong' if fault.is_above_stack_pointer else 'certain'
    return '', ''


def of_core(core: CoreFile) -> bool:
    """Whether a core file shows a fault at the end of a stack.

    `address` and `stack_pointer` must be those of the fault: after a handler has raised the signal
    again, `code` is not one of a fault.
    """
    if core.code not in _FAULTS or core.program_counter == core.address:
        return False  # a jump into the stack, which is not executable, is something else
    if _is_above(core.address, core.stack_at):
        return False  # a buffer in the stack was overrun, past the stack's other end
    # The guard may be in a mapping that is writable: glibc 2.42 makes it with MADV_GUARD_INSTALL.
    return is_at_stack_end(core.address, core.stack_pointer)


def _is_above(address: int | None, stack: Mapping | None) -> bool:
    """Whether the address is above a stack in whose memory the stack pointer still is."""
    if address is None or stack is None or 'w' not in stack.permissions:
        return False
    return address >= stack.end
