"""Waits for pages that renew themselves."""

import contextlib

import zopekit


def wait_for(condition, timeout=60, what='the condition'):
    """As `zopekit.wait_for`; an element that is gone by the time it is asked means "not yet"."""
    from selenium.common.exceptions import StaleElementReferenceException

    def attempt():
        with contextlib.suppress(StaleElementReferenceException):
            return condition()

    return zopekit.wait_for(attempt, timeout, what)
