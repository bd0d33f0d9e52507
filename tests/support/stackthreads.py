"""Threads with a given stack size."""

import threading


def in_thread(function, size=0):
    """Return the result of a function in a new thread with this stack size."""
    before = threading.stack_size(size)
    try:
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        thread.join()
        return results[0]
    finally:
        threading.stack_size(before)
