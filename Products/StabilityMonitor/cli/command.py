"""Show how Zope processes ended and what living ones do.  Works while Zope is down; needs no Zope.

Exit status: 0 if all is well, 1 if something is wrong with the site, 2 for wrong usage or if there
is nothing to read.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from argparse import REMAINDER
from argparse import SUPPRESS
from argparse import ArgumentParser
from argparse import Namespace
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace

from .. import __version__
from ..knowledge import signedruns
from ..knowledge.rulesinforce import of_incident
from ..knowledge.signedruns import SignedRuns
from ..model.counts import counted
from ..model.errors import StabilityError
from ..model.options import secret_classes
from ..model.plaintext import clean
from ..model.records import isotime
from ..model.runrecord import RunRecord
from ..postmortem.allruns import AllRuns
from ..postmortem.manualtriage import as_recorded
from ..postmortem.manualtriage import by_hand
from ..postmortem.manualtriage import recorded_options
from ..postmortem.runhistory import is_open
from ..postmortem.triage import remedy
from ..reporting import runtrace
from ..reporting import snapshottext
from ..reporting.openwords import acknowledged_by
from ..reporting.runtext import run_lines
from ..reporting.runtext import titled_history_lines
from ..reporting.signedpast import signed_past
from ..reporting.tracetext import as_text
from ..store.acknowledged import Acknowledgements
from ..store.damagedrecords import alone
from ..store.regularfiles import own_user
from ..store.snapshotfiles import Snapshots
from . import checks as clichecks
from . import completion
from . import dataowner
from . import history as clihistory
from . import keepsnapshot as clisnapshot
from . import nagios
from . import reportcommand
from . import run as clirun
from . import stacks as clistacks
from . import status as clistatus
from . import whichrun
from . import witness as cliwitness
from .exitstatus import INTERRUPTED
from .exitstatus import UNUSABLE
from .exitstatus import WELL
from .exitstatus import WRONG
from .nagios import NAGIOS
from .terminal import notice
from .terminal import print_json
from .terminal import print_lines


class NothingNamed(StabilityError):
    """The command "ack" was not told which incident it shall acknowledge."""

    next_step = 'List the incidents with the command "history".'


def status(runs: AllRuns, options: Namespace) -> int:
    """Show which processes run, whether they hang, how the last one ended, and crash loops."""
    return clistatus.show(runs, options.format)


def history(runs: AllRuns, options: Namespace) -> int:
    """List the dead runs, newest first, one line for each, and then the snapshots; with --by
    signature, the incidents that are the same fault.
    """
    if options.by == 'signature':
        return clihistory.by_signature(runs, options.format)
    records = runs.summaries()
    snapshots = Snapshots(runs.base).summaries()
    rows = [alone(record, RunRecord.summary_json) for record in records]
    waiting = {record.run for record in runs.waiting}
    acknowledged, _ = Acknowledgements(runs.base).read()
    if options.format == 'json':
        signed = SignedRuns(runs)
        labels = signed.labels(records)
        for record, row in zip(records, rows, strict=True):
            row['signature'] = labels.get(record.run, '')
            row['is_incident'] = record.is_incident
            row['archived'] = record.run not in waiting and record.copied is None
            row['acknowledged'] = record.run in acknowledged
        print_json(
            {
                'generated': isotime(time.time()),
                'directory': str(runs.base.path),
                'runs': rows,
                'clean_scripts': runs.clean_scripts,
                'unsigned': signed.unsigned(records),
                'snapshots': [snapshot.summary_json() for snapshot in snapshots],
            }
        )
        return WELL
    print_lines(titled_history_lines(rows, waiting, acknowledged))
    if runs.clean_scripts:
        clean_scripts = counted(
            runs.clean_scripts, 'clean run of a script', 'clean runs of scripts'
        )
        print_lines([f'and {clean_scripts}'])
    if snapshots:
        print_lines(['', *snapshottext.list_lines(snapshots)])
    return WELL


def show(runs: AllRuns, options: Namespace) -> int:
    """Show everything about one run or snapshot; without RUN, about the newest incident."""
    snapshot = clisnapshot.named(runs, options.run)
    if snapshot:
        return clisnapshot.show(snapshot, options.format)
    record = signedruns.of_archive(runs, runs.record(whichrun.incident(runs, options.run)))
    known = of_incident(record, runs.base.path)
    record = replace(record, known_issues=known)
    acknowledged, _ = Acknowledgements(runs.base).read()
    past = signed_past(runs)
    seen = alone(record, lambda record: past.seen_before(runs, record))
    if options.format == 'json':
        document = alone(record, RunRecord.to_json)
        print_json(document | {'seen_before': seen.to_json() if seen else None})
    else:
        print_lines(run_lines(record, seen))
        if record.run in acknowledged:
            print_lines([acknowledged_by(acknowledged[record.run])])
    return WRONG if is_open(record, acknowledged) else WELL


def judge(runs: AllRuns, options: Namespace) -> int:
    """Judge and archive the dead runs, as the next start of Zope does."""
    dataowner.refuse_others(runs.base.path, 'archive its runs')
    failed: list[str] = []

    def note_failure(name: str, error: Exception, record: RunRecord | None) -> None:
        advice = str(remedy(error, runs.base.path))
        if isinstance(error, PermissionError):
            advice = 'Run this as the user that Zope runs as.'
        failed.append(f'{name} could not be archived: {error}. {advice}')
        if record:
            failed.append(f'{name}: {record.summary} [{record.verdict}, {record.confidence}]')

    done, removed = by_hand(runs.base, note_failure, starts_programs=not options.has_become_owner)
    print_lines(
        f'{record.run}: {record.summary} [{record.verdict}, {record.confidence}]' for record in done
    )
    for message in failed:
        print(clean(message), file=sys.stderr)
    if not done and not failed:
        print_lines(['There was nothing to judge.'])
    if runs.copied:
        copied = counted(len(runs.copied), 'run', 'runs')
        print_lines([f'Copied from another machine, and therefore left as it is: {copied}.'])
    if removed:
        print_lines([f'Old runs removed because of the options "keep-..." of the site: {removed}.'])
    if failed:
        return UNUSABLE
    acknowledged, _ = Acknowledgements(runs.base).read()
    has_incident = any(is_open(record, acknowledged) for record in done)
    return WRONG if has_incident else WELL


def ack(runs: AllRuns, options: Namespace) -> int:
    """Acknowledge an incident, or with --all each one: it counts for no crash loop and no exit
    status any more.  --undo takes that back.
    """
    dataowner.refuse_others(runs.base.path, 'acknowledge its incidents')
    if options.everything == (options.run is not None):
        raise NothingNamed('This command needs either the name of a run or --all.')
    if options.everything:
        names = [record.run for record in runs.incidents if not record.drill]
    else:
        record = runs.record(whichrun.incident(runs, options.run))
        if not record.is_incident:
            raise NothingNamed(f'The run {record.run} is no incident.')
        names = [record.run]
    base = as_recorded(runs.base, recorded_options(runs.base))
    if options.undo:
        count = Acknowledgements(base).withdraw(names)
        print(f'No longer acknowledged: {counted(count, "incident")}.')
        return WELL
    count = Acknowledgements(base).acknowledge(names, options.name or _own_name(), options.note)
    if names and not count:
        print('It was acknowledged before; nothing was changed.')
    else:
        print(f'Acknowledged: {counted(count, "incident")}.')
    return WELL


def _own_name() -> str:
    """Return the login name of who runs this command, also with sudo; '?' if it is not known."""
    name = os.environ.get('SUDO_USER')
    if name:
        return name
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # the user database does not know this user
        return '?'


def stacks(runs: AllRuns, options: Namespace) -> int:
    """Show what every thread of a living process does; works while all workers are busy."""
    wanted = options.run
    if wanted is not None:
        living = [name for name, _ in runs.living]
        wanted = whichrun.by_beginning(living, wanted)
    if options.format == 'json':
        return clistacks.show_json(runs.base, runs.living, wanted)
    return clistacks.show(runs.base, runs.living, wanted, options.native)


def snapshot(runs: AllRuns, options: Namespace) -> int:
    """Keep what a living process does now, like an incident; works while all workers are busy."""
    return clisnapshot.keep(runs, options, options.name or _own_name())


def checks(runs: AllRuns, options: Namespace) -> int:
    """Show what is wrong with the living site; while Zope is down, the last known results."""
    return clichecks.show(runs, options)


def trace(runs: AllRuns, options: Namespace) -> int:
    """Print the last requests of a run as a trace log; without RUN, of the living server, or of the
    last server.
    """
    if options.run is not None:
        run = whichrun.any_run(runs, options.run)
    else:
        run = runtrace.newest(runs.base)
    lines = runtrace.trace(runs.base, run, reportcommand.policy(runs, options, run))
    sys.stdout.buffer.write(as_text(lines))
    return WELL


def witness(runs: AllRuns, options: Namespace) -> int:
    """Leave what systemd saw of the end with the run; only for "ExecStopPost=" of Zope's unit."""
    try:
        cliwitness.leave(runs.base, os.environ)
    except (StabilityError, OSError):
        raise
    except Exception as error:  # the unit of Zope must not fail of it
        notice(f'What systemd saw was not recorded: {error}')
        return UNUSABLE
    return WELL


