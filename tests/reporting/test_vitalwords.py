"""The words for vital signs; what is not known is never shown as 0."""

import pytest
from support.syntheticruns import sample

from Products.StabilityMonitor.inspection import vitalsnow
from Products.StabilityMonitor.knowledge.growth import Growth
from Products.StabilityMonitor.reporting import vitalwords

BUSY = {
    'queue': 3,
    'waited': 2.13,
    'connections': 97,
    'connection_limit': 100,
    'accept_queue': 12,
    'accept_errors': 1234,
    'descriptors': 1020,
    'descriptor_limit': 1024,
    'cgroup_current': 300 << 20,
    'cgroup_limit': 2 << 30,
}


def told(**values):
    return dict(vitalwords.facts(vitalsnow.of([sample(**values)], (), None)))


def test_each_vital_sign_is_told_with_its_limit():
    assert told(**BUSY) == {
        'Requests that wait for a worker': '3, the oldest for 2.1 s',
        'Connections': '97 of 100',
        'Connections that wait in the kernel': '12',
        'Failed accept()': '1,234 times since the start, 0 of them in the last 0 s',
        'Open descriptors': '1,020 of 1,024',
        'Memory': '200 MiB; its memory cgroup 300 MiB of 2.0 GiB',
        'Growth of memory': 'none was found',
    }


def test_what_is_not_known_is_said_to_be_not_known():
    """As of gunicorn, of an older release, and of a system without /proc."""
    found = told(rss=-1)
    for label, words in found.items():
        assert words.startswith('not known') or label == 'Growth of memory', (label, words)


def test_a_server_that_has_nothing_to_do_is_told_with_zeros():
    found = told(queue=0, waited=0.0, connections=2, accept_queue=0, accept_errors=0)
    assert found['Requests that wait for a worker'] == '0'
    assert found['Failed accept()'] == 'never'
    assert found['Connections'] == '2', 'its limit is not known'


def test_the_newest_errors_of_accept_are_told():
    samples = [sample(0, accept_errors=5), sample(75, accept_errors=12)]
    found = dict(vitalwords.facts(vitalsnow.of(samples, (), None)))
    assert found['Failed accept()'] == '12 times since the start, 7 of them in the last 1 min 15 s'


def test_growth_is_told():
    growth = Growth(43200.0, 800 << 20, 1280 << 20, (40 << 20) / 3600)
    now = vitalsnow.VitalsNow(sample(), growth=growth)
    assert dict(vitalwords.facts(now))['Growth of memory'] == growth.summary
    limited = vitalsnow.VitalsNow(
        sample(cgroup_current=1688 << 20, cgroup_limit=2048 << 20), growth=growth
    )
    assert dict(vitalwords.facts(limited))['Growth of memory'] == (
        f'{growth.summary}; its memory cgroup is full in about 9 hours at this rate'
    )


@pytest.mark.parametrize(
    'values, words',
    [
        ({}, ''),
        ({'queue': 0, 'waited': 0.0}, 'requests waiting for a worker 0'),
        (
            BUSY,
            'requests waiting for a worker 3 (the oldest for 2.1 s), connections 97 of 100, '
            'waiting in the kernel 12, failed accept() 1,234',
        ),
    ],
)
def test_a_sample_of_a_dead_run_tells_what_was_known_of_the_server(values, words):
    assert ', '.join(vitalwords.of_the_end(sample(**values))) == words
