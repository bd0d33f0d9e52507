"""Locks and their holders: regions of real source, and cycles among given waits.

For real threads see test_snapshot.
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
from Products.StabilityMonitor.threads.lockobjects import Lock
from Products.StabilityMonitor.threads.lockregions import regions
from Products.StabilityMonitor.threads.locks import Holder
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
    """Return {qualified name: code} of a module and of everything defined in it."""
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
    """Return, for each line that has `text`, the names of the locks that it holds."""
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
def test_the_source_shows_which_locks_a_line_holds(module, name, held):
    assert held_at(getattr(module, name).__code__) == held


def test_a_function_does_not_hold_the_locks_of_functions_inside_it(module):
    outer = module.with_function.__func__.__code__
    inner = next(constant for constant in outer.co_consts if hasattr(constant, 'co_code'))
    assert held_at(inner) == ['B'] and held_at(outer, 'inner()')[-1] == 'A'


def test_methods_hold_the_lock_of_self(module):
    assert held_at(module.Shop.buy.__code__) == held_at(module.Shop.later.__code__) == ['self.lock']


def test_a_region_of_acquire_with_a_timeout_is_timed(module):
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
def test_regions_are_found_in_oddly_laid_out_source(odd, name, held):
    assert held_at(odd[name], source=ODD) == held


def test_only_the_lines_of_the_function_are_parsed(module, monkeypatch):
    """All threads wait while source is parsed, so the cost for one function must not depend on the
    size of its file.
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


class TestWithoutUsableSource:
    def test_a_missing_file_has_no_regions(self):
        assert regions(compile('with A: pass', '/nowhere/at all.py', 'exec')) == ()

    def test_a_changed_file_has_no_regions(self, tmp_path):
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
    def test_a_changed_function_has_no_regions(self, tmp_path, monkeypatch, change):
        path = tmp_path / 'changed.py'
        path.write_text(SHOP)
        code = codes(compile(SHOP, path, 'exec'))['Shop.buy']
        assert [region.name for region in regions(code)] == ['self.lock']
        monkeypatch.setattr(lockregions, '_cache', {})
        path.write_text(change(SHOP))
        assert change(SHOP) != SHOP and regions(code) == ()

    def test_changes_elsewhere_in_the_file_do_not_matter(self, tmp_path):
        path = tmp_path / 'changed.py'
        code = codes(compile(SHOP, path, 'exec'))['Shop.buy']
        path.write_text(SHOP + '    def (\n')
        assert len(regions(code)) == 1

    @pytest.mark.parametrize('content', [b'def (', b'\xff\xfe\0', b'x = "' + b'(' * 10000])
    def test_a_file_that_is_not_python_has_no_regions(self, tmp_path, content):
        path = tmp_path / 'broken.py'
        path.write_bytes(content)
        assert regions(compile('with A: pass', path, 'exec')) == ()

    def test_a_file_that_is_too_long_is_not_read(self, tmp_path):
        path = tmp_path / 'long.py'
        path.write_text('with A:\n    pass\n' + '#' * (1 << 18))
        assert regions(compile('with A:\n    pass', path, 'exec')) == ()

    def test_a_function_that_is_too_long_is_not_parsed(self, tmp_path, monkeypatch):
        path = tmp_path / 'long.py'
        for more, found in ((0, 1), (1 << 15, 0)):
            text = f'def work():\n    with A:\n        pass\n    {"#" * more}\n    pass\n'
            path.write_text(text)
            monkeypatch.setattr(lockregions, '_cache', {})
            assert len(regions(codes(compile(text, path, 'exec'))['work'])) == found

    def test_the_cache_is_bounded(self):
        for number in range(2 * lockregions._MOST_FUNCTIONS):
            regions(compile(f'x = {number}', '/nowhere', 'exec'))
        assert len(lockregions._cache) <= lockregions._MOST_FUNCTIONS


def test_no_instruction_makes_position_or_examine_raise():
    """Tests each instruction of functions of the library that use locks."""
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
            lockregions.instruction(code, offset, line)
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
        (
            {1: want(2), 2: want(1), 3: want(1)},
            [(1, 2)],
        ),  # 3 waits for the cycle, but is not part of it
        ({1: want(2), 2: want(3)}, []),  # 3 works
        ({1: want(2), 2: want(1, forever=False)}, []),  # 2 will give up
        ({1: want(2, 3), 2: want(1)}, []),  # 3 may be the holder, and works
        ({1: want(2, 3), 2: want(1), 3: want(1)}, [(1, 2)]),  # both possible holders are stuck
        ({1: want(), 2: want(1)}, []),  # the holder of what 1 wants is not known
    ],
)
def test_threads_that_wait_for_each_other_forever_are_deadlocks(wants, cycles):
    assert [found.idents for found in deadlocks(wants, NAMES)] == cycles


def test_the_text_of_a_deadlock_names_threads_locks_and_places():
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
