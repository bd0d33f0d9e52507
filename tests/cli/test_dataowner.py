"""Root continues as the owner of the data directory; another ordinary user only reads."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.childprograms import COMMAND
from support.childprograms import Program
from support.childprograms import run_python
from support.commandline import archived
from support.commandline import process
from support.syntheticruns import DeadRun
from support.syntheticruns import record

from Products.StabilityMonitor.cli import dataowner
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity
from Products.StabilityMonitor.system.processidentity import start_ticks

pytestmark = pytest.mark.root

NOBODY = 65534
#: A user without an entry in the user database, as in a container with a uid of its own.
UNKNOWN = 123_456
ANOTHER = 123_457
SECRET = 'horse-battery-staple'
COMMANDS = (
    ('status',),
    ('history',),
    ('show',),
    ('report',),
    ('trace',),
    ('triage',),
    ('ack', '--all'),
    ('checks',),
    ('stacks',),
    ('stacks', '--native'),
)
NO_PROCESS = (
    'stabilitymonitor: No living process uses this data directory. '
    'The command "status" lists the living runs.\n'
)
#: Runs the command, and then prints who this process is, and what it imported as another user.
WHO_AFTER = """
import json, os, sys
imported = []
def note(event, arguments):
    if event == 'import' and os.geteuid() != 0:
        imported.append(arguments[0])
sys.addaudithook(note)
from Products.StabilityMonitor.cli import main
status = main(sys.argv[1:])
sys.stdout.flush()
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
print('\\n' + json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), back, imported]))
"""
#: Runs the command as another user: uid, words of the command.
AS_USER = """
import os, sys
from Products.StabilityMonitor.cli import dataowner, main
dataowner._import_everything()  # this user may not be allowed to read this Python
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""
#: Becomes the owner as the command does, says so, and waits.
DROPPED = """
import sys
from Products.StabilityMonitor.cli import dataowner
dataowner.become_owner(sys.argv[1])
print('ready', flush=True)
sys.stdin.readline()
"""
#: A program that runs as this user and waits.
SLEEPER = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
print('ready', flush=True)
sys.stdin.readline()
"""


#: Triages a directory with a journal, and names each program that it starts.
PROGRAMS_OF_TRIAGE = """
import dataclasses
import sys
def note(event, arguments):
    if event == 'os.posix_spawn':
        print('starts', arguments[0])
