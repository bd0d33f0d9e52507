"""Which thread waits for which lock, which one holds it, and which wait for each other in a cycle.

A lock of Python does not say which thread holds it (only an RLock does), and the locals of other
threads are never read.  So the source answers: which `with X:` or `X.acquire()` ... `X.release()`
encloses the line that a thread is at.  `X` is the same lock in two threads when it is the same
global object, or the same attribute of the same class.  The latter is an inference, and so is a
holder that the lock itself does not name; both are reported as inferred.
"""

from __future__ import annotations

import importlib._bootstrap
import re
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from types import FunctionType
from types import ModuleType
from typing import Any

from .codeplaces import CodePlace
from .codeplaces import Stack
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
        held = []
        for holder in self.holders:
            name = names.get(holder.ident, holder.ident)
            held.append(f'{name} at {holder.place}')
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


def examine(stacks: dict[int, Stack], waiting: Iterable[int]) -> dict[int, Want]:
    """{ident: Want} for those of the `waiting` threads whose code tells what they wait for.

    `stacks` has all threads.
    """
    wants = {}
    for ident in waiting:
        want = _want(ident, stacks[ident])
        if want is not None:
            wants[ident] = want
    wanted = {}
    for want in wants.values():
        if want.lock:
            wanted[want.lock.key] = want.lock
    if not wanted:
        return wants
    held = {ident: _held(stack, wanted) for ident, stack in stacks.items()}
    for ident, want in wants.items():
        if want.lock:
            holders = _holders(ident, want.lock, held, stacks)
            wants[ident] = replace(want, holders=holders)
    return wants


def _want(ident: int, stack: Stack) -> Want | None:
    if not stack:
        return None
    if stack[0].module == 'importlib._bootstrap':
        return _wanted_import(ident, stack)
    names = []  # of the innermost functions that are the library's
    caller = None  # the place that has called them
    for place in stack:
        if place.module not in _LIBRARY:
            caller = place
            break
        names.append(place.code.co_qualname)
    if not names or names[0] not in _PRIMITIVES:
        want = _asked(stack[0])
        if want is not None:
            return want
    if names and names[-1] in _ENTRIES and caller:
        return _asked(caller)
    for name in reversed(names):
        if name in WAITS:
            return Want(WAITS[name], caller.text if caller else 'its start')
    return None


def _asked(place: CodePlace) -> Want | None:
    """The lock that is asked for at this very instruction."""
    point = position(place.code, place.offset, place.line)
    for region in regions(place.code):
        if region.ask <= point < region.begin:
            lock = _lock(region.name, place)
            forever = lock.exclusive and not region.timed
            return Want(
                name=f'lock {lock.name}',
                place=place.text,
                lock=lock,
                forever=forever,
            )
    return None


def _wanted_import(ident: int, stack: Stack) -> Want | None:
    """The lock of a module that is being imported, which knows its owner."""
    found = importing._blocking_on.get(ident)
    if isinstance(found, list) and found:  # from Python 3.12 on, a list of all
        found = found[-1]
    if not isinstance(found, importing._ModuleLock):
        return None
    name = f'import of {found.name}'
    where = _place_outside_importlib(stack) or stack[0].text
    lock = Lock(
        key=('import', found.name),
        name=name,
        owner=found.owner or 0,
    )
    return Want(name, where, lock)


def _holders(
    ident: int,
    lock: Lock,
    held: dict[int, Held],
    stacks: dict[int, Stack],
) -> tuple[Holder, ...]:
    if lock.owner == 0:
        return ()
    if lock.owner is not None:
        place = held.get(lock.owner, {}).get(lock.key)
        if place is None:
            stack = stacks.get(lock.owner, ())
            outside = _place_outside_importlib(stack) or 'a place that is not seen'
            place = f'{outside} or further out'
        return (Holder(lock.owner, place, known=True),)
    # The same attribute in another frame of this thread is as likely that of another object.
    only_others = lock.key[0] != 'object'
    found = []
    for other, places in held.items():
        if only_others and other == ident:
            continue
        if lock.key in places:
            found.append(Holder(other, places[lock.key], known=False))
    return tuple(found)


def _place_outside_importlib(stack: Stack) -> str:
    for place in stack:
        if not place.module.startswith('importlib'):
            return place.text
    return ''


def _held(stack: Stack, wanted: dict[Key, Lock]) -> Held:
    """The wanted locks that enclose the frames of a thread, each with its innermost place."""
    found: Held = {}
    released: set[Key] = set()
    called: CodePlace | None = None
    for place in stack:
        keys = _enclosing(place, wanted)
        for key in keys:
            found.setdefault(key, place.text)
        if called and called.module == 'threading':
            # It releases what its caller holds, under whatever name.
            if called.code.co_qualname.startswith('Condition.wait'):
                released.update(keys)
        called = place
    for key in released:
        del found[key]
    return found


