"""The fixtures that the tests of the command share."""

from support.commandline import base
from support.commandline import command

__all__ = ('base', 'command')
