"""Which thread waits for which lock, which one holds it, and which wait for each other in a cycle.

A lock of Python does not say which thread holds it (only an RLock does), and the locals of other
threads are never read.  So the source answers: which `with X:` or `X.acquire()` ... `X.release()`
encloses the line that a thread is at.  `X` is the same lock in two threads when it is the same
global object, or the same attribute of the same class.  The latter is an inference, and so is a
holder that the lock itself does not name; both are reported as inferred.
"""

from __future__ import annotations

import importlib._bootstrap
import itertools
import re
import sys
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import FunctionType
from types import ModuleType
from typing import Any

from .codeplaces import CodePlace
from .cycles import source_words
from .lockregions import position
from .lockregions import regions

importing: Any = importlib._bootstrap  # typeshed leaves its private names out
_OWNER = re.compile(r'owner=(\d+)')
_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_COUNTED = (threading.Semaphore, threading.BoundedSemaphore)
_TYPES = (_LOCK, _RLOCK, threading.Condition, *_COUNTED)
#: Functions of the library that wait, and what for.  The outermost one in a stack counts.
WAITS = {
    'Condition.wait': 'a condition',
    'Condition.wait_for': 'a condition',
    'Event.wait': 'an event',
    'Barrier.wait': 'the others at a barrier',
    'Thread.join': 'the end of a thread',
    'Queue.get': 'an entry in a queue',
    'Queue.put': 'room in a queue',
    'Queue.join': 'the end of all work in a queue',
    'Future.result': 'the result of another thread',
    'Future.exception': 'the result of another thread',
    'Timer.run': 'its time',
}
_LIBRARY = ('threading', 'queue', 'concurrent.futures._base')
#: These functions of the library take a lock for their caller.
_ENTRIES = ('Condition.__enter__', 'Semaphore.acquire')
_PRIMITIVES = ('Condition.wait', 'Thread._wait_for_tstate_lock', 'Thread.join')


#: What is equal for the same lock: a word for how it is known, then whatever tells it.
Key = tuple[object, ...]
#: {key: place} of the locks that a thread holds.
Held = dict[Key, str]


@dataclass(frozen=True)
class Lock:
    """Two locks with the same `key` are taken to be the same lock.

    `owner` is the ident of a thread, 0 when the lock is free, None when it is not known.
    """

    key: Key
    name: str
    owner: int | None = None
    exclusive: bool = True


@dataclass(frozen=True)
class Holder:
    ident: int
    place: str
    known: bool


@dataclass(frozen=True)
class Want:
    """What a thread waits for in Python: a lock, or (`lock` is None) something else, as WAITS has
    it.
    """

    name: str
    place: str
    lock: Lock | None = None
    forever: bool = True
    holders: tuple[Holder, ...] = ()

    def phrase(self, names: dict[int, str]) -> str:
        text = f'{self.name} at {self.place}'
        if not self.holders:
            return text
        held = [f'{names.get(each.ident, each.ident)} at {each.place}' for each in self.holders]
        return f'{text}, held by {" or ".join(held)}'


@dataclass(frozen=True)
class Deadlock:
    """Threads that wait for each other in a cycle.

    `links` says for each thread what it waits for, and where the next one holds that.
    """

    idents: tuple[int, ...]
    links: tuple[str, ...]
    known: bool

    @property
    def text(self) -> str:
        return f'{"; ".join(self.links)} ({source_words(self.known)})'


def examine(stacks: dict[int, tuple[CodePlace, ...]], waiting: Iterable[int]) -> dict[int, Want]:
    """{ident: Want} for those of the `waiting` threads whose code tells what they wait for.

    `stacks` has all threads, the frames of each innermost first.
    """
    wants = {}
    for ident in waiting:
        want = _want(ident, stacks[ident])
        if want is not None:
            wants[ident] = want
    wanted = {want.lock.key: want.lock for want in wants.values() if want.lock}
    if not wanted:
        return wants
    held = {ident: _held(stack, wanted) for ident, stack in stacks.items()}
    for ident, want in wants.items():
        if want.lock:
            wants[ident] = replace(want, holders=_holders(ident, want.lock, held, stacks))
    return wants


def _want(ident: int, stack: Sequence[CodePlace]) -> Want | None:
    if not stack:
        return None
    if stack[0].module == 'importlib._bootstrap':
        return _import(ident, stack)
    library = list(itertools.takewhile(lambda place: place.module in _LIBRARY, stack))
    callers = stack[len(library) :]
    names = [place.code.co_qualname for place in library]
    if not names or names[0] not in _PRIMITIVES:
        want = _asked(stack[0])
        if want is not None:
            return want
    if names and names[-1] in _ENTRIES and callers:
        return _asked(callers[0])
    for name in reversed(names):
        if name in WAITS:
            return Want(WAITS[name], callers[0].text if callers else 'its start')
    return None


