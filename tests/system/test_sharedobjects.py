"""The shared objects of a process, and the modules that came from them."""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from support.childprograms import run_python

from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.system import sharedobjects

pytestmark = pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='no /proc here')


def now(known=()):
    return sharedobjects.mapped(Path('/proc/self/maps').read_text(), sys.modules, known)


def line(path, inode=1, end=''):
    return f'7f0000000000-7f0000001000 r-xp 00000000 08:01 {inode}      {path}{end}\n'


def module(name, **facts):
    made = ModuleType(name)
    vars(made).update(facts)
    return made


def test_interpreter_c_library_and_compiled_modules_are_known():
    import _ctypes

    found = {each.file: each for each in now()}
    assert os.path.realpath(sys.executable) in found
    assert any(each.soname.startswith(('libc.', 'ld-')) for each in found.values())
    if '_ctypes' not in sys.builtin_module_names:
        assert found[os.path.realpath(_ctypes.__file__)].modules == ('_ctypes',)


def test_owners_are_added():
    persistent = pytest.importorskip('persistent.cPersistence')
    (own,) = [each for each in now() if each.file == os.path.realpath(persistent.__file__)]
    (found,) = sharedobjects.with_owners([own])
    assert (
        found.distribution == 'persistent'
        and found.version
        and 'persistent.cPersistence' in (found.modules)
    )


def test_modules_are_named_by_their_origin(tmp_path):
    file = tmp_path / 'x.so'
    file.touch()
    (tmp_path / 'link.so').symlink_to(file)
    modules = {
        'b': module('b', __spec__=ModuleSpec('b', None, origin=str(file))),
        'a': module('a', __spec__=ModuleSpec('a', None, origin=str(tmp_path / 'link.so'))),
        'old': module('old', __file__=str(file)),
        'text': module('text', __file__=str(tmp_path / 'text.py')),
        'none': None,
        'odd': module('odd', __spec__=object(), __file__=7),
    }
    (found,) = sharedobjects.mapped(line(file), modules)
    assert found == SharedObject(str(file), ('a', 'b', 'old'))
    assert sharedobjects.compiled_names(modules) == {'a', 'b', 'old'}


def test_no_code_of_others_runs():
    class Trap(ModuleType):
        def __getattribute__(self, name):
            raise AssertionError(name)

    class NoModule:
        def __getattr__(self, name):
            raise AssertionError(name)

    class Name(str):
        def endswith(self, *words):
            raise AssertionError(words)

    modules = {'a': Trap('a'), 'b': NoModule(), 'c': module('c', __spec__=NoModule())}
    modules['d'] = module('d', __file__=Name('/x.so'))
    assert sharedobjects.compiled_names(modules) == set()


def test_a_deleted_file_is_not_mistaken_for_its_successor():
    real = next(each for each in now() if each.build_id)
    maps = line(real.file, 1, ' (deleted)') + line(real.file, 2)
    gone, there = sharedobjects.mapped(maps, {}, known=[real])
    assert gone == SharedObject(real.file) and there.build_id == real.build_id


def test_what_is_known_already_is_not_read_again(tmp_path):
    known = SharedObject(str(tmp_path / 'gone.so'), (), 'libgone.so', 'ab', 'gone', '1')
    assert sharedobjects.mapped(line(known.file), {}, [known]) == (known,)


def test_a_path_that_is_no_text_can_be_written_down():
    (found,) = sharedobjects.mapped(line('/opt/\udcff.so'), {})
    assert found.file == '/opt/\ufffd.so'


def test_a_system_without_maps_has_no_objects():
    assert sharedobjects.mapped('', sys.modules) == ()


def test_a_module_that_was_imported_is_found():
    done = run_python(
        '-c',
        'import sys; from pathlib import Path\n'
        'from Products.StabilityMonitor.system import sharedobjects\n'
        'before = sharedobjects.compiled_names(sys.modules)\n'
        'import _curses\n'
        'print(sharedobjects.compiled_names(sys.modules) - before)',
    )
    if 'No module' in done.stderr or '_curses' in sys.builtin_module_names:
        pytest.skip('no _curses here')
    assert (done.stdout, done.stderr) == ("frozenset({'_curses'})\n", '')
