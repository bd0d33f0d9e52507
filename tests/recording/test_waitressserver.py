"""What is read of a real waitress: its queue, its busy threads, its connections."""

import contextlib
import socket
import threading

import pytest
from support.effort import calls_made
from support.zopekit import wait_for

from Products.StabilityMonitor.recording.waitressserver import MOST_CONNECTIONS
from Products.StabilityMonitor.recording.waitressserver import WaitressServer
from Products.StabilityMonitor.recording.waitressserver import _FirstSights

waitress = pytest.importorskip('waitress')

pytestmark = [pytest.mark.zope, pytest.mark.in_process]
PATIENCE = 10
LARGE = b'x' * (4 << 20)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Served:
    """A waitress with two threads; its pages wait for `go`."""

    def __init__(self, sockets, **settings):
        self.go = threading.Event()
        self.clock = Clock()
        self.read = WaitressServer(self.clock)
        self.server = waitress.create_server(self.app, sockets=sockets, threads=2, **settings)
        self.dispatcher = self.server.task_dispatcher
        self.ports = [each.getsockname()[1] for each in sockets]
        self.clients = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        wait_for(self.is_found, PATIENCE, 'the loop of waitress')

    def is_found(self):
        self.read.find()
        return self.read.is_found

    def run(self):
        with contextlib.suppress(OSError, ValueError):  # its sockets are closed at the end
            self.server.run()

    def app(self, environ, start_response):
        path = environ['PATH_INFO']
        start_response('200 OK', [('Content-Type', 'text/plain')])
        if path == '/large':
            return (LARGE for _ in range(100))
        if path == '/rest':
            return [LARGE]
        self.go.wait(PATIENCE * 6)
        return [b'done']

    def send(self, text, port=0):
        client = socket.create_connection(('127.0.0.1', self.ports[port]), timeout=PATIENCE)
        client.sendall(text)
        self.clients.append(client)
        return client

    def get(self, path, port=0):
        return self.send(f'GET {path} HTTP/1.1\r\nHost: a\r\n\r\n'.encode(), port)

    def load(self, **wanted):
        """Wait until the load has these values, and return it."""

        def is_so():
            found = self.read.look()
            return all(getattr(found, name) == value for name, value in wanted.items())

        wait_for(is_so, PATIENCE, f'{wanted}, and not {self.read.look()}')
        return self.read.look()

    def close(self):
        self.go.set()
        for client in self.clients:
            client.close()
        for _, each in self.read._entries():
            each.close()
        self.dispatcher.shutdown(timeout=PATIENCE)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def listening():
    return socket.create_server(('127.0.0.1', 0))


@pytest.fixture(params=[1, 2], ids=['one address', 'two addresses'])
def served(request):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listening()) for _ in range(request.param)]
        served = Served(sockets, connection_limit=50, outbuf_high_watermark=1 << 20)
        yield served
        served.close()


def test_a_new_connection_can_be_told_from_those_before(served):
    served.get('/held')
    before = served.load(busy=1) and served.read.connected()
    served.get('/held')
    served.load(busy=2)
    assert len(served.read.connected() - before) == 1 and before < served.read.connected()


def test_an_idle_server_has_nothing_to_do(served):
    load = served.load(busy=0, queue=0)
    assert (load.workers, load.waited, load.limit, load.unsent) == (2, 0.0, 50, 0)
    # each listening socket has a trigger, which wakes the loop
    assert load.connections == 2 * len(served.ports)
    assert served.read.connections() == () and served.read.missing == ''


def test_a_thread_is_busy_from_the_queue_to_the_next_wait(served):
    served.get('/', port=0)
    served.get('/', port=-1)
    served.load(busy=2, queue=0)
    served.go.set()
    served.load(busy=0, queue=0)


def test_a_request_waits_from_the_first_time_that_it_is_seen(served):
    for _ in range(2):
        served.get('/')
    served.load(busy=2)
    first = served.get('/')
    served.load(queue=1)
    served.clock.now += 7
    served.get('/', port=-1)
    load = served.load(queue=2, busy=2)
    assert load.waited == 7
    first.close()  # waitress serves it all the same
    served.go.set()
    assert served.load(queue=0, busy=0).waited == 0


def test_it_is_known_when_a_thread_took_its_last_request(served):
    assert served.load(busy=0).newest == 0
    served.get('/')
    served.load(busy=1)
    served.clock.now += 7
    assert served.load(busy=1).newest == 7
    served.get('/', port=-1)
    assert served.load(busy=2).newest == 0
    served.clock.now += 2
    assert served.load(busy=2).newest == 2


def test_a_client_that_does_not_read_keeps_a_thread_busy(served):
    client = served.get('/large')
    load = served.load(busy=1)
    wait_for(lambda: served.read.look().unsent > 1 << 20, PATIENCE, 'bytes that are not taken')
    assert load.queue == 0 and served.read.connections() == ()
    client.close()
    served.load(busy=0, unsent=0)


def test_requests_that_arrive_and_answers_that_are_sent_keep_no_thread_busy(served):
    served.send(b'POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nfirst')
    wait_for(lambda: served.read.connections(), PATIENCE, 'the request that arrives')
    served.clock.now += 3
    served.get('/rest')
    wait_for(lambda: len(served.read.connections()) == 2, PATIENCE, 'the answer that is sent')
    served.load(busy=0)
    arriving, sending = served.read.connections()
    assert (arriving.does, arriving.seconds, arriving.path) == ('arriving', 3.0, '/form')
    assert arriving.bytes > len('first')
    assert (sending.does, sending.seconds, sending.path) == ('sending', 0.0, '')
    assert 0 < sending.bytes < len(LARGE)


def test_the_number_of_connections_in_detail_is_limited(served):
    for _ in range(MOST_CONNECTIONS + 8):
        served.send(b'GET / HT')
    served.load(connections=2 * len(served.ports) + MOST_CONNECTIONS + 8)
    wait_for(lambda: len(served.read.connections()) == MOST_CONNECTIONS, PATIENCE, 'the first')


def test_the_listening_sockets_are_known(served):
    found = [socket.socket(fileno=socket.dup(each)) for each in served.read.sockets()]
    ports = []
    for each in found:
        ports.append(each.getsockname()[1])
        each.close()
    assert sorted(ports) == sorted(served.ports)


def test_what_another_release_lacks_is_told(served, monkeypatch):
    for _, each in served.read._servers(served.read._entries()):
        monkeypatch.delattr(each, 'adj')
    assert served.read.look() is None
    assert 'adj' in served.read.missing


def test_without_waitress_nothing_is_found():
    read = WaitressServer()
    read.find()
    assert not read.is_found and read.look() is None and read.connections() == ()


def test_another_object_at_the_same_address_is_new():
    class Request:
        pass

    sights = _FirstSights()
    request = Request()
    assert sights.oldest([request], 1.0) == 0
    assert sights.oldest([request], 3.0) == 2
    reference, since = sights._seen[id(request)]
    other = Request()
    sights._seen = {id(other): (reference, since)}
    assert sights.oldest([other], 9.0) == 0
    assert sights.oldest([], 10.0) == 0 and sights._seen == {}


def test_a_look_makes_few_calls_for_each_connection(served):
    idle = calls_made(served.read.look)
    for _ in range(MOST_CONNECTIONS):
        served.send(b'GET / HT')
    served.load(connections=2 * len(served.ports) + MOST_CONNECTIONS)
    assert calls_made(served.read.look) <= idle + 5 * MOST_CONNECTIONS
