"""What this process has open.  Tests for leaks look at what was opened since: what others have left
may be closed meanwhile, as when a thread of theirs ends.
"""

import os
from collections import Counter


def held() -> Counter:
    """{what is open: how many times}; descriptors themselves where the system does not tell what
    lies behind them.
    """
    return Counter(filter(None, map(_behind, os.listdir('/dev/fd'))))


def _behind(number):
    """'' for the directory that was listed, which is closed by now."""
    try:
        return os.readlink(f'/dev/fd/{number}')
    except FileNotFoundError:
        return ''
    except OSError:
        return number
