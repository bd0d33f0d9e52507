"""What a thread is doing, as a code and a phrase.

A table of rules decides from facts of the kernel and the Python stack.  Nothing is read here: the
caller passes the facts in.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.records import Frame
from ..model.threadstates import ThreadState
from ..system.cpushares import is_busy
from ..system.tasks import Descriptor
from ..system.tasks import Task

#: A code of ACTIVITIES and a phrase.
Answer = tuple[str, str]

#: {code: the words that an administrator reads}
ACTIVITIES = {
    'idle': 'is idle: waits for a request',
    'listening': 'waits for connections',
    'waiting': 'waits for work or for another thread',
    'running': 'runs on a CPU',
    'lock': 'waits for a lock',
    'gil': 'waits for the GIL, which other threads hold',
    'terminal': 'is blocked on a standard stream or the terminal',
    'database': 'waits for the database',
    'subprocess': 'waits for a subprocess',
    'socket': 'waits for a socket',
    'pipe': 'waits for a pipe',
    'file': 'waits for a file or disk',
    'sleep': 'sleeps',
    'native': 'waits in C code',
    'unknown': 'is in an unknown state',
}

#: Where threads without work wait: (end of the file name, function, code, phrase).  The first two
#: are compared with the frame that `_first_outside_plumbing` returns.
PLACES = (
    ('/waitress/task.py', 'handler_thread', 'idle', 'a thread of waitress'),
    (
        '/waitress/channel.py',
        '_flush_outbufs_below_high_watermark',
        'socket',
        'a client that does not read its answer',
    ),
    ('/cheroot/workers/threadpool.py', 'run', 'idle', 'a thread of cheroot'),
    ('/paste/httpserver.py', 'worker_thread_callback', 'idle', 'a thread of Paste'),
    ('/concurrent/futures/thread.py', '_worker', 'waiting', 'work, in a pool'),
    ('/multiprocessing/pool.py', 'worker', 'waiting', 'work, in a pool'),
    ('/waitress/wasyncore.py', 'poll', 'listening', 'the loop of waitress'),
    ('/waitress/wasyncore.py', 'poll2', 'listening', 'the loop of waitress'),
    ('/socketserver.py', 'serve_forever', 'listening', 'the loop of a socket server'),
    ('/cheroot/connections.py', '_run', 'listening', 'the loop of cheroot'),
    ('/gunicorn/workers/sync.py', 'wait', 'listening', 'the loop of gunicorn'),
    ('/gunicorn/workers/gthread.py', 'run', 'listening', 'the loop of gunicorn'),
    (
        '/gunicorn/workers/gthread.py',
        'wait_for_and_dispatch_events',  # from gunicorn 24 on
        'listening',
        'the loop of gunicorn',
    ),
    ('/asyncio/base_events.py', '_run_once', 'waiting', 'events of its asyncio loop'),
    ('/logging/handlers.py', '_monitor', 'waiting', 'log records'),
    ('/StabilityMonitor/recording/heartbeat.py', 'run', 'waiting', 'its next beat'),
)

#: (part of a file name, database).  The first match counts: ZEO and RelStorage come before the
#: ZODB, which calls them.
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
#: {port or name of a Unix socket: database}, for drivers in C, which have no Python frames.
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
#: {call: index of the argument with the number of descriptors}
_COUNTS = {'poll': 1, 'ppoll': 1, 'select': 0, 'pselect6': 0}
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
_DATABASE_CALLS = STREAMS | POLLS | _SELECTS | LOCKED | {'futex'}
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
#: Wake-ups a second from which a ready thread counts as kept from the GIL: _SWITCHING if it is seen
#: in the futex of the GIL, else _AWAKENED.  A wait for the GIL wakes about 200 times a second.
_SWITCHING = 20
_AWAKENED = 100
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
    """What is known about one thread; frames innermost first."""

    frames: tuple[Frame, ...] = ()
    task: Task | None = None
    gil: bool = False  # it waits for a futex of the interpreter, such as that of the GIL
    cpu: float | None = None  # its CPU share
    busiest: float = 0.0  # the largest CPU share of any thread
    turns: float = 0.0  # how many times a second it was given a CPU
    lock: str = ''  # the phrase of `locks` for the lock that it waits for
    waiting: str = ''  # the same for anything else that it waits for in Python
    target: str = ''  # the path, peer or child that its system call is about
    descriptors: tuple[Descriptor, ...] = ()  # those that its system call is about

    @property
    def call(self) -> str:
        return self.task.call if self.task else ''

    @property
    def is_ready(self) -> bool:
        return is_ready(self.task, self.gil)

    @property
    def where(self) -> str:
        frame = own_frame(self.frames)
        if frame is None:
            return ''
        return f'at {place(frame.file, frame.line, frame.function)}'


def is_ready(task: Task | None, gil: bool) -> bool:
    """Return whether a thread is on a CPU, ready for one, or waits for the GIL only."""
    if gil:
        return True
    return task is not None and (task.call == 'running' or task.state == 'R')


def place(file: str, line: int | None, function: str) -> str:
    """Return for example `shop/views.py:31 in checkout`, with the last two parts of the path."""
    return f'{short(file)}:{line or "?"} in {function}'


def short(file: str) -> str:
    """Return the last two parts of a path."""
    parts = file.replace(os.sep, '/').split('/')
    return '/'.join(parts[-2:])


def words(state: ThreadState) -> str:
    """Return what a thread does, as a phrase that follows the name of the thread."""
    return activity_words(state.activity, state.detail)


def activity_words(code: str, detail: str) -> str:
    """Return the words for a code of ACTIVITIES, with the detail."""
    phrase = ACTIVITIES.get(code, code)
    if detail.startswith(('at ', 'in ', 'taken by ')):
        return f'{phrase} {detail}'
    if detail:
        return f'{phrase}: {detail}'
    return phrase


def listens(frames: Iterable[Frame]) -> bool:
    """Return whether these are the frames of a server loop that waits for connections."""
    return _is_loop(_first_outside_plumbing(frames))


def waits_for_work(frames: Iterable[Frame]) -> bool:
    """Return whether these are the frames of a thread without work, maybe of another Python."""
    for frame in frames:
        if not frame.file.endswith(_PLUMBING):
            return _known_place(frame) is not None
    return False


def loop_in(frames: Iterable[Frame]) -> int | None:
    """Return the index of the frame of a server loop, whatever it calls; None if there is none."""
    for index, frame in enumerate(frames):
        if _is_loop(frame):
            return index
    return None


def judge(facts: Facts) -> Answer:
    """Return (code of ACTIVITIES, phrase): the answer of the first rule that matches."""
    answers = (rule(facts) for rule in RULES)
    return next(answer for answer in answers if answer)


# -- the rules -------------------------------------------------------------------------------------


def _busy(facts: Facts) -> Answer | None:
    if facts.is_ready and facts.cpu is not None and is_busy(facts.cpu, facts.busiest):
        return 'running', _joined(_share(facts), facts.where)
    return None


def _starved(facts: Facts) -> Answer | None:
    """The thread wakes often but gets little CPU time, because other threads hold the GIL.

    It is seen in the futex of the GIL, or on a CPU for the moment in which it asks for the GIL.
    """
    often = _SWITCHING if facts.gil else _AWAKENED
    if facts.is_ready and facts.frames and facts.cpu is not None and facts.turns >= often:
        return 'gil', _joined(_share(facts), facts.where)
    return None


def _in_place(facts: Facts) -> Answer | None:
    found = _known_place(_first_outside_plumbing(facts.frames))
    if found and found[0] == 'idle' and facts.lock:
        return None
    return found


def _ready(facts: Facts) -> Answer | None:
    if facts.is_ready:
        return 'running', _joined(_share(facts), facts.where)
    return None


def _frozen_output(facts: Facts) -> Answer | None:
    if facts.call not in _WRITES or facts.is_ready:
        return None
    for descriptor in facts.descriptors:
        if descriptor.standard in ('stdout', 'stderr') and descriptor.kind != 'file':
            output = f'{descriptor.standard} is a {descriptor.kind} that is not read'
            return 'terminal', _joined(output, facts.where)
    return None


def _without_python(facts: Facts) -> Answer | None:
    if not facts.frames:
        return _native(facts)
    return None


def _turn_to_commit(facts: Facts) -> Answer | None:
    """Only one transaction at a time commits to a storage; `tpc_begin` takes the lock for that."""
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
    if facts.task and facts.call not in _DATABASE_CALLS:
        return None
    name = _database_of(facts)
    if name:
        return 'database', _joined(name, _peers_and_files(facts), facts.where)
    return None


def _subprocess(facts: Facts) -> Answer | None:
    if facts.call in CHILDREN or _is_in_subprocess(facts.frames):
        return 'subprocess', _joined(facts.target, facts.where)
    return None


def _is_in_subprocess(frames: Sequence[Frame]) -> bool:
    if frames and frames[0].file.endswith(f'{os.sep}subprocess.py'):
        return True
    for frame in _library_frames(frames):
        if frame.file == f'{_LIBRARY}subprocess.py':
            return True
    return False


def _waiting(facts: Facts) -> Answer | None:
    if facts.waiting:
        return 'waiting', facts.waiting
    return None


def _sleep(facts: Facts) -> Answer | None:
    if facts.call in _SLEEPS:
        return 'sleep', facts.where
    if facts.task and facts.call in _COUNTS:
        descriptors = facts.task.arguments[_COUNTS[facts.call]]
        if not descriptors:
            return 'sleep', facts.where
    return None


def _descriptors(facts: Facts) -> Answer | None:
    if not facts.descriptors or facts.call not in STREAMS | POLLS:
        return None
    code = _KINDS.get(facts.descriptors[0].kind, 'native')
    target = facts.target or _peers_and_files(facts)
    return code, _joined(target, facts.where)


def _file(facts: Facts) -> Answer | None:
    is_in_disk_sleep = facts.task is not None and facts.task.state == 'D'
    if is_in_disk_sleep or facts.call in LOCKED or facts.call in PATHS:
        target = facts.target or _peers_and_files(facts)
        return 'file', _joined(facts.call, target, facts.where)
    return None


def _events(facts: Facts) -> Answer | None:
    if facts.call in _SELECTS | POLLS:
        return 'waiting', _joined('events of descriptors', facts.where)
    return None


def _by_frames(facts: Facts) -> Answer | None:
    """For systems where the kernel shows no system calls."""
    files = {os.path.basename(frame.file) for frame in _library_frames(facts.frames)}
    if not facts.call and files & {'socket.py', 'ssl.py'}:
        return 'socket', facts.where
    return None


def _native(facts: Facts) -> Answer:
    if facts.task is None:
        return 'unknown', facts.where
    if not facts.call:
        return 'native', facts.where
    return 'native', _joined(f'in the system call {facts.call}', facts.where)


#: Applied in this order.  `_ready` is early: a thread that is ready no longer waits for what its
#: frames show.
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
    return '' if facts.cpu is None else f'{facts.cpu:.0%} of one CPU'


def _joined(*parts: str) -> str:
    return ', '.join(filter(None, parts))


def _peers_and_files(facts: Facts) -> str:
    """Return what the call waits for: peers of sockets, names of files and pipes."""
    ends = [descriptor.peer or descriptor.name for descriptor in facts.descriptors[:3]]
    return ' and '.join(ends)


def _database_of(facts: Facts) -> str:
    """Return the database of the innermost frame outside the library, or of a peer; '' if none."""
    frame = _first_outside_library(facts.frames)
    if frame:
        path = '/' + frame.file.replace(os.sep, '/')
        for part, name in DATABASES:
            if part in path:
                return name
    for descriptor in facts.descriptors:
        *_, peer = re.split('[:/]', descriptor.peer)
        if peer in _PEERS:
            return _PEERS[peer]
    return ''


def _is_library(frame: Frame) -> bool:
    return frame.file.startswith((_LIBRARY, '<frozen')) and 'site-packages' not in frame.file


def _library_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Return the innermost frames, up to the first one outside of Python's library."""
    return itertools.takewhile(_is_library, frames)


def _known_place(frame: Frame | None) -> Answer | None:
    """Return (code, phrase) of PLACES for a frame; None if it is not in the table."""
    if frame is None:
        return None
    file = frame.file.replace(os.sep, '/')
    for ending, function, code, phrase in PLACES:
        if frame.function == function and file.endswith(ending):
            return code, phrase
    return None


def _is_loop(frame: Frame | None) -> bool:
    found = _known_place(frame)
    return found is not None and found[0] == 'listening'


def _first_outside_plumbing(frames: Iterable[Frame]) -> Frame | None:
    """Return the innermost frame that is not in a library module of _PLUMBING."""
    for frame in frames:
        if not frame.file.endswith(_PLUMBING) or not _is_library(frame):
            return frame
    return None


def own_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame outside of Python's library, which an administrator looks for.

    If all frames are in the library, return the innermost one.
    """
    if not frames:
        return None
    return _first_outside_library(frames) or frames[0]


def _first_outside_library(frames: Iterable[Frame]) -> Frame | None:
    for frame in frames:
        if not _is_library(frame):
            return frame
    return None
