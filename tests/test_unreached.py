"""The list of code that only subprocesses of tests reach: its entries exist, and it is compared
with a coverage report.
"""

import ast
import json
import os
import sys
from pathlib import Path

import pytest

from tools import unreached
from tools.unreached import Entry

CHECKOUT = Path(__file__).resolve().parent.parent
HOUSE = CHECKOUT / 'Products' / 'StabilityMonitor'
ENTRIES = unreached.entries()


def defined(path):
    """Return the qualified names of all functions and classes in a file."""
    found = set()

    def walk(node, prefix):
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + child.name)
                inner = f'{prefix}{child.name}.'
            walk(child, inner)

    walk(ast.parse(path.read_text('utf-8')), '')
    return found


@pytest.mark.parametrize('module', sorted({entry.module for entry in ENTRIES}))
def test_each_listed_name_exists(module):
    named = [name for entry in ENTRIES if entry.module == module for name in entry.names]
    assert set(named) - defined(HOUSE / module) == set()
    assert len(named) == len(set(named))


@pytest.mark.parametrize('test', sorted({entry.test for entry in ENTRIES}))
def test_each_listed_test_exists(test):
    path, _, name = test.partition('::')
    assert name.replace('::', '.') in defined(CHECKOUT / path)


def test_each_entry_has_a_reason():
    assert [entry for entry in ENTRIES if not entry.why] == []


def report(**functions):
    """Return a coverage report of one module, with the covered lines (of three) of each
    function.
    """
    return {
        'files': {
            'Products/StabilityMonitor/room/module.py': {
                'functions': {
                    name.replace('__of__', '.'): {
                        'summary': {'num_statements': 3, 'covered_lines': covered}
                    }
                    for name, covered in functions.items()
                }
            }
        }
    }


def entry(*names, module='room/module.py'):
    return Entry(module, names, 'It dies.', 'tests/test_unreached.py::entry')


@pytest.mark.parametrize('listed', [(), ('f',), ('Class',)])
def test_unreached_code_must_be_listed(listed):
    found = unreached.differences(report(f=0, g=1), [entry(*listed)] if listed else [])
    assert found.unlisted == (() if 'f' in listed else ('room/module.py f',))


def test_listed_code_that_is_reached_is_named():
    found = unreached.differences(report(f=1), [entry('f')])
    assert found == unreached.Differences(unlisted=(), reached=('room/module.py f',))


@pytest.mark.parametrize('covered, status', [(0, 1), (3, 0)])
def test_only_code_that_is_not_listed_is_a_failure(tmp_path, monkeypatch, capsys, covered, status):
    monkeypatch.setattr(unreached, 'entries', lambda: [entry('f')])
    path = tmp_path / 'report.json'
    path.write_text(json.dumps(report(f=3, g=covered)))
    assert unreached.main([str(path)]) == status
    printed = capsys.readouterr().out
    assert 'listed, but reached: room/module.py f\n' in printed
    assert ('ERROR neither reached nor listed: room/module.py g\n' in printed) == bool(status)


def test_a_listed_class_or_module_covers_all_code_in_it():
    found = report(Class__of__method=0)
    assert not unreached.differences(found, [entry('Class')]).unlisted
    assert unreached.differences(found, [entry('Cla')]).unlisted
    assert not unreached.differences(found, [entry()]).unlisted
    assert unreached.differences(found, [entry(module='room/other.py')]).unlisted


@pytest.mark.skipif(
    not hasattr(sys, 'monitoring') or not hasattr(os, 'fork'), reason='nothing to measure with'
)
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_a_forked_child_is_not_measured():
    child = os.fork()
    if not child:
        os._exit(sys.monitoring.get_tool(sys.monitoring.COVERAGE_ID) is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