def _enclosing(place: CodePlace, wanted: dict[Key, Lock]) -> list[Key]:
    """Those of the wanted locks that are held at this very instruction."""
    keys: list[Key] = []
    if not _may_hold(place, wanted):
        return keys
    point = position(place.code, place.offset, place.line)
    for region in regions(place.code):
        if region.begin <= point < region.end:
            lock = _lock(region.name, place)
            if lock.key in wanted:
                keys.append(lock.key)
    return keys


def _may_hold(place: CodePlace, wanted: dict[Key, Lock]) -> bool:
    """Whether the function mentions a wanted lock.  Few do, and only their source is read."""
    code = place.code
    names = {*code.co_names, *code.co_freevars, *code.co_varnames}
    if 'acquire' in names:
        return True
    for lock in wanted.values():
        last_word = lock.name.rpartition('.')[2]
        if last_word in names:
            return True
    scope = _scope(place.module)
    for name in code.co_names:
        if ('object', id(scope.get(name))) in wanted:
            return True
    return False


def _lock(name: str, place: CodePlace) -> Lock:
    """The lock that `name` stands for in a function."""
    code = place.code
    file = code.co_filename
    function = code.co_qualname
    scope = _scope(place.module)
    head, _, rest = name.partition('.')
    class_name, _, _ = function.rpartition('.')
    if head in ('self', 'cls') and class_name:
        cls = _member_of(scope, class_name)
        if not issubclass(type(cls), type):
            cls = None
        return _attribute(rest, cls, file, class_name)
    if head in code.co_names or function == '<module>':
        found = _known(_member_of(scope, name), name)
        if found:
            return found
    return Lock(('local', file, function, name), name)


def _attribute(name: str, cls: type | None, file: str, class_name: str) -> Lock:
    """The lock `self.name` of a class; without `cls`, of one that is known by its name alone.

    `self.acquire()`, of which `name` is '', takes what the method `acquire` takes.
    """
    if not name and cls is not None:
        method = _member(cls, 'acquire')
        inner = regions(method.__code__) if type(method) is FunctionType else ()
        if inner:
            _, _, name = inner[0].name.partition('.')
    _, _, short_class_name = class_name.rpartition('.')
    label = f'{short_class_name}.{name}'
    home = None
    if cls is not None:
        found = _known(_member(cls, name), label)
        if found:
            return found
        home = _home(cls, name)
    if home is not None:
        return Lock(('attribute', home.__module__, home.__qualname__, name), label)
    return Lock(('attribute', file, class_name, name), label)


def _home(cls: type, name: str) -> type | None:
    """The topmost base class that mentions the attribute.

    Its methods and those of the classes below it mean the same lock.
    """
    attribute, _, _ = name.partition('.')
    for base in reversed(_bases(cls)):
        members = list(_namespace(base).values())
        for member in members:
            if type(member) is FunctionType and attribute in member.__code__.co_names:
                return base
    return None


def _scope(module: str) -> dict[str, Any]:
    found: Any = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return {}
    scope: dict[str, Any] = ModuleType.__getattribute__(found, '__dict__')
    return scope


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
    if not issubclass(type(owner), type):
        return ()
    bases: tuple[type, ...] = type.__getattribute__(owner, '__mro__')
    return bases


def _namespace(base: type) -> dict[str, Any]:
    namespace: dict[str, Any] = type.__getattribute__(base, '__dict__')
    return namespace


def _known(found: Any, name: str) -> Lock | None:
    """The lock that a name was found to stand for; None for any other object."""
    if type(found) not in _TYPES:
        return None
    if type(found) is threading.Condition:
        return _known(vars(found).get('_lock'), name)
    owner = None
    if type(found) is _RLOCK:
        told = _OWNER.search(repr(found))
        if told:
            owner = int(told[1])
    elif type(found) is _LOCK and not found.locked():
        owner = 0
    return Lock(
        key=('object', id(found)),
        name=name,
        owner=owner,
        exclusive=type(found) not in _COUNTED,
    )


def deadlocks(wants: dict[int, Want], names: dict[int, str]) -> list[Deadlock]:
    """The cycles of threads that wait without a time limit.

    A thread is stuck when all holders of what it waits for are stuck, too.  Those that are not are
    taken away until nothing changes.
    """
    stuck = {}
    for ident, want in wants.items():
        if want.forever and want.holders:
            stuck[ident] = want
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
        holder = stuck[ident].holders[0]
        ident = holder.ident
    cycle = seen[seen.index(ident) :]
    first = cycle.index(min(cycle))
    return (*cycle[first:], *cycle[:first])


def _deadlock(
    cycle: tuple[int, ...],
    stuck: dict[int, Want],
    names: dict[int, str],
) -> Deadlock:
    links = []
    known = True
    for ident in cycle:
        want = stuck[ident]
        holder = want.holders[0]
        known = known and holder.known
        name = names.get(ident, ident)
        other = names.get(holder.ident, holder.ident)
        if holder.ident == ident:
            other = 'it'
        links.append(
            f'{name} waits for {want.name} at {want.place}, which {other} holds at {holder.place}'
        )
    return Deadlock(cycle, tuple(links), known)
