"""What the configuration of Zope says: options, instance, role, versions, databases.

It is read while arming.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

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

from ..model.jsonform import to_json
from ..model.records import Instance
from .databaseconf import configured_databases

SECTION = 'stabilitymonitor'


def circumstances() -> dict[str, Any]:
    """Return the arguments for `recording.arming.arm`."""
    config = getConfiguration()
    sections = getattr(config, 'product_config', None) or {}
    configured = sections.get(SECTION, {})
    listen, threads = server_settings(_arguments())
    return {
        'configured': dict(configured),
        'environ': os.environ,
        'role': role(),
        'instance': Instance(socket.gethostname(), config.clienthome or '', listen),
        'software': {
            'zope': _version('Zope'),
            'plone': _version('Products.CMFPlone'),
            'software_home': _software_home(),
            'instance_home': config.instancehome or '',
            'client_home': config.clienthome or '',
            'debug_mode': bool(config.debug_mode),
            'threads': threads,
            'server_software': '',
            'databases': list(map(to_json, configured_databases(config))),
            'configuration': configuration_files(),
        },
    }


def role() -> str:
    """Return "server" or "script".

    Zope does not say which one a process is.  A process that makes a WSGI application is a server,
    except zconsole, `python -c` and an interactive Python, which can make one too.
    """
    modules, functions = _callers()
    if 'make_wsgi_app' not in functions or 'Zope2.utilities.zconsole' in modules:
        return 'script'
    arguments = _arguments()
    program = os.path.basename(arguments[0]) if arguments else ''
    is_interactive = hasattr(sys, 'ps1')
    if 'zconsole' in program or program == '-c' or is_interactive:
        return 'script'
    return 'server'


def configuration_files() -> dict[str, str]:
    """Return the paths {zope_conf, wsgi_ini} of the files that configure this process.

    '' stands for one that is not known.  Zope does not keep the path of zope.conf: it is an
    argument of the function that makes the WSGI application, which is still running, or on the
    command line of a script.
    """
    arguments = _arguments()
    files = {
        'zope_conf': _given_zope_conf() or _ending(arguments, 'zope.conf'),
        'wsgi_ini': _ending(arguments, '.ini'),
    }
    return {name: os.path.abspath(file) if file else '' for name, file in files.items()}


def _given_zope_conf() -> str:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == 'make_wsgi_app':
            given = frame.f_locals.get('zope_conf')
            return given if isinstance(given, str) else ''
        frame = frame.f_back
    return ''


def _ending(argv: list[str], ending: str) -> str:
    """Return the first file on the command line whose name ends so; '' if none does."""
    for word in argv[1:]:
        file, _, _ = word.partition('#')  # after "#" comes the name of a section
        if file.endswith(ending):
            return file.rpartition('=')[2].removeprefix('config:')
    return ''


def _arguments() -> list[str]:
    """Return a copy of `sys.argv`; it is empty if an embedded interpreter has no `sys.argv`."""
    return list(getattr(sys, 'argv', None) or ())


def _callers() -> tuple[set[str], set[str]]:
    """Return the names of the modules and of the functions on the stack of this thread."""
    modules = set()
    functions = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        modules.add(frame.f_globals.get('__name__', ''))
        functions.add(frame.f_code.co_name)
        frame = frame.f_back
    return modules, functions


def server_settings(argv: list[str]) -> tuple[str, int | None]:
    """Return the listening address of the server ('' if unknown) and its number of worker threads
    (None if unknown), both from the command line.

    runwsgi and pserve get an .ini file, and may get `name=value` for its variables; gunicorn has
    --bind.
    """
    before = ''
    for word in argv:
        if before in ('-b', '--bind'):
            return word, None
        if word.startswith('--bind='):
            return word.removeprefix('--bind='), None
        file, _, _ = word.partition('#')  # after "#" comes the name of a section
        if file.endswith('.ini'):
            return _from_ini(file.removeprefix('config:'), _variables(argv))
        before = word
    return '', None


def _variables(argv: list[str]) -> dict[str, str]:
    variables = {}
    for word in argv[1:]:
        name, equals, value = word.partition('=')
        if equals and not word.startswith('-'):
            variables[name] = value
    return variables


def _from_ini(path: str, variables: dict[str, str]) -> tuple[str, int | None]:
    """See `server_settings`."""
    whole_path = os.path.abspath(path)
    defaults = {'here': os.path.dirname(whole_path), '__file__': whole_path} | variables
    escaped = {name: value.replace('%', '%%') for name, value in defaults.items()}
    parser = configparser.ConfigParser(escaped, strict=False)
    try:
        parser.read(path)
        section = parser['server:main']
        address = section.get('listen', '')
        if not address:
            host_and_port = (section.get('host', ''), section.get('port', ''))
            address = ':'.join(filter(None, host_and_port))
        number = section.get('threads', '')
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return '', None
    threads = int(number) if number.isdigit() else None
    one_line = ' '.join(address.split())
    return one_line, threads


def _software_home() -> str:
    file = getattr(sys.modules['Zope2'], '__file__', None)  # a frozen module has no file
    return str(Path(file).parent.parent) if file else ''


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ''
