"""Each drill ends a real Zope, and the next process gives the verdict that the page expects."""

import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import deaths
from support.fakelife import FakeLife
from support.fakelife import with_directory
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


@pytest.mark.in_process
@pytest.mark.parametrize(
    'stderr, fault_log, row',
    [
        ('file', True, ('fatal-error', '')),
        ('pipe', True, ('fatal-error', 'vanished, since standard error is a pipe')),
        ('pipe', False, ('abort', 'vanished, since the fault log is off')),
        ('pipe', True, ('abort', '')),
    ],
)
def test_the_page_says_what_this_site_will_report(tmp_path, stderr, fault_log, row):
    pytest.importorskip('ZPublisher')
    from Products.StabilityMonitor.zmi import pages

    life = with_directory(FakeLife(tmp_path, context={'outputs': {'2': {'kind': stderr}}}))
    life.fault_log = object() if fault_log else None
    drills = pages.drill_page(life, 'drill')['drills']
    assert row in {(drill['id'], drill['here']) for drill in drills}


@pytest.mark.in_process
def test_each_button_says_what_it_does():
    pytest.importorskip('ZPublisher')
    from Products.StabilityMonitor.zmi import drills

    by_id = {drill.id: drill for drill in drills.DRILLS}
    others = {'gil': 'Hang this process', 'lock': 'Hang all workers', 'memory': 'Eat memory'}
    for id, drill in by_id.items():
        assert drill.button == others.get(id, 'End this process')
    assert 'the kernel may kill one of them' in by_id['memory'].what


@pytest.mark.thorough
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
    facts = [item['fact'] for item in found['evidence']]
    assert f'it is the drill "{drill}"; expected and reported: {found["verdict"]}' in facts[-1]


@pytest.mark.thorough
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
