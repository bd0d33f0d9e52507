"""Characters that are not printable are escaped: in a line, in JSON, and in the event log."""

import fractions
import io
import json
import logging

import pytest

from Products.StabilityMonitor.model.plaintext import clean
from Products.StabilityMonitor.model.plaintext import json_text
from Products.StabilityMonitor.system.eventlog import LOGGER

#: Newlines, terminal commands, line separators, and characters that change the text direction.
ODD = [
    chr(code)
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x61C,
        0x200E,
        0x200F,
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
        0xD800,
        0xE0001,
    )
]
PLAIN = 'é 日本 ☃ 𝄞 \\ "quoted"'


@pytest.mark.parametrize('char', ODD, ids=ascii)
def test_characters_that_are_not_printable_are_escaped(char):
    shown = clean(f'a{char}b')
    assert shown.isprintable() and shown.startswith('a\\') and shown.endswith('b')


@pytest.mark.parametrize('char', ODD, ids=ascii)
def test_json_escapes_such_characters_without_changing_the_value(char):
    value = {f'key{char}': [f'{PLAIN}{char}', 1.5, None]}
    for indent in (None, 1):
        text = json_text(value, indent=indent)
        assert all(line.isprintable() for line in text.split('\n'))
        assert json.loads(text) == value


def test_other_text_stays_readable():
    assert clean(PLAIN) == PLAIN
    assert PLAIN.replace('\\', '\\\\').replace('"', '\\"') in json_text({'key': PLAIN})


# -- the event log ---------------------------------------------------------------------------------


@pytest.fixture
def logged():
    """A function that returns what a handler like that of Zope's event log has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter('2026 %(levelname)s [%(name)s] %(message)s'))
    LOGGER.addHandler(handler)
    yield lambda: stream.getvalue()
    LOGGER.removeHandler(handler)


FORGED = 'x\n2026 CRITICAL [Zope] forged\x1b[2J\r\u2028\x85\u202e'


def test_a_log_argument_cannot_begin_a_line(logged):
    LOGGER.warning('Slow request: %s has taken %.1f s.', FORGED, 2.04)
    (line,) = logged().splitlines()
    assert line.startswith('2026 WARNING [StabilityMonitor] Slow request: x\\n2026 CRITICAL')
    assert line.endswith(' has taken 2.0 s.')


def test_a_log_message_cannot_begin_a_line(logged):
    LOGGER.warning(FORGED)
    assert len(logged().splitlines()) == 1


def test_a_percent_sign_in_a_message_without_arguments_is_harmless(logged):
    LOGGER.warning('100 % of a/%2F/b')
    assert logged().endswith(' 100 % of a/%2F/b\n')


def test_a_traceback_cannot_look_like_a_log_record(logged):
    try:
        raise ValueError(FORGED)
    except ValueError:
        LOGGER.warning('It failed.', exc_info=True)
    first, *others = logged().splitlines()
    assert first == '2026 WARNING [StabilityMonitor] It failed.'
    assert others[0].strip() == 'Traceback (most recent call last):'
    assert all(line.startswith('    ') and line.isprintable() for line in others)
    assert any('ValueError: x' in line for line in others)


def test_any_object_can_be_logged(logged):
    class Odd:
        def __str__(self):
            return FORGED

    LOGGER.warning('%s and %s', Odd(), b'\n')
    assert len(logged().splitlines()) == 1


def test_arguments_by_name_are_cleaned(logged):
    LOGGER.warning('%(path)s', {'path': FORGED})
    assert len(logged().splitlines()) == 1


def test_a_stack_cannot_look_like_a_log_record(logged):
    LOGGER.warning('Here.', stack_info=True)
    assert all(line.startswith('    ') for line in logged().splitlines()[1:])


class Unspeakable:
    def __str__(self):
        raise ValueError('no words')


@pytest.mark.parametrize('argument', [Unspeakable(), Unspeakable])
def test_logging_any_argument_gives_one_line(logged, argument):
    LOGGER.warning('%s', argument)
    assert len(logged().splitlines()) == 1


def test_logging_an_exception_that_cannot_be_shown_does_not_raise(logged):
    try:
        raise SyntaxError('x', ('f', 1, 1, 5))
    except SyntaxError:
        LOGGER.exception('The tab is missing.')
    assert logged().startswith('2026 ')


def test_number_arguments_keep_their_format(logged):
    LOGGER.warning('%.1f %d', fractions.Fraction(1, 2), True)
    assert logged().endswith(' 0.5 1\n')
