"""The command beside real, living Zopes: which states are a problem, and which are not."""

import os
import signal

import pytest
from support import standstills
from support.standstills import PATIENCE
from support.standstills import STANDING
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

pytestmark = pytest.mark.zope

#: Waits at import until the file $GO_ON exists.  Zope imports this product after StabilityMonitor.
SLOW_START = """
import os, time
open(os.environ['IT_STARTS'], 'w').close()
while not os.path.exists(os.environ['GO_ON']):
    time.sleep(0.05)
"""


@pytest.fixture
def site(tmp_path):
    site = standstills.StandingSite(tmp_path / 'site').create()
    yield site
    site.destroy()


def lines_of(site, *words, status):
    """Return the lines of the output, without the indented ones: vital signs and details."""
    done = site.tell(*words)
    assert (done.returncode, done.stderr) == (status, ''), done
    return lines(done.stdout)


def lines(output):
    return [line for line in output.splitlines() if not line.startswith('    ')]


def is_wrong(site):
    return site.tell('status').returncode == 1


def lines_of_a_hang(site):
    """Return the lines of status as soon as they tell a hang."""

    def told():
        done = site.tell('status')
        return lines(done.stdout) if done.returncode == 1 else None

    return wait_for(told, PATIENCE, 'the hang')


def test_status_reports_stuck_workers_until_they_are_free(site):
    site.run_as(STANDING)
    (line,) = lines_of(site, 'status', status=0)
    assert line.startswith(f'running: pid {site.pid}, began ')
    sign = site.home / 'sign'
    asked = [site.background(f'/sleep_until?sign={sign}') for _ in range(site.threads)]
    _, line = lines_of_a_hang(site)
    assert line.startswith(f'HANGS: pid {site.pid}, began 20')
    assert 'All 4 workers have been busy' in line and 'sleep_until' in line
    assert line.endswith(' 4 of 4 workers are stuck.')
    sign.touch()
    for each in asked:
        each.join()
    wait_for(lambda: not is_wrong(site), PATIENCE, 'its end')


def test_status_reports_a_held_gil_until_it_is_released(site):
    site.run_as(STANDING)
    site.guard_all()
    asked = site.background('/keep_gil?seconds=45')
    _, line = lines_of_a_hang(site)
    assert line.startswith('HANGS: ') and 'The heartbeat has been silent for ' in line
    assert '(GIL)' in line
    asked.join()
    wait_for(lambda: not is_wrong(site), PATIENCE, 'its end')


def test_status_reports_a_process_stopped_by_sigstop(site):
    site.run_as(STANDING)
    wait_for(lambda: site.recording().samples, PATIENCE, 'the heartbeat')
    site.signal('SIGSTOP')
    wait_for(lambda: is_wrong(site), PATIENCE, 'the stopped process')
    _, line = lines_of(site, 'status', status=1)
    assert line.startswith('STOPPED: ') and f'"kill -CONT {site.pid}" resumes it' in line
    told = site.tell('status').stdout
    assert '    as of 20' in told and '    Connections that wait in the kernel: 0\n' in told
    site.signal('SIGCONT')
    wait_for(lambda: not is_wrong(site), PATIENCE, 'its end')


def test_a_clean_script_and_a_clean_stop_are_not_a_problem(site, tmp_path):
    """The output of `checks` has findings here, but none about dead runs that wait."""
    site.run_as(STANDING)
    beside = ZopeInstance(tmp_path / 'beside', options={'directory': str(site.stability)}).create()
    assert beside.run_script('print("done")').returncode == 0
    running, scripts = lines_of(site, 'status', status=0)
    assert scripts == '1 clean run of a script, not yet counted'
    assert 'archived' not in site.tell('checks').stdout
    run = site.run_directory_of(site.pid)
    assert site.end('SIGTERM') == -signal.SIGTERM
    lines = lines_of(site, 'status', status=0)
    assert lines[0] == 'No process is running.'
    assert lines[1].startswith(f'dead, not yet archived: {run} [stopped, ')
    assert lines[-1].startswith('last run of ') and '[stopped, ' in lines[-1]
    assert '[info] 1 dead run waits to be archived.' in site.tell('checks').stdout
    site.start().kill()
    site.wait_exit()
    lines = lines_of(site, 'status', status=1)
    assert '[vanished, ' in lines[-1], 'the newest run is shown, not the one before it'


def test_a_starting_site_is_reported_as_starting(site):
    site.publish(SLOW_START, 'TestSlow')
    site.env = {'IT_STARTS': str(site.home / 'starts'), 'GO_ON': str(site.home / 'go')}
    site.configure(**{'sample-interval': '100ms'}).start(wait=False)
    wait_for((site.home / 'starts').exists, PATIENCE, 'the start')
    (line,) = lines_of(site, 'status', status=0)
    assert line.startswith(f'starting: pid {site.pid}, began ')
    words = f'[info] Process {site.pid} is still starting: its checks have not run yet.'
    assert words in lines_of(site, 'checks', status=0)
    os.mknod(site.home / 'go')
    site.wait_ready()
    wait_for(lambda: 'is still starting' not in site.tell('checks').stdout, PATIENCE, 'checks')
    assert lines_of(site, 'status', status=0)[0].startswith('running: ')
