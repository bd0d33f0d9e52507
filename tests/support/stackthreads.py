"""Threads with a stack of a size that a test asks for."""

import threading


def in_thread(function, size=0):
    """What a function returns in a new thread with a stack of that size."""
    before = threading.stack_size(size)
    try:
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        thread.join()
        return results[0]
    finally:
        threading.stack_size(before)
