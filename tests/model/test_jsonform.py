"""The JSON form of a value: it is made from annotations, and nothing that is read is trusted."""

import json
import math
from dataclasses import dataclass
from dataclasses import field
from typing import Annotated
from typing import Any
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.model import jsonform
from Products.StabilityMonitor.model.jsonform import Form
from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.jsonform import items_from_json
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import Moment
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.model.threadstates import ThreadState


def from_hex(text):
    return int(text, 16) if isinstance(text, str) else None


@dataclass(frozen=True)
class Wheel:
    size: int
    maker: str = 'unknown'


@dataclass(frozen=True)
class Bicycle:
    name: str
    bought: Moment | None = None
    price: float = 0.0
    is_sold: bool = False
    wheels: tuple[Wheel, ...] = ()
    bell: Wheel | None = None
    colours: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    owner: Annotated[int, Form(hex, from_hex, key='owned_by')] = 0

    ALSO_IN_JSON: ClassVar = ('label',)

    @property
    def label(self):
        return f'bicycle {self.name}'


BICYCLE = Bicycle(
    'Ada', 1795419901.5, 99.5, True, (Wheel(28, 'x'), Wheel(26)), Wheel(3), ('red',), {'a': [1]}, 17
)
DOCUMENT = {
    'name': 'Ada',
    'bought': '2026-11-23T07:45:01.500Z',
    'price': 99.5,
    'is_sold': True,
    'wheels': [{'size': 28, 'maker': 'x'}, {'size': 26, 'maker': 'unknown'}],
    'bell': {'size': 3, 'maker': 'unknown'},
    'colours': ['red'],
    'notes': {'a': [1]},
    'owned_by': '0x11',
    'label': 'bicycle Ada',
}


def test_json_has_every_field_in_order_and_the_additional_properties():
    assert to_json(BICYCLE) == DOCUMENT and list(to_json(BICYCLE)) == list(DOCUMENT)


def test_a_value_survives_json():
    assert from_json(Bicycle, json.loads(json.dumps(DOCUMENT))) == BICYCLE


def test_the_plain_form_keeps_numbers_and_can_be_read():
    plain = to_json(BICYCLE, plain=True)
    assert (plain['bought'], plain['owner']) == (1795419901.5, 17) and 'owned_by' not in plain
    assert from_json(Bicycle, plain) == BICYCLE


@pytest.mark.parametrize('document', [None, [], 'x', 7])
def test_a_document_that_is_not_an_object_is_an_error(document):
    with pytest.raises(ValueError):
        from_json(Bicycle, document)


@pytest.mark.parametrize(
    'key, wrong',
    [
        ('name', 7),
        ('name', None),
        ('bought', 'yesterday'),
        ('bought', 1e15),  # no calendar has that year
        ('bought', math.nan),
        ('price', 'x'),
        ('price', math.inf),
        ('price', math.nan),
        ('price', 1e19),
        ('price', 10**400),
        ('is_sold', 1),
        ('is_sold', 'true'),
        ('wheels', {}),
        ('wheels', 'xx'),
        ('bell', 'x'),
        ('colours', 'red'),
        ('notes', []),
        ('owned_by', 1 << 65),
        ('owned_by', -(1 << 65)),
    ],
)
def test_a_wrong_value_counts_as_missing(key, wrong):
    without = {name: value for name, value in DOCUMENT.items() if name != key}
    assert from_json(Bicycle, DOCUMENT | {key: wrong}) == from_json(Bicycle, without)


@pytest.mark.parametrize(
    'document', [{}, {'name': 7}, {'name': 'x', 'price': 'dear'}, {'name': 'x', 'wheels': 3}, None]
)
def test_strict_reading_refuses_values_that_do_not_fit(document):
    with pytest.raises(ValueError):
        from_json(Bicycle, document, strict=True)


def test_strict_reading_accepts_missing_defaults_and_unknown_keys():
    assert from_json(Bicycle, {'name': 'x', 'odd': 1}, strict=True) == Bicycle('x')
    assert from_json(Bicycle, DOCUMENT, strict=True) == BICYCLE


def test_a_missing_value_without_default_is_empty():
    assert from_json(Bicycle, {}) == Bicycle('') and from_json(Wheel, {}) == Wheel(0)


def test_an_unknown_key_is_ignored():
    assert from_json(Wheel, {'': 7}) == Wheel(0)


def test_one_damaged_item_does_not_lose_the_others():
    found = from_json(Bicycle, {'wheels': [7, {'size': 1}, None], 'colours': ['a', 7, 'b']})
    assert found.wheels == (Wheel(1),) and found.colours == ('a', 'b')
    assert items_from_json(Wheel, [7, {'size': 1}]) == (Wheel(1),)
    assert items_from_json(Wheel, None) == items_from_json(Wheel, {'size': 1}) == ()


def test_a_very_long_list_is_cut():
    many = from_json(Bicycle, {'colours': ['x'] * (jsonform.MOST_ITEMS + 5)})
    assert len(many.colours) == jsonform.MOST_ITEMS


def test_an_annotation_without_a_json_form_raises_typeerror():
    @dataclass(frozen=True)
    class Odd:
        odd: complex = 1j

    with pytest.raises(TypeError, match='complex.* has no JSON form'):
        to_json(Odd())


def test_an_unknown_thread_is_null_in_a_file():
    assert to_json(ThreadState())['ident'] is None
    assert to_json(ThreadState(), plain=True)['ident'] == 0
    assert from_json(ThreadState, {'ident': None}) == ThreadState()


def test_the_thread_of_a_log_line_of_an_older_release_can_be_read():
    line = LogLine(1.5, 'ERROR', 'site', 'x', ident=0x7F10)
    document = to_json(line)
    assert document['thread'] == '0x0000000000007f10' and 'ident' not in document
    assert from_json(LogLine, document) == line
    assert from_json(LogLine, document | {'thread': 'nobody'}).ident == 0
    assert from_json(LogLine, document | {'thread': '-0x5'}).ident == 0
    assert from_json(LogLine, document | {'ident': -1}).ident == 0


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(('time', 'frames', 'request', 'started', 'ident', 'file', 'kind', 'x')),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ('threads', 'hangs', 'slow', 'time', 'requests', 'notes', 'samples', 'log', 'started')
        ),
        anything,
    )
)
@settings(max_examples=300, deadline=None)
def test_any_value_that_is_read_can_be_written_again(document):
    for found in (from_json(Stacks, document), RunRecord.from_json(document | {'run': 'x'})):
        again = json.loads(json.dumps(to_json(found), allow_nan=False))
        assert json.dumps(to_json(from_json(type(found), again))) == json.dumps(again)
