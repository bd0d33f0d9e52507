"""Pages that hang, each in its own way, until the process is ended; zopekit publishes them.

They call nothing of the product: what it must notice is done by kernel, Python and Zope alone.
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
    """Answer when four requests have come, so that each worker has served one."""
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


# -- waiting for something outside -----------------------------------------------------------------


def sleep_long(self, seconds='600'):
    time.sleep(float(seconds))
    return 'awake'


def sleep_until(self, sign):
    """Sleep until the file `sign` exists."""
    while not os.path.exists(sign):
        time.sleep(0.1)
    return 'awake'


def ask_the_silent(self, port):
    """Ask a server that listens but never answers."""
    with socket.create_connection(('127.0.0.1', int(port))) as connection:
        connection.sendall(b'what is the price?\r\n')
        return connection.recv(100)


def print_much(self):
    """Print until the pipe, which is not read, is full."""
    while True:
        print('x' * 79, flush=True)


def log_much(self):
    """Log to the handler of the console, which has a lock and writes to the full pipe."""
    while True:
        logging.getLogger('shop').warning('x' * 79)


# -- the loop of the server ------------------------------------------------------------------------


def _warn_of_the_queue():
    """Log as waitress does when there are more requests than threads, until the pipe, which is not
    read, is full.
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
    """Hold a lock that MainThread waits for, until the file `until` exists."""
    with LOCK_OF_STOCK:
        _server().trigger.pull_trigger(_count_the_stock)
        while not (until and os.path.exists(until)):
            time.sleep(0.5)
    return 'it goes on'


# -- CPUs ------------------------------------------------------------------------------------------

_LOOP = '<tal:loop repeat="n options/numbers">{}</tal:loop>'
_ENDLESS = _LOOP.format(_LOOP.format(_LOOP.format('<b tal:condition="python:n &lt; 0">never</b>')))


def loop_in_template(self):
    template = PageTemplate()  # not at import: Zope chooses its engine for templates later
    template.pt_edit(_ENDLESS, 'text/html')
    return template(numbers=range(10_000))


def _server():
    (server,) = (o for o in gc.get_objects() if isinstance(o, TcpWSGIServer))
    return server


class _NeverRead(dispatcher):
    """The loop of waitress hears again and again that this socket can be read, but it is never
    read.
    """

    def writable(self):
        return False

    def handle_read(self):
        pass


def spin_the_server(self):
    """Let MainThread spin in the loop of waitress, which still serves."""
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
    """Let MainThread spin in a function of this module: it accepts no connection and sends no
    answer any more.
    """
    _server().trigger.pull_trigger(_count_up)


# -- the interpreter lock --------------------------------------------------------------------------


def keep_gil(self, seconds='20'):
    """Hold the GIL in C code; a signal shortens a sleep, so sleep again."""
    end = time.monotonic() + float(seconds)
    while (left := end - time.monotonic()) > 0:
        _libc_with_gil.usleep(int(left * 1e6))
    return 'released'


def keep_gil_reading(self):
    """Hold the GIL in C code that signals do not disturb: the kernel restarts the read."""
    _libc_with_gil.read(os.pipe()[0], ctypes.create_string_buffer(1), 1)


# -- stacks ----------------------------------------------------------------------------------------

_ENTRY, _TOUCHED = 8, 3 << 62


class _Stack:
    """The stack of the calling thread, according to the kernel."""

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
        """Return the number of bytes at its far end that were never touched."""
        entries = memoryview(os.pread(self.pagemap, self.length, self.at)).cast('Q')
        return next(n for n, entry in enumerate(entries) if entry & _TOUCHED) * mmap.PAGESIZE


def _dive(stack, room, depth=0):
    """Recurse from Python to C to Python until at most `room` bytes are left."""
    if depth % 8 == 0 and stack.untouched() <= room:
        time.sleep(600)
    return max([stack], key=lambda stack: _dive(stack, room, depth + 1))


def dive(self, room):
    """Recurse nearly to the end of the stack, and stay there."""
    sys.setrecursionlimit(1 << 20)
    return _dive(_Stack(), int(room))
