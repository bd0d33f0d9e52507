"""Which lock an expression stands for.  Nothing of the site is called to find out.

For real threads see test_snapshot.
"""

import collections
import importlib.util
import sys
import threading
import types

import pytest

from Products.StabilityMonitor.system.currentframes import current_frames
from Products.StabilityMonitor.threads import lockregions
from Products.StabilityMonitor.threads import secondlook
from Products.StabilityMonitor.threads.codeplaces import CodePlace
from Products.StabilityMonitor.threads.lockobjects import lock_of
from Products.StabilityMonitor.threads.lockregions import Attribute
from Products.StabilityMonitor.threads.lockregions import Item
from Products.StabilityMonitor.threads.lockregions import VariableItem
from Products.StabilityMonitor.threads.lockregions import regions
from Products.StabilityMonitor.threads.locks import deadlocks
from Products.StabilityMonitor.threads.locks import examine
from Products.StabilityMonitor.threads.secondlook import Spot

SOURCE = """
import collections
import threading

A, B, C = threading.Lock(), threading.RLock(), threading.Lock()
LOCKS = {'a': A, 1: B, ('x', 2): C, 'deep': {'er': [A, (B, C)]}}
ROW = [A, B]
MADE = collections.defaultdict(threading.Lock)
NAME = 'a'

class Own:
    pass

OWN = Own()

class Registry:
    shared = {'a': A}
    lock = B

    def __init__(self):
        self.own = {'a': A}

    def use(self, key):
        with self.shared['a']:
            pass
        with self.own['a']:
            pass
        with self.own['b']:
            pass
        with self.own[key]:
            pass
        with self.get(key):
            pass

    def use_again(self, other):
        with self.own['a']:
            pass
        with self.own[other]:
            pass
        with self.get(other).inner:
            pass

    def get(self, key):
        return self.own[key]

def get_lock(name):
    return LOCKS[name]

def named(key, local):
    with A:
        pass
    with LOCKS['a']:
        pass
    with LOCKS[1]:
        pass
    with LOCKS['x', 2]:
        pass
    with LOCKS['deep']['er'][-1][0]:
        pass
    with LOCKS[NAME]:
        pass
    with Registry.lock:
        pass
    with Registry.shared['a']:
        pass
    with LOCKS['missing']:
        pass
    with MADE['a']:
        pass
    with MADE[key]:
        pass
    with LOCKS[key]:
        pass
    with local:
        pass
    with get_lock(key):
        pass
    with get_lock('b'):
        pass
    with (A or B):
        pass
    with REGISTRY.lock_of_it:
        pass
    with REGISTRY.own['a']:
        pass
    with REGISTRY.own[key]:
        pass
    with OWN:
        pass

def also():
    with get_lock('c'):
        pass
    with MADE['a']:
        pass
    with REGISTRY.lock_of_it:
        pass
    with REGISTRY.own['a']:
        pass
    with OWN:
        pass

def by_variables(other, row):
    with other, row[0], other.lock, row[0].lock, other.spare:
        pass

REGISTRY = Registry()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    path = tmp_path / 'shop_locks.py'
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location('shop_locks', path)
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'shop_locks', found)
    spec.loader.exec_module(found)
    return found


def locks(function):
    """Return {text: lock} of the `with` statements of a function that no thread runs."""
    code = function.__code__
    spot = Spot(0, 0, CodePlace(code, 0, None, function.__module__))
    return {region.name: lock_of(region.expression, spot) for region in regions(code)}


@pytest.mark.parametrize(
    'text, name',
    [
        ('A', 'A'),
        ("LOCKS['a']", 'A'),
        ('LOCKS[1]', 'B'),
        ("LOCKS['x', 2]", 'C'),
        ("LOCKS['deep']['er'][-1][0]", 'B'),
        ('LOCKS[NAME]', 'A'),
        ('Registry.lock', 'B'),
        ("Registry.shared['a']", 'A'),
    ],
)
def test_names_attributes_and_items_are_looked_up(module, text, name):
    lock = locks(module.named)[text]
    assert lock.key == ('object', id(getattr(module, name)))
    assert lock.name == text and not lock.loose


def test_the_same_item_of_the_same_attribute_counts_as_the_same_lock(module):
    use = locks(module.Registry.use)
    again = locks(module.Registry.use_again)
    assert use["self.shared['a']"].key == ('object', id(module.A)), 'the class has the dict'
    own = use["self.own['a']"]
    assert own.key == again["self.own['a']"].key != use["self.own['b']"].key
    assert own.name == "Registry.own['a']" and not own.loose


def test_what_is_not_known_is_loose(module):
    named = locks(module.named)
    for text in ('MADE[key]', 'LOCKS[key]', 'local', 'get_lock(key)', 'A or B', "MADE['a']"):
        assert named[text].loose and named[text].name == text
    assert named["LOCKS['missing']"].loose


def test_locks_that_were_taken_in_the_same_way_have_the_same_key(module):
    named, also = locks(module.named), locks(module.also)
    assert named['get_lock(key)'].key == named["get_lock('b')"].key == also["get_lock('c')"].key
    assert named["MADE['a']"].key == also["MADE['a']"].key != named['MADE[key]'].key
    use, again = locks(module.Registry.use), locks(module.Registry.use_again)
    assert use['self.own[key]'].key == again['self.own[other]'].key
    assert use['self.get(key)'].key == again['self.get(other).inner'].key
    assert use['self.get(key)'].key != named['get_lock(key)'].key


def test_any_two_variables_may_have_the_same_lock_and_different_attributes_do_not(module):
    named, also = locks(module.named), locks(module.by_variables)
    assert named['local'].key == also['other'].key == also['row[0]'].key
    assert also['other.lock'].key == also['row[0].lock'].key != named['local'].key
    assert also['other.lock'].key != also['other.spare'].key
    assert all(lock.loose for lock in also.values())


def test_an_attribute_of_an_instance_is_the_same_in_each_function(module):
    named, also = locks(module.named), locks(module.also)
    for text in ('REGISTRY.lock_of_it', "REGISTRY.own['a']", 'OWN'):
        assert named[text].key == also[text].key and not named[text].loose
    assert named['REGISTRY.lock_of_it'].key != named["REGISTRY.own['a']"].key
    assert named['REGISTRY.own[key]'].loose
    assert named['OWN'].key == ('member', id(module.OWN))


# -- nothing of the site is called -----------------------------------------------------------------

CALLS = []


class Touchy:
    """Everything that may be called by looking at an object."""

    def __hash__(self):
        return hash('a')

    def _called(self, *words):
        CALLS.append(words)
        return False

    __eq__ = __getitem__ = __contains__ = __len__ = __bool__ = __repr__ = _called

    def __getattr__(self, name):
        CALLS.append(name)
        raise AttributeError(name)


class TouchyDict(dict):
    __getitem__ = __contains__ = get = items = Touchy._called


class TouchyText(str):
    __slots__ = ()
    __hash__ = str.__hash__
    __eq__ = Touchy._called


def test_a_key_of_the_site_is_not_compared():
    lock = threading.Lock()
    touchy = Touchy()
    container = {touchy: 1, 'a': lock, TouchyText('b'): 2}
    CALLS.clear()
    assert secondlook.item(container, 'a').value is lock
    assert secondlook.item(container, 'b') is None
    assert secondlook.item(container, touchy) is None
    assert secondlook.item(container, TouchyText('a')) is None
    assert secondlook.contains(container, {id(lock)})
    assert not secondlook.contains({1: touchy}, {id(lock)})
    assert CALLS == []


@pytest.mark.parametrize(
    'container, key',
    [
        (TouchyDict(a=1), 'a'),
        (collections.defaultdict(list, a=1), 'a'),
        (types.MappingProxyType({'a': 1}), 'a'),
        (Touchy(), 'a'),
        ([1], 'a'),
        ([1], True),
        ([1], 1),
        ((1,), -2),
        ({'a': 1}, 'b'),
        ({1: 1}, True),
        ({1: 1}, 1.0),
        ({('a', 1): 1}, ('a', 1, 2)),
        ({('a', 1): 1}, ('a', '1')),
        ({('a', ('b',)): 1}, ('a', ('b',))),
        (dict.fromkeys(range(5000)), 1),
        (None, 'a'),
    ],
)
def test_only_plain_keys_of_exact_containers_of_bounded_size_are_found(container, key):
    CALLS.clear()
    assert secondlook.item(container, key) is None and CALLS == []


@pytest.mark.parametrize(
    'container, key, value',
    [
        ({'a': 1}, 'a', 1),
        ({None: 2}, None, 2),
        ([3, 4], -1, 4),
        ((5,), 0, 5),
        ({(1, 'x'): 6}, (1, 'x'), 6),
    ],
)
def test_a_plain_key_of_an_exact_container_is_found(container, key, value):
    assert secondlook.item(container, key).value == value


def test_no_code_of_a_module_or_class_runs_to_find_a_lock(module):
    class Meta(type):
        def __getattribute__(cls, name):
            CALLS.append(name)
            return super().__getattribute__(name)

    module.Registry = Meta('Registry', (), {'shared': TouchyDict(a=module.A)})
    module.LOCKS = TouchyDict(a=module.A)
    module.get_lock = Touchy()
    module.NAME = TouchyText('a')
    module.A = Touchy()
    CALLS.clear()
    found = locks(module.named)
    locks(module.also)
    assert CALLS == [] and len(found) == 20


# -- expressions and instructions ------------------------------------------------------------------


def expression_of(source):
    import ast

    return lockregions._expression(ast.parse(source, mode='eval').body)


def test_an_expression_has_a_head_and_steps():
    found = expression_of("a.b['x'][n][-1]")
    assert (found.head, found.is_called) == ('a', False)
    assert found.steps == (Attribute('b'), Item('x'), VariableItem('n'), Item(-1))


@pytest.mark.parametrize(
    'source, head, steps',
    [
        ('get()', 'get', ()),
        ('a.get(x)[1].lock', 'a', (Attribute('get'),)),
        ('f()()', 'f', ()),
        ('a or b', '', ()),
        ('(lambda: a)()', '', ()),
        ('a[n + 1]', '', ()),
        ('a[1:2]', '', ()),
        ('"text"', '', ()),
    ],
)
def test_of_a_call_the_function_is_kept(source, head, steps):
    found = expression_of(source)
    assert (found.is_called, found.head, found.steps) == (True, head, steps)


def test_the_text_of_an_expression_is_bounded():
    assert len(expression_of(f'get({"x" * 5000})').text) < 100


def test_a_thread_in_a_call_of_the_expression_does_not_wait_for_the_lock(module):
    """In `with get_lock(key):`, the call comes first."""
    code = module.also.__code__
    region = regions(code)[0]
    states = []
    for offset in range(0, len(code.co_code), 2):
        at = lockregions.instruction(code, offset, None)
        if region.ask <= at.start < region.begin:
            states.append((at.enters, lockregions.waits_in(region, at)))
    assert (False, False) in states and states.count((True, True)) == 1


def test_a_thread_waits_in_the_call_of_acquire_and_in_no_call_within(tmp_path):
    path = tmp_path / 'taken.py'
    source = 'def take(name):\n    get_lock(name).acquire(True)\n    get_lock(name).release()\n'
    path.write_text(source)
    code = compile(source, path, 'exec').co_consts[0]
    asks, _ = regions(code)
    ends = set()
    for offset in range(0, len(code.co_code), 2):
        at = lockregions.instruction(code, offset, None)
        if lockregions.waits_in(asks, at):
            ends.add(at.end)
    assert ends == {asks.begin} and asks.name == 'get_lock(name)' and not asks.timed


def test_a_stack_holds_what_it_entered_until_its_block_ends(tmp_path):
    path = tmp_path / 'stacked.py'
    source = (
        'def work(name):\n'
        '    with ExitStack() as stack:\n'
        '        stack.enter_context(get_lock(name))\n'
        '        other.enter_context(A)\n'
        '        done()\n'
        '    done()\n'
    )
    path.write_text(source)
    code = compile(source, path, 'exec').co_consts[0]
    _, region = regions(code)
    assert region.name == 'get_lock(name)' and region.is_argument
    assert region.begin <= (5, 8) < region.end <= (6, 4)


# -- a second look ---------------------------------------------------------------------------------


def test_a_second_look_counts_only_at_the_same_instruction():
    waiting, go = threading.Event(), threading.Lock()
    seen = []

    def wait(key):
        waiting.set()
        with go:
            seen.append(key)

    with go:
        thread = threading.Thread(target=wait, args=['a'], daemon=True)
        thread.start()
        waiting.wait()
        frame = current_frames()[thread.ident]
        while frame.f_code is not wait.__code__:
            frame = frame.f_back
        place = CodePlace(frame.f_code, frame.f_lasti, frame.f_lineno, __name__)
        del frame
        spot = Spot(thread.ident, 0, place)
        if secondlook.scope(spot):  # it has not yet reached the lock
            assert secondlook.scope(spot) is globals()
            known = secondlook.key_in(spot, 'key')
            assert known == (('a',) if sys.version_info >= (3, 12) else None)
            assert secondlook.key_in(spot, 'nothing') is None
            assert secondlook.key_in(spot, 'thread') is None
        for other in (
            Spot(thread.ident, 1, place),
            Spot(thread.ident, 99, place),
            Spot(-1, 0, place),
            Spot(thread.ident, 0, place._replace(offset=place.offset + 2)),
        ):
            assert secondlook.scope(other) == {} and secondlook.key_in(other, 'key') is None
    thread.join()
    assert secondlook.scope(spot) == {} and secondlook.key_in(spot, 'key') is None


def test_a_variable_of_another_thread_is_read_only_if_it_is_a_plain_key(monkeypatch):
    """With a stand-in for the function that Python has from 3.12 on."""

    def read(frame, name):
        try:
            return frame.f_locals[name.decode()]
        except KeyError:
            raise NameError from None

    monkeypatch.setattr(secondlook, '_read_variable', read)
    ready, done = threading.Event(), threading.Event()

    def work(key, touchy):
        ready.set()
        done.wait()

    thread = threading.Thread(target=work, args=['a', Touchy()], daemon=True)
    thread.start()
    ready.wait()
    try:
        CALLS.clear()
        for index, frame in enumerate(_walk(thread.ident)):
            if frame.f_code is work.__code__:
                place = CodePlace(frame.f_code, frame.f_lasti, frame.f_lineno, __name__)
                spot = Spot(thread.ident, index, place)
        del frame
        assert secondlook.key_in(spot, 'key') == ('a',)
        assert secondlook.key_in(spot, 'touchy') is None
        assert secondlook.key_in(spot, 'missing') is None
        assert CALLS == []
    finally:
        done.set()
        thread.join()


def _walk(ident):
    frame = current_frames()[ident]
    while frame is not None:
        yield frame
        frame = frame.f_back


# -- threads ---------------------------------------------------------------------------------------


def places(function):
    """Return (the place where it enters its first `with` block, a place within that block)."""
    code = function.__code__
    region = regions(code)[0]
    enters = within = None
    for offset in range(0, len(code.co_code), 2):
        at = lockregions.instruction(code, offset, None)
        if enters is None and lockregions.waits_in(region, at):
            enters = CodePlace(code, offset, region.ask[0], function.__module__)
        if within is None and region.begin <= at.start < region.end:
            within = CodePlace(code, offset, region.end[0], function.__module__)
    return enters, within


def test_threads_that_took_locks_in_the_same_way_may_be_deadlocked(module):
    enters, within = places(module.also)
    stacks = {1: (enters, within), 2: (enters, within), 3: (enters,)}
    wants = examine(stacks, stacks)
    line = enters.line
    assert (
        wants[1]
        .phrase({1: 'one', 2: 'two'})
        .startswith(f"taken by `get_lock('c')` in line {line} of ")
    )
    assert (
        wants[1].phrase({1: 'one', 2: 'two'}).endswith(f', possibly held by two at {within.text}')
    )
    assert [holder.ident for holder in wants[3].holders] == [1, 2]
    (found,) = deadlocks(wants, {1: 'one', 2: 'two', 3: 'three'})
    assert (found.idents, found.known, found.possible) == ((1, 2), False, True)
    assert found.links[0].startswith('one waits for a lock taken by `get_lock(')
    assert found.links[0].endswith(f', which two may hold at {within.text}')
    assert found.text.endswith('(possible, inferred from the code)')


def test_a_possible_holder_that_works_makes_it_no_deadlock(module):
    enters, within = places(module.also)
    stacks = {1: (enters, within), 2: (enters, within), 3: (within,)}
    assert deadlocks(examine(stacks, [1, 2]), {}) == []
