"""A server notes its shared objects once it serves, and again after it imported others."""

import sys
from types import SimpleNamespace

import pytest

from Products.StabilityMonitor.recording import objectnotes
from Products.StabilityMonitor.recording.objectnotes import ObjectNotes
from Products.StabilityMonitor.store import objectsets
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='only Linux lists what is mapped'
)

IMPORTS = """
def imports(self):
    import _curses, unicodedata
    return _curses.__spec__.origin
"""


@pytest.fixture
def run(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    path = base.runs / '1'
    path.mkdir()
    errands = []
    return SimpleNamespace(
        path=path,
        errands=errands,
        notes=ObjectNotes(base, SimpleNamespace(path=path), errands.append),
    )


@pytest.fixture
def modules(monkeypatch):
    known = dict(sys.modules)
    monkeypatch.setattr(objectnotes.sys, 'modules', known)
    return known


@pytest.fixture
def compiled(modules):
    """The name of a module that has a file of its own: which ones do depends on the Python."""
    return next(
        name
        for name, module in modules.items()
        if str(getattr(module, '__file__', '')).endswith('.so')
    )


def test_nothing_is_written_again_without_a_new_compiled_module(run, modules, compiled):
    run.notes.write()
    first = (run.path / 'objects.json').stat().st_ino
    assert any(compiled in each.modules for each in objectsets.of_run(run.path))
    run.notes.look_at_imports()
    assert run.errands == []
    modules['new'] = type(sys)('new')  # a module without a file
    run.notes.look_at_imports()
    run.notes.look_at_imports()
    (errand,) = run.errands
    errand()
    assert (run.path / 'objects.json').stat().st_ino == first


def test_a_new_compiled_module_is_added(run, modules, compiled):
    module = modules.pop(compiled)
    run.notes.write()
    assert not [each for each in objectsets.of_run(run.path) if compiled in each.modules]
    modules[compiled] = module
    run.notes.look_at_imports()
    run.errands.pop()()
    assert [each for each in objectsets.of_run(run.path) if compiled in each.modules]


def test_without_proc_nothing_is_written(run, monkeypatch):
    monkeypatch.setattr(objectnotes.procfiles, 'read', lambda *given: b'')
    run.notes.write()
    assert not (run.path / 'objects.json').exists()


@pytest.mark.zope
def test_a_real_zope_notes_what_a_request_imports(tmp_path):
    pytest.importorskip('_curses')
    from support.zopekit import ZopeInstance
    from support.zopekit import wait_for

    zope = ZopeInstance(tmp_path, options={'sample-interval': '50ms'}).publish(IMPORTS)
    with zope:
        (run,) = zope.stability.glob('runs/*')
        wait_for(lambda: objectsets.of_run(run), what='the shared objects')
        objects = objectsets.of_run(run)
        persistent = [each for each in objects if 'persistent.cPersistence' in each.modules]
        assert [each.distribution for each in persistent] == ['persistent']
        assert any(each.soname == 'libc.so.6' and each.build_id for each in objects)
        assert not any('_curses' in each.modules for each in objects)
        file = zope.get('/imports').text
        wait_for(
            lambda: any('_curses' in each.modules for each in objectsets.of_run(run)),
            what='the new module',
        )
        (new,) = [each for each in objectsets.of_run(run) if '_curses' in each.modules]
        assert new.file.endswith(file.rpartition('/')[2])
        zope.kill()
    from Products.StabilityMonitor.postmortem.triage import triage
    from Products.StabilityMonitor.store.archive import Archive

    base = Base(zope.stability)
    triage(base)
    assert new in Archive(base).record(run.name).shared_objects
