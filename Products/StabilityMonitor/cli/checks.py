"""The command "checks": what is wrong with the living site.

It asks the living processes for their results; for a process that does not answer, it prints the
last known results.  For monitoring, the exit status is 1 if a finding of severity warning or worse
is not muted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checks import allfindings
from ..checks.allfindings import Look
from ..checks.knownissues import KnownIssues
from ..checks.livesite import Site
from ..checks.muted import MuteList
from ..inspection import liveness
from ..inspection import outside
from ..inspection import recursionresult
from ..inspection.recursionexperiment import probe
from ..knowledge.rules import has_packaging
from ..model.action import Action
from ..model.counts import counted
from ..model.errors import NoAnswer
from ..model.finding import Finding
from ..model.finding import finding_from
from ..model.records import Instance
from ..model.records import clocktime
from ..model.records import from_isotime
from ..model.records import instance_of
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import OK
from ..model.severities import WARNING
from ..model.severities import WORST_FIRST
from ..model.severities import severity_of
from ..postmortem.allruns import AllRuns
from ..postmortem.runhistory import is_open
from ..reporting import fromdisk
from ..reporting.runtext import finding_lines
from ..store import runmailbox
from ..store.acknowledged import Acknowledgements
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import RUN_NAME
from ..store.rundirectory import Base
from ..store.rundirectory import is_alive
from ..store.rundirectory import name_facts
from ..store.rundirectory import read_json
from ..system import stacksizes
from . import dataowner
from .exitstatus import WELL
from .exitstatus import WRONG
from .terminal import print_json
from .terminal import print_lines

#: (name, context) of each living server.
_Servers = list[tuple[str, dict[str, Any]]]

#: Seconds to wait for an answer, and for the end of checks that are running.
_ANSWER = 5.0
_RUN = 60.0
#: Seconds.  Older results mean that the living process does not renew them.
_OLD = 3 * allfindings.RENEWED
#: Seconds.  A start that takes longer is worth a warning.
_LONG_START = 600
#: More of the descriptors than this share are in use: they run out, see `checks.limits`.
_MOST_DESCRIPTORS = 0.95
#: At most this many names of entries that are no runs are shown.
_MOST_STRANGERS = 5


def show(runs: AllRuns, options: Namespace) -> int:
    """Print what is wrong and return the exit status.

    `options`: everything (show also what is fine), format (text or json), probe.
    """
    base = runs.base
    servers = [(name, context) for name, context in runs.living if context.get('role') != 'script']
    of_directory = Look(tuple(_of_directory(base, servers, runs.waiting)))
    parts = [_Part(f'The data directory {base.path}', of_directory)]
    if servers:
        parts += [_of_process(base, name, context) for name, context in servers]
    else:
        parts += _last_results(runs)
    if options.probe:
        parts.append(_probe_part(_to_imitate(runs, servers)))
    if options.format == 'json':
        subjects = [part.to_json() for part in parts]
        print_json({'generated': isotime(time.time()), 'subjects': subjects})
    else:
        print_lines(_lines(parts, options.everything))
    for part in parts:
        if any(finding.severity.presses for finding in part.look.shown):
            return WRONG
    return WELL


@dataclass(frozen=True)
class _Part:
    """The findings of one subject.

    `when` is the time when the checks ran, `took` their duration in seconds.  `now` is False if the
    checks did not run for this command.
    """

    subject: str
    look: Look
    when: str | None = None
    took: float | None = None
    now: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            'subject': self.subject,
            'now': self.now,
            'when': self.when,
            'took': self.took,
            'checks': self.look.to_json(),
        }


# -- what can be seen from outside -----------------------------------------------------------------


def _of_directory(base: Base, servers: _Servers, waiting: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yield what is wrong with the data directory."""
    if not dataowner.may_change(base.path) and os.access(base.path, os.W_OK):
        yield Finding(
            'directory',
            INFO,
            f'{base.path} belongs to another user, so this command only reads it.',
            action=Action('To ask the living process, run this as the user that Zope runs as.'),
        )
    elif not os.access(base.path, os.W_OK):
        severity = INFO
        action = Action('To ask the living process, run this as the user that Zope runs as.')
        if base.path.stat().st_uid == os.geteuid():
            severity = WARNING
            action = Action('Make {path} writable for the user that Zope runs as.', path=base.path)
        yield Finding(
            'directory', severity, f'{base.path} is not writable for this user.', action=action
        )
    acknowledged, problem = Acknowledgements(base).read()
    if problem:
        yield problem
    if waiting:
        # A wanted stop needs no action: the next start archives it.
        has_incident = any(is_open(record, acknowledged) for record in waiting)
        count = counted(len(waiting), 'dead run waits', 'dead runs wait')
        yield Finding(
            'waiting',
            WARNING if has_incident else INFO,
            f'{count} to be archived.',
            action=Action('Run "stabilitymonitor triage", or start Zope.'),
        )
    strangers = _strangers(base)
    if strangers:
        shown = ', '.join(strangers[:_MOST_STRANGERS])
        more = len(strangers) - _MOST_STRANGERS
        if more > 0:
            shown += f' and {more} more'
        yield Finding(
            'strangers',
            WARNING,
            f'In {base.runs}, these have the name of a run, but are not folders: {shown}.',
            action=Action('Remove them: this product makes only folders there.'),
        )
    for name, _ in servers:
        if not (base.runs / name / BLACKBOX).exists():
            yield Finding(
                f'no-black-box:{name}',
                WARNING,
                f'The run {name} has no black box.',
                action=Action('See the findings in the tab "Stability" of that process.'),
            )


