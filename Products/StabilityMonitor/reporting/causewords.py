"""Why a run died, in words: the class of its death, the suspects, and what its core file tells.

Records in, sentences out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from ..model.corefile import BY_CONTENT
from ..model.corefile import CoreFile
from ..model.corefile import CoreThread
from ..model.corefile import Mapping
from ..model.corefile import MergedFrame
from ..model.records import Frame
from ..model.records import clocktime
from ..model.runrecord import RunRecord
from ..model.sharedobject import SharedObject
from ..model.suspects import CULPRIT
from ..model.suspects import VICTIM
from ..model.suspects import DeathClass
from ..model.suspects import Suspect
from .axes import size
from .threadtext import frame_line
from .threadtext import without_repetition

_ROLES = {
    CULPRIT: 'The code on top of the stack did it.',
    VICTIM: 'The code on top of the stack is where it surfaced; other code did the damage before.',
}
_MATCHES = {
    BY_CONTENT: 'it is of this run: it names the black box of the run',
}
#: So many hex digits of a build id are shown; they tell builds apart.
_SHOWN_DIGITS = 12
_PROBABLY = 'probably of this run: process id and time fit, its content could not be read'


def death_words(death: DeathClass) -> str:
    """Return what kind of death it was, why that is known, and what the frame on top is."""
    words = [f'{death.title}.', death.why, _ROLES.get(death.role, '')]
    return ' '.join(filter(None, words))


def suspect_name(suspect: Suspect) -> str:
    """Return for example "lxml.etree of lxml 6.1.3"."""
    owner = ' '.join(filter(None, (suspect.distribution, suspect.version)))
    return f'{suspect.module} of {owner}' if owner else suspect.module


def suspect_line(suspect: Suspect) -> str:
    return f'{suspect_name(suspect)} ({suspect.strength}): {suspect.why}'


def no_suspect(record: RunRecord) -> str:
    """Return a sentence for a death that has a class but no suspect; '' otherwise."""
    if record.death is None or record.suspects:
        return ''
    return 'Nothing points to a module.'


def cause_lines(record: RunRecord) -> list[str]:
    """Return the class of the death and its suspects, one line each; [] if neither is known.

    What the class advises is a next step, see `nextsteps`.
    """
    lines = []
    if record.death:
        lines.append(death_words(record.death))
    for number, suspect in enumerate(record.suspects, 1):
        lines.append(f'{number}. {suspect_line(suspect)}')
    if no_suspect(record):
        lines.append(no_suspect(record))
    return lines


# -- the core file ---------------------------------------------------------------------------------


def core_facts(core: CoreFile) -> list[tuple[str, str]]:
    """Return (label, words) of what is known about a core file, without its stacks."""
    written = f', written {clocktime(core.written)}' if core.written else ''
    instruction = ''
    if core.program_counter:
        instruction = _address(core.program_counter, core.code_at)
    rows = [
        ('File', f'{core.path} ({size(core.size)}{written})'),
        ('Whose', _MATCHES.get(core.match, _PROBABLY)),
        ('Signal', _signal(core)),
        ('Sent by', _sender(core)),
        ('Last message of the C library', core.abort_message),
        ('Instruction', instruction),
        ('Read by', core.reader),
    ]
    return [(label, words) for label, words in rows if words]


def core_gaps(core: CoreFile) -> list[str]:
    """Return what could not be read, in sentences; the last one says how a person reads it."""
    gaps = list(core.incomplete)
    if core.command and (gaps or not core.threads):
        gaps.append(f'To read it by hand: {core.command}')
    return gaps


def unread_core(record: RunRecord) -> str:
    """Return a sentence if a core file was found but what it tells is not known yet; else ''."""
    if record.core or not any(each.source == 'core' for each in record.amendments):
        return ''
    return 'The core file of this run was found, and has not been read yet.'


def core_lines(core: CoreFile) -> Iterator[str]:
    for label, words in core_facts(core):
        yield f'{label}: {words}'
    yield from core_gaps(core)


def _signal(core: CoreFile) -> str:
    words = ' '.join(filter(None, (core.signal, core.code)))
    if core.address is None:
        return words
    return f'{words} at {_address(core.address, core.data_at)}'


def _sender(core: CoreFile) -> str:
    if core.sender is None:
        return ''
    user = '' if core.sender_uid is None else f' of user {core.sender_uid}'
    return f'process {core.sender}{user}'


def _address(address: int, place: Mapping | None) -> str:
    if place is None:
        return f'0x{address:x}, where nothing is mapped'
    name = os.path.basename(place.file) or 'anonymous memory'
    return f'0x{address:x} in {name} ({place.permissions})'


# -- merged stacks ---------------------------------------------------------------------------------


def merged_frame_line(frame: MergedFrame) -> str:
    """Return one frame: a Python frame as in a traceback, a native one with its library."""
    function = frame.function or '???'
    if not frame.native:
        return frame_line(Frame(frame.file, frame.line, frame.function))
    where = os.path.basename(frame.library)
    if frame.file:
        source = os.path.basename(frame.file)
        where = f'{where}, {source}:{frame.line}' if frame.line else f'{where}, {source}'
    if not frame.function and frame.offset:
        function = f'0x{frame.offset:x}'
    return f'    {function} ({where or "?"})'


def merged_lines(frames: Iterable[MergedFrame]) -> list[str]:
    """Return a stack, innermost frame first; native frames are indented, repetitions counted."""
    return list(without_repetition(list(map(merged_frame_line, frames))))


def core_threads_title(threads: Sequence[CoreThread]) -> str:
    """Return for example "thread 4711 (crashed, holds the GIL)", or "2 threads: 4712, 4713"."""
    thread = threads[0]
    name = thread.name or f'thread {thread.native_id}'
    if len(threads) > 1:
        names = ', '.join(each.name or str(each.native_id) for each in threads)
        name = f'{len(threads)} threads: {names}'
    notes = []
    if thread.crashed:
        notes.append('crashed')
    if thread.holds_gil:
        notes.append('holds the GIL')
    return f'{name} ({", ".join(notes)})' if notes else name


def core_threads(core: CoreFile) -> list[list[CoreThread]]:
    """Return the threads of a core file, those with equal stacks together; the crashed first."""
    return equal_core_threads(core.threads)


def equal_core_threads(threads: Iterable[CoreThread]) -> list[list[CoreThread]]:
    """Return these threads, those with equal stacks together; the crashed first."""
    groups: dict[tuple[object, ...], list[CoreThread]] = {}
    for thread in sorted(threads, key=lambda thread: not thread.crashed):
        key = (thread.crashed, thread.holds_gil, *merged_lines(thread.frames))
        groups.setdefault(key, []).append(thread)
    return list(groups.values())


# -- shared objects --------------------------------------------------------------------------------


def object_line(shared: SharedObject) -> str:
    """Return a shared object with its owner and the modules that were imported from it."""
    owner = ' '.join(filter(None, (shared.distribution, shared.version)))
    parts = [
        os.path.basename(shared.file),
        ', '.join(shared.modules),
        f'of {owner}' if owner else '',
        f'build id {shared.build_id[:_SHOWN_DIGITS]}' if shared.build_id else '',
    ]
    return '  '.join(filter(None, parts))
