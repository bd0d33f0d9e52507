"""Time zones for tests of local times."""

import contextlib
import time


@contextlib.contextmanager
def time_zone(monkeypatch, zone):
    """Within the block, this process is in that time zone."""
    with monkeypatch.context() as patch:
        patch.setenv('TZ', zone)
        time.tzset()
        yield
    time.tzset()