def _asked(place: CodePlace) -> Want | None:
    """The lock that is asked for at this very instruction."""
    point = position(place.code, place.offset, place.line)
    for region in regions(place.code):
        if region.ask <= point < region.begin:
            lock = _lock(region.name, place)
            return Want(f'lock {lock.name}', place.text, lock, lock.exclusive and not region.timed)
    return None


def _import(ident: int, stack: Sequence[CodePlace]) -> Want | None:
    """The lock of a module that is being imported, which knows its owner."""
    lock = importing._blocking_on.get(ident)
    if isinstance(lock, list) and lock:  # from Python 3.12 on, a list of all
        lock = lock[-1]
    if not isinstance(lock, importing._ModuleLock):
        return None
    name = f'import of {lock.name}'
    where = _place_outside_importlib(stack) or stack[0].text
    return Want(name, where, Lock(('import', lock.name), name, lock.owner or 0))


def _holders(
    ident: int,
    lock: Lock,
    held: dict[int, Held],
    stacks: dict[int, tuple[CodePlace, ...]],
) -> tuple[Holder, ...]:
    if lock.owner == 0:
        return ()
    if lock.owner is not None:
        place = held.get(lock.owner, {}).get(lock.key)
        if place is None:
            outside = _place_outside_importlib(stacks.get(lock.owner, ()))
            place = f'{outside or "a place that is not seen"} or further out'
        return (Holder(lock.owner, place, True),)
    # The same attribute in another frame of this thread is as likely that of another object.
    only_others = lock.key[0] != 'object'
    found = []
    for other, places in held.items():
        if only_others and other == ident:
            continue
        if lock.key in places:
            found.append(Holder(other, places[lock.key], False))
    return tuple(found)


def _place_outside_importlib(stack: Iterable[CodePlace]) -> str:
    for place in stack:
        if not place.module.startswith('importlib'):
            return place.text
    return ''


def _held(stack: Sequence[CodePlace], wanted: dict[Key, Lock]) -> Held:
    """The wanted locks that enclose the frames of a thread, each with its innermost place."""
    found: Held = {}
    released: set[Key] = set()
    for index, place in reversed(list(enumerate(stack))):  # the innermost frame comes last
        keys = [lock.key for lock in _enclosing(place, wanted) if lock.key in wanted]
        found.update(dict.fromkeys(keys, place.text))
        if _is_released(stack, index):
            released.update(keys)
    return {key: text for key, text in found.items() if key not in released}


def _enclosing(place: CodePlace, wanted: dict[Key, Lock]) -> Iterator[Lock]:
    if _may_hold(place, wanted):
        point = position(place.code, place.offset, place.line)
        for region in regions(place.code):
            if region.begin <= point < region.end:
                yield _lock(region.name, place)


def _may_hold(place: CodePlace, wanted: dict[Key, Lock]) -> bool:
    """Whether the function mentions a wanted lock.  Few do, and only their source is read."""
    code = place.code
    names = {*code.co_names, *code.co_freevars, *code.co_varnames}
    if 'acquire' in names:
        return True
    last_words = (lock.name.rpartition('.')[2] for lock in wanted.values())
    if not names.isdisjoint(last_words):
        return True
    scope = _scope(place.module)
    return any(('object', id(scope.get(name))) in wanted for name in code.co_names)


def _is_released(stack: Sequence[CodePlace], index: int) -> bool:
    """`Condition.wait` releases what its caller holds, under whatever name."""
    if index == 0:
        return False
    called = stack[index - 1]
    return called.module == 'threading' and called.code.co_qualname.startswith('Condition.wait')


def _lock(name: str, place: CodePlace) -> Lock:
    """The lock that `name` stands for in a function."""
    code = place.code
    scope = _scope(place.module)
    head, _, rest = name.partition('.')
    class_name = code.co_qualname.rpartition('.')[0]
    if head in ('self', 'cls') and class_name:
        return _attribute(rest, _class(scope, class_name), (code.co_filename, class_name))
    is_global = head in code.co_names or code.co_qualname == '<module>'
    found = _known(_member_of(scope, name), name) if is_global else None
    return found or Lock(('local', code.co_filename, code.co_qualname, name), name)


