"""The check of file descriptors: how many are left?"""

from __future__ import annotations

import errno
import os
from types import FrameType
from types import ModuleType

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import WARNING
from ..system.currentframes import current_frames
from ..system.vitalsigns import descriptor_limit
from ..system.vitalsigns import descriptors_now
from .check import Check
from .livesite import Site

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None

#: The checks need about so many descriptors at once, and leave some for the site.
_NEEDED = 8
#: select() cannot handle descriptors from this number on.
_SELECT = 1024


class Descriptors(Check):
    id = 'descriptors'
    question = 'Are enough file descriptors left for files and connections?'
    source = '/proc/self/fd and RLIMIT_NOFILE'

    def look(self, site: Site) -> Finding:
        used = []
        try:
            used = [int(name) for name in os.listdir(site.proc / 'self/fd')]
        except OSError as error:
            if error.errno == errno.EMFILE:
                return self.running_out(descriptor_limit())
        except ValueError:
            pass
        if resource is None or not used:
            return self.unknown('The number of open descriptors is not known on this system.')
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        fact = f'{len(used)} of {soft} descriptors are open.'
        if len(used) >= 0.8 * soft:
            return self.running_out(len(used))
        if max(used) >= _SELECT * 0.9 and _waitress_selects():
            return self.found(
                WARNING,
                f'Descriptor numbers come near to {_SELECT}, the limit of select().',
                f'{fact} The highest one is {max(used)}; waitress uses select() here, as '
                'asyncore_use_poll is off.',
                Action(
                    'Write "asyncore_use_poll = true" into `[server:main]` of zope.ini and restart.'
                ),
            )
        return self.ok('There are enough descriptors.', fact)

    def running_out(self, used: int, detail: str = '') -> Finding:
        """Return the finding that most descriptors are in use."""
        limit = descriptor_limit()
        look_for_leaks = Action(
            '; then look with "ls -l /proc/{pid}/fd" for files and sockets that stay open.',
            pid=os.getpid(),
        )
        return self.found(
            CRITICAL if used >= 0.95 * limit else WARNING,
            'File descriptors are running out.',
            f'{used} of {limit} descriptors are open. When none is left, no connection is accepted '
            f'and no file can be opened.{detail}',
            to_raise('NOFILE', 'n', max(4096, 4 * limit)) + look_for_leaks,
        )


def too_few_descriptors() -> Finding | None:
    """Return a finding if so few descriptors are left that the checks cannot run; else None.

    It needs no descriptor.  Checks that run then would report files that cannot be read.
    """
    limit = descriptor_limit()
    used = descriptors_now()
    if limit < 0 or used < 0 or used <= limit - _NEEDED:
        return None
    return Descriptors().running_out(
        used, ' So the checks do not run: all other results are older.'
    )


def to_raise(name: str, option: str, wanted: int, unit: str = '') -> Action:
    """Return what to write for a higher limit; if `unit` is "K", `wanted` is in KiB.

    A shell can raise a limit only up to the hard limit.
    """
    assert resource is not None  # every caller has read a limit before
    soft, hard = resource.getrlimit(getattr(resource, f'RLIMIT_{name}'))
    if unit and soft != resource.RLIM_INFINITY:
        soft >>= 10
    if unit and hard != resource.RLIM_INFINITY:
        hard >>= 10
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    ways = ['"Limit{name}={wanted}{unit}" into `[Service]` of the unit']
    if most > soft:
        ways.append('"ulimit -S{option} {most}" before the line that starts Zope')
    if most < wanted:
        ways.append(
            '"* - {item} {wanted}" into /etc/security/limits.conf as root and log in again '
            '(the hard limit is {hard}{unit})'
        )
    return Action(
        'Write ' + ', or '.join(ways),
        name=name,
        item=name.lower(),
        option=option,
        wanted=wanted,
        most=most,
        hard=hard,
        unit=unit,
    )


def _waitress_selects() -> bool:
    """Whether the server loop of waitress uses select().

    With select() it waits in the function `poll` of waitress.wasyncore; with asyncore_use_poll it
    waits in `poll2`.
    """
    for innermost in current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            code = frame.f_code
            file = code.co_filename.replace('\\', '/')
            if code.co_name == 'poll' and file.endswith('/waitress/wasyncore.py'):
                return True
            frame = frame.f_back
    return False
