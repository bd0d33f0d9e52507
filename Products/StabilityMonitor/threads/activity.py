"""One word for what a thread is doing, and one phrase that says more: a table of rules over what
the kernel and the Python stack tell.  Facts in, words out: nothing is read here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.records import Frame
from ..model.records import ThreadState
from ..system.cpushares import is_busy
from ..system.tasks import Descriptor
from ..system.tasks import Task

#: A code of ACTIVITIES and a phrase.
Answer = tuple[str, str]

#: What an administrator reads for each code.
ACTIVITIES = {
    'idle': 'idle: waits for a request',
    'listening': 'waits for connections',
    'waiting': 'waits for work or for another thread',
    'running': 'runs on the processor',
    'lock': 'waits for a lock',
    'gil': 'waits for the GIL, which others hold',
    'terminal': 'blocked at the terminal: its output is not read, or its input not written',
    'database': 'waits for the database',
    'subprocess': 'waits for a subprocess',
    'socket': 'waits for a socket',
    'pipe': 'waits for a pipe',
    'file': 'waits for a file or disk',
    'sleep': 'sleeps',
    'native': 'waits in C code',
    'unknown': 'not known on this system',
}

#: Innermost frames (end of the file, function) of threads that have nothing to do: code and phrase.
PLACES = (
    ('/waitress/task.py', 'handler_thread', 'idle', 'a thread of waitress'),
    ('/cheroot/workers/threadpool.py', 'run', 'idle', 'a thread of cheroot'),
    ('/paste/httpserver.py', 'worker_thread_callback', 'idle', 'a thread of Paste'),
    ('/concurrent/futures/thread.py', '_worker', 'waiting', 'for work, in a pool'),
    ('/multiprocessing/pool.py', 'worker', 'waiting', 'for work, in a pool'),
    ('/waitress/wasyncore.py', 'poll', 'listening', 'the loop of waitress'),
    ('/waitress/wasyncore.py', 'poll2', 'listening', 'the loop of waitress'),
    ('/socketserver.py', 'serve_forever', 'listening', 'the loop of a socket server'),
    ('/cheroot/connections.py', '_run', 'listening', 'the loop of cheroot'),
    ('/gunicorn/workers/sync.py', 'wait', 'listening', 'the loop of gunicorn'),
    ('/gunicorn/workers/gthread.py', 'run', 'listening', 'the loop of gunicorn'),
    ('/asyncio/base_events.py', '_run_once', 'waiting', 'for events of its asyncio loop'),
    ('/logging/handlers.py', '_monitor', 'waiting', 'for log records'),
    ('/StabilityMonitor/recording/heartbeat.py', 'run', 'waiting', 'for its next beat'),
)

#: Parts of paths of database code.  ZEO and RelStorage stand before the ZODB, which calls them.
DATABASES = (
    ('/ZEO/', 'ZEO'),
    ('/relstorage/', 'RelStorage'),
    ('/ZODB/FileStorage/', 'the FileStorage'),
    ('/ZODB/', 'the ZODB'),
    ('/psycopg', 'PostgreSQL'),
    ('/pg8000/', 'PostgreSQL'),
    ('/MySQLdb/', 'MySQL'),
    ('/pymysql/', 'MySQL'),
    ('/mysql/connector/', 'MySQL'),
    ('/oracledb/', 'Oracle'),
    ('/cx_Oracle', 'Oracle'),
    ('/ZPsycopgDA/', 'PostgreSQL'),
    ('/ZMySQLDA/', 'MySQL'),
    ('/Shared/DC/ZRDB/', 'a ZSQL method'),
    ('/ZSQLMethods/', 'a ZSQL method'),
    ('/sqlalchemy/', 'SQLAlchemy'),
    ('/sqlite3/', 'SQLite'),
    ('/pyodbc', 'ODBC'),
    ('/pymssql', 'SQL Server'),
    ('/ldap/', 'LDAP'),
    ('/ldap3/', 'LDAP'),
    ('/redis/', 'Redis'),
    ('/pymongo/', 'MongoDB'),
    ('/memcache', 'memcached'),
)
#: Ports, and sockets of the file system, by which the peers of drivers in C are known.
_PEERS = {
    '5432': 'PostgreSQL',
    '3306': 'MySQL',
    '1521': 'Oracle',
    '1433': 'SQL Server',
    '389': 'LDAP',
    '636': 'LDAP',
    '6379': 'Redis',
    '27017': 'MongoDB',
    '11211': 'memcached',
    '.s.PGSQL.5432': 'PostgreSQL',
    'mysqld.sock': 'MySQL',
    'mysql.sock': 'MySQL',
}

_WRITES = {'write', 'writev', 'pwrite64', 'pwritev', 'sendto', 'sendmsg', 'sendfile'}
STREAMS = _WRITES | {
    'read',
    'readv',
    'pread64',
    'preadv',
    'recvfrom',
    'recvmsg',
    'recvmmsg',
    'sendmmsg',
    'connect',
    'accept',
    'accept4',
    'splice',
}
POLLS = {'poll', 'ppoll'}
_SELECTS = {'select', 'pselect6', 'epoll_wait', 'epoll_pwait', 'epoll_pwait2'}
LOCKED = {
    'fsync',
    'fdatasync',
    'ftruncate',
    'flock',
    'fcntl',
    'getdents64',
    'fallocate',
    'copy_file_range',
}
PATHS = {
    'open': 0,
    'openat': 1,
    'openat2': 1,
    'newfstatat': 1,
    'unlinkat': 1,
    'unlink': 0,
    'rename': 0,
    'renameat2': 1,
    'statx': 1,
}
_SLEEPS = {'nanosleep', 'clock_nanosleep', 'pause'}
CHILDREN = {'wait4', 'waitid'}
_KINDS = {
    'socket': 'socket',
    'pipe': 'pipe',
    'terminal': 'terminal',
    'file': 'file',
    'device': 'file',
    'eventfd': 'waiting',
    'epoll': 'waiting',
}
_SWITCHING, _AWAKENED = 20, 100  # a wait for the GIL wakes some 200 times a second
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_PLUMBING = (
    'threading.py',
    'queue.py',
    'selectors.py',
    'socket.py',
    'ssl.py',
    'concurrent/futures/_base.py',
)


@dataclass(frozen=True)
class Facts:
    """What is known of one thread.  `gil`: it is in the interpreter's own futex; `cpu`: its share
    of a processor, `busiest` that of the thread that has most; `turns`: how often a second it came
    to one; `lock` and `waiting`:  what `locks` found; `target`: a path, peer or child of its call;
    `descriptors`: those that its call is about.
    """

    frames: tuple[Frame, ...] = ()
    task: Task | None = None
    gil: bool = False
    cpu: float | None = None
    busiest: float = 0.0
    turns: float = 0.0
    lock: str = ''
    waiting: str = ''
    target: str = ''
    descriptors: tuple[Descriptor, ...] = ()

    @property
    def call(self) -> str:
        return self.task.call if self.task else ''

    @property
    def is_ready(self) -> bool:
        return is_ready(self.task, self.gil)

    @property
    def where(self) -> str:
        frame = own_frame(self.frames)
        return f'at {place(frame.file, frame.line, frame.function)}' if frame else ''


def is_ready(task: Task | None, gil: bool) -> bool:
    """On a processor, or kept from one by the GIL only."""
    return gil or bool(task and (task.call == 'running' or task.state == 'R'))


def place(file: str, line: int | None, function: str) -> str:
    """`shop/views.py:31 in checkout`: enough of a path to know it."""
    return f'{"/".join(file.replace(os.sep, "/").rsplit("/", 2)[-2:])}:{line or "?"} in {function}'


def words(state: ThreadState) -> str:
    """What a ThreadState does, in one phrase to follow the name of its thread."""
    said = ACTIVITIES.get(state.activity, state.activity)
    return f'{said}: {state.detail}' if state.detail else said


def listens(frames: Iterable[Frame]) -> bool:
    """Whether they are those of a server's loop that waits for connections."""
    return _is_loop(_front(frames))


