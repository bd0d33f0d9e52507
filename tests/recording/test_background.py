"""The helper threads: "aside" returns results and errors to the caller, "errands" runs in the
background.
"""

import logging
import threading

import pytest

from Products.StabilityMonitor.recording.background import aside
from Products.StabilityMonitor.recording.background import begin
from Products.StabilityMonitor.recording.background import in_background
from Products.StabilityMonitor.system import loglater


def names():
    return [thread.name for thread in threading.enumerate()]


def test_aside_runs_in_another_thread_which_stays():
    name, ident, daemon = aside(
        lambda: (
            threading.current_thread().name,
            threading.get_ident(),
            threading.current_thread().daemon,
        )
    )
    assert (name, daemon) == ('StabilityMonitor aside', True) and ident != threading.get_ident()
    assert aside(threading.get_ident) == ident and name in names()


def test_begin_starts_both_threads_once():
    begin()
    before = [
        name for name in names() if name in ('StabilityMonitor aside', 'StabilityMonitor errands')
    ]
    begin()
    in_background(int)
    assert sorted(before) == ['StabilityMonitor aside', 'StabilityMonitor errands']
    assert before == [name for name in names() if name in before]


def test_aside_raises_a_timeout_and_works_afterwards():
    gate = threading.Event()
    with pytest.raises(TimeoutError):
        aside(gate.wait, patience=0)
    gate.set()
    assert aside(lambda: 'the next one') == 'the next one'


def test_aside_can_return_none():
    assert aside(lambda: None) is None


@pytest.mark.parametrize('error', [ValueError, SystemExit, KeyboardInterrupt])
def test_aside_raises_what_the_function_raises(error):
    def fail():
        raise error('the reason')

    with pytest.raises(error, match='the reason'):
        aside(fail)


def test_the_thread_aside_waits_for_no_log_handler(monkeypatch):
    """Otherwise the thread that waits for the result would wait for the log handler, too."""
    said = []
    monkeypatch.setattr(loglater._MESSENGER, 'say', lambda *words, **more: said.append(words))
    before = set(loglater.HURRIED)
    ident = aside(
        lambda: (loglater.log(logging.WARNING, 'of the errand'), threading.get_ident())[1]
    )
    assert said == [(logging.WARNING, 'of the errand')] and ident in loglater.HURRIED

    def fail():
        raise OSError

    with pytest.raises(OSError):
        aside(fail)
    assert loglater.HURRIED >= before


def test_a_call_of_aside_within_another_works():
    assert aside(lambda: aside(threading.get_ident)) != threading.get_ident()
