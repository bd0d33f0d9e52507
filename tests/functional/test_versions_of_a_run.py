"""A library is replaced after a crash: the report still names the version that crashed, in a real
Zope and by the command while Zope is down.
"""

import json
import re

import pytest
from support.aftermath import command
from support.aftermath import page
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

pytestmark = pytest.mark.zope
TAB = '/Control_Panel/StabilityMonitor/'

CRASH = """
def crash(self):
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)

def first_seconds(self):
    "Restore the state before the checks of this process completed for the first time."
    from Products.StabilityMonitor.checks import allfindings as standing
    from Products.StabilityMonitor.checks.runner import Progress
    from Products.StabilityMonitor.recording.arming import STATE
    checks = standing.of(STATE.life).checks
    checks.wait(60)

    class Running(type(checks)):
        running, progress = True, Progress(0.5, 'Is it so?')

    checks.results, checks.__class__ = None, Running
"""
RULE = """
[[issue]]
id = "shop-lib-{name}"
title = "shop-lib is {name}"
happens = "It crashes."
effect = "crash"
severity = "critical"
action = "Another shop-lib."
source = "our tracker"
fixed = "another one"
distributions = {{shop-lib = "{versions}"}}
"""
CHANGE = {'name': 'shop-lib', 'then': '6.1.3', 'now': '6.0.2'}


def install(site, version):
    """Write the metadata of one version of the library, on the path of the site and of the
    command.
    """
    for old in site.products_dir.glob('shop_lib-*'):
        (old / 'METADATA').unlink()
        old.rmdir()
    folder = site.products_dir / f'shop_lib-{version}.dist-info'
    folder.mkdir()
    (folder / 'METADATA').write_text(f'Name: shop-lib\nVersion: {version}\n')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A site that crashed with one version and is down; another version is installed now."""
    site = ZopeInstance(tmp_path_factory.mktemp('site')).create().publish(CRASH)
    install(site, '6.1.3')
    site.start()
    (run,) = (site.stability / 'runs').iterdir()
    for name in ('installed.json', 'checks.json'):
        wait_for((run / name).exists, 60, name)
    site.run, site.died = run.name, site.pid
    site.crash('/crash')
    install(site, '6.0.2')
    rules = RULE.format(name='old', versions='<6.1') + RULE.format(name='new', versions='>=6.1')
    (site.stability / 'known-issues.toml').write_text(rules)
    command(site, 'triage')
    yield site
    site.destroy()


# The order matters: the first three tests need Zope to be down, the others start it.


def versions(inventory):
    return {d['name']: d['version'] for d in inventory['distributions']}


def known_issues(run):
    return [issue['id'] for issue in run['known_issues'] if issue['id'].startswith('shop')]


def test_while_zope_is_down_the_json_report_shows_the_last_run(site):
    report = json.loads(command(site, 'report', '--format', 'json'))
    assert report['process'] is None and report['last_process']['pid'] == site.died
    assert report['last_process']['zope'] and report['last_process']['threads']
    assert versions(report['inventory'])['shop-lib'] == '6.1.3'
    assert 'StabilityMonitor' in report['inventory']['products']
    assert {check['source'] for check in report['checks']}
    for part in ('process', 'checks', 'inventory'):
        told = report['sources'][part]
        assert (told['source'], told['run']) == ('run', site.run) and told['as_of'], part
    assert report['sources']['in_flight']['source'] == 'nobody'


def test_while_zope_is_down_the_text_report_names_the_last_run(site):
    text = command(site, 'report')
    assert text.startswith(f'This report is about the newest incident, {site.run}.')
    assert f', recorded by the run {site.run}:' in text


def test_the_command_shows_the_versions_of_the_crash_and_what_changed(site):
    incident = json.loads(command(site, 'report', site.run, '--format', 'json'))['incident']
    assert versions(incident['inventory'])['shop-lib'] == '6.1.3'
    assert incident['context']['distributions']['shop-lib'] == '6.1.3'
    assert incident['versions'] == {'known': True, 'with': 'command', 'changed': [CHANGE]}
    assert known_issues(incident) == ['shop-lib-new']


def test_the_next_process_shows_the_versions_of_the_crash_and_what_changed(site):
    if not site.running:
        site.start()
    incident = site.report(run=site.run)['incident']
    assert incident['versions'] == {'known': True, 'with': 'process', 'changed': [CHANGE]}
    assert incident['context']['distributions']['shop-lib'] == '6.1.3'
    assert known_issues(incident) == ['shop-lib-new']
    path = f'{TAB}report?format=text&run='
    for text in (site.get(path + site.run).text, command(site, 'report', site.run)):
        assert re.search(r'^.*shop-lib\W.*6\.1\.3\W.*6\.0\.2', text, re.MULTILINE)
        assert 'shop-lib 6.1.3' in text
    shown = ' '.join(page(site, 'manage_incident').split())
    assert '<h3>Versions at the time of the crash</h3>' in shown
    assert '<li>shop-lib 6.1.3 -&gt; 6.0.2</li>' in shown


def test_overview_and_report_say_that_the_first_checks_still_run(site):
    if not site.running:
        site.start()
    note = 'The checks are still running: there are no results yet.'
    wait_for(lambda: note not in site.get(f'{TAB}manage_main').text, what='the checks')
    pages = {}

    def is_restored():
        """A round of checks that just ends sets its results once more, so all are asked again."""
        site.get('/first_seconds')
        for name in ('manage_main', 'manage_report'):
            pages[name] = site.get(f'{TAB}{name}').text
        is_running = site.report()['sources']['checks']['running']
        return is_running and all(note in text for text in pages.values())

    wait_for(is_restored, what='the first seconds')
    assert 'No finding in the configuration.' not in pages['manage_main']
    assert 'The checks are running.' in site.get(f'{TAB}manage_checks').text
    site.restart()


def test_the_command_beside_a_living_process_reads_its_files(site):
    if not site.running:
        site.start()
    (run,) = (site.stability / 'runs').iterdir()
    for name in ('installed.json', 'checks.json'):
        wait_for((run / name).exists, 60, name)
    report = json.loads(command(site, 'report', '--format', 'json'))
    assert report['process']['pid'] == site.pid and report['last_process'] is None
    assert versions(report['inventory'])['shop-lib'] == '6.0.2'
    assert report['previous']['versions']['with'] == 'process'
    assert report['checks']
    assert report['sources'].pop('sites')['source'] == 'nobody'  # only a page reads the sites
    for part, told in report['sources'].items():
        assert (told['source'], told['run']) == ('run', run.name) and told['as_of'], part
    assert command(site, 'report').startswith('This report is about the newest incident, ')
