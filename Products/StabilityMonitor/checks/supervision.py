"""Who starts this process again when it dies: the HOWTO's controlling process, as it exists
today.
"""

from __future__ import annotations

import re

from ..model.records import Finding
from .check import Check
from .livesite import Site
from .livesite import text

_ADVICE = (
    'Write a service for systemd with the lines "Restart=on-failure" and "RestartSec=5" in '
    '[Service], or start '
    'Zope under zdaemon or supervisord.'
)
_CONTAINERS = ('container', 'kubernetes')
_RESTARTING = {'always', 'on-failure', 'on-abnormal', 'on-abort'}
#: Services whose children are jobs and sessions of others.
_OF_OTHERS = re.compile(r'(ana)?cron(d|ie)?\.service|atd\.service|sshd?(@.*)?\.service')


class Supervisor(Check):
    id = 'supervisor'
    question = 'Does somebody start this process again when it dies?'
    source = 'the parent process, the environment and the unit of systemd'

    def look(self, site: Site) -> Finding:
        name = site.context.get('supervisor') or ''
        if not name:
            return self._nobody(
                'Nobody starts this process again when it dies.',
                'No supervisor is to be seen: neither a known parent process nor its variables.',
            )
        if name == 'systemd':
            return self._systemd(site)
        if name.startswith(_CONTAINERS):
            return self.found(
                'info',
                f'Whether this process is started again is up to its {name.split(" ")[0]}.',
                'The restart policy cannot be seen from inside.',
                'Start the container with "--restart unless-stopped", or leave restartPolicy at '
                'Always.',
            )
        if site.parent != site.context.get('parent', site.parent):
            return self._nobody(
                f'{name} is gone: it does not start this process again when it dies.',
                f'It was the parent process ({site.context["parent"]}) at the start of this run; '
                'now '
                f'that is {site.parent}.',
            )
        return self.ok(f'{name} starts this process again when it dies.')

    def _nobody(self, title: str, detail: str) -> Finding:
        return self.found('warning', title, detail, _ADVICE)

    def _systemd(self, site: Site) -> Finding:
        name = unit(site.text('self/cgroup'))
        if name.endswith('.scope') or _OF_OTHERS.fullmatch(name):
            return self._nobody(
                'Nobody starts this process again when it dies.',
                f'It belongs to a session or a job ({name}), not to a service of its own.',
            )
        if name and not _is_main(site):
            return self.found(
                'info',
                f'Whether systemd notices a death of this process is up to its parent ({name}).',
                'systemd watches the main process of a service; the parent of this one is '
                f'{site.parent}: "{site.text(f"{site.parent}/comm").strip()}".',
                'Write "exec" before the command that starts Zope in the script of ExecStart.',
            )
        settings = _settings(site, name) if name else ''
        return (
            self._judged(name, settings)
            if settings
            else self.found(
                'info',
                f'systemd has started this process{f" ({name})" if name else ""}; whether it '
                'does so again is not '
                'known.',
                'Its unit cannot be read from here.',
                f'Look with "systemctl show --property Restart {name or "UNIT"}": it should say '
                'Restart=on-failure.',
            )
        )

    def _judged(self, unit: str, settings: str) -> Finding:
        restart = (re.findall(r'^\s*Restart\s*=\s*(\S*)', settings, re.M) or ['no'])[-1]
        if restart in _RESTARTING:
            return self.ok(f'systemd starts this process again ({unit}: Restart={restart}).')
        return self.found(
            'warning',
            'systemd does not start this process again after a crash.',
            f'{unit} has Restart={restart}.',
            f'Run "systemctl edit {unit}", write "[Service]" and "Restart=on-failure" into it.',
        )


def unit(cgroups: str) -> str:
    """The service, or the scope of a session, that this process is in; '' where it is not told."""
    path = re.search(r'^\d+:(?:name=systemd)?:(/.*)$', cgroups, re.M)
    units = (
        [part for part in path[1].split('/') if part.endswith(('.service', '.scope'))]
        if path
        else []
    )
    return units[-1] if units else ''


def _is_main(site: Site) -> bool:
    """Started by the first process, or by the systemd of a user."""
    return site.parent == 1 or site.text(f'{site.parent}/comm').strip() == 'systemd'


def _settings(site: Site, unit: str) -> str:
    """The text of a unit with its drop-ins; a unit made of a template has that one's."""
    template = re.sub(r'@[^.]*\.', '@.', unit)
    for name in dict.fromkeys((unit, template)):
        for folder in site.unit_folders:
            if main := text(folder / name):
                drop_ins = sorted(
                    (
                        path
                        for place in site.unit_folders
                        for n in dict.fromkeys((template, unit))
                        for path in (place / f'{n}.d').glob('*.conf')
                    ),
                    key=lambda path: path.name,
                )
                return '\n'.join([main, *map(text, drop_ins)])
    return ''
