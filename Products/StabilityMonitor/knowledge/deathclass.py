"""What kind of death it was: a table of classes, tried in order; the first that fits counts.

A class says what the facts mean, whether the frame on top is the culprit or a victim of earlier
damage, and what to try next.  It rests on table B of the sources named in docs/design.rst ("The
class of a death").  A record in, a value out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..model.corefile import Mapping
from ..model.faultfacts import FETCH
from ..model.faultfacts import NULL_END
from ..model.faultfacts import OF_PYTHON
from ..model.suspects import CULPRIT
from ..model.suspects import NEITHER
from ..model.suspects import VICTIM
from ..model.suspects import DeathClass
from . import frametable
from .deathfacts import NO_ADDRESS
from .deathfacts import DeathFacts

#: The verdicts of runs that have a class.
VERDICTS = ('crashed', 'aborted', 'stack-overflow', 'exited')
#: What Python's debug allocator fills memory with, and the words for it.
_FILLS = {0xDD: 'freed memory', 0xCD: 'memory that was never written to', 0xFD: 'a forbidden byte'}
#: So many of the upper bytes of a value must be equal to count as filled: an offset changes the
#: lowest.
_FILLED_BYTES = 5
#: How the names of the loader of shared libraries begin.
_LOADER = ('ld-linux', 'ld-musl', 'ld.so', 'ld-2')


def class_of(facts: DeathFacts) -> DeathClass:
    """Return the class of a death from its facts; the last row always fits."""
    for row in CLASSES:
        why = row.why_of(facts)
        if why:
            return DeathClass(row.id, row.title, row.role, why, row.advice)
    advice = _DEBUG if facts.has_core else UNKNOWN.advice
    return DeathClass(UNKNOWN.id, UNKNOWN.title, UNKNOWN.role, _unknown(facts), advice)


# -- why a class fits: a sentence, or '' -----------------------------------------------------------


def _sent(facts: DeathFacts) -> str:
    core = facts.record.core
    if core and core.code == 'SI_USER' and core.sender is None:
        # A handler without SA_SIGINFO, as faulthandler's, leaves no sender in the signal frame.
        return f'The core file says that {facts.signal} was sent (SI_USER), but not by whom.'
    if facts.sender is None:
        return ''
    user = f' of the user {core.sender_uid}' if core and core.sender_uid is not None else ''
    return f'The core file says that process {facts.sender}{user} sent {facts.signal}.'


def _stack_end(facts: DeathFacts) -> str:
    if facts.record.verdict != 'stack-overflow':
        return ''
    address = facts.address
    if address is None:
        return 'Python says so, or the stack of the thread repeats itself to its end.'
    return f'The address of the fault, {address:#x}, is where the stack of the thread ends.'


def _at_exit(facts: DeathFacts) -> str:
    if facts.fatal.was_ending:
        return f'Python was "{facts.fatal.runtime_state}".'
    for frame in facts.stack:
        if re.match(r'_?Py_(?:Finalize|Exit$)|finalize_|atexit_', frame.function):
            return f'The stack has {frame.function}, which runs when Python ends.'
    if facts.record.phase == 'finished':
        return 'The normal exit of Python had begun.'
    return ''


def _import(facts: DeathFacts) -> str:
    if facts.loads_module:
        return 'The innermost Python frames load a compiled module.'
    first = facts.frames[0].frame if facts.frames else None
    if first and first.library.rpartition('/')[2].startswith(_LOADER):
        return 'The innermost frame is in the loader of shared libraries.'
    return ''


def _copies(facts: DeathFacts) -> str:
    copies = facts.copies
    if copies is None:
        return ''
    files = ' and '.join(one.file for one in copies.objects)
    return f'The crash is in {copies.library}, of which the process has two copies: {files}.'


def _native_thread(facts: DeathFacts) -> str:
    routine = facts.routine
    if facts.is_native_thread and routine:
        return f'The thread began in {_place(routine.function, routine.library)}.'
    if facts.is_native_thread:
        return 'The dump shows all threads of Python, and none of them is the one that crashed.'
    return ''


def _filled(facts: DeathFacts) -> str:
    values = {'the address of the fault': facts.address or 0}
    values |= {f'the register {name}': value for name, value in facts.registers.items()}
    for where, value in values.items():
        bytes_of = value.to_bytes(16, 'big')[-8:] if 0 <= value < 1 << 64 else b''
        for fill, what in _FILLS.items():
            if bytes_of[:_FILLED_BYTES] == bytes([fill]) * _FILLED_BYTES:
                return f'{where[:1].upper()}{where[1:]} is {value:#x}: {what}.'
    return ''


def _nowhere(facts: DeathFacts) -> str:
    counter = facts.program_counter
    is_null = facts.address is not None and facts.address < NULL_END
    if not facts.code or counter < NULL_END or is_null:
        return ''
    is_fetch = facts.kernel is not None and bool(facts.kernel.error & FETCH)
    is_there = facts.code_at is not None and 'x' in facts.code_at.permissions
    is_jump = not is_there if facts.code_at or _from_core(facts) else is_fetch
    if is_jump and facts.signal in ('SIGSEGV', 'SIGBUS'):
        return f'The program counter was {counter:#x}, where no code is.'
    return ''


def _cut_short(facts: DeathFacts) -> str:
    if facts.signal != 'SIGBUS':
        return ''
    if facts.data_at and facts.data_at.file:
        return f'The address is in a mapping of {facts.data_at.file}, beyond the end of the file.'
    return 'SIGBUS: a file that was mapped into memory became shorter, or its disk failed.'


def _instruction(facts: DeathFacts) -> str:
    if facts.signal != 'SIGILL':
        return ''
    if facts.code_at and facts.code_at.file:
        return f'The instruction is in {facts.code_at.file}.'
    if facts.library:
        return f'The kernel says that the instruction is in {facts.library}.'
    return 'The signal was SIGILL.'


def _division(facts: DeathFacts) -> str:
    return 'The signal was SIGFPE.' if facts.signal == 'SIGFPE' else ''


def _earlier_damage(facts: DeathFacts) -> str:
    top = facts.frames[0] if facts.frames else None
    if top and top.category in (frametable.GC, frametable.DEALLOC, frametable.TRAVERSE):
        what = 'collects garbage' if top.category == frametable.GC else 'frees an object'
        if top.category == frametable.TRAVERSE:
            what = 'visits an object for the garbage collector'
        return f'The innermost frame, {top.frame.function}, {what}.'
    is_named = top is not None and bool(top.frame.function)
    is_foreign = top is not None and frametable.is_foreign(top.frame, facts.executable)
    if facts.fatal.collecting and not is_named and not is_foreign:
        return 'The dump says that the thread was collecting garbage.'
    return ''


def _null(facts: DeathFacts) -> str:
    if facts.code != 'SEGV_MAPERR' or facts.address is None or facts.address >= NULL_END:
        return ''
    nulls = [name for name, value in facts.registers.items() if value == 0]
    also = f'; zero in {", ".join(sorted(nulls)[:4])}' if nulls else ''
    return f'The address of the fault was {facts.address:#x}{also}.'


def _read_only(facts: DeathFacts) -> str:
    if facts.code != 'SEGV_ACCERR':
        return ''
    if facts.data_at:
        what = facts.data_at.file or 'memory without a file'
        return f'The address is in {what}, which is mapped as "{facts.data_at.permissions}".'
    return 'The memory at the address of the fault is mapped, but does not allow that.'


def _wild(facts: DeathFacts) -> str:
    if facts.signal not in ('SIGSEGV', 'SIGBUS'):
        return ''
    if facts.code == NO_ADDRESS:
        return 'The address was one that this CPU cannot have ("general protection").'
    if facts.code == 'SEGV_MAPERR' and facts.address is not None:
        return f'Nothing is mapped at the address of the fault, {facts.address:#x}.'
    return ''


def _fatal_error(facts: DeathFacts) -> str:
    if facts.fatal.kind != OF_PYTHON:
        return ''
    return f'Python ended itself: "{facts.fatal.reason}".'


def _abort(facts: DeathFacts) -> str:
    return 'The signal was SIGABRT.' if facts.signal == 'SIGABRT' else ''


def _exit(facts: DeathFacts) -> str:
    if facts.record.verdict != 'exited':
        return ''
    return f'The process exited with status {facts.record.exit_code}, without clean-up.'


def _unknown(facts: DeathFacts) -> str:
    if facts.has_core:
        return 'Neither the core file nor the dump says more than the signal.'
    return 'Without a core file only the Python stack is known.'


def _from_core(facts: DeathFacts) -> bool:
    """Whether the core file has mappings of the fault: of the data, or of the stack."""
    core = facts.record.core
    mappings: tuple[Mapping | None, ...] = ()
    if core and core.code == facts.code:
        mappings = (core.code_at, core.data_at, core.stack_at)
    return any(mappings)


def _place(function: str, library: str) -> str:
    name = library.rpartition('/')[2]
    return f'{function} of {name}' if function else name


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One class.

    `rule` is its row in table B.  It fits if `why` returns a sentence; or, where `words` is given,
    if the last words of C code or of Python match it.
    """

    id: str
    rule: str
    title: str
    role: str
    advice: str
    why: Callable[[DeathFacts], str] | None = None
    words: str = ''

    def why_of(self, facts: DeathFacts) -> str:
        if self.why:
            return self.why(facts)
        if facts.signal != 'SIGABRT' and facts.record.verdict not in ('aborted', 'exited'):
            return ''  # the words may be of another process, and such words lead to an abort
        for words in facts.words:
            if re.search(self.words, words):
                return f'Its last words: "{words}".'
        return ''


