"""Ways to hang: what makes a real Zope hang, how kernel and clients see it, and what the product
must report.

A table, which `test_standstills` runs.  The kernel and a client prove each hang, not the product.
"""

import collections
import dataclasses
import os
import platform
import re
import socket
from pathlib import Path

from Products.StabilityMonitor.model.errors import NoAnswer
from Products.StabilityMonitor.store import runmailbox
from support.childprograms import COMMAND
from support.childprograms import run_python
from support.deaths import PATIENCE
from support.deaths import PRODUCTS
from support.deaths import Setting
from support.deaths import Site
from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

OPTIONS = (('sample-interval', '100ms'), ('stall', '2s'), ('slow-request', '1s'))
STANDING = Setting(options=OPTIONS)
#: The output goes into a pipe that nobody reads.  The other end is open in `tail`, which ends with
#: Zope, or in the test, which has opened the FIFO var/pipe.
FULL_STDOUT = Setting(
    options=OPTIONS, prefix=('bash', '-c', 'exec "$@" > >(exec tail --pid=$$ -f /dev/null)', 'bash')
)
FULL_STDERR = Setting(options=OPTIONS, prefix=('sh', '-c', 'exec "$@" 2>var/pipe', 'sh'))
SMALL_STACKS = Setting(options=(*OPTIONS, ('thread-stack-size', '512KB')))

#: The names of the system calls in which threads block here, by their numbers.
_CALLS = {
    'x86_64': {0: 'read', 1: 'write', 45: 'recvfrom', 202: 'futex', 230: 'clock_nanosleep'},
    'aarch64': {63: 'read', 64: 'write', 207: 'recvfrom', 98: 'futex', 115: 'clock_nanosleep'},
}.get(platform.machine(), {})


