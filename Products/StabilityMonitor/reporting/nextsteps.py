"""What to do now: three steps for an incident, chosen by its verdict and its evidence.

`_STEPS` is the table, in the order of preference.  A step that depends on the evidence is a
function of the record.  The first three that fit are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..model.action import NOTHING
from ..model.action import Action
from ..model.records import Frame
from ..model.runrecord import RunRecord
from ..model.threadstates import ThreadState
from ..model.tracebacksummary import exception_line
from ..postmortem import crashplace
from ..threads import codeorigin

#: How many steps are shown.
STEPS = 3
#: The last samples of a run that ran out of memory are close to the limit: this share of it.
_NEAR = 0.9
#: Classes of a death whose advice is worth more than a look at the code that crashed.
_TELLING = ('sent', 'file-cut-short', 'import', 'missing-instruction', 'two-copies', 'at-exit')
#: The words of a port that another process has.
_PORT_IN_USE = 'Address already in use'
#: Functions that wait for another computer or program.
_WAITS_OUTSIDE = (
    'connect',
    'recv',
    'recv_into',
    'read',
    'readinto',
    'poll',
    'select',
    'getaddrinfo',
)

#: A step, or a function that returns it for a record: NOTHING if it does not fit the evidence.
_Step = Action | Callable[[RunRecord], Action]


def next_steps(run: RunRecord, is_reported: bool = False) -> tuple[Action, ...]:
    """Return what to do about an incident, three steps; () for a run that ended as wanted.

    `run.known_issues` are those of today, see `knowledge.rulesinforce.of_incident`.
    `is_reported`: they are shown in a report, so that it is no step to make one.
    """
    if not run.is_incident:
        return ()
    if run.drill:
        return _DRILL
    found: list[Action] = []
    for row in _STEPS:
        if row.verdicts and run.verdict not in row.verdicts:
            continue
        if is_reported and row.step is _report:
            continue
        step = row.step if isinstance(row.step, Action) else row.step(run)
        if step and step not in found:
            found.append(step)
    return tuple(found[:STEPS])


#: After a drill there is nothing to repair.
_DRILL = (
    Action('Nothing needs to be repaired: this end was asked for, on the page Drills.'),
    Action('Compare the verdict and the evidence below with what the drill had announced.'),
    Action('On a site with visitors, write "drills off" into zope.conf after the last drill.'),
)


# -- of every verdict ------------------------------------------------------------------------------


def _known_issue(run: RunRecord) -> Action:
    for issue in run.known_issues:
        if issue.action and issue.strength in ('strong', 'likely'):
            title = issue.title or issue.id
            return Action.plain(f'This looks like the known issue "{title}": {issue.action}')
    return NOTHING


def _crashed_request(run: RunRecord) -> Action:
    for request in run.requests:
        if request.crashed:
            return Action(
                'Open {page} on a copy of the site, to see whether it happens again.',
                page=f'{request.method} {request.path}',
            )
    return NOTHING


def _was_sent(run: RunRecord) -> bool:
    """Whether a core file shows that the signal was sent, so that no code is to blame."""
    return run.death is not None and run.death.id == 'sent'


def _report(run: RunRecord) -> Action:
    names_code = run.exception or run.native or any(thread.frames for thread in run.threads)
    if not names_code or _was_sent(run):
        return NOTHING
    return Action(
        'Send the report to the maintainer of the code that is named here: press "Report", or run '
        '"stabilitymonitor report {run}".',
        run=run.run,
    )


_CHANGED_VERSIONS = Action(
    'If it began after an upgrade or a change of the configuration, undo that: what has changed '
    'since is listed below.'
)
_NEXT_TIME = Action(
    'If it happens again, compare the signatures: an equal signature means the same fault.'
)
_KEEP = Action('Press "Report" and keep the report: it has all that is known about this end.')


# -- crashes ---------------------------------------------------------------------------------------


def _crashed_thread(run: RunRecord) -> ThreadState | None:
    for thread in run.threads:
        if thread.crashed:
            return thread
    return None


def _where(frame: Frame) -> str:
    return f'{frame.function} ({codeorigin.place(frame.file).short}, line {frame.line})'


def _of_class(run: RunRecord) -> Action:
    """What the class of the death advises: it comes first where it names the cause."""
    if run.death is None or run.death.id not in _TELLING or not run.death.advice:
        return NOTHING
    return Action(run.death.advice)


def _suspect(run: RunRecord) -> Action:
    """The first suspect, if enough speaks for it."""
    for suspect in run.suspects[:1]:
        if suspect.strength == 'weak':
            return NOTHING
        package = suspect.distribution or suspect.module
        return Action(
            'Look for a newer release of {package}: its C code ({module}) is the first suspect.',
            package=f'{package} {suspect.version}'.strip(),
            module=suspect.module,
        )
    return NOTHING


def _class_advice(run: RunRecord) -> Action:
    """What other classes advise, after the suspect."""
    if run.death is None or not run.death.advice:
        return NOTHING
    return Action(run.death.advice)


def _c_code(run: RunRecord) -> Action:
    if _suspect(run) or _was_sent(run):
        return NOTHING
    for native in run.native:
        if native.binary.endswith('.so') or '.so.' in native.binary:
            return Action(
                'Look for a newer release of the package with {binary}: its C code crashed.',
                binary=native.binary,
            )
    thread = _crashed_thread(run)
    frames = crashplace.without_machinery(thread.frames) if thread else ()
    own = codeorigin.own(frames)
    is_of_python = bool(frames) and codeorigin.place(frames[0].file).kind == codeorigin.PYTHON
    if is_of_python and own and own != frames[0]:  # there is no newer release of `ctypes`
        return Action(
            'Look why {own} calls {place}: C code crashed there, and Python code alone does not.',
            own=_where(own),
            place=_where(frames[0]),
        )
    if frames:
        return Action(
            'Look which C code {place} calls, and for a newer release of its package: Python code '
            'alone does not crash.',
            place=_where(frames[0]),
        )
    return NOTHING


def _sender_of_fault(run: RunRecord) -> Action:
    """Of a fatal signal that nothing shows to come from the code itself: see `sentsignal`."""
    if not run.signal or run.confidence == 'certain' or run.core or run.kernel_fault:
        return NOTHING
    return Action(
        'First see whether {signal} was sent: look into the log of whatever supervises Zope and '
        'into "journalctl" at the time of the end, for a watchdog or a person.',
        signal=run.signal,
    )


def _core_file(run: RunRecord) -> Action:
    if run.core or run.death:  # a class that needs a core file says so itself
        return NOTHING
    return Action('Write "core-files on" into zope.conf: the next crash then leaves a core file.')


def _recursion(run: RunRecord) -> Action:
    thread = _crashed_thread(run)
    frame = codeorigin.own(thread.frames) if thread else None
    if frame is None:
        return NOTHING
    return Action('Find out why {place} calls itself without an end.', place=_where(frame))


_LARGER_STACK = Action(
    'If the recursion has an end and is only deep, write "thread-stack-size 16MB" into zope.conf.'
)


_WHO_ABORTED = Action(
    'Look in the evidence for the last words of C code: a library that aborts says why.'
)


# -- hangs -----------------------------------------------------------------------------------------


def _reasons(run: RunRecord) -> set[str]:
    return {hang.reason for hang in run.hangs if hang.lasts}


def _deadlock(run: RunRecord) -> Action:
    for hang in run.hangs:
        if hang.kind == 'deadlock' and hang.lasts:
            return Action(
                'Let the code take its locks in the same order everywhere: these threads waited '
                'for each other.'
            )
    return NOTHING


def _connections(run: RunRecord) -> Action:
    if 'connections' not in _reasons(run):
        return NOTHING
    return Action(
        'Find out who keeps connections open, and raise "connection_limit" in `[server:main]` of '
        'zope.ini.'
    )


def _descriptors(run: RunRecord) -> Action:
    if 'descriptors' not in _reasons(run):
        return NOTHING
    return Action(
        'Find out which files or sockets stay open, and raise the limit of the service '
        '("LimitNOFILE" of systemd, or "ulimit -n").'
    )


def _stuck_threads(run: RunRecord) -> list[ThreadState]:
    """Return the threads with a stack that hung; of these, those that served a request."""
    hung = {ident for hang in run.hangs if hang.lasts for ident in hang.threads}
    serving = {request.ident for request in run.requests}
    idents = (hung & serving) or hung or serving
    return [thread for thread in run.threads if thread.frames and thread.ident in idents]


def _stuck(run: RunRecord) -> Action:
    """The frame where most of the stuck threads were: code of the site, if there is any."""
    frames = [codeorigin.own(thread.frames) for thread in _stuck_threads(run)]
    for frame, _ in Counter(filter(None, frames)).most_common(1):
        return Action('Look at what {place} waits for or computes.', place=_where(frame))
    return NOTHING


def _timeout(run: RunRecord) -> Action:
    """Whether threads waited for something outside can be seen from the innermost frames."""
    for thread in _stuck_threads(run):
        if thread.frames[0].function in _WAITS_OUTSIDE:
            return Action(
                'Give the call a timeout, so that one slow server cannot keep all workers busy.'
            )
    return NOTHING


_LOOK_WHILE_IT_HANGS = Action(
    'If it hangs again, run "stabilitymonitor stacks" before you restart Zope: it shows what '
    'each thread waits for.'
)


# -- memory ----------------------------------------------------------------------------------------


def _memory_limit(run: RunRecord) -> Action:
    for sample in run.samples[-1:]:
        if 0 < sample.cgroup_limit and sample.cgroup_current > _NEAR * sample.cgroup_limit:
            return Action(
                'Raise the memory limit of the service or container, which is {limit} MiB.',
                limit=sample.cgroup_limit >> 20,
            )
    return Action(
        'See what else used the memory of this machine, and give Zope a limit of its own.'
    )


def _memory_user(run: RunRecord) -> Action:
    requests = sorted(run.requests, key=lambda request: request.started)
    if requests:
        return Action(
            'See whether {page} needs much memory: it was in progress.',
            page=f'{requests[0].method} {requests[0].path}',
        )
    return Action(
        'Look at "Memory over the whole life": a steady rise is a leak, a jump is one request.'
    )


_CACHE_SIZE = Action(
    'Lower "cache-size" in `<zodb_db main>` of zope.conf, or "threads" in `[server:main]` of '
    'zope.ini: each thread has a cache.'
)


# -- starts and exceptions -------------------------------------------------------------------------


def _port(run: RunRecord) -> Action:
    if _PORT_IN_USE not in run.exception:
        return NOTHING
    return Action('Find the process that uses the port with "ss -ltnp", and stop it.')


def _exception(run: RunRecord) -> Action:
    if not run.exception:
        return NOTHING
    return Action('Repair what the exception says: {what}', what=exception_line(run.exception))


_FOREGROUND = Action('Start Zope in a terminal with "runwsgi -v etc/zope.ini" to see its messages.')


# -- ends from outside -----------------------------------------------------------------------------


def _log_rotation(run: RunRecord) -> Action:
    if run.signal not in ('SIGHUP', 'SIGUSR1', 'SIGUSR2'):
        return NOTHING
    return Action(
        'Search /etc/logrotate.d for {signal}: remove the signal, and write "copytruncate" there.',
        signal=run.signal,
    )


def _sender(run: RunRecord) -> Action:
    return Action(
        'Find out who sent {signal}: a supervisor, a cron job, or a person.',
        signal=run.signal or 'the signal',
    )


_SYSTEM_LOG = Action(
    'Look into the log of the machine ("journalctl", "dmesg") and of whatever restarts Zope, at '
    'the time of the end.'
)


_WHO_KILLS = Action(
    'Find out who or what killed it: a person, a supervisor, the container runtime, or a health '
    'check that failed.'
)


_WHO_EXITS = Action(
    'Find the code that ends the process itself: search the code of the site for "os._exit", and '
    'think of C libraries, which may call "exit".'
)


def _unfinished_request(run: RunRecord) -> Action:
    """Code that ends the process itself, as `os._exit`, does so in a request."""
    began = sorted(run.requests, key=lambda request: request.started)
    for request in began[-1:]:
        return Action(
            'See whether {page} ends the process, on a copy of the site: it was in progress.',
            page=f'{request.method} {request.path}',
        )
    return NOTHING


_DISK = Action('See whether the disk with the data directory is full or damaged: "df -h".')


@dataclass(frozen=True)
class _Row:
    """A step, and the verdicts that it is for; () stands for all."""

    step: _Step
    verdicts: tuple[str, ...] = ()


_STEPS = (
    _Row(_known_issue),
    _Row(_of_class, ('crashed', 'aborted')),
    _Row(_sender_of_fault, ('crashed', 'aborted')),
    _Row(_recursion, ('stack-overflow',)),
    _Row(_suspect, ('crashed', 'aborted', 'stack-overflow', 'exited')),
    _Row(_c_code, ('crashed', 'exited')),
    _Row(_class_advice, ('crashed', 'aborted')),
    _Row(_crashed_request, ('crashed', 'stack-overflow', 'aborted')),
    _Row(_c_code, ('aborted',)),
    _Row(_core_file, ('crashed',)),
    _Row(_LARGER_STACK, ('stack-overflow',)),
    _Row(_WHO_ABORTED, ('aborted',)),
    _Row(_memory_limit, ('out-of-memory',)),
    _Row(_memory_user, ('out-of-memory',)),
    _Row(_CACHE_SIZE, ('out-of-memory',)),
    _Row(_port, ('startup-failed',)),
    _Row(_exception, ('startup-failed', 'unhandled-exception')),
    _Row(_FOREGROUND, ('startup-failed',)),
    _Row(_CHANGED_VERSIONS, ('startup-failed', 'unhandled-exception')),
    _Row(_deadlock, ('hung',)),
    _Row(_connections, ('hung',)),
    _Row(_descriptors, ('hung',)),
    _Row(_stuck, ('hung',)),
    _Row(_timeout, ('hung',)),
    _Row(_LOOK_WHILE_IT_HANGS, ('hung',)),
    _Row(_log_rotation, ('signalled',)),
    _Row(_sender, ('signalled',)),
    _Row(_DISK, ('unreadable',)),
    _Row(_unfinished_request, ('exited',)),
    _Row(_WHO_EXITS, ('exited',)),
    _Row(_SYSTEM_LOG, ('signalled', 'killed', 'exited', 'vanished', 'unreadable')),
    _Row(_unfinished_request, ('killed', 'vanished')),
    _Row(_WHO_KILLS, ('killed', 'vanished')),
    _Row(_report),
    _Row(_CHANGED_VERSIONS),
    _Row(_NEXT_TIME),
    _Row(_KEEP),
)