_DEBUG = (
    'Start Zope with the environment variable PYTHONMALLOC=debug (for systemd, write '
    '"Environment=PYTHONMALLOC=debug" into the section [Service]): Python then finds such damage '
    'nearer to its cause.'
)
_SOONER = (
    f'{_DEBUG}  If it shows nothing, let a product call "gc.set_threshold(5)" at the start of a '
    'copy of the site: the collector then meets the damage sooner.'
)
_REPORT = 'Report this to the maintainers of the module that is named, with the native stack.'
_CORE = (
    'Write "core-files on" into zope.conf: the next crash then leaves a core file, which names the '
    'module.'
)

CLASSES: tuple[Row, ...] = (
    Row(
        'sent',
        'C1',
        'The signal was sent',
        NEITHER,
        'Find out who sent it: a supervisor, a watchdog, or a person.  No code of the site '
        'crashed.',
        why=_sent,
    ),
    Row(
        'stack-end',
        'C3',
        'A stack came to its end',
        NEITHER,
        'Look which functions repeat in the stack.  If the recursion has an end, write '
        '"thread-stack-size 16MB" into zope.conf.',
        why=_stack_end,
    ),
    Row(
        'overrun',
        'C5',
        'C code wrote beyond its block of memory',
        VICTIM,
        'The block is checked only when it is freed.  Set PYTHONTRACEMALLOC=10 beside '
        'PYTHONMALLOC=debug: Python then says where the block was allocated.',
        words=r'bad (?:trailing|leading) pad byte',
    ),
    Row(
        'api-misuse',
        'C12',
        'C code used the C API of Python wrongly',
        CULPRIT,
        _REPORT,
        words=(
            r'bad ID: Allocated using API|without holding the GIL|the GIL is released'
            r'|must be called with the GIL held|saving thread twice|(?:NULL|wrong) (?:tstate|thread'
            r' state)|non-NULL old thread state|object (?:already|is already|not|is not) tracked'
            r'|invalid thread state|(?:refcount is too small|negative ref ?count)'
            r'|returned (?:NULL|a result) with(?:out)?(?: setting)? an? (?:exception|error)'
            r'|(?:failed without setting|succeeded with) an exception|current thread state is NULL'
            r'|auto-releasing thread-state|tstate mix-up|orphan tstate'
        ),
    ),
    Row(
        'reference-count',
        'C13',
        'An object was freed once too often',
        VICTIM,
        _SOONER,
        words=r'deallocating (?:None|NotImplemented|Ellipsis|True|False)|\w+_dealloc: deallocating',
    ),
    Row(
        'heap-misuse',
        'C10',
        'C code freed memory that it may not free',
        CULPRIT,
        f'{_REPORT}  {_DEBUG}',
        words=(
            r'double free|free\(\): invalid (?:pointer|size)|munmap_chunk\(\): invalid'
            r'|realloc\(\): invalid (?:old size|pointer)|Attempt to free invalid pointer'
        ),
    ),
    Row(
        'heap-damaged',
        'C11',
        'The heap was damaged earlier',
        VICTIM,
        _DEBUG,
        words=(
            r'corrupted size vs|corrupted double-linked|malloc(?:_consolidate)?\(\): |unsorted '
            r'|invalid fastbin|free\(\): (?:invalid next|corrupted|unaligned)|unlink_chunk\(\)'
            r'|memory corruption|calloc\(\): |sysmalloc|realloc\(\): '
        ),
    ),
    Row(
        'buffer-overflow',
        'C5',
        'C code wrote beyond a buffer',
        CULPRIT,
        _REPORT,
        words=r'stack smashing detected|buffer overflow detected',
    ),
    Row(
        'assertion',
        'C12',
        'An assertion in C code failed',
        NEITHER,
        f'{_REPORT}  An assertion also fails if code uses a library wrongly.',
        words=r'Assertion .*failed|^Assertion failed|assertion failed',
    ),
    Row(
        'cpp-exception',
        'C2',
        'C++ code threw an exception that nothing caught',
        CULPRIT,
        _REPORT,
        words=r'terminate called|libc\+\+abi|pure virtual method|deleted virtual method',
    ),
    Row(
        'rust-panic',
        'C2',
        'Rust code panicked',
        CULPRIT,
        _REPORT,
        words=r"^thread '.*panicked|fatal runtime error|memory allocation of \d+ bytes failed"
        r'|panicked while|non-unwinding panic',
    ),
    Row(
        'at-exit',
        'C17',
        'It crashed when it was ending',
        NEITHER,
        'The work was done by then, and no request was lost.  Look for newer releases of the '
        'modules with threads of their own.',
        why=_at_exit,
    ),
    Row(
        'fatal-error',
        'C12',
        'Python ended itself with a fatal error',
        NEITHER,
        _DEBUG,
        why=_fatal_error,
    ),
    Row(
        'import',
        'C14',
        'It crashed while a compiled module was loaded',
        CULPRIT,
        'Install that module again, for this Python and this libc: "pip install --force-reinstall '
        '--no-cache-dir" with its name, and with "--no-binary :all:" to build it here.',
        why=_import,
    ),
    Row(
        'two-copies',
        'C15',
        'Two copies of one library in the process',
        NEITHER,
        'Build both packages here, so that they use one library: "pip install --no-binary" with '
        'their names, and "--force-reinstall".',
        why=_copies,
    ),
    Row(
        'native-thread',
        'C16',
        'It crashed in a thread that C code had started',
        NEITHER,
        f'{_REPORT}  Such a thread runs no Python code.',
        why=_native_thread,
    ),
    Row(
        'use-after-free',
        'C5',
        'C code used memory that was freed or never written',
        CULPRIT,
        _REPORT,
        why=_filled,
    ),
    Row(
        'jump-into-nowhere',
        'C4',
        'The CPU jumped to where no code is',
        VICTIM,
        _DEBUG,
        why=_nowhere,
    ),
    Row(
        'file-cut-short',
        'C8',
        'A mapped file became shorter',
        NEITHER,
        'Find what truncates that file: "copytruncate" of logrotate, a deployment that writes over '
        'files in place, or a full disk.',
        why=_cut_short,
    ),
    Row(
        'missing-instruction',
        'C9',
        'An instruction that this CPU does not have',
        CULPRIT,
        'Compare "flags" in /proc/cpuinfo with what the wheel needs, and build it here: "pip '
        'install --no-binary :all: --force-reinstall" with its name.  Some code also ends itself '
        'so on purpose.',
        why=_instruction,
    ),
    Row(
        'arithmetic',
        'C2',
        'An integer was divided by zero in C code',
        CULPRIT,
        _REPORT,
        why=_division,
    ),
    Row(
        'damaged-earlier',
        'C13',
        'Memory was damaged earlier',
        VICTIM,
        _SOONER,
        why=_earlier_damage,
    ),
    Row('null-pointer', 'C2', 'A null pointer was used', CULPRIT, _REPORT, why=_null),
    Row(
        'read-only-memory',
        'C7',
        'C code wrote to memory that is read-only',
        CULPRIT,
        _REPORT,
        why=_read_only,
    ),
    Row('wild-pointer', 'C6', 'A pointer led nowhere', NEITHER, _DEBUG, why=_wild),
    Row('exit-in-c', 'C2', 'Some code ended the process by itself', NEITHER, '', why=_exit),
    Row('abort-in-c', 'C2', 'The process ended itself by abort()', NEITHER, _REPORT, why=_abort),
)
#: No other class fits.
UNKNOWN = Row('unknown', 'C18', 'C code crashed, and how is not known', NEITHER, _CORE)
