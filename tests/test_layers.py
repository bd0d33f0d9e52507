"""The rules for imports between the rooms: one direction, no cycles, and Zope only in `zmi`."""

import ast
import sys
from pathlib import Path

import pytest
import zope.interface
from support.childprograms import run_python

from Products.StabilityMonitor.model.interfaces import ILivingRun

PACKAGE = 'Products.StabilityMonitor'
CHECKOUT = Path(__file__).resolve().parent.parent
HOUSE = CHECKOUT / 'Products' / 'StabilityMonitor'
TESTS = CHECKOUT / 'tests'

# From bottom to top: a room may import the rooms before it.
ROOMS = [
    'model',
    'system',
    'store',
    'threads',
    'knowledge',
    'recording',
    'postmortem',
    'inspection',
    'checks',
    'reporting',
    'cli',
    'zmi',
    '__main__',
]
# Exceptions: the reader may be a newer release than the writer, and a site does not need the
# command.
STRANGERS = {('postmortem', 'recording'), ('zmi', 'cli')}
ZOPE = {
    'AccessControl',
    'Acquisition',
    'App',
    'BTrees',
    'Chameleon',
    'DateTime',
    'DocumentTemplate',
    'ExtensionClass',
    'MultiMapping',
    'OFS',
    'Persistence',
    'RestrictedPython',
    'Shared',
    'Signals',
    'Testing',
    'ZODB',
    'ZPublisher',
    'ZTUtils',
    'Zope2',
    'persistent',
    'transaction',
    'webdav',
    'zExceptions',
    'zmi',
}


def modules():
    return sorted(path for path in HOUSE.rglob('*.py') if '__pycache__' not in path.parts)


def label(path):
    return str(path.relative_to(HOUSE))


def room(path):
    """Return the top-level name in the package: 'recording', 'cli', ... or '__init__'."""
    return path.relative_to(HOUSE).parts[0].removesuffix('.py')


def imported(path):
    """Yield (dotted name, whether it is inside a function) for each import of a file; relative
    names are resolved.
    """
    tree = ast.parse(path.read_text('utf-8'), str(path))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in names_of(node, path):
                yield name, id(node) in inside


def names_of(node, path):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ''
    if node.level:
        package = PACKAGE.split('.') + list(path.relative_to(HOUSE).parts[:-1])
        package = package[: len(package) - node.level + 1]
        base = '.'.join(package + ([node.module] if node.module else []))
    return [f'{base}.{alias.name}' for alias in node.names]


def own_room(name):
    """Return the room of a dotted name, '__init__' for the package itself, and None for foreign
    names.
    """
    if name != PACKAGE and not name.startswith(PACKAGE + '.'):
        return None
    first = name[len(PACKAGE) + 1 :].split('.')[0]
    exists = first and ((HOUSE / first).is_dir() or (HOUSE / f'{first}.py').exists())
    return first if exists else '__init__'


def is_zope(name):
    parts = name.split('.')
    if parts[0] == 'Products':
        return own_room(name) is None
    if parts[0] == 'zope':
        return parts[1:2] != ['interface']
    return parts[0] in ZOPE


def may_import(source, target):
    if source == target or '__init__' in (source, target):
        return True
    return ROOMS.index(target) < ROOMS.index(source) and (source, target) not in STRANGERS


def wrong_arrows(path):
    source = room(path)
    for name, _ in imported(path):
        target = own_room(name)
        if target and not may_import(source, target):
            yield f'{label(path)} imports {name}: {source} -> {target}'


def zope_imports(path):
    source = room(path)
    for name, in_function in imported(path):
        if is_zope(name) and source != 'zmi' and not (source == '__init__' and in_function):
            yield f'{label(path)} imports {name}'


def uses_of_a_life(path):
    """Yield the attributes of a living run that a file uses: those of any object with the name
    `life`.
    """
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.Attribute):
            of = node.value
            if getattr(of, 'id', getattr(of, 'attr', '')) == 'life':
                yield node.attr


def test_other_rooms_use_only_the_interface_of_a_living_run():
    used = {
        attribute
        for path in modules()
        if room(path) != 'recording'
        for attribute in uses_of_a_life(path)
    }
    assert used and used <= set(ILivingRun)


def test_the_package_has_modules():
    assert modules()


def test_every_module_is_in_a_listed_room():
    assert {room(path) for path in modules()} == {*ROOMS, '__init__'}


def test_no_two_modules_and_no_standard_module_share_a_name():
    """No module has the name of a room either, except the module of a subcommand."""
    names = [path.stem for path in modules() if path.stem not in ('__init__', '__main__')]
    assert not set(names) & sys.stdlib_module_names
    assert not {name for name in names if names.count(name) > 1}
    commands = {path.stem for path in modules() if room(path) == 'cli'}
    assert set(names) & set(ROOMS) <= commands


