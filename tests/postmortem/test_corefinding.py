"""The core file of a run is found by what it says, and by its name only if it cannot be read."""

import json
import os
from dataclasses import replace

import pytest
from support import corefiles as invented
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world

from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import BY_NAME
from Products.StabilityMonitor.postmortem import corefinding
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.system.processidentity import identity

BOOT = '0123456789abcdef0123456789abcdef'
ZSTD = b'\x28\xb5\x2f\xfd' + bytes(40)


class Place:
    """A dead run with pid 100 whose working directory is `cwd`, in a machine with this pattern."""

    def __init__(self, tmp_path, pattern='core'):
        self.world = quiet_world(tmp_path)
        self.root = self.world.root
        self.cwd = tmp_path / 'cwd'
        self.cwd.mkdir()
        kernel = self.world.proc / 'sys/kernel'
        kernel.mkdir(parents=True)
        (kernel / 'core_pattern').write_text(pattern + '\n')
        self.base = Base(tmp_path / 'stability')
        self.dead = DeadRun(
            tmp_path / 'stability', core_pattern=pattern, cwd=str(self.cwd), executable='/bin/sh'
        ).served()
        gone = {'pid': 100, 'start_ticks': 1, 'boot_id': BOOT, 'pid_namespace': 'pid:[4026531836]'}
        self.dead.change(identity=identity() | gone)
        (record,) = triage.triage(self.base, world=self.world)
        self.record = replace(record, boot_id=BOOT)

    def put(self, name, content, after=0.5, folder=None):
        path = (folder or self.cwd) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        ended = self.record.ended + after
        os.utime(path, (ended, ended))
        return path

    def found(self):
        found = corefinding.find(self.record, self.world)
        return found and (found.path, found.match)

    @property
    def own(self):
        return invented.of_run(self.record.run, 100)

    @property
    def other(self):
        return invented.of_run('20260921T160000Z-100-ffff', 100)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_it_is_found_by_the_black_box_that_it_names(place):
    path = place.put('core', place.own, after=-9999)
    assert place.found() == (str(path), BY_CONTENT)


def test_that_of_a_forked_child_is_not_the_core_file_of_the_run(place):
    place.put('core.101', invented.of_run(place.record.run, 101))
    assert place.found() is None
    path = place.put('core.100', place.own)
    assert place.found() == (str(path), BY_CONTENT)


def test_that_of_another_run_with_the_same_pid_is_not_ours(place):
    place.put('core', place.other)
    place.put('core.100', place.other)
    assert place.found() is None


def test_that_of_a_process_without_a_black_box_is_not_ours(place):
    place.put('core.100', invented.core(invented.prstatus(100) + invented.prpsinfo(100)))
    assert place.found() is None


def test_what_cannot_be_read_is_likely_by_name_time_and_pid(place):
    path = place.put('core.100', ZSTD)
    assert place.found() == (str(path), BY_NAME)
    place.put('core.100', ZSTD, after=-60)
    assert place.found() is None
    place.put('core.101', ZSTD)
    assert place.found() is None


def test_content_beats_a_name(place):
    place.put('core.100', ZSTD, after=0)
    path = place.put('core.777', place.own, after=9)
    assert place.found() == (str(path), BY_CONTENT)


def test_without_permission_the_name_counts(place, monkeypatch):
    path = place.put('core.100', place.own)

    def refuse(path, *more):
        raise PermissionError(13, 'no', path)

    monkeypatch.setattr(corefinding, 'open_outside', refuse)
    assert place.found() == (str(path), BY_NAME)


def test_what_a_file_of_another_user_says_does_not_count(place, monkeypatch):
    path = place.put('core.100', place.own)
    monkeypatch.setattr(corefinding, 'own_user', lambda: os.geteuid() + 4711)
    monkeypatch.setattr(corefinding, '_ROOT', -1)
    assert place.found() == (str(path), BY_NAME)
    path.rename(path.with_name('core'))
    assert place.found() is None


def test_links_fifos_and_folders_are_left_alone(place, tmp_path):
    target = place.put('target', place.own, folder=tmp_path)
    os.symlink(target, place.cwd / 'core')
    os.mkfifo(place.cwd / 'core.100')
    (place.cwd / 'core.1').mkdir()
    assert place.found() is None


def test_garbage_is_skipped(place):
    place.put('core.1', os.urandom(5000))
    place.put('core.2', b'')
    place.put('core.3', place.own[:100])
    path = place.put('core.4', place.own)
    assert place.found() == (str(path), BY_CONTENT)


def test_no_more_than_so_many_files_are_opened(place, monkeypatch):
    for number in range(30):
        place.put(f'core.{number}', b'x', after=number + 1)
    opened = []
    monkeypatch.setattr(corefinding, 'MOST_FILES', 10)
    monkeypatch.setattr(corefinding, 'open_outside', lambda path: opened.append(path) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corefinding.find(place.record, place.world)
    monkeypatch.setattr(corefinding, 'open_outside', lambda path: opened.append(path) or _fail())
    opened.clear()
    assert place.found() is None and len(opened) == 10
    assert opened[0].endswith('core.0')  # that which was written next to the end


def _fail():
    raise OSError


def test_the_folder_of_the_pattern_then_and_now_is_searched(tmp_path):
    then, now = tmp_path / 'then', tmp_path / 'now'
    place = Place(tmp_path, f'{then}/%e.%p')
    (place.world.proc / 'sys/kernel/core_pattern').write_text(f'{now}/core.%t')
    path = place.put('python.100', place.own, folder=then)
    assert place.found() == (str(path), BY_CONTENT)
    path.unlink()
    path = place.put('core.1', place.own, folder=now)
    assert place.found() == (str(path), BY_CONTENT)


class TestKeepers:
    NAME = 'core.python.0.{}.{}.1790000060000000.zst'

    def put(self, place, boot, pid):
        folder = place.root / 'var/lib/systemd/coredump'
        return place.put(self.NAME.format(boot, pid), ZSTD, folder=folder)

    def test_what_systemd_has_kept_is_likely(self, place):
        path = self.put(place, BOOT, 100)
        assert place.found() == (str(path), BY_NAME)

    def test_of_another_boot_or_process_it_is_not(self, place):
        self.put(place, 'f' * 32, 100), self.put(place, BOOT, 101)
        assert place.found() is None

    def test_in_another_pid_namespace_its_pid_says_nothing(self, place):
        self.put(place, BOOT, 100)
        known = place.record.context['identity'] | {'pid_namespace': 'pid:[1]'}
        place.record = replace(place.record, context=place.record.context | {'identity': known})
        assert place.found() is None

    def test_a_report_of_apport_is_likely(self, place):
        program = os.path.realpath('/bin/sh').replace('/', '_')
        name = f'{program}.{os.geteuid()}.crash'
        path = place.put(name, b'ProblemType: Crash\n', folder=place.root / 'var/crash')
        assert place.found() == (str(path), BY_NAME)


@pytest.mark.parametrize('cwd', ['relative', '/a\0b', '/missing', 7, None, '/proc/1/root', '[*'])
def test_what_the_context_says_does_no_harm(place, cwd):
    context = place.record.context | {'cwd': cwd, 'core_pattern': cwd, 'executable': cwd}
    place.record = replace(place.record, context=context | {'identity': 7})
    assert place.found() is None


def test_the_context_of_a_run_has_its_working_directory(tmp_path, monkeypatch):
    from Products.StabilityMonitor.system import runcontext

    monkeypatch.chdir(tmp_path)
    assert runcontext._working_directory() == str(tmp_path)
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert runcontext._working_directory() == ''
    json.dumps(runcontext._working_directory())
