"""Threads with one activity each, and how the ThreadWatch describes them.

    thread_scenes.py SCENE NAME=ACTIVITY ...        ends when each named thread has that activity

Leaves files in the current directory.  Prints the last observation as one line of JSON: threads as
ThreadState has them, and deadlocks [{idents, links, known, text}].
"""

import collections
import contextlib
import ctypes
import fcntl
import importlib
import json
import logging
import os
import queue
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

from programs.handshake import Ways
from programs.handshake import until

from Products.StabilityMonitor.system import cpushares
from Products.StabilityMonitor.threads.snapshot import ThreadWatch

OUTPUT, ERRORS = os.dup(1), os.dup(2)
A, B, C = threading.Lock(), threading.Lock(), threading.Lock()
RED, BLUE = threading.RLock(), threading.RLock()
CONDITION, EVENT, SEMAPHORE = threading.Condition(), threading.Event(), threading.Semaphore(0)
KEPT = []


def start(function, *arguments, name=None):
    thread = threading.Thread(
        target=function, args=arguments, name=name or function.__name__, daemon=True
    )
    thread.start()
    return thread


# -- one thread, one activity ----------------------------------------------------------------------


def worker():
    from waitress.task import ThreadedTaskDispatcher

    KEPT.append(ThreadedTaskDispatcher())
    KEPT[-1].set_thread_count(2)


def server():
    start(
        socketserver.TCPServer(('127.0.0.1', 0), socketserver.BaseRequestHandler).serve_forever,
        name='server',
    )


def spinner():
    while True:
        sum(range(1000))


def asleep():
    time.sleep(1000)


def starving():
    """Compute beside C code that holds the GIL."""
    start(_keep_gil)
    while True:
        sum(range(100))


def _keep_gil():
    library = ctypes.PyDLL(None)
    while True:
        library.usleep(200000)


def receiving():
    one, other = socket.socketpair()
    KEPT.append(other)
    one.recv(1)


def _connection():
    listener = socket.create_server(('127.0.0.1', 0))
    KEPT.append(listener)
    return socket.create_connection(listener.getsockname(), timeout=1000)


def receiving_for_a_time():
    _connection().recv(1)


def receiving_by_tls():
    import ssl

    ssl.create_default_context().wrap_socket(_connection(), server_hostname='localhost')


def connecting():
    """Connect to a listener with a full backlog."""
    listener = socket.create_server(('127.0.0.1', 0), backlog=0)
    KEPT.append(listener)
    while True:
        KEPT.append(socket.socket())
        KEPT[-1].connect(listener.getsockname())


def directory_service():
    """Receive in a module with the name that python-ldap has."""
    Path('ldap').mkdir()
    Path('ldap/ldapobject.py').write_text('def search(s):\n    s.recv(1)\n')
    importlib.import_module('ldap.ldapobject').search(_connection())


def committing():
    """Commit to a FileStorage while the transaction of another connection votes slowly."""
    import transaction
    import ZODB

    database = ZODB.DB('Data.fs')
    slow, own = transaction.TransactionManager(), transaction.TransactionManager()
    KEPT.append(start(_vote_slowly, database, slow))
    until(database.storage._commit_lock.locked)
    database.open(own).root()['mine'] = 1
    own.commit()


def _vote_slowly(database, manager):
    database.open(manager).root()['theirs'] = 1
    manager.get().join(SlowVoter())
    manager.commit()


class SlowVoter:
    """A resource manager, such as a mail or SQL connection, that takes part in the transaction."""

    def sortKey(self):
        return '~'

    def tpc_begin(self, transaction):
        pass

    commit = tpc_finish = tpc_abort = abort = tpc_begin

    def tpc_vote(self, transaction):
        time.sleep(1000)


def asking_zeo():
    """Load from a ZEO server that is stopped; the cache of the client is empty."""
    import ZEO
    from ZODB.utils import load_current
    from ZODB.utils import z64

    with socket.create_server(('127.0.0.1', 0)) as listener:
        host, port = listener.getsockname()
    server = subprocess.Popen(
        [sys.executable, '-m', 'ZEO.runzeo', '-a', f'{host}:{port}', '-f', 'Data.fs'],
        stderr=subprocess.DEVNULL,
    )
    KEPT.append(server)
    storage = ZEO.client((host, port), wait_timeout=60)
    server.send_signal(signal.SIGSTOP)
    start(load_current, storage, z64, name='asking_zeo')


def reading_pipe():
    os.read(os.pipe()[0], 1)


def writing_pipe():
    os.write(os.pipe()[1], b'x' * (1 << 20))


