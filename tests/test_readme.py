"""README.txt agrees with the tables of the code: options, defaults, verdicts and subcommands."""

import re
from pathlib import Path

import pytest

from Products.StabilityMonitor.cli import command
from Products.StabilityMonitor.model.options import OPTIONS
from Products.StabilityMonitor.postmortem import verdict

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / 'README.txt').read_text()


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_the_readme_with_its_default(option):
    row = next(line for line in README.splitlines() if line.startswith(f'{option.name} '))
    assert row.split()[1] == (option.default or 'none')
    assert ' '.join(option.why.split()[:3]) in ' '.join(row.split())


def test_every_verdict_is_in_the_readme():
    codes = {rule.__name__.replace('_', '-') for rule in verdict.RULES}
    assert {
        code for code in codes if not any(line.startswith(code) for line in README.splitlines())
    } == set()


def test_every_subcommand_is_in_the_readme():
    assert {name for name in command._COMMANDS if f'/var {name}' not in README} == set()


def test_the_readme_has_no_placeholder_and_its_pictures_exist():
    assert '@' not in README
    pictures = [
        line.split('::')[1].strip() for line in README.splitlines() if line.startswith('.. image::')
    ]
    assert pictures
    assert all((ROOT / picture).stat().st_size > 10_000 for picture in pictures)


PACKAGE = ROOT / 'Products' / 'StabilityMonitor'


def code_without(*modules):
    """Return the text of all modules of the package except these."""
    return '\n'.join(path.read_text() for path in PACKAGE.rglob('*.py') if path.name not in modules)


@pytest.mark.parametrize('option', OPTIONS, ids=lambda option: option.name)
def test_every_option_is_used_in_the_code(option):
    attribute = option.name.replace('-', '_')
    assert re.search(rf"\boptions\.{attribute}\b|'{attribute}'", code_without('options.py'))


def test_every_extra_is_used_in_the_code():
    """The extras `test` and `bench` are for developers, so they do not count."""
    extras = re.search(r'extras_require={(.*?)\n    },', (ROOT / 'setup.py').read_text(), re.S)[1]
    promised = dict(re.findall(r"^ +'(\w+)': \['([\w-]+)", extras, re.M))
    for name in ('test', 'bench'):
        promised.pop(name, None)
    assert promised and all(library in code_without() for library in promised.values())
