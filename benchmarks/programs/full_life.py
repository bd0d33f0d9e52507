"""Fill a black box completely, and crash: `full_life.py DIRECTORY CLIENT_HOME`.

All rings are full, eight threads have deep stacks, and requests are in flight; it ends with a
segmentation fault.
"""

import os
import signal
import sys
import threading
import time

from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.recording import arming
from Products.StabilityMonitor.store import blackbox

FRAMES, THREADS = 45, 8


def down(frames, ready):
    if frames:
        return down(frames - 1, ready)
    ready.release()
    threading.Event().wait()


def work(recorder, number, ready):
    for request in range(blackbox.FINISHED_COUNT):
        recorder.begin('GET', f'/site/section-{number}/folder/document-{request}/view')
        recorder.end(200)
    recorder.begin('POST', f'/site/section-{number}/edit')
    down(FRAMES, ready)


def main(directory, client_home):
    life = arming.arm(
        {'directory': directory},
        os.environ,
        Instance('here', client_home, '127.0.0.1:8080'),
        'server',
        {'zope': '6.3', 'threads': THREADS},
    )
    life.armed()
    life.serving()
    recorder, ready, now = life.recorder, threading.Semaphore(0), time.time()
    for number in range(blackbox.SAMPLE_COUNT):
        recorder.sample(
            Sample(
                now - 900 + number,
                float(number),
                1 << 28,
                number / 10,
                12,
                40,
                3,
                0,
                8,
                1 << 30,
                1 << 32,
                0,
                0,
                number * 100,
            )
        )
    for number in range(blackbox.LOG_COUNT):
        recorder.log(
            40,
            'Zope.SiteErrorLog',
            f'{number}: ' + 'ValueError: out of luck ' * 20,
            now - 64 + number,
        )
    for number in range(THREADS):
        threading.Thread(target=work, args=(recorder, number, ready), daemon=True).start()
        ready.acquire()
    signal.raise_signal(signal.SIGSEGV)


main(*sys.argv[1:])
