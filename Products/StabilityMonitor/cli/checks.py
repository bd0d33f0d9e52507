"""The command "checks": what is wrong with the living site.

It asks the processes; where one does not answer, it prints what that process said last.  The exit
status is 1 where a finding of severity warning or worse is not muted, for monitoring.
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
from ..model.severities import WORST_FIRST
from ..model.severities import presses
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

WELL = 0
WRONG = 1
#: Seconds to wait for an answer, and for a run of the checks that has begun.
_ANSWER = 5.0
_RUN = 60.0
#: Seconds.  A living process renews its results; older ones mean that it does not.
_OLD = 3 * allfindings.RENEWED
#: Seconds.  A start that takes longer is worth a warning.
_LONG_START = 600


def show(runs: AllRuns, options: Namespace) -> int:
    """Print what is wrong; returns the exit status.

    `options`: everything (show what is fine too), as_json, probe.
    """
    base = runs.base
    servers = [(name, context) for name, context in runs.living if context.get('role') != 'script']
    of_directory = _of_directory(base, servers, runs.waiting)
    parts = [_part(f'The data directory {base.path}', of_directory)]
    if servers:
        for name, context in servers:
            parts.append(_of_process(base, name, context))
    else:
        parts += _of_the_past(runs)
    if options.probe:
        parts.append(_probed(runs, servers))
    if options.as_json:
        document = {'generated': isotime(time.time()), 'subjects': parts}
        print(json_text(document, indent=1))
    else:
        for line in _lines(parts, options.everything):
            print(clean(line))
    for part in parts:
        for check in part['checks']:
            if presses(check['severity']) and 'hushed' not in check:
                return WRONG
    return WELL


def _part(
    subject: str,
    findings: Iterable[Finding],
    hushed: Hushed | None = None,
    when: str | None = None,
    took: float | None = None,
    now: bool = True,
) -> dict[str, Any]:
    """The findings of one subject, in the form of the report's checks.

    `when` is the time when the checks ran, `took` how many seconds they took.  `now` is False if
    they did not run for this command.
    """
    if hushed:
        look = allfindings.sorted_out(findings, hushed)
    else:
        look = allfindings.Look(tuple(findings))
    return {'subject': subject, 'now': now, 'when': when, 'took': took, 'checks': look.to_json()}


# -- what can be seen from outside -----------------------------------------------------------------


def _of_directory(
    base: Base,
    servers: _Servers,
    waiting: Sequence[RunRecord],
) -> Iterator[Finding]:
    """What is wrong with the data directory."""
    if not os.access(base.path, os.W_OK):
        severity = 'info'
        action = 'Run this as the user that Zope runs as to ask the living process.'
        owner = base.path.stat().st_uid
        if owner == os.geteuid():
            severity = 'warning'
            action = f'Make {base.path} writable for the user of Zope.'
        yield Finding(
            'directory',
            severity,
            f'{base.path} is not writable for this user.',
            action=action,
        )
    if waiting:
        # A wanted stop is no reason to act: the next start archives it.
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


def _of_process(
    base: Base,
    name: str,
    context: dict[str, Any],
) -> dict[str, Any]:
    """What a living process answers; where it does not, what it said last, and a finding."""
    path = base.runs / name
    started, pid = name_facts(name)
    answer = allfindings.last_word(path)
    trouble: list[Finding] = []
    now = False
    try:
        answer = _asked(path)
        now = True
        if answer.get('starting') is True:
            # It has armed, but does not serve yet: the checks run after that.
            answer = {}
            is_slow = time.time() - started > _LONG_START
            trouble = [
                Finding(
                    'starting',
                    'warning' if is_slow else 'info',
                    f'The process {pid} is still starting: its checks have not run yet.',
                    action='Ask again when it serves, or see what it does with "stabilitymonitor '
                    'stacks".',
                )
            ]
    except PermissionError:  # a member of the option `group` may read, but not ask
        when = from_isotime(answer.get('when')) or started
        trouble = [_last_told(pid, when)]
    except (NoAnswer, OSError) as error:
        reason = f'It cannot be asked: {error}.'
        if isinstance(error, NoAnswer):
            reason = error.args[0]
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
    return _told(
        base,
        f'Process {pid} (run {name})',
        answer,
        trouble,
        instance_of(context),
        now,
    )


def _last_told(pid: int, when: float) -> Finding:
    """For a user who may not ask: a process that works renews its results by itself."""
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
    """Fresh results of the checks; a process that must run them first is asked again.

    Raises NoAnswer, PermissionError and other OSErrors.
    """
    until = time.monotonic() + _RUN
    while True:
        answer = runmailbox.ask(path, 'checks', _ANSWER)
        if answer.get('starting') is True:
            return answer
        if not isinstance(answer.get('checks'), list):
            reason = answer.get('error') or 'It does not know this question.'
            raise NoAnswer(str(reason))
        is_over = not answer.get('running')
        if is_over or time.monotonic() > until:
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
    """What a process answered: the findings in `trouble` come first.

    Findings whose id begins with `without` are left out.  An answer comes from another process,
    maybe of another release: nothing in it is trusted.
    """
    findings = list(trouble)
    rows = answer.get('checks')
    if not isinstance(rows, list):
        rows = []
    for row in rows:
        finding = finding_from(row)
        if finding is None:
            continue
        if without and finding.id.startswith(without):
            continue
        findings.append(finding)
    when = str(answer.get('when') or '')
    took = answer.get('took')
    if not isinstance(took, int | float):
        took = None
    return _part(
        subject,
        findings,
        Hushed(base.path, instance.label),
        when or None,
        took,
        now,
    )


# -- when Zope is down -----------------------------------------------------------------------------


def _of_the_past(runs: AllRuns) -> list[dict[str, Any]]:
    """What each instance said last.

    Where this command runs on the Python of an instance, known issues of what is installed for it
    are looked up again, once.
    """
    base = runs.base
    parts = []
    environment_told = False
    for path in _last_servers(runs):
        word = allfindings.last_word(path)
        context = read_json(path / CONTEXT)
        is_our_python = context.get('executable') == sys.executable
        instance = instance_of(context)
        if is_our_python and not environment_told:
            environment_told = True
            parts.append(_of_environment(base, instance))
        without = ''
        if is_our_python and has_packaging():
            # Known issues of now replace those of then, where they can be looked up.
            without = KnownIssues.id
        subject = f'{instance.label}, which is down (run {path.name})'
        parts.append(_told(base, subject, word, (), instance, without=without))
    return parts


def _of_environment(base: Base, instance: Instance) -> dict[str, Any]:
    """Known issues of what is installed for this Python."""
    found = KnownIssues().look(Site(base.path, stack=None))
    if isinstance(found, Finding):
        found = [found]
    return _part(
        f'What is installed for {sys.executable}',
        found,
        Hushed(base.path, instance.label),
        when=isotime(time.time()),
    )


def _last_servers(runs: AllRuns) -> list[Path]:
    """The directory of the newest server run of each instance, archived or not."""
    found: dict[Instance, Path] = {}
    for record in runs.summaries():
        if record.role == 'server' and record.instance not in found:
            found[record.instance] = runs.folder(record.run)
    return list(found.values())


# -- the recursion probe ---------------------------------------------------------------------------


def _probed(runs: AllRuns, servers: _Servers) -> dict[str, Any]:
    """Try the stack and recursion limit of a living run, else of the last one; where there is none,
    those of this process.

    No Python is run but that of a living process, and the one of this command.
    """
    paths = [runs.folder(name) for name, _ in servers] or _last_servers(runs)
    context: dict[str, Any] = {}
    if paths:
        context = read_json(paths[0] / CONTEXT)
    executable = ''  # the Python of this command
    if servers:
        executable = _python_of(paths[0])
    # A context is a file: anything may stand in it.
    size = 0
    stack = context.get('thread_stack') or stacksizes.default_stack()
    if isinstance(stack, list | tuple) and stack and isinstance(stack[0], int):
        size = stack[0]
    limit = context.get('recursion_limit')
    if not isinstance(limit, int):
        limit = 0  # stands for the one in force here
    result = probe(
        size,
        limit,
        on_progress=_show_progress,
        executable=executable,
    )
    print(file=sys.stderr)
    finding = recursionresult.finding(result)
    if result.error:
        # Here the user has asked for it, and gets no answer.
        finding = replace(finding, severity='warning')
    findings = [finding]
    python = executable or sys.executable
    of_site = context.get('executable')
    if isinstance(of_site, str) and of_site:
        is_other = os.path.realpath(of_site) != os.path.realpath(python)
        if is_other:
            findings.append(
                Finding(
                    'recursion-probe-python',
                    'info',
                    f'The site runs another Python: {of_site}.',
                    'Only the Python of this command is tried, or that of a living process of the '
                    'same user.',
                    'Run this with the Python of the site, as its user.',
                )
            )
    return _part(
        f'The recursion probe with {python}',
        findings,
        when=isotime(time.time()),
        took=result.took,
    )


def _python_of(path: Path) -> str:
    """The Python of a living run's process; '' where it is ours, none, or of another user.

    The kernel is asked, not the context of the run: a user who can write there could name any
    program.
    """
    _, pid = name_facts(path.name)
    program = outside.executable(pid)
    name = os.path.basename(program)
    is_python = name.startswith('python') and os.access(program, os.X_OK)
    if not is_python or program == os.path.realpath(sys.executable):
        return ''
    is_our_user = outside.users(pid) == {os.geteuid()}
    if not is_our_user or not is_alive(path):
        return ''
    return program


def _show_progress(share: float, words: str) -> None:
    """On a terminal the same line is overwritten."""
    line = f'recursion probe: {share:4.0%} {words}'
    print(
        line.ljust(60),
        end='\r' if sys.stderr.isatty() else '\n',
        file=sys.stderr,
        flush=True,
    )


# -- as text ---------------------------------------------------------------------------------------


def _lines(parts: Iterable[dict[str, Any]], everything: bool) -> Iterator[str]:
    told = []
    for part in parts:
        if part['when'] or part['checks']:
            told.append(part)
    if not told:
        yield 'All is well with the breadcrumbs.'
    for number, part in enumerate(told):
        if number:
            yield ''
        yield part['subject'] + _when(part)
        checks = part['checks']
        shows_quiet = everything or len(checks) == 1
        for check in checks:
            is_quiet = check['severity'] == 'ok' or 'hushed' in check
            if shows_quiet or not is_quiet:
                yield from finding_lines(check)
        yield _count(checks)


def _when(part: dict[str, Any]) -> str:
    if not part['when']:
        return ':'
    when = clocktime(from_isotime(part['when']))
    if not part['now']:
        return f', as of {when}:'
    took = ''
    if part['took']:
        took = f' in {part["took"]:.2f} s'
    return f', checked {when}{took}:'


def _count(checks: Sequence[dict[str, Any]]) -> str:
    """Such as "= 1 critical, 2 warnings, 17 fine, 1 hushed"."""
    shown = [check['severity'] for check in checks if 'hushed' not in check]
    words = []
    for severity in WORST_FIRST:
        count = shown.count(severity.code)
        if count == 1:
            words.append(f'1 {severity.one}')
        elif count:
            words.append(f'{count} {severity.many}')
    hushed = len(checks) - len(shown)
    if hushed:
        words.append(f'{hushed} hushed')
    if not words:
        return '= nothing is known'
    return '= ' + ', '.join(words)