def _strangers(base: Base) -> list[str]:
    """Return what has the name of a run, but is a file, a link, or anything else than a folder."""
    found = []
    with contextlib.suppress(OSError), os.scandir(base.runs) as entries:
        for entry in entries:
            if RUN_NAME.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
    return sorted(found)


def _of_process(base: Base, name: str, context: dict[str, Any]) -> _Part:
    """The answer of a living process; without an answer, its last results and a finding."""
    path = base.runs / name
    started, pid = name_facts(name)
    answer = allfindings.last_word(path)
    problems: list[Finding] = []
    now = False
    try:
        if not dataowner.may_change(base.path):
            raise PermissionError
        answer = _new_results(path)
        now = True
        if answer.get('starting') is True:
            answer = {'checks': answer.get('checks')}  # what the recording itself has found
            run = fromdisk.RecordedRun(path, context, alive=True)
            problems = [_starting(pid, fromdisk.seconds_up(run))]
    except PermissionError:  # another user, for example a member of `group`, only reads
        told_last = from_isotime(answer.get('when')) or started
        problems = [_age_of_results(pid, told_last)]
    except (NoAnswer, OSError) as error:
        reason = f'It could not be asked: {error}.'
        if isinstance(error, NoAnswer):
            reason = error.args[0]
        problems = [
            Finding(
                'no-answer',
                WARNING,
                f'Process {pid} reports no results of its checks. {reason}',
                action=Action('See what it does with "stabilitymonitor stacks".'),
            ),
            *_seen_from_outside(path, context, pid),
        ]
    if answer.get('error'):
        problems.append(Finding('checks-error', WARNING, str(answer['error'])))
    return _part_from_answer(
        base, f'Process {pid} (run {name})', answer, problems, instance_of(context), now
    )


def _seen_from_outside(path: Path, context: dict[str, Any], pid: int) -> Iterator[Finding]:
    """Yield what is known of a process that does not answer, without its help."""
    source = 'the black box and the kernel, read by this command'
    pulse = liveness.look(path, context)
    if pulse.hang:
        began = clocktime(pulse.hang.since)
        yield Finding(
            'hang',
            CRITICAL,
            f'Process {pid} hangs; this began at {began}. {pulse.hang.summary}',
            action=Action('See what it does with "stabilitymonitor stacks --native".'),
            source=source,
        )
    used = outside.descriptors(pid) if is_alive(path) else None
    if used and used[0] >= _MOST_DESCRIPTORS * used[1]:
        yield Finding(
            'descriptors',
            CRITICAL,
            f'Process {pid} has {used[0]} of {used[1]} descriptors in use.',
            'When none is left, no connection is accepted and no file can be opened.',
            Action('Look with "ls -l /proc/{pid}/fd" for what stays open.', pid=pid),
            source=source,
        )


def _starting(pid: int, seconds_up: float) -> Finding:
    """The finding that the process does not serve yet: the checks run after that."""
    is_late = seconds_up > _LONG_START
    return Finding(
        'starting',
        WARNING if is_late else INFO,
        f'Process {pid} is still starting: its checks have not run yet.',
        action=Action(
            'Try again when it serves, or see what it does with "stabilitymonitor stacks".'
        ),
    )


