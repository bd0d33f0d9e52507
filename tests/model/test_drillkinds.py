"""What each drill should be reported as, and on which sites it is reported otherwise."""

import pytest

from Products.StabilityMonitor.model.drillkinds import VERDICTS_OF_DRILLS
from Products.StabilityMonitor.model.drillkinds import expectation
from Products.StabilityMonitor.model.verdicts import VERDICTS
from Products.StabilityMonitor.store import blackbox


def with_stderr(kind):
    return {'outputs': {'2': {'kind': kind}}}


def test_each_drill_has_a_verdict():
    assert tuple(VERDICTS_OF_DRILLS) == blackbox.DRILLS
    assert set(VERDICTS_OF_DRILLS.values()) <= set(VERDICTS)


@pytest.mark.parametrize('drill', blackbox.DRILLS)
def test_a_site_whose_standard_error_is_a_file_shows_the_usual_verdict(drill):
    assert str(expectation(drill, with_stderr('file'))) == VERDICTS_OF_DRILLS[drill]


@pytest.mark.parametrize(
    'kind, words',
    [('pipe', 'a pipe'), ('terminal', 'a terminal'), ('closed', 'closed'), ('other', 'no file')],
)
def test_a_fatal_error_leaves_no_trace_without_a_file(kind, words):
    expected = expectation('fatal-error', with_stderr(kind))
    assert str(expected) == f'vanished, since standard error is {words}'
    assert str(expectation('abort', with_stderr(kind))) == 'aborted'


@pytest.mark.parametrize('drill', ['segfault', 'abort', 'stack-overflow'])
def test_a_crash_leaves_no_trace_without_a_fault_log(drill):
    expected = expectation(drill, {}, has_fault_log=False)
    assert str(expected) == 'vanished, since the fault log is off'


@pytest.mark.parametrize('context', [{}, {'outputs': 7}, {'outputs': {'2': 7}}, with_stderr(7)])
def test_a_damaged_context_gives_the_usual_verdict(context):
    assert str(expectation('fatal-error', context)) == 'aborted'


def test_a_drill_of_another_release_is_not_known():
    assert expectation('of-2030', {}) is None
