"""The log of the supervisor is found through the parent process, or by supervisord's settings."""

import os

import pytest

from Products.StabilityMonitor.system import supervisorlog

PARENT, PID = 17, 4711
SPAWNED = {
    'zdaemon': f'------\n2026-12-01T11:06:05 INFO root spawned process pid={PID}\n',
    'supervisord': f"2026-12-01 11:06:33,176 INFO spawned: 'zope' with pid {PID}\n",
    'gunicorn': f'[2026-12-01 11:06:33 +0000] [{PID}] [INFO] Booting worker with pid: {PID}\n',
}


class Parent:
    """A /proc with the parent process; `opens` adds a descriptor of a file."""

    def __init__(self, folder):
        self.root = folder / 'root'
        self.proc = folder / 'proc'
        self.folder = self.proc / str(PARENT)
        for name in ('fd', 'fdinfo'):
            (self.folder / name).mkdir(parents=True)
        (self.folder / 'cmdline').write_bytes(b'/usr/bin/python3\0/usr/bin/supervisord\0')

    def opens(self, number, path, flags='0102001'):
        os.symlink(path, self.folder / 'fd' / str(number))
        (self.folder / 'fdinfo' / str(number)).write_text(f'pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n')

    def command(self, *words):
        (self.folder / 'cmdline').write_bytes(b'\0'.join(word.encode() for word in words) + b'\0')

    def find(self, kind='supervisord'):
        return supervisorlog.find(kind, PARENT, PID, self.proc, self.root)


@pytest.fixture
def parent(tmp_path):
    return Parent(tmp_path)


@pytest.mark.parametrize('kind', SPAWNED)
def test_it_is_the_file_that_says_that_this_process_was_started(parent, tmp_path, kind):
    log, other = tmp_path / 'log', tmp_path / 'other'
    log.write_text('x' * 100_000 + '\n' + SPAWNED[kind])
    other.write_text(SPAWNED[kind].replace('4711', '47110').replace(f'[{PID}]', '[1]'))
    os.mkfifo(tmp_path / 'fifo')
    parent.opens(1, '/dev/null')
    parent.opens(2, 'pipe:[77]')
    parent.opens(3, tmp_path / 'fifo')
    parent.opens(4, other)
    parent.opens(5, tmp_path / 'gone (deleted)')
    parent.opens(6, log)
    assert parent.find(kind) == {'kind': kind, 'path': str(log)}


def test_a_file_that_it_only_reads_is_not_its_log(parent, tmp_path):
    (tmp_path / 'log').write_text(SPAWNED['zdaemon'])
    parent.opens(4, tmp_path / 'log', '0100000')
    assert parent.find('zdaemon') == {}


def test_other_parents_are_not_looked_at(parent, tmp_path):
    (tmp_path / 'log').write_text(SPAWNED['zdaemon'])
    parent.opens(4, tmp_path / 'log')
    assert parent.find('systemd') == parent.find('') == {}
    assert supervisorlog.find('zdaemon', 1, PID, parent.proc / 'missing') == {}


@pytest.mark.parametrize(
    'words',
    [
        ('-c', '{conf}'),
        ('-n', '-c{conf}'),
        ('--configuration', '{conf}'),
        ('--configuration={conf}',),
    ],
)
def test_the_configuration_on_the_command_line_names_the_log(parent, tmp_path, words):
    conf = tmp_path / 'supervisord.conf'
    conf.write_text(
        '[program:zope]\nlogfile=/wrong\n'
        '[supervisord]\n;logfile=/old\nlogfile = %(here)s/s.log ; it\n'
    )
    parent.command('python3', 'supervisord', *(word.format(conf=conf) for word in words))
    assert parent.find()['path'] == str(tmp_path / 's.log')


def test_the_option_for_the_log_wins_over_the_configuration(parent):
    parent.command('supervisord', '-c', '/nowhere', '-l', '/var/log/s.log')
    assert parent.find() == {'kind': 'supervisord', 'path': '/var/log/s.log'}


def test_the_usual_place_of_the_configuration_is_known(parent):
    conf = parent.root / 'etc/supervisor/supervisord.conf'
    conf.parent.mkdir(parents=True)
    conf.write_text('[supervisord]\nlogfile=/var/log/supervisor/supervisord.log\n')
    assert parent.find()['path'] == '/var/log/supervisor/supervisord.log'
    conf.write_text('[supervisord]\nlogfile=%(ENV_LOG)s/s.log\n')
    assert parent.find() == {}
    parent.command('supervisord', '-c', 'relative.conf', '-l', 'relative.log')
    assert parent.find() == {}


def test_a_process_without_proc_has_no_log(tmp_path):
    assert supervisorlog.find('supervisord', PARENT, PID, tmp_path, tmp_path) == {}
