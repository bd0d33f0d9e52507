"""Which lock an expression of the source stands for, without running code of the site.

Names of modules, attributes of modules and classes, and items of exact dicts, lists and tuples are
looked up.  If that gives an object, it is the same lock in two threads if it is the same object.
Else the text decides: the same attribute of the same object, or of `self` in methods of the same
class, counts as the same lock, which is an inference.

From Python 3.12 on, local variables and those of an enclosing function are looked up, too.

For anything else the source shows only how the lock was taken: by a call such as `get_lock(name)`,
as an item whose key is not known, up to Python 3.11 from a variable of a function.  All locks that
were taken in that way count as the same one, and are `loose`: what is concluded from that is only
possible.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import CodeType
from types import FunctionType
from types import ModuleType
from typing import Any

from . import secondlook
from .lockregions import Attribute
from .lockregions import Expression
from .lockregions import Item
from .lockregions import Step
from .lockregions import VariableItem
from .lockregions import enters_blocks
from .lockregions import regions
from .secondlook import Found
from .secondlook import Spot

_OWNER = re.compile(r'owner=(\d+)')
_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_COUNTED = (threading.Semaphore, threading.BoundedSemaphore)
_TYPES = (_LOCK, _RLOCK, threading.Condition, *_COUNTED)
#: These names of methods take a lock, whatever the name of the lock is.
TAKING = ('acquire', 'enter_context')

#: Identifies a lock: a word for how it is known, then what identifies it in that way.
Key = tuple[object, ...]
#: Any lock that is the value of a variable which cannot be read.  With attributes after it: any
#: that is this attribute of such a value.
_OF_A_VARIABLE: Key = ('variable',)


@dataclass(frozen=True)
class Lock:
    """A lock that a thread waits for or holds.  Two locks with the same `key` count as the same.

    `owner` is the ident of a thread, 0 if the lock is free, None if the owner is not known.
    `exclusive`: only one thread can hold it; false for semaphores.  `loose`: it is only known how
    it was taken, see above.  `word`: a function that takes it in the same way has this name in its
    code; '' if only the same function does.
    """

    key: Key
    name: str
    owner: int | None = None
    exclusive: bool = True
    loose: bool = False
    word: str = ''


def lock_of(expression: Expression, spot: Spot) -> Lock:
    """Return the lock that an expression stands for at a place in the stack of a thread."""
    word = _last_word(expression)
    if expression.is_called:
        key = 'call', *_callee(expression, spot)
        return Lock(key, expression.text, loose=True, word=word)
    lock = _named(expression, spot)
    if not expression.steps and expression.head in ('self', 'cls'):  # `self.acquire()`
        _, _, word = lock.name.rpartition('.')
    return replace(lock, word=word)


class Wanted:
    """The locks that threads wait for, and a quick answer to which functions may take one."""

    def __init__(self, locks: Iterable[Lock]) -> None:
        self.locks = {lock.key: lock for lock in locks}
        self._words = set(TAKING)
        self._objects = set()  # ids of locks, and of containers of locks
        self._functions = set()  # (file, qualified name)
        self._answers: dict[int, bool] = {}  # by the id of the code
        for lock in self.locks.values():
            if lock.word:
                self._words.add(lock.word)
            else:
                self._functions.add(lock.key[1:3])
            if lock.key[0] in ('object', 'member', 'items') and isinstance(lock.key[1], int):
                self._objects.add(lock.key[1])
        #: A variable of any name may have one of them as its value.
        self._may_be_variables = bool(self._objects) or _OF_A_VARIABLE in self.locks

    def may_be_taken_by(self, spot: Spot) -> bool:
        """Return whether a function mentions a wanted lock.

        Few functions do, and only their source is read.
        """
        known = id(spot.place.code)
        if known not in self._answers:
            self._answers[known] = self._is_mentioned(spot)
        return self._answers[known]

    def _is_mentioned(self, spot: Spot) -> bool:
        code = spot.place.code
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            if not self._words.isdisjoint(names):
                return True
        if (code.co_filename, code.co_qualname) in self._functions:
            return True
        if self._may_be_variables and _variables(code) and enters_blocks(code):
            return True
        if not self._objects:
            return False
        scope = _scope(spot)
        for name in code.co_names:
            value = scope.get(name)
            if id(value) in self._objects or secondlook.contains(value, self._objects):
                return True
        return False


def _last_word(expression: Expression) -> str:
    """Return the last name of the lock, of its container, or of the function that returns it."""
    for step in reversed(expression.steps):
        if isinstance(step, Attribute):
            return step.name
    return expression.head


# -- names -----------------------------------------------------------------------------------------


def _named(expression: Expression, spot: Spot) -> Lock:
    code = spot.place.code
    file = code.co_filename
    function = code.co_qualname
    head = expression.head
    text = expression.text
    class_name, _, _ = function.rpartition('.')
    if head in ('self', 'cls') and class_name:
        return _of_self(expression, class_name, spot)
    if head in _variables(code):
        found = secondlook.variable(spot, head)
        lock = None if found is None else _lock_in(found.value, expression.steps, spot, text)
        attributes = [step for step in expression.steps if isinstance(step, Attribute)]
        return lock or Lock((*_OF_A_VARIABLE, *attributes), text, loose=True)
    if head in code.co_names or function == '<module>':
        value = _member_of(_scope(spot), [head])
        lock = _lock_in(value, expression.steps, spot, text)
        if lock:
            return lock
    return Lock(('unknown', file, function, text), text)


def _variables(code: CodeType) -> tuple[str, ...]:
    """Return the names of the variables of a function and of those of its enclosing functions."""
    return (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _lock_in(start: object, steps: Sequence[Step], spot: Spot, name: str) -> Lock | None:
    """Return the lock that the steps lead to from an object; None if nothing is known of it.

    Steps that cannot be looked up, as an attribute of an instance, lead to the same lock if they
    are the same from the same object on.
    """
    last = start  # the last object that could be looked up
    trail: list[Step] = []  # the steps from there on
    for step in steps:
        found: Found | None = None
        if isinstance(step, Attribute):
            if not trail:
                value = _member(last, step.name)
                found = None if value is None else Found(value)
        else:
            key = _key(step, spot)
            if key is None:
                return Lock(('items', id(last), *trail), name, loose=True)
            step = Item(key.value)
            if not trail:
                found = secondlook.item(last, key.value)
        if found:
            last = found.value
        else:
            trail.append(step)
    if last is None:
        return None
    lock = None if trail else _known(last, name)
    if lock:
        return lock
    # For example a defaultdict: which object it has for the key is not known.
    is_loose = bool(trail) and isinstance(trail[0], Item)
    return Lock(('member', id(last), *trail), name, loose=is_loose)


def _key(step: Step, spot: Spot) -> Found | None:
    """Return the key of a step in square brackets; None if it is not known."""
    if isinstance(step, Item):
        return Found(step.key) if secondlook.is_plain(step.key) else None
    assert isinstance(step, VariableItem)
    code = spot.place.code
    if step.variable in _variables(code):
        return secondlook.key_in(spot, step.variable)
    scope = _scope(spot)
    if step.variable not in scope:
        return None
    value = scope[step.variable]
    return Found(value) if secondlook.is_plain(value) else None


def _callee(expression: Expression, spot: Spot) -> Key:
    """Return what identifies the function that an expression calls."""
    code = spot.place.code
    head = expression.head
    if not head:
        return code.co_filename, code.co_qualname, expression.text
    function = Expression('', head, expression.steps)
    class_name, _, _ = code.co_qualname.rpartition('.')
    if head in ('self', 'cls') and class_name:
        return _of_self(function, class_name, spot).key
    value = _member_of(_scope(spot), [head])
    for step in expression.steps:
        value = _member(value, step.name) if isinstance(step, Attribute) else None
    if value is not None:
        return 'object', id(value)
    return code.co_filename, head, *expression.steps


# -- attributes of self ----------------------------------------------------------------------------


def _of_self(expression: Expression, class_name: str, spot: Spot) -> Lock:
    cls = _member_of(_scope(spot), class_name.split('.'))
    if not issubclass(type(cls), type):
        cls = None
    names = []
    steps = list(expression.steps)
    while steps:
        step = steps[0]
        if not isinstance(step, Attribute):
            break
        names.append(step.name)
        del steps[0]
    name = '.'.join(names)
    lock = _attribute(name, cls, spot.place.code.co_filename, class_name)
    if not steps:
        return lock
    _, _, short_class_name = class_name.rpartition('.')
    _, _, after_self = expression.text.partition('.')
    label = f'{short_class_name}.{after_self}'
    if cls is not None:
        container = _member(cls, name)
        found = None if container is None else _lock_in(container, steps, spot, label)
        if found:
            return found
    # The container belongs to an object that is not known.
    keys: list[object] = []
    for step in steps:
        if isinstance(step, Attribute):
            keys.append(step)
            continue
        key = _key(step, spot)
        if key is None:
            return Lock(('items', *lock.key), label, loose=True)
        keys.append(key.value)
    return Lock((*lock.key, *keys), label)


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


# -- objects ---------------------------------------------------------------------------------------


def _scope(spot: Spot) -> dict[str, Any]:
    """Return the globals of the code: those of its module, or of its frame if it is in none."""
    found: Any = sys.modules.get(spot.place.module)
    if not issubclass(type(found), ModuleType):
        return secondlook.scope(spot)
    scope: dict[str, Any] = ModuleType.__getattribute__(found, '__dict__')
    return scope


def _member_of(scope: dict[str, Any], names: Sequence[str]) -> Any:
    found = scope.get(names[0])
    for name in names[1:]:
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
