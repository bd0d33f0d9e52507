"""The command `stabilitymonitor run`, before a program of the tests."""

import sys

from support.childprograms import COMMAND

RUN = (sys.executable, *COMMAND, 'run', '--')
