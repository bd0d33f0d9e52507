"""Aside: the work is done in another thread, whose CPU time is its own, and its outcome comes
back.
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


def test_the_answer_comes_from_another_thread_which_stays():
    name, ident, daemon = aside(
        lambda: (
            threading.current_thread().name,
            threading.get_ident(),
            threading.current_thread().daemon,
        )
    )
    assert (name, daemon) == ('StabilityMonitor aside', True) and ident != threading.get_ident()
    assert aside(threading.get_ident) == ident and name in names()


def test_both_threads_are_there_once_it_has_begun():
    begin()
    before = [
        name for name in names() if name in ('StabilityMonitor aside', 'StabilityMonitor errands')
    ]
    begin()
    in_background(int)
    assert sorted(before) == ['StabilityMonitor aside', 'StabilityMonitor errands']
    assert before == [name for name in names() if name in before]


def test_who_waits_in_vain_goes_on():
    gate = threading.Event()
    with pytest.raises(TimeoutError):
        aside(gate.wait, patience=0)
    gate.set()
    assert aside(lambda: 'the next one') == 'the next one'


def test_none_is_an_answer_too():
    assert aside(lambda: None) is None


@pytest.mark.parametrize('error', [ValueError, SystemExit, KeyboardInterrupt])
def test_what_is_raised_is_raised_here(error):
    def fail():
        raise error('the reason')

    with pytest.raises(error, match='the reason'):
        aside(fail)


def test_it_waits_for_no_log_handler(monkeypatch):
    """Or who waits for it would; and a thread that gets its ident later is not hurried."""
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


def test_one_within_another():
    assert aside(lambda: aside(threading.get_ident)) != threading.get_ident()
