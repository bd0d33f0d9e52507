"""Class and suspects are filled in when a record is shown, within bounds."""

import os
from dataclasses import replace

import pytest
from support.deadcrashes import FAST
from support.deadcrashes import crash
from support.deadcrashes import native
from support.syntheticruns import STARTED
from support.syntheticruns import record

from Products.StabilityMonitor.knowledge import diagnosis
from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.knowledge.diagnosis import earlier_records
from Products.StabilityMonitor.knowledge.diagnosis import source_reader
from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.runrecord import RunRecord

GO = native('go', FAST)


def test_a_crash_gets_class_and_suspects():
    run = diagnosed(crash(GO))
    assert run.death.id == 'null-pointer' and run.suspects[0].module == 'shop._fast'


def test_the_result_is_a_record_like_any_other():
    run = diagnosed(crash(GO))
    read = RunRecord.from_json(run.to_json())
    assert (read.death, read.suspects, read.fatal) == (run.death, run.suspects, run.fatal)


@pytest.mark.parametrize(
    'run', [record(0, 'stopped'), record(0, 'hung'), replace(crash(GO), drill='crash')]
)
def test_other_ends_and_drills_stay_as_they_are(run, monkeypatch):
    monkeypatch.setattr(diagnosis, 'facts_of', None)
    assert diagnosed(run) is run
    assert earlier_records(None, run) == ()


def test_an_error_of_a_rule_is_logged_and_changes_nothing(monkeypatch, caplog):
    monkeypatch.setattr(diagnosis, 'facts_of', None)
    run = crash(GO)
    assert diagnosed(run) is run
    assert run.run in caplog.text


class Archive:
    """Counts which records are read whole."""

    def __init__(self, *runs):
        self.runs = sorted(runs, key=lambda run: run.number, reverse=True)
        self.read = []

    def summaries(self):
        return tuple(self.runs)

    def record(self, run, is_lean=False):
        assert is_lean, 'a page would be slow'
        self.read.append(run)
        for known in self.runs:
            if known.run == run and known.uptime_seconds:
                return known
        raise NoSuchRun(run)


def test_earlier_records_are_of_the_instance_and_not_too_many():
    runs = [record(number) for number in range(60)]
    runs += [record(number, instance=Instance('there')) for number in range(60)]
    now = crash(GO, number=50)
    archive = Archive(now, *[run for run in runs if run.run != now.run])
    found = earlier_records(archive, now)
    assert len(found) == len(archive.read) == diagnosis.EARLIER
    assert all(run.instance == now.instance and run.number <= now.number for run in found)


def test_a_record_that_was_pruned_meanwhile_is_left_out():
    now = crash(GO, number=5)
    archive = Archive(now, record(4, uptime_seconds=0), record(3))
    assert [run.number for run in earlier_records(archive, now)] == [4]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'view.py'
    path.write_text('x = 1')
    os.utime(path, (STARTED - 9, STARTED - 9))
    return path


def test_a_source_is_read_as_it_was(source):
    read = source_reader(record())
    assert read(str(source)) == 'x = 1'
    os.utime(source, (STARTED + 9, STARTED + 9))
    assert read(str(source)) is None


def test_what_is_no_source_is_not_read(source, tmp_path):
    read = source_reader(record())
    os.mkfifo(tmp_path / 'fifo.py')
    (tmp_path / 'link.py').symlink_to(source)
    (tmp_path / 'secret').write_text('x')
    os.utime(tmp_path / 'secret', (STARTED - 9, STARTED - 9))
    for name in ('fifo.py', 'link.py', 'secret', 'missing.py', '\0.py'):
        assert read(str(tmp_path / name)) is None
    assert read('view.py') is read('') is None


def test_a_long_source_is_not_read(source, monkeypatch):
    monkeypatch.setattr(diagnosis, '_SOURCE', 3)
    assert source_reader(record())(str(source)) is None
