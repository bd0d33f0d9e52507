"""The documents are valid reStructuredText, and what they name exists.

A path counts as one of the repository when it contains a slash and ends like a file that the
repository keeps.  `path::name` also names a function or a class in that file.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(ROOT.glob('*.rst')),
    *sorted(ROOT.glob('docs/*.rst')),
    ROOT / 'README.txt',
    ROOT / 'CHANGES.txt',
]
_LITERAL = re.compile(r'``([^`\s]+)``')
_PATH = re.compile(r'[\w.-]+(?:/[\w.-]+)+\.(?:py|toml|rst|txt)')
#: A literal block that begins with the name of the program that it is.
_PROGRAM = re.compile(r'^    # (\w+\.py)\n((?:    .*\n|\n)+)', re.M)

every_document = pytest.mark.parametrize('document', DOCUMENTS, ids=lambda document: document.name)


def text_of(document):
    return document.read_text('utf-8')


def named_paths(text):
    """(path, name after "::" or '') of each literal that looks like a path of the repository."""
    for literal in _LITERAL.findall(text):
        path, _, name = literal.partition('::')
        if _PATH.fullmatch(path):
            yield path, name


def found(path):
    """The file that a document means: paths of the package may leave out its folder."""
    for folder in (ROOT, ROOT / 'Products' / 'StabilityMonitor'):
        if (folder / path).is_file():
            return folder / path
    return None


def defined_in(file):
    """Names of all functions and classes of a module; methods also as `Class::method`."""
    names = set()
    for node in ast.parse(file.read_text('utf-8')).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    names.add(f'{node.name}::{inner.name}')
    return names


@every_document
def test_a_document_parses_without_a_warning(document):
    core = pytest.importorskip('docutils.core', reason='docutils is not installed')
    problems = []

    class Stream:
        def write(self, text):
            problems.append(text)

    settings = {
        'report_level': 1,
        'halt_level': 5,
        'warning_stream': Stream(),
        'file_insertion_enabled': False,
    }
    core.publish_doctree(text_of(document), source_path=str(document), settings_overrides=settings)
    assert ''.join(problems) == ''


@every_document
def test_every_file_that_a_document_names_exists(document):
    missing = [path for path, _ in named_paths(text_of(document)) if found(path) is None]
    assert missing == []


@every_document
def test_every_function_that_a_document_names_exists(document):
    missing = []
    for path, name in named_paths(text_of(document)):
        file = found(path)
        if name and file and name not in defined_in(file):
            missing.append(f'{path}::{name}')
    assert missing == []


@every_document
def test_every_program_of_a_document_compiles(document):
    for name, block in _PROGRAM.findall(text_of(document)):
        compile(re.sub('^    ', '', block, flags=re.M), name, 'exec')


def test_the_documents_name_files_and_functions():
    """The tests above would pass on documents of which they understand nothing."""
    named = [pair for document in DOCUMENTS for pair in named_paths(text_of(document))]
    assert len(named) > 40
    assert any(name for _, name in named)
    assert any(_PROGRAM.search(text_of(document)) for document in DOCUMENTS)
