"""The check of the supervisor, which restarts this process when it dies.

The HOWTO calls it the controlling process.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..model.action import Action
from ..model.finding import Finding
from ..model.severities import INFO
from ..model.severities import WARNING
from ..system.runcontext import FIRST_IN_CONTAINER
from ..system.runcontext import SHELL_IN_CONTAINER
from .check import Check
from .livesite import Site
from .livesite import text

_ADVICE = Action(
    'Write a service for systemd with the lines "Restart=on-failure" and "RestartSec=5" in '
    '`[Service]`, or start Zope under zdaemon or supervisord.'
)
#: {name from `runcontext.supervisor`: what restarts a container}
_CONTAINERS = {
    'container': 'container',
    FIRST_IN_CONTAINER: 'container',
    SHELL_IN_CONTAINER: 'container',
    'kubernetes': 'Kubernetes pod',
}
_RESTARTING = {'always', 'on-failure', 'on-abnormal', 'on-abort'}
#: Services whose child processes are jobs and sessions, which systemd does not restart.
_OF_OTHERS = re.compile(r'(ana)?cron(d|ie)?\.service|atd\.service|sshd?(@.*)?\.service')


class Supervisor(Check):
    id = 'supervisor'
    question = 'Is this process restarted when it dies?'
    source = 'the parent process, the environment and the unit of systemd'

    def look(self, site: Site) -> Finding:
        name = site.context.get('supervisor') or ''
        if not name:
            return self._not_restarted(
                'Nothing restarts this process when it dies.',
                'No supervisor was found: neither as the parent process nor by its environment '
                'variables.',
            )
        if name == 'systemd':
            return self._systemd(site)
        if name in _CONTAINERS:
            return self.found(
                INFO,
                f'Whether this process is restarted depends on its {_CONTAINERS[name]}.',
                'The restart policy cannot be read from inside.',
                Action(
                    'Start the container with "--restart unless-stopped", or leave restartPolicy '
                    'at Always.'
                ),
            )
        if site.parent != site.context.get('parent', site.parent):
            return self._not_restarted(
                f'{name} is gone: it does not restart this process when it dies.',
                f'It was the parent process ({site.context["parent"]}) at the start of this run; '
                f'now the parent process is {site.parent}.',
            )
        return self.ok(f'{name} restarts this process when it dies.')

    def _not_restarted(self, title: str, detail: str) -> Finding:
        return self.found(WARNING, title, detail, _ADVICE)

    def _systemd(self, site: Site) -> Finding:
        name = unit(site.text('self/cgroup'))
        if name.endswith('.scope') or _OF_OTHERS.fullmatch(name):
            return self._not_restarted(
                'Nothing restarts this process when it dies.',
                f'It belongs to a session or a job ({name}), not to a service of systemd.',
            )
        parent = site.text(f'{site.parent}/comm').strip()
        # The parent process of a user's service is the systemd instance of that user.
        is_main = site.parent == 1 or parent == 'systemd'
        if name and not is_main:
            return self.found(
                INFO,
                f'Whether systemd notices a death of this process depends on its parent ({name}).',
                'systemd watches the main process of a service; the parent of this process is '
                f'{site.parent}: "{parent}".',
                Action(
                    'Write "exec" before the command that starts Zope in the script of ExecStart.'
                ),
            )
        settings = _settings(site, name) if name else ''
        if not settings:
            return self.found(
                INFO,
                f'systemd started this process{f" ({name})" if name else ""}; whether it restarts '
                'it is not known.',
                'The unit of systemd cannot be read from here.',
                Action(
                    'Look with "systemctl show --property Restart {unit}": it should say '
                    '`Restart=on-failure`.',
                    unit=name or 'UNIT',
                ),
            )
        values = re.findall(r'^\s*Restart\s*=\s*(\S*)', settings, re.M)
        restart = values[-1] if values else 'no'  # the last line counts, as for systemd
        if restart in _RESTARTING:
            return self.ok(f'systemd restarts this process ({name}: Restart={restart}).')
        return self.found(
            WARNING,
            'systemd does not restart this process after a crash.',
            f'{name} has Restart={restart}.',
            Action(
                'Run "systemctl edit {unit}" and write "[Service]" and "Restart=on-failure" there.',
                unit=name,
            ),
        )


def unit(cgroups: str) -> str:
    """Return the innermost service or scope in the text of /proc/<pid>/cgroup; '' if none."""
    path = re.search(r'^\d+:(?:name=systemd)?:(/.*)$', cgroups, re.M)
    if not path:
        return ''
    units = [part for part in path[1].split('/') if part.endswith(('.service', '.scope'))]
    return units[-1] if units else ''


def _settings(site: Site, unit: str) -> str:
    """Return the text of a unit, or of its template, with the drop-ins of both; '' if not found."""
    template = re.sub(r'@[^.]*\.', '@.', unit)
    names = list(dict.fromkeys((unit, template)))
    mains = (text(folder / name) for name in names for folder in site.unit_folders)
    main = next(filter(None, mains), '')
    if not main:
        return ''
    drop_ins: list[Path] = []
    for folder in site.unit_folders:
        for name in reversed(names):
            drop_ins += (folder / f'{name}.d').glob('*.conf')
    # systemd sorts them by name, whatever folder they are in.
    drop_ins.sort(key=lambda path: path.name)
    return '\n'.join([main, *map(text, drop_ins)])
