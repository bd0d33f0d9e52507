"""Each drill ends a real Zope, and the next process gives the verdict that the page expects."""

import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import deaths
from support.zopekit import wait_for

from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

pytestmark = pytest.mark.zope
CHECKOUT = Path(__file__).resolve().parents[2]
TAB = '/Control_Panel/StabilityMonitor/'


def press(zope, drill, timeout=30):
    fields = dict(
        re.findall(r'name="(token|run)" value="([^"]+)"', zope.get(TAB + 'manage_drills').text)
    )
    try:
        return zope.post(TAB + 'manage_drill', fields | {'drill': drill}, timeout=timeout)
    except (OSError, http.client.HTTPException):
        return None


def judged(zope):
    zope.start()
    return zope.report()['previous']


@pytest.mark.in_process
def test_the_ids_of_drills_are_those_of_the_black_box():
    pytest.importorskip('ZPublisher')
    from Products.StabilityMonitor.zmi import drills

    assert tuple(drill.id for drill in drills.DRILLS) == blackbox.DRILLS


@pytest.mark.parametrize(
    'drill, code, verdict',
    [
        ('segfault', -signal.SIGSEGV, 'crashed'),
        ('abort', -signal.SIGABRT, 'aborted'),
        ('fatal-error', -signal.SIGABRT, 'aborted'),
        ('stack-overflow', -signal.SIGSEGV, 'stack-overflow'),
        ('exit', 3, None),
        ('kill', -signal.SIGKILL, None),
    ],
)
def test_a_drill_ends_the_process_and_is_reported(make_zope, drill, code, verdict):
    zope = make_zope(options={'drills': 'on'}).start()
    zope.get('/')
    assert press(zope, drill) is None
    assert zope.wait_exit() == code
    found = judged(zope)
    assert found['drill'] == drill
    assert verdict is None or found['verdict'] == verdict


@pytest.mark.slow
@pytest.mark.parametrize('drill', ['gil', 'lock'])
def test_a_drill_that_hangs_is_reported_as_hung(make_zope, drill):
    zope = make_zope(
        options={'drills': 'on', 'stall': '1s', 'sample-interval': '200ms'}, threads=2
    ).start()
    run = zope.report()['process']['run']
    assert press(zope, drill, timeout=3) is None
    assert zope.running
    if drill == 'lock':
        zope.background('/')
    folder = zope.stability / 'runs' / run
    wait_for(lambda: hung(folder, drill), what='the mark of a hang')
    zope.kill(signal.SIGTERM)
    assert zope.wait_exit() == -signal.SIGTERM
    found = judged(zope)
    assert (found['verdict'], found['drill']) == ('hung', drill)


def hung(folder, drill):
    if drill == 'gil':
        return (folder / 'watchdog.mark').read_bytes().strip(b'\0')
    return blackboxreader.read((folder / 'blackbox.sbr').read_bytes()).words['hung_since']


def test_the_memory_drill_is_refused_without_a_limit(make_zope):
    zope = make_zope(options={'drills': 'on'}).start()
    if zope.report()['process'].get('cgroup_limit', -1) > 0:
        pytest.skip('this test runs in a memory cgroup with a limit')
    answer = press(zope, 'memory')
    assert answer.status == 302 and 'not+in+a+memory+cgroup' in answer.headers['Location']
    assert zope.running


@pytest.mark.root
def test_the_memory_drill_is_killed_in_a_memory_cgroup():
    """The drill alone, without a site."""
    program = 'from Products.StabilityMonitor.zmi import drills; drills._eat_memory()'
    try:
        with deaths.memory_cgroup(300 << 20) as group:
            enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
            done = subprocess.run(
                ['sh', '-c', enter, 'sh', sys.executable, '-c', program], cwd=CHECKOUT, timeout=60
            )
    except PermissionError as error:
        pytest.skip(f'no memory cgroup can be made here: {error}')
    assert done.returncode == -signal.SIGKILL
