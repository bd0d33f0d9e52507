"""Connections that the process has not accepted, as the kernel counts them."""

import os
import socket
from pathlib import Path

import pytest
from support.childprograms import run_python
from support.zopekit import wait_for

from Products.StabilityMonitor.system import acceptqueue
from Products.StabilityMonitor.system.acceptqueue import OwnTables
from Products.StabilityMonitor.system.acceptqueue import inodes_of
from Products.StabilityMonitor.system.acceptqueue import inodes_of_process
from Products.StabilityMonitor.system.acceptqueue import tables_of
from Products.StabilityMonitor.system.acceptqueue import waiting

HEAD = (
    b'  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout '
    b'inode\n'
)
#: A line of /proc/net/tcp: state, rx_queue, inode.
LINE = (
    b'   0: 0100007F:1F90 00000000:0000 %s 00000000:%08X 00:00000000 00000000  1000        0 %d 1 '
    b'ffff8880 100 0 0 10 0\n'
)


def listening(family):
    address = {socket.AF_INET: '127.0.0.1', socket.AF_INET6: '::1'}[family]
    return socket.create_server((address, 0), family=family)


@pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_INET6])
def test_connections_that_nobody_accepts_are_counted(family):
    try:
        server = listening(family)
    except OSError as error:
        pytest.skip(f'no address of this family: {error}')
    with server:
        inodes = inodes_of([server.fileno()])
        assert inodes <= inodes_of_process(os.getpid())
        own = OwnTables()
        assert waiting(inodes, own.read()) == waiting(inodes, tables_of(os.getpid())) == 0
        clients = [socket.create_connection(server.getsockname()[:2]) for _ in range(3)]
        wait_for(lambda: waiting(inodes, own.read()) == 3, 5, 'three connections')
        accepted, _ = server.accept()
        assert waiting(inodes, own.read()) == waiting(inodes, tables_of(os.getpid())) == 2
        own.detach()
        assert waiting(inodes, own.read()) == -1
        for each in (*clients, accepted):
            each.close()


def test_the_tables_are_read_when_no_descriptor_is_left():
    program = """
import os, resource, socket
from Products.StabilityMonitor.system.acceptqueue import OwnTables, inodes_of, waiting
server = socket.create_server(('127.0.0.1', 0))
own = OwnTables()
client = socket.create_connection(server.getsockname())
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
try:
    while True:
        os.dup(0)
except OSError:
    print(waiting(inodes_of([server.fileno()]), own.read()))
"""
    assert run_python('-c', program).stdout == '1\n'


def test_a_socket_that_the_table_does_not_have_is_not_known(tmp_path):
    with socket.socket() as unbound:
        assert waiting(inodes_of([unbound.fileno()]), OwnTables().read()) == -1
    assert waiting({1}, tables_of(1, tmp_path)) == waiting({1}, OwnTables(tmp_path).read()) == -1
    assert inodes_of([1 << 20]) == frozenset()


@pytest.mark.parametrize(
    'text, expected',
    [
        (HEAD, -1),
        (HEAD + LINE % (b'0A', 255, 7), 255),
        (HEAD + LINE % (b'0A', 0, 7), 0),
        (HEAD + LINE % (b'01', 9, 7), -1),  # an open connection
        (HEAD + LINE % (b'0A', 9, 8), -1),  # the socket of another process
        (HEAD + LINE % (b'0A', 2, 7) + LINE % (b'0A', 3, 9) + LINE % (b'0A', 4, 7), 6),
        (HEAD + (LINE % (b'0A', 2, 7))[:70], -1),
    ],
)
def test_the_lines_of_the_kernel_are_read(tmp_path, text, expected):
    table = tmp_path / '4711' / 'net'
    table.mkdir(parents=True)
    (table / 'tcp').write_bytes(text)
    assert waiting({7}, tables_of(4711, tmp_path)) == expected
    (table / 'tcp6').write_bytes(HEAD + LINE % (b'0A', 1, 7))
    assert waiting({7}, tables_of(4711, tmp_path)) == max(expected, 0) + 1


def test_a_table_is_read_up_to_its_first_connections(tmp_path, monkeypatch):
    """The kernel gives the listening sockets first; a busy site has thousands of connections."""
    table = tmp_path / 'self' / 'net'
    table.mkdir(parents=True)
    listeners, connections = LINE % (b'0A', 0, 8) * 100, LINE % (b'06', 0, 0) * 5000
    (table / 'tcp').write_bytes(HEAD + listeners + LINE % (b'0A', 1, 7) + connections)
    own = OwnTables(tmp_path)
    assert waiting({7}, own.read()) == 1
    assert len(own.read()[0]) < len(HEAD + listeners) + 2 * 4096
    monkeypatch.setattr(acceptqueue, '_MOST', 3000)
    assert waiting({7}, own.read()) == -1


def test_a_thousand_closed_connections_are_not_read():
    with listening(socket.AF_INET) as server:
        for _ in range(1000):
            client = socket.create_connection(server.getsockname())
            accepted, _ = server.accept()
            accepted.close()
            client.close()
        everything = Path('/proc/self/net/tcp').read_bytes()
        read = OwnTables().read()[0]
        assert waiting(inodes_of([server.fileno()]), [read]) == 0
        assert len(read) < len(everything) / 10
