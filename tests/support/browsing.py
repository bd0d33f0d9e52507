"""A person with a browser: logs in, clicks, and waits for pages that refresh themselves."""

import contextlib

from support import zopekit
from support.zopekit import PASSWORD
from support.zopekit import USER

TAB = '/Control_Panel/StabilityMonitor/'


def wait_for(condition, timeout=60, what='the condition'):
    """Do the same as `zopekit.wait_for`; an element that a refresh of the page has removed or
    folded means "not yet".
    """
    from selenium.common.exceptions import ElementNotInteractableException
    from selenium.common.exceptions import StaleElementReferenceException

    def attempt():
        with contextlib.suppress(StaleElementReferenceException, ElementNotInteractableException):
            return condition()

    return zopekit.wait_for(attempt, timeout, what)


def log_in(browser, zope, path='/Control_Panel/manage_main'):
    browser.get(f'{zope.url}{path}'.replace('//', f'//{USER}:{PASSWORD}@', 1))
    browser.get(f'{zope.url}{path}')  # the address without the password, as after a login


def click(browser, text):
    browser.find_element('link text', text).click()


def shown(browser):
    return browser.find_element('tag name', 'main').text
