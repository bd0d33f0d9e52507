"""The signature of an incident, by which the same fault is recognised.  A record in, a value out.

The rules are those of table C of the sources named in docs/design.rst ("Signatures"): after the
table of frames, up to three native and three Python places count, and no numbers of lines,
addresses, folders or versions.  A part that is not known makes a signature weak, and no signature
is better than a wrong one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from ..model.records import Frame
from ..model.runrecord import RunRecord
from ..model.signature import Signature
from ..model.suspects import VICTIM
from ..model.threadstates import Event
from ..model.tracebacksummary import exception_name
from ..system.eventlog import LOGGER
from ..threads import codeorigin
from . import callees
from . import deathclass
from . import framenames
from . import frametable
from . import pathtemplates
from .callees import Read
from .compiledmodules import Loaded
from .compiledmodules import loaded
from .deathfacts import DeathFacts
from .deathfacts import facts_of
from .diagnosis import diagnosed
from .frametable import PreparedFrame

#: Raise this with each change of the rules: signatures that were kept are made again.
RULES = 2
#: So many places of a stack count.
MOST = 3
#: Characters: so much of a name counts.  Longer ones are in damaged records, and of templates.
_LONGEST = 500
#: A function that is so often in a stack is part of a recursion.
_REPEATS = 3
#: Functions in which damage surfaces: which of them it was is chance.
_DAMAGE = (frametable.GC, frametable.DEALLOC)
#: Suspects that are this weak are guesses, and make no family.
_GUESS = 'weak'
#: Verdicts without a signature: nothing is known, or nothing of the site has failed.
_NONE = frozenset(('unreadable', 'stopped', 'host-restarted', 'running'))

_BY_EXCEPTION = frozenset(('startup-failed', 'unhandled-exception'))
_HUNG = 'hung'
#: Verdicts of processes that a person may have ended because they hung.
_FROM_OUTSIDE = frozenset(('hung', 'killed', 'signalled', 'vanished'))
#: The reasons of a hang in which only the threads of requests count.
_OF_WORKERS = frozenset(('workers', 'queue', 'connections'))
#: A frame of a traceback as text.
_TRACEBACK_FRAME = re.compile(
    r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE
)
#: The program that began the process, as bin/runwsgi: it is in each traceback.
_PROGRAM = re.compile(r'.*/bin/[^/]+')
#: What could not be imported, in the messages of these errors: a name, which tells faults apart.
_MISSING = re.compile(r"^\S*Error: (?:No module named|cannot import name) '([\w.]+)'", re.MULTILINE)
_OF_IMPORT = ('ImportError', 'ModuleNotFoundError')
#: A place of an error in ZCML, see zope.configuration.xmlconfig.ParserInfo: a line and a column.
#: The innermost file comes last.
_ZCML = re.compile(r'File "([^"\n]+\.zcml)", line \d+\.\d+')


def _nothing(path: str) -> str | None:
    return None


def signature_of(record: RunRecord, read: Read = _nothing) -> Signature | None:
    """Return the signature of an incident; None if it has none.

    `read` returns the text of a file of Python code, as in `diagnosis.source_reader`.  A drill has
    none, because no fault ended it.  Never raises.
    """
    if not may_have(record):
        return None
    try:
        found = _of_verdict(record, read)
        return _bounded(found) if found else None
    except Exception:  # the record is from a file, so nothing in it is trusted
        LOGGER.warning('The run %s could not be given a signature.', record.run, exc_info=True)
        return None


def may_have(record: RunRecord) -> bool:
    """Whether this run may have a signature: a summary is enough to tell."""
    return record.is_incident and not record.drill and record.verdict not in _NONE


def _of_verdict(record: RunRecord, read: Read) -> Signature | None:
    if record.verdict in deathclass.VERDICTS:
        return _of_death(record, read)
    if record.verdict in _BY_EXCEPTION:
        return _of_exception(record)
    if record.verdict == _HUNG:
        return _of_hang(record)
    return _of_request(record)


def _bounded(found: Signature) -> Signature:
    return replace(
        found,
        verdict=found.verdict[:_LONGEST],
        signal=found.signal[:_LONGEST],
        native=tuple(name[:_LONGEST] for name in found.native),
        python=tuple(name[:_LONGEST] for name in found.python),
        place=found.place[: MOST * _LONGEST],
        suspect=found.suspect[:_LONGEST],
    )


# -- crashes ---------------------------------------------------------------------------------------


def _of_death(record: RunRecord, read: Read) -> Signature | None:
    record = diagnosed(record, read=read)
    facts = facts_of(record)
    death = record.death
    modules = loaded(record)
    is_recursion = record.verdict == 'stack-overflow'
    native, is_known = _native(facts, modules, is_recursion)
    python, is_place_known = _python(facts, modules, read, is_recursion)
    class_id = death.id if death else ''
    if not native and not python:
        if facts.is_native_thread or facts.loads_module:  # a path does not tell what it was
            return None
        return _of_request(record, class_id)
    is_victim = death is not None and death.role == VICTIM
    first = record.suspects[0] if record.suspects else None
    return Signature(
        verdict=record.verdict,
        signal=record.signal or facts.signal,
        death=class_id,
        native=native,
        python=python,
        suspect=first.module if first and first.strength != _GUESS else '',
        is_weak=is_victim or not native or not is_known or not is_place_known,
    )


def _native(facts: DeathFacts, modules: Loaded, is_recursion: bool) -> tuple[tuple[str, ...], bool]:
    """Return the native places, and whether all of them are known.

    If the crash was in code of Python or of the system, that counts only as far as other code
    called it: what is within differs between releases.
    """
    frames: Sequence[PreparedFrame] = facts.frames
    if is_recursion:
        frames = [frame for frame in frames if not frame.is_python]
    else:
        frames = list(takewhile(lambda frame: not frame.is_python, frames))
    if not is_recursion:
        frames = _from_first_foreign(frames, facts.executable)
    named = [each for each in frames if _is_place(each, facts.executable)]
    names = [_native_place(each, modules) for each in named]
    if is_recursion:
        names = _of_recursion(names)
    names = list(dict.fromkeys(names))[:MOST]
    is_known = bool(names) and all('!' in name or name.startswith('[') for name in names)
    return tuple(names), is_known and len(named) == len(frames)


def _from_first_foreign(
    frames: Sequence[PreparedFrame], executable: str
) -> Sequence[PreparedFrame]:
    """Return the frames of other code, with what it called of the platform before them."""
    for index, each in enumerate(frames):
        if not frametable.is_foreign(each.frame, executable):
            continue
        called = frames[index - 1 : index] if index and _is_stable(frames[index - 1]) else ()
        others = [one for one in frames[index:] if frametable.is_foreign(one.frame, executable)]
        return [*called, *others]
    return frames


def _is_stable(each: PreparedFrame) -> bool:
    """Whether a frame of the platform has a name that does not change from release to release."""
    is_interface = each.frame.function.startswith(('Py', '_Py'))
    return is_interface or each.category in _DAMAGE


def _is_place(each: PreparedFrame, executable: str) -> bool:
    """Whether a native frame says where the thread was: the C library alone does not."""
    return bool(each.frame.function) or frametable.is_foreign(each.frame, executable)


def _native_place(each: PreparedFrame, modules: Loaded) -> str:
    if each.category in _DAMAGE:
        return f'[{each.category}]'
    return framenames.native_name(each.frame, modules)


def _python(
    facts: DeathFacts, modules: Loaded, read: Read, is_recursion: bool
) -> tuple[tuple[str, ...], bool]:
    """Return the Python places, and whether they tell faults apart."""
    names = [framenames.python_name(frame) for frame in _telling(facts.python)]
    if is_recursion:
        names = _of_recursion(names)
    names = list(dict.fromkeys(names))[:MOST]
    if not facts.loads_module:
        return tuple(names), True
    imported, is_known = _imported(facts, modules, read)
    return ((f'import {imported}', *names)[:MOST] if imported else ()), is_known


def _telling(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Return the Python frames that say where a thread was.

    Each stack of MainThread ends with the program that began it, which says nothing.  If the others
    say nothing, either, as while it waits for requests, the innermost one counts.
    """
    is_program = len(frames) > 1 and frames[-1].function == '<module>'
    inner = frames[:-1] if is_program else frames
    return [frame for frame in inner if framenames.is_telling(frame)] or frames[:1]


