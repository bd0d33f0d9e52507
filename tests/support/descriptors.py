"""The open files of this process.

Tests for leaks look only at files that were opened since a moment: older ones of other tests may be
closed meanwhile, for example when a thread ends.
"""

import os
from collections import Counter


def held() -> Counter:
    """Return {open file: how many times}; the number of the descriptor where the system does not
    name the file.
    """
    return Counter(filter(None, map(_behind, os.listdir('/dev/fd'))))


def _behind(number):
    """Return '' for the descriptor of the listing itself, which is closed by now."""
    try:
        return os.readlink(f'/dev/fd/{number}')
    except FileNotFoundError:
        return ''
    except OSError:
        return number
