"""The pinned releases can be installed on the oldest supported Python."""

import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import metadata
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
OLDEST = '3.11.0'


def pinned(file):
    return [
        line.partition('==')[0]
        for line in file.read_text().splitlines()
        if re.match(r'[\w.-]+==', line)
    ]


@pytest.mark.zope
@pytest.mark.parametrize(
    'file', sorted(CHECKOUT.glob('constraints-*.txt')), ids=lambda file: file.name
)
def test_each_pinned_release_supports_the_oldest_python(file):
    """Checks the pinned releases that are installed here; other files of constraints are for
    another Zope.
    """
    specifiers = pytest.importorskip('packaging.specifiers')
    refused, seen = {}, 0
    for name in pinned(file):
        try:
            found = metadata(name)
        except PackageNotFoundError:
            continue
        if f'{name}=={found["Version"]}' in file.read_text():
            seen += 1
            if OLDEST not in specifiers.SpecifierSet(found['Requires-Python'] or ''):
                refused[name] = found['Requires-Python']
    assert seen > 20 and refused == {}