def _imported(facts: DeathFacts, modules: Loaded, read: Read) -> tuple[str, bool]:
    """Return what a thread was importing, '' if nothing tells; and whether it is surely that."""
    names = callees.imported(facts.python, modules, read)
    package = names[-1] if names else ''
    if names:
        names = tuple(name for name in names if name.startswith(f'{package}.')) or names
        return ' or '.join(names[:MOST]), len(names) == 1
    # The code may compute the name of the module.  Then only native code tells it.
    first = facts.first_foreign
    if first:
        return framenames.object_name(first[1].frame.library, modules), True
    for frame in facts.python:
        if framenames.is_telling(frame):
            # A file that cannot be read may import several modules, each in a line.
            return ('' if read(frame.file) else f'in line {frame.line}'), False
    return '', False


def _of_recursion(names: Sequence[str]) -> list[str]:
    """Return the functions that call one another without end, sorted.

    In which of them the stack came to its end, and what they had called, is chance.
    """
    times = Counter(names)
    return sorted(name for name in times if times[name] >= _REPEATS) or list(names)


# -- other ends ------------------------------------------------------------------------------------


def _of_exception(record: RunRecord) -> Signature | None:
    """By the class of the exception, and where the site's own code raised it.

    Messages do not count, as they have values, but for the name of what could not be imported.
    """
    name = exception_name(record.exception)
    if not name:
        return None
    configured = _ZCML.findall(record.exception)
    if configured:
        # The code that raised it is that of the parser.
        places = dict.fromkeys(framenames.module_name(file) for file in configured[::-1])
        return Signature(record.verdict, place=f'{name} in {" + ".join(list(places)[:MOST])}')
    frames = [
        Frame(found['file'], int(found['line']), found['function'])
        for found in _TRACEBACK_FRAME.finditer(record.exception)
    ]
    inner = [frame for frame in frames[::-1] if not _PROGRAM.fullmatch(frame.file)]
    own = codeorigin.own(inner)
    missing = _MISSING.findall(record.exception)
    what = f'{name} {missing[-1]}' if missing and name.endswith(_OF_IMPORT) else name
    place = f'{what} in {framenames.python_name(own)}' if own else what
    # Code of the platform may raise it for many reasons.
    is_site = own is not None and codeorigin.place(own.file).kind == codeorigin.SITE
    return Signature(record.verdict, place=place, is_weak=not is_site)


