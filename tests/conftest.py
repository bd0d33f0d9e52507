"""Fixtures, and markers for what a test needs: a test is skipped with a reason where that is
missing.

`--require=zope,browser` is for CI: the session fails if no test with such a marker passed, or if
one was skipped (unless it also needs something else that is missing and was not required).
"""

import collections
import gc
import os
import shutil
import sys
import threading
import time

import hypothesis
import pytest
from support.needs import NEEDS
from support.zopekit import ZopeInstance

# Times for people are local.  The tests expect UTC, and so do the processes that they start.
os.environ['TZ'] = 'UTC'
if hasattr(time, 'tzset'):
    time.tzset()

# The time of an example depends more on the machine than on the code.
hypothesis.settings.register_profile('without deadline', deadline=None)
hypothesis.settings.load_profile('without deadline')

#: The test files in tests/functional that `make test` runs.
QUICK = {'test_fault_matrix.py'}
REQUIRED = pytest.StashKey()
RAN = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption(
        '--require',
        default='',
        metavar='MARKERS',
        help='fail unless tests with each of these markers ran, and none was skipped: '
        + ','.join(NEEDS),
    )


def pytest_configure(config):
    config.stash[REQUIRED] = [name for name in config.getoption('--require').split(',') if name]
    config.stash[RAN] = collections.Counter()
    unknown = set(config.stash[REQUIRED]) - set(NEEDS)
    if not hasattr(config, 'workerinput'):
        config.pluginmanager.register(_Ran(config))
        config.pluginmanager.register(_Hanging(config))
    if unknown:
        raise pytest.UsageError(f'--require: no such marker: {", ".join(sorted(unknown))}')


def _measure_no_more():
    """Stop measuring coverage in a forked child.

    Coverage could change how the child ends, which tests judge.  It also takes locks, which another
    thread of the parent may hold at the time of the fork.
    """
    if sys.monitoring.get_tool(sys.monitoring.COVERAGE_ID):
        sys.monitoring.free_tool_id(sys.monitoring.COVERAGE_ID)


if hasattr(sys, 'monitoring') and hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_measure_no_more)


def pytest_collection_modifyitems(config, items):
    missing = {name: find() for name, find in NEEDS.items()}
    for item in items:
        if item.path.parent.name == 'functional' and item.path.name not in QUICK:
            item.add_marker(pytest.mark.thorough)
        for name, reason in missing.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=_seconds, reverse=True)


def pytest_collection_finish():
    """Leave the thousands of collected tests out of garbage collections: they are kept anyway."""
    gc.freeze()


def _seconds(item):
    """Return the known seconds of a test with the marker `slow`; 0 for all others.

    The longest tests start first: one that starts last would keep all other processes waiting for
    its end.
    """
    slow = item.get_closest_marker('slow')
    if slow is None:
        return 0
    return slow.args[0] if slow.args else 10


class _Ran:
    """Counts passed and skipped tests in the process that gathers the reports (with pytest-xdist:
    the controller).
    """

    def __init__(self, config):
        self.required, self.ran = config.stash[REQUIRED], config.stash[RAN]

    def pytest_runtest_logreport(self, report):
        markers = {name for name in NEEDS if name in report.keywords}
        excused = markers.difference(self.required)
        for name in markers.intersection(self.required):
            if report.when == 'call' and report.passed:
                self.ran[name, 'passed'] += 1
            elif report.skipped and not hasattr(report, 'wasxfail') and not excused:
                self.ran[name, 'skipped'] += 1


class _Hanging:
    """Names each test that has run for long, and again as long as it runs, so that a test that
    hangs is known when CI ends the run.  It works in the process that gathers the reports.
    """

    LONG = 300  # seconds

    def __init__(self, config):
        self.config, self.began = config, {}
        threading.Thread(target=self._watch, daemon=True).start()

    def pytest_runtest_logstart(self, nodeid):
        self.began[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid):
        self.began.pop(nodeid, None)

    def _watch(self):
        while True:
            time.sleep(self.LONG)
            for nodeid, began in list(self.began.items()):
                lasted = time.monotonic() - began
                if lasted > self.LONG:
                    reporter = self.config.pluginmanager.get_plugin('terminalreporter')
                    reporter.write_line(f'ERROR: {nodeid} has been running for {lasted:.0f} s')


def _unmet(config):
    if hasattr(config, 'workerinput'):
        return
    ran = config.stash[RAN]
    for name in config.stash[REQUIRED]:
        if not ran[name, 'passed'] or ran[name, 'skipped']:
            yield (
                f'required marker "{name}": {ran[name, "passed"]} passed, '
                f'{ran[name, "skipped"]} skipped'
            )


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and any(_unmet(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for line in _unmet(config):
        terminalreporter.write_line(f'ERROR: {line}', red=True)


@pytest.fixture
def make_zope(tmp_path):
    """A function that creates Zopes, not started yet, in folders of this test; all end with the
    test.
    """
    made = []

    def make(name=None, **arguments):
        zope = ZopeInstance(tmp_path / (name or f'zope{len(made)}'), **arguments)
        made.append(zope)
        return zope.create()

    yield make
    for zope in made:
        zope.destroy()


@pytest.fixture(scope='session')
def _plain_zope(tmp_path_factory):
    zope = ZopeInstance(tmp_path_factory.mktemp('shared')).create().start()
    yield zope
    zope.destroy()


@pytest.fixture
def shared_zope(_plain_zope):
    """A plain, running Zope for all tests of this process that neither end nor change it.

    It has no dead runs, no muted findings, and drills are off.
    """
    pid = _plain_zope.pid
    yield _plain_zope
    assert _plain_zope.running and _plain_zope.pid == pid
    (_plain_zope.stability / 'muted.json').unlink(missing_ok=True)


@pytest.fixture
def zope(make_zope):
    """A created Zope that is not started yet."""
    return make_zope()


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-dev-shm-usage',
        '--window-size=1280,1000',
    ):
        options.add_argument(argument)
    options.binary_location = shutil.which('chromium')
    environment = {**os.environ, 'HOME': str(tmp_path_factory.mktemp('chromium'))}
    driver = webdriver.Chrome(options, Service(shutil.which('chromedriver'), env=environment))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, tmp_path):
    """The browser with a blank page; it saves downloads in the folder `browser.downloads`."""
    chromium.downloads = tmp_path / 'downloads'
    chromium.downloads.mkdir()
    chromium.execute_cdp_cmd(
        'Browser.setDownloadBehavior',
        {'behavior': 'allow', 'downloadPath': str(chromium.downloads)},
    )
    chromium.get('about:blank')
    return chromium
