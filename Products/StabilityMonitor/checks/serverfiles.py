"""Names the file in which the server of this site is configured, for what a finding advises.

Under runwsgi and pserve that is the .ini file on the command line.  gunicorn reads no section
`[server:main]`, and the configuration of logging only with `--paste` or `--log-config`.
"""

from __future__ import annotations

import os

from ..model.action import Action
from .livesite import Site

#: The options of gunicorn that name a file with the configuration of logging, the first that counts
#: first.
_LOGGING = ('--log-config', '--paste', '--paster')
_GUNICORN = 'gunicorn'


def logging_file(site: Site) -> str:
    """Return the name of the file that configures logging, such as "zope.ini", for a sentence."""
    if not _is_gunicorn(site):
        return _ini(site) or 'zope.ini'
    for option in _LOGGING:
        file = _value(site, option)
        if file:
            return file
    return "the file of gunicorn's option --log-config"


def one_thread(site: Site) -> Action:
    """Return how to let the server have one worker thread, as the beginning of a sentence."""
    if _is_gunicorn(site):
        return Action('Start gunicorn with "--worker-class sync --threads 1"')
    return Action(
        'Write "threads = 1" into `[server:main]` of {file} and restart',
        file=_ini(site) or 'zope.ini',
    )


def _is_gunicorn(site: Site) -> bool:
    program = os.path.basename(site.arguments[0]) if site.arguments else ''
    return _GUNICORN in (program, site.context.get('supervisor'))


def _ini(site: Site) -> str:
    """Return the name of the .ini file on the command line; '' if there is none."""
    for argument in site.arguments[1:]:
        file = _without_section(argument)
        if file.endswith('.ini'):
            return file
    return ''


def _value(site: Site, option: str) -> str:
    """Return the name of the file that an option on the command line names; '' if none."""
    before = ''
    for argument in site.arguments[1:]:
        name, _, value = argument.partition('=')
        if before == option:
            return _without_section(argument)
        if name == option and value:
            return _without_section(value)
        before = argument
    return ''


def _without_section(argument: str) -> str:
    """Return the name of the file in for example "config:/srv/etc/zope.ini#main"."""
    file, _, _ = argument.removeprefix('config:').partition('#')
    return os.path.basename(file)
