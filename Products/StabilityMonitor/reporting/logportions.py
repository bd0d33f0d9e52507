"""The portions of logs around the end of a run, and what of them cannot be found or read.

The logs of Zope are those that its `logging` writes to, which a run notes at its start, also where
they were rotated since; then come standard error, the log of the supervisor, and what the system
has.  Of each, only what is around the end is read (`system.logexcerpts`).
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Container
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

from ..model.records import isotime
from ..model.reportparts import Gap
from ..model.reportparts import LogPortion
from ..postmortem import evidence
from ..postmortem import journal
from ..postmortem import supervisorlogs
from ..postmortem import witnesslogs
from ..postmortem.kernellog import is_of_others
from ..system import kernelmessages
from ..system import logexcerpts
from ..system import loggingconfig
from ..system import rotatedlogs
from ..system import runcontext
from ..system import supervisorlog
from ..system.logexcerpts import Excerpt
from ..system.rotatedlogs import LogFile
from .subject import Subject
from .subject import gap

#: Names of loggers whose records are those of the access log, or of their parents.
_ACCESS = ('wsgi', 'access', 'accesslog', 'trans', 'gunicorn.access', 'aiohttp.access')
#: Where systems without a journal keep their log.
_SYSTEM_LOGS = ('var/log/syslog', 'var/log/messages')
_JOURNALS = ('var/log/journal', 'run/log/journal')
#: Bytes: a larger compressed log is not read, and of an .ini file no more than this.
_MOST_PACKED = 4 << 20
_MOST_INI = 256 << 10
#: At most this many logs of Zope are shown.
_MOST_LOGS = 8
#: Seconds: a log without times counts if it was written so shortly before or after the end.
_NEAR = 120.0

#: What a source yields.
Found = Iterator[LogPortion | Gap]


@dataclass(frozen=True)
class NamedLog:
    """A log of Zope: its name in `model.reportparts.LOGS`, and its path."""

    name: str
    file: str


def portions(subject: Subject) -> tuple[list[LogPortion], list[Gap]]:
    """Return the portions of the logs, and why others are missing."""
    if not subject.is_here:
        return [], [Gap('logs', subject.why_not_here)]
    of_zope = named_logs(subject)
    known = {log.file for log in of_zope}
    found: list[LogPortion | Gap] = []
    found += _of_zope(subject, of_zope)
    found += _of_standard_error(subject, known)
    found += _of_supervisor(subject, known)
    found += _of_journal(subject)
    found += _of_kernel(subject)
    found += _of_system(subject)
    logs = [each for each in found if isinstance(each, LogPortion)]
    return logs, [each for each in found if isinstance(each, Gap)]


# -- the logs of Zope ------------------------------------------------------------------------------


def named_logs(subject: Subject) -> list[NamedLog]:
    """Return the logs of Zope: what `logging` writes to now, else what the run noted at its start,
    else what its .ini file names.
    """
    noted = runcontext.log_files() if subject.is_own else subject.context.get('logs')
    pairs: list[tuple[str, str]] = []
    for each in noted if isinstance(noted, list) else ():
        if isinstance(each, dict):
            pairs.append((str(each.get('logger') or ''), str(each.get('file') or '')))
    if not pairs:
        pairs = _configured(subject)
    logs = [NamedLog(_name(logger), file) for logger, file in pairs if os.path.isabs(file)]
    return list(dict.fromkeys(logs))[:_MOST_LOGS]


def _name(logger: str) -> str:
    if not logger:
        return 'event-log'
    return 'access-log' if logger.startswith(_ACCESS) else 'other-log'


def _configured(subject: Subject) -> list[tuple[str, str]]:
    path = subject.configuration['wsgi_ini']
    try:
        with open(subject.open(path), 'rb') as file:
            text = file.read(_MOST_INI).decode('utf-8', 'replace')
    except OSError:
        return []
    return loggingconfig.files_in(text, path)


def _of_zope(subject: Subject, logs: list[NamedLog]) -> Found:
    names = {log.name for log in logs}
    for log in logs:
        yield _of_log(log, subject)
    for name in ('event-log', 'access-log'):
        if name not in names:
            yield Gap(name, 'not-named')


def _of_supervisor(subject: Subject, known: Container[str]) -> Found:
    path = supervisorlog.path_of(subject.context)
    if path and path not in known:
        yield _of_log(NamedLog('supervisor-log', path), subject)
    elif not path and subject.text('supervisor') in supervisorlogs.PARSERS:
        yield Gap('supervisor-log', 'not-found')


def _of_log(log: NamedLog, subject: Subject) -> LogPortion | Gap:
    """Return the lines of a log around the end, from the files that have them.

    A file has what was written until its time.  So the first one that was written after the
    moment has it; what is before may be in an older file, and what is after in the next one.
    """
    files = rotatedlogs.files_of(log.file)
    if not files:
        return _nothing_there(log, subject)
    since = subject.moment - logexcerpts.BEFORE
    later = [number for number, file in enumerate(files) if file.written >= since]
    first = later[0] if later else len(files) - 1
    file = files[first]
    try:
        excerpt = _excerpt(file, subject)
    except _UNREADABLE as error:
        return _gap(log.name, file.path, error)
    if excerpt.before < logexcerpts.LEAST_LINES and first > 0:
        excerpt = _joined(_excerpt_or_none(files[first - 1], subject), excerpt)
    if excerpt.reaches_end and first + 1 < len(files):
        excerpt = _joined(excerpt, _excerpt_or_none(files[first + 1], subject))
    is_of_then = excerpt.first is not None or abs(file.written - subject.moment) <= _NEAR
    if not excerpt.lines or not is_of_then:
        return Gap(log.name, 'nothing-then', file.path)
    return _portion(log.name, excerpt, file.path, rotated=file.path != log.file)


def _nothing_there(log: NamedLog, subject: Subject) -> Gap:
    """Return why a log has no files: it may be a link, as that to /dev/stdout in a container."""
    try:
        os.close(subject.open(log.file))
    except OSError as error:
        return gap(log.name, log.file, error)
    return Gap(log.name, 'not-found', log.file)


class _NotRead(Exception):
    """The file is not read; the argument is a key of `model.reportparts.REASONS`."""


#: What reading a file may raise that is damaged, or cannot be read.
_UNREADABLE = (_NotRead, OSError, EOFError, ValueError, zlib.error)


def _excerpt(file: LogFile, subject: Subject) -> Excerpt:
    now = subject.world.now
    with open(subject.open(file.path), 'rb') as raw:
        if not file.packed:
            return logexcerpts.of_file(raw.fileno(), subject.moment, now)
        if file.packed != '.gz':
            raise _NotRead('packed')
        if file.size > _MOST_PACKED:
            raise _NotRead('too-large')
        with gzip.open(raw) as text:
            return logexcerpts.of_packed(text.read, subject.moment, now)


def _excerpt_or_none(file: LogFile, subject: Subject) -> Excerpt:
    """Return the lines of a file that only adds to those of another one."""
    try:
        return _excerpt(file, subject)
    except _UNREADABLE:
        return Excerpt()


def _joined(older: Excerpt, newer: Excerpt) -> Excerpt:
    return Excerpt(
        lines=older.lines + newer.lines,
        before=older.before + newer.before,
        first=newer.first if older.first is None else older.first,
        last=older.last if newer.last is None else newer.last,
        cut=older.cut or newer.cut,
        reaches_end=newer.reaches_end,
    )


def _gap(name: str, path: str, error: Exception) -> Gap:
    if isinstance(error, _NotRead):
        return Gap(name, str(error), path)
    return gap(name, path, error)


def _portion(name: str, excerpt: Excerpt, path: str = '', rotated: bool = False) -> LogPortion:
    return LogPortion(
        name=name,
        file=path,
        text='\n'.join(excerpt.lines),
        first=excerpt.first,
        last=excerpt.last,
        cut=excerpt.cut,
        rotated=rotated,
        timeless=excerpt.first is None,
    )


# -- standard error --------------------------------------------------------------------------------


def _of_standard_error(subject: Subject, known: Container[str]) -> Found:
    outputs = subject.context.get('outputs')
    output = outputs.get('2') if isinstance(outputs, dict) else None
    if not isinstance(output, dict) or output.get('kind') != 'file':
        return  # it is a terminal, or goes to a supervisor or the journal
    path = str(output.get('path') or '')
    if path in known:
        return
    try:
        os.close(subject.open(path))
    except OSError as error:
        yield gap('standard-error', path, error)
        return
    sizes = [sample.stderr_size for sample in subject.record.samples] if subject.record else []
    text = evidence.stderr_tail(subject.context, sizes)
    if text is None:
        yield Gap('standard-error', 'nothing-then', path)
    elif text:
        lines = text.decode('utf-8', 'replace').rstrip('\n').split('\n')
        lines = lines[-logexcerpts.MOST_BEFORE :]
        yield _portion(
            'standard-error', logexcerpts.of_lines(lines, subject.moment, subject.world.now), path
        )


# -- what the system has ---------------------------------------------------------------------------


def _of_journal(subject: Subject) -> Found:
    invocation = subject.text('invocation_id')
    if not invocation:
        return
    world = subject.world
    since, until = _time(subject)
    lines = journal.service_lines(world.journalctl, invocation, since, until)
    if lines:
        yield _portion('journal', logexcerpts.of_lines(lines, subject.moment, world.now))
    elif not _is_journal_readable(subject):
        yield Gap('journal', 'not-readable')
    else:
        yield Gap('journal', 'nothing-then')


def _is_journal_readable(subject: Subject) -> bool:
    if subject.world.journalctl is None or not os.access(subject.world.journalctl, os.X_OK):
        return False
    for folder in _JOURNALS:
        for path in (subject.world.root / folder).glob('*/system.journal'):
            if os.access(path, os.R_OK):
                return True
    return False


def _of_kernel(subject: Subject) -> Found:
    world = subject.world
    since, until = _time(subject)
    ahead = _ahead(subject)
    files = [path for path in world.kernel_files if os.access(path, os.R_OK)]
    is_device_readable = kernelmessages.is_readable(world.kernel_log)
    if not (is_device_readable or files or _is_journal_readable(subject)):
        yield Gap('kernel-log', 'not-readable', str(world.kernel_log))
    elif is_device_readable and ahead is None:
        yield Gap('kernel-log', 'other-boot')
    else:
        found = witnesslogs.kernel_lines(world, since, until, ahead, witnesslogs.end_of_log)
        ids = _thread_ids(subject)
        told = [each for each in sorted(found) if not (ids and is_of_others(each[1], ids))]
        lines = [f'{isotime(at)} kernel: {line}' for at, line in told]
        if lines:
            yield _portion('kernel-log', logexcerpts.of_lines(lines, subject.moment, world.now))
        else:
            yield Gap('kernel-log', 'nothing-then')


def _thread_ids(subject: Subject) -> set[int]:
    """Return the kernel's ids of the threads of the run; empty if the kernel uses other numbers."""
    record = subject.record
    if record is None or subject.text('container'):
        return set()
    ids = {request.native_id for request in (*record.requests, *record.recent)}
    ids |= {note.native_id for note in record.notes}
    ids |= {thread.native_id for thread in record.threads}
    ids |= {thread.native_id for thread in (record.core.threads if record.core else ())}
    fault = record.kernel_fault
    return ids | {record.pid} | ({fault.thread} if fault else set())


def _ahead(subject: Subject) -> float | None:
    """Return how many seconds the clock was ahead of the monotonic clock of this boot, None if that
    is not known.
    """
    record = subject.record
    if not subject.same_boot:
        return None
    if record and record.samples:
        return record.samples[-1].time - record.samples[-1].monotonic
    started, monotonic = subject.context.get('started'), subject.context.get('monotonic')
    if isinstance(started, int | float) and isinstance(monotonic, int | float):
        return started - monotonic
    return None


def _of_system(subject: Subject) -> Found:
    for name in _SYSTEM_LOGS:
        path = subject.world.root / name
        if path.exists():
            # The system writes it, so the owner of the data directory does not matter.
            yield _of_log(NamedLog('system-log', str(path)), replace(subject, owner=None))
            return


def _time(subject: Subject) -> tuple[float, float]:
    return subject.moment - logexcerpts.BEFORE, subject.moment + logexcerpts.AFTER
