"""Pages that stand still, each in its own way, until the process is ended.  The kit publishes them.

None of them asks the monitor for anything: what it must see is the work of kernel, Python and Zope
alone.
"""

import ctypes
import gc
import logging
import mmap
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

from waitress.server import TcpWSGIServer
from waitress.wasyncore import dispatcher

from Products.PageTemplates.PageTemplate import PageTemplate

_libc_with_gil = ctypes.PyDLL(None)


# -- locks -----------------------------------------------------------------------------------------

LOCK_OF_STOCK, LOCK_OF_BILLS = threading.Lock(), threading.Lock()
_both_have_one, _all_serve = threading.Barrier(2), threading.Barrier(4)


def meet(self):
    """Four requests are answered together, so that each worker has served one."""
    _all_serve.wait()
    return 'all are here'


def take_from_stock(self):
    with LOCK_OF_STOCK:
        _both_have_one.wait()
        with LOCK_OF_BILLS:
            return 'never'


def write_the_bill(self):
    with LOCK_OF_BILLS:
        _both_have_one.wait()
        with LOCK_OF_STOCK:
            return 'never'


# -- waiting for the world -------------------------------------------------------------------------


def sleep_long(self, seconds='600'):
    time.sleep(float(seconds))
    return 'awake'


def sleep_until(self, sign):
    """Until that file is there."""
    while not os.path.exists(sign):
        time.sleep(0.1)
    return 'awake'


def ask_the_silent(self, port):
    """Of a server that listens, and never answers."""
    with socket.create_connection(('127.0.0.1', int(port))) as connection:
        connection.sendall(b'what is the price?\r\n')
        return connection.recv(100)


def print_much(self):
    """Until the pipe is full, which nobody reads."""
    while True:
        print('x' * 79, flush=True)


def log_much(self):
    """The handler of the console writes to a pipe, too, and has a lock."""
    while True:
        logging.getLogger('shop').warning('x' * 79)


# -- the loop of the server ------------------------------------------------------------------------


def _warn_of_the_queue():
    """As waitress does when more requests come in than it has threads: until the pipe is full,
    which nobody reads.
    """
    while True:
        logging.getLogger('waitress.queue').warning('Task queue depth is %d', 1)


def log_in_main(self):
    _server().trigger.pull_trigger(_warn_of_the_queue)
    return 'it logs'


def _count_the_stock():
    with LOCK_OF_STOCK:
        pass


def lock_out_main(self, until=''):
    """MainThread waits for a lock as long as this request has it: until that file is there."""
    with LOCK_OF_STOCK:
        _server().trigger.pull_trigger(_count_the_stock)
        while not (until and os.path.exists(until)):
            time.sleep(0.5)
    return 'it goes on'


# -- CPUs ------------------------------------------------------------------------------------

_LOOP = '<tal:loop repeat="n options/numbers">{}</tal:loop>'
_ENDLESS = _LOOP.format(_LOOP.format(_LOOP.format('<b tal:condition="python:n &lt; 0">never</b>')))


def loop_in_template(self):
    template = PageTemplate()  # here, and not at import: by then Zope has chosen its engine
    template.pt_edit(_ENDLESS, 'text/html')
    return template(numbers=range(10_000))


def _server():
    (server,) = (o for o in gc.get_objects() if isinstance(o, TcpWSGIServer))
    return server


class _NeverRead(dispatcher):
    """The loop of waitress is told over and over that something can be read, and nobody reads
    it.
    """

    def writable(self):
        return False

    def handle_read(self):
        pass


def spin_the_server(self):
    """MainThread, in the loop of waitress, which goes on serving."""
    server, (ours, theirs) = _server(), socket.socketpair()
    theirs.send(b'x')
    server.trigger.pull_trigger(
        lambda: setattr(server, 'never_read', (_NeverRead(ours, server._map), theirs))
    )
    return 'it spins'


def _count_up():
    number = 0
    while True:
        number += 1


def spin_main(self):
    """MainThread, in a function of our own: no connection is accepted, and no answer sent any
    more.
    """
    _server().trigger.pull_trigger(_count_up)


# -- the interpreter lock --------------------------------------------------------------------------


def keep_gil(self, seconds='20'):
    """In C code; a signal cuts a sleep short, so sleep again."""
    end = time.monotonic() + float(seconds)
    while (left := end - time.monotonic()) > 0:
        _libc_with_gil.usleep(int(left * 1e6))
    return 'released'


def keep_gil_reading(self):
    """In C code that no signal disturbs: the kernel goes on with the read."""
    _libc_with_gil.read(os.pipe()[0], ctypes.create_string_buffer(1), 1)


# -- stacks ----------------------------------------------------------------------------------------

_ENTRY, _TOUCHED = 8, 3 << 62


class _Stack:
    """The calling thread's, as the kernel has it."""

    def __init__(self):
        maps, ident = Path('/proc/self/maps').read_text(), threading.get_ident()
        pairs = [
            (int(start, 16), int(end, 16))
            for start, end in re.findall(r'^(\w+)-(\w+) ', maps, re.MULTILINE)
        ]
        start, end = next((start, end) for start, end in pairs if start <= ident < end)
        self.at, self.length = (n // mmap.PAGESIZE * _ENTRY for n in (start, ident - start))
        self.pagemap = os.open('/proc/self/pagemap', os.O_RDONLY)

    def untouched(self):
        """Bytes at its far end that were never touched."""
        entries = memoryview(os.pread(self.pagemap, self.length, self.at)).cast('Q')
        return next(n for n, entry in enumerate(entries) if entry & _TOUCHED) * mmap.PAGESIZE


def _dive(stack, room, depth=0):
    """Python to C to Python, until no more than `room` is left."""
    if depth % 8 == 0 and stack.untouched() <= room:
        time.sleep(600)
    return max([stack], key=lambda stack: _dive(stack, room, depth + 1))


def dive(self, room):
    """A recursion that stops just before the end of the stack, and stays there."""
    sys.setrecursionlimit(1 << 20)
    return _dive(_Stack(), int(room))
