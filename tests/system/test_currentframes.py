"""The frames of all threads are read where no garbage collection can begin meanwhile."""

import gc
import re
import sys
import threading
from pathlib import Path

import pytest

from Products.StabilityMonitor.system import currentframes

PACKAGE = Path(currentframes.__file__).parents[1]


@pytest.fixture
def collecting(monkeypatch):
    """A list that gets, at each look at the frames, whether a collection could begin."""
    seen, real = [], sys._current_frames
    monkeypatch.setattr(currentframes, 'MAY_DEADLOCK', True)
    monkeypatch.setattr(sys, '_current_frames', lambda: seen.append(gc.isenabled()) or real())
    yield seen
    gc.enable()


def test_the_frames_of_this_thread_are_there():
    frames = currentframes.current_frames()
    assert frames[threading.get_ident()].f_back is sys._getframe()
    frames.clear()


def test_no_collection_begins_meanwhile(collecting):
    currentframes.current_frames().clear()
    assert collecting == [False] and gc.isenabled()


def test_a_site_that_has_switched_collections_off_keeps_them_off(collecting):
    gc.disable()
    currentframes.current_frames().clear()
    assert collecting == [False] and not gc.isenabled()


def test_an_error_leaves_them_on(collecting, monkeypatch):
    monkeypatch.setattr(sys, '_current_frames', lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        currentframes.current_frames()
    assert gc.isenabled()


def test_other_releases_of_python_are_left_alone(collecting, monkeypatch):
    monkeypatch.setattr(currentframes, 'MAY_DEADLOCK', False)
    currentframes.current_frames().clear()
    assert collecting == [True]


def test_nothing_else_reads_them():
    callers = [
        path.name
        for path in PACKAGE.rglob('*.py')
        if re.search(r'_current_frames\(', path.read_text('utf-8'))
    ]
    assert callers == ['currentframes.py']
