"""A traceback is summarized in one line, whatever its message looks like."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.model.tracebacksummary import exception_line
from Products.StabilityMonitor.model.tracebacksummary import exception_name


def text_of(error):
    try:
        raise error
    except BaseException as caught:
        return ''.join(traceback.format_exception(caught))


def noted(error, note):
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    'error, name, line',
    [
        (ValueError('bad'), 'ValueError', 'ValueError: bad'),
        (KeyboardInterrupt(), 'KeyboardInterrupt', 'KeyboardInterrupt'),
        (ValueError('two\nlines: of text'), 'ValueError', 'ValueError: two lines: of text'),
        (
            ValueError('indented\n    File "/etc/site.zcml", line 1.11'),
            'ValueError',
            'ValueError: indented File "/etc/site.zcml", line 1.11',
        ),
        (
            noted(LookupError('odd'), '    a note\n    of two lines'),
            'LookupError',
            'LookupError: odd a note of two lines',
        ),
        (ValueError(''), 'ValueError', 'ValueError'),
        (
            UnicodeDecodeError('utf-8', b'x', 0, 1, 'why'),
            'UnicodeDecodeError',
            "UnicodeDecodeError: 'utf-8' codec can't",
        ),
    ],
)
def test_an_exception_is_summarized_in_one_line(error, name, line):
    text = text_of(error)
    assert exception_name(text) == name
    assert exception_line(text).startswith(line) and '\n' not in exception_line(text)


def test_of_a_chain_the_last_exception_is_used():
    try:
        try:
            raise ValueError('first')
        except ValueError as error:
            raise KeyError('second') from error
    except KeyError as error:
        text = ''.join(traceback.format_exception(error))
    assert exception_line(text) == "KeyError: 'second'"


def test_a_class_name_may_include_its_module():
    text = (
        'Traceback (most recent call last):\n  File "x", line 1, in f\n    '
        'f()\nzc.lockfile.LockError: locked\n'
    )
    assert exception_name(text) == 'zc.lockfile.LockError'


@pytest.mark.parametrize(
    'text, line', [('', ''), ('\n\n', ''), ('no exception', 'no exception'), ('  (odd)', '(odd)')]
)
def test_text_without_an_exception_has_no_class_name(text, line):
    assert exception_line(text) == line and exception_name(text) == ''


def test_a_long_message_is_cut():
    assert len(exception_line(text_of(ValueError('x' * 9999)))) < 320


@given(st.text())
def test_any_text_gives_one_line(text):
    assert '\n' not in exception_line(text) and isinstance(exception_name(text), str)