def _attribute(name: str, cls: type | None, home: tuple[str, str]) -> Lock:
    """The lock `self.name` of a class.  `self.acquire()` takes what the method `acquire` takes."""
    if not name and cls:
        method = _member(cls, 'acquire')
        inner = regions(method.__code__) if type(method) is FunctionType else ()
        name = inner[0].name.partition('.')[2] if inner else ''
    label = f'{home[1].rpartition(".")[2]}.{name}'
    found = _known(_member(cls, name), label) if cls else None
    return found or Lock(('attribute', *(_home(cls, name) or home), name), label)


def _home(cls: type | None, name: str) -> tuple[str, str] | None:
    """The topmost base class that mentions the attribute.

    Its methods and those of the classes below it mean the same lock.
    """
    attribute = name.partition('.')[0]
    for base in reversed(_bases(cls)):
        for member in list(_namespace(base).values()):
            if type(member) is FunctionType and attribute in member.__code__.co_names:
                return base.__module__, base.__qualname__
    return None


def _scope(module: str) -> dict[str, Any]:
    found: Any = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return {}
    scope: dict[str, Any] = ModuleType.__getattribute__(found, '__dict__')
    return scope


def _class(scope: dict[str, Any], name: str) -> type | None:
    found = _member_of(scope, name)
    return found if issubclass(type(found), type) else None


def _member_of(scope: dict[str, Any], dotted: str) -> Any:
    head, _, rest = dotted.partition('.')
    found = scope.get(head)
    if rest:
        for name in rest.split('.'):
            found = _member(found, name)
    return found


def _member(owner: Any, name: str) -> Any:
    """An attribute of a module or class, without running code of theirs; None for anything else."""
    if issubclass(type(owner), ModuleType):
        return ModuleType.__getattribute__(owner, '__dict__').get(name)
    for base in _bases(owner):
        namespace = _namespace(base)
        if name in namespace:
            return namespace[name]
    return None


def _bases(owner: Any) -> tuple[type, ...]:
    return type.__getattribute__(owner, '__mro__') if issubclass(type(owner), type) else ()


def _namespace(base: type) -> dict[str, Any]:
    namespace: dict[str, Any] = type.__getattribute__(base, '__dict__')
    return namespace


def _known(found: Any, name: str) -> Lock | None:
    """The lock that a name was found to stand for; None for any other object."""
    if type(found) not in _TYPES:
        return None
    if type(found) is threading.Condition:
        return _known(vars(found).get('_lock'), name)
    if type(found) is _RLOCK:
        owner = _OWNER.search(repr(found))
        return Lock(('object', id(found)), name, int(owner[1]) if owner else None)
    free = type(found) is _LOCK and not found.locked()
    return Lock(('object', id(found)), name, 0 if free else None, type(found) not in _COUNTED)


def deadlocks(wants: dict[int, Want], names: dict[int, str]) -> list[Deadlock]:
    """The cycles of threads that wait without a time limit.

    A thread is stuck when all holders of what it waits for are stuck, too.  Those that are not are
    taken away until nothing changes.
    """
    stuck = {ident: want for ident, want in wants.items() if want.forever and want.holders}
    while True:
        loose = []
        for ident, want in stuck.items():
            if any(holder.ident not in stuck for holder in want.holders):
                loose.append(ident)
        if not loose:
            break
        for ident in loose:
            del stuck[ident]
    cycles = {_cycle(ident, stuck) for ident in stuck}
    return [_deadlock(cycle, stuck, names) for cycle in sorted(cycles)]


def _cycle(ident: int, stuck: dict[int, Want]) -> tuple[int, ...]:
    """The cycle that the way from holder to holder runs into; its smallest ident comes first."""
    seen: list[int] = []
    while ident not in seen:
        seen.append(ident)
        ident = stuck[ident].holders[0].ident
    cycle = seen[seen.index(ident) :]
    first = cycle.index(min(cycle))
    return tuple(cycle[first:] + cycle[:first])


def _deadlock(cycle: tuple[int, ...], stuck: dict[int, Want], names: dict[int, str]) -> Deadlock:
    links = []
    known = True
    for ident in cycle:
        want = stuck[ident]
        holder = want.holders[0]
        known = known and holder.known
        name = names.get(ident, ident)
        other = 'it' if holder.ident == ident else names.get(holder.ident, holder.ident)
        links.append(
            f'{name} waits for {want.name} at {want.place}, which {other} holds at {holder.place}'
        )
    return Deadlock(cycle, tuple(links), known)
