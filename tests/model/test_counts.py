import pytest

from Products.StabilityMonitor.model.counts import counted
from Products.StabilityMonitor.model.counts import plural


@pytest.mark.parametrize(
    'number, words',
    [(0, '0 workers'), (1, '1 worker'), (2, '2 workers'), (12_000, '12,000 workers')],
)
def test_a_number_has_the_right_noun(number, words):
    assert counted(number, 'worker') == words


@pytest.mark.parametrize('number, word', [(0, 'were'), (1, 'was'), (2, 'were')])
def test_an_irregular_plural_is_given(number, word):
    assert plural(number, 'was', 'were') == word
