"""One word for one thing: words that the texts of this project no longer use.

`MUST_NOT` has a pattern for each, and what to say instead.  A line that has to name an old word, as
where old files are read, is in `ALLOWED`.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MUST_NOT = {
    r'hush': 'mute',
    r'\bsilenc(ed|es|ing)\b': 'mute',
    r'dead[- ]?man': 'watchdog',
    r'\bprocessors?\b': 'CPU',
    r'\bcircles?\b(?!\')': 'cycle',
    r'\bmend(s|ed|ing)?\b': 'fix',
    r'\b[Ss]omebody\b|\b[Ww]hoever\b': 'name who it is',
    r'\bst(an|oo)ds? still\b|\bstanding still\b': 'blocked, stuck, makes no progress',
    r'\b[Ss]o many (seconds|bytes|times|characters|lines|threads)\b': 'this many',
}
#: {file: words that it may use, and why}
ALLOWED = {
    'checks/muted.py': r'hushed|dead-man',  # reads the files of releases before 1.0
    'checks/allfindings.py': r'hushed',  # the key of older JSON
    'reporting/reportdocument.py': r'hushed',
    'knowledge/knowledgebase.py': r'silence',  # the table of older files
    'store/rundirectory.py': r'deadman',  # the marks of older runs
    'docs/formats.rst': r'hushed|deadman',
    'CHANGES.txt': r'hushed|silence|dead-man|deadman|processor',
}


def texts():
    yield from ROOT.glob('*.rst')
    yield from ROOT.glob('*.txt')
    yield from (ROOT / 'docs').glob('*.rst')
    for kind in ('py', 'pt', 'js', 'toml', 'zcml'):
        for path in (ROOT / 'Products').rglob(f'*.{kind}'):
            if 'static' not in path.parts or kind == 'js':
                yield path


def test_no_text_contains_an_old_word():
    found, seen = [], 0
    for path in texts():
        place = str(path.relative_to(ROOT)).removeprefix('Products/StabilityMonitor/')
        allowed = ALLOWED.get(place)
        seen += 1
        for number, line in enumerate(path.read_text('utf-8').splitlines(), 1):
            said = re.sub(allowed, '', line) if allowed else line
            for pattern, instead in MUST_NOT.items():
                if re.search(pattern, said) and not re.search(r"'circle',|-circle", said):
                    found.append(f'{place}:{number}: {line.strip()} -> {instead}')
    assert seen > 100 and found == []


@pytest.mark.parametrize('place', ALLOWED)
def test_each_allowed_old_word_occurs_in_its_file(place):
    path = ROOT / place
    if not path.exists():
        path = ROOT / 'Products/StabilityMonitor' / place
    assert re.search(ALLOWED[place], path.read_text('utf-8'))
