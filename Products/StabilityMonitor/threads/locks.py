"""Who waits for which lock, who holds it, and who waits in a circle.

Locks of Python do not say who holds them (an RLock does), and locals of other threads are not read.
So the source is asked: which `with X:` or `X.acquire()` ... `X.release()` encloses the line that a
thread is at.  `X` is the same lock in two threads when it is the same global object, or the same
attribute of the same class; the latter is an inference, as is a holder that is no owner, and is
called so.
"""

from __future__ import annotations

import importlib._bootstrap
import re
import sys
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import CodeType
from types import FunctionType
from types import ModuleType
from typing import Any

from .lockregions import position
from .lockregions import regions
from .spots import Spot

importing: Any = importlib._bootstrap  # typeshed leaves its private names out
_OWNER = re.compile(r'owner=(\d+)')
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_COUNTED = (threading.Semaphore, threading.BoundedSemaphore)
_TYPES = (_LOCK, _RLOCK, threading.Condition, *_COUNTED)
#: The library's own ways to wait: what for.  The outermost one that a thread is in counts.
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
#: (key, place) of locks that a thread holds.
Held = tuple[tuple[Key, str], ...]


@dataclass(frozen=True)
class Lock:
    """`key` is equal for what is taken to be the same lock; `owner` is an ident, 0 for none, None
    when not known.
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
        held = ' or '.join(f'{names.get(h.ident, h.ident)} at {h.place}' for h in self.holders)
        return f'{self.name} at {self.place}' + (f', held by {held}' if held else '')


@dataclass(frozen=True)
class Deadlock:
    """Threads that wait for each other; `links` says of each what it waits for and where the next
    one holds it.
    """

    idents: tuple[int, ...]
    links: tuple[str, ...]
    known: bool

    @property
    def text(self) -> str:
        return '; '.join(self.links) + (
            ' (the locks name their owners)' if self.known else ' (inferred from the code)'
        )


def examine(stacks: dict[int, tuple[Spot, ...]], waiting: Iterable[int]) -> dict[int, Want]:
    """{ident: Want} of those `waiting` threads whose code tells; `stacks` are of all threads,
    innermost first.
    """
    wants = {ident: want for ident in waiting if (want := _want(ident, stacks[ident]))}
    wanted = {want.lock.key: want.lock for want in wants.values() if want.lock}
    held = {ident: _held(spots, wanted) for ident, spots in stacks.items()} if wanted else {}
    return {
        ident: replace(want, holders=_holders(ident, want.lock, held, stacks))
        if want.lock
        else want
        for ident, want in wants.items()
    }


def _want(ident: int, spots: Sequence[Spot]) -> Want | None:
    if not spots:
        return None
    if spots[0].module == 'importlib._bootstrap':
        return _import(ident, spots)
    library = next((i for i, spot in enumerate(spots) if spot.module not in _LIBRARY), len(spots))
    names = [spot.code.co_qualname for spot in spots[:library]]
    if not names or names[0] not in _PRIMITIVES:
        if want := _asked(spots[0]):
            return want
    if names and names[-1] in _ENTRIES and library < len(spots):
        return _asked(spots[library])
    return _other_wait(names, spots[library:])


def _asked(spot: Spot) -> Want | None:
    point = position(spot.code, spot.offset, spot.line)
    for region in regions(spot.code):
        if region.ask <= point < region.begin:
            lock = _lock(region.name, spot)
            return Want(f'lock {lock.name}', spot.place, lock, lock.exclusive and not region.timed)
    return None


def _other_wait(names: Sequence[str], callers: Sequence[Spot]) -> Want | None:
    what = next((WAITS[name] for name in reversed(names) if name in WAITS), None)
    return Want(what, callers[0].place if callers else 'its start') if what else None


def _import(ident: int, spots: Sequence[Spot]) -> Want | None:
    """Locks of imports know their owner; 3.12 keeps a list of those that a thread waits for."""
    found = importing._blocking_on.get(ident)
    lock = found[-1] if isinstance(found, list) and found else found
    if not isinstance(lock, importing._ModuleLock):
        return None
    name = f'import of {lock.name}'
    where = next(
        (spot.place for spot in spots if not spot.module.startswith('importlib')), spots[0].place
    )
    return Want(name, where, Lock(('import', lock.name), name, lock.owner or 0))


def _holders(
    ident: int,
    lock: Lock,
    held: dict[int, Held],
    stacks: dict[int, tuple[Spot, ...]],
) -> tuple[Holder, ...]:
    if lock.owner is not None:
        seen = dict(held.get(lock.owner, ())).get(lock.key) or _somewhere(
            stacks.get(lock.owner, ())
        )
        return (Holder(lock.owner, seen, True),) if lock.owner else ()
    alone = lock.key[0] != 'object'  # another object's lock, for all that is known
    return tuple(
        Holder(other, dict(places)[lock.key], False)
        for other, places in held.items()
        if lock.key in dict(places) and not (alone and other == ident)
    )


def _somewhere(spots: Iterable[Spot]) -> str:
    own = (spot.place for spot in spots if not spot.module.startswith('importlib'))
    return f'{next(own, "a place that is not seen")} or further out'


def _held(spots: Sequence[Spot], wanted: dict[Key, Lock]) -> Held:
    """((key, place), ...) of the wanted locks that enclose the frames, of each the innermost place
    last.
    """
    found: list[tuple[Key, str]] = []
    released: set[Key] = set()
    for index, spot in reversed(list(enumerate(spots))):
        here = [(lock.key, spot.place) for lock in _enclosing(spot, wanted) if lock.key in wanted]
        if _is_released(spots, index):
            released.update(key for key, _ in here)
        found += here
    return tuple(pair for pair in found if pair[0] not in released)


def _enclosing(spot: Spot, wanted: dict[Key, Lock]) -> Iterator[Lock]:
    if _may_hold(spot.code, wanted, spot):
        point = position(spot.code, spot.offset, spot.line)
        for region in regions(spot.code):
            if region.begin <= point < region.end:
                yield _lock(region.name, spot)


def _may_hold(code: CodeType, wanted: dict[Key, Lock], spot: Spot) -> bool:
    """Few frames have to do with a lock: the others' source is not read."""
    names = {*code.co_names, *code.co_freevars, *code.co_varnames}
    if 'acquire' in names or any(lock.name.rpartition('.')[2] in names for lock in wanted.values()):
        return True
    scope = _scope(spot.module)
    return any(('object', id(scope.get(name))) in wanted for name in code.co_names)


