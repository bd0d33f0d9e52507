"""Who holds what: the regions of real source, and cycles among given waits.  Real threads:
test_snapshot.
"""

import importlib.util
import inspect
import itertools
import logging
import threading
from types import CodeType

import pytest

from Products.StabilityMonitor.threads import lockregions
from Products.StabilityMonitor.threads.codeplaces import CodePlace
from Products.StabilityMonitor.threads.lockregions import regions
from Products.StabilityMonitor.threads.locks import Holder
from Products.StabilityMonitor.threads.locks import Lock
from Products.StabilityMonitor.threads.locks import Want
from Products.StabilityMonitor.threads.locks import deadlocks
from Products.StabilityMonitor.threads.locks import examine

BODIES = """
def plain():
    with A:
        work()
    work()

def nested():
    with A, B:
        work()

def over_lines():
    with (A,
          x.y.B):
        work()

def by_calls():
    A.acquire()
    try:
        work()
    finally:
        A.release()
    work()

def straight():
    A.acquire()
    work()
    A.release()
    work()

def guarded():
    if not A.acquire(timeout=3):
        work()
        return
    try:
        work()
    finally:
        A.release()

def elsewhere():
    A.acquire()
    work()

@staticmethod
def with_function():
    def inner():
        with B:
            work()
    with A:
        inner()

class Shop:

    def buy(self):
        with self.lock:
            work()

    async def later(self):
        async with self.lock:
            work()
"""


ODD = '''
def laid_out_oddly(
        grüße="""
no code"""):
# a remark in the first column
    with A:
        work("""
no indentation
""")
    B.acquire(
); work(
)
    B.release()
    return [
]

def without_names():
    return lambda: A.acquire()

class Shop:

    with A:
        work()

    @property
    @given(over=
           "lines")
    def price(self):
        def inner():
            with B: work()
        with self.lock:
        \twork()
        "ü"; work()
\x0c
    async def later(self):
        async with self.lock:
            work()

with A:
    class Inner:
        with B: work()
work()'''


SHOP = """class Shop:
    def buy(self):
        with self.lock:
            work()
        done()
"""


