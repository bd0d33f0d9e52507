"""The vital signs of a living process, from its samples and from the kernel."""

import pytest
from support.syntheticruns import sample

from Products.StabilityMonitor.inspection import vitalsnow


def test_without_a_sample_there_are_no_vital_signs():
    assert vitalsnow.of((), (), None) is None


@pytest.mark.parametrize(
    'errors, new',
    [([3, 3, 40], 37), ([-1, 5, 6], 1), ([7], 0), ([-1, -1], -1), ([5, -1], -1), ([], None)],
)
def test_the_errors_of_accept_since_the_first_sample_are_counted(errors, new):
    samples = [sample(n, accept_errors=count) for n, count in enumerate(errors)]
    now = vitalsnow.of(samples, (), None)
    assert (now and now.new_errors) == new


def test_the_growth_of_the_memory_is_a_vital_sign():
    growing = [sample(n, rss=(300 << 20) + (n << 21)) for n in range(400)]
    assert vitalsnow.of(growing, (), 1000.0).growth.rate == pytest.approx(1 << 21)
    assert vitalsnow.of(growing[:1], (), 1000.0).growth is None


def test_what_cannot_be_read_from_outside_stays_as_it_was(tmp_path):
    now = vitalsnow.of([sample(descriptors=3, accept_queue=2)], (), None)
    assert vitalsnow.from_outside(now, 4711, tmp_path) == now
