"""The command `stabilitymonitor`: one module for each subcommand."""

from .command import main

__all__ = ('main',)