_COMMANDS: dict[str, Callable[[AllRuns, Namespace], int]] = {
    'status': status,
    'history': history,
    'show': show,
    'report': reportcommand.report,
    'triage': judge,
    'ack': ack,
    'checks': checks,
    'stacks': stacks,
    'snapshot': snapshot,
    'trace': trace,
    'witness': witness,
}
#: The subcommand that reads no data directory.
_RUN = 'run'
_RUN_WORDS = (
    'Start Zope, pass each signal on to it, and end as it does; what was seen of its end is kept '
    'with its run.'
)


#: {subcommand: an example for its --help}
_EXAMPLES = {
    'status': '--client-home var status --nagios',
    'history': '--client-home var history',
    'show': '--client-home var show -1',
    'report': '--client-home var report -1 --out report.html',
    'triage': '--client-home var triage',
    'ack': '--client-home var ack -1 --note upgraded',
    'checks': '--client-home var checks --all',
    'stacks': '--client-home var stacks --native',
    'snapshot': '--client-home var snapshot --note slow',
    'trace': '--client-home var trace 20261123T074501Z',
    'witness': '--directory /srv/site/var/stability witness',
    _RUN: 'run -- runwsgi etc/zope.ini',
}


_RUN_HELP = (
    'the beginning of the name of a run, or -1 for the newest incident, -2 for the one before it'
)