def codes(code):
    """That of a module and of all that is defined in it, by name."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {code.co_qualname: code} | {
        name: found for each in inner for name, found in codes(each).items()
    }


@pytest.fixture(scope='module')
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp('source') / 'bodies.py'
    path.write_text(BODIES)
    spec = importlib.util.spec_from_file_location('bodies', path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def held_at(code, text='work(', source=BODIES):
    """Of each line that has `text`: the names of the locks that enclose it."""
    lines = source.split('\n')
    found = []
    for number in sorted(
        {line for _, _, line in code.co_lines() if line and text in lines[line - 1]}
    ):
        point = number, len(lines[number - 1].partition(text)[0].encode())
        found.append(
            ' '.join(region.name for region in regions(code) if region.begin <= point < region.end)
        )
    return found


@pytest.mark.parametrize(
    'name, held',
    [
        ('plain', ['A', '']),
        ('nested', ['A B']),
        ('over_lines', ['A x.y.B']),
        ('by_calls', ['A', '']),
        ('straight', ['A', '']),
        ('guarded', ['', 'A']),
        ('elsewhere', ['']),
    ],
)
def test_what_is_held(module, name, held):
    assert held_at(getattr(module, name).__code__) == held


def test_a_function_does_not_hold_what_those_in_it_take(module):
    outer = module.with_function.__func__.__code__
    inner = next(constant for constant in outer.co_consts if hasattr(constant, 'co_code'))
    assert held_at(inner) == ['B'] and held_at(outer, 'inner()')[-1] == 'A'


def test_methods(module):
    assert held_at(module.Shop.buy.__code__) == held_at(module.Shop.later.__code__) == ['self.lock']


def test_a_call_that_may_give_up_is_timed(module):
    assert {
        region.timed for region in regions(module.guarded.__code__) if region.ask < region.begin
    } == {True}
    assert {region.timed for region in regions(module.by_calls.__code__)} == {False}


@pytest.fixture
def odd(tmp_path):
    path = tmp_path / 'odd.py'
    path.write_text(ODD)
    return codes(compile(ODD, path, 'exec'))


@pytest.mark.parametrize(
    'name, held',
    [
        ('laid_out_oddly', ['A', 'B']),
        ('without_names', []),
        ('without_names.<locals>.<lambda>', []),
        ('Shop', ['A']),
        ('Shop.price', ['self.lock', '']),
        ('Shop.price.<locals>.inner', ['B']),
        ('Shop.later', ['self.lock']),
        ('Inner', ['B']),
        ('<module>', ['']),
    ],
)
def test_wherever_it_stands(odd, name, held):
    assert held_at(odd[name], source=ODD) == held


def test_nothing_but_its_own_lines_is_parsed(module, monkeypatch):
    """All threads stand still meanwhile: what a look at one function costs does not grow with its
    file.
    """
    parsed, parse = [], lockregions._tree
    monkeypatch.setattr(
        lockregions, '_tree', lambda source: parsed.append(source.strip()) or parse(source)
    )
    monkeypatch.setattr(lockregions, '_cache', {})
    for function in (
        threading.Condition.wait,
        threading.Thread.start,
        logging.Handler.handle,
        logging.Logger.log,
    ):
        regions(function.__code__), regions(function.__code__)
        assert inspect.getsource(function).strip() in parsed[-1]
    assert len(parsed) == 4 and max(map(len, parsed)) < 4000


class TestNoSource:
    def test_a_file_that_is_not_there(self):
        assert regions(compile('with A: pass', '/nowhere/at all.py', 'exec')) == ()

    def test_a_file_that_has_become_another(self, tmp_path):
        path = tmp_path / 'changed.py'
        code = compile('def work():\n    with A:\n        pass\n', path, 'exec').co_consts[0]
        path.write_text('VALUE = 1\ndef work():\n    pass\n')
        assert regions(code) == ()

    @pytest.mark.parametrize(
        'change',
        [
            lambda text: text.replace('def buy', 'def sell'),
            lambda text: text.replace('class', '\n\nclass'),
            lambda text: text.replace('        done()', '            done()'),
            lambda text: text.replace('with self.lock', 'with  self.lock'),
            lambda text: text.replace(
                '            work()', '            prepare()\n            work()'
            ),
            lambda text: text.replace('            work()\n', ''),
            lambda text: text[:20],
            lambda text: '',
        ],
    )
    def test_a_function_that_has_become_another(self, tmp_path, monkeypatch, change):
        path = tmp_path / 'changed.py'
        path.write_text(SHOP)
        code = codes(compile(SHOP, path, 'exec'))['Shop.buy']
        assert [region.name for region in regions(code)] == ['self.lock']
        monkeypatch.setattr(lockregions, '_cache', {})
        path.write_text(change(SHOP))
        assert change(SHOP) != SHOP and regions(code) == ()

    def test_what_changes_elsewhere_in_the_file_is_no_matter(self, tmp_path):
        path = tmp_path / 'changed.py'
        code = codes(compile(SHOP, path, 'exec'))['Shop.buy']
        path.write_text(SHOP + '    def (\n')
        assert len(regions(code)) == 1

    @pytest.mark.parametrize('content', [b'def (', b'\xff\xfe\0', b'x = "' + b'(' * 10000])
    def test_a_file_that_is_no_python(self, tmp_path, content):
        path = tmp_path / 'broken.py'
        path.write_bytes(content)
        assert regions(compile('with A: pass', path, 'exec')) == ()

    def test_a_file_that_is_too_long(self, tmp_path):
        path = tmp_path / 'long.py'
        path.write_text('with A:\n    pass\n' + '#' * (1 << 18))
        assert regions(compile('with A:\n    pass', path, 'exec')) == ()

    def test_a_function_that_is_too_long(self, tmp_path, monkeypatch):
        path = tmp_path / 'long.py'
        for more, found in ((0, 1), (1 << 15, 0)):
            text = f'def work():\n    with A:\n        pass\n    {"#" * more}\n    pass\n'
            path.write_text(text)
            monkeypatch.setattr(lockregions, '_cache', {})
            assert len(regions(codes(compile(text, path, 'exec'))['work'])) == found

    def test_what_was_read_does_not_grow_without_end(self):
        for number in range(2 * lockregions._MOST_FUNCTIONS):
            regions(compile(f'x = {number}', '/nowhere', 'exec'))
        assert len(lockregions._cache) <= lockregions._MOST_FUNCTIONS


def test_positions_never_raise():
    """Of each instruction of real modules with locks, whatever it is."""
    for function in (
        threading.Condition.wait,
        threading.Thread.start,
        logging.Handler.handle,
        logging.shutdown,
    ):
        code = function.__code__
        for offset, line in itertools.product(
            range(-2, len(code.co_code), 2), (None, 1, code.co_firstlineno)
        ):
            lockregions.position(code, offset, line)
            examine({1: (CodePlace(code, offset, line, function.__module__),)}, [1])


# -- cycles ---------------------------------------------------------------------------------------

NAMES = {1: 'one', 2: 'two', 3: 'three', 4: 'four'}


def want(*holders, known=False, forever=True):
    return Want(
        'lock X',
        'shop/views.py:31 in checkout',
        Lock(('local',), 'X'),
        forever,
        tuple(Holder(ident, f'shop/stock.py:{ident} in restock', known) for ident in holders),
    )


@pytest.mark.parametrize(
    'wants, cycles',
    [
        ({}, []),
        ({1: want(2), 2: want(1)}, [(1, 2)]),
        ({1: want(2), 2: want(3), 3: want(1)}, [(1, 2, 3)]),
        ({1: want(1)}, [(1,)]),
        ({1: want(2), 2: want(1), 3: want(4), 4: want(3)}, [(1, 2), (3, 4)]),
        ({1: want(2), 2: want(1), 3: want(1)}, [(1, 2)]),  # who waits for them is not of the cycle
        ({1: want(2), 2: want(3)}, []),  # 3 is at work
        ({1: want(2), 2: want(1, forever=False)}, []),  # 2 will give up
        ({1: want(2, 3), 2: want(1)}, []),  # it may be 3, which is at work
        ({1: want(2, 3), 2: want(1), 3: want(1)}, [(1, 2)]),  # whichever it is, it is stuck
        ({1: want(), 2: want(1)}, []),
    ],
)  # nobody knows who holds what 1 wants
def test_cycles(wants, cycles):
    assert [found.idents for found in deadlocks(wants, NAMES)] == cycles


def test_a_cycle_in_words():
    (found,) = deadlocks({1: want(2), 2: want(1)}, NAMES)
    assert found.links == (
        'one waits for lock X at shop/views.py:31 in checkout, which two holds at '
        'shop/stock.py:2 in restock',
        'two waits for lock X at shop/views.py:31 in checkout, which one holds at '
        'shop/stock.py:1 in restock',
    )
    assert not found.known and found.text.endswith('(inferred from the code)')
    (known,) = deadlocks({1: want(2, known=True), 2: want(1, known=True)}, NAMES)
    assert known.known and known.text.endswith('(the locks name their owners)')
