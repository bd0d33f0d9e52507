"""The option `--print-completion`; the library shtab is not needed for these tests."""

import sys
import types

import pytest

from Products.StabilityMonitor import cli


def test_the_script_is_made_by_shtab_from_the_parser(monkeypatch, capsys):
    def complete(parser, shell):
        folders = [action.dest for action in parser._actions if hasattr(action, 'complete')]
        return f'{parser.prog} {shell} {folders}'

    monkeypatch.setitem(sys.modules, 'shtab', types.SimpleNamespace(complete=complete))
    with pytest.raises(SystemExit) as ended:
        cli.main(['--print-completion', 'zsh'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "stabilitymonitor zsh ['directory', 'client_home']\n"


def test_without_shtab_the_error_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    with pytest.raises(SystemExit) as ended:
        cli.main(['--print-completion', 'bash'])
    assert ended.value.code == 2
    assert "pip install 'Products.StabilityMonitor[completion]'" in capsys.readouterr().err