def _of_hang(record: RunRecord) -> Signature | None:
    """By the kind and the reason of the hang, and the places at which its threads stood."""
    event = _worst(record.hangs) or next((each for each in record.hangs if each.lasts), None)
    return _of_event(record, event) if event else _of_request(record)


def _of_event(record: RunRecord, event: Event) -> Signature:
    places = _places(record, event)
    place = ' '.join(filter(None, [event.kind, event.reason, ' + '.join(places)]))
    # What ended a process that hung says nothing about the hang, nor does who saw it.
    return Signature(_HUNG, place=place, is_weak=not places)


def _worst(events: Iterable[Event]) -> Event | None:
    """Return the hang that lasted to the end; a deadlock before the hang that it led to."""
    lasting = [event for event in events if event.lasts]
    for kind in ('deadlock', 'hang', 'spinning'):
        for event in lasting:
            if event.kind == kind:
                return event
    return None


def _places(record: RunRecord, event: Event) -> list[str]:
    if event.place:
        return [framenames.python_name(event.place)]
    stacks = {note.ident: note.frames for note in record.notes if note.frames}
    stacks |= {thread.ident: thread.frames for thread in record.threads if thread.frames}
    idents = event.threads or tuple(link.ident for link in event.cycle) or tuple(stacks)
    if event.reason in _OF_WORKERS:
        serving = {request.ident for request in record.requests}
        idents = tuple(ident for ident in idents if ident in serving) or idents
    found = set()
    for ident in idents:
        own = _own(stacks.get(ident, ()))
        if own:
            found.add(framenames.python_name(own))
    return sorted(found)[:MOST]


def _own(frames: Iterable[Frame]) -> Frame | None:
    """Return the innermost frame of the site's own code, or else of its platform."""
    telling = [frame for frame in frames if framenames.is_telling(frame)]
    for kind in (codeorigin.SITE, codeorigin.CARRIER):
        for frame in telling:
            if codeorigin.place(frame.file).kind == kind:
                return frame
    return None


def _of_request(record: RunRecord, death: str = '') -> Signature | None:
    """Without a stack: by the template of the path, if only one kind of request was in progress.

    Else by what hung, if a person may have ended the process for that.  None if that is not known:
    ends that only share their verdict are not the same.
    """
    templates = {pathtemplates.template(request.path) for request in record.requests}
    paths = sorted(filter(None, templates))
    event = _worst(record.hangs) if record.verdict in _FROM_OUTSIDE else None
    if len(paths) != 1 and event:
        return _of_event(record, event)
    code = f'exit status {record.exit_code}' if record.verdict == 'exited' else ''
    place = ' '.join(filter(None, [code, *(paths if len(paths) == 1 else ())]))
    if not place:
        return None
    return Signature(
        record.verdict,
        signal=record.signal or '',
        death=death,
        place=place,
        is_weak=len(paths) != 1,
    )
