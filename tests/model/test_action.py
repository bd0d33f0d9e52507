"""An action marks which of its pieces are code, and has a text form."""

import ast
from pathlib import Path

import pytest

from Products.StabilityMonitor.model.action import NOTHING
from Products.StabilityMonitor.model.action import Action

HOUSE = Path(__file__).resolve().parents[2] / 'Products' / 'StabilityMonitor'


def pieces(action):
    """The pieces of an action, with code in square brackets."""
    return [f'[{piece.text}]' if piece.is_code else piece.text for piece in action.pieces]


@pytest.mark.parametrize(
    'action, found, text',
    [
        (Action('Start Zope.'), ['Start Zope.'], 'Start Zope.'),
        (
            Action('Write "threads = 1" into `[server:main]` of zope.ini.'),
            ['Write ', '[threads = 1]', ' into ', '[[server:main]]', ' of zope.ini.'],
            'Write "threads = 1" into [server:main] of zope.ini.',
        ),
        (
            Action('`pip install "ZODB<6.3"`'),
            ['[pip install "ZODB<6.3"]'],
            'pip install "ZODB<6.3"',
        ),
        (
            Action('"a {size}" into `<{name}>`, {size:,} times', size=1000, name='main'),
            ['[a 1000]', ' into ', '[<main>]', ', 1,000 times'],
            '"a 1000" into <main>, 1,000 times',
        ),
        (Action('Write "one quotation mark.'), ['Write "one quotation mark.'], None),
        (Action('Set %{GLOBAL} and {}.'), ['Set %{GLOBAL} and {}.'], None),
        (NOTHING, [], ''),
        (Action.plain(''), [], ''),
    ],
)
def test_an_action_has_pieces_and_a_text_form(action, found, text):
    assert pieces(action) == found
    assert str(action) == (''.join(found) if text is None else text)
    assert bool(action) == bool(found)


@pytest.mark.parametrize('path', ['/a "b" c', '/a`b`c', '/{x}', '"', '`'])
def test_quotation_marks_in_a_value_do_not_mark_code(path):
    action = Action('Make {path} writable: "chmod {path}".', path=path)
    assert pieces(action) == [f'Make {path} writable: ', f'[chmod {path}]', '.']


def test_the_text_of_a_foreign_document_counts_as_words():
    text = 'Write "x" into `[y]` {z}.'
    assert pieces(Action.plain(text)) == [text]
    assert str(Action.plain(text)) == text


def test_actions_can_be_joined_and_added():
    lines = Action(' and ').join([Action('"a"'), Action('"b"')])
    assert pieces(lines) == ['[a]', ' and ', '[b]']
    assert str(Action('Write ') + lines + Action('.')) == 'Write "a" and "b".'
    assert Action('Write "a"') + NOTHING == Action('Write "a"')


def test_all_marks_in_the_source_are_closed():
    found = []
    for path in HOUSE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'Action':
                found += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    assert len(found) > 80
    for marked in found:
        words = ''.join(piece.text for piece in Action(marked).pieces if not piece.is_code)
        assert '`' not in words and '"' not in words, marked
