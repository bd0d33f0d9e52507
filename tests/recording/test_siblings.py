"""Siblings: one server sees the ends of the others of its data directory."""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections import Counter

import pytest
from programs.handshake import until
from support.descriptors import held

from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.recording import siblings as module
from Products.StabilityMonitor.recording.partguard import Findings
from Products.StabilityMonitor.recording.siblings import MOST
from Products.StabilityMonitor.recording.siblings import PATIENCE
from Products.StabilityMonitor.recording.siblings import Siblings
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.regularfiles import rename
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import name_facts
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system import processend
from Products.StabilityMonitor.system.processend import CannotTell
from Products.StabilityMonitor.system.processend import ProcessEnd
from Products.StabilityMonitor.system.processidentity import identity

pytestmark = pytest.mark.skipif(not processend.is_possible(), reason='no pidfd here')
OWN = '20261201T100000Z-1-abcd'
NOW = 1_790_000_000.5


class World:
    """A data directory with processes and their runs, and the siblings as one server sees them.

    Errands run at once.  `answer` is what the kernel tells of each process that has ended.
    """

    def __init__(self, path):
        self.base = Base(path)
        self.base.prepare()
        self.findings = Findings()
        self.now, self.errands = 0.0, 0
        self.processes = []
        self.answer = ProcessEnd(signal='SIGKILL')
        self.siblings = self.watcher()

    def watcher(self):
        return Siblings(
            self.base,
            OWN,
            self.findings,
            clock=lambda: NOW,
            monotonic=lambda: self.now,
            open_process=self._open,
            errand=self._run,
        )

    def _run(self, errand):
        self.errands += 1
        errand()

    def _open(self, known, own):
        process = processend.opened(known, own)
        process.end = self._end
        return process

    def _end(self):
        if self.answer is CannotTell:
            raise CannotTell('too old')
        return self.answer

    def run(self, role='server', started=None, is_new=True, **changes):
        """Start a process with a run, and return the name of the run; with `is_new` false, one
        more run of the last process.
        """
        if is_new:
            self.processes.append(subprocess.Popen(['/bin/cat'], stdin=subprocess.PIPE))
        process = self.processes[-1]
        known = identity(process.pid) | changes
        name = new_name(started or time.time(), process.pid)
        self.base.create(name, {'identity': known, 'role': role}).abandon()
        return name

    def beat(self, siblings=None):
        siblings = siblings or self.siblings
        siblings.look_at_all()
        for _ in range(2):  # the names are read after the first look
            siblings.look()
        return sorted(siblings.watched)

    def end(self):
        """End the process that was started last."""
        process = self.processes.pop()
        process.communicate()

    def told(self, name, above='runs'):
        return witnessfiles.of_run(self.base.path / above / name)

    def clean_up(self):
        for process in self.processes:
            process.communicate()
        self.siblings.detach()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / 'stability')
    yield world
    world.clean_up()


def pidfds():
    return held()['anon_inode:[pidfd]']


def has_no_findings(world):
    return [finding.detail for finding in world.findings] == []


def seen(fact, code=None, signal=None, core=False):
    return Witness('sibling', NOW, fact, NOW, code, signal, core)


SAW = f'this Zope (pid {os.getpid()}) saw it'
ANSWERS = {
    'killed': (
        ProcessEnd(signal='SIGKILL'),
        seen(f'The process ended by SIGKILL; {SAW}.', signal='SIGKILL'),
    ),
    'dumped core': (
        ProcessEnd(signal='SIGSEGV', core_dumped=True),
        seen(f'The process ended by SIGSEGV; {SAW}.', signal='SIGSEGV', core=True),
    ),
    'left': (
        ProcessEnd(exit_code=7),
        seen(f'The process ended with exit status 7; {SAW}.', code=7),
    ),
    'old kernel': (
        CannotTell,
        seen(
            f'The process ended; {SAW}, but not with which status: this kernel does not tell it, '
            'Linux 6.15 and newer do.'
        ),
    ),
}


