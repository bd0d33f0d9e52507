"""The versions of a run: each set is one shared file, checked, and pruned after its last run."""

import json
import os
import stat

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import record

from Products.StabilityMonitor.postmortem.triage import examine
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

THEN, BUILDS = {'lxml': '6.1.3', 'zope': '5.14'}, {'lxml': 'wheel'}
NOW = {'lxml': '6.0.2', 'zope': '5.14'}
HOUR = 3600


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def died(base, number=0, versions=THEN):
    run = DeadRun(base.path, number).crashed()
    return run, distributionsets.keep(base, run.path, versions, BUILDS)


def sets(base):
    return sorted(path.name for path in (base.path / 'installed').iterdir())


def made_old(base):
    for path in (base.path / 'installed').iterdir():
        os.utime(path, (STARTED, STARTED))


def judged(base, tmp_path):
    return triage(base, world=quiet_world(tmp_path))


# -- kept ------------------------------------------------------------------------------------------


def test_a_set_is_kept_once_for_all_its_runs(base):
    first, digest = died(base)
    second, same = died(base, 1)
    other, another = died(base, 2, NOW)
    assert digest == same != another
    assert sets(base) == sorted([f'{digest}.json', f'{another}.json'])
    for run in (first, second):
        assert distributionsets.of_run(run.path) == {
            'installed': digest,
            'distributions': THEN,
            'builds': BUILDS,
        }
    assert distributionsets.of_run(other.path)['distributions'] == NOW
    assert json.loads((first.path / 'installed.json').read_text()) == {'installed': digest}


def test_the_files_of_a_set_have_the_usual_rights(base):
    died(base)
    (file,) = (base.path / 'installed').iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_run_of_an_older_release_has_its_own_versions(base):
    run = DeadRun(base.path)
    (run.path / 'installed.json').write_text(json.dumps({'distributions': THEN}))
    assert distributionsets.of_run(run.path) == {'distributions': THEN}
    assert distributionsets.of_run(DeadRun(base.path, 1).path) == {}


# -- not believed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'digest',
    [None, 7, [], {}, '', '..', '../../secret', 'x' * 32, 'A' * 32, '0' * 31, '0' * 32, '0' * 33],
)
def test_an_invalid_digest_loads_nothing(base, digest):
    died(base)
    (base.path / 'secret.json').write_text(json.dumps({'distributions': THEN}))
    assert distributionsets.load(base.path, digest) == {}
    run = DeadRun(base.path, 1)
    (run.path / 'installed.json').write_text(json.dumps({'installed': digest}))
    assert distributionsets.of_run(run.path) == {}


@pytest.mark.parametrize(
    'content', [b'', b'{}', b'[]', b'\xff', b'[' * 99999, b'{"distributions": {"lxml": "9"}}']
)
def test_a_changed_set_is_ignored_and_the_next_run_writes_it_again(base, content):
    run, digest = died(base)
    path = base.path / 'installed' / f'{digest}.json'
    path.write_bytes(content)
    assert distributionsets.load(base.path, digest) == distributionsets.of_run(run.path) == {}
    died(base, 1)
    assert distributionsets.of_run(run.path)['distributions'] == THEN


def test_a_fifo_with_the_name_of_a_set_does_not_block(base):
    run, digest = died(base)
    path = base.path / 'installed' / f'{digest}.json'
    path.unlink()
    os.mkfifo(path)
    assert distributionsets.of_run(run.path) == {}


def test_versions_that_are_not_strings_are_left_out(base):
    run = DeadRun(base.path)
    text = json.dumps({'distributions': {'a': 1, 'b': '2', 'c': None}, 'builds': [], 'x': {}})
    (run.path / 'installed.json').write_text(text)
    assert distributionsets.of_run(run.path) == {'distributions': {'b': '2'}}


# -- archived --------------------------------------------------------------------------------------


