"""What the configured Zope tells about itself: options, instance, role, versions.  Read while
arming.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

from __future__ import annotations

import configparser
import os
import socket
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from App.config import getConfiguration

SECTION = 'stabilitymonitor'


def circumstances() -> dict[str, Any]:
    """The arguments of `recording.arming.arm`."""
    config = getConfiguration()
    configured = (getattr(config, 'product_config', None) or {}).get(SECTION, {})
    listen, threads = server_settings(_arguments())
    return {
        'configured': dict(configured),
        'environ': os.environ,
        'role': role(),
        'instance': {
            'host': socket.gethostname(),
            'client_home': config.clienthome or '',
            'listen': listen,
        },
        'software': {
            'zope': _zope_version(),
            'software_home': _software_home(),
            'instance_home': config.instancehome or '',
            'client_home': config.clienthome or '',
            'debug_mode': bool(config.debug_mode),
            'threads': threads,
            'server_software': '',
        },
    }


def role() -> str:
    """ "server" or "script", by what started us: a server builds a WSGI application, and is not
    zconsole.
    """
    modules, functions = _callers()
    program = os.path.basename((_arguments() or [''])[0])
    if (
        'Zope2.utilities.zconsole' in modules
        or 'zconsole' in program
        or program == '-c'
        or hasattr(sys, 'ps1')
    ):
        return 'script'
    return 'server' if 'make_wsgi_app' in functions else 'script'


def _arguments() -> list[str]:
    """What is in `sys.argv`; an embedded interpreter may have none."""
    return list(getattr(sys, 'argv', None) or ())


def _callers() -> tuple[set[str], set[str]]:
    modules = set()
    functions = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        modules.add(frame.f_globals.get('__name__', ''))
        functions.add(frame.f_code.co_name)
        frame = frame.f_back
    return modules, functions


def server_settings(argv: list[str]) -> tuple[str, int | None]:
    """The address that the server is told to listen on and its number of threads, as far as it is
    written down.

    runwsgi and pserve name an .ini file and perhaps `name=value`; gunicorn has --bind.
    """
    for before, word in zip(['', *argv], argv, strict=False):
        if before in ('-b', '--bind'):
            return word, None
        if word.startswith('--bind='):
            return word[7:], None
        if word.split('#')[0].endswith('.ini'):
            return _from_ini(word.split('#')[0].removeprefix('config:'), _variables(argv))
    return '', None


def _variables(argv: list[str]) -> dict[str, str]:
    return dict(word.split('=', 1) for word in argv[1:] if '=' in word and not word.startswith('-'))


def _from_ini(path: str, variables: dict[str, str]) -> tuple[str, int | None]:
    defaults = {
        'here': os.path.dirname(os.path.abspath(path)),
        '__file__': os.path.abspath(path),
    } | variables
    parser = configparser.ConfigParser(
        {k: v.replace('%', '%%') for k, v in defaults.items()}, strict=False
    )
    try:
        parser.read(path)
        section = parser['server:main']
        address = section.get('listen') or ':'.join(
            filter(None, (section.get('host', ''), section.get('port', '')))
        )
        threads = section.get('threads', '')
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return '', None
    return ' '.join(address.split()), int(threads) if threads.isdigit() else None


def _software_home() -> str:
    file = sys.modules['Zope2'].__file__
    return str(Path(file).parent.parent) if file else ''


def _zope_version() -> str:
    try:
        return version('Zope')
    except PackageNotFoundError:
        return ''
