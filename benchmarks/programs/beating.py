"""A living run with eight serving threads: processor time of its heartbeat thread, beat by beat, and of a thread that
only wakes as often.

    beating.py DIRECTORY BEATS
"""
import json
import sys
import threading
import time

from Products.StabilityMonitor.recording import arming

THREADS = 8


def work(recorder, number):
    """Serves; one thread in two is in a request whenever the heartbeat looks."""
    while True:
        recorder.begin('GET', f'/page{number}')
        time.sleep(0.9 if number % 2 else 0.001)
        recorder.end(200)
        time.sleep(0.001 if number % 2 else 0.9)


def wake():
    """What a thread that does nothing costs here: it is cold each time, as the heartbeat is."""
    never = threading.Lock()
    never.acquire()
    while not never.acquire(timeout=1):
        pass


def main(directory, beats):
    life = arming.arm({'directory': directory}, {}, {'host': 'here', 'client_home': directory, 'listen': ''},
                      'server', {})
    life.armed()
    for number in range(THREADS):
        threading.Thread(target=work, args=(life.recorder, number), daemon=True, name=f'waitress-{number}').start()
    heartbeat = life.rounds.heartbeat
    empty = threading.Thread(target=wake, daemon=True)
    empty.start()
    clocks = [time.pthread_getcpuclockid(thread.ident) for thread in (heartbeat, empty)]
    times, last = [], heartbeat.last
    before = None
    while len(times) < int(beats):
        while heartbeat.last == last:
            time.sleep(0.05)
        last = heartbeat.last
        time.sleep(0.2)                                 # this beat is over, the next one has not begun
        now = [time.clock_gettime_ns(clock) / 1000 for clock in clocks]
        if before is not None:
            times.append([after - earlier for after, earlier in zip(now, before, strict=True)])
        before = now
    print(json.dumps({'microseconds': times, 'findings': [f.id for f in life.findings]}))


main(*sys.argv[1:])
