"""The server that a thread waits for is named from an argument of ZEO's ClientStorage; nothing of
the site is called for this, and no other local variable is read.
"""

import threading

import pytest

from Products.StabilityMonitor.threads.awaited import awaited

SOURCE = """
class ClientStorage:
    def __init__(self, addr, here, gate):
        other = Untouchable()
        here.set()
        gate.wait()

class Other:
    def __init__(self, addr, here, gate):
        here.set()
        gate.wait()
"""


class Untouchable(tuple):
    """Whatever is done with it is an error."""

    def __new__(cls):
        return tuple.__new__(cls, ('host', 1))

    def _fail(self, *args):
        raise AssertionError('code of the site was called')

    __len__ = __iter__ = __getitem__ = __str__ = __repr__ = __eq__ = __bool__ = __hash__ = _fail


class Host(str):
    __str__ = __format__ = __contains__ = __getitem__ = Untouchable._fail


@pytest.fixture
def waiting():
    """A function that starts a thread which waits in such a constructor, and returns its ident."""
    gate = threading.Event()
    threads = []

    def start(addr, file='/env/ZEO/ClientStorage.py', name='ClientStorage'):
        scope = {'Untouchable': Untouchable, '__name__': 'ZEO.ClientStorage'}
        exec(compile(SOURCE, file, 'exec'), scope)
        here = threading.Event()
        thread = threading.Thread(target=scope[name], args=(addr, here, gate), daemon=True)
        threads.append(thread)
        thread.start()
        here.wait()
        return thread.ident

    yield start
    gate.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    'addr, server',
    [
        (('10.0.0.5', 8100), 'ZEO at 10.0.0.5:8100'),
        (('::1', 8100), 'ZEO at [::1]:8100'),
        ('/var/zeo.sock', 'ZEO at /var/zeo.sock'),
        ([('a', 1), ('b', 2)], 'ZEO at a:1 or b:2'),
        ((('a', 1), '/b'), 'ZEO at a:1 or /b'),
        ([('a', 1)] * 9, 'ZEO at a:1 or a:1 or a:1 or a:1'),
        (('a' * 999, 1), f'ZEO at {"a" * 100}:1'),
        (8100, 'ZEO'),
        (('host', '8100'), 'ZEO at host or 8100'),
        (None, 'ZEO'),
        ({'a': 1}, 'ZEO'),
    ],
)
def test_the_address_is_named_where_it_is_of_exact_builtin_types(waiting, addr, server):
    found = awaited(waiting(addr))
    assert found.server == server
    assert found.frame.function == 'ClientStorage.__init__'
    assert found.frame.file == '/env/ZEO/ClientStorage.py'


@pytest.mark.parametrize('addr', [Untouchable(), [Untouchable()], (Host('host'), 1), [Host('x')]])
def test_no_code_of_the_site_is_called_for_an_address_of_another_class(waiting, addr):
    assert awaited(waiting(addr)).server == 'ZEO'


def test_other_functions_and_files_are_not_asked(waiting):
    assert awaited(waiting(('a', 1), name='Other')) is None
    assert awaited(waiting(('a', 1), file='/site/ClientStorage.py')) is None
    assert awaited(0) is None