sys.addaudithook(note)
from Products.StabilityMonitor.cli import main
from Products.StabilityMonitor.postmortem import evidence
names = [field.name for field in dataclasses.fields(evidence.World)]
defaults = list(evidence.World.__init__.__defaults__)
defaults[names.index('journalctl') - len(names)] = sys.argv[1]
evidence.World.__init__.__defaults__ = tuple(defaults)
main(['--directory', sys.argv[2], 'triage'])
"""


@pytest.fixture
def place():
    """A folder that every user can enter."""
    path = Path(tempfile.mkdtemp(prefix='owner-'))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def give(path, uid, gid=None):
    """Give a folder with its contents to a user."""
    for each in (path, *path.rglob('*')):
        os.chown(each, uid, uid if gid is None else gid, follow_symlinks=False)


@pytest.fixture
def data(place):
    """A function that makes a data directory of a user, with an archived and a waiting run."""

    def make(uid=NOBODY, gid=None, name='stability'):
        base = Base(place / name)
        base.prepare()
        archived(base, record(0, 'hung'))
        DeadRun(base.path, 1).crashed()
        give(base.path, uid, gid)
        return base

    return make


def who_after(*words):
    """Run the command as root with more groups, as after a login."""
    return run_python('-c', WHO_AFTER, *words, prefix=('setpriv', '--groups', '0,4,1234'))


def run_as(uid, *words):
    return run_python('-c', AS_USER, uid, *words)


def line_of(base, label='nobody (uid 65534)'):
    return f'stabilitymonitor: Continuing as {label}, who owns {base.path}.\n'


def everything(folder):
    """Return what lies in a folder: {path: (type, mode, owner, size, times)}."""
    found = {}
    for path in (folder, *folder.rglob('*')):
        status = path.lstat()
        found[str(path)] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    return found


# -- root becomes the owner ------------------------------------------------------------------------


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_root_becomes_the_owner_for_good(data, words):
    base = data()
    done = who_after('--directory', base.path, *words)
    assert done.returncode == 0, done
    users, groups, others, back, _ = json.loads(done.stdout.splitlines()[-1])
    assert (users, groups, back) == ([NOBODY] * 3, [NOBODY] * 3, False)
    assert set(others) <= {NOBODY}
    said = done.stderr.removeprefix(line_of(base))
    assert said != done.stderr
    assert said == (NO_PROCESS if words[0] == 'stacks' else '')


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_nothing_is_imported_after_that(data, words):
    """The Python of root may be in a folder that the owner cannot read."""
    base = data()
    DeadRun(base.path, 2, executable=sys.executable).crashed()
    give(base.path, NOBODY)
    done = who_after('--directory', base.path, *words)
    *_, imported = json.loads(done.stdout.splitlines()[-1])
    assert imported == []


@pytest.mark.parametrize('group, kept', [(UNKNOWN, UNKNOWN), (1234, 1234), (0, NOBODY)])
def test_a_user_without_an_entry_has_the_group_of_the_directory_but_never_that_of_root(
    data, group, kept
):
    base = data(UNKNOWN, group)
    done = who_after('--directory', base.path, 'triage')
    users, groups, others, back, _ = json.loads(done.stdout.splitlines()[-1])
    assert (users, groups, others, back) == ([UNKNOWN] * 3, [kept] * 3, [], False)
    assert done.stderr == line_of(base, f'the user with uid {UNKNOWN}')


@pytest.mark.parametrize('uid', [NOBODY, UNKNOWN])
def test_what_triage_writes_belongs_to_the_owner(data, uid):
    base = data(uid)
    done = process('--directory', str(base.path), 'triage')
    assert (done.returncode, 'crashed, certain' in done.stdout) == (1, True), done
    assert base.waiting() == []
    owners = {path.lstat().st_uid for path in (base.path, *base.path.rglob('*'))}
    assert owners == {uid}


@pytest.mark.parametrize(
    'way', ['--directory', '--client-home', 'STABILITYMONITOR_DIRECTORY', 'CLIENT_HOME', 'here']
)
def test_each_way_to_find_the_directory_counts(data, place, way):
    base = data()
    words, environ, cwd = {
        '--directory': (('--directory', str(base.path)), {}, '/'),
        '--client-home': (('--client-home', str(place)), {}, '/'),
        'STABILITYMONITOR_DIRECTORY': ((), {way: str(base.path)}, '/'),
        'CLIENT_HOME': ((), {way: str(place)}, '/'),
        'here': ((), {}, place),
    }[way]
    done = process(*words, 'status', cwd=cwd, **environ)
    assert (done.returncode, 'Zope crashed' in done.stdout) == (1, True), done
    assert done.stderr.endswith(line_of(base))


def test_the_owner_of_a_link_does_not_count(data, place):
    base = data()
    (place / 'link').symlink_to(base.path)
    os.chown(place / 'link', UNKNOWN, UNKNOWN, follow_symlinks=False)
    done = process('--directory', str(place / 'link'), 'status')
    assert 'Continuing as nobody (uid 65534)' in done.stderr


def test_in_a_directory_of_root_nothing_changes(data):
    base = data(0)
    done = run_python('-c', WHO_AFTER, '--directory', base.path, 'status')
    users, _, _, back, _ = json.loads(done.stdout.splitlines()[-1])
    assert (users, back, done.stderr) == ([0] * 3, True, '')


def test_the_owner_itself_gets_no_line_and_may_change(data):
    base = data()
    done = run_as(NOBODY, '--directory', base.path, 'triage')
    assert (done.returncode, done.stderr) == (1, '')
    assert base.waiting() == []


# -- what links of the owner reveal ----------------------------------------------------------------


@pytest.fixture
def hidden(tmp_path):
    """A folder of root with an archive, a log and a file of rules that hold a secret."""
    base = Base(tmp_path / 'hidden')
    base.prepare()
    archived(base, record(2, 'crashed', summary=SECRET))
    (base.path / 'log').write_text(f'Fatal Python error: {SECRET}\n\n<no Python frame>\n')
    (base.path / 'rules.toml').write_text(f'{SECRET} = "{SECRET}"\n[[{SECRET}]]\n')
    base.path.chmod(0o700)
    return base.path


def plant(base, hidden):
    shutil.rmtree(base.archive)
    base.archive.symlink_to(hidden / 'archive')
    (base.path / 'known-issues.toml').symlink_to(hidden / 'rules.toml')
    log = (hidden / 'log').stat()
    run = base.runs / base.waiting()[0]
    context = json.loads((run / 'context.json').read_text())
    told = {'path': str(hidden / 'log'), 'device': log.st_dev, 'inode': log.st_ino}
    context['outputs'] = {'2': {'kind': 'file', 'size': 0} | told}
    (run / 'context.json').write_text(json.dumps(context))
    give(base.path, NOBODY)


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_a_link_of_the_owner_reveals_no_file_of_root(data, hidden, words):
    base = data()
    plant(base, hidden)
    before = everything(hidden)
    done = process('--directory', str(base.path), *words)
    assert SECRET not in done.stdout + done.stderr and 'Traceback' not in done.stderr
    kept = [path for path in base.path.rglob('*') if path.is_file() and not path.is_symlink()]
    assert kept and not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert everything(hidden) == before


def test_what_is_in_the_archive_itself_is_shown(data, hidden):
    """Shows that the test before can fail: the same records, but not behind a link."""
    base = data()
    shutil.rmtree(base.archive)
    shutil.copytree(hidden / 'archive', base.archive)
    give(base.path, NOBODY)
    assert SECRET in process('--directory', str(base.path), 'history').stdout + (
        process('--directory', str(base.path), 'show').stdout
    )


def test_the_owner_cannot_attach_to_the_command(data):
    """Its memory and environment are those of a process of root."""
    base = data()
    with Program('-c', DROPPED, base.path) as (command):
        command.expect('ready')
        assert dataowner.outside.users(command.pid) == {NOBODY}
        for name in ('environ', 'mem', 'maps'):
            assert refused(NOBODY, f'/proc/{command.pid}/{name}'), name
        # A program of that user that was started in the usual way can be read.
        sleeper = subprocess.Popen(['sleep', '600'], user=NOBODY, group=NOBODY, extra_groups=[])
        try:
            assert not refused(NOBODY, f'/proc/{sleeper.pid}/environ')
        finally:
            sleeper.kill()
            sleeper.wait()


def refused(uid, path):
    """Whether that user may not read the file."""
    done = subprocess.run(
        ['cat', path], user=uid, group=uid, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode != 0


# -- when root cannot become the owner -------------------------------------------------------------


def test_without_the_capability_it_is_an_error_with_the_next_step(data):
    base = data()
    powerless = ('setpriv', '--bounding-set=-setuid,-setgid', '--inh-caps=-setuid,-setgid')
    before = everything(base.path)
    done = run_python(*COMMAND, '--directory', base.path, 'triage', prefix=powerless)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == (
        f'stabilitymonitor: {base.path} belongs to nobody (uid 65534), and root cannot become that '
        'user here: Operation not permitted. Run this command as that user, in the container or on '
        'the host where Zope runs.\n'
    )
    assert everything(base.path) == before


def test_a_directory_that_its_owner_cannot_reach_is_an_error_with_the_next_step(data, place):
    base = data()
    place.chmod(0o700)
    done = process('--directory', str(base.path), 'status')
    assert (done.returncode, done.stdout) == (2, '')
    assert 'who cannot reach it here: Permission denied. Run this command as' in done.stderr


@pytest.mark.parametrize('uid', [0, NOBODY])
def test_the_journal_is_not_asked_after_that(data, uid):
    """The owner could attach to the program, which has the terminal of root."""
    base = data(0)
    DeadRun(base.path, 2, supervisor='systemd', parent=1, invocation_id='ab' * 16).served()
    give(base.path, uid)
    done = run_python('-c', PROGRAMS_OF_TRIAGE, '/bin/true', base.path)
    assert ('starts /bin/true' in done.stdout) is (uid == 0)
    assert '[vanished, ' in done.stdout


def test_the_probe_is_refused_because_it_starts_programs(data):
    base = data()
    done = process('--directory', str(base.path), 'checks', '--probe')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == (
        f'stabilitymonitor: {base.path} belongs to nobody (uid 65534), who could take over a '
        'program that root starts. Run this command as that user.\n'
    )


#: A run of another user that answers its mailbox with the owners of the requests.
ANSWERING = """
import os, select, sys, time
from pathlib import Path
from Products.StabilityMonitor.store.rundirectory import Base, new_name
from Products.StabilityMonitor.store.runmailbox import Inbox
from Products.StabilityMonitor.system.processidentity import identity
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
base = Base(sys.argv[2])
name = new_name(time.time(), os.getpid())
run = base.create(name, {'identity': identity(), 'role': 'server'})
seen = set()
def answer():
    return {'checks': [{'id': 'owners', 'severity': 'info', 'title': f'Requests of {seen}.'}]}
