"""Pages of the Zope whose heartbeat is measured."""
import json
import threading
import time


def threads(self):
    """Native ids of the heartbeat, and of a thread that does nothing but wake as often."""
    from Products.StabilityMonitor.recording.arming import STATE
    waking = threading.Thread(target=_wake, daemon=True)
    waking.start()
    return json.dumps([STATE.life.rounds.heartbeat.native_id, waking.native_id])


def _wake():
    never = threading.Lock()
    never.acquire()
    while not never.acquire(timeout=1):
        pass


def page(self):
    """Takes some milliseconds of a processor, and waits for a database that is not there."""
    time.sleep(0.05)
    return json.dumps([json.loads(json.dumps({'number': number, 'squares': [n * n for n in range(20)]}))
                       for number in range(200)])
