"""A process that leaves an orphan, which ends, and says "reaped" when its new parent has reaped it.

It needs the /proc of its own pid namespace.
"""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from programs.handshake import say  # noqa: E402
from programs.handshake import until  # noqa: E402


def main():
    reader, writer = os.pipe()
    middle = os.fork()
    if not middle:
        orphan = os.fork()
        if orphan:
            os.write(writer, str(orphan).encode())
        else:
            until(lambda: os.getppid() == 1, 'an orphan')
        os._exit(0)
    os.waitpid(middle, 0)
    orphan = int(os.read(reader, 10))
    until(lambda: not Path(f'/proc/{orphan}').exists(), 'the orphan is reaped')
    say('reaped')


if __name__ == '__main__':
    main()
