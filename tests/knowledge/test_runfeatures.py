"""What a run is compared by: kept as small values, also if the record is damaged."""

from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample
from support.timezones import time_zone

from Products.StabilityMonitor.knowledge.runfeatures import features_of
from Products.StabilityMonitor.knowledge.runfeatures import features_of_summary
from Products.StabilityMonitor.knowledge.runfeatures import reached
from Products.StabilityMonitor.model.feature import Feature
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.store import objectsets

GIB = 1 << 30


def of_sample(**values):
    return set(features_of(record(samples=(sample(0, rss=1), sample(60, **values)))))


def test_memory_and_threads_are_those_of_the_end_in_coarse_steps():
    found = of_sample(rss=GIB + 5, threads=40, cgroup_current=93 * GIB, cgroup_limit=100 * GIB)
    assert found == {
        Feature('memory-share', '90'),
        Feature('memory', '1024'),
        Feature('threads', '32'),
    }


def test_what_is_below_the_first_step_is_known_and_what_was_not_seen_is_not():
    assert of_sample(rss=5, threads=-1) == {Feature('memory', '0')}
    assert reached(Feature('memory', '0')) == ()


def test_more_memory_is_also_at_least_as_much():
    found = reached(Feature('memory-share', '90'))
    assert [each.name for each in found] == ['50', '80', '90']
    assert reached(Feature('memory', 'x')) == reached(Feature('memory', '-5')) == ()
    assert reached(Feature('path', '/')) == (Feature('path', '/'),)


def test_versions_and_the_digests_of_sets_are_kept():
    objects = (SharedObject('/x.so', ('x',)),)
    context = {
        'python': '3.11.9 (main)\n[GCC]',
        'software': {'zope': '5.10'},
        'installed': 'a' * 32,
        'distributions': {'lxml': '5'},
    }
    assert features_of(record(context=context, shared_objects=objects)) == (
        Feature('python', 'Python', '3.11.9'),
        Feature('zope', 'Zope', '5.10'),
        Feature('installed', 'a' * 32),
        Feature('objects', objectsets.digest_of(objects)),
    )


def test_a_damaged_context_has_no_features():
    for context in ({}, {'python': 3, 'software': [], 'installed': {}}, {'software': {'zope': ''}}):
        assert features_of(record(context=context)) == ()


def test_a_summary_tells_paths_users_and_the_hour(monkeypatch):
    requests = [request(path=f'/orders/{number}/pdf', user='jane') for number in range(5)]
    with time_zone(monkeypatch, 'Europe/Berlin'):
        found = features_of_summary(record(requests=(*requests, request(path=''))))
    assert found == (
        Feature('path', '/orders/*/pdf'),
        Feature('user', who='jane'),
        Feature('hour', '16'),
    )


def test_a_crowd_of_requests_is_cut():
    requests = tuple(request(path=f'/p{chr(97 + n)}', user=f'u{n}') for n in range(26)) * 3
    many = tuple(request(path=f'/{a}{b}') for a in 'abcdefgh' for b in 'abcdefgh')
    assert len(features_of_summary(record(requests=requests + many, ended=None))) == 32 + 26
