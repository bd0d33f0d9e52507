"""The table of checks: each check keeps the contract, and no id is used twice."""

import sys

import pytest
from support.checkconformance import CheckConformance
from support.childprograms import run_python

from Products.StabilityMonitor.checks.check import Check
from Products.StabilityMonitor.checks.everycheck import CHECKS
from Products.StabilityMonitor.checks.knownissues import KnownIssues


@pytest.fixture(params=CHECKS, ids=lambda check: check.id)
def check(request):
    return request.param


class TestEachCheck(CheckConformance):
    """The contract of ICheck, for each check of the table."""


def test_a_check_without_a_look_method_is_an_error():
    with pytest.raises(NotImplementedError):
        Check().look(None)


def test_ids_are_unique():
    assert len({check.id for check in CHECKS}) == len(CHECKS)


def test_all_checks_of_the_modules_are_in_the_table():
    import importlib
    import pkgutil

    from Products.StabilityMonitor import checks

    for module in pkgutil.iter_modules(checks.__path__):
        importlib.import_module(f'{checks.__name__}.{module.name}')
    shipped = {
        kind for kind in Check.__subclasses__() if kind.__module__.startswith(checks.__name__)
    }
    of_the_knowledge_base = {KnownIssues}  # runs with the others, but is not in the table
    assert shipped - of_the_knowledge_base == {type(check) for check in CHECKS}


#: Runs each check in a fresh process, and prints each one that defines a class by `exec` of a text,
#: as a dataclass or a named tuple does, or that imports a module that does so.
LATE_CLASSES = """
import sys
import urllib.parse  # every Zope has already loaded it
from pathlib import Path
from Products.StabilityMonitor.checks.everycheck import CHECKS
from Products.StabilityMonitor.checks.knownissues import KnownIssues
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.knowledge.rules import has_packaging
has_packaging()
site, asked = Site(directory=Path(sys.argv[1])), ''

def watch(event, args):
    if event == 'exec' and getattr(args[0], 'co_filename', '') == '<string>':
        print(asked)

sys.addaudithook(watch)
for check in (*CHECKS, KnownIssues()):
    asked = check.id
    check.look(site)
print('all checks have run')
"""


@pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason='Python 3.14 remembers that SIGINT ends it, see test_classes_of_threads.py',
)
def test_no_check_defines_a_class_when_it_runs(tmp_path):
    """See tests/recording/test_classes_of_threads.py."""
    done = run_python('-c', LATE_CLASSES, tmp_path)
    assert (done.stdout, done.stderr) == ('all checks have run\n', '')
