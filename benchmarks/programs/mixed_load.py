"""Send a Zope requests of all kinds, as on a busy day; `soaking` starts this program.

    mixed_load.py PORT REQUESTS REPORTS

REPORTS times it says how many requests are answered, and waits for a line on stdin.  At the end it
prints a line of JSON: {kind: {status: number}}.  An answer with another status than expected ends
it.
"""

import collections
import itertools
import json
import random
import socket
import sys
import threading

CLIENTS = 6
_FORM = b'goods:list=one&goods:list=two&words=' + b'many%20words%20' * 20

#: {kind: (how many of a thousand requests, path, expected status)}.  Zope waits up to a second
#: before it retries a conflict.
KINDS = {
    'page template': (400, '/shop', 200),
    'plain': (316, '/plain', 200),
    'not found': (100, '/no_such_page', 404),
    'form': (60, '/order', 200),
    'error': (60, '/broken', 500),
    'database': (40, '/count', 200),
    'streaming': (20, '/stream', 200),
    'conflict, retried': (2, '/conflict', 200),
    'slow': (2, '/slow', 200),
}


def asks(kind, number):
    """Return the bytes of a request; one "not found" path in twenty is new."""
    path = KINDS[kind][1] + (f'/{number}' if kind == 'not found' and number % 20 == 0 else '')
    if kind == 'form':
        return (
            f'POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Type: '
            'application/x-www-form-urlencoded\r\n'
            f'Content-Length: {len(_FORM)}\r\n\r\n'
        ).encode() + _FORM
    return f'GET {path} HTTP/1.1\r\nHost: soak\r\n\r\n'.encode()


class Client(threading.Thread):
    """A client with one connection, which is kept as long as the server keeps it."""

    def __init__(self, port, numbers, seed):
        super().__init__(daemon=True)
        self.port, self.numbers, self.dice = port, numbers, random.Random(seed)
        self.statuses, self.trouble = collections.Counter(), None
        self.connection, self.rest = None, b''

    def run(self):
        kinds, weights = list(KINDS), [share for share, _, _ in KINDS.values()]
        try:
            for number in self.numbers:
                kind = self.dice.choices(kinds, weights)[0]
                status = self.ask(asks(kind, number))
                self.statuses[kind, status] += 1
                if status != KINDS[kind][2]:
                    raise AssertionError(f'{kind}: {status}')
        except Exception as error:
            self.trouble = error
        finally:
            self.connection and self.connection.close()

    def ask(self, request):
        """Send a request, and return the status of the answer."""
        if self.connection is None:
            self.connection, self.rest = socket.create_connection(('127.0.0.1', self.port), 60), b''
        self.connection.sendall(request)
        head = self.until(
            lambda got: got.find(b'\r\n\r\n') + 4 if b'\r\n\r\n' in got else 0
        ).lower()
        length = int(head.partition(b'content-length: ')[2].partition(b'\r\n')[0])
        self.until(lambda got: length if len(got) >= length else 0, length)
        if b'connection: close' in head:
            self.connection.close()
            self.connection = None
        return int(head.split(b' ', 2)[1])

    def until(self, complete, wanted=1):
        """Receive until `complete` finds an end in the bytes, and return the bytes up to it."""
        while wanted and not complete(self.rest):
            piece = self.connection.recv(1 << 16)
            if not piece:
                raise ConnectionError(f'closed after {self.rest[:200]!r}')
            self.rest += piece
        end = complete(self.rest)
        found, self.rest = self.rest[:end], self.rest[end:]
        return found


def main(port, requests, reports):
    statuses, seeds = collections.Counter(), itertools.count(1)
    for report in range(reports):
        share = range(report * requests // reports, (report + 1) * requests // reports)
        numbers = iter(share)
        clients = [Client(port, numbers, next(seeds)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
            statuses += client.statuses
            if client.trouble:
                raise client.trouble
        print(share.stop, flush=True)
        sys.stdin.readline()
    found = {}
    for (kind, status), number in statuses.items():
        found.setdefault(kind, {})[status] = number
    print(json.dumps(found), flush=True)


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
