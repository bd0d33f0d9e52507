"""The command "report": the report of an incident, or of the current state, in any format."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress

from ..knowledge import crashgroups
from ..knowledge.crashgroups import Group
from ..knowledge.signedruns import SignedRuns
from ..model.counts import counted
from ..model.errors import NoSuchRun
from ..model.errors import NoSuchSignature
from ..model.errors import StabilityError
from ..model.options import from_record
from ..model.records import Instance
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.evidence import World
from ..postmortem.runhistory import last_server_run
from ..reporting import parts as costlyparts
from ..reporting.axes import size
from ..reporting.fromdisk import Document
from ..reporting.redaction import Policy
from ..reporting.redaction import policy_of
from ..reporting.renderers import FORMATS
from ..reporting.renderers import render
from ..reporting.report import build
from ..reporting.report import build_of_snapshot
from ..reporting.reportchoice import PARTS
from ..reporting.reportchoice import Reporter
from ..reporting.reportchoice import chosen
from ..reporting.signaturereport import about_signature
from . import completion
from . import keepsnapshot
from . import outputfile
from . import whichrun
from .exitstatus import WELL
from .outputfile import STDOUT
from .terminal import notice
from .terminal import print_lines
from .terminal import print_text
from .terminal import progress

#: Content types, up to the slash, of what a terminal can show.
_SHOWN = ('text', 'application/json')


class TwoSubjects(StabilityError):
    next_step = 'Leave out one of them.'


def add_options(command: ArgumentParser) -> None:
    """Add the options of this command."""
    command.add_argument(
        '--format',
        choices=sorted(FORMATS),
        help='the form of the report (default: by the ending of FILE, else text); json is for '
        'programs',
    )
    out = command.add_argument(
        '--out',
        default=STDOUT,
        metavar='FILE',
        help='the file to write, or a folder for it (default: standard output, also as "-")',
    )
    completion.of_files(out)
    command.add_argument(
        '--signature',
        default='',
        metavar='ID',
        help='instead of RUN: the signature whose incidents the report is about',
    )
    command.add_argument('--force', action='store_true', help='replace FILE if it exists')
    command.add_argument('--name', default='', help='your name')
    command.add_argument('--email', default='', help='your e-mail address')
    command.add_argument('--did', default='', metavar='TEXT', help='what you did')
    command.add_argument('--expected', default='', metavar='TEXT', help='what you expected')
    command.add_argument(
        '--without',
        action='append',
        default=[],
        choices=list(PARTS),
        metavar='PART',
        help=f'leave out a part, one of {", ".join(PARTS)}; may be repeated',
    )


def report(runs: AllRuns, options: Namespace) -> int:
    """Make the report of one run or snapshot; without RUN, of the newest incident, or of the
    current state if there is no incident.
    """
    format = options.format or _format_of(options.out)
    if options.out != STDOUT:
        outputfile.check(options.out, options.force)
    else:
        _check_terminal(format)
    with progress('Reading the past runs ...') as tell:
        group = None
        if options.signature:
            group = _group(runs, options, tell)
        snapshot = keepsnapshot.named(runs, options.run)
        run = snapshot.run if snapshot else _run(runs, options, group)
        tell(f'Reading {counted(len(runs.summaries()), "past run")} and what belongs to them ...')
        if snapshot:
            document = build_of_snapshot(None, runs, snapshot)
        else:
            document = _document(runs, run, group, options)
        document = _chosen(document, options)
        tell('Taking out secrets and writing the report ...')
        file_name, _, content = render(document, format, policy(runs, options, run))
    words = f'the snapshot {snapshot.id}' if snapshot else _words(run, group, options)
    if options.out != STDOUT:
        path = outputfile.write(options.out, file_name, content, options.force)
        notice(f'The report about {words} is in {path} ({size(len(content))}).')
        return WELL
    if format == 'text':
        if group or options.run is None:
            print_lines([f'This report is about {words}.'])
        print_text(content)
    else:
        sys.stdout.buffer.write(content)
    return WELL


def _format_of(out: str) -> str:
    """Return the format by the ending of a file; text if it has none, or another one."""
    _, ending = os.path.splitext(out)
    for format, (_, extension, _) in FORMATS.items():
        if ending.lower() == f'.{extension}':
            return format
    return 'text'


def _check_terminal(format: str) -> None:
    """Raise BinaryOnTerminal if a terminal would get what it cannot show."""
    content_type, _, _ = FORMATS[format]
    if sys.stdout.isatty() and not content_type.startswith(_SHOWN):
        raise outputfile.BinaryOnTerminal(f'A terminal cannot show the format {format}.')


def _run(runs: AllRuns, options: Namespace, group: Group | None) -> str | None:
    """Return the run that the report is about; None: the current state.  Raises NoSuchRun."""
    if group:
        return group.runs[0].run
    if options.run is None and not runs.incidents:
        return None
    return whichrun.incident(runs, options.run)


def _group(runs: AllRuns, options: Namespace, tell: Callable[[str], None]) -> Group:
    """Return the incidents of the signature that is asked for.

    All incidents are signed first: that may take minutes, once.  Raises NoSuchSignature.
    """
    if options.run is not None:
        raise TwoSubjects('Either RUN or --signature says what the report is about.')
    signed = SignedRuns(runs)
    incidents = runs.incidents
    signed.sign_all(
        incidents,
        lambda done, total: tell(f'Signing past incidents: {done:,} of {total:,} ...'),
    )
    found, _ = signed.groups(incidents)
    group = crashgroups.find(found, options.signature)
    if group is None:
        raise NoSuchSignature(f'No incident here has the signature {options.signature!r}.')
    return group


def _document(runs: AllRuns, run: str | None, group: Group | None, options: Namespace) -> Document:
    if run is not None:
        instance = _site_of(runs, runs.record(run))
    else:
        instance = _current_instance(runs)
    # A program of root's is not started once root has become the owner of the directory.
    world = World(journalctl=None) if options.has_become_owner else World()
    document = build(None, runs, run, instance, parts=costlyparts.PARTS, world=world)
    if group:
        document = about_signature(document, group)
    return document


def _chosen(document: Document, options: Namespace) -> Document:
    reporter = Reporter(options.name, options.email, options.did, options.expected)
    kept = [part for part in PARTS if part not in options.without]
    return chosen(document, kept, reporter)


def _words(run: str | None, group: Group | None, options: Namespace) -> str:
    """Say what the report is about."""
    if group:
        count = counted(group.count, 'incident')
        return f'the signature {group.signature.label}: {count}, the newest of them {run}'
    if run is None:
        return 'the current state: no incident'
    return run if options.run is not None else f'the newest incident, {run}'


def policy(runs: AllRuns, options: Namespace, run: str | None) -> Policy:
    """Return what is taken out: by --redact, else by the options that the site has now, else by
    those of the run, else of the newest run.
    """
    contexts = [context for _, context in reversed(runs.living)]
    for name in [run, *(summary.run for summary in runs.summaries()[:1])]:
        if name and not contexts:
            with suppress(StabilityError):
                contexts.append(runs.record(name).context)
    known = from_record(contexts[0].get('options')) if contexts else {}
    return policy_of(known | ({'redact': options.redact} if options.redact else {}))


def _site_of(runs: AllRuns, record: RunRecord) -> Instance:
    """Return the instance that a report of that run is about.

    A script listens on no address.  Its report is about the newest server with the same host and
    CLIENT_HOME, if there is one.
    """
    if record.role == 'server':
        return record.instance
    script = record.instance
    for run in runs.summaries():
        server = run.instance
        is_beside = server.host == script.host and server.client_home == script.client_home
        if run.role == 'server' and is_beside:
            return server
    return script


def _current_instance(runs: AllRuns) -> Instance:
    """The instance of a living server, else of the run that ended last.  Raises NoSuchRun."""
    for _, context in reversed(runs.living):
        if context.get('role') != 'script':
            return instance_of(context)
    summaries = runs.summaries()
    if not summaries:
        raise NoSuchRun('No run has been archived here yet.')
    last = last_server_run(summaries) or summaries[0]
    return last.instance
