"""Words about signatures."""

import pytest
from support.syntheticruns import STARTED

from Products.StabilityMonitor.model import comparisons
from Products.StabilityMonitor.model import feature
from Products.StabilityMonitor.model.comparisons import Correlation
from Products.StabilityMonitor.model.comparisons import Difference
from Products.StabilityMonitor.model.comparisons import Since
from Products.StabilityMonitor.model.comparisons import VersionChange
from Products.StabilityMonitor.model.feature import Feature
from Products.StabilityMonitor.model.seenbefore import SeenBefore
from Products.StabilityMonitor.reporting import signaturewords


@pytest.mark.parametrize(
    'values, words',
    [
        ({}, 'Not seen before.'),
        ({'since': 2}, 'Not seen before; seen 2 times since.'),
        ({'count': 1, 'last': STARTED}, 'Seen before: once, 2026-'),
        ({'count': 1200, 'first': STARTED, 'last': STARTED}, 'Seen before: 1,200 times, first 2'),
        ({'count': 1, 'since': 1}, '; seen once since.'),
        ({'count': 1, 'weak': True}, 'these may be different faults.'),
        ({'unsigned': 3}, 'Not seen before; 3 past incidents not looked at yet.'),
    ],
)
def test_seen_before_is_one_sentence(values, words):
    said = signaturewords.seen_words(SeenBefore('SIGSEGV x 0', '0', **values))
    assert words in said and said.count('.') == 1


@pytest.mark.parametrize(
    'difference, words',
    [
        (Difference(feature.DISTRIBUTION, 'lxml', '', '6.1'), ('lxml', 'not installed', '6.1')),
        (
            Difference(feature.DISTRIBUTION, 'lxml', '6.0', '6.1', more=4),
            ('lxml and 4 more', '6.0', '6.1'),
        ),
        (Difference(comparisons.OPTION, 'stall', '30', '60'), ('Option stall', '30', '60')),
        (
            Difference(comparisons.UPTIME, before='7200', after='60'),
            ('Uptime', '2 hours', '1 min'),
        ),
        (Difference(feature.MEMORY, before='300', after='900'), ('Memory', '300 MiB', '900 MiB')),
        (Difference(feature.USER, who=('a', 'b')), ('User', 'none', 'a, b')),
        (Difference(feature.PATH, after='/a'), ('Request in progress', 'none', '/a')),
        (Difference('later', before='x', after='y'), ('later', 'x', 'y')),
    ],
)
def test_a_difference_says_what_it_was_then_and_is_now(difference, words):
    assert signaturewords.difference_words(difference) == words


@pytest.mark.parametrize(
    'per_day, words',
    [
        (None, ''),
        (0.0, ''),
        (2.5, '2.5 a day'),
        (0.99, '1.0 a day'),
        (0.25, '1 in 4.0 days'),
        (0.01, '1 in 100 days'),
    ],
)
def test_a_rate_is_told_per_day_or_in_days(per_day, words):
    assert signaturewords.rate_words(per_day) == words


def correlation(kind, *features, **values):
    counts = {'more': 0, 'having': 7, 'runs': 7, 'others_having': 1, 'others': 12}
    rest = {'are_incidents': True, 'probability': 0.00021}
    return Correlation(kind, features, **(counts | rest | values))


@pytest.mark.parametrize(
    'found, words',
    [
        (
            correlation(feature.PATH, Feature(feature.PATH, '/orders/*/pdf')),
            ('Request in progress', '/orders/*/pdf'),
        ),
        (correlation(feature.USER, Feature(feature.USER, who='ada')), ('User', 'ada')),
        (
            correlation(feature.HOUR, Feature(feature.HOUR, '3')),
            ('Hour of day', '03:00 to 03:59'),
        ),
        (
            correlation(feature.MEMORY_SHARE, Feature(feature.MEMORY_SHARE, '90')),
            ('Memory, of the limit', '90 % or more'),
        ),
        (
            correlation(feature.DISTRIBUTION, Feature(feature.DISTRIBUTION, 'lxml', '6'), more=2),
            ('Version', 'lxml 6 and 2 more'),
        ),
    ],
)
def test_what_incidents_share_is_told_with_counts(found, words):
    *named, these, others, chance = signaturewords.shared_words(found)
    assert tuple(named) == words
    assert (these, others, chance) == ('7 of 7', '1 of 12 other incidents', '1 in 4,800')


def test_other_runs_are_not_called_incidents():
    found = correlation(feature.THREADS, Feature(feature.THREADS, '8'), are_incidents=False)
    assert signaturewords.shared_words(found)[3] == '1 of 12 other runs'


@pytest.mark.parametrize('probability', [0.0, 1e-12])
def test_a_tiny_probability_is_told_as_less_than(probability):
    assert signaturewords.chance_words(probability) == 'less than 1 in 1,000,000'


def test_since_a_change_of_versions():
    change = VersionChange('lxml', '6.0', '')
    words = signaturewords.since_words(Since((change,), 1, 12, 7200.0, is_cut=False))
    assert words == (
        'Since lxml 6.0 -> not installed and 1 more: none in 12 runs, 2 hours of uptime.'
    )
    assert 'none in the last 9 runs' in signaturewords.since_words(
        Since((change,), 0, 9, 60.0, is_cut=True)
    )
