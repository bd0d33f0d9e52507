"""A process that arms itself in DOOMED_DIRECTORY, serves, and dies without a trace of its own:
`python doomed.py WAY`, or as the application `doomed:app` in a worker of gunicorn, which dies as
the path of a request says.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from Products.StabilityMonitor.model.records import Instance  # noqa: E402
from Products.StabilityMonitor.recording.arming import arm  # noqa: E402


def begin():
    options = {'directory': os.environ['DOOMED_DIRECTORY'], 'sample-interval': '100ms'}
    life = arm(options, {}, Instance('test', '/nowhere', ''), 'server', {})
    life.armed()
    life.serving()


def die(way):
    if way == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == 'exit':
        os._exit(7)
    elif way == 'segv':
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # else it would leave its stack
        ctypes.string_at(0)


def app(environ, start_response):
    die(environ['PATH_INFO'].strip('/'))
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'alive']


begin()
if __name__ == '__main__':
    die(sys.argv[1])
