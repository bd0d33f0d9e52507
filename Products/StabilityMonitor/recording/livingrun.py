"""The living run: the parts of the recording, made when a process starts.

The parts are a table.  Each is made under a separate guard, so that one that fails does not stop
the others.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import stat
import time
import traceback
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from types import TracebackType
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

from zope.interface import implementer

from ..model.action import NOTHING
from ..model.action import Action
from ..model.interfaces import ILivingRun
from ..model.options import for_record
from ..model.records import Instance
from ..model.severities import INFO
from ..model.severities import OK
from ..model.threadstates import Stacks
from ..store import blackbox
from ..store import distributionsets
from ..store.regularfiles import NO_DESCRIPTOR
from ..store.regularfiles import opened
from ..store.regularfiles import own_user
from ..store.rundirectory import BLACKBOX
from ..store.rundirectory import CONTEXT
from ..store.rundirectory import SERVING
from ..store.rundirectory import Base
from ..store.rundirectory import RunDirectory
from ..store.rundirectory import new_name
from ..store.rundirectory import preallocate
from ..store.rundirectory import write_whole
from ..system import runcontext
from ..system import runpipe
from ..system import stacksizes
from ..system.alternatestack import AlternateStacks
from ..system.distributions import installed
from ..system.mounts import network_file_system
from ..system.vitalsigns import descriptor_limit
from .faulthandler_compat import FaultLog
from .faulthandler_compat import MarkFile
from .faulthandler_compat import SignalMarks
from .heartbeat import Duty
from .heartbeatwork import Rounds
from .loghandler import BreadcrumbHandler
from .partguard import Findings
from .recorder import Recorder
from .safemode import ArmingMarker
from .slowrequests import Profile
from .stackwatch import StackWatch

if TYPE_CHECKING:  # it imports logging.handlers, and most runs have no trace log
    from .tracelog import TraceLog

_DIRECTORY_ACTION = Action(
    'Make the data directory writable for the user that Zope runs as, make sure that its disk has '
    'free space, and restart Zope.'
)

#: Below this limit of open files, parts that hold many descriptors are off: Zope alone needs about
#: 13 and one for each connection, and this product up to 37, without those of `siblings`.
_FEW_DESCRIPTORS = 64


@implementer(ILivingRun)
class LivingRun:
    """See ILivingRun.  A part that cannot be made becomes a finding, never an error."""

    def __init__(
        self,
        options: SimpleNamespace,
        instance: Instance,
        role: str,
        software: dict[str, Any],
    ) -> None:
        self.options = options
        self.configured: Mapping[str, str] = {}  # the options of zope.conf, for a forked worker
        self.environ: Mapping[str, str] = {}
        self.instance = instance
        self.role = role
        self.software = software
        self.findings = Findings()
        self.started = time.time()
        self.started_monotonic = time.monotonic()
        self.pid = os.getpid()
        self.name = new_name(self.started, self.pid)
        directory = options.directory or os.path.join(instance.client_home, 'stability')
        self.base = Base(directory, options.group, is_ours=True)
        self.context: dict[str, Any] = {}
        self.safe_mode = False
        self.is_serving = False
        self.is_short_of_descriptors = False
        self.smallest_stack: tuple[int, int] | None = None
        self._on_disk: tuple[str, ...] = (CONTEXT,)  # files of the run directory that must exist
        self.directory: RunDirectory | None = None
        self.marker: ArmingMarker | None = None
        self.recorder: Recorder | None = None
        self.fault_log: FaultLog | None = None
        self.marks: SignalMarks | None = None
        self.signal_stacks: AlternateStacks | None = None
        self.parent_stacks: AlternateStacks | None = None  # in a forked worker
        self.gauge: StackWatch | None = None
        self.trace_log: TraceLog | None = None
        self.handler: BreadcrumbHandler | None = None
        self.rounds: Rounds | None = None

    @property
    def path(self) -> Path:
        return self.base.path

    # -- parts -------------------------------------------------------------------------------------

    def start(self) -> None:
        self._look_at_descriptors()
        for part in _PARTS:
            if part.is_risky and self.safe_mode:
                continue
            if part.holds_descriptors and self.is_short_of_descriptors:
                continue
            with self.findings.guarded(part.name, part.what_is_off, part.action):
                part.make(self)

    def _look_at_descriptors(self) -> None:
        limit = descriptor_limit()
        if 0 <= limit < _FEW_DESCRIPTORS:
            self.is_short_of_descriptors = True
            self.findings.add(
                'few-descriptors',
                f'This process may open {limit} files only: signal marks and watchdog are off.',
                'They would hold descriptors that Zope needs to answer.  Signals that end the '
                'process are not recorded, nor hangs in which C code holds the GIL.',
                Action(
                    'Raise the limit of open files ("ulimit -n" or `LimitNOFILE`) to {least} or '
                    'more, and restart Zope.',
                    least=_FEW_DESCRIPTORS,
                ),
            )

    def _thread_stacks(self) -> None:
        stacksizes.raise_size(self.options.thread_stack_size)
        self._check_stack(stacksizes.default_stack())

    def _check_stack(self, stack: tuple[int, int] | None) -> None:
        finding = stacksizes.check(stack)
        if finding.severity != OK:
            self.findings.add(
                finding.id,
                finding.title,
                finding.detail,
                finding.action,
                finding.severity,
            )

    def _core_files(self) -> None:
        if self.options.core_files:
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    def _run_directory(self) -> None:
        self.context = runcontext.collect(self.software, self.instance, self.role)
        self._keep_away_from_others()
        self._open_to_group()
        self._report_loose_folders()
        # The command `stabilitymonitor` needs the options, and cannot read zope.conf.
        self.context['options'] = for_record(self.options) | {'group': self.base.group}
        self.directory = self.base.create(self.name, self.context)
        if self.directory.locked is None:
            self.findings.add(
                'no-flock',
                'The file system of the data directory has no file locks.',
                f'{self.path}: a run counts as dead when its process is gone, or, where that is '
                'not known, when its files have not changed for long.',
                Action('Move the data directory to a local disk with the option "directory".'),
                INFO,
            )

    def _tell_parent(self) -> None:
        """Tell "stabilitymonitor run", if it has started this process, which run this is."""
        if self.directory:
            with contextlib.suppress(OSError, ValueError):  # another program has closed the pipe
                runpipe.tell(self.environ, self.pid, str(self.path), self.name)

    def _keep_away_from_others(self) -> None:
        """Use a directory of our own if the data directory belongs to another user.

        That user could forge all records, and the key of the forms.  It is a common case: a
        container gets another user id after each deployment, on a volume that stays.
        """
        owner = self.base.foreign_owner
        if owner is None:
            return
        foreign = self.base
        uid = own_user()
        instead = Path(f'{foreign.path}-{uid}')
        own = Base(instead, is_ours=True)
        try:
            if own.path != instead:  # anybody may have put it there
                raise OSError('It is a link')
            own.prepare()
        except OSError as error:
            raise OSError(
                f'{foreign.path} belongs to another user (uid {owner}), and {instead} cannot be '
                f'used instead: {error}'
            ) from error
        own.group = foreign.group
        self.base = own
        self.findings.add(
            'foreign-directory',
            f'The data directory belongs to another user (uid {owner}), so {own.path} is used '
            'instead.',
            f'{foreign.path}: what lies there is neither read nor changed, because that user could '
            f'have forged it. This process has the uid {uid}.',
            Action(
                'Give it to the user of Zope with "chown -R {uid} {directory}", or set the option '
                '"directory" to another one, and restart Zope.',
                uid=uid,
                directory=foreign.path,
            ),
        )

    def _report_loose_folders(self) -> None:
        folders = self.base.loose
        if not folders:
            return
        modes = [f'{folder} {stat.filemode(folder.lstat().st_mode)}' for folder in folders]
        self.findings.add(
            'loose-directory',
            'Other users could write to the data directory; this was repaired.',
            f'The modes are now: {", ".join(modes)}. Files of other users there are not used.',
            Action(
                'Find out what opened it, for example a script with chmod. If others shall read '
                'there, set the option "group".'
            ),
        )

    def _open_to_group(self) -> None:
        try:
            self.base.prepare()
        except (KeyError, PermissionError) as error:
            if self.base.group:
                self.findings.add(
                    'group',
                    f'The group {self.base.group!r} cannot read the breadcrumbs.',
                    str(error),
                    Action(
                        'Set the option "group" to a group that exists and that the user of Zope '
                        'belongs to, and restart Zope.'
                    ),
                )
                self.base.group = ''

    def _arming_marker(self) -> None:
        self.marker = ArmingMarker(self.path, self.instance)
        self.safe_mode = self.marker.is_safe_mode()
        if self.safe_mode:
            self.findings.add(
                'safe-mode',
                'Safe mode: the last two starts died while this product was starting to record.',
                'Its risky parts are off: black box, fault log, signal marks, heartbeat.',
                Action(
                    'To try again, delete the folder {folder} and restart Zope.',
                    folder=self.marker.folder,
                ),
            )
        elif self.directory:
            self.marker.set()

    def _black_box(self) -> None:
        kind = Recorder
        if self.options.trace_log:
            from .tracelog import TracingRecorder

            kind = TracingRecorder
        self.recorder = kind(self._buffer(), self._new_thread)
        blackbox.lay_out(self.recorder.buffer)
        blackbox.seal(self.recorder.buffer)
        self._note_unmarked()  # there are no signal marks yet, and perhaps there never will be

    def _buffer(self) -> mmap.mmap:
        """Return the mapped file of the black box; only memory if the file cannot be made."""
        if self.directory is None:
            return mmap.mmap(-1, blackbox.SIZE)
        network = network_file_system(self.directory.path)
        if network:
            self.findings.add(
                'network-volume',
                f'The breadcrumbs are on a network file system ({network}).',
                'The black box is kept in memory only; fault log and signal marks are written.',
                Action('Move the data directory to a local disk with the option "directory".'),
            )
        else:
            with self.findings.guarded(
                'black-box-file',
                'The black box is kept in memory only: a later run will not '
                'know which requests were in progress.',
                _DIRECTORY_ACTION,
            ):
                file = self.directory.path / BLACKBOX
                descriptor = preallocate(file, blackbox.SIZE, self.base.file_mode)
                self._on_disk = (CONTEXT, BLACKBOX)
                try:
                    return mmap.mmap(descriptor, blackbox.SIZE)
                finally:
                    os.close(descriptor)
        return mmap.mmap(-1, blackbox.SIZE)

    def _fault_log(self) -> None:
        if self.directory:
            self.fault_log = FaultLog(self.directory.path, self.base.file_mode)
            if self.fault_log.was_enabled:
                # Python does not tell which file it was, so nothing can be copied there.
                self.findings.add(
                    'faulthandler-moved',
                    'faulthandler was enabled before: its dump of a crash goes elsewhere now.',
                    'PYTHONFAULTHANDLER, "-X faulthandler" or a call of faulthandler.enable() had '
                    'sent it to standard error or to a file, which gets no dump any more.',
                    Action(
                        'Nothing is lost: the next start shows the dump, and '
                        '"stabilitymonitor show" prints it.  To have it in the other file again, '
                        'set the option `enabled` to off.'
                    ),
                    INFO,
                )

    def _signal_marks(self) -> None:
        if self.directory:
            self.marks = SignalMarks(self.directory.path, self.base.file_mode)
            self._note_unmarked()

    def _note_unmarked(self) -> None:
        """Record which signals leave no mark: a missing mark of these rules nothing out."""
        if self.recorder:
            unmarked = self.marks.unmarked() if self.marks else SignalMarks.SIGNALS
            self.recorder.set_word('unmarked', blackbox.bits_of(unmarked))

    def _alternate_stacks(self) -> None:
        self.signal_stacks = AlternateStacks()

    def _stack_gauge(self) -> None:
        if self.recorder:
            self.gauge = StackWatch(self.recorder, self.findings)

    def _trace_log(self) -> None:
        options = self.options
        if not options.trace_log:
            return
        from .tracelog import TraceLog
        from .tracelog import TracingRecorder

        if isinstance(self.recorder, TracingRecorder):
            self.trace_log = TraceLog(
                path=self.path / options.trace_log,  # an absolute path stays unchanged
                size=options.trace_log_size,
                keep=options.trace_log_keep,
                recorder=self.recorder,
                findings=self.findings,
                mode=self.base.file_mode,
                label=self.name,
            )

    def _log_handler(self) -> None:
        if self.recorder:
            self.handler = BreadcrumbHandler(self.recorder, self.options.capture_log)
            self._check_handler()

    def _start_rounds(self) -> None:
        if self.recorder:
            self.rounds = Rounds(self)
            if self.role == 'script':
                # No thread before it is needed: a script that forks would get a warning.
                self.rounds.look_once()
            else:
                self.rounds.start()
            self.in_background(self._note_installed)

    def _note_installed(self) -> None:
        """Record which distributions are installed.  The next process matches a crash with the
        known issues of these versions.  This runs in the thread "errands" if there is one.
        """
        if self.directory:
            distributionsets.keep(self.base, self.directory.path, *installed())
            self._report_loose_folders()

    def mark_files(self) -> dict[str, MarkFile]:
        """Return the mark files by name."""
        files = {}
        if self.marks:
            files.update(self.marks.files)
        if self.fault_log:
            files['faults'] = self.fault_log.file
        return files

    def checks(self) -> tuple[tuple[Duty, ...], tuple[Duty, ...]]:
        """Return the checks for each round, and the inspections, one of which runs in each round.

        The first are those without which a crash leaves no trace.
        """
        return (
            (self._check_fault_log, self._check_marks, self._check_handler),
            (self._check_directory, self._check_serving_stacks),
        )

    # -- while it lives ----------------------------------------------------------------------------

    def _new_thread(self, index: int) -> None:
        """Prepare a new worker.  Called once, in the worker itself."""
        if self.rounds and not self.rounds.is_started:
            with self.findings.guarded('late-heartbeat', 'The heartbeat does not run.'):
                self.rounds.start()  # a script that serves needs what a server needs
        with self.findings.guarded(
            'new-thread',
            'Workers have no alternate signal stack.',
            Action('Nothing can be done; a stack overflow in a worker will leave no dump.'),
        ):
            if self.signal_stacks:
                self.signal_stacks.install(index)
            if self.gauge is None:
                return
            stack = self.gauge.enter(index)
            if stack is None:
                return
            found = (stack.size, stack.guard)
            if self.smallest_stack is None or found < self.smallest_stack:
                self.smallest_stack = found

    def _check_fault_log(self) -> None:
        if self.fault_log is None:
            return
        trouble = self.fault_log.check()
        if trouble:
            self.findings.add(
                'fault-log',
                'Other code has interfered with the fault log; this was repaired.',
                trouble,
                Action('Remove the call of faulthandler from that code.'),
            )

    def _check_marks(self) -> None:
        if self.marks is None:
            return
        self._note_unmarked()
        trouble = self.marks.check()
        if trouble:
            self.findings.add(
                'marks-closed',
                'Other code has interfered with the signal marks; this was repaired.',
                trouble,
                Action('Find the code that closes all descriptors, and run it before Zope starts.'),
            )

    def _check_directory(self) -> None:
        if self.directory is None:
            return
        path = self.directory.path
        is_whole = False
        try:
            with opened(path) as folder:
                is_whole = all(folder.has(name) for name in self._on_disk)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:  # then nothing is known
                return
        if not is_whole:
            self.findings.add(
                'breadcrumbs-gone',
                'The breadcrumbs of this run were deleted.',
                f'Files are missing in {path}: the next start cannot say how this run ended.',
                Action('Restart Zope, and exclude the data directory from any cleanup job.'),
            )

    def _check_serving_stacks(self) -> None:
        """Check the smallest stack of the workers: the server may have set another size than the
        default.
        """
        if self.smallest_stack:
            self._check_stack(self.smallest_stack)

    def _check_handler(self) -> None:
        """Add our log handler if the root logger has others.  As the only one, it would switch off
        logging.basicConfig and logging.lastResort.
        """
        root = logging.getLogger()
        has_others = bool(root.handlers)
        if self.handler and has_others and self.handler not in root.handlers:
            root.addHandler(self.handler)

    @property
    def is_watched(self) -> bool:
        return self.rounds is not None and self.rounds.is_started

    def in_background(self, errand: Duty) -> None:
        if self.rounds and self.rounds.is_started:
            self.rounds.heartbeat.errands.append(errand)
        else:
            with self.findings.guarded('errand', 'A task in the background has failed.'):
                errand()

    def every_beat(self, duty: Duty) -> None:
        if self.rounds and duty not in self.rounds.heartbeat.duties:
            self.rounds.heartbeat.duties.append(duty)

    def every_round(self, duty: Duty) -> None:
        if self.rounds and duty not in self.rounds.heartbeat.rounds:
            self.rounds.heartbeat.rounds.append(duty)

    def answer(self, subject: str, tell: Callable[[], dict[str, Any]]) -> None:
        if self.rounds:
            self.rounds.answers[subject] = tell

    def stacks(self) -> Stacks:
        if self.rounds is None:
            return Stacks()
        return self.rounds.stacks()

    def slow_requests(self) -> tuple[Profile, ...]:
        if self.rounds is None:
            return ()
        return tuple(self.rounds.slow.known())

    def serving(self, listen: str = '') -> None:
        """Note that Zope serves, and which modules and products are loaded."""
        self.is_serving = True
        if self.recorder:
            self.recorder.stamp('serving', time.time())
        if self.rounds:
            # Code of the site may have interfered with the recording since arming: check it now.
            self.rounds.heartbeat.is_round_due = True
            self.rounds.serving()
            self.rounds.ends.serve()
        if self.directory:
            with self.findings.guarded(
                'serving-context', 'The compiled modules and products of this run are not recorded.'
            ):
                loaded = {
                    'compiled_modules': runcontext.compiled_modules(),
                    'products': runcontext.products(),
                    'listen': listen,
                }
                path = self.directory.path / SERVING
                write_whole(path, json.dumps(loaded), self.base.file_mode)
            if self.role == 'server' and self.is_watched:
                self._note_objects(self.directory)

    def _note_objects(self, directory: RunDirectory) -> None:
        """Record in the background which shared objects are mapped, and again after imports."""
        from .objectnotes import ObjectNotes  # not while Zope starts

        notes = ObjectNotes(self.base, directory, self.in_background)
        self.in_background(notes.write)
        self.every_round(notes.look_at_imports)

    def armed(self) -> None:
        """Note that arming and triage are done."""
        if self.recorder:
            self.recorder.stamp('armed', time.time())
        if self.marker:
            self.marker.clear(also_failed=not self.safe_mode)

    def failed(
        self,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
    ) -> None:
        """Record the exception with which the main thread ends."""
        if self.recorder:
            lines = traceback.format_exception(kind, error, trace)
            frames = ''.join(lines[-12:-1])
            message = lines[-1][:500]
            self.recorder.exception(frames + message)

    def watch_end(self) -> None:
        """Watch from now on how long the interpreter takes to end.  `finish` comes next."""
        if self.rounds:
            self.rounds.watch_end()

    def finish(self) -> None:
        """Note that the interpreter ends normally, and stop the heartbeat.

        If other code handles SIGABRT, a dump of it may be what this exit comes from: gunicorn sends
        it to a worker that is too slow, and the handler exits.  So such a dump is survived.
        """
        if self.recorder:
            if self.fault_log and self.fault_log.abort_may_be_outlived:
                self.recorder.survived('faults', self.fault_log.file.length)
            self.recorder.stamp('finished', time.time())
        if self.rounds:
            self.rounds.stop()
        if self.trace_log:
            self.trace_log.finish()

    def detach(self) -> None:
        """In a forked child: release everything that belongs to the parent, without changing it."""
        if self.directory:
            self.directory.abandon()
        for part in (self.fault_log, self.marks, self.rounds, self.trace_log, self.recorder):
            if part:
                with contextlib.suppress(Exception):
                    part.detach()
        handlers = logging.getLogger().handlers
        if self.handler and self.handler in handlers:
            handlers.remove(self.handler)


class _Part(NamedTuple):
    """A part of the run: the function that makes it, the finding and the action if that fails, and
    whether safe mode leaves the part off, and
    whether it holds so many descriptors that a low limit of open files does.
    """

    name: str
    make: Callable[[LivingRun], None]
    what_is_off: str
    action: Action = NOTHING
    is_risky: bool = True
    holds_descriptors: bool = False


_PARTS = (
    _Part(
        'thread-stack-size',
        LivingRun._thread_stacks,
        'The stack size of threads could not be set.',
        Action('Correct the option thread-stack-size, and restart Zope.'),
        is_risky=False,
    ),
    _Part(
        'core-files-allowed',
        LivingRun._core_files,
        'Core files could not be enabled.',
        is_risky=False,
    ),
    _Part(
        'run-directory',
        LivingRun._run_directory,
        'Nothing is kept on disk: a crash will leave no trace.',
        _DIRECTORY_ACTION,
        is_risky=False,
    ),
    _Part(
        'run-pipe',
        LivingRun._tell_parent,
        'The command "stabilitymonitor run" cannot tell how this run ends.',
        is_risky=False,
    ),
    _Part(
        'arming-marker',
        LivingRun._arming_marker,
        'Safe mode is not available.',
        _DIRECTORY_ACTION,
        is_risky=False,
    ),
    _Part(
        'black-box',
        LivingRun._black_box,
        'Requests, log lines and samples are not recorded.',
        _DIRECTORY_ACTION,
    ),
    _Part(
        'fault-log',
        LivingRun._fault_log,
        'A crash will leave no stacks.',
        _DIRECTORY_ACTION,
    ),
    _Part(
        'signal-marks',
        LivingRun._signal_marks,
        'Signals that end the process are not recorded.',
        _DIRECTORY_ACTION,
        holds_descriptors=True,
    ),
    _Part(
        'alternate-stacks',
        LivingRun._alternate_stacks,
        'A stack overflow in a worker will leave no dump.',
        Action('Nothing can be done: this system has no alternate signal stacks.'),
    ),
    _Part(
        'stack-gauge',
        LivingRun._stack_gauge,
        'The stack depth of threads is not recorded.',
    ),
    _Part(
        'trace-log',
        LivingRun._trace_log,
        'No trace log is written.',
        _DIRECTORY_ACTION,
    ),
    _Part(
        'log-handler',
        LivingRun._log_handler,
        'Log lines are not recorded.',
    ),
    _Part(
        'heartbeat',
        LivingRun._start_rounds,
        'The heartbeat does not run: no samples are taken, and hangs are not recorded.',
    ),
)
