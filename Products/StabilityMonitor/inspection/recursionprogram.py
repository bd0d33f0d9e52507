"""Recurses to the limit through C code in many ways, each in a new thread, and may die.

    python -I -S recursionprogram.py STACK LIMIT SECONDS PARENT [WAY ...]

`recursionexperiment` starts it, and reads the result from its last line.  The program writes
`python VERSION`, then for each way `way NAME` before and `end NAME EXCEPTION` after it, and at last
`survived`.  It writes `refused WORDS` if the system does not allow the stack size, or `error WORDS`
if the size could not be tried.  It imports only the standard library, leaves no core file and no
line in the kernel's log, and ends with its parent.
"""

import contextlib
import faulthandler
import functools
import json
import os
import pickle
import re
import signal
import sys
import threading

TYPE_CHECKING = False  # True for a type checker: the children do not import `typing`
if TYPE_CHECKING:
    import typing

#: Levels of nested values and expressions: far above any limit.
_DEPTH = 100000
#: See prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def say(words: str) -> None:
    os.write(1, f'{words}\n'.encode())


# -- the ways: each recurses without end -----------------------------------------------------------


def sort_key(item: object = None) -> list[object]:
    return sorted([item, item], key=sort_key)


class Described:
    """Computes an attribute through its class, like ExtensionClass and ComputedAttribute."""

    class Computed:
        def __get__(
            self,
            instance: 'Described',
            owner: 'type[Described]',
        ) -> object:
            return instance.title

    title = Computed()


class Acquirer:
    """Asks its container for attributes that it does not have, like Acquisition."""

    def __init__(self, container: 'Acquirer | None'):
        self.__dict__['container'] = container

    def __getattr__(self, name: str) -> object:
        return getattr(self.container, name)


def acquisition() -> object:
    wrapped = Acquirer(None)
    for _ in range(sys.getrecursionlimit() + 9):
        wrapped = Acquirer(wrapped)
    return wrapped.title


class Recursive:
    """Each special method calls itself through C."""

    def __repr__(self) -> str:
        return repr([self])

    def __str__(self) -> str:
        return str(self)

    def __format__(self, spec: str) -> str:
        return f'{self:{spec}}'

    def __getattr__(self, name: str) -> object:
        return getattr(self, name + 'x')

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self, name, value)

    def __iter__(self) -> 'typing.Iterator[object]':
        return iter(list(self))

    def __add__(self, other: int) -> object:
        return self + other

    def __eq__(self, other: object) -> bool:
        return [self] == [other]

    def __reduce__(self) -> 'tuple[type[Recursive], tuple[Recursive]]':
        return Recursive, (Recursive(),)

    def __call__(self) -> object:
        return functools.partial(self)()


def mapped(item: object = None) -> list[object]:
    return list(map(mapped, [item]))


def expression() -> object:
    return eval(_EXPRESSION)


def statement() -> None:
    exec('statement()', globals())


def joined() -> str:
    return ''.join(joined() for _ in 'a')


def substituted(match: re.Match[str] | None = None) -> str:
    return re.sub('a', substituted, 'a')


def nested_list() -> list[object]:
    nested: list[object] = []
    for _ in range(_DEPTH):
        nested = [nested]
    return nested


def nested_dict() -> dict[str, object]:
    nested: dict[str, object] = {}
    for _ in range(_DEPTH):
        nested = {'a': nested}
    return nested


_EXPRESSION = compile('expression()', 'expression', 'eval')
WAYS: 'dict[str, typing.Callable[[], object]]' = {
    'sorted with a key': sort_key,
    'a computed attribute (__get__)': lambda: Described().title,
    '__getattr__': lambda: Recursive().title,
    'acquisition (a chain of __getattr__)': acquisition,
    '__setattr__': lambda: setattr(Recursive(), 'title', ''),
    '__iter__': lambda: list(Recursive()),
    '__add__': lambda: Recursive() + 1,
    '__eq__': lambda: Recursive() == 1,
    '__repr__': lambda: repr(Recursive()),
    '__str__': lambda: str(Recursive()),
    '__format__': lambda: f'{Recursive():x}',
    'functools.partial': lambda: Recursive()(),
    'map': mapped,
    'eval of an expression': expression,
    'exec of a statement': statement,
    'join of a generator': joined,
    're.sub with a function': substituted,
    'json.dumps of nested lists': lambda: json.dumps(nested_list()),
    'json.dumps of nested dictionaries': lambda: json.dumps(nested_dict()),
    'json.loads': lambda: json.loads('[' * _DEPTH),
    'pickle of nested lists': lambda: pickle.dumps(nested_list()),
    'pickle through __reduce__': lambda: pickle.dumps(Recursive()),
    'comparison of nested lists': lambda: nested_list() == nested_list(),
    'compile of a long expression': lambda: compile('a' + '.a' * _DEPTH, 'long', 'eval'),
}


# -- one child -------------------------------------------------------------------------------------


def recurse(name: str) -> None:
    """Recurse in one way, and print which exception ended it.  Any exception means: it survived."""
    ended = ''
    try:
        WAYS[name]()
    except BaseException as error:
        ended = type(error).__name__
    say(f'end {name} {ended}')


def leave_no_trace(seconds: int, parent: int) -> None:
    """Prevent a core file and a line in the kernel's log, and have the kernel end this process.

    The kernel ends it when the time is over or the parent dies, even if C code never returns.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(seconds)
    # The kernel logs a fault only if the process has no handler for it.
    faulthandler.enable(open(os.devnull, 'w'))
    with contextlib.suppress(OSError), open('/proc/self/oom_score_adj', 'w') as file:
        file.write('1000')  # the OOM killer must choose this process, not the server
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):
        import ctypes

        control = ctypes.CDLL(None).prctl
        control(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # If core_pattern is a pipe, the kernel ignores RLIMIT_CORE.
        control(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(stack: str, limit: str, seconds: str, parent: str, *names: str) -> None:
    leave_no_trace(int(seconds), int(parent))
    say(f'python {" ".join(sys.version.split())}')
    try:
        size = int(stack)
        sys.setrecursionlimit(int(limit))
        try:
            threading.stack_size(size)
        except ValueError as error:
            say(f'refused {error}')
            os._exit(1)
        for name in names or WAYS:
            say(f'way {name}')
            thread = threading.Thread(target=recurse, args=(name,))
            thread.start()
            thread.join()
    except (ValueError, OverflowError, RuntimeError, MemoryError) as error:
        say(f'error {type(error).__name__}: {error}')
        os._exit(1)
    say('survived')
    os._exit(0)  # a normal exit would free deeply nested objects, and might crash


if __name__ == '__main__':
    main(*sys.argv[1:])
