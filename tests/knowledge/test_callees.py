"""What a line of Python code may have called, from its source."""

import pytest
from support.deadcrashes import FAST
from support.deadcrashes import SITE
from support.deadcrashes import VIEW
from support.deadcrashes import crash

from Products.StabilityMonitor.knowledge import callees
from Products.StabilityMonitor.knowledge.compiledmodules import loaded
from Products.StabilityMonitor.model.records import Frame

LOADED = loaded(crash())


def found(source, line=None, file=VIEW, **sources):
    """Return [(module, how)] for the last line of a source, or for that line."""
    line = line or source.rstrip().count('\n') + 1
    files = {file: source} | {f'{SITE}/{name}': text for name, text in sources.items()}
    frames = [Frame(file, line, 'f')]
    return [(each.module, each.how) for each in callees.callees(frames, LOADED, files.get)]


def first(source, *args, **values):
    answers = found(source, *args, **values)
    return answers[0] if answers else None


@pytest.mark.parametrize(
    'source',
    [
        'import lxml.etree\nlxml.etree.fromstring("<a/>")',
        'from lxml import etree\netree.fromstring("<a/>")',
        'from lxml import etree as e\ntree = e.parse(x)\ntree.xpath("//a")',
        'from lxml.etree import fromstring\nfromstring(x)',
        'def f(x):\n    from lxml.etree import XML as X\n    return len(X(x))',
        'from lxml import etree\nself.parser = etree.XMLParser()\nself.parser.feed(x)',
        'from lxml import etree\ndoc = etree.XML(x)\ny = doc[0]',
        'from lxml import etree\ndoc = etree.XML(x)\ny = doc + 1',
        'from lxml import etree\nfor node in etree.XML(x):\n    node.clear()',
        'from lxml import etree\nwith etree.xmlfile(x) as out:\n    out.write(y)',
        'from lxml import etree\nparse(\n    1,\n    etree.XML(\n        x))',
        'import lxml.etree as e\nasync def f():\n    await e.XML(x)',
    ],
)
def test_a_name_is_followed_to_its_module(source):
    assert first(source) == ('lxml.etree', callees.EXACT)


def test_a_relative_import_is_resolved_by_the_place_of_the_file():
    assert first('from . import _fast\n_fast.go()') == ('shop._fast', callees.EXACT)
    deep = f'{SITE}/shop/web/page.py'
    assert first('from .._fast import go\ngo()', file=deep) == ('shop._fast', callees.EXACT)
    package = f'{SITE}/shop/__init__.py'
    assert first('from ._fast import go\ngo()', file=package) == ('shop._fast', callees.EXACT)


def test_a_package_may_pass_a_name_on():
    sources = {'shop/__init__.py': 'from ._fast import go'}
    other = '/site/other.py'
    exact = ('shop._fast', callees.EXACT)
    assert first('import shop\nshop.go()', file=other, **sources) == exact
    assert first('import shop\nshop.go()', file=other) == ('shop._fast', callees.PACKAGE)


@pytest.mark.parametrize(
    'source',
    [
        'import ctypes\nlib = ctypes.CDLL("/opt/libwidget.so")\nlib.widget()',
        'from ctypes import *\nlib = cdll.LoadLibrary("libwidget.so")\nlib.widget()',
        'import cffi\nlib = cffi.FFI().dlopen(str(HERE / "libwidget.so"))\nlib.widget()',
        'import ctypes\nfrom ctypes.util import find_library\n'
        'lib = ctypes.CDLL(find_library("widget"))\nlib.widget()',
    ],
)
def test_the_library_called_through_ctypes_or_cffi_is_meant(source):
    assert first(source, file='/site/other.py') == ('libwidget.so', callees.EXACT)


def test_the_library_of_the_system_is_not_to_blame():
    source = 'import ctypes\nlib = ctypes.CDLL("libc.so.6")\nlib.strlen(0)'
    assert found(source, file='/site/other.py') == []


def test_code_beside_a_compiled_module_counts_less():
    assert first('x = 1', file=f'{SITE}/lxml/html/diff.py') == ('lxml.etree', callees.WITHIN)
    assert found('from lxml import etree\nx = open()', 2, file='/site/a.py') == [
        ('lxml.etree', callees.WITHIN)
    ]


BEFORE = """
import gc
from lxml import etree
from shop import _fast

def first():
    etree.XML(x)

def view():
    items = [1]
    _fast.first(items)
    helper()
    return items[0]

def helper():
    gc.collect()
"""


def test_what_the_function_called_before_counts_too():
    before = ('shop._fast', callees.NEARBY)
    assert first(BEFORE, 13, file='/site/a.py') == before
    assert found(BEFORE, 9, file='/site/a.py')[0][1] == callees.WITHIN, 'it is called later'
    frames = [Frame('/site/a.py', 16, 'helper'), Frame('/site/a.py', 12, 'view')]
    (callee, _) = callees.callees(frames, LOADED, {'/site/a.py': BEFORE}.get)
    assert (callee.module, callee.how, callee.depth) == (*before, 1)


def test_plumbing_and_the_standard_library_are_passed_over():
    frames = [
        Frame('/usr/lib/python3.11/threading.py', 9, 'run'),
        Frame(f'{SITE}/waitress/task.py', 9, 'service'),
        Frame('/usr/lib/python3.11/copy.py', 9, 'copy'),
        Frame(VIEW, 2, 'view'),
    ]
    (callee,) = callees.callees(frames, LOADED, {VIEW: 'import lxml.etree as e\ne.f()'}.get)[1:]
    assert (callee.module, callee.depth) == ('shop._fast', 1)


@pytest.mark.parametrize(
    'source', [None, '', 'not python (', '\0', 'x = ' + '(' * 5000, 'x = ' + '-' * 3000 + '1']
)
def test_a_source_that_cannot_be_parsed_is_no_error(source):
    assert callees.callees([Frame('/site/a.py', 1, 'f')], LOADED, lambda path: source) == ()


def test_a_name_that_leads_to_itself_ends():
    assert found('a = b\nb = a\na()', file='/site/a.py') == []


def test_the_import_in_a_line_is_named():
    frames = [Frame('<frozen importlib._bootstrap>', 1, 'x'), Frame(VIEW, 1, '<module>')]
    for source, names in (
        ('import a.b, c', ('a.b', 'c')),
        ('from a import b', ('a.b', 'a')),
        ('from . import _fast', ('shop._fast', 'shop')),
        ('x = 1', ()),
    ):
        assert callees.imported(frames, LOADED, {VIEW: source}.get) == names
    assert callees.imported(frames, LOADED, lambda path: None) == ()
    assert callees.imported((), LOADED, lambda path: None) == ()


def test_a_compiled_module_is_known_by_its_file():
    assert LOADED.of_file(FAST).module == 'shop._fast'
