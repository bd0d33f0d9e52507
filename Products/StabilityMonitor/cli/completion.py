"""The option `--print-completion`: a script with which a shell completes words of the command.

`shtab` makes the script from the parser; it is the extra "completion" of setup.py.
"""

from __future__ import annotations

import importlib
from argparse import Action
from argparse import ArgumentParser
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

_SHELLS = ('bash', 'zsh', 'tcsh')
#: {shell: what completes a name in the script that shtab makes}
_FOLDERS = {'bash': '_shtab_compgen_dirs', 'zsh': '_files -/', 'tcsh': 'd'}
_FILES = {'bash': '_shtab_compgen_files', 'zsh': '_files', 'tcsh': 'f'}


def of_folders(*options: Action) -> None:
    """Let the shell complete names of folders after these options."""
    _complete(options, _FOLDERS)


def of_files(*options: Action) -> None:
    """Let the shell complete names of files after these options."""
    _complete(options, _FILES)


def _complete(options: Iterable[Action], how: dict[str, str]) -> None:
    for option in options:
        option.complete = how  # type: ignore[attr-defined]  # shtab's way to say it


def add_option(parser: ArgumentParser) -> None:
    parser.add_argument(
        '--print-completion',
        action=_PrintCompletion,
        choices=_SHELLS,
        help='print a script that completes words of this command in that shell, and exit',
    )


class _PrintCompletion(Action):
    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            shtab = importlib.import_module('shtab')
        except ImportError:
            parser.error(
                "this needs the library shtab: pip install 'Products.StabilityMonitor[completion]'"
            )
        print(shtab.complete(parser, values))
        parser.exit()
