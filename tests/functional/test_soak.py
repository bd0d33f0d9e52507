"""A short soak test of a real Zope: page templates, errors, retried conflicts, forms, writes,
streams and slow requests.

`benchmarks/bench_soak.py` does the same with the requests of a whole day, beside a Zope without the
product.
"""

import pytest
from support.zopekit import ZopeInstance

from benchmarks import soaking
from benchmarks.programs import mixed_load

pytestmark = pytest.mark.xdist_group('soak')
REQUESTS = 8_000
TRACE_LOG = {'trace-log': 'trace.log', 'trace-log-size': '500KB'}
#: Bytes that may be added after the warm-up.  ONCE is for caches that fill only once, such as the
#: parsed code of a file (5.2 MiB; on a busy machine all of it comes after the warm-up).  STEADILY
#: is for steady growth: over 8,400 requests, a leak of 65 bytes each is seen.
ONCE, STEADILY = 11 << 19, 1 << 19


@pytest.fixture(scope='module')
def soak(tmp_path_factory):
    zope = soaking.prepare(
        ZopeInstance(
            tmp_path_factory.mktemp('soak'), options=soaking.OPTIONS | TRACE_LOG, stderr='null'
        )
    )
    soak = soaking.Soak(zope.create().start(), REQUESTS).start()
    try:
        for _ in range(soak.looks):
            soak.look()
        soak.end()
        soak.report = zope.report()
        yield soak
    finally:
        soak.kill()
        zope.destroy()


@pytest.mark.slow
@pytest.mark.zope
class TestSoak:
    def test_every_kind_of_request_gets_its_expected_status(self, soak):
        assert {kind: set(statuses) for kind, statuses in soak.answered.items()} == {
            kind: {str(status)} for kind, (_, _, status) in mixed_load.KINDS.items()
        }
        assert sum(sum(statuses.values()) for statuses in soak.answered.values()) == REQUESTS

    def test_memory_does_not_grow(self, soak):
        assert soaking.growth(soak.held, 'resident') < ONCE, soak.held
        assert soaking.steady_growth(soak.held, 'resident') < STEADILY, soak.held

    @pytest.mark.parametrize('what, most', soaking.MORE.items())
    def test_no_other_resource_grows(self, soak, what, most):
        assert soaking.growth(soak.held, what) <= most, soak.held

    def test_slow_requests_are_seen_and_no_hang_is_reported(self, soak):
        """Also no part of the heartbeat was switched off.  A start may be slow here."""
        assert len(soak.report['slow_requests']) > 20
        assert [
            finding for finding in soak.report['checks'] if finding['id'].startswith('heartbeat')
        ] == []
        assert {hang['kind'] for hang in soak.report['hangs']} <= {'slow-start'}

    def test_the_trace_log_rotates_and_loses_no_line(self, soak):
        logs = sorted(soak.zope.stability.glob('trace.log.[0-9]'))
        assert logs and not [
            log for log in logs if ' lines before this one are lost: ' in log.read_text()
        ]
        assert [finding for finding in soak.report['checks'] if finding['id'] == 'trace-log'] == []


class TestTheMeasure:
    """A soak test that misses a leak would prove nothing."""

    def held(self, resident, descriptors=lambda n: 30):
        return [
            soaking.Held(n * 500, resident(n), descriptors(n), 6, 5, n * 0.25)
            for n in range(1, soaking.LOOKS + 1)
        ]

    def test_a_steady_leak_is_detected(self):
        leaking = self.held(lambda n: (60 << 20) + n * 500 * 50)
        assert soaking.steady_growth(leaking, 'resident') > STEADILY

    def test_a_leak_in_steps_is_detected(self):
        leaking = self.held(lambda n: (60 << 20) + (n // 4 << 20))
        assert (
            soaking.growth(leaking, 'resident') > ONCE
            and soaking.steady_growth(leaking, 'resident') > STEADILY
        )

    def test_a_leak_of_descriptors_is_detected(self):
        leaking = self.held(lambda n: 60 << 20, lambda n: 30 + n // 5)
        assert soaking.growth(leaking, 'descriptors') > soaking.MORE['descriptors']

    def test_warm_up_and_noise_are_not_a_leak(self):
        noisy = self.held(
            lambda n: (60 << 20) + min(n, 8) * (1 << 20) + (n % 3) * (1 << 18), lambda n: 30 + n % 2
        )
        assert (
            soaking.growth(noisy, 'resident') < ONCE
            and soaking.steady_growth(noisy, 'resident') < STEADILY
        )
        assert soaking.growth(noisy, 'descriptors') == 0

    def test_caches_that_fill_once_are_not_a_leak(self):
        filled = self.held(lambda n: (60 << 20) + (2 << 20) * (n > 20) + (1 << 20) * (n > 30))
        assert (
            soaking.growth(filled, 'resident') < ONCE
            and soaking.steady_growth(filled, 'resident') == 0
        )

    def test_the_cost_of_a_request_is_its_cpu_time(self):
        assert soaking.cost(self.held(lambda n: 1)) == pytest.approx(500)
