"""Features of archived runs: from the cache, the summary, and the sets that runs share."""

from dataclasses import replace

import pytest
from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample

from Products.StabilityMonitor.knowledge import featuresets
from Products.StabilityMonitor.knowledge.featuresets import comparison
from Products.StabilityMonitor.knowledge.featuresets import facts_of
from Products.StabilityMonitor.knowledge.runfeatures import features_of
from Products.StabilityMonitor.knowledge.signedruns import SignedRuns
from Products.StabilityMonitor.model.feature import Feature
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store import objectsets
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

DAY = 86400
OLD = (
    SharedObject('/v/lxml/etree.cpython-311-x86_64-linux-gnu.so', ('lxml.etree',)),
    SharedObject('/v/lxml.libs/libxml2-0a1b2c3d.so.2.9.14', (), 'libxml2.so.2'),
)
NEW = (*OLD, SharedObject('/v/shop/_fast.so', ('shop._fast',)))


@pytest.fixture
def archive(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return Archive(base)


def keep(archive, number, lxml='5.1', objects=OLD, **values):
    """Archive a run with these versions and shared objects."""
    run = record(number, samples=(sample(rss=1 << 30),), **values)
    path = archive.base.runs / run.run
    path.mkdir()
    versions = {'lxml': lxml, 'Zope': '5.10'}
    objectsets.keep(archive.base, path, objects)
    digest = distributionsets.keep(archive.base, path, versions, {})
    context = {'installed': digest, 'distributions': versions, 'software': {'zope': '5.10'}}
    archive.add(path, replace(run, context=context))


def facts(archive):
    return facts_of(archive.base, archive.summaries(), SignedRuns(archive).features)


def names(features):
    return {each.name for each in features}


def test_sets_are_found_by_their_digests(archive):
    keep(archive, 1, verdict='crashed', requests=(request(path='/a/7'),))
    (found,) = facts(archive)
    assert found.features['distribution'] == {Feature('distribution', 'lxml', '5.1')}
    assert found.features['zope'] == {Feature('zope', 'Zope', '5.10')}
    assert names(found.features['module']) == {'lxml.etree'}
    assert names(found.features['library']) == {'libxml2'}
    assert names(found.features['memory']) == {'128', '256', '512', '1024'}
    assert names(found.features['path']) == {'/a/*'}
    assert found.features['user'] == frozenset()
    assert 'threads' not in found.features
    assert not {'installed', 'objects'} & found.features.keys()


def test_runs_with_the_same_set_share_it_in_memory(archive):
    keep(archive, 1)
    keep(archive, 2)
    one, other = facts(archive)
    assert one.features['module'] is other.features['module']
    assert one.features['distribution'] is other.features['distribution']


def test_the_names_in_a_set_are_not_copied_beside_each_record(archive):
    keep(archive, 1, verdict='crashed', requests=(request(user='jane'),))
    (summary,) = archive.summaries()
    SignedRuns(archive).of(summary)
    content = (archive.path / summary.run / 'signature.json').read_text()
    assert 'lxml' not in content and 'jane' not in content


@pytest.mark.parametrize('folder', ['installed', 'objects'])
def test_of_a_damaged_set_nothing_is_known(archive, folder):
    keep(archive, 1)
    (path,) = (archive.base.path / folder).iterdir()
    path.write_text('{}')
    (found,) = facts(archive)
    assert ({'distribution', 'module'} & found.features.keys()) == {
        'module' if folder == 'installed' else 'distribution'
    }


def test_a_run_of_an_older_release_has_no_sets(archive):
    run = record(3)
    (archive.base.runs / run.run).mkdir()
    archive.add(archive.base.runs / run.run, run)
    (found,) = facts(archive)
    assert set(found.features) == {'path', 'user', 'hour'}


def test_digests_are_those_with_which_sets_were_kept(archive):
    keep(archive, 1, objects=NEW)
    (run,) = archive.summaries()
    (kept,) = (archive.base.path / 'objects').iterdir()
    assert objectsets.digest_of(archive.record(run.run).shared_objects) == kept.stem
    assert features_of(archive.record(run.run))[-1] == Feature('objects', kept.stem)


def test_an_incident_is_compared_with_the_archive(archive):
    for number in range(0, 24, 3):
        keep(archive, number, objects=NEW, verdict='crashed')
        keep(archive, number + 1)
    for number in range(24, 27):
        keep(archive, number, lxml='5.2')
    summaries = archive.summaries()
    group = [run for run in summaries if run.is_incident]
    signed = SignedRuns(archive)
    found = comparison(archive.base, group, summaries, signed.features, group[-1].ended + DAY)
    (module,) = found.correlations
    assert [each.name for each in module.features] == ['shop._fast']
    assert (module.having, module.runs, module.others_having, module.others) == (8, 8, 0, 11)
    assert [(each.version, each.having, each.others_having) for each in found.versions] == [
        ('5.1', 8, 8),
        ('5.2', 0, 3),
    ]
    assert [(each.changes[0].after, each.runs) for each in found.since] == [('5.2', 3)]
    assert found.rate.per_day == 8.0
    assert to_json(found)['rate']['count'] == 8


def test_it_is_compared_again_only_if_a_run_has_changed(archive):
    asked = []

    def kept(run):
        asked.append(run.run)
        return ()

    keep(archive, 1, verdict='crashed')
    keep(archive, 2, verdict='crashed')
    summaries = archive.summaries()
    first = comparison(archive.base, summaries, summaries, kept, summaries[1].ended + 2 * DAY)
    again = comparison(
        archive.base, archive.summaries(), archive.summaries(), kept, summaries[1].ended + 4 * DAY
    )
    assert len(asked) == 2
    assert (first.rate.per_day, again.rate.per_day) == (1.0, 0.5)
    keep(archive, 3)
    comparison(archive.base, summaries, archive.summaries(), kept, summaries[1].ended)
    assert len(asked) == 5
    for number in range(9):
        comparison(Base(archive.base.path / str(number)), summaries, summaries, kept, 0.0)
    assert len(featuresets._KNOWN) == featuresets._KEPT_COMPARISONS


def test_caches_of_sets_are_bounded():
    assert featuresets._distributions.cache_info().maxsize == featuresets._SETS
    assert featuresets._objects.cache_info().maxsize == featuresets._SETS
