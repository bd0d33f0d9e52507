"""The command `stabilitymonitor`: one module for each subcommand."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ('main',)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    The subcommand `run` stays for the whole life of Zope, so it does without the other imports.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == 'run':
        from . import run

        known = run.parsed(words[1:])
        if known:
            return run.run(*known)
    from . import command

    return command.main(words)
