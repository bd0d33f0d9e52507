"""How tests and the programs that die talk: conditions that are awaited, never a fixed time that is
hoped for.
"""

import time

PATIENCE = 60


def until(condition, what='the condition'):
    """The first true value of `condition()`; AssertionError when it stays false for `PATIENCE`
    seconds.
    """
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f'{what} did not come true within {PATIENCE} s'
        time.sleep(0.005)
    return value
