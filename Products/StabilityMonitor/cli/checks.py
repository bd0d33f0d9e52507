"""The command "checks": what is wrong with the living site, asked of its processes; else what they
said last.

Exit status 1 where a warning or worse is not hushed, for whoever watches the site by it.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checks import allfindings
from ..checks.knownissues import KnownIssues
from ..checks.livesite import Site
from ..checks.muted import Hushed
from ..inspection import outside
from ..inspection import recursionresult
from ..inspection.recursionexperiment import probe
from ..knowledge.rules import has_packaging
from ..model.errors import NoAnswer
from ..model.plaintext import clean
from ..model.plaintext import json_text
from ..model.records import Finding
from ..model.records import Instance
from ..model.records import clocktime
from ..model.records import finding_from
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..reporting.renderers import finding_lines
from ..store import runmailbox
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system import stacksizes

#: (name, context) of the servers that live.
_Servers = list[tuple[str, dict[str, Any]]]

WELL, WRONG = 0, 1
_PRESSING = ('critical', 'warning')
_ANSWER, _RUN = 5.0, 60.0
#: Seconds after which the last word of a living process should have been followed by another one.
_OLD = 3 * allfindings.RENEWED
#: Seconds after which a start that still goes on is worth a warning.
_LONG_START = 600
_WORDS = {
    'critical': ('critical', 'critical'),
    'warning': ('warning', 'warnings'),
    'info': ('for information', 'for information'),
    'ok': ('fine', 'fine'),
}


def show(runs: AllRuns, options: Namespace) -> int:
    """Print what is wrong; the exit status.

    `options`: everything (show what is fine too), as_json, probe.
    """
    base = runs.base
    servers = [(name, context) for name, context in runs.living if context.get('role') != 'script']
    parts = [_of_directory(base, servers, runs.waiting)]
    parts += [_of_process(base, name, context) for name, context in servers] or _of_the_past(runs)
    if options.probe:
        parts.append(_probed(*_newest(runs, servers)))
    if options.as_json:
        print(json_text({'generated': isotime(time.time()), 'subjects': parts}, indent=1))
    else:
        for line in _lines(parts, options.everything):
            print(clean(line))
    return WRONG if any(_is_pressing(check) for part in parts for check in part['checks']) else WELL


def _is_pressing(check: dict[str, Any]) -> bool:
    return check['severity'] in _PRESSING and 'hushed' not in check


def _part(
    subject: str,
    findings: Iterable[Finding],
    hushed: Hushed | None = None,
    when: str | None = None,
    took: float | None = None,
    now: bool = True,
) -> dict[str, Any]:
    """What is said of one subject, in the form of the report's checks; `now`: it is no last word of
    earlier.
    """
    look = allfindings.sorted_out(findings, hushed) if hushed else allfindings.Look(tuple(findings))
    return {'subject': subject, 'now': now, 'when': when, 'took': took, 'checks': look.to_json()}


# -- what can be seen from outside -----------------------------------------------------------------


def _of_directory(base: Base, servers: _Servers, waiting: Sequence[RunRecord]) -> dict[str, Any]:
    return _part(f'The data directory {base.path}', list(_seen(base, servers, waiting)))


def _seen(base: Base, servers: _Servers, waiting: Sequence[RunRecord]) -> Iterator[Finding]:
    if not os.access(base.path, os.W_OK):
        own = base.path.stat().st_uid == os.geteuid()
        yield Finding(
            'directory',
            'warning' if own else 'info',
            f'{base.path} is not writable for this user.',
            action=f'Make {base.path} writable for the user of Zope.'
            if own
            else 'Run this as the user that Zope runs as to ask the living process.',
        )
    if waiting:
        # A stop that was wanted needs nobody: the next start archives it.
        is_grave = any(record.is_incident for record in waiting)
        count = '1 dead run waits' if len(waiting) == 1 else f'{len(waiting)} dead runs wait'
        yield Finding(
            'waiting',
            'warning' if is_grave else 'info',
            f'{count} to be archived.',
            action='Run "stabilitymonitor triage", or start Zope.',
        )
    for name, _ in servers:
        if not (base.runs / name / BLACKBOX).exists():
            yield Finding(
                f'no-black-box:{name}',
                'warning',
                f'The run {name} has no black box.',
                action='Look at the findings in its tab.',
            )


def _of_process(base: Base, name: str, context: dict[str, Any]) -> dict[str, Any]:
    """The answer of a living process; where there is none, its last word, and that there is
    none.
    """
    path = base.runs / name
    started, pid = name_facts(name)
    answer = allfindings.last_word(path)
    trouble: list[Finding] = []
    now = False
    try:
        answer = _asked(path)
        now = True
        if answer.get('starting') is True:
            answer = {}
            trouble = [_starting(pid, started)]
    except PermissionError:  # a member of the group reads, and asks nothing
        trouble = [_last_told(pid, from_isotime(answer.get('when')) or started)]
    except (NoAnswer, OSError) as error:
        reason = error.args[0] if isinstance(error, NoAnswer) else f'It cannot be asked: {error}.'
        trouble = [
            Finding(
                'no-answer',
                'warning',
                f'The process {pid} does not tell how it stands. {reason}',
                action='See what it does with "stabilitymonitor stacks".',
            )
        ]
    if answer.get('error'):
        trouble.append(Finding('checks-error', 'warning', str(answer['error'])))
    return _told(base, f'Process {pid} (run {name})', answer, trouble, instance_of(context), now)


def _starting(pid: int, started: float) -> Finding:
    """It has armed, and Zope has not begun to serve: the checks come after that."""
    return Finding(
        'starting',
        'warning' if time.time() - started > _LONG_START else 'info',
        f'The process {pid} is still starting: its checks have not run yet.',
        action='Ask again when it serves, or see what it does with "stabilitymonitor stacks".',
    )


def _last_told(pid: int, when: float) -> Finding:
    """For who may not ask: a process that is well renews its last word by itself."""
    if time.time() - when > _OLD:
        return Finding(
            'no-answer',
            'warning',
            f'The process {pid} has not told how it stands since {clocktime(when)}.',
            action='Ask it as the user that Zope runs as, or see what it does: "stabilitymonitor '
            'stacks".',
        )
    return Finding(
        'as-of',
        'info',
        f'This is as of {clocktime(when)}: only the user that Zope runs as, and root, can '
        f'ask the process {pid}.',
        action='Nothing has to be done: it tells by itself each hour.',
    )


def _asked(path: Path) -> dict[str, Any]:
    """The results of a run of the checks that is fresh; a process that must begin one is asked
    again.
    """
    until = time.monotonic() + _RUN
    while True:
        answer = runmailbox.ask(path, 'checks', _ANSWER)
        if answer.get('starting') is True:
            return answer
        if not isinstance(answer.get('checks'), list):
            raise NoAnswer(str(answer.get('error') or 'It does not know this question.'))
        if not answer.get('running') or time.monotonic() > until:
            return answer


def _told(
    base: Base,
    subject: str,
    answer: dict[str, Any],
    trouble: Sequence[Finding],
    instance: Instance,
    now: bool = False,
    without: str = '',
) -> dict[str, Any]:
    rows = answer.get('checks')
    told = [
        finding for finding in map(finding_from, rows if isinstance(rows, list) else ()) if finding
    ]
    told = [finding for finding in told if not (without and finding.id.startswith(without))]
    took = answer.get('took')
    return _part(
        subject,
        [*trouble, *told],
        Hushed(base.path, instance.label),
        str(answer.get('when') or '') or None,
        took if isinstance(took, int | float) else None,
        now,
    )


# -- when Zope is down -----------------------------------------------------------------------------


def _of_the_past(runs: AllRuns) -> list[dict[str, Any]]:
    """The last word of each instance, and the known issues of what is installed, if it is what that
    one ran on.
    """
    base = runs.base
    parts = []
    environment_told = False
    for path in _last_servers(runs):
        word = allfindings.last_word(path)
        context = read_json(path / CONTEXT)
        here = context.get('executable') == sys.executable
        instance = instance_of(context)
        if here and not environment_told:
            environment_told = True
            parts.append(_of_environment(base, instance))
        parts.append(
            _told(
                base,
                f'{instance.label}, which is down (run {path.name})',
                word,
                (),
                instance,
                without=KnownIssues.id if here and has_packaging() else '',
            )
        )
    return parts


def _of_environment(base: Base, instance: Instance) -> dict[str, Any]:
    return _part(
        f'What is installed for {sys.executable}',
        _known(base),
        Hushed(base.path, instance.label),
        when=isotime(time.time()),
    )


def _known(base: Base) -> list[Finding]:
    found = KnownIssues().look(Site(base.path, stack=None))
    return [found] if isinstance(found, Finding) else list(found)


def _last_servers(runs: AllRuns) -> list[Path]:
    """Directories of the newest run of each instance that is a server, also of those that wait for
    the archive.
    """
    found: dict[Instance, Path] = {}
    for record in runs.summaries():
        if record.role == 'server':
            found.setdefault(record.instance, runs.folder(record.run))
    return list(found.values())


# -- the recursion probe ---------------------------------------------------------------------------


def _newest(runs: AllRuns, servers: _Servers) -> tuple[dict[str, Any], str, int, int]:
    """(context, executable, stack size, recursion limit) of a run that lives, else of the last one,
    else of this one.

    `executable` is '' for the Python of this command: no other one is run but that of a living
    process.
    """
    paths = [runs.folder(name) for name, _ in servers] or _last_servers(runs)
    context = read_json(paths[0] / CONTEXT) if paths else {}
    stack = context.get('thread_stack') or stacksizes.default_stack()
    size = stack[0] if isinstance(stack, list | tuple) and stack else None
    limit = context.get('recursion_limit')
    return (
        context,
        _python_of(paths[0]) if servers else '',
        size if isinstance(size, int) else 0,
        limit if isinstance(limit, int) else 0,
    )


def _python_of(path: Path) -> str:
    """The Python that the process of a living run executes; '' where it is ours, none, or that of
    another user.

    What the context says is not asked: whoever can write there could name any program.
    """
    pid = name_facts(path.name)[1]
    program = outside.executable(pid)
    is_python = os.path.basename(program).startswith('python') and os.access(program, os.X_OK)
    if not is_python or program == os.path.realpath(sys.executable):
        return ''
    return program if outside.users(pid) == {os.geteuid()} and is_alive(path) else ''


def _probed(
    context: dict[str, Any], executable: str, stack_size: int, limit: int
) -> dict[str, Any]:
    result = probe(stack_size, limit, on_progress=_progress, executable=executable)
    print(file=sys.stderr)
    finding = recursionresult.finding(result)
    if result.error:
        finding = replace(finding, severity='warning')  # somebody has asked, and gets no answer
    python = executable or sys.executable
    return _part(
        f'The recursion probe with {python}',
        [finding, *_other_python(context, python)],
        when=isotime(time.time()),
        took=result.took,
    )


def _other_python(context: dict[str, Any], python: str) -> Iterator[Finding]:
    """That the site may run another Python than the one that was tried."""
    of_site = context.get('executable')
    if (
        isinstance(of_site, str)
        and of_site
        and os.path.realpath(of_site) != os.path.realpath(python)
    ):
        yield Finding(
            'recursion-probe-python',
            'info',
            f'The site runs another Python: {of_site}.',
            'Only the Python of this command is tried, or that of a living process of the same '
            'user.',
            'Run this with the Python of the site, as its user.',
        )


def _progress(share: float, words: str) -> None:
    """On a terminal in one line, else a line each."""
    end = '\r' if sys.stderr.isatty() else '\n'
    print(f'recursion probe: {share:4.0%} {words}'.ljust(60), end=end, file=sys.stderr, flush=True)


# -- as text ---------------------------------------------------------------------------------------


def _lines(parts: Iterable[dict[str, Any]], everything: bool) -> Iterator[str]:
    told = [part for part in parts if part['when'] or part['checks']]
    if not told:
        yield 'All is well with the breadcrumbs.'
    for number, part in enumerate(told):
        yield from ([''] if number else [])
        yield part['subject'] + _when(part)
        for check in part['checks']:
            if (
                everything
                or len(part['checks']) == 1
                or not (check['severity'] == 'ok' or 'hushed' in check)
            ):
                yield from finding_lines(check)
        yield _count(part['checks'])


def _when(part: dict[str, Any]) -> str:
    if not part['when']:
        return ':'
    took = f' in {part["took"]:.2f} s' if part['took'] and part['now'] else ''
    return (
        f', {"checked" if part["now"] else "as of"} {clocktime(from_isotime(part["when"]))}{took}:'
    )


def _count(checks: Sequence[dict[str, Any]]) -> str:
    shown = [check['severity'] for check in checks if 'hushed' not in check]
    words = [
        f'{shown.count(severity)} {names[shown.count(severity) != 1]}'
        for severity, names in _WORDS.items()
        if severity in shown
    ]
    hushed = len(checks) - len(shown)
    return '= ' + ', '.join(
        words + ([f'{hushed} hushed'] if hushed else []) or ['nothing is known']
    )
