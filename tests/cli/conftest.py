"""Fixtures for the tests of the command."""

from support.commandline import base
from support.commandline import command

__all__ = ('base', 'command')
