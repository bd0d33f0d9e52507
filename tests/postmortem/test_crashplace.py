"""The place of a crash is the innermost frame that says something."""

import pytest
from support.syntheticruns import mark
from support.syntheticruns import request
from support.syntheticruns import traces

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.postmortem import crashplace
from Products.StabilityMonitor.postmortem import hangsummary

MACHINERY = [
    Frame('<frozen importlib._bootstrap>', 488, '_call_with_frames_removed'),
    Frame('<frozen importlib._bootstrap_external>', 1289, 'create_module'),
    Frame('<frozen zipimport>', 7, 'load_module'),
    Frame('/usr/lib/python3.12/importlib/__init__.py', 90, 'import_module'),
    Frame('/usr/lib/python3.12/importlib/_bootstrap.py', 9, '_load'),
]
VIEW = Frame('/srv/site/policy/view.py', 9, 'render')


@pytest.mark.parametrize('frame', MACHINERY, ids=lambda frame: frame.file)
def test_the_import_machinery_is_no_place(frame):
    assert crashplace.place([frame, VIEW]) == 'importing a module from policy/view.py, line 9'
    assert crashplace.place([frame, VIEW], 'a._b') == 'importing a._b from policy/view.py, line 9'
    assert crashplace.place([VIEW, frame]) == 'in render'
    assert crashplace.place([frame]) == ''


@pytest.mark.parametrize(
    'file', ['/site/importlib.py', '/site/myimportlib/__init__.py', '<frozen runpy>', '<string>']
)
def test_other_files_are_places(file):
    frame = Frame(file, 1, 'f')
    assert not crashplace.is_import_machinery(frame)
    assert crashplace.place([frame]) == 'in f'


@pytest.mark.parametrize('function', ['<module>', '<lambda>', '<genexpr>'])
def test_a_function_without_a_name_is_shown_with_its_file(function):
    assert crashplace.place([Frame('/a/b/c.py', 3, function)]) == f'in {function} of b/c.py, line 3'


def test_no_frame_is_no_place():
    assert crashplace.place([]) == ''
    assert crashplace.importing_frame([]) is None


def test_a_hang_in_an_import_is_in_the_function_that_imports():
    stack = (
        b'Stack (most recent call first):\n'
        b'  File "<frozen importlib._bootstrap>", line 7 in acquire\n'
        b'  File "/srv/site/policy/view.py", line 9 in render\n'
    )
    found = traces(hang=mark(), stuck={request().ident: mark(text=stack)})
    (_, fact) = list(hangsummary.evidence_of_hang(found))
    assert 'was in render (/srv/site/policy/view.py:9)' in fact.fact
