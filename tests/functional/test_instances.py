"""Two Zope instances share one data directory: each shows its own past, whichever process judged
it.
"""

import contextlib
import json

import pytest
from support import deaths
from support.childprograms import COMMAND
from support.childprograms import run_python

pytestmark = pytest.mark.zope


@pytest.fixture
def pair(tmp_path):
    """Two running instances with different CLIENT_HOMEs and ports in one data directory."""
    options = {'directory': str(tmp_path / 'shared'), 'sample-interval': '100ms'}
    sites = [
        deaths.Site(tmp_path / name, options=dict(options)).create() for name in ('one', 'two')
    ]
    with contextlib.ExitStack() as stack:
        for site in sites:
            stack.callback(site.destroy)
            site.start()
        yield sites


def own_run(site):
    return site.report()['process']['run']


def dies(site, path='/segfault'):
    """Crash the process, and return the name of its run."""
    run = own_run(site)
    site.crash(path)
    return run


def shown(site):
    """Return (the last run in the report, the runs in its history)."""
    report = site.report()
    assert report['instance']['client_home'] == str(site.client_home)
    assert report['instance']['listen'] == f'127.0.0.1:{site.port}'
    assert {run['instance']['client_home'] for run in report['history']} <= {str(site.client_home)}
    return report['previous'] and report['previous']['run'], [
        run['run'] for run in report['history']
    ]


def test_a_living_instance_is_not_judged_by_the_other(pair):
    one, two = pair
    killed, alive = own_run(one), own_run(two)
    one.kill()
    one.wait_exit()
    one.start()
    assert shown(one) == (killed, [killed])
    assert shown(two) == (None, [])
    assert own_run(two) == alive and one.archived() == {killed}


def test_the_first_start_judges_the_runs_of_both_instances(pair):
    one, two = pair
    first, second = dies(one, '/segfault'), dies(two, '/leave')
    two.start()
    assert two.archived() == {first, second}
    assert shown(two) == (second, [second])
    assert two.previous()['verdict'] == 'vanished'
    one.start()
    assert shown(one) == (first, [first])
    assert one.previous()['verdict'] == 'crashed'
    assert shown(two) == (second, [second])


def test_a_crash_loop_counts_the_runs_of_one_instance(pair):
    one, two = pair
    for _ in range(2):
        dies(one)
        one.start()
    dies(two)
    two.start()
    assert one.report()['crash_loop'] == two.report()['crash_loop'] == []
    third = dies(one)
    one.start()
    assert third in one.report()['crash_loop'] and two.report()['crash_loop'] == []


def test_the_incident_of_the_other_instance_shows_its_instance(pair):
    one, two = pair
    run = dies(one)
    one.start()
    incident = two.report(run=run)['incident']
    assert incident['instance']['client_home'] == str(one.client_home)


def test_the_command_names_both_instances(pair):
    one, two = pair
    dies(one)
    two.stop()
    two.start()
    command = (*COMMAND, '--directory', one.stability)
    done = run_python(*command, 'status', env=one.environment(), timeout=30)
    assert done.returncode == 1, done
    assert (
        f'last run of {one.client_home}' in done.stdout
        and f'last run of {two.client_home}' in done.stdout
    )
    done = run_python(*command, 'report', '--format', 'json', env=one.environment(), timeout=30)
    report = json.loads(done.stdout)
    assert len({run['instance']['client_home'] for run in report['history']}) == 1
    assert report['previous']['instance'] == report['instance']
