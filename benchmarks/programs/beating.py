"""Pages of the Zope whose heartbeat is measured."""

import json
import threading
import time

READINGS = []


def watch(self):
    """From now on `readings` grow: a thread that does nothing but wake as often as the heartbeat is
    begun, too.
    """
    from Products.StabilityMonitor.recording.arming import STATE

    waking = threading.Thread(target=_wake, daemon=True)
    waking.start()
    threading.Thread(target=_watch, args=(STATE.life.rounds.heartbeat, waking), daemon=True).start()
    return ''


def readings(self):
    """After each beat: its number, and the nanoseconds of CPU time so far, of the heartbeat
    and of the other.
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
            time.sleep(0.05)  # it has gone to sleep by now
            READINGS.append([beats, *map(time.clock_gettime_ns, clocks)])


def _wake():
    never = threading.Lock()
    never.acquire()
    while not never.acquire(timeout=1):
        pass


def page(self):
    """Takes some milliseconds of one CPU, and waits for a database that is not there."""
    time.sleep(0.05)
    return json.dumps(
        [
            json.loads(json.dumps({'number': number, 'squares': [n * n for n in range(20)]}))
            for number in range(200)
        ]
    )
