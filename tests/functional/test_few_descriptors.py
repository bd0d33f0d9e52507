"""With few descriptors Zope serves as without this product."""

import contextlib
import os

import pytest
from support.descriptors import held

pytestmark = pytest.mark.zope
#: Zope alone serves with this limit, and has some left for connections.
LIMIT = 32


@pytest.fixture
def limited(make_zope):
    """Return a function that starts a Zope with this limit of open files."""

    def limited(limit):
        zope = make_zope()
        command = zope.command()
        zope.command = lambda: ['sh', '-c', f'ulimit -n {limit}; exec "$@"', 'sh', *command]
        return zope.start()

    return limited


def ours(zope):
    """Return the files of the product, and of the kernel, that a Zope holds open."""
    folder = f'/proc/{zope.pid}/fd'
    files = []
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            files.append(os.readlink(f'{folder}/{number}'))
    places = (str(zope.stability), '/proc/', '/sys/')
    return sorted(os.path.basename(file) for file in files if file.startswith(places))


def test_with_32_descriptors_zope_has_as_many_left_as_it_needs(limited):
    zope = limited(LIMIT)
    for _ in range(2):
        zope.get('/')
    assert ours(zope) == ['bell', 'blackbox.sbr', 'faults.mark', 'lock']
    findings = {check['id']: check for check in zope.report()['checks']}
    assert findings['few-descriptors']['severity'] == 'warning'
    assert 'ulimit -n' in findings['few-descriptors']['action']
    zope.stop()


def test_with_64_descriptors_everything_is_recorded(limited):
    zope = limited(64)
    files = ours(zope)
    assert 'SIGTERM.mark' in files and 'watchdog.mark' in files and 'statm' in files
    ids = {check['id'] for check in zope.report()['checks']}
    assert 'few-descriptors' not in ids
    zope.stop()


def test_samples_are_taken_without_held_files():
    from Products.StabilityMonitor.system.vitalsigns import Vitals

    before = held()
    vitals = Vitals({}, holds_files=False)
    vitals.look()
    vitals.look_at_host()
    sample = vitals.sample(0, 0, 0)
    assert sample.rss > 0 and sample.threads > 0 and sample.host_kills >= 0
    assert not held() - before
