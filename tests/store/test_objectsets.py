"""The shared objects of a run: each set is one shared file, and part of the record of its runs."""

import json
import os

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world

from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import objectsets
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

LIBC = SharedObject('/lib/libc.so.6', (), 'libc.so.6', 'aa')
LXML = SharedObject('/v/lxml/etree.so', ('lxml.etree',), '', 'bb', 'lxml', '6.0.2')
HOUR = 3600


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


def died(base, number=0, objects=(LIBC, LXML)):
    run = DeadRun(base.path, number).crashed()
    return run, objectsets.keep(base, run.path, objects)


def sets(base):
    return sorted(path.name for path in (base.path / 'objects').iterdir())


def test_a_set_is_kept_once_for_all_its_runs(base):
    first, digest = died(base)
    second, same = died(base, 1)
    assert digest == same and sets(base) == [f'{digest}.json']
    assert objectsets.of_run(first.path) == objectsets.of_run(second.path) == (LIBC, LXML)
    assert json.loads((first.path / 'objects.json').read_text()) == {'objects': digest}


def test_a_run_that_imports_more_refers_to_another_set(base):
    run, _ = died(base, objects=[LIBC])
    objectsets.keep(base, run.path, [LIBC, LXML])
    assert objectsets.of_run(run.path) == (LIBC, LXML) and len(sets(base)) == 2


def test_the_record_of_an_archived_run_has_its_objects(base, tmp_path):
    died(base)
    (done,) = triage(base, world=quiet_world(tmp_path))
    on_disk = json.loads((base.archive / done.run / 'incident.json').read_text())
    assert not on_disk.get('shared_objects')
    archive = Archive(base)
    assert archive.record(done.run).shared_objects == (LIBC, LXML)
    assert archive.summaries()[0].shared_objects == ()
    (base.archive / done.run / 'objects.json').unlink()
    assert archive.record(done.run).shared_objects == ()


def test_sets_are_pruned_with_the_last_run_that_has_them(base, tmp_path):
    died(base)
    _, kept = died(base, 1, [LIBC])
    triage(base, world=quiet_world(tmp_path))
    for path in (base.path / 'objects').iterdir():
        os.utime(path, (STARTED, STARTED))
    Archive(base).prune(1, 90, 1 << 30, now=STARTED + 5 * HOUR)
    assert sets(base) == [f'{kept}.json']
    assert objectsets.prune(base) == 0


@pytest.mark.parametrize(
    'document', [None, [], {}, {'objects': 7}, {'objects': [7, {}, {'file': 8}, {'modules': 'a'}]}]
)
def test_a_document_of_another_form_has_no_objects(base, document):
    run = DeadRun(base.path)
    (run.path / 'objects.json').write_text(json.dumps(document))
    assert objectsets.of_run(run.path) == ()
    if isinstance(document, dict):
        objectsets.SETS.keep(base, run.path, document)
    assert all(each.file in ('', '8') for each in objectsets.of_run(run.path))
