"""Who starts this process again when it dies: the HOWTO's controlling process, as it exists today."""
from __future__ import annotations

import re

from ..site import text
from .check import Check

_ADVICE = ('Write a service for systemd with the lines "Restart=on-failure" and "RestartSec=5" in [Service], or start '
           'Zope under zdaemon or supervisord.')
_CONTAINERS = ('container', 'kubernetes')
_RESTARTING = {'always', 'on-failure', 'on-abnormal', 'on-abort'}


class Supervisor(Check):
    id = 'supervisor'
    question = 'Does somebody start this process again when it dies?'
    source = 'the parent process, the environment and the unit of systemd'

    def look(self, site):
        name = site.context.get('supervisor') or ''
        if not name:
            return self.found('warning', 'Nobody starts this process again when it dies.',
                              'No supervisor is to be seen: neither a known parent process nor its variables.', _ADVICE)
        if name == 'systemd':
            return self._systemd(site)
        if name.startswith(_CONTAINERS):
            return self.found('info', f'Whether this process is started again is up to its {name.split(" ")[0]}.',
                              'The restart policy cannot be seen from inside.',
                              'Start the container with "--restart unless-stopped", or leave restartPolicy at Always.')
        return self.ok(f'{name} starts this process again when it dies.')

    def _systemd(self, site):
        unit = _unit(site.text('self/cgroup'))
        settings = _settings(site, unit) if unit else ''
        if not settings:
            return self.ok(f'systemd has started this process{f" ({unit})" if unit else ""}.',
                           'Its unit cannot be read from here: look for "Restart=" in it.')
        restart = (re.findall(r'^\s*Restart\s*=\s*(\S*)', settings, re.M) or ['no'])[-1]
        if restart in _RESTARTING:
            return self.ok(f'systemd starts this process again ({unit}: Restart={restart}).')
        return self.found('warning', 'systemd does not start this process again after a crash.',
                          f'{unit} has Restart={restart}.',
                          f'Run "systemctl edit {unit}", write "[Service]" and "Restart=on-failure" into it.')


def _unit(cgroups):
    """The service that this process is in; sessions of people are none."""
    found = re.search(r'/(?:system|app)\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)', cgroups)
    return found[1] if found else ''


def _settings(site, unit):
    """The text of a unit with its drop-ins; a unit made of a template has that one's."""
    template = re.sub(r'@[^.]*\.', '@.', unit)
    for name in dict.fromkeys((unit, template)):
        for folder in site.unit_folders:
            if main := text(folder / name):
                drop_ins = sorted((path for place in site.unit_folders for n in dict.fromkeys((template, unit))
                                   for path in (place / f'{n}.d').glob('*.conf')), key=lambda path: path.name)
                return '\n'.join([main, *map(text, drop_ins)])
    return ''
