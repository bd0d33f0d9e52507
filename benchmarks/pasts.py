"""Past runs for the benchmarks: dead runs with full black boxes that wait for triage, and large
archives.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path

from figures import CHECKOUT
from figures import PROGRAMS

from Products.StabilityMonitor.model.records import Instance

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def dead_run(folder: Path, client_home) -> Path:
    """Let a process crash with a full black box, and return the directory of its run."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / 'full_life.py'), str(folder), str(client_home)],
        env=os.environ | {'PYTHONPATH': str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    if done.returncode != -signal.SIGSEGV:
        raise SystemExit(f'full_life.py ended with {done.returncode}: {done.stderr}')
    (run,) = (folder / 'runs').iterdir()
    return run


def name(number: int, pid: str = '4711') -> str:
    return f'{FIRST + timedelta(hours=number):%Y%m%dT%H%M%SZ}-{pid}-{secrets.token_hex(2)}'


def wait_for_triage(run: Path, stability: Path, count: int) -> None:
    """Copy a dead run this many times into a data directory."""
    for number in range(count):
        shutil.copytree(run, stability / 'runs' / name(number))


def archive(
    run: Path,
    stability: Path,
    count: int,
    instance: Instance,
    first: int = 0,
    whole: bool = True,
) -> list[str]:
    """Archive this many runs that are similar to `run` and ended in several ways; return their
    names, oldest first.

    The first run begins `first` hours after FIRST, then one each hour; the fourth from the end
    crashed.  With `whole` False they have no black box and no large parts.
    """
    from dataclasses import replace

    from Products.StabilityMonitor.postmortem import triage
    from Products.StabilityMonitor.store.archive import Archive
    from Products.StabilityMonitor.store.rundirectory import Base

    base, names = Base(stability), []
    base.prepare()
    record, kept = triage.examine(run), Archive(base)
    if not whole:
        record = record.without_heavy()
    verdicts = ('stopped', 'stopped', 'crashed', 'stopped', 'vanished', 'hung')
    for number in range(count):
        names.append(name(first + number))
        copy = base.runs / names[-1]
        if whole:
            shutil.copytree(run, copy)
        else:
            copy.mkdir()
        begun = (FIRST + timedelta(hours=first + number)).timestamp()
        kept.add(
            copy,
            replace(
                record,
                run=names[-1],
                instance=instance,
                verdict=verdicts[(count - 2 - number) % 6],
                started=begun,
                ended=begun + 3000,
                uptime_seconds=3000.0,
            ),
        )
    return names


def sign(stability: Path) -> str:
    """Give all incidents their signature, as Zope does in the background, and return the id of the
    one that most have.
    """
    from Products.StabilityMonitor.knowledge.signedruns import SignedRuns
    from Products.StabilityMonitor.store.archive import Archive
    from Products.StabilityMonitor.store.rundirectory import Base

    kept = Archive(Base(stability))
    signed = SignedRuns(kept)
    signed.sign_all(kept.summaries())
    groups, _ = signed.groups(kept.summaries())
    return max(groups, key=lambda group: group.count).id
