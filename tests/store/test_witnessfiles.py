"""Files of witnesses: written once, before, during or after triage, and seen by every reader."""

import concurrent.futures
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import record

from Products.StabilityMonitor.model.errors import NoSuchRun
from Products.StabilityMonitor.model.witnesses import Witness
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.regularfiles import Folder
from Products.StabilityMonitor.store.rundirectory import LOCK
from Products.StabilityMonitor.store.rundirectory import Base

WITNESS = Witness('sibling', STARTED + 9, 'It saw the end.', STARTED + 8, signal='SIGKILL')
JUDGED = record(0, 'vanished', confidence='likely')


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability', is_ours=True)
    base.prepare()
    return base


@pytest.fixture
def waiting(base):
    path = base.runs / JUDGED.run
    path.mkdir(mode=0o700)
    (path / LOCK).touch(0o600)
    return path


def shown(base):
    """The verdict in the list and the one of the whole record, which never differ."""
    (summary,) = Archive(base).summaries()
    whole = Archive(base).record(JUDGED.run)
    assert summary.verdict == whole.verdict and summary.amendments == whole.amendments
    return whole


def test_a_witness_before_triage(base, waiting):
    assert witnessfiles.add(base, JUDGED.run, WITNESS)
    Archive(base).add(waiting, JUDGED)
    assert shown(base).verdict == 'killed'


def test_a_witness_after_triage_is_seen_by_those_who_know_the_run_already(base, waiting):
    Archive(base).add(waiting, JUDGED)
    before = {path.name: path.read_bytes() for path in (base.archive / JUDGED.run).iterdir()}
    assert shown(base).verdict == 'vanished'
    assert witnessfiles.add(base, JUDGED.run, WITNESS)
    assert shown(base).verdict == 'killed'
    after = {path.name: path.read_bytes() for path in (base.archive / JUDGED.run).iterdir()}
    assert set(after) == {*before, 'witness-sibling.json'}
    assert {name: after[name] for name in before} == before


def test_a_witness_during_triage(base, waiting, monkeypatch):
    """The run moves to the archive between the opening of its folder and the link."""
    link = Folder.link

    def move_before(folder, name, new):
        Archive(base).add(waiting, JUDGED)
        link(folder, name, new)

    monkeypatch.setattr(Folder, 'link', move_before)
    assert witnessfiles.add(base, JUDGED.run, WITNESS)
    assert shown(base).verdict == 'killed'


def test_the_first_writer_of_a_source_wins(base, waiting):
    other = Witness('sibling', STARTED + 1, 'Another.', exit_code=3)
    assert witnessfiles.add(base, JUDGED.run, WITNESS)
    assert not witnessfiles.add(base, JUDGED.run, other)
    assert witnessfiles.of_run(waiting) == (WITNESS,)


def test_of_many_at_once_one_wins_and_nothing_else_is_left(base, waiting):
    witnesses = [
        Witness('sibling', STARTED + number, f'Number {number}.', exit_code=number)
        for number in range(40)
    ]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda each: witnessfiles.add(base, JUDGED.run, each), witnesses))
    assert won.count(True) == 1
    assert witnessfiles.of_run(waiting) == (witnesses[won.index(True)],)
    assert sorted(os.listdir(waiting)) == [LOCK, 'witness-sibling.json']


def test_another_process_sees_what_a_witness_has_told(base, waiting):
    Archive(base).add(waiting, JUDGED)
    assert shown(base).verdict == 'vanished'
    program = (
        'import sys; from Products.StabilityMonitor.model.witnesses import Witness; '
        'from Products.StabilityMonitor.store import witnessfiles; '
        'from Products.StabilityMonitor.store.rundirectory import Base; '
        'witnessfiles.add(Base(sys.argv[1]), sys.argv[2], Witness("run", 1.0, "It.", exit_code=7))'
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, '-c', program, base.path, JUDGED.run], check=True, cwd=root, timeout=60
    )
    assert shown(base).exit_code == 7


def test_a_volume_without_hard_links(base, waiting, monkeypatch):
    def refuse(folder, name, new):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(Folder, 'link', refuse)
    assert witnessfiles.add(base, JUDGED.run, WITNESS)
    assert not witnessfiles.add(base, JUDGED.run, WITNESS)
    assert witnessfiles.of_run(waiting) == (WITNESS,)


