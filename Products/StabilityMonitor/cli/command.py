"""Show how Zope processes ended and what living ones do.  Works while Zope is down; needs no Zope.

Exit status: 0 if all is well, 1 if something is wrong with the site, 2 for wrong usage or if there
is nothing to read.
"""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS
from argparse import ArgumentParser
from argparse import Namespace
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace

from ..knowledge.rulesinforce import of_incident
from ..model.errors import NoSuchRun
from ..model.errors import StabilityError
from ..model.plaintext import clean
from ..model.records import Instance
from ..model.records import instance_of
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.manualtriage import by_hand
from ..postmortem.runhistory import last_server_run
from ..reporting import runtrace
from ..reporting.renderers import FORMATS
from ..reporting.renderers import render
from ..reporting.renderers import run_lines
from ..reporting.renderers import titled_history_lines
from ..reporting.report import build
from ..reporting.tracetext import as_text
from . import checks as clichecks
from . import stacks as clistacks
from . import status as clistatus
from . import whichrun
from .exitstatus import UNUSABLE
from .exitstatus import WELL
from .exitstatus import WRONG
from .terminal import notice
from .terminal import print_lines


def status(runs: AllRuns, options: Namespace) -> int:
    """Show which processes run, whether they hang, how the last one ended, and crash loops."""
    return clistatus.show(runs, options.format == 'json')


def history(runs: AllRuns, options: Namespace) -> int:
    """List the dead runs, newest first, one line for each."""
    rows = [record.summary_json() for record in runs.summaries()]
    waiting = {record.run for record in runs.waiting}
    for line in titled_history_lines(rows, waiting):
        print(line)
    if runs.clean_scripts:
        print(f'and {runs.clean_scripts} clean runs of scripts')
    return WELL


def show(runs: AllRuns, options: Namespace) -> int:
    """Show everything about one run; without RUN, about the newest incident."""
    record = runs.record(whichrun.incident(runs, options.run))
    known = of_incident(record, runs.base.path)
    print_lines(run_lines(replace(record, known_issues=known)))
    return WRONG if record.is_incident else WELL


def report(runs: AllRuns, options: Namespace) -> int:
    """Print the report of one run; without RUN, of the newest incident, or of the current state if
    there is no incident.
    """
    run = options.run
    if run is not None or runs.incidents:
        run = whichrun.incident(runs, run)
    if run:
        instance = _site_of(runs, runs.record(run))
    else:
        instance = _current_instance(runs)
    document = build(None, runs, run, instance)
    if options.run is None:
        if run:
            document['about'] = 'newest incident'
            words = f'the newest incident, {run}'
        else:
            document['about'] = 'present state'
            words = 'the current state: no incident'
        if options.format == 'text':
            print(clean(f'This report is about {words}.'), flush=True)
    _, _, content = render(document, options.format)
    sys.stdout.buffer.write(content)
    return WELL


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


def judge(runs: AllRuns, options: Namespace) -> int:
    """Judge and archive the dead runs, as the next start of Zope does."""
    failed: list[str] = []

    def note_failure(name: str, error: Exception) -> None:
        failed.append(
            f'{name} could not be archived: {error}. Run this as the user that Zope runs as.'
        )

    done, removed = by_hand(runs.base, note_failure)
    print_lines(
        f'{record.run}: {record.summary} [{record.verdict}, {record.confidence}]' for record in done
    )
    for message in failed:
        print(clean(message), file=sys.stderr)
    if not done and not failed:
        print('There was nothing to judge.')
    if removed:
        print(f'Old runs removed because of the options "keep-..." of the site: {removed}.')
    if failed:
        return UNUSABLE
    has_incident = any(record.is_incident for record in done)
    return WRONG if has_incident else WELL


def stacks(runs: AllRuns, options: Namespace) -> int:
    """Show what every thread of a living process does; works while all workers are busy."""
    wanted = options.run
    if wanted:
        living = [name for name, _ in runs.living]
        wanted = whichrun.by_beginning(living, wanted)
    return clistacks.show(runs.base, runs.living, wanted, options.native)


def checks(runs: AllRuns, options: Namespace) -> int:
    """Show what is wrong with the living site; while Zope is down, the last known results."""
    return clichecks.show(runs, options)


def trace(runs: AllRuns, options: Namespace) -> int:
    """Print the last requests of a run as a trace log; without RUN, of the living server, or of the
    last server.
    """
    if options.run:
        run = whichrun.any_run(runs, options.run)
    else:
        run = runtrace.newest(runs.base)
    lines = runtrace.trace(runs.base, run)
    sys.stdout.buffer.write(as_text(lines))
    return WELL


_COMMANDS: dict[str, Callable[[AllRuns, Namespace], int]] = {
    'status': status,
    'history': history,
    'show': show,
    'report': report,
    'triage': judge,
    'checks': checks,
    'stacks': stacks,
    'trace': trace,
}


_RUN_HELP = (
    'the beginning of the name of a run, or -1 for the newest incident, -2 for the one before it'
)


def _parser() -> ArgumentParser:
    common = ArgumentParser(add_help=False)
    common.add_argument(
        '--directory',
        help='the data directory (default: that of --client-home, else that of the variable '
        'STABILITYMONITOR_DIRECTORY, else one found below the current directory, INSTANCE_HOME or '
        'CLIENT_HOME)',
        default=SUPPRESS,
    )
    common.add_argument(
        '--client-home',
        help='the CLIENT_HOME of the instance; the data directory is the folder "stability" in it',
        default=SUPPRESS,
    )
    parser = ArgumentParser('stabilitymonitor', description=__doc__, parents=[common])
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, function in _COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__, parents=[common])
        if name in ('show', 'report', 'stacks', 'trace'):
            command.add_argument('run', metavar='RUN', nargs='?', help=_RUN_HELP)
        if name in ('report', 'status'):
            command.add_argument(
                '--format',
                choices=sorted(FORMATS),
                default='text',
                help='text for people (the default), json for programs',
            )
        if name == 'checks':
            command.add_argument(
                '--all',
                action='store_true',
                dest='everything',
                help='show also what is fine and what is muted',
            )
            command.add_argument(
                '--json',
                action='store_true',
                dest='as_json',
                help='print everything as JSON, for programs',
            )
            command.add_argument(
                '--probe',
                action='store_true',
                help='test whether a deep recursion kills Python; takes a few seconds',
            )
        if name == 'stacks':
            command.add_argument(
                '--native',
                action='store_true',
                help='show also C frames, read by pystack or py-spy',
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(argv)
    run_command = _COMMANDS[options.command]
    try:
        runs = AllRuns(whichrun.data_directory(options))
        return run_command(runs, options)
    except StabilityError as error:
        notice(str(error))
        return error.exit_code
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe.  Python's flush at exit must not fail
        # again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        return WELL
    except OSError as error:
        notice(f'{error}. Run this command as the user that Zope runs as.')
        return UNUSABLE
