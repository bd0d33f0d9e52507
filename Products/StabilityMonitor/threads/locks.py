"""Which thread waits for which lock, which thread holds it, and which threads form a cycle.

A lock of Python does not name the thread that holds it (only an RLock does), and a frame does not
refer to the lock that it waits for.  So the source decides: a thread holds a lock `X` if its
current line is inside `with X:` or between `X.acquire()` and `X.release()`.  Whether `X` is the
same lock in two threads, says `lockobjects`.  A holder that the lock itself does not name is
inferred, and is reported so.  If it is not known which lock `X` is, a cycle is only a possible
deadlock.
"""

from __future__ import annotations

import importlib._bootstrap
import itertools
from collections.abc import Collection
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from .codeplaces import CodePlace
from .codeplaces import Stack
from .cycles import source_words
from .lockobjects import Key
from .lockobjects import Lock
from .lockobjects import Wanted
from .lockobjects import lock_of
from .lockregions import instruction
from .lockregions import regions
from .lockregions import waits_in
from .secondlook import Spot

importing: Any = importlib._bootstrap  # typeshed does not have its private names
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
_ENTER_CONTEXT = 'ExitStack.enter_context'
_PRIMITIVES = ('Condition.wait', 'Thread._wait_for_tstate_lock', 'Thread.join')

#: {key: place} of the locks that a thread holds.
Held = dict[Key, str]


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
        text = self.what
        if not self.holders:
            return text
        held = []
        for holder in self.holders:
            name = names.get(holder.ident, holder.ident)
            held.append(f'{name} at {holder.place}')
        return f'{text}, {"possibly " if self.is_loose else ""}held by {" or ".join(held)}'

    @property
    def is_loose(self) -> bool:
        return self.lock is not None and self.lock.loose

    @property
    def what(self) -> str:
        if self.is_loose:  # the name has the line
            return f'{self.name} of {self.place}'
        return f'{self.name} at {self.place}'


@dataclass(frozen=True)
class Deadlock:
    """Threads that wait for each other in a cycle.

    `links` has one sentence for each thread: what it waits for, and where the next thread in the
    cycle holds that.  `known`: the locks name their owners.  `possible`: it is not known which lock
    one of the threads waits for.
    """

    idents: tuple[int, ...]
    links: tuple[str, ...]
    known: bool
    possible: bool = False

    @property
    def text(self) -> str:
        return f'{"; ".join(self.links)} ({source_words(self.known, self.possible)})'


def examine(stacks: dict[int, Stack], waiting: Iterable[int]) -> dict[int, Want]:
    """Return {ident: Want} for those of the `waiting` threads whose code shows what they wait for.

    `stacks` has the stacks of all threads, because any of them may hold a lock.
    """
    wants = {}
    for ident in waiting:
        want = _want_of(ident, stacks[ident])
        if want is not None:
            wants[ident] = want
    wanted = Wanted(want.lock for want in wants.values() if want.lock)
    if not wanted.locks:
        return wants
    held = {ident: _held(ident, stack, wanted) for ident, stack in stacks.items()}
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
    for place in itertools.takewhile(_is_of_library, stack):
        names.append(place.code.co_qualname)
    if not names or names[0] not in _PRIMITIVES:
        want = _want_at(Spot(ident, 0, stack[0]))
        if want is not None:
            return want
    takes_it_for_caller = not names or names[-1] in _ENTRIES
    caller = len(names)  # its index
    if takes_it_for_caller and caller < len(stack) and _is_enter_context(stack[caller]):
        names.append(_ENTRIES[0])  # this function, too, takes the lock for its caller
        caller += 1
    if not names:
        return None
    if names[-1] in _ENTRIES and caller < len(stack):
        return _want_at(Spot(ident, caller, stack[caller]))
    for name in reversed(names):
        if name in WAITS:
            where = stack[caller].text if caller < len(stack) else 'its start'
            return Want(WAITS[name], where)
    return None


def _is_of_library(place: CodePlace) -> bool:
    return place.module in _LIBRARY


def _is_enter_context(place: CodePlace) -> bool:
    return place.module == 'contextlib' and place.code.co_qualname.endswith(_ENTER_CONTEXT)


def _want_at(spot: Spot) -> Want | None:
    """Return the lock that is requested at this instruction."""
    place = spot.place
    at = instruction(place.code, place.offset, place.line)
    for region in regions(place.code):
        if waits_in(region, at):
            lock = lock_of(region.expression, spot)
            forever = lock.exclusive and not region.timed
            name = f'lock {lock.name}'
            if lock.loose:
                name = f'taken by `{lock.name}` in line {place.line or "?"}'
            return Want(
                name=name,
                place=place.text_without_line if lock.loose else place.text,
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
        word=name,  # no name in any code, because no function takes it in this way
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


def _held(ident: int, stack: Stack, wanted: Wanted) -> Held:
    """Return those of the wanted locks that a thread holds, each with its innermost place."""
    found: Held = {}
    released: set[Key] = set()
    called: CodePlace | None = None
    for index, place in enumerate(stack):
        keys: Collection[Key] = ()
        spot = Spot(ident, index, place)
        if wanted.may_be_taken_by(spot):
            keys = _enclosing(spot, wanted)
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


def _enclosing(spot: Spot, wanted: Wanted) -> Collection[Key]:
    """Return those of the wanted locks that are held at this instruction."""
    keys: set[Key] = set()
    place = spot.place
    at = instruction(place.code, place.offset, place.line)
    for region in regions(place.code):
        if region.begin <= at.start < region.end:
            lock = lock_of(region.expression, spot)
            if lock.key in wanted.locks:
                keys.add(lock.key)
    return keys


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
    possible = False
    for ident in cycle:
        want = stuck[ident]
        holder = want.holders[0]
        known = known and holder.known
        possible = possible or want.is_loose
        name = names.get(ident, ident)
        other = names.get(holder.ident, holder.ident)
        if holder.ident == ident:
            other = 'it'
        waits = f'waits for {want.what}, which {other} holds at {holder.place}'
        if want.is_loose:
            waits = f'waits for a lock {want.what}, which {other} may hold at {holder.place}'
        links.append(f'{name} {waits}')
    return Deadlock(cycle, tuple(links), known, possible)