_RUN_OR_SNAPSHOT_HELP = (
    'the beginning of the name of a run or snapshot, or -1 for the newest incident, -2 for the one '
    'before it'
)
_LIVING_RUN_HELP = 'the beginning of the name of a living run (default: all living runs)'
_LIVING_SERVER_HELP = 'the beginning of the name of a living run (default: all living servers)'
#: {subcommand: help of its argument RUN}
_RUN_HELPS = {
    'show': _RUN_OR_SNAPSHOT_HELP,
    'report': _RUN_OR_SNAPSHOT_HELP,
    'ack': _RUN_HELP,
    'stacks': _LIVING_RUN_HELP,
    'snapshot': _LIVING_SERVER_HELP,
    'trace': _RUN_HELP,
}


def _parser() -> ArgumentParser:
    common = ArgumentParser(add_help=False)
    directory = common.add_argument(
        '--directory',
        help='the data directory (default: that of --client-home, else that of the variable '
        'STABILITYMONITOR_DIRECTORY, else one found below the current directory, INSTANCE_HOME or '
        'CLIENT_HOME)',
        default=SUPPRESS,
    )
    client_home = common.add_argument(
        '--client-home',
        help='the CLIENT_HOME of the instance; the data directory is the folder "stability" in it, '
        'or the one of the option "directory" if zope.conf is found',
        default=SUPPRESS,
    )
    completion.of_folders(directory, client_home)
    parser = ArgumentParser(
        'stabilitymonitor',
        description=__doc__,
        epilog=f'Example: stabilitymonitor {_EXAMPLES["status"]}',
        parents=[common],
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    completion.add_option(parser)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, function in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=function.__doc__,
            description=function.__doc__,
            epilog=f'Example: stabilitymonitor {_EXAMPLES[name]}',
            parents=[common],
        )
        if name in _RUN_HELPS:
            command.add_argument('run', metavar='RUN', nargs='?', help=_RUN_HELPS[name])
        if name == 'snapshot':
            command.add_argument('--note', default='', help='why, or what you see')
            command.add_argument('--name', default='', help='your name (default: your login name)')
            command.add_argument(
                '--native',
                action='store_true',
                dest='with_native',
                help='keep also C frames, read by pystack or py-spy',
            )
        if name == 'ack':
            command.add_argument(
                '--all', action='store_true', dest='everything', help='acknowledge all incidents'
            )
            command.add_argument('--undo', action='store_true', help='let the incident count again')
            command.add_argument('--note', default='', help='why, or what was done')
            command.add_argument('--name', default='', help='your name (default: your login name)')
        if name == 'history':
            command.add_argument(
                '--by',
                choices=('run', 'signature'),
                default='run',
                help='one line for each run (the default), or for the incidents of each signature, '
                'which are the same fault; the first time this may take minutes',
            )
        if name in ('report', 'trace'):
            command.add_argument(
                '--redact',
                type=secret_classes,
                metavar='CLASSES',
                help='what is taken out: all, none, or names of classes such as "all -users" '
                '(default: the option "redact" of the site)',
            )
        if name == 'checks':
            command.add_argument(
                '--all',
                action='store_true',
                dest='everything',
                help='show also what is fine and what is muted',
            )
            command.add_argument(
                '--probe',
                action='store_true',
                help='test whether a deep recursion kills Python; takes a few seconds',
            )
        if name == 'report':
            reportcommand.add_options(command)
        if name in ('status', 'history', 'show', 'checks', 'stacks'):
            _add_forms(command, name)
    _add_run(commands.add_parser)
    return parser


