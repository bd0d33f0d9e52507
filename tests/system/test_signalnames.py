"""Names of signals."""

import signal

import pytest

from Products.StabilityMonitor.system.signalnames import signal_name


@pytest.mark.skipif(not hasattr(signal, 'SIGRTMIN'), reason='this system has none of them')
@pytest.mark.parametrize(
    'number, name',
    [
        (9, 'SIGKILL'),
        (6, 'SIGABRT'),
        (getattr(signal, 'SIGRTMIN', 0), 'SIGRTMIN'),
        (getattr(signal, 'SIGRTMIN', 0) + 3, 'SIGRTMIN+3'),
        (getattr(signal, 'SIGRTMAX', 0), 'SIGRTMAX'),
        (32, 'signal 32'),  # libc keeps it for itself
        (99, 'signal 99'),
        (0, 'signal 0'),
        (-5, 'signal -5'),
    ],
)
def test_a_signal_has_its_name(number, name):
    assert signal_name(number) == name
