"""What was different at the time before: users are where redaction finds them."""

from support.syntheticruns import record
from support.syntheticruns import request
from support.syntheticruns import sample

from Products.StabilityMonitor.knowledge.earliertime import differences
from Products.StabilityMonitor.model.comparisons import Difference
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.reporting.redaction import redacted

GIB = 1 << 30


def crash(number=0, **values):
    return record(number, 'crashed', **values)


def with_versions(python='3.11.9 (main)', **versions):
    return crash(context={'python': python, 'distributions': versions})


def test_equal_incidents_differ_in_nothing():
    values = {'samples': (sample(),), 'requests': (request(user='jane'),)}
    assert differences(crash(9, **values), crash(1, **values)) == ()


def test_versions_that_changed_came_or_went():
    now = with_versions('3.14.0', lxml='5', six='1', new='1')
    before = with_versions(lxml='4', six='1', Gone='2')
    assert differences(now, before) == (
        Difference('python', 'Python', '3.11.9', '3.14.0'),
        Difference('distribution', 'Gone', '2', ''),
        Difference('distribution', 'lxml', '4', '5'),
        Difference('distribution', 'new', '', '1'),
    )
    assert differences(now, crash()) == differences(crash(), now) == ()


def test_an_upgrade_of_everything_names_a_few():
    names = [f'd{number:02}' for number in range(30)]
    found = differences(
        with_versions(**dict.fromkeys(names, '2')), with_versions(**dict.fromkeys(names, '1'))
    )
    assert [each.more for each in found] == [0] * 9 + [20]


def test_options_differ_but_a_hidden_one_is_not_shown():
    now = crash(context={'options': {'stall': 30.0, 'keep-runs': 5, 'redact-pattern': 'ACME-1'}})
    before = crash(context={'options': {'stall': 60.0, 'keep-runs': 5, 'redact-pattern': 'Nile'}})
    assert differences(now, before) == (
        Difference('option', 'stall', '60.0', '30.0'),
        Difference('option', 'redact-pattern'),
    )


def test_paths_and_users_of_the_requests():
    now = crash(requests=(request(path='/orders/7/pdf', user='jane'), request(path='/a')))
    before = crash(requests=(request(path='/orders/8/pdf'), request(path='/b', user='joe')))
    assert differences(now, before) == (
        Difference('path', before='/b /orders/*/pdf', after='/a /orders/*/pdf'),
        Difference('user', who=('jane',), who_before=('joe',)),
    )


def test_what_leaves_has_pseudonyms_of_users():
    now = crash(requests=(request(user='jane'),))
    (user,) = differences(now, crash(requests=(request(user='joe'),)))
    copy, _ = redacted({'requests': [to_json(now.requests[0])], 'different': [to_json(user)]})
    assert copy['requests'][0]['user'] == 'user-1'
    assert copy['different'][0]['who'] == ['user-1']
    assert copy['different'][0]['who_before'] == ['user-2']


def test_uptimes_that_are_far_apart_differ():
    def of(now, before):
        return differences(crash(uptime_seconds=now), crash(uptime_seconds=before))

    assert of(7200.4, 3600.0) == (Difference('uptime', before='3600', after='7200'),)
    assert of(7100.0, 3600.0) == of(50.0, 1.0) == of(None, 9999.0) == of(9999.0, None) == ()


def test_memory_and_threads_that_differ_by_a_quarter():
    def of(**values):
        return crash(samples=(sample(0, rss=1), sample(60, **values)))

    now = of(rss=5 * GIB, threads=10, cgroup_current=98, cgroup_limit=100)
    before = of(rss=4 * GIB, threads=9, cgroup_current=60, cgroup_limit=100)
    assert differences(now, before) == (
        Difference('memory-share', before='60', after='98'),
        Difference('memory', before='4096', after='5120'),
    )
    assert differences(of(rss=0), of(rss=0)) == differences(now, crash()) == ()