def writing_stdout():
    os.dup2(os.pipe()[1], 1)
    print('x' * (1 << 20))


def logging_to_stderr():
    os.dup2(os.pipe()[1], 2)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    start(_log_more, name='log_more')
    logging.getLogger().warning('x' * (1 << 20))


def _log_more():
    until(
        lambda: (
            logging.getLogger().handlers
            and logging.getLogger().handlers[-1].lock
            and 'unlocked' not in repr(logging.getLogger().handlers[-1].lock)
        )
    )
    logging.getLogger().warning('more')


def writing_terminal():
    """The other end is not read, as when a terminal is frozen with Ctrl-S."""
    master, slave = os.openpty()
    KEPT.append(master)
    os.dup2(slave, 2)
    os.write(2, b'x' * (1 << 20))


def child():
    KEPT.append(subprocess.Popen(['sleep', '1000']))
    KEPT[-1].wait()


def communicating():
    KEPT.append(subprocess.Popen(['sleep', '1000'], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    KEPT[-1].communicate()


def file_lock():
    with open('locked-file', 'w') as first, open('locked-file') as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        fcntl.flock(second, fcntl.LOCK_EX)


def opening_fifo():
    os.mkfifo('a-fifo')
    open('a-fifo')


def in_c():
    libc = ctypes.CDLL(None)
    semaphore = ctypes.create_string_buffer(64)
    libc.sem_init(semaphore, 0, 0)
    libc.sem_wait(semaphore)


def without_python():
    """Start a thread that Python does not know."""
    libc = ctypes.CDLL(None)
    KEPT.append(ctypes.c_void_p())
    libc.pthread_create(ctypes.byref(KEPT[-1]), None, libc.pause, None)
    libc.pthread_setname_np(KEPT[-1], b'of-a-library')


def of_c_code():
    """Start threads with `_thread`, as C code does: `threading` does not know them."""
    import _thread

    _thread.start_new_thread(asleep, ())
    _thread.start_new_thread(EVENT.wait, ())


def event():
    EVENT.wait()


def condition():
    with CONDITION:
        CONDITION.wait_for(lambda: False)


def queued():
    queue.Queue().get()


def joining():
    start(asleep).join()


def semaphore():
    with SEMAPHORE:
        pass


def lock():
    KEPT.append(start(_hold_a))
    until(A.locked)
    with A:
        pass


def _hold_a():
    with A:
        time.sleep(1000)


def looking_for_lock():
    """Wait for a lock with a time limit."""
    KEPT.append(start(_hold_a))
    until(A.locked)
    A.acquire(timeout=1000)


# -- cycles ----------------------------------------------------------------------------------------

MEET = threading.Barrier(2)


def lock_pair():
    start(_a_then_b, name='left')
    start(_b_then_a, name='right')


def _a_then_b():
    with A:
        MEET.wait()
        with B:
            pass


def _b_then_a():
    B.acquire()
    try:
        MEET.wait()
        A.acquire()
    finally:
        B.release()


def owned_pair():
    start(_blue_in_red, name='left')
    start(_red_in_blue, name='right')


def _blue_in_red():
    with RED, MeetThen(), BLUE:
        pass


def _red_in_blue():
    with BLUE:
        MEET.wait()
        RED.acquire()


class MeetThen:
    def __enter__(self):
        MEET.wait()

    def __exit__(self, *error):
        pass


LOCKS = {'a': A, ('b', 1): B, 'c': C}
ROW = [A, B]
BY_NAME = collections.defaultdict(threading.Lock)
HELD_BY_NOBODY = threading.Lock()


def items():
    start(_items_a_then_b, name='left')
    start(_b_then_a, name='right')


def _items_a_then_b():
    with ROW[0]:
        MEET.wait()
        with LOCKS['b', 1]:
            pass


def _pair(function, first='a', second='c'):
    start(function, first, second, name='left')
    start(function, second, first, name='right')


def items_by_key():
    _pair(_in_order_of_keys)


def _in_order_of_keys(first, second):
    with LOCKS[first]:
        MEET.wait()
        with LOCKS[second]:
            pass


def items_of_self():
    cabinet = Cabinet()
    start(cabinet.a_then_b, name='left')
    start(cabinet.b_then_a, name='right')


def items_of_self_by_key():
    _pair(Cabinet().in_order)


class Cabinet:
    def __init__(self):
        self.locks = {'a': threading.Lock(), 'c': threading.Lock()}

    def a_then_b(self):
        with self.locks['a']:
            MEET.wait()
            with self.locks['c']:
                pass

    def b_then_a(self):
        with self.locks['c']:
            MEET.wait()
            self.locks['a'].acquire()

    def in_order(self, first, second):
        with self.locks[first]:
            MEET.wait()
            with self.locks[second]:
                pass


def made_on_demand():
    start(_demand_a_then_b, name='left')
    start(_demand_b_then_a, name='right')


def _demand_a_then_b():
    with BY_NAME['a']:
        MEET.wait()
        with BY_NAME['b']:
            pass


def _demand_b_then_a():
    with BY_NAME['b']:
        MEET.wait()
        with BY_NAME['a']:
            pass


def get_lock(name):
    return LOCKS[name]


def from_call():
    _pair(_in_order_of_calls)


def _in_order_of_calls(first, second):
    with get_lock(first):
        MEET.wait()
        with get_lock(second):
            pass


def by_call_of_call():
    _pair(_acquire_in_order)


def _acquire_in_order(first, second):
    get_lock(first).acquire()
    try:
        MEET.wait()
        get_lock(second).acquire()
    finally:
        get_lock(first).release()


def local_variables():
    _pair(_in_order_of_variables, A, B)


def _in_order_of_variables(first, second):
    with first:
        MEET.wait()
        with second:
            pass


def crossed_variables():
    start(_in_order_of_variables, A, B, name='left')
    start(_in_the_given_order, B, A, name='right')


def _in_the_given_order(one, other):
    with one:
        MEET.wait()
        other.acquire()
        other.release()


def enclosed_variables():
    first, second = A, B

    def a_then_b():
        with first:
            MEET.wait()
            with second:
                pass

    def b_then_a():
        with (inner := second):
            MEET.wait()
            with first:
                KEPT.append(inner)

    start(a_then_b, name='left')
    start(b_then_a, name='right')


def variables_and_names():
    start(_in_order_of_variables, A, B, name='left')
    start(_b_then_a, name='right')


def on_stack():
    start(_stack_a_then_b, name='left')
    start(_b_then_a, name='right')


def _stack_a_then_b():
    with contextlib.ExitStack() as stack:
        stack.enter_context(A)
        MEET.wait()
        stack.enter_context(B)


def on_stack_from_call():
    _pair(_stack_in_order)


def _stack_in_order(first, second):
    with contextlib.ExitStack() as stack:
        stack.enter_context(get_lock(first))
        MEET.wait()
        stack.enter_context(get_lock(second))


EXTENSION = """
def a_then_b():
    with A:
        meet()
        with B:
            pass

def b_then_a():
    with B:
        meet()
        with A:
            pass
"""


def in_no_module():
    """As an External Method: its code was executed, but no module has it."""
    path = Path('extension.py').absolute()
    path.write_text(EXTENSION)
    scope = {'A': A, 'B': B, 'meet': MEET.wait}
    exec(compile(EXTENSION, path, 'exec'), scope)
    start(scope['a_then_b'], name='left')
    start(scope['b_then_a'], name='right')


def calls_with_a_worker():
    """The third thread may hold what both others wait for, and works."""
    from_call()
    start(_works_with_lock, name='works')


def _works_with_lock():
    LOCKS['d'] = HELD_BY_NOBODY
    with get_lock('d'):
        time.sleep(99)


def three():
    meet = threading.Barrier(3)
    for name, function in (('one', _in_a), ('two', _in_b), ('last', _in_c)):
        start(function, meet, name=name)


def _in_a(meet):
    with A:
        meet.wait()
        with B:
            pass


def _in_b(meet):
    with B:
        meet.wait()
        with C:
            pass


def _in_c(meet):
    with C:
        meet.wait()
        with A:
            pass


def twice():
    start(_twice, name='alone')


def _twice():
    with A:
        with A:
            pass


class Storage:
    def __init__(self):
        self._lock, self._commit_lock = threading.RLock(), threading.Lock()

    def store(self):
        with self._lock:
            MEET.wait()
            with self._commit_lock:
                pass


class Packed(Storage):
    def pack(self):
        with self._commit_lock:
            MEET.wait()
            with self._lock:
                pass


def attributes():
    storage = Packed()
    start(storage.store, name='left')
    start(storage.pack, name='right')


def synchronized(function):
    def wrapper():
        with A:
            return function()

    return wrapper


def decorated():
    start(synchronized(_meet_then_b), name='left')
    start(_b_then_a, name='right')


def _meet_then_b():
    MEET.wait()
    with B:
        pass


def conditions():
    start(_condition_then_b, name='left')
    start(_b_then_condition, name='right')


def _condition_then_b():
    with CONDITION:
        MEET.wait()
        B.acquire()


def _b_then_condition():
    with B:
        MEET.wait()
        with CONDITION:
            pass


def imports():
    """A module waits for a lock while it is imported, and the holder of the lock imports the
    module.
    """
    Path('imported_slowly.py').write_text(
        'import __main__\n__main__.MEET.wait()\nwith __main__.A:\n    pass\n'
    )
    start(importlib.import_module, 'imported_slowly', name='left')
    start(_import_with_a, name='right')


def _import_with_a():
    with A:
        MEET.wait()
        import imported_slowly  # noqa: F401


# -- no cycles -------------------------------------------------------------------------------------


class Stock:
    """An object with two locks.

    Threads hold and want these locks in opposite order, as in a deadlock, but those of different
    objects: so no thread waits for another one in a cycle.
    """

    def __init__(self):
        self.front, self.back = threading.Lock(), threading.Lock()

    def from_front(self):
        with self.front, MeetThen():
            with self.back:
                pass

    def from_back(self):
        with self.back, MeetThen():
            with self.front:
                pass

    def ask(self, following=None):
        with self.front:
            if following:
                following.ask()

    def sleep_at_front(self):
        with self.front:
            time.sleep(1000)

    def sleep_at_back(self):
        with self.back:
            time.sleep(1000)


def two_instances():
    one, other = Stock(), Stock()
    start(one.sleep_at_back, name='sleeper at back')
    start(other.sleep_at_front, name='sleeper at front')
    until(lambda: one.back.locked() and other.front.locked())
    start(one.from_front, name='left')
    start(other.from_back, name='right')


def chained_instances():
    """Each object holds its lock while it asks the next one: the attribute is the same, but there
    is no cycle.
    """
    first, last = Stock(), Stock()
    start(last.sleep_at_front, name='sleeper')
    until(last.front.locked)
    start(first.ask, last, name='left')


class Box:
    def __init__(self):
        self.lock = threading.Lock()
        self.filled = threading.Condition(self.lock)

    def take(self):
        with self.lock:
            self.filled.wait()

    def put(self):
        with self.lock:
            EVENT.wait()

    def look(self):
        with self.lock:
            pass


def idle_condition():
    """`Condition.wait` releases the lock around it, which has another name there."""
    box = Box()
    start(box.take, name='left')
    until(lambda: box.filled._waiters)
    start(box.put, name='right')
    until(box.lock.locked)
    start(box.look, name='third')


# -- running a scene -------------------------------------------------------------------------------

#: Scenes that only start threads; each other scene is the target of a thread with its name.
STARTERS = {
    worker,
    server,
    asking_zeo,
    without_python,
    of_c_code,
    lock_pair,
    owned_pair,
    items,
    items_by_key,
    items_of_self,
    items_of_self_by_key,
    made_on_demand,
    from_call,
    by_call_of_call,
    local_variables,
    crossed_variables,
    enclosed_variables,
    variables_and_names,
    on_stack,
    on_stack_from_call,
    in_no_module,
    calls_with_a_worker,
    three,
    twice,
    attributes,
    decorated,
    conditions,
    imports,
    two_instances,
    chained_instances,
    idle_condition,
}


SCENES = Ways(globals())


def main(scene, *wanted):
    sys.path.insert(0, os.getcwd())
    watch, said, cpushares.LEAST_SECONDS = ThreadWatch(), {}, 0.3
    play = SCENES[scene]
    play() if play in STARTERS else start(play)
    try:
        seen = until(lambda: as_wanted(watch, dict(pair.split('=') for pair in wanted), said))
        os.write(OUTPUT, json.dumps(seen, default=vars).encode())
    except AssertionError:
        os.write(ERRORS, f'{scene}: {said}'.encode())
    for process in KEPT:
        if isinstance(process, subprocess.Popen):
            process.kill()
    os._exit(0)


def as_wanted(watch, wanted, said):
    watch.loads.look()  # the heartbeat does this too
    time.sleep(cpushares.LEAST_SECONDS)
    observed = watch.observe()
    said.clear()
    said.update((state.name, (state.activity, state.detail)) for state in observed.states)
    if any(said.get(name, ('',))[0] != code for name, code in wanted.items()):
        return None
    return {
        'threads': observed.states,
        'deadlocks': [dict(vars(cycle)) | {'text': cycle.text} for cycle in observed.deadlocks],
    }


if __name__ == '__main__':
    main(*sys.argv[1:])
