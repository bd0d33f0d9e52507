"""What a shell does with a job in a terminal: `python terminal_job.py TERMINAL COMMAND ...`

It runs the command in the foreground of the terminal TERMINAL.  When the job is stopped, it says
"stopped", and continues it when it hears a line.
"""

import fcntl
import os
import signal
import sys
import termios
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from programs.handshake import hear  # noqa: E402
from programs.handshake import say  # noqa: E402


def main(path, *command):
    os.setsid()
    terminal = os.open(path, os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(command[0], command)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        say('stopped')
        hear()
        os.killpg(pid, signal.SIGCONT)


if __name__ == '__main__':
    main(*sys.argv[1:])
