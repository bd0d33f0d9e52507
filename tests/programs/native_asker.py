"""A process that takes its own native stacks, with a thread that Python does not know.

    native_asker.py SECONDS [TOOL]      TOOL: a program to use instead of the installed tool

It says "asking", and at the end a line of JSON: {error, threads, native_id of the main thread}.
"""

import ctypes
import json
import os
import sys
import threading
import time

from programs.handshake import say

from Products.StabilityMonitor.inspection import nativestacks
from Products.StabilityMonitor.system import stacktools


def foreign_thread():
    libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)


def main(seconds, *tools):
    foreign_thread()
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    stacks = nativestacks.NativeStacks(
        os.getpid(), seconds=float(seconds), tools={'pystack': tools} if tools else None
    )
    stacks.start()
    say('asking')
    stacks.wait()
    answer = {
        'error': stacks.error,
        'threads': stacktools.parse(stacks.result),
        'native_id': threading.get_native_id(),
    }
    say(json.dumps(answer))


main(*sys.argv[1:])
