"""Real supervisors and real deaths: the next process learns from their logs how a run ended."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys

import pytest
from programs.handshake import until
from support.childprograms import PROGRAMS
from support.childprograms import environment
from support.zopekit import ZopeInstance
from support.zopekit import free_port

from Products.StabilityMonitor.postmortem.manualtriage import by_hand
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import may_live

pytestmark = pytest.mark.supervisors

#: {way: (verdict, exit code, signal)}
ENDS = {
    'kill': ('killed', None, 'SIGKILL'),
    'exit': ('exited', 7, None),
    'segv': ('crashed', None, 'SIGSEGV'),
}


@pytest.fixture(params=ENDS)
def way(request, tmp_path, monkeypatch):
    monkeypatch.setenv('DOOMED_DIRECTORY', str(tmp_path / 'stability'))
    return request.param


@contextlib.contextmanager
def running(words, folder, output=os.devnull):
    """Run a supervisor in its own process group, and end all of it."""
    with open(output, 'ab') as opened:
        process = subprocess.Popen(
            list(map(str, words)),
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def dead_run(folder):
    """Wait until the run of this directory is dead, and return its name."""
    base = Base(folder / 'stability')
    (name,) = until(base.waiting, 'a run')
    until(lambda: not may_live(base.runs / name), 'the end of the run')
    return name


def judged(folder):
    def fail(name, error, record):
        raise AssertionError(f'{name}: {error!r}')

    (record,), _ = by_hand(Base(folder / 'stability'), fail)
    return record


def assert_told(record, way, source, line):
    assert (record.verdict, record.exit_code, record.signal) == ENDS[way]
    if way != 'segv':  # that may have been sent, unless the kernel says otherwise
        assert record.confidence == 'certain'
    assert record.amendments[0].before.verdict == 'vanished'  # the kernel may have told it, too
    assert source in [found.source for found in record.amendments]
    (fact,) = [item.fact for item in record.evidence if item.source == f'log of {source}']
    assert line in fact


def test_zdaemon_tells_the_status(tmp_path, way):
    (tmp_path / 'zdaemon.conf').write_text(f"""
<runner>
  program {sys.executable} {PROGRAMS}/doomed.py {way}
  socket-name {tmp_path}/socket
  transcript {tmp_path}/transcript.log
  directory {tmp_path}
  daemon false
  backoff-limit 60
</runner>
<eventlog>
  <logfile>
    path {tmp_path}/zdaemon.log
  </logfile>
</eventlog>
""")
    zdaemon = [sys.executable, '-m', 'zdaemon.zdctl']
    with running([*zdaemon, '-C', tmp_path / 'zdaemon.conf', 'start'], tmp_path):
        dead_run(tmp_path)
        until(lambda: ': ' in _lines_with(tmp_path / 'zdaemon.log', ' pid '), 'the line')
        record = judged(tmp_path)
    assert_told(record, way, 'zdaemon', f'pid {record.pid}: ')


def _lines_with(path, words):
    with contextlib.suppress(OSError):
        return '\n'.join(line for line in path.read_text().splitlines() if words in line)
    return ''


def test_supervisord_tells_the_status(tmp_path, way):
    log = tmp_path / 'supervisord.log'
    (tmp_path / 'supervisord.conf').write_text(f"""
[supervisord]
logfile={log}
pidfile={tmp_path}/pid
nodaemon=true
[program:zope]
command={sys.executable} {PROGRAMS}/doomed.py {way}
startsecs=0
autorestart=false
stdout_logfile={tmp_path}/zope.log
""")
    with running(
        [sys.executable, '-m', 'supervisor.supervisord', '-c', tmp_path / 'supervisord.conf'],
        tmp_path,
    ):
        dead_run(tmp_path)
        until(lambda: _lines_with(log, 'exited: '), 'the line')
        record = judged(tmp_path)
    assert record.context['supervisor_log'] == {'kind': 'supervisord', 'path': str(log)}
    assert_told(record, way, 'supervisord', 'exited: zope (')


def test_gunicorn_tells_the_status_of_a_worker(tmp_path, way):
    port = free_port()
    words = ['--chdir', PROGRAMS, '--bind', f'127.0.0.1:{port}', 'doomed:app']
    base = Base(tmp_path / 'stability')

    def is_asked():
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
        try:
            connection.request('GET', f'/{way}')
            connection.getresponse()
        except http.client.RemoteDisconnected:
            pass
        except OSError:  # it does not listen yet
            return False
        return True

    with running([sys.executable, '-m', 'gunicorn', *words], tmp_path, tmp_path / 'output'):
        until(is_asked, 'the request')
        until(lambda: len(base.waiting()) > 1, 'the next worker')
        record = judged(tmp_path)
    assert_told(record, way, 'gunicorn', f'(pid:{record.pid})')


class Gunicorn(ZopeInstance):
    def command(self):
        where = ('--paste', str(self.home / 'etc' / 'zope.ini'))
        bind = ('--bind', f'127.0.0.1:{self.port}')
        return [self.python, '-m', 'gunicorn', *where, *bind, '--workers', '1']


@pytest.mark.zope
def test_a_start_of_zope_asks_in_the_background(tmp_path):
    server = Gunicorn(tmp_path).create()
    server.publish('def whoami(self):\n    import os\n    return str(os.getpid())\n')
    try:
        server.start()
        killed = int(server.get('/whoami').text)
        os.kill(killed, signal.SIGKILL)
        archive = Archive(Base(server.stability))

        def amended():
            return [record for record in archive.summaries() if record.amendments]

        (summary,) = until(amended, 'the witness')
        record = archive.record(summary.run)
        report = str(server.report())
    finally:
        server.destroy()
    assert (record.pid, record.verdict, record.confidence) == (killed, 'killed', 'certain')
    assert server.archive()[0]['verdict'] == 'vanished', 'the record itself is not rewritten'
    assert 'could not be asked' not in report
