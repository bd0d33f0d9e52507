import pytest

from Products.StabilityMonitor.knowledge.compiledmodules import Loaded
from Products.StabilityMonitor.knowledge.framenames import function_name
from Products.StabilityMonitor.knowledge.framenames import is_telling
from Products.StabilityMonitor.knowledge.framenames import native_name
from Products.StabilityMonitor.knowledge.framenames import python_name
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.sharedobject import SharedObject

NOTHING = Loaded(objects=(), names=frozenset(), versions={})
SITE = '/srv/env/lib/python3.11/site-packages'
OTHER = '/opt/new/lib/python3.14/site-packages'


@pytest.mark.parametrize(
    ('file', 'name'),
    [
        (f'{SITE}/shop/views.py', 'shop.views:f'),
        (f'{OTHER}/shop/views.py', 'shop.views:f'),
        (f'{SITE}/shop/__init__.py', 'shop:f'),
        ('/srv/zope/Products/Shop/browser/views.py', 'Products.Shop.browser.views:f'),
        ('/eggs/shop-1.0-py3.11.egg/shop/views.py', 'shop.views:f'),
        ('/home/zope/src/shop/views.py', 'shop.views:f'),
        ('/usr/lib/python3.11/json/decoder.py', 'json.decoder:f'),
        ('/home/zope/.pyenv/versions/3.14.0/lib/python3.14/json/decoder.py', 'json.decoder:f'),
        ('<frozen importlib._bootstrap>', 'importlib._bootstrap:f'),
        ('/any/where/deploy.py', 'deploy:f'),
        ('/somewhere/else/deploy.py', 'deploy:f'),
        ('/tmp/tmpa1b2c3d4/page_5fd1a0c29be1.py', 'page_*:f'),
        ('Script (Python)', 'Script (Python):f'),
    ],
)
def test_a_python_place_has_no_folder_of_an_installation(file, name):
    assert python_name(Frame(file, 12, 'f')) == name


def test_a_comprehension_is_no_place():
    """From Python 3.12 on it has no frame of its own."""
    assert not is_telling(Frame(f'{SITE}/shop/views.py', 1, '<listcomp>'))
    assert is_telling(Frame(f'{SITE}/shop/views.py', 1, '<genexpr>'))


def test_plumbing_is_no_place():
    assert not is_telling(Frame('/usr/lib/python3.11/threading.py', 1, 'run'))
    assert not is_telling(Frame(f'{SITE}/ZPublisher/WSGIPublisher.py', 1, 'publish'))
    assert is_telling(Frame(f'{SITE}/shop/views.py', 1, 'render'))


@pytest.mark.parametrize(
    ('library', 'name'),
    [
        (f'{SITE}/lxml/etree.cpython-311-x86_64-linux-gnu.so', 'lxml.etree!f'),
        (f'{OTHER}/lxml/etree.cpython-314-x86_64-linux-gnu.so', 'lxml.etree!f'),
        (f'{SITE}/lxml/etree.abi3.so', 'lxml.etree!f'),
        (f'{SITE}/lxml.libs/libxml2-f4c8a2d1.so.16.0.3', 'libxml2!f'),
        ('/usr/lib/x86_64-linux-gnu/libxml2.so.2', 'libxml2!f'),
        ('/usr/lib/x86_64-linux-gnu/libpq.so.5.16', 'libpq!f'),
        ('/usr/bin/python3.11', 'python!f'),
        ('/usr/lib/libpython3.14.so.1.0', 'python!f'),
        ('', '?!f'),
    ],
)
def test_a_native_place_has_no_version(library, name):
    assert native_name(MergedFrame(function='f', library=library), NOTHING) == name


def test_without_a_function_the_offset_in_this_build_is_the_place():
    library = f'{SITE}/lxml/etree.cpython-311-x86_64-linux-gnu.so'
    known = SharedObject(file=library, build_id='0123456789abcdef', modules=('lxml.etree',))
    loaded = Loaded(objects=(known,), names=frozenset(['lxml.etree']), versions={})
    frame = MergedFrame(library=library, offset=0x1234)
    assert native_name(frame, loaded) == 'lxml.etree+0x1234@01234567'
    assert native_name(frame, NOTHING) == 'lxml.etree'


@pytest.mark.parametrize(
    ('function', 'name'),
    [
        ('foo.cold', 'foo'),
        ('foo.part.0.isra.0', 'foo'),
        ('foo(int, char const*)', 'foo'),
        ('pkg::(anonymous namespace)::foo(int)', 'pkg::_GLOBAL__N_1::foo'),
        ('_ZN3pkg12_GLOBAL__N_13fooEi', 'pkg::_GLOBAL__N_1::foo'),
        ('_ZN3foo3barEv', 'foo::bar'),
        ('operator()(int)', 'operator()(int)'),
        ('', ''),
    ],
)
def test_what_compilers_and_types_add_is_taken_off(function, name):
    assert function_name(function) == name
