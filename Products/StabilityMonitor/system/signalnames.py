"""Names of signals, the same for all who saw a process end: else they would seem to differ."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """Return the name of a signal, such as "SIGTERM" or "SIGRTMIN+3"; "signal 99" for none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        pass
    first = getattr(signal, 'SIGRTMIN', 0)  # macOS has no real-time signals
    if first and first < number < signal.SIGRTMAX:
        return f'SIGRTMIN+{number - first}'
    return f'signal {number}'
