"""A package that has its own use for SIGUSR1.  Under a name before "StabilityMonitor" it is imported first."""
import signal

SEEN = []


def _handler(number, frame):
    SEEN.append(number)


signal.signal(signal.SIGUSR1, _handler)
