"""The check of the witnesses: does anything outside of this process see how it ends?

SIGKILL and os._exit leave no trace in the process itself.  See `postmortem.witnesslogs`.
"""

from __future__ import annotations

import os
import re

from ..model.action import Action
from ..model.counts import counted
from ..model.finding import Finding
from ..model.severities import INFO
from ..store.regularfiles import names_in
from ..store.regularfiles import open_outside
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system import kernelmessages
from ..system import supervisorlog
from ..system.runcontext import is_main_process
from ..system.runcontext import is_run
from .check import Check
from .livesite import Site
from .supervision import unit

#: From this release of Linux on, a process can ask how another one ended, without being its parent.
_TELLS_STATUS = (6, 15)
#: The supervisors whose logs are read.
_LOGGING = ('zdaemon', 'supervisord', 'gunicorn', 'uwsgi')
_RUN = Action('Write "stabilitymonitor run --" before the command that starts Zope.')
#: What adds a witness, by the supervisor whose log is not known.
_TO_LOG = {
    'zdaemon': Action(
        'Write "<eventlog>", "<logfile>", "path /var/log/zdaemon.log", "</logfile>", "</eventlog>" '
        'into zdaemon.conf and restart zdaemon.'
    ),
    'supervisord': Action(
        'Set the option "supervisor-log" to the value of `logfile` in `[supervisord]`.'
    ),
    'gunicorn': Action('Start gunicorn with "--error-log /var/log/gunicorn.log".'),
    'uwsgi': Action('Start uWSGI with "--logto /var/log/uwsgi.log".'),
}
_VERSION = re.compile(r'Linux-(\d{1,4})\.(\d{1,4})')


class Witnesses(Check):
    id = 'witnesses'
    question = 'Does anything else see how this process ends, even by SIGKILL?'
    source = 'the parent process, its log, the journal, the kernel log and the data directory'

    def look(self, site: Site) -> Finding:
        seeing = []
        facts = []
        for sees, fact in (_run(site), _log(site), _siblings(site), _journal(site), _kernel(site)):
            if fact:
                facts.append(fact)
            if sees:
                seeing.append(sees)
        detail = ' '.join(facts)
        if seeing:
            title = f'If this process is killed, this will tell: {", ".join(seeing)}.'
            return self.ok(title, detail)
        return self.found(
            INFO,
            'If this process is killed (SIGKILL), nothing will tell how it ended.',
            f'{detail} Its verdict will be "vanished".'.strip(),
            _advice(site),
        )


def _run(site: Site) -> tuple[str, str]:
    """Return (the witness or '', a fact): whether `stabilitymonitor run` is the parent."""
    if is_run(site.text(f'{site.parent}/cmdline').split('\0')):
        return 'stabilitymonitor run', 'The parent process is "stabilitymonitor run".'
    return '', ''


def _log(site: Site) -> tuple[str, str]:
    kind = str(site.context.get('supervisor') or '')
    path = supervisorlog.path_of(site.context)
    if path and _is_readable(path):
        name = f'the log of {kind}' if kind in _LOGGING else 'the log of the supervisor'
        return name, f'The log of the supervisor can be read: {path}.'
    if path:
        return '', f'The log of the supervisor cannot be read: {path}.'
    if kind in _LOGGING:
        return '', f'No log of {kind} was found.'
    return '', ''


def _siblings(site: Site) -> tuple[str, str]:
    count = 0
    runs = site.directory / 'runs'
    for name in names_in(runs):
        if not RUN_NAME.fullmatch(name) or name_facts(name)[1] == site.pid:
            continue
        is_server = read_json(runs / name / CONTEXT).get('role') == 'server'
        if is_server and is_alive(runs / name):
            count += 1
    if not count:
        return '', ''
    shares = 'shares' if count == 1 else 'share'
    fact = f'{counted(count, "other Zope")} {shares} the data directory.'
    if not _tells_status(str(site.context.get('platform', ''))):
        return '', f'{fact} Linux before 6.15 tells them only when this process ended, not how.'
    return counted(count, 'other Zope'), fact


def _tells_status(system: str) -> bool:
    """Whether this is a kernel that tells how another process ended."""
    found = _VERSION.match(system)
    return found is not None and (int(found[1]), int(found[2])) >= _TELLS_STATUS


def _journal(site: Site) -> tuple[str, str]:
    is_main = is_main_process(site.context, site.pid)
    if not is_main or not site.context.get('invocation_id'):
        return '', ''
    for folder in site.journals:
        if any(os.access(path, os.R_OK) for path in folder.glob('*/system.journal')):
            return 'the journal', 'The journal of systemd can be read.'
    return '', 'The journal of systemd cannot be read.'


def _kernel(site: Site) -> tuple[str, str]:
    """Return a fact alone: the kernel logs faults and OOM kills, and no other end."""
    for path in site.kernel_logs:
        if kernelmessages.is_readable(path):
            return '', f'The log of the kernel can be read ({path}): it has faults and OOM kills.'
    return '', 'The log of the kernel cannot be read.'


def _is_readable(path: str) -> bool:
    try:
        os.close(open_outside(path))
    except (OSError, ValueError):
        return False
    return True


def _advice(site: Site) -> Action:
    kind = str(site.context.get('supervisor') or '')
    path = supervisorlog.path_of(site.context)
    if path:
        return Action('Allow the user of Zope to read {log}.', log=path)
    if is_main_process(site.context, site.pid):
        return Action(
            'Run "systemctl edit {unit}" and write "[Service]" and '
            '"SupplementaryGroups=systemd-journal" there: then Zope can read the journal.',
            unit=unit(site.text('self/cgroup')) or 'UNIT',
        )
    return _TO_LOG.get(kind, _RUN)
