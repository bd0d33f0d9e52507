"""No garbage collection can begin while the frames of all threads are read."""

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
    """A list with one entry for each reading of the frames: whether a collection could begin."""
    seen, real = [], sys._current_frames
    monkeypatch.setattr(currentframes, 'MAY_DEADLOCK', True)
    monkeypatch.setattr(sys, '_current_frames', lambda: seen.append(gc.isenabled()) or real())
    yield seen
    gc.enable()


def test_the_frame_of_the_calling_thread_is_that_of_the_call():
    frames = currentframes.current_frames()
    assert frames[threading.get_ident()].f_back is sys._getframe()
    frames.clear()


def test_no_garbage_collection_begins_while_frames_are_read(collecting):
    currentframes.current_frames().clear()
    assert collecting == [False] and gc.isenabled()


def test_garbage_collection_that_was_disabled_stays_disabled(collecting):
    gc.disable()
    currentframes.current_frames().clear()
    assert collecting == [False] and not gc.isenabled()


def test_garbage_collection_is_enabled_again_after_an_error(collecting, monkeypatch):
    monkeypatch.setattr(sys, '_current_frames', lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        currentframes.current_frames()
    assert gc.isenabled()


def test_other_releases_of_python_do_not_disable_garbage_collection(collecting, monkeypatch):
    monkeypatch.setattr(currentframes, 'MAY_DEADLOCK', False)
    currentframes.current_frames().clear()
    assert collecting == [True]


def test_only_this_module_calls_current_frames_of_sys():
    callers = [
        path.name
        for path in PACKAGE.rglob('*.py')
        if re.search(r'_current_frames\(', path.read_text('utf-8'))
    ]
    assert callers == ['currentframes.py']


def test_no_test_calls_it_either():
    """A test did, and hung once in some runs, with all tests behind it."""
    folder = Path(__file__).parents[1]
    callers = [
        path.name
        for path in folder.rglob('*.py')
        if path != Path(__file__) and 'sys._current_frames(' in path.read_text('utf-8')
    ]
    assert callers == []
