"""Programs that a test starts as child processes: how it talks with them, and how they end.

A `Program` says lines and is told some; `run_python` is for one that is only waited for.  What they
do lies in tests/programs, or is a text after `-c`.  Their side of the talk is
programs/handshake.py.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from programs.handshake import PATIENCE

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = CHECKOUT / 'tests' / 'programs'
#: The command `stabilitymonitor`, for a command line of Python.
COMMAND = ('-m', 'Products.StabilityMonitor')


def environment(**more):
    """That of this process, with this checkout and its tests on the path of Python."""
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / 'tests')])
    return os.environ | {'PYTHONPATH': path} | more


def run_python(*words, prefix=(), **how):
    """Python with these words on its command line, after its end: a CompletedProcess.

    `prefix` comes before Python.  TimeoutExpired where it takes longer than `timeout`.
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
    """Python with these words on its command line, in the background.

    `said` and `errors` are what it wrote and nobody has heard, known after `end` or `clean_up`.
    """

    said = errors = ''

    def __init__(self, *words, prefix=(), **how):
        usual = {
            'env': environment(),
            'stdin': subprocess.PIPE,
            'stdout': subprocess.PIPE,
            'stderr': subprocess.PIPE,
            'bufsize': 0,  # so that a line that is heard takes nothing of what comes after it
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
        """The next line that it says; '' when it says no more."""
        return self.process.stdout.readline().decode().strip()

    def expect(self, *lines):
        """It says these lines next."""
        for line in lines:
            heard = self.hear()
            if heard != line:
                self.clean_up()
                raise AssertionError(f'{heard!r} instead of {line!r}: {self.errors}')
        return self

    def tell(self, word, *heard):
        """It is told a line, and says these lines then."""
        self.process.stdin.write(f'{word}\n'.encode())
        return self.expect(*heard)

    def go(self, *heard):
        """Let it go its way, after it said that it is ready; it says these lines then."""
        return self.expect('ready').tell('go', *heard)

    def signal(self, name):
        self.process.send_signal(getattr(signal, name))
        return self

    def end(self, timeout=PATIENCE):
        """Its exit status, after it was told no more and has ended."""
        said, errors = self.process.communicate(timeout=timeout)
        self.said = (said or b'').decode()
        self.errors = (errors or b'').decode()
        return self.process.returncode

    def kill(self):
        """End it by SIGKILL.  Its input and output stay open: children of it may have them."""
        self.process.kill()
        self.process.wait()

    def clean_up(self):
        """End it by SIGKILL, unless it has ended."""
        self.process.kill()
        self.end()
