"""JSON of others is read as finite and bounded values, or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.model import foreignjson
from Products.StabilityMonitor.model.foreignjson import parse
from Products.StabilityMonitor.model.foreignjson import tame


@pytest.mark.parametrize('text', ['NaN', 'Infinity', '-Infinity', '1e999', '1e19', f'1{"0" * 400}'])
def test_a_number_that_no_record_holds_counts_as_missing(text):
    content = f'{{"a": {text}, "b": [{text}, 1, {{"c": {text}}}], "d": 2.5}}'
    assert parse(content.encode()) == {'b': [1, {}], 'd': 2.5}
    assert parse(text.encode()) is None


@pytest.mark.parametrize('text', ['', '[', '{"a": ]', '\x00', '9' * 5000, 'nan'])
def test_damaged_json_is_an_error(text):
    with pytest.raises(ValueError):
        parse(text.encode())


@pytest.mark.parametrize('opening, closing', ['[]', ('{"a":', '}')])
@pytest.mark.parametrize('depth', [40, 500, 900, 100_000])
def test_deep_nesting_is_cut_or_an_error(opening, closing, depth):
    content = f'{opening * depth}1{closing * depth}'.encode()
    try:
        found = parse(content)
    except ValueError:
        assert depth > 500
        return
    assert json.dumps(found).count(opening[0]) == 32


def test_a_document_of_too_many_values_is_an_error():
    few = [[]] * (foreignjson.MOST_VALUES // 2 - 2)
    assert len(parse(json.dumps(few).encode())) == foreignjson.MOST_ITEMS
    with pytest.raises(ValueError, match='too many'):
        parse(json.dumps([*few, *few]).encode())


@pytest.mark.parametrize('character, size', [('x', 1), ('ü', 1), ('€', 2), ('\U0001f600', 4)])
def test_a_document_of_too_much_text_is_an_error(character, size):
    text = character * 20_000
    few = (foreignjson.MOST_TEXT - 60_000) // (20_000 * size)
    assert len(parse(json.dumps([text] * few).encode())) == few
    for document in ([text] * (few + 4), {text + str(number): 1 for number in range(few + 4)}):
        with pytest.raises(ValueError, match='too much'):
            parse(json.dumps(document).encode())


def test_long_texts_lists_and_objects_are_cut():
    long = 'x' * (foreignjson.LONGEST_TEXT + 1)
    assert parse(json.dumps({'a': long, long: 1}).encode()) == {'a': long[1:], long[1:]: 1}
    many = foreignjson.MOST_ITEMS + 1
    assert parse(json.dumps([0] * many).encode()) == [0] * foreignjson.MOST_ITEMS
    numbers = {str(number): number for number in range(many)}
    assert len(parse(json.dumps(numbers).encode())) == foreignjson.MOST_ITEMS


def test_bytes_that_are_no_utf_8_are_replaced():
    assert parse(b'{"a": "\xff"}') == {'a': '\ufffd'}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(values)
@settings(max_examples=300, deadline=None)
def test_what_is_read_can_be_written_and_read_again(value):
    found = parse(json.dumps(value).encode())
    assert parse(json.dumps(found, allow_nan=False).encode()) == found == tame(value)
