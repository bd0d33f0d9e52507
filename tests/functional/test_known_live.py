"""Libraries with known bugs, really installed: the checks of a real Zope name them and the action.

One of these bugs happens for real: a client that disconnects at the wrong moment makes the main
thread of an old waitress spin.  The spinning thread is reported while it spins, and the next
process recognises the known issue by its traces.
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.plainzope import POSSIBLE_FINDINGS
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX

pytestmark = [pytest.mark.zope, pytest.mark.slow]

TAB = '/Control_Panel/StabilityMonitor/'
OLD = ('waitress==2.1.2', 'zope.interface==7.0.3')
PATIENCE = 60

#: Columns: known issue, severity, words that say why it applies, action.
ISSUES = (
    ('waitress-half-open-socket', 'critical', 'waitress 2.1.2 is < 3.0.1', 'waitress >= 3.0.1'),
    ('waitress-lookahead', 'info', 'waitress 2.1.2 is < 3.0.1', 'waitress >= 3.0.1'),
    (
        'zope.interface-lookup-cache',
        'warning',
        'zope.interface 7.0.3 is < 8.7',
        'zope.interface >= 8.7',
    ),
    *(
        [
            (
                'zope.interface-weak-references',
                'critical',
                'zope.interface 7.0.3 is',
                'zope.interface >= 8.7',
            )
        ]
        if sys.version_info >= (3, 12)
        else []
    ),
)


@pytest.fixture(scope='module')
def old_libraries(tmp_path_factory):
    """A folder with the old libraries, installed by pip; first on the path, it hides the newer
    ones.
    """
    folder = tmp_path_factory.mktemp('old')
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            '--disable-pip-version-check',
            'install',
            '--quiet',
            '--no-deps',
            '--retries',
            '1',
            '--timeout',
            '10',
            '--only-binary',
            ':all:',
            '--target',
            str(folder),
            *OLD,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        pytest.skip(
            f'pip could not install {" and ".join(OLD)}: {done.stderr.strip().splitlines()[-1:]}'
        )
    return folder


class OldSite(ZopeInstance):
    """A Zope that prefers the libraries of a folder to the installed ones."""

    libraries = None

    def environment(self):
        env = super().environment()
        first = [str(self.libraries)] if self.libraries else []
        return {**env, 'PYTHONPATH': os.pathsep.join([*first, env['PYTHONPATH']])}

    def findings(self):
        return wait_for(self._asked, PATIENCE, 'the checks')

    def _asked(self):
        found = {finding['id']: finding for finding in self.report()['checks']}
        return found if any(id.startswith('known-issues') for id in found) else None

    def noted(self):
        """Return the kinds of the notes in its black box.

        It is read from outside: a request would take the GIL from the spinning thread.
        """
        (file,) = (self.stability / 'runs').glob(f'[0-9]*/{BLACKBOX}')
        return {note.kind for note in blackboxreader.read(file.read_bytes()).notes}

    def ticks(self):
        """Return the CPU time of its main thread, in ticks of the kernel."""
        stat = Path(f'/proc/{self.pid}/task/{self.pid}/stat').read_text().rpartition(')')[2].split()
        return int(stat[11]) + int(stat[12])


@pytest.fixture
def site(tmp_path):
    site = OldSite(tmp_path / 'site', options={'sample-interval': '100ms', 'stall': '2s'})
    yield site
    site.destroy()


def test_old_libraries_are_known_issues_with_an_action(site, old_libraries):
    with site:
        before = site.findings()
    site.libraries = old_libraries
    site.start()
    findings = site.findings()
    assert 'waitress-2.1.2' in str(list(old_libraries.glob('waitress-*')))
    for name, severity, matched, action in ISSUES:
        found = findings[f'known-issues:{name}']
        assert (found['severity'], f'known-issues:{name}' in before) == (severity, False)
        assert matched in found['detail'] and action in found['action'] and found['source']
    new = {id for id, finding in findings.items() if finding['severity'] != 'ok'} - set(before)
    told = {f'known-issues:{name}' for name, *_ in ISSUES}
    assert new - told <= {
        'compiled-modules:outside-the-environment',
        'versions:unmet',
        *POSSIBLE_FINDINGS,
    }
    assert 'known-issues:waitress-fast-listen' not in findings  # that issue needs Plone's recipe
    assert 'zope.interface._zope' in findings['compiled-modules:outside-the-environment']['detail']
    page = site.get(f'{TAB}manage_checks').text
    assert (
        'waitress before 3.0.1 spins on a half-open socket' in page
        and 'waitress &gt;= 3.0.1' in page
    )


def go_away_at_the_wrong_moment(site):
    """Send a request, and reset the connection before waitress accepts it."""
    site.kill(signal.SIGSTOP)
    client = socket.create_connection(('127.0.0.1', site.port))
    client.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    client.close()
    site.kill(signal.SIGCONT)


def spins(site):
    """Return whether the main thread uses a tenth of a CPU or more while there are no requests."""
    before, begun = site.ticks(), time.monotonic()
    time.sleep(1)
    return (site.ticks() - before) / os.sysconf('SC_CLK_TCK') > 0.1 * (time.monotonic() - begun)


def test_a_spinning_waitress_is_detected_and_is_a_known_issue(site, old_libraries):
    site.create().start()
    go_away_at_the_wrong_moment(site)
    assert site.get('/').status == 200
    assert not spins(site), "today's waitress does not spin"
    site.stop()

    site.libraries = old_libraries
    site.start()
    go_away_at_the_wrong_moment(site)
    wait_for(lambda: spins(site), PATIENCE, 'the spinning main thread')
    wait_for(lambda: 'spinning' in site.noted(), PATIENCE, 'the spinning thread in the black box')
    (finding,) = [found for found in site.report()['checks'] if found['id'].startswith('spinning')]
    assert finding['severity'] == 'critical' and re.search(
        r'MainThread.*wasyncore\.py', finding['title']
    )
    assert site.findings()['known-issues:waitress-half-open-socket']['severity'] == 'critical'

    site.kill(signal.SIGKILL)
    site.wait_exit()
    site.libraries = None  # fixed now; the versions of the dead run count
    site.start()
    previous = site.report()['previous']
    assert [hang['kind'] for hang in previous['hangs']] == ['spinning']
    known = {issue['id']: issue for issue in previous['known_issues']}
    assert 'waitress-half-open-socket' in known, [*known]
    issue = known['waitress-half-open-socket']
    assert issue['strength'] == 'strong' and issue['action'] == 'Install waitress >= 3.0.1.'
    assert 'version: waitress 2.1.2 is < 3.0.1' in issue['matched']
    assert any('wasyncore.py:poll' in words for words in issue['matched'])