def loop_in(frames: Iterable[Frame]) -> int | None:
    """Which of the frames, innermost first, is the loop of a server, whatever it does; None if none
    is.
    """
    return next((number for number, frame in enumerate(frames) if _is_loop(frame)), None)


def judge(facts: Facts) -> Answer:
    """(code of ACTIVITIES, phrase): the answer of the first rule that has one."""
    answers = (rule(facts) for rule in RULES)
    return next(answer for answer in answers if answer)


# -- the rules -------------------------------------------------------------------------------------


def _busy(facts: Facts) -> Answer | None:
    if facts.is_ready and facts.cpu is not None and is_busy(facts.cpu, facts.busiest):
        return 'running', _joined(_share(facts), facts.where)
    return None


def _starved(facts: Facts) -> Answer | None:
    """Often awake, and at once without the GIL again: who asks for it is seen in its futex, or just
    awoken.
    """
    often = _SWITCHING if facts.gil else _AWAKENED
    if facts.is_ready and facts.frames and facts.cpu is not None and facts.turns >= often:
        return 'gil', _joined(_share(facts), facts.where)
    return None


def _in_place(facts: Facts) -> Answer | None:
    found = _known_place(_front(facts.frames))
    return None if found and facts.lock and found[0] == 'idle' else found


def _ready(facts: Facts) -> Answer | None:
    if facts.is_ready:
        return 'running', _joined(_share(facts), facts.where)
    return None


def _frozen_output(facts: Facts) -> Answer | None:
    for descriptor in facts.descriptors if facts.call in STREAMS and not facts.is_ready else ():
        if (
            facts.call in _WRITES
            and descriptor.standard in ('stdout', 'stderr')
            and descriptor.kind != 'file'
        ):
            return 'terminal', _joined(
                f'{descriptor.standard} is a {descriptor.kind} that nobody reads', facts.where
            )
    return None


def _without_python(facts: Facts) -> Answer | None:
    if not facts.frames:
        return _native(facts)
    return None


