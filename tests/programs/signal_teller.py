"""A process that says "ready" and the number of each signal that it gets; at SIGUSR2 it exits
with 4.
"""

import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from programs.handshake import say  # noqa: E402


def main():
    signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    say('ready')
    while (number := signal.sigwaitinfo(signals).si_signo) != signal.SIGUSR2:
        say(int(number))
    sys.exit(4)


if __name__ == '__main__':
    main()