def _is_released(spots: Sequence[Spot], index: int) -> bool:
    """`Condition.wait` gives back what its caller holds, under whatever name."""
    inner = spots[index - 1] if index else None
    return (
        inner is not None
        and inner.module == 'threading'
        and inner.code.co_qualname.startswith('Condition.wait')
    )


def _lock(name: str, spot: Spot) -> Lock:
    scope, qualname = _scope(spot.module), spot.code.co_qualname
    head, _, rest = name.partition('.')
    if head in ('self', 'cls') and '.' in qualname:
        return _attribute(
            rest, _class(scope, qualname), (spot.code.co_filename, qualname.rpartition('.')[0])
        )
    found = (
        _member_of(scope, name) if head in spot.code.co_names or '<module>' == qualname else None
    )
    return _known(found, name) or Lock(('local', spot.code.co_filename, qualname, name), name)


def _attribute(name: str, cls: type | None, home: tuple[str, str]) -> Lock:
    """The lock `self.name` of a class.  `self.acquire()` is what the method of that name takes."""
    if not name and cls:
        method = _member(cls, 'acquire')
        inner = regions(method.__code__) if type(method) is FunctionType else ()
        name = next((region.name.partition('.')[2] for region in inner), '')
    label = f'{home[1].rpartition(".")[2]}.{name}'
    found = _known(_member(cls, name), label) if cls else None
    return found or Lock(('attribute', *(_home(cls, name) or home), name), label)


def _home(cls: type | None, name: str) -> tuple[str, str] | None:
    """The base class that mentions the attribute first: its methods and those of its heirs mean the
    same lock.
    """
    for base in reversed(_bases(cls)):
        functions = [
            member for member in list(_namespace(base).values()) if type(member) is FunctionType
        ]
        if any(name.partition('.')[0] in function.__code__.co_names for function in functions):
            return base.__module__, base.__qualname__
    return None


def _scope(module: str) -> dict[str, Any]:
    found: Any = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return {}
    scope: dict[str, Any] = ModuleType.__getattribute__(found, '__dict__')
    return scope


def _class(scope: dict[str, Any], qualname: str) -> type | None:
    found = _member_of(scope, qualname.rpartition('.')[0])
    return found if issubclass(type(found), type) else None


def _member_of(scope: dict[str, Any], dotted: str) -> Any:
    head, _, rest = dotted.partition('.')
    found = scope.get(head)
    for name in rest.split('.') if rest else ():
        found = _member(found, name)
    return found


def _member(owner: Any, name: str) -> Any:
    """An attribute of a module or class, without running code of theirs; None for anything else."""
    if issubclass(type(owner), ModuleType):
        return ModuleType.__getattribute__(owner, '__dict__').get(name)
    return next(
        (_namespace(base)[name] for base in _bases(owner) if name in _namespace(base)), None
    )


def _bases(owner: Any) -> tuple[type, ...]:
    return type.__getattribute__(owner, '__mro__') if issubclass(type(owner), type) else ()


def _namespace(base: type) -> dict[str, Any]:
    namespace: dict[str, Any] = type.__getattribute__(base, '__dict__')
    return namespace


def _known(found: Any, name: str) -> Lock | None:
    """A lock that could be looked up; None for anything else."""
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
    """The circles among threads that wait without a time limit, each for locks whose holders all do
    so, too.
    """
    stuck = {ident: want for ident, want in wants.items() if want.forever and want.holders}
    while loose := [
        ident for ident, want in stuck.items() if not all(h.ident in stuck for h in want.holders)
    ]:
        for ident in loose:
            del stuck[ident]
    circles = {_circle(ident, stuck) for ident in stuck}
    return [_deadlock(circle, stuck, names) for circle in sorted(circles)]


def _circle(ident: int, stuck: dict[int, Want]) -> tuple[int, ...]:
    seen: list[int] = []
    while ident not in seen:
        seen.append(ident)
        ident = stuck[ident].holders[0].ident
    circle = seen[seen.index(ident) :]
    first = circle.index(min(circle))
    return tuple(circle[first:] + circle[:first])


def _deadlock(circle: tuple[int, ...], stuck: dict[int, Want], names: dict[int, str]) -> Deadlock:
    links = []
    for ident in circle:
        want, holder = stuck[ident], stuck[ident].holders[0]
        who = 'it' if holder.ident == ident else names.get(holder.ident, holder.ident)
        links.append(
            f'{names.get(ident, ident)} waits for {want.name} at {want.place}, which {who} holds '
            'at '
            f'{holder.place}'
        )
    return Deadlock(circle, tuple(links), all(stuck[ident].holders[0].known for ident in circle))