def _turn_to_commit(facts: Facts) -> Answer | None:
    """A storage is locked from here on for as long as everybody in the transaction takes to
    vote.
    """
    frame = own_frame(facts.frames)
    name = _database_of(facts)
    if facts.lock and name and frame and frame.function == 'tpc_begin':
        return 'database', f'its turn to commit to {name}, {facts.lock}'
    return None


def _lock(facts: Facts) -> Answer | None:
    if facts.lock:
        return 'lock', facts.lock
    return None


def _database(facts: Facts) -> Answer | None:
    name = _database_of(facts)
    if name and (facts.call in STREAMS | POLLS | _SELECTS | LOCKED | {'futex'} or not facts.task):
        return 'database', _joined(name, _ends(facts), facts.where)
    return None


def _subprocess(facts: Facts) -> Answer | None:
    inner = facts.frames[0].file if facts.frames else ''
    if (
        facts.call in CHILDREN
        or inner.endswith(f'{os.sep}subprocess.py')
        or any(frame.file == f'{_LIBRARY}subprocess.py' for frame in _library_frames(facts.frames))
    ):
        return 'subprocess', _joined(facts.target, facts.where)
    return None


def _waiting(facts: Facts) -> Answer | None:
    if facts.waiting:
        return 'waiting', facts.waiting
    return None


def _sleep(facts: Facts) -> Answer | None:
    if facts.call in _SLEEPS:
        return 'sleep', facts.where
    if facts.task and facts.call in POLLS | {'select', 'pselect6'}:
        descriptors = facts.task.arguments[1 if facts.call in POLLS else 0]
        if not descriptors:
            return 'sleep', facts.where
    return None


def _descriptors(facts: Facts) -> Answer | None:
    for descriptor in facts.descriptors if facts.call in STREAMS | POLLS else ():
        return _KINDS.get(descriptor.kind, 'native'), _joined(
            facts.target or _ends(facts), facts.where
        )
    return None


def _file(facts: Facts) -> Answer | None:
    if facts.call in LOCKED or facts.call in PATHS or facts.task and facts.task.state == 'D':
        return 'file', _joined(facts.call, facts.target or _ends(facts), facts.where)
    return None


def _events(facts: Facts) -> Answer | None:
    if facts.call in _SELECTS | POLLS:
        return 'waiting', _joined('for events of descriptors', facts.where)
    return None


def _by_frames(facts: Facts) -> Answer | None:
    """Without a kernel that tells."""
    files = {os.path.basename(frame.file) for frame in _library_frames(facts.frames)}
    if not facts.call and files & {'socket.py', 'ssl.py'}:
        return 'socket', facts.where
    return None


def _native(facts: Facts) -> Answer:
    if facts.task is None:
        return 'unknown', facts.where
    return 'native', _joined(facts.call and f'in the system call {facts.call}', facts.where)


#: Asked in this order.  A thread that is ready is no longer where its frames say that it waits.
RULES = (
    _busy,
    _starved,
    _frozen_output,
    _in_place,
    _ready,
    _without_python,
    _turn_to_commit,
    _lock,
    _database,
    _subprocess,
    _waiting,
    _sleep,
    _descriptors,
    _file,
    _events,
    _by_frames,
    _native,
)


# -- words -----------------------------------------------------------------------------------------


def _share(facts: Facts) -> str:
    return '' if facts.cpu is None else f'{facts.cpu:.0%} of a processor'


def _joined(*parts: str) -> str:
    return ', '.join(filter(None, parts))


def _ends(facts: Facts) -> str:
    """The other end of what the call is about: peers of sockets, names of files and pipes."""
    return ' and '.join(descriptor.peer or descriptor.name for descriptor in facts.descriptors[:3])


def _database_of(facts: Facts) -> str:
    frame = next((frame for frame in facts.frames if not _is_library(frame)), None)
    path = '/' + frame.file.replace(os.sep, '/') if frame else ''
    peers = (re.split('[:/]', descriptor.peer)[-1] for descriptor in facts.descriptors)
    return next((name for part, name in DATABASES if part in path), '') or next(
        (_PEERS[peer] for peer in peers if peer in _PEERS), ''
    )


def _is_library(frame: Frame) -> bool:
    return frame.file.startswith((_LIBRARY, '<frozen')) and 'site-packages' not in frame.file


def _library_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        if not _is_library(frame):
            return
        yield frame


def _known_place(frame: Frame | None) -> Answer | None:
    """(code, phrase) of PLACES; None elsewhere."""
    if frame is None:
        return None
    file = frame.file.replace(os.sep, '/')
    for ending, function, code, phrase in PLACES:
        if frame.function == function and file.endswith(ending):
            return code, phrase
    return None


def _is_loop(frame: Frame | None) -> bool:
    return (_known_place(frame) or ' ')[0] == 'listening'


def _front(frames: Iterable[Frame]) -> Frame | None:
    """The innermost frame that is not of the library's common ways to wait."""
    return next(
        (frame for frame in frames if not (_is_library(frame) and frame.file.endswith(_PLUMBING))),
        None,
    )


def own_frame(frames: Sequence[Frame]) -> Frame | None:
    """The innermost frame that is not of Python's library: where an administrator looks."""
    return next(
        (frame for frame in frames if not _is_library(frame)), frames[0] if frames else None
    )