def _age_of_results(pid: int, when: float) -> Finding:
    """The finding for a user who may not ask the process: how old its last results are.

    A process that works renews its results each hour.
    """
    if time.time() - when > _OLD:
        return Finding(
            'no-answer',
            WARNING,
            f'Process {pid} has reported no results of its checks since {clocktime(when)}.',
            action=Action(
                'Run this as the user that Zope runs as, or see what the process does with '
                '"stabilitymonitor stacks".'
            ),
        )
    return Finding(
        'as-of',
        INFO,
        f'These results are from {clocktime(when)}: only root and the user that Zope runs as can '
        f'ask process {pid} for new ones.',
        action=Action('Nothing needs to be done: the process renews its results each hour.'),
    )


def _new_results(path: Path) -> dict[str, Any]:
    """Return new results of the checks; while the checks are running, ask again until they end.

    Raises NoAnswer, PermissionError and other OSErrors.
    """
    until = time.monotonic() + _RUN
    while True:
        answer = runmailbox.ask(path, 'checks', _ANSWER)
        if answer.get('starting') is True:
            return answer
        if not isinstance(answer.get('checks'), list):
            raise NoAnswer(str(answer.get('error') or 'It does not know this mailbox request.'))
        if answer.get('running') is not True or time.monotonic() > until:
            return answer


def _part_from_answer(
    base: Base,
    subject: str,
    answer: dict[str, Any],
    problems: Sequence[Finding],
    instance: Instance,
    now: bool = False,
    without: str = '',
) -> _Part:
    """What a process answered, after the findings in `problems`.

    Findings of the check with the id `without` are left out.  The answer comes from another
    process, which may run another release: nothing in it is trusted.
    """
    findings = list(problems)
    rows = answer.get('checks')
    if not isinstance(rows, list):
        rows = []
    for row in rows:
        finding = finding_from(row)
        if finding is None:
            continue
        if without and finding.check == without:
            continue
        findings.append(finding)
    when = answer.get('when')
    took = answer.get('took')
    muted = MuteList(base.path, instance.label)
    return _Part(
        subject,
        allfindings.sorted_out(findings, muted),
        when=str(when) if when else None,
        took=took if isinstance(took, int | float) else None,
        now=now,
    )


# -- when Zope is down -----------------------------------------------------------------------------


def _last_results(runs: AllRuns) -> list[_Part]:
    """The last results of each instance.

    If this command runs on the Python of an instance, it also looks up, once, which known issues
    affect what is installed for this Python now.
    """
    base = runs.base
    parts = []
    has_looked_up = False
    for path in _last_servers(runs):
        word = allfindings.last_word(path)
        context = read_json(path / CONTEXT)
        instance = instance_of(context)
        without = ''
        if context.get('executable') == sys.executable:
            if not has_looked_up:
                parts.append(_of_environment(base, instance))
                has_looked_up = True
            # The known issues of today replace the recorded ones, if they can be looked up.
            if has_packaging():
                without = KnownIssues.id
        subject = f'{instance.label}, which is down (run {path.name})'
        parts.append(_part_from_answer(base, subject, word, (), instance, without=without))
    return parts


def _of_environment(base: Base, instance: Instance) -> _Part:
    """The known issues that affect what is installed for the Python of this command."""
    found = KnownIssues().look(Site(base.path, stack=None))
    findings = [found] if isinstance(found, Finding) else found
    muted = MuteList(base.path, instance.label)
    return _Part(
        f'What is installed for {sys.executable}',
        allfindings.sorted_out(findings, muted),
        when=isotime(time.time()),
    )


def _last_servers(runs: AllRuns) -> list[Path]:
    """The directory of the newest server run of each instance, archived or not."""
    found: dict[Instance, Path] = {}
    for record in runs.summaries():
        if record.role == 'server':
            found.setdefault(record.instance, runs.folder(record.run))
    return list(found.values())


# -- the recursion probe ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recursing:
    """What the probe imitates: the threads of a Zope.

    `of_site` is the Python of that Zope, None if it is not known.  `executable` is the Python to
    try, '' for the Python of this command.  `stack_size` is in bytes.  A `limit` of 0 means the
    recursion limit of this process.
    """

    of_site: object
    executable: str
    stack_size: int
    limit: int


