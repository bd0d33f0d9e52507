"""What Zope calls of the package itself."""

import sys

import Products.StabilityMonitor as product


def test_a_tab_that_cannot_be_added_is_logged_and_zope_starts(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, f'{product.__name__}.zmi', None)  # importing it fails
    product.initialize(None)
    (line,) = caplog.records
    assert line.getMessage() == 'The Control Panel has no tab "Stability": adding it failed.'
    assert line.exc_info and line.name == 'StabilityMonitor'