class StandingSite(Site):
    """One instance whose processes hang one after the other; `still` is whether the present one
    does.
    """

    still = False

    def create(self):
        ZopeInstance.create(self)
        self.publish((PRODUCTS / 'ways_to_hang.py').read_text())
        os.mkfifo(self.client_home / 'pipe')
        self.unread = os.open(self.client_home / 'pipe', os.O_RDWR | os.O_NONBLOCK)
        self.silent = socket.create_server(
            ('127.0.0.1', 0)
        )  # it listens, but never accepts a connection
        return self

    def run_as(self, setting, wait=True):
        if not (self.running and self.setting == setting):
            self._empty_pipe()
        return super().run_as(setting, wait)

    def end(self, name):
        """End it by this signal, and return its exit code."""
        self.signal(name)
        code, self.still = self.wait_exit(), False
        return code

    def _empty_pipe(self):
        try:
            while os.read(self.unread, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def guard_all(self):
        """Let each worker serve a request, and wait until the watchdog has a timer for each."""
        for asked in [self.background('/meet') for _ in range(self.threads)]:
            asked.join()
        wait_for(
            lambda: len(list(self.run_directory.glob('watchdog-*.mark'))) >= self.threads,
            PATIENCE,
            'the timers',
        )

    def run_directory_of(self, pid):
        """Return the name of the run of this living process."""
        (run,) = (self.stability / 'runs').glob(f'*-{pid}-*')
        return run.name

    def answers(self):
        """Return whether a request is answered within a second."""
        try:
            return self.get('/', timeout=1).status == 200
        except OSError:
            return False

    def calls(self):
        """Return {system call: number of threads in it} from the kernel; {} where that is not
        readable.
        """
        found = collections.Counter()
        try:
            for task in Path(f'/proc/{self.process_id}/task').iterdir():
                number = (task / 'syscall').read_text().split()[0]
                found['running' if number == 'running' else _CALLS.get(int(number), number)] += 1
        except OSError:
            return {}
        return found if _CALLS else {}

    def standing(self):
        """Return the answer of the heartbeat about its process; {} if there is none."""
        try:
            return runmailbox.ask(self.run_directory, 'stacks', patience=2)
        except NoAnswer:
            return {}

    def tell(self, *words):
        """Run the command `stabilitymonitor`, and return the completed process."""
        where = ('--client-home', self.client_home)
        return run_python(*COMMAND, *where, *words, timeout=3 * PATIENCE, cwd=CHECKOUT)

    def destroy(self):
        super().destroy()
        self.silent.close()
        os.close(self.unread)


@dataclasses.dataclass(frozen=True)
class Stands:
    """One blocked or busy thread: its request (or its name), a word for its activity, and a
    function in its stack.
    """

    who: str
    activity: str
    function: str

    def missing_in(self, threads):
        """Return what is wrong with it among the threads of a report, or ''."""
        ours = [t for t in threads if self.who in (t['name'], (t['request'] or {}).get('path'))]
        if not ours:
            return f'{self.who} is not among {[(t["name"], t["request"]) for t in threads]}'
        good = [t for t in ours if t['activity'] == self.activity and self._is_in(t['frames'])]
        told = [
            (t['activity'], t['detail'], [f['function'] for f in t['frames'][:6]]) for t in ours
        ]
        return '' if good else f'{self.who} should be {self.activity!r} in {self.function}: {told}'

    def _is_in(self, frames):
        return any(frame['function'] == self.function for frame in frames)


@dataclasses.dataclass(frozen=True)
class Standstill:
    """One way to hang.  `pages` are requested at the same time, as `path?query`; page, command and
    evidence must contain the words `says`.
    """

    id: str
    pages: tuple
    stands: tuple
    says: tuple = ()
    kind: str = ''  # the kind of the event: 'hang', 'deadlock' or 'spinning'; '' for no event
    free: bool = True  # is a worker free?
    answering: bool = True  # does the heartbeat still answer?
    calls: tuple = ()  # (system call, at least this many threads in it, according to the kernel)
    in_flight: bool = True  # do the requests stay in flight?
    finding: str = ''  # the id of a finding of the living site
    setting: Setting = STANDING

    @property
    def is_hang(self):
        return self.kind == 'hang'

    def begin(self, site):
        """Send the requests, and wait until they are in flight and their threads in the expected
        system calls.
        """
        if not self.answering:
            site.guard_all()
        site.still = True
        for page in self.pages:
            site.background(page.format(port=site.silent.getsockname()[1]))
        if self.in_flight:
            wait_for(
                lambda: sorted(r.path for r in site.recording().in_flight) == sorted(self.paths),
                PATIENCE,
                self.id,
            )
        wait_for(
            lambda: self._is_there(site.calls()),
            PATIENCE,
            f'{self.id}: the kernel has {site.calls()}',
        )

    def _is_there(self, calls):
        return not calls or all(calls[name] >= least for name, least in self.calls)

    @property
    def paths(self):
        return tuple(page.partition('?')[0] for page in self.pages) if self.in_flight else ()


def writes_itself(path, function):
    """Return the thread that must write its own stack, since the heartbeat cannot answer."""
    return (Stands(path, '', function),)


def four_of(page):
    return (page,) * 4


STANDSTILLS = (
    Standstill(
        'a deadlock of two requests',
        ('/take_from_stock', '/write_the_bill'),
        (
            Stands('/take_from_stock', 'lock', 'take_from_stock'),
            Stands('/write_the_bill', 'lock', 'write_the_bill'),
        ),
        ('Deadlock', 'LOCK_OF_BILLS', 'LOCK_OF_STOCK', 'take_from_stock', 'write_the_bill'),
        kind='deadlock',
        calls=(('futex', 2),),
    ),
    Standstill(
        'all workers sleep',
        four_of('/sleep_long'),
        (Stands('/sleep_long', 'sleep', 'sleep_long'),),
        ('sleep', 'sleep_long'),
        kind='hang',
        free=False,
        calls=(('clock_nanosleep', 4),),
    ),
    Standstill(
        'a socket that never answers',
        ('/ask_the_silent?port={port}',),
        (Stands('/ask_the_silent', 'socket', 'ask_the_silent'),),
        ('/ask_the_silent', 'socket'),
        calls=(('recvfrom', 1),),
    ),
    Standstill(
        'all wait for a socket that never answers',
        four_of('/ask_the_silent?port={port}'),
        (Stands('/ask_the_silent', 'socket', 'ask_the_silent'),),
        ('ask_the_silent', 'socket'),
        kind='hang',
        free=False,
        calls=(('recvfrom', 4),),
    ),
    Standstill(
        'a page template that loops',
        ('/loop_in_template',),
        (Stands('/loop_in_template', 'running', 'loop_in_template'),),
        ('/loop_in_template', 'CPU'),
        calls=(('running', 1),),
    ),
    Standstill(
        'the loop of the server spins',
        ('/spin_the_server',),
        (Stands('MainThread', 'running', 'loop'),),
        ('MainThread', 'CPU'),
        kind='spinning',
        in_flight=False,
        calls=(('running', 1),),
    ),
    Standstill(
        'the main thread spins',
        ('/spin_main',),
        (Stands('MainThread', 'running', '_count_up'),),
        ('MainThread', 'CPU', '_count_up'),
        kind='spinning',
        free=False,
        in_flight=False,
        calls=(('running', 1),),
    ),
    Standstill(
        'the loop of the server writes to a full stderr',
        ('/log_in_main',),
        (Stands('MainThread', 'terminal', '_warn_of_the_queue'),),
        ('MainThread', 'stderr'),
        kind='hang',
        free=False,
        in_flight=False,
        calls=(('write', 1),),
        setting=FULL_STDERR,
    ),
    Standstill(
        'the loop of the server waits for a lock of a request',
        ('/lock_out_main',),
        (
            Stands('MainThread', 'lock', '_count_the_stock'),
            Stands('/lock_out_main', 'sleep', 'lock_out_main'),
        ),
        ('MainThread', 'LOCK_OF_STOCK', '_count_the_stock'),
        kind='hang',
        free=False,
        calls=(('clock_nanosleep', 1),),
    ),
    Standstill(
        'C code keeps the GIL',
        ('/keep_gil?seconds=600',),  # longer than any patience
        writes_itself('/keep_gil', 'keep_gil'),
        ('GIL', 'keep_gil'),
        kind='hang',
        free=False,
        answering=False,
        calls=(('clock_nanosleep', 1),),
    ),
    Standstill(
        'C code keeps the GIL, deaf to signals',
        ('/keep_gil_reading',),
        writes_itself('/keep_gil_reading', 'keep_gil_reading'),
        ('GIL', 'keep_gil_reading'),
        kind='hang',
        free=False,
        answering=False,
        calls=(('read', 1),),
    ),
    Standstill(
        'a full stdout',
        ('/print_much',),
        (Stands('/print_much', 'terminal', 'print_much'),),
        ('/print_much', 'stdout'),
        calls=(('write', 1),),
        setting=FULL_STDOUT,
    ),
    Standstill(
        'a full stderr, which the log goes to',
        four_of('/log_much'),
        (Stands('/log_much', 'terminal', 'log_much'), Stands('/log_much', 'lock', 'log_much')),
        ('log_much', 'stderr'),
        kind='hang',
        free=False,
        calls=(('write', 1),),
        setting=FULL_STDERR,
    ),
    Standstill(
        'a recursion that stops before the end of the stack',
        ('/dive?room=20000',),
        (Stands('/dive', 'sleep', '_dive'),),
        ('/dive', 'stack'),
        finding='stack-headroom',
        calls=(('clock_nanosleep', 1),),
        setting=SMALL_STACKS,
    ),
)


def words_of(html):
    """Return the text of a page without its tags."""
    return re.sub(r'<[^>]*>', ' ', html)