inbox = Inbox(run.path, {'checks': answer})
os.unlink(run.path / 'bell')  # as in an older release: then a question is a file, with an owner
print('ready', flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    seen |= {path.stat().st_uid for path in inbox.folder.glob('*.ask')}
    if seen:
        inbox.look()
"""


def test_a_living_process_is_asked_as_its_own_user(data):
    base = data()
    with Program('-c', ANSWERING, NOBODY, base.path) as zope:
        zope.expect('ready')
        done = process('--directory', str(base.path), 'checks', '--all')
    assert f'Requests of {{{NOBODY}}}.' in done.stdout and done.stderr == line_of(base), done


# -- another ordinary user -------------------------------------------------------------------------


@pytest.mark.parametrize('mode', [0o755, 0o777])
@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_another_user_who_may_read_changes_nothing(data, words, mode):
    """Not even where the modes would let that user write."""
    base = data()
    living = base.create(new_name(time.time(), os.getpid()), {'identity': identity()})
    (living.path / 'questions').mkdir()
    (living.path / 'bell').write_bytes(bytes(8))
    give(base.path, NOBODY)
    for path in (base.path, *base.path.rglob('*')):
        path.chmod(mode if path.is_dir() else mode & 0o666)
    before = everything(base.path)
    done = run_as(ANOTHER, '--directory', base.path, *words)
    assert 'Traceback' not in done.stderr and 'Continuing' not in done.stderr
    if words[0] in ('triage', 'ack', 'stacks'):
        assert (done.returncode, done.stdout) == (2, '')
        assert f'{base.path} belongs to nobody (uid 65534), and only that user may' in done.stderr
    elif words[0] == 'trace':  # of the living run, which has no black box
        assert (done.returncode, done.stdout) == (2, '') and 'no black box' in done.stderr
    else:
        assert (done.returncode in (0, 1), bool(done.stdout), done.stderr) == (True, True, '')
    assert everything(base.path) == before
    living.abandon()


# -- native stacks ---------------------------------------------------------------------------------

#: A tool that notes who runs it and for which process, and prints the stack of one thread.
TOOL = """#!/bin/sh
echo "$(id -u) $@" >> {noted}
echo "Traceback for thread 1 [] (most recent call last):"
echo '    (Python) File "/site/a.py", line 1, in native_frame'
"""


@pytest.fixture
def tool(tmp_path):
    """(environment in which only that tool is found, a function that returns what it noted)"""
    folder = tmp_path / 'tools'
    folder.mkdir()
    noted = tmp_path / 'noted'
    (folder / 'pystack').write_text(TOOL.format(noted=noted))
    (folder / 'pystack').chmod(0o755)
    (folder / 'python3').symlink_to(os.path.realpath(sys.executable))
    return folder, lambda: noted.read_text().splitlines() if noted.exists() else []


#: The command, with another `sys.executable`: tools for native stacks are looked for beside it.
AS_PYTHON = """
import sys
sys.executable = sys.argv.pop(1)
from Products.StabilityMonitor.cli import main
status = main(sys.argv[1:])
sys.stdout.flush()
import os
print('the command ended as', os.geteuid(), file=sys.stderr)
sys.exit(status)
"""


def native(tool, base):
    return run_python('-c', AS_PYTHON, tool[0] / 'python3', '--directory', base.path, *NATIVE)


NATIVE = ('stacks', '--native')


def living_run(base, pid):
    run = base.create(new_name(time.time(), pid), {'identity': identity(pid)})
    run.abandon()
    give(base.path, NOBODY)
    return run.path


def test_root_reads_native_stacks_of_a_process_of_the_owner(data, tool):
    base = data()
    with Program('-c', SLEEPER, NOBODY) as zope:
        zope.expect('ready')
        living_run(base, zope.pid)
        done = native(tool, base)
    (noted,) = tool[1]()
    assert noted.startswith('0 ') and f' {zope.pid} ' in f'{noted} ', noted
    assert f'Native stacks of process {zope.pid}:' in done.stdout and 'native_frame' in done.stdout
    assert done.stdout.index('No answer from process') < done.stdout.index('Native stacks of')
    assert done.stderr.startswith(line_of(base))
    assert f'the command ended as {NOBODY}' in done.stderr


@pytest.mark.parametrize('uid', [0, UNKNOWN])
def test_root_reads_no_native_stacks_of_another_user(data, tool, uid):
    """The owner of the directory can name any process in it."""
    base = data()
    with Program('-c', SLEEPER, uid) as other:
        other.expect('ready')
        living_run(base, other.pid)
        done = native(tool, base)
        assert tool[1]() == []
        assert f'process {other.pid} does not run as the user with uid {NOBODY}' in done.stderr
        assert done.returncode == 2


def test_the_child_that_stays_root_checks_what_it_is_asked(capfd):
    """Asked directly, as by an owner who had taken over the command."""
    with Program('-c', SLEEPER, NOBODY) as own, Program('-c', SLEEPER, UNKNOWN) as other:
        own.expect('ready')
        other.expect('ready')
        reader = dataowner.RootReader(NOBODY, lambda pid: print(f'stacks of {pid}') or 0)
        assert reader.read(own.pid) == 0
        assert reader.read(other.pid) == reader.read(os.getpid()) == reader.read(4_999_999) == 2
        ticks = start_ticks(own.pid)
        os.write(reader._ask, f'{own.pid} {ticks + 1}\n'.encode())
        assert os.read(reader._told, 1) == b'\2'
        os.write(reader._ask, b'../../etc 1\n')  # it ends, and says nothing more
        assert os.read(reader._told, 1) == b''
        assert reader.read(own.pid) == 2
    assert capfd.readouterr().out == f'stacks of {own.pid}\n'
    os.wait()


# -- who may not read ------------------------------------------------------------------------------


def test_another_user_is_told_whose_the_directory_is_and_what_helps(data, place):
    base = data(0)
    for words in (('--directory', base.path), ('--client-home', place)):
        done = run_as(NOBODY, *words, 'status')
        assert (done.returncode, done.stdout) == (2, ''), done
        assert done.stderr.startswith(
            f'stabilitymonitor: Permission denied: {base.path} belongs to root (uid 0). Set the '
            'option "group" in zope.conf, so that a group may read it, or run this as that user: '
            'sudo -u root '
        )
        assert done.stderr.endswith(' status\n')


def test_a_closed_folder_above_the_directory_is_named(data, place):
    base = data(NOBODY)
    os.chown(place, 0, 0)
    place.chmod(0o700)
    done = run_as(NOBODY, '--directory', base.path, 'status')
    assert done.returncode == 2
    assert f'Permission denied: {place} belongs to root (uid 0). Run this as' in done.stderr
