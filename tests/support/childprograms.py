"""Child processes of a test: how the test talks with them, and how they end.

A `Program` and the test exchange lines; `run_python` waits for the end of a program.  The programs
are in tests/programs, or a text after `-c`.  programs/handshake.py is their side of the exchange.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from programs.handshake import PATIENCE

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = CHECKOUT / 'tests' / 'programs'
#: The command `stabilitymonitor`, as arguments of Python.
COMMAND = ('-m', 'Products.StabilityMonitor')


def environment(**more):
    """Return the environment of this process, with this checkout and its tests on the path of
    Python.
    """
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / 'tests')])
    return os.environ | {'PYTHONPATH': path} | more


def run_python(*words, prefix=(), **how):
    """Run Python with these arguments until it ends, and return a CompletedProcess.

    `prefix` comes before Python on the command line.  Raises TimeoutExpired after `timeout`
    seconds.
    """
    usual = {
        'env': environment(),
        'stdin': subprocess.DEVNULL,
        'stdout': subprocess.PIPE,
        'stderr': subprocess.PIPE,
        'text': True,
        'timeout': PATIENCE,
    }
    return subprocess.run([*prefix, sys.executable, *map(str, words)], **usual | how)


class Program:
    """Python with these arguments, in the background.

    `said` and `errors` are the output that was not read before, available after `end` or
    `clean_up`.
    """

    said = errors = ''

    def __init__(self, *words, prefix=(), **how):
        usual = {
            'env': environment(),
            'stdin': subprocess.PIPE,
            'stdout': subprocess.PIPE,
            'stderr': subprocess.PIPE,
            'bufsize': 0,  # so that reading one line does not read the next ones too
        }
        command = [*prefix, sys.executable, *map(str, words)]
        self.process = subprocess.Popen(command, **usual | how)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.clean_up()

    @property
    def pid(self):
        return self.process.pid

    @property
    def lives(self):
        return self.process.poll() is None

    def hear(self):
        """Return the next line of its output; '' at the end."""
        return self.process.stdout.readline().decode().strip()

    def expect(self, *lines):
        """Assert that its next lines are these."""
        for line in lines:
            heard = self.hear()
            if heard != line:
                self.clean_up()
                raise AssertionError(f'{heard!r} instead of {line!r}: {self.errors}')
        return self

    def tell(self, word, *heard):
        """Send it a line, and expect these lines."""
        self.process.stdin.write(f'{word}\n'.encode())
        return self.expect(*heard)

    def go(self, *heard):
        """Expect the line "ready", send "go", and expect these lines."""
        return self.expect('ready').tell('go', *heard)

    def signal(self, name):
        self.process.send_signal(getattr(signal, name))
        return self

    def end(self, timeout=PATIENCE):
        """Close its input, wait for its end, and return its exit status."""
        said, errors = self.process.communicate(timeout=timeout)
        self.said = (said or b'').decode()
        self.errors = (errors or b'').decode()
        return self.process.returncode

    def kill(self):
        """End it by SIGKILL.  Its input and output stay open, since its children may use them."""
        self.process.kill()
        self.process.wait()

    def clean_up(self):
        """End it by SIGKILL, unless it has already ended."""
        self.process.kill()
        self.end()
