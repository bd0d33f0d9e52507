"""A process whose threads are greenlets: `python greenlets.py DIRECTORY real|faked`.

With "real", gevent replaces the threads; with "faked", only `get_ident` returns what it returns
under gevent: the address of an object that is no pthread.  The process arms itself, serves a
request and says which findings there are.
"""

import os
import sys
from pathlib import Path

if sys.argv[2] == 'real':
    from gevent import monkey

    monkey.patch_all()
else:
    import threading

    _greenlets = threading.local()

    def get_ident():
        if not hasattr(_greenlets, 'own'):
            _greenlets.own = object()
        return id(_greenlets.own)

    threading.get_ident = get_ident

import threading

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from programs.handshake import say  # noqa: E402
from programs.handshake import until  # noqa: E402

from Products.StabilityMonitor.model.records import Instance  # noqa: E402
from Products.StabilityMonitor.recording import arming  # noqa: E402

configured = {'directory': sys.argv[1], 'sample-interval': '50ms'}
life = arming.arm(configured, {}, Instance('test', '/nowhere', ''), 'server', {'zope': '6.3'})
life.armed()
life.serving()


def serve():
    life.recorder.begin('GET', '/the/request')
    say('stack', life.gauge.gauge.own() is not None)
    life.recorder.end()


worker = threading.Thread(target=serve)
worker.start()
worker.join()
until(lambda: life.rounds.heartbeat.beats > 21)
say('watchdog', life.rounds.watchdog is not None)
say('findings', *(finding.detail for finding in life.findings))
os._exit(0)  # with the faked idents, `threading` does not find MainThread at its end