def test_an_archived_record_shares_the_set_and_is_read_whole(base, tmp_path):
    _, digest = died(base)
    (done,) = judged(base, tmp_path)
    assert done.context['distributions'] == THEN
    folder = base.archive / done.run
    on_disk = json.loads((folder / 'incident.json').read_text())['context']
    assert on_disk['installed'] == digest and not {'distributions', 'builds'} & set(on_disk)
    context = Archive(base).record(done.run).context
    assert (context['distributions'], context['builds']) == (THEN, BUILDS)
    assert 'distributions' in Archive(base).record(done.run).to_json()['context']
    (folder / 'installed.json').unlink()
    assert Archive(base).record(done.run).context['distributions'] == THEN


def test_an_older_release_that_archives_the_run_loses_nothing(base, tmp_path):
    run, _ = died(base)
    found = examine(run.path, quiet_world(tmp_path))
    before = {key: found.context[key] for key in found.context if key != 'builds'}
    older = before | {'distributions': {}}  # it does not find them in installed.json
    del older['installed']
    Archive(base).add(run.path, record(run=run.name, verdict='crashed', context=older))
    assert Archive(base).record(run.name).context['distributions'] == THEN


def test_versions_inside_a_record_of_an_older_release_are_read(base):
    each = record(3, 'crashed', context={'distributions': THEN})
    path = base.runs / each.run
    path.mkdir()
    Archive(base).add(path, each)
    assert Archive(base).record(each.run).context['distributions'] == THEN


def test_without_the_set_the_versions_stay_in_the_record(base, tmp_path):
    run, digest = died(base)
    found = examine(run.path, quiet_world(tmp_path))
    (base.path / 'installed' / f'{digest}.json').unlink()
    Archive(base).add(run.path, found)
    assert Archive(base).record(run.name).context['distributions'] == THEN


# -- pruned ----------------------------------------------------------------------------------------


def test_a_set_is_pruned_with_the_last_run_that_has_it(base, tmp_path):
    died(base)
    died(base, 1)
    _, now = died(base, 2, NOW)
    judged(base, tmp_path)
    made_old(base)
    archive = Archive(base)
    archive.prune(2, 90, 1 << 30, now=STARTED + 5 * HOUR)
    assert len(sets(base)) == 2
    archive.prune(1, 90, 1 << 30, now=STARTED + 5 * HOUR)
    assert sets(base) == [f'{now}.json']


def test_the_set_of_a_living_or_waiting_run_is_kept(base):
    died(base)
    made_old(base)
    assert distributionsets.prune(base, STARTED + 5 * HOUR) == 0 and len(sets(base)) == 1


def test_a_young_set_is_kept_for_a_run_that_begins(base, tmp_path):
    run, _ = died(base)
    (run.path / 'installed.json').unlink()
    made_old(base)
    assert distributionsets.prune(base, STARTED + HOUR / 2) == 0
    assert distributionsets.prune(base, STARTED + 2 * HOUR) == 1 and sets(base) == []


def test_a_new_run_makes_an_old_set_young_again(base):
    run, _ = died(base)
    made_old(base)
    (run.path / 'installed.json').unlink()
    died(base, 1)
    (file,) = (base.path / 'installed').iterdir()
    assert file.stat().st_mtime > STARTED + HOUR


def test_other_files_beside_the_sets_are_kept(base):
    folder = base.path / 'installed'
    folder.mkdir()
    for name in ('readme.txt', 'x.json', '0' * 32):
        (folder / name).touch()
    made_old(base)
    assert distributionsets.prune(base) == 0 and len(sets(base)) == 3


def test_damaged_references_do_not_stop_the_pruning(base):
    died(base)
    for number, nonsense in enumerate(('[]', '{"installed": []}', '{"installed": {}}', '\0'), 1):
        (DeadRun(base.path, number).path / 'installed.json').write_text(nonsense)
    made_old(base)
    assert distributionsets.prune(base) == 0


def test_a_base_without_sets_has_nothing_to_prune(base):
    assert distributionsets.prune(base) == 0
