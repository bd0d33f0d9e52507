"""Which thread waits for which lock, which thread holds it, and which threads form a cycle.

A lock of Python does not name the thread that holds it (only an RLock does), and the local
variables of other threads are never read.  So the source decides: a thread holds a lock `X` if its
current line is inside `with X:` or between `X.acquire()` and `X.release()`.  `X` is taken to be the
same lock in two threads if it is the same global object, or the same attribute of the same class.
The latter is an inference, and so is a holder that the lock itself does not name.  Both are
reported as inferred.
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

importing: Any = importlib._bootstrap  # typeshed does not have its private names
_OWNER = re.compile(r'owner=(\d+)')
_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_COUNTED = (threading.Semaphore, threading.BoundedSemaphore)
_TYPES = (_LOCK, _RLOCK, threading.Condition, *_COUNTED)
#: {waiting function of the library: what it waits for}.  The outermost one in a stack counts.
WAITS = {
    'Condition.wait': 'a condition',
    'Condition.wait_for': 'a condition',
    'Event.wait': 'an event',
    'Barrier.wait': 'other threads at a barrier',
    'Thread.join': 'the end of a thread',
    'Queue.get': 'an entry in a queue',
    'Queue.put': 'room in a queue',
    'Queue.join': 'the end of all work in a queue',
    'Future.result': 'the result of another thread',
    'Future.exception': 'the result of another thread',
    'Timer.run': 'the end of a timer',
}
_LIBRARY = ('threading', 'queue', 'concurrent.futures._base')
#: These functions of the library acquire a lock for their caller.
_ENTRIES = ('Condition.__enter__', 'Semaphore.acquire')
_PRIMITIVES = ('Condition.wait', 'Thread._wait_for_tstate_lock', 'Thread.join')


#: Identifies a lock: a word for how it is known, then what identifies it in that way.
Key = tuple[object, ...]
#: {key: place} of the locks that a thread holds.
Held = dict[Key, str]


@dataclass(frozen=True)
class Lock:
    """A lock that a thread waits for or holds.  Two locks with the same `key` count as the same.

    `owner` is the ident of a thread, 0 if the lock is free, None if the owner is not known.
    `exclusive`: only one thread can hold it; false for semaphores.
    """

    key: Key
    name: str
    owner: int | None = None
    exclusive: bool = True


@dataclass(frozen=True)
class Holder:
    """A thread that holds a lock.  `known`: the lock itself names it; else it is inferred."""

    ident: int
    place: str
    known: bool


@dataclass(frozen=True)
class Want:
    """What a thread waits for in Python: a lock, or something in WAITS (then `lock` is None)."""

    name: str
    place: str
    lock: Lock | None = None
    forever: bool = True
    holders: tuple[Holder, ...] = ()

    def phrase(self, names: dict[int, str]) -> str:
        """Return what it waits for, where, and which threads hold that, by their names."""
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

    `links` has one sentence for each thread: what it waits for, and where the next thread in the
    cycle holds that.
    """

    idents: tuple[int, ...]
    links: tuple[str, ...]
    known: bool

    @property
    def text(self) -> str:
        return f'{"; ".join(self.links)} ({source_words(self.known)})'


def examine(stacks: dict[int, Stack], waiting: Iterable[int]) -> dict[int, Want]:
    """Return {ident: Want} for those of the `waiting` threads whose code shows what they wait for.

    `stacks` has the stacks of all threads, because any of them may hold a lock.
    """
    wants = {}
    for ident in waiting:
        want = _want_of(ident, stacks[ident])
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


def _want_of(ident: int, stack: Stack) -> Want | None:
    if not stack:
        return None
    if stack[0].module == 'importlib._bootstrap':
        return _wanted_import(ident, stack)
    names = []  # of the innermost functions, while they belong to the library
    caller = None  # the place that called them
    for place in stack:
        if place.module not in _LIBRARY:
            caller = place
            break
        names.append(place.code.co_qualname)
    if not names or names[0] not in _PRIMITIVES:
        want = _want_at(stack[0])
        if want is not None:
            return want
    if names and names[-1] in _ENTRIES and caller:
        return _want_at(caller)
    for name in reversed(names):
        if name in WAITS:
            return Want(WAITS[name], caller.text if caller else 'its start')
    return None


def _want_at(place: CodePlace) -> Want | None:
    """Return the lock that is requested at this instruction."""
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
    """Return the lock of a module that is being imported; such a lock names its owner."""
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
            outside = _place_outside_importlib(stack) or 'an unknown place'
            place = f'{outside} or in a caller'
        return (Holder(lock.owner, place, known=True),)
    # An attribute of the same name in another frame of this thread may be that of another object.
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
    """Return those of the wanted locks that a thread holds, each with its innermost place."""
    found: Held = {}
    released: set[Key] = set()
    called: CodePlace | None = None
    for place in stack:
        keys = _enclosing(place, wanted)
        for key in keys:
            found.setdefault(key, place.text)
        if called and called.module == 'threading':
            # `Condition.wait` releases the lock that its caller holds, whatever its name.
            if called.code.co_qualname.startswith('Condition.wait'):
                released.update(keys)
        called = place
    for key in released:
        del found[key]
    return found


def _enclosing(place: CodePlace, wanted: dict[Key, Lock]) -> list[Key]:
    """Return those of the wanted locks that are held at this instruction."""
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
    """Return whether the function mentions a wanted lock.

    Few functions do, and only their source is read.
    """
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
    """Return the lock that `name` stands for in a function."""
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
    """Return the lock `self.name` of a class.  `cls` is None if only the class name is known.

    For `self.acquire()`, `name` is ''.  It takes the lock that the method `acquire` takes.
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
    """Return the topmost base class whose methods use the attribute; None if there is none.

    In the methods of this class and of its subclasses, the attribute is the same lock.
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
    """Return an attribute of a module or class; None for anything else.

    It runs no code of the module or class, for example no `__getattr__`.
    """
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
    """Return the lock if `found`, the object that a name stands for, is one; else None."""
    if type(found) not in _TYPES:
        return None
    if type(found) is threading.Condition:
        return _known(vars(found).get('_lock'), name)
    owner = None
    if type(found) is _RLOCK:
        match = _OWNER.search(repr(found))
        if match:
            owner = int(match[1])
    elif type(found) is _LOCK and not found.locked():
        owner = 0
    return Lock(
        key=('object', id(found)),
        name=name,
        owner=owner,
        exclusive=type(found) not in _COUNTED,
    )


def deadlocks(wants: dict[int, Want], names: dict[int, str]) -> list[Deadlock]:
    """Return the cycles of threads that wait for each other without a time limit.

    A thread is stuck if all holders of what it waits for are stuck, too.  Threads that are not
    stuck are removed until nothing changes.
    """
    stuck = {}
    for ident, want in wants.items():
        if want.forever and want.holders:
            stuck[ident] = want
    while True:
        free = []
        for ident, want in stuck.items():
            if any(holder.ident not in stuck for holder in want.holders):
                free.append(ident)
        if not free:
            break
        for ident in free:
            del stuck[ident]
    cycles = {_cycle(ident, stuck) for ident in stuck}
    return [_deadlock(cycle, stuck, names) for cycle in sorted(cycles)]


def _cycle(ident: int, stuck: dict[int, Want]) -> tuple[int, ...]:
    """Return the cycle that is reached from holder to holder; its smallest ident comes first."""
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