def test_of_a_run_that_was_removed_nothing_can_be_told(base):
    with pytest.raises(NoSuchRun):
        witnessfiles.add(base, JUDGED.run, WITNESS)
    assert witnessfiles.of_run(base.runs / JUDGED.run) == ()


@pytest.mark.parametrize(
    'name, content',
    [
        ('witness-sibling.json', b'not JSON'),
        ('witness-sibling.json', b'[' * 100_000),
        ('witness-sibling.json', b'{"source": "run", "time": 1, "fact": "of another source"}'),
        ('witness-sibling.json', b'{"source": "sibling", "fact": "no time"}'),
        ('witness-sibling.json', b'x' * (witnessfiles.MOST + 1)),
        ('witness-unknown.json', b'{"source": "unknown", "time": 1, "fact": "x", "exit_code": 1}'),
        ('witness-../x.json', None),
        (
            'witness-sibling.json',
            b'{"source": "sibling", "time": 1, "fact": "x", "exit_code": 999}',
        ),
        (
            'witness-sibling.json',
            b'{"source": "sibling", "time": 1, "fact": "x", "exit_code": 1, "signal": "SIGHUP"}',
        ),
        ('witness-sibling.json', b'{"source": "sibling", "time": 1, "fact": "x", "signal": ""}'),
        ('witness-sibling.json', b'{"source": "sibling", "time": 1, "fact": "x", "signal": "x y"}'),
        ('witness-sibling.json', b'{"source": "sibling", "time": 1, "fact": "x", "asked": "x y"}'),
    ],
)
def test_a_damaged_file_is_no_witness(base, waiting, name, content):
    if content is not None:
        (waiting / name).write_bytes(content)
    Archive(base).add(waiting, JUDGED)
    assert shown(base).amendments == ()


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGRTMIN+3', 'signal 37'])
def test_all_forms_of_the_names_of_signals_are_read(base, waiting, name):
    witnessfiles.add(base, JUDGED.run, replace(WITNESS, signal=name, asked=name))
    assert [witness.signal for witness in witnessfiles.of_run(waiting)] == [name]


def test_a_link_and_a_fifo_are_no_witness(base, waiting, tmp_path):
    outside = tmp_path / 'outside.json'
    outside.write_text(json.dumps({'source': 'run', 'time': 1.0, 'fact': 'x', 'exit_code': 1}))
    (waiting / 'witness-run.json').symlink_to(outside)
    os.mkfifo(waiting / 'witness-sibling.json')
    assert witnessfiles.of_run(waiting) == ()


def test_files_have_the_mode_of_the_data_directory(base, waiting):
    witnessfiles.add(base, JUDGED.run, WITNESS)
    for path in (waiting / 'witness-sibling.json', base.archive / witnessfiles.AMENDED):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() != 0, reason='needs root rights')
def test_what_root_has_seen_belongs_to_the_user_of_the_site(tmp_path):
    site = Base(tmp_path / 'of-the-site')  # as a command of root, not as a Zope of root
    path = site.runs / JUDGED.run
    path.mkdir(mode=0o700, parents=True)
    site.archive.mkdir()
    for folder in (site.path, site.runs, site.archive, path):
        os.chown(folder, 65534, 65534)
    assert witnessfiles.add(site, JUDGED.run, WITNESS)
    assert (path / 'witness-sibling.json').stat().st_uid == 65534
    assert (site.archive / witnessfiles.AMENDED).stat().st_uid == 65534


def test_only_runs_of_which_was_told_are_read_again(base, waiting):
    Archive(base).add(waiting, JUDGED)
    news = witnessfiles.Amended()
    assert news.names(base) == set()
    witnessfiles.add(base, JUDGED.run, WITNESS)
    assert news.names(base) == {JUDGED.run}
    assert news.names(base) == set()
    (base.archive / witnessfiles.AMENDED).unlink()
    assert news.names(base) == set()
    (base.archive / witnessfiles.AMENDED).write_text('x\n' * witnessfiles.MOST)
    assert news.names(base) is None
