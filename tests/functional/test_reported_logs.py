"""The report about a crash of a real Zope has its logs and its configuration."""

import json

import pytest
from support.aftermath import command
from support.zopekit import ZopeInstance

pytestmark = [pytest.mark.zope, pytest.mark.thorough]


def test_the_report_of_a_crash_has_the_logs_around_it_and_the_configuration(tmp_path):
    with ZopeInstance(tmp_path) as zope:
        zope.kill()
        zope.wait_exit()
        zope.start()
        run = zope.archive()[0]['run']
        of_site = zope.report(run=run)
        by_command = json.loads(command(zope, 'report', run, '--format', 'json'))
    for report in (of_site, by_command):
        logs = {log['name']: log for log in report['logs']}
        assert 'Ready to handle requests' in logs['event-log']['text']
        assert logs['event-log']['first'] and not logs['event-log']['timeless']
        files = [file['file'] for file in report['configuration']]
        assert [file.rpartition('/')[2] for file in files] == ['zope.conf', 'zope.ini']
        assert '<filestorage>' in report['configuration'][0]['text']
        gaps = {gap['what']: gap['why'] for gap in report['not_told']}
        assert gaps['access-log'] == 'not-named' and gaps['last-stable'] == 'no-such-run'
        assert 'zope-conf' not in gaps
