"""The program that started the process decides whether it is a server or a script; clean scripts
are counted, crashed ones are archived.
"""

import pytest

pytestmark = pytest.mark.zope

ROLE = (
    'import json, sys\nfrom Products.StabilityMonitor.recording.arming import '
    'STATE\nprint(STATE.life.role)\n'
)


def test_zconsole_is_a_script_and_a_clean_one_is_only_counted(make_zope):
    zope = make_zope()
    assert 'script' in zope.run_script(ROLE).stdout
    zope.start()
    assert zope.archive() == []
    assert (zope.stability / 'archive' / 'clean-scripts').stat().st_size == 1
    zope.stop()


def test_a_script_that_crashes_is_an_incident_but_not_the_last_server_run(make_zope):
    zope = make_zope()
    assert zope.run_script('import ctypes\nctypes.string_at(0)\n').returncode < 0
    zope.start()
    (record,) = zope.archive()
    assert (record['role'], record['verdict'], record['signal']) == ('script', 'crashed', 'SIGSEGV')
    assert 'The last run' not in zope.event_log.read_text()
    zope.stop()


def test_runwsgi_is_a_server(make_zope):
    zope = make_zope()
    zope.publish(
        'from Products.StabilityMonitor.recording.arming import STATE\n'
        'def role(self):\n    return STATE.life.role\n'
    )
    assert zope.start().get('/role').text == 'server'
    zope.stop()