def _add_run(add_parser: Callable[..., ArgumentParser]) -> None:
    command = add_parser(
        _RUN,
        help=_RUN_WORDS,
        description=_RUN_WORDS,
        epilog=f'Example: stabilitymonitor {_EXAMPLES[_RUN]}',
        usage='%(prog)s [-h] [--termination-log FILE] -- COMMAND ...',
    )
    command.add_argument(
        clirun.LOG_OPTION,
        default='',
        metavar='FILE',
        help='the file for the verdict, which must exist (default: as pid 1 of a container '
        f'{clirun.TERMINATION_LOG}, which Kubernetes makes; otherwise none)',
    )
    command.add_argument('words', metavar='COMMAND', nargs=REMAINDER, help='what starts Zope')


def _add_forms(command: ArgumentParser, name: str) -> None:
    """Add the options that say in which form a subcommand prints, of which at most one is used."""
    forms = command.add_mutually_exclusive_group()
    forms.add_argument(
        '--format',
        choices=('json', 'text'),
        default='text',
        help='text for people (the default), json for programs',
    )
    if name == 'status':
        forms.add_argument(
            '--nagios',
            action='store_const',
            dest='format',
            const=NAGIOS,
            help='one line with performance data, and the exit status of a Nagios plugin: '
            '0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN',
        )
    if name == 'checks':
        forms.add_argument(
            '--json',
            action='store_const',
            dest='format',
            const='json',
            help='the same as --format json',
        )
    if name == 'stacks':
        forms.add_argument(
            '--native',
            action='store_const',
            const=clistacks.print_native,
            help='show also C frames, read by pystack or py-spy',
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    try:
        options = _parser().parse_args(words)
    except SystemExit as ended:
        if ended.code == UNUSABLE and '--nagios' in words:
            return nagios.unknown('wrong usage of the command')
        raise
    if options.command == _RUN:
        return _run(options)
    run_command = _COMMANDS[options.command]
    try:
        base = whichrun.data_directory(options)
        user = own_user()
        options.native = dataowner.become_owner(
            base.path,
            getattr(options, 'native', None),
            starts_programs=_starts_programs(options),
        )
        options.has_become_owner = own_user() != user
        whichrun.check_readable(base.path)
        runs = AllRuns(base)
        status = run_command(runs, options)
        sys.stdout.flush()
        return status
    except StabilityError as error:
        return _failed(options, str(error), error.exit_code)
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe.  Python's flush at exit must not fail
        # again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        return WELL
    except PermissionError as error:
        sentence = f'{error}. Run this command as the user that Zope runs as.'
        return _failed(options, sentence, UNUSABLE)
    except OSError as error:
        return _failed(options, f'{error}.', UNUSABLE)
    except KeyboardInterrupt:
        return _failed(options, 'Interrupted.', INTERRUPTED)


def _starts_programs(options: Namespace) -> bool:
    """Whether the command starts a program whose output it reads."""
    return bool(getattr(options, 'probe', False) or getattr(options, 'with_native', False))


def _run(options: Namespace) -> int:
    """Only where options of all subcommands stand before "run": else `cli.main` does it."""
    words = options.words[options.words[:1] == ['--'] :]
    if not words:
        notice('Name the command that starts Zope: stabilitymonitor run -- COMMAND ...')
        return UNUSABLE
    return clirun.run(words, options.termination_log)


def _failed(options: Namespace, sentence: str, exit_status: int) -> int:
    """Say why there is no result, and return the exit status."""
    if getattr(options, 'format', '') == NAGIOS:
        return nagios.unknown(sentence)
    notice(sentence)
    return exit_status