def test_no_modules_import_each_other_in_a_cycle():
    arrows = {dotted(path): set() for path in modules()}
    for path in modules():
        for name, _ in imported(path):
            module = name if name in arrows else name.rpartition('.')[0]
            # Other rooms import only the version from the package itself.
            if module in arrows and module not in (PACKAGE, dotted(path)):
                arrows[dotted(path)].add(module)
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert sorted(arrows) == []


def test_imports_go_one_way():
    assert [wrong for path in modules() for wrong in wrong_arrows(path)] == []


def test_recording_and_postmortem_never_import_each_other():
    assert not may_import('recording', 'postmortem')
    assert not may_import('postmortem', 'recording')


def test_only_the_zmi_knows_zope():
    assert [wrong for path in modules() for wrong in zope_imports(path)] == []


@pytest.mark.parametrize(
    'source, wrong',
    [
        ('from ..postmortem import triage', True),
        ('from ..postmortem.triage import claim', True),
        ('import Products.StabilityMonitor.cli.command', True),
        ('def f():\n    from ..reporting import report', True),
        ('from ..store.blackbox import Slot', False),
        ('from ..model import options', False),
        ('from .heartbeat import Heartbeat', False),
        ('import os.path', False),
    ],
)
def test_a_wrong_import_is_detected(tmp_path, monkeypatch, source, wrong):
    (tmp_path / 'recording').mkdir()
    for name in ('postmortem', 'reporting', 'cli', 'store', 'model'):
        (tmp_path / name).mkdir()
    path = tmp_path / 'recording' / 'arming.py'
    path.write_text(source)
    monkeypatch.setattr(sys.modules[__name__], 'HOUSE', tmp_path)
    assert bool(list(wrong_arrows(path))) == wrong


@pytest.mark.parametrize(
    'name, zopes',
    [
        ('Zope2.App', True),
        ('zope.component.getUtility', True),
        ('Products.Five.browser', True),
        ('ZODB', True),
        ('zope.interface.Interface', False),
        ('Products.StabilityMonitor.model.records', False),
        ('zoneinfo', False),
    ],
)
def test_zope_is_recognised(name, zopes):
    assert is_zope(name) == zopes


WITHOUT_ZOPE = '''
import importlib, sys

class OnlyThePythonLibrary:
    """Refuse all imports except the standard library, zope.interface and the product."""
    allowed = sys.stdlib_module_names | {'Products', 'zope'}

    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition('.')
        if top == 'Products' and rest and rest.split('.')[0] != 'StabilityMonitor':
            raise ModuleNotFoundError(f'blocked: {name}', name=name)
        if top == 'zope' and rest and rest.split('.')[0] != 'interface':
            raise ModuleNotFoundError(f'blocked: {name}', name=name)
        if top not in self.allowed:
            raise ModuleNotFoundError(f'blocked: {name}', name=name)

sys.meta_path.insert(0, OnlyThePythonLibrary())
sys.path[:0] = [PATHS]
for name in [MODULES]:
    importlib.import_module(name)
zopes = {'Zope2', 'App', 'OFS', 'ZPublisher', 'ZODB'}
strange = sorted({name.split('.')[0] for name in sys.modules} & zopes)
assert not strange, strange
'''


def dotted(path):
    parts = [PACKAGE, *path.relative_to(HOUSE).with_suffix('').parts]
    return '.'.join(part for part in parts if part != '__init__')


def test_all_but_the_zmi_imports_without_zope():
    """The other rooms do not need psutil, packaging or an extra either: a missing one only switches
    off a feature.
    """
    names = [dotted(path) for path in modules() if room(path) not in ('zmi', '__main__')]
    assert names
    libraries = str(Path(zope.interface.__file__).parents[2])
    source = WITHOUT_ZOPE.replace('[PATHS]', repr([str(CHECKOUT), libraries])).replace(
        '[MODULES]', repr(names)
    )
    done = run_python('-I', '-S', '-c', source)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('path', modules(), ids=label)
def test_each_file_has_a_docstring(path):
    text = path.read_text('utf-8')
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f'{label(path)} does not say its one idea'


def test_the_tests_mirror_the_package():
    """Each folder of tests has the name of a room; `support` has what several tests share."""
    folders = {path.name for path in TESTS.iterdir() if list(path.glob('test_*.py'))}
    assert folders - {'functional', 'browser'} <= set(ROOMS)


def test_no_test_module_imports_another():
    tests = {path.stem for path in TESTS.rglob('test_*.py')}
    for path in TESTS.rglob('*.py'):
        assert not {name.partition('.')[0] for name, _ in imported(path)} & tests, path
