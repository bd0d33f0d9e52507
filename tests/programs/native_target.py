"""A process with eight threads, of which a tool takes native stacks.

    native_target.py hold_the_gil       a thread holds the GIL in usleep(), in C code
    native_target.py tick FILE          a thread counts in FILE, in 8 bytes, until the process ends

It says "ready" and lives until it is killed.
"""

import ctypes
import mmap
import struct
import sys
import threading
import time

from programs.handshake import Ways
from programs.handshake import say

OTHERS = 6
FOREVER = 3600


def hold_the_gil():
    say('ready')
    ctypes.PyDLL(None).usleep(FOREVER * 1_000_000 % (1 << 32))


def tick(path):
    with open(path, 'r+b') as file:
        counter, number = mmap.mmap(file.fileno(), 8), 0
    say('ready')
    while True:
        number += 1
        struct.pack_into('=Q', counter, 0, number)
        time.sleep(0.001)


WAYS = Ways(globals())


def main(what, *arguments):
    for _ in range(OTHERS):
        threading.Thread(target=time.sleep, args=(FOREVER,), daemon=True).start()
    threading.Thread(target=WAYS[what], args=arguments, daemon=True).start()
    time.sleep(FOREVER)


main(*sys.argv[1:])