def _to_imitate(runs: AllRuns, servers: _Servers) -> _Recursing:
    """The values of a living run, else of the last run, else of this process.

    Only the Python of a living process or of this command is ever run.
    """
    paths = [runs.folder(name) for name, _ in servers] or _last_servers(runs)
    context = read_json(paths[0] / CONTEXT) if paths else {}
    stack = context.get('thread_stack') or stacksizes.default_stack()
    size = stack[0] if isinstance(stack, list | tuple) and stack else None
    limit = context.get('recursion_limit')
    return _Recursing(
        of_site=context.get('executable'),
        executable=_python_of(paths[0]) if servers else '',
        stack_size=size if isinstance(size, int) else 0,
        limit=limit if isinstance(limit, int) else 0,
    )


def _python_of(path: Path) -> str:
    """The Python of a living run's process.

    '' if it is the Python of this command, is not a Python, or runs as another user.  The answer
    comes from the kernel, not from the context of the run: a user who can write that file could
    name any program.
    """
    pid = name_facts(path.name)[1]
    program = outside.executable(pid)
    is_python = os.path.basename(program).startswith('python') and os.access(program, os.X_OK)
    if not is_python or program == os.path.realpath(sys.executable):
        return ''
    if outside.users(pid) != {os.geteuid()} or not is_alive(path):
        return ''
    return program


def _probe_part(like: _Recursing) -> _Part:
    result = probe(
        like.stack_size,
        like.limit,
        on_progress=_show_progress,
        executable=like.executable,
    )
    print(file=sys.stderr)
    finding = recursionresult.finding(result)
    if result.error:
        # The user has asked for this probe, so its failure is more than information.
        finding = replace(finding, severity=WARNING)
    python = like.executable or sys.executable
    return _Part(
        f'The recursion probe with {python}',
        Look((finding, *_other_python(like.of_site, python))),
        when=isotime(time.time()),
        took=result.took,
    )


def _other_python(of_site: object, python: str) -> Iterator[Finding]:
    """Yield a finding if the site runs another Python than the one that was tried."""
    if not isinstance(of_site, str) or not of_site:
        return
    if os.path.realpath(of_site) != os.path.realpath(python):
        yield Finding(
            'recursion-probe-python',
            INFO,
            f'The site runs another Python: {of_site}.',
            'The probe tries only the Python of this command, or that of a living process of the '
            'same user.',
            Action('Run this with the Python of the site, as the user that Zope runs as.'),
        )


def _show_progress(share: float, words: str) -> None:
    """Print the progress.  On a terminal, each line overwrites the one before."""
    line = f'recursion probe: {share:4.0%} {words}'
    end = '\r' if sys.stderr.isatty() else '\n'
    print(line.ljust(60), end=end, file=sys.stderr, flush=True)


# -- as text ---------------------------------------------------------------------------------------


def _lines(parts: Iterable[_Part], everything: bool) -> Iterator[str]:
    shown = []
    for part in parts:
        if part.when or part.look.shown or part.look.muted:
            shown.append(part)
    if not shown:
        yield 'No problem was found in the data directory.'
    for number, part in enumerate(shown):
        if number:
            yield ''
        yield part.subject + _when(part)
        rows = part.look.to_json()
        for row in rows:
            is_fine = severity_of(row['severity']) == OK
            is_quiet = is_fine or 'muted' in row
            if everything or len(rows) == 1 or not is_quiet:
                yield from finding_lines(row)
        yield _count(part.look)


def _when(part: _Part) -> str:
    if not part.when:
        return ':'
    when = clocktime(from_isotime(part.when))
    if not part.now:
        return f', as of {when}:'
    took = f' in {part.took:.2f} s' if part.took else ''
    return f', checked {when}{took}:'


def _count(look: Look) -> str:
    """For example "= 1 critical, 2 warnings, 17 fine, 1 muted"."""
    shown = [finding.severity for finding in look.shown]
    words = []
    for severity in WORST_FIRST:
        count = shown.count(severity)
        if count:
            words.append(counted(count, severity.one, severity.many))
    if look.muted:
        words.append(f'{len(look.muted)} muted')
    return '= ' + (', '.join(words) or 'no results')