@pytest.mark.parametrize('how', ANSWERS)
def test_what_was_seen_is_left_with_the_dead_run(world, how):
    world.answer, expected = ANSWERS[how]
    name = world.run()
    assert world.beat() == [name]
    world.end()
    world.siblings.look()
    assert world.told(name) == (expected,)
    assert world.siblings.watched == () and world.beat() == [] and has_no_findings(world)


def test_the_kernel_tells_it(tmp_path):
    world = World(tmp_path)
    watcher = Siblings(world.base, OWN, world.findings, errand=world._run)
    name = world.run()
    world.beat(watcher)
    world.processes[-1].kill()
    world.end()
    before = time.time()
    watcher.look()
    (witness,) = world.told(name)
    assert witness.signal in ('SIGKILL', None) and witness.ended > before - 1
    world.clean_up()


def test_a_zombie_is_asked_again_until_its_parent_has_waited(world):
    name = world.run()
    world.beat()
    world.answer = None
    world.end()
    for _ in range(5):
        world.now += PATIENCE / 6
        world.siblings.look()
        assert not world.told(name)
    world.answer = ProcessEnd(exit_code=3)
    world.siblings.look()
    assert [witness.exit_code for witness in world.told(name)] == [3]


def test_a_zombie_is_asked_for_a_minute_at_most(world):
    name = world.run()
    world.beat()
    world.answer = None
    world.end()
    before = pidfds()
    world.siblings.look()
    world.now += PATIENCE
    world.siblings.look()
    (witness,) = world.told(name)
    assert witness.fact.endswith('not with which status: its parent has not waited for it.')
    assert (witness.ended, witness.knows_status) == (NOW, False)
    assert pidfds() == before - 1


def test_processes_that_nobody_waits_for_hold_no_more_descriptors(world):
    world.answer, before = None, pidfds()
    for _ in range(3):
        for _ in range(20):
            world.run()
        world.beat()
        for _ in range(20):
            world.end()
        world.siblings.look()
    assert pidfds() - before == MOST and has_no_findings(world)


@pytest.mark.parametrize('above', ['runs', 'archive'])
def test_the_end_is_that_of_the_last_run_of_a_process(world, above):
    """The process began another run (os.execv) that this server has not seen yet."""
    name = world.run()
    world.beat()
    last = world.run(is_new=False)
    if above == 'archive':
        rename(world.base.runs / name, world.base.archive / name)
    world.end()
    world.siblings.look()
    assert not world.told(name, above)
    assert [witness.signal for witness in world.told(last)] == ['SIGKILL']


def test_a_run_that_is_archived_meanwhile_gets_the_file_there(world):
    name = world.run()
    world.beat()
    world.end()
    rename(world.base.runs / name, world.base.archive / name)
    world.beat()
    assert [witness.signal for witness in world.told(name, 'archive')] == ['SIGKILL']


def test_a_run_that_is_removed_meanwhile_is_forgotten(world):
    name = world.run()
    world.beat()
    world.end()
    shutil.rmtree(world.base.runs / name)
    assert world.beat() == [] and has_no_findings(world)


def test_the_first_sibling_wins(world):
    name = world.run()
    other = world.watcher()
    assert world.beat() == world.beat(other) == [name]
    world.end()
    world.siblings.look()
    world.answer = ProcessEnd(exit_code=1)
    other.look()
    assert [witness.signal for witness in world.told(name)] == ['SIGKILL']
    assert has_no_findings(world)
    other.detach()


NO_SIBLINGS = {
    'a script': {'role': 'script'},
    'another process with this pid': {'start_ticks': 1},
    'another pid than that in the name': {'pid': 1},
    'another boot': {'boot_id': 'another'},
    'another container': {'pid_namespace': 'pid:[1]'},
}


@pytest.mark.parametrize('what', NO_SIBLINGS)
def test_what_is_no_sibling_is_not_watched(world, what):
    before = pidfds()
    world.run(**NO_SIBLINGS[what])
    assert world.beat() == [] and pidfds() == before and has_no_findings(world)


