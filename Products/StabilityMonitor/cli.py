"""The command `stabilitymonitor`: the same answers while Zope is down.  Needs no Zope.

Exit status 0: all is well; 1: something is wrong with the site; 2: wrong usage, or nothing to read.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import clichecks
from . import clistacks
from .diagnosis.known_here import of_incident
from .diagnosis.statistics import crash_loop
from .diagnosis.statistics import last_server_run
from .diagnosis.statistics import of_instance
from .errors import NoDirectory
from .errors import NoSuchRun
from .errors import StabilityError
from .plaintext import clean
from .postmortem.archive import Archive
from .postmortem.triage import triage
from .records import Instance
from .records import duration
from .records import isotime
from .reporting import runtrace
from .reporting.renderers import FORMATS
from .reporting.renderers import history_lines
from .reporting.renderers import render
from .reporting.renderers import run_lines
from .reporting.report import build
from .reporting.tracetext import as_text
from .rundirectory import CONTEXT
from .rundirectory import Base
from .rundirectory import may_live
from .rundirectory import name_facts
from .rundirectory import read_json

WELL, WRONG, UNUSABLE = 0, 1, 2


def status(base, options) -> int:
    """Which processes live, how the last one ended, and whether there is a crash loop."""
    archive = Archive(base)
    living, waiting = _living(base)
    summaries = archive.summaries()
    for name, context in living:
        started, pid = name_facts(name)
        print(clean(f'running: pid {pid} since {isotime(started)} {_label(context)} {name}'))
    for name in waiting:
        print(f'dead, not yet judged: {name} (run "stabilitymonitor triage")')
    worst = WRONG if waiting else WELL
    for instance in dict.fromkeys(r.instance for r in summaries):
        worst = max(worst, _instance_status(instance, summaries))
    if not summaries and not living and not waiting:
        print('No run has been recorded here yet.')
    return worst


def _instance_status(instance, summaries):
    ours = of_instance(summaries, instance)
    last, loop = last_server_run(ours), crash_loop(ours)
    if loop:
        print(clean(f'CRASH LOOP: {len(loop)} incidents in a row of {instance.label}'))
    if last is None:
        return WELL
    print(
        clean(
            f'last run of {instance.label}: {last.summary} [{last.verdict}, {last.confidence}] '
            f'up {duration(last.uptime_seconds)}, ended {last.ended}'
        )
    )
    return WRONG if last.is_incident else WELL


def _living(base):
    """((name, context) of runs that live, names of dead ones that wait)"""
    living, waiting = [], []
    for name in base.waiting():
        context = read_json(base.runs / name / CONTEXT)
        living.append((name, context)) if may_live(base.runs / name) else waiting.append(name)
    return living, waiting


def _label(context):
    known = context.get('instance')
    known = known if isinstance(known, dict) else {}
    return Instance(*(str(known.get(key) or '') for key in ('host', 'client_home', 'listen'))).label


def history(base, options) -> int:
    """One line for each archived run, newest first."""
    archive = Archive(base)
    for line in history_lines([r.summary_json() for r in archive.summaries()]):
        print(line)
    if archive.clean_scripts:
        print(f'and {archive.clean_scripts} clean runs of scripts')
    return WELL


def show(base, options) -> int:
    """Everything about one run."""
    record = Archive(base).record(options.run)
    for line in run_lines(record.to_json() | {'known_issues': of_incident(record, base.path)}):
        print(clean(line))
    return WRONG if record.is_incident else WELL


def report(base, options) -> int:
    """The report, of the present state or of one run."""
    archive = Archive(base)
    summaries = archive.summaries()
    if options.run is None and not summaries:
        raise NoSuchRun('No run has been archived here yet.')
    instance = archive.record(options.run).instance if options.run else last_instance(summaries)
    document = build(None, archive, options.run, instance)
    sys.stdout.buffer.write(render(document, options.format)[2])
    return WELL


def last_instance(summaries) -> Instance:
    """The instance whose run ended last."""
    return (last_server_run(summaries) or summaries[0]).instance


def judge(base, options) -> int:
    """Judge and archive what is dead, as the next start of Zope would."""
    failed = []
    done = triage(base, on_error=lambda name, error: failed.append((name, error)))
    for record in done:
        print(clean(f'{record.run}: {record.summary} [{record.verdict}, {record.confidence}]'))
    for name, error in failed:
        print(
            clean(
                f'{name} could not be archived: {error}. Run this as the user that Zope runs as.'
            ),
            file=sys.stderr,
        )
    if not done and not failed:
        print('There was nothing to judge.')
    return UNUSABLE if failed else WRONG if any(r.is_incident for r in done) else WELL


def stacks(base, options) -> int:
    """What every thread of a living process does; also while none of its workers is free."""
    return clistacks.show(base, _living(base)[0], options.run, options.native)


def checks(base, options) -> int:
    """What is wrong with the living site; while Zope is down, what it said last."""
    return clichecks.show(base, *_living(base), options)


def trace(base, options) -> int:
    """The last requests of a run as a trace log; without RUN, of the server that lives, or was
    last.
    """
    sys.stdout.buffer.write(as_text(runtrace.trace(base, options.run or runtrace.newest(base))))
    return WELL


_COMMANDS = {
    'status': status,
    'history': history,
    'show': show,
    'report': report,
    'triage': judge,
    'checks': checks,
    'stacks': stacks,
    'trace': trace,
}


def _parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--directory', help='the data directory', default=argparse.SUPPRESS)
    common.add_argument(
        '--client-home',
        help='the CLIENT_HOME of the instance; its "stability" is the data directory',
        default=argparse.SUPPRESS,
    )
    parser = argparse.ArgumentParser('stabilitymonitor', description=__doc__, parents=[common])
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, function in _COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__, parents=[common])
        if name in ('show', 'report', 'stacks', 'trace'):
            command.add_argument('run', metavar='RUN', nargs=None if name == 'show' else '?')
        if name == 'report':
            command.add_argument('--format', choices=sorted(FORMATS), default='text')
        if name == 'checks':
            _check_options(command)
        if name == 'stacks':
            command.add_argument(
                '--native', action='store_true', help='C frames too, taken by pystack or py-spy'
            )
    return parser


def _check_options(command):
    command.add_argument(
        '--all', action='store_true', dest='everything', help='what is fine, or hushed, too'
    )
    command.add_argument(
        '--json', action='store_true', dest='as_json', help='all of it, for programs'
    )
    command.add_argument(
        '--probe',
        action='store_true',
        help='try out whether a deep recursion kills this Python; takes some seconds',
    )


def _base(options):
    directory = getattr(options, 'directory', None)
    home = getattr(options, 'client_home', None) or os.environ.get('CLIENT_HOME')
    directory = (
        directory
        or os.environ.get('STABILITYMONITOR_DIRECTORY')
        or (home and Path(home) / 'stability')
    )
    if not directory:
        raise NoDirectory('There is no data directory to look into.')
    if not Path(directory).is_dir() or not os.access(directory, os.R_OK | os.X_OK):
        raise NoDirectory(f'{directory} is not a directory that can be read.')
    return Base(directory)


def main(argv=None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        return _COMMANDS[options.command](_base(options), options)
    except StabilityError as error:
        print(clean(f'stabilitymonitor: {error}'), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return WELL
    except OSError as error:
        print(
            clean(f'stabilitymonitor: {error}. Run it as the user that Zope runs as.'),
            file=sys.stderr,
        )
        return UNUSABLE
