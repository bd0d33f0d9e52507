"""Pages of the Zope whose heartbeat is measured."""

import json
import threading
import time

READINGS = []


def watch(self):
    """Start to collect `readings`, and start a thread that only wakes as often as the heartbeat."""
    from Products.StabilityMonitor.recording.arming import STATE

    waking = threading.Thread(target=_wake, daemon=True)
    waking.start()
    threading.Thread(target=_watch, args=(STATE.life.rounds.heartbeat, waking), daemon=True).start()
    return ''


def readings(self):
    """Return for each beat its number, and the total CPU time of the heartbeat and of the other
    thread, in nanoseconds.
    """
    return json.dumps(READINGS)


def _watch(heartbeat, waking):
    clocks, beats = (
        [time.pthread_getcpuclockid(thread.ident) for thread in (heartbeat, waking)],
        heartbeat.beats,
    )
    while True:
        time.sleep(0.05)
        if heartbeat.beats != beats:
            beats = heartbeat.beats
            time.sleep(0.05)  # now the heartbeat sleeps again
            READINGS.append([beats, *map(time.clock_gettime_ns, clocks)])


def _wake():
    never = threading.Lock()
    never.acquire()
    while not never.acquire(timeout=1):
        pass


def page(self):
    """Use some milliseconds of CPU time, and sleep as if a database were asked."""
    time.sleep(0.05)
    return json.dumps(
        [
            json.loads(json.dumps({'number': number, 'squares': [n * n for n in range(20)]}))
            for number in range(200)
        ]
    )