def test_a_damaged_context_and_the_own_run_are_not_watched(world):
    name = world.run()
    (world.base.runs / name / 'context.json').write_text('[]')
    world.base.create(OWN, {'identity': identity(), 'role': 'server'}).abandon()
    (world.base.runs / '99991301T000000Z-1-abcd').mkdir()
    (world.base.runs / 'something').mkdir()
    assert world.beat() == []


def test_a_run_that_leaves_while_its_process_lives_is_forgotten(world):
    """The process runs another program by now (os.execv), and its run was archived."""
    name, before = world.run(), pidfds()
    assert world.beat() == [name]
    rename(world.base.runs / name, world.base.archive / name)
    assert world.beat() == [] and pidfds() == before
    world.end()
    world.beat()
    assert not world.told(name, 'archive')


def test_a_sibling_for_which_no_descriptor_was_left_is_watched_later(world, monkeypatch):
    def fail(known, own):
        raise OSError(errno.EMFILE, 'too many open files')

    name = world.run()
    with monkeypatch.context() as patch:
        patch.setattr(world.siblings, '_open_process', fail)
        assert world.beat() == []
    assert world.beat() == [name] and has_no_findings(world)


def test_names_are_read_only_when_the_folder_has_changed(world):
    for _ in range(10):
        world.siblings.look()
    assert world.errands == 1
    name = world.run()
    os.utime(world.base.runs, (1, 1))
    for _ in range(10):
        world.siblings.look()
    assert world.errands == 2 and world.siblings.watched == (name,)
    world.siblings.look_at_all()
    for _ in range(10):
        world.siblings.look()
    assert world.errands == 3


def test_names_are_not_read_twice_at_the_same_time(world):
    waiting = []
    world.siblings._errand = waiting.append
    for _ in range(3):
        world.siblings.look_at_all()
        world.siblings.look()
    assert len(waiting) == 1


def test_a_few_files_make_few_siblings(world, monkeypatch):
    monkeypatch.setattr(module, 'descriptor_limit', lambda: 64)
    watcher = world.watcher()
    names = sorted(world.run(started=1.8e9 + number) for number in range(3))
    assert world.beat(watcher) == names[1:]
    world.end()  # of the newest
    assert world.beat(watcher) == names[:2]
    watcher.detach()


def test_at_most_32_siblings_are_watched(world, monkeypatch):
    monkeypatch.setattr(module, 'descriptor_limit', lambda: -1)
    watcher = world.watcher()
    for _ in range(34):
        world.run()
    assert len(world.beat(watcher)) == 32
    watcher.detach()


def test_of_1000_siblings_that_come_and_go_no_descriptor_is_left(world):
    before = pidfds()
    names = []
    for _ in range(100):
        # Ten runs of one process, because that is quick; the name of the host tells them apart.
        now = time.time()
        names += [
            world.run(is_new=number == 0, host=str(number), started=now + number)
            for number in range(10)
        ]
        assert len(world.beat()) == 10
        world.end()
        world.siblings.look()
        for name in names[-10:-5]:
            rename(world.base.runs / name, world.base.archive / name)
        for name in names[-5:]:
            assert world.told(name)
            shutil.rmtree(world.base.runs / name)
    assert world.beat() == [] and pidfds() == before and has_no_findings(world)
    assert len(world.siblings._known) == 0
    told = Counter(len(world.told(name, 'archive')) for name in names)
    assert told == {0: 500, 1: 500}


def test_a_detached_watcher_holds_nothing(world):
    before = pidfds()
    world.run()
    world.beat()
    world.answer = None
    world.end()
    world.run()
    world.beat()
    assert pidfds() == before + 2
    world.siblings.detach()
    assert pidfds() == before


def test_a_descriptor_that_other_code_has_closed_is_opened_again(world):
    name = world.run()
    world.beat()
    (number,) = world.siblings._living
    os.close(number)
    assert world.beat() == [name] and has_no_findings(world)


def test_a_descriptor_that_other_code_has_taken_is_left_alone(world):
    name = world.run()
    world.beat()
    (number,) = world.siblings._living
    reader, writer = os.pipe()
    os.write(writer, b'readable')
    os.dup2(reader, number)
    assert world.beat() == [name] and not world.told(name)
    assert os.read(number, 8) == b'readable'
    for descriptor in (reader, writer, number):
        os.close(descriptor)


def refusing(world, monkeypatch, number):
    """Let two siblings end whose folders refuse the file."""

    def add(*words):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(witnessfiles, 'add', add)
    for _ in range(2):
        world.run()
        world.beat()
        world.end()
        world.beat()
    return [(finding.id, finding.detail) for finding in world.findings]


@pytest.mark.parametrize('number', [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_sibling_of_another_user_is_left_alone(world, monkeypatch, number):
    assert refusing(world, monkeypatch, number) == []


def test_a_full_disk_is_one_finding(world, monkeypatch):
    ((id, detail),) = refusing(world, monkeypatch, errno.ENOSPC)
    assert id == 'sibling-witness' and 'No space left' in detail


def test_a_directory_that_is_gone_or_unreadable_changes_nothing(world, monkeypatch):
    name = world.run()
    assert world.beat() == [name]
    with monkeypatch.context() as patch:
        patch.setattr(module, 'opened', lambda path: (_ for _ in ()).throw(OSError(24, 'none')))
        assert world.beat() == [name]
    moved = world.base.path / 'moved'
    world.base.runs.rename(moved)
    assert world.beat() == [name] and has_no_findings(world)


def test_a_watcher_that_fails_holds_nothing(world, monkeypatch):
    before = pidfds()
    world.run()
    world.beat()
    world.end()
    monkeypatch.setattr(world.siblings, '_ask', lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.siblings.look()
    assert pidfds() == before


@pytest.mark.root
def test_root_leaves_a_file_that_the_owner_can_read(world):
    name = world.run()
    run = world.base.runs / name
    for path in (world.base.path, world.base.runs, world.base.archive, run, *run.iterdir()):
        os.chown(path, 65534, 65534)
    assert world.beat() == [name]
    world.end()
    world.siblings.look()
    (file,) = run.glob('witness-*')
    assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65534)


def test_errands_run_in_the_background(tmp_path):
    world = World(tmp_path)
    watcher = Siblings(world.base, OWN, world.findings)
    name = world.run()

    def watches():
        watcher.look()
        return watcher.watched == (name,)

    until(watches, 'the sibling')
    world.end()

    def told():
        watcher.look()
        return world.told(name)

    assert until(told, 'the witness') and has_no_findings(world)
    watcher.detach()
    world.clean_up()


def pidfds_of(pid):
    links = []
    for name in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f'/proc/{pid}/fd/{name}'))
    return links.count('anon_inode:[pidfd]')


def test_armed_processes_see_each_others_end_and_forked_children_hold_nothing(start):
    one, two = start('fork_and_stay'), start('return')
    one.hear(), two.hear()
    (name,) = (name for name in one.base.waiting() if name_facts(name)[1] == one.pid)
    until(lambda: (pidfds_of(one.pid), pidfds_of(two.pid)) == (1, 1), 'both watch')
    one.tell('go')
    child = int(one.hear().split()[1])
    assert pidfds_of(child) == 0 and pidfds_of(one.pid) == 1
    one.signal('SIGKILL')
    one.process.wait()
    (witness,) = until(lambda: witnessfiles.of_run(one.base.runs / name), 'the witness')
    assert witness.fact.startswith('The process ended')
    assert f'this Zope (pid {two.pid}) saw it' in witness.fact
    assert pidfds_of(two.pid) == 0


def test_with_few_descriptors_no_sibling_is_watched(start):
    start('return').hear()
    one = start('return', prefix=('sh', '-c', 'ulimit -n 63; exec "$@"', 'sh'))
    two = start('return')
    one.hear(), two.hear()
    until(lambda: pidfds_of(two.pid) == 2, 'the others')
    assert pidfds_of(one.pid) == 0
