"""The fault matrix: a real Zope dies in every known way, and the next real start says how.

One instance serves all rows: the process that reports the death of one row is the process that dies
in the next row.

Rows of CRASHES, SILENT and STOPS without `before` are run a second time without the product, with
the setting OFF.  So a row with its own `setting` belongs into another tuple.  A page that dies is a
function in `products/ways_to_die.py`; a package that changes something before the product arms has
a name before "StabilityMonitor" and is published in `deaths.Site.create`.
"""

import dataclasses
import os
import signal
import sys

import pytest
from support import deaths
from support.deaths import EARLY
from support.deaths import LATE
from support.deaths import NOHUP
from support.deaths import OFF
from support.deaths import PID_1
from support.deaths import STALLING
from support.deaths import USUAL
from support.deaths import Setting
from support.deaths import by
from support.deaths import in_flight
from support.deaths import page
from support.deaths import survived
from support.deaths import unlucky

pytestmark = pytest.mark.zope


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to die, and what the next start must report.  `says` and `mentions` are words of the
    summary or the evidence.
    """

    id: str
    die: object
    verdict: str
    exit: int | None  # None: the process that the test started is not Zope itself
    signal: str | None = None
    crashed: str | None = None
    requests: tuple = ()
    thread: str = ''
    confidence: str = ''
    before: object = None
    setting: Setting = USUAL
    says: str = ''
    mentions: tuple = ()
    not_ruled_out: str = ''
    ruled_out: tuple = ()


#: What remains after a silent end are SIGKILL, an exit in C, and a signal that leaves no mark.
_SILENT = dict(
    verdict='vanished',
    confidence='weak',
    ruled_out=('OOM killer', 'fatal error', 'Not a crash', 'SIGTERM', 'restart'),
)
#: The beginning of a worker's name, which the black box has; a dump has it from Python 3.14 on.
_WORKER = 'waitress-'


def crash(id, path, name, code, **more):
    return Row(
        id,
        page(path),
        'crashed',
        code,
        name,
        crashed=path,
        confidence='certain',
        thread=_WORKER,
        **more,
    )


def signalled(name, code):
    return Row(
        f'{name} by default', by(name), 'signalled', -code, name, confidence='strong', says=name
    )


CRASHES = (
    crash('segfault in a worker', '/segfault', 'SIGSEGV', -11, says='Segmentation fault'),
    Row(
        'segfault in the main thread',
        page('/segfault_in_main'),
        'crashed',
        -11,
        'SIGSEGV',
        thread='MainThread',
        requests=('/segfault_in_main',),
        confidence='certain',
    ),
    Row(
        'segfault in a native thread',
        page('/segfault_in_native_thread'),
        'crashed',
        -11,
        'SIGSEGV',
        requests=('/segfault_in_native_thread',),
        confidence='certain',
        says='names no crashed thread',
    ),
    Row(
        'segfault among more than 100 threads',
        page('/segfault_among_many'),
        'crashed',
        -11,
        'SIGSEGV',
        requests=('/segfault_among_many',),
        confidence='certain',
        says='names no crashed thread',
    ),
    Row(
        'kill -SEGV from outside',
        by('SIGSEGV'),
        'crashed',
        -11,
        'SIGSEGV',
        thread='MainThread',
        before=in_flight('/wait'),
        requests=('/wait',),
        confidence='strong',
        says='or another process sent',
    ),
    crash('bus error', '/raise_signal?number=7', 'SIGBUS', -7),
    crash('illegal instruction', '/raise_signal?number=4', 'SIGILL', -4),
    crash('floating point exception', '/raise_signal?number=8', 'SIGFPE', -8),
    Row(
        'stack overflow in a worker',
        page('/overflow_stack'),
        'stack-overflow',
        -11,
        'SIGSEGV',
        crashed='/overflow_stack',
        confidence='strong',
        thread=_WORKER,
        says='repeat the same few functions',
    ),
    Row(
        'stack overflow in the main thread',
        page('/overflow_stack_in_main'),
        'stack-overflow',
        -11,
        'SIGSEGV',
        requests=('/overflow_stack_in_main',),
        thread='MainThread',
    ),
    Row(
        'stack overflow that was seen as it came near the end',
        deaths.go_on,
        'stack-overflow',
        -11,
        'SIGSEGV',
        before=deaths.dived('/dive_and_overflow', 1 / 2, 15 / 16),
        crashed='/dive_and_overflow',
        confidence='certain',
        thread=_WORKER,
        says='measured in the request that crashed',
    ),
    Row(
        'segfault after a recursion that was survived',
        deaths.go_on,
        'crashed',
        -11,
        'SIGSEGV',
        before=deaths.dived('/dive_and_crash', 15 / 16),
        crashed='/dive_and_crash',
        confidence='certain',
        thread=_WORKER,
        says='had been nearly full',
    ),
    Row(
        'os.abort',
        page('/abort'),
        'aborted',
        -6,
        'SIGABRT',
        crashed='/abort',
        confidence='certain',
        thread=_WORKER,
    ),
    Row(
        'glibc: double free',
        page('/double_free'),
        'aborted',
        -6,
        'SIGABRT',
        crashed='/double_free',
        confidence='certain',
        thread=_WORKER,
        says='in double_free, while serving GET /double_free',
        mentions=('Last words of C code: "free(): double free detected',),
    ),
    Row(
        'kill -ABRT from outside',
        by('SIGABRT'),
        'aborted',
        -6,
        'SIGABRT',
        thread='MainThread',
        confidence='strong',
        says='or another process sent',
    ),
    Row(
        'fatal error of Python, stderr to a file',
        page('/fatal_error'),
        'aborted',
        -6,
        'SIGABRT',
        crashed='/fatal_error',
        confidence='certain',
        thread=_WORKER,
        says='the drill for fatal errors',
        mentions=('in fatal_error, while serving GET /fatal_error',),
    ),
)

SILENT = (
    Row('os._exit', page('/leave'), exit=5, requests=('/leave',), **_SILENT),
    Row('exit in C', page('/exit_in_c'), exit=6, requests=('/exit_in_c',), **_SILENT),
    Row('SIGKILL', by('SIGKILL'), exit=-9, **_SILENT),
    Row('a signal that leaves no mark', by('SIGSYS'), exit=-31, **_SILENT),
    Row(
        'SIGKILL while serving',
        by('SIGKILL'),
        exit=-9,
        before=in_flight('/wait', '/wait'),
        requests=('/wait', '/wait'),
        **_SILENT,
    ),
)

STOPS = (
    Row('SIGTERM while idle', by('SIGTERM'), 'stopped', -15, 'SIGTERM', confidence='strong'),
    Row(
        'SIGTERM while serving',
        by('SIGTERM'),
        'stopped',
        -15,
        'SIGTERM',
        before=in_flight('/wait'),
        requests=('/wait',),
    ),
    Row('SIGINT', by('SIGINT'), 'stopped', 0, 'SIGINT', confidence='strong'),
    Row(
        'SIGINT while serving',
        by('SIGINT'),
        'stopped',
        0,
        'SIGINT',
        before=in_flight('/wait'),
        requests=('/wait',),
        confidence='strong',
    ),
    Row(
        'SystemExit in the main thread',
        page('/leave_main'),
        'stopped',
        0,
        confidence='strong',
        requests=('/leave_main',),
        says='normal exit',
    ),
    *(
        signalled(name, code)
        for name, code in (
            ('SIGHUP', 1),
            ('SIGQUIT', 3),
            ('SIGUSR1', 10),
            ('SIGUSR2', 12),
            ('SIGALRM', 14),
            ('SIGXCPU', 24),
        )
    ),
    Row(
        'exception in the main thread',
        page('/raise_in_main'),
        'unhandled-exception',
        1,
        confidence='certain',
        requests=('/raise_in_main',),
        says='RuntimeError: out of luck',
    ),
    Row('reboot', deaths.reboot, 'host-restarted', -9, says='The machine booted at'),
)

SURVIVED = (
    Row(
        'USR1 has a handler of another package, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        setting=EARLY,
        before=survived('SIGUSR1', 'SIGUSR1'),
        **_SILENT,
    ),
    Row(
        'USR1 has a handler of another package, then SIGTERM',
        by('SIGTERM'),
        'stopped',
        -15,
        'SIGTERM',
        setting=EARLY,
        before=survived('SIGUSR1', 'SIGUSR1'),
    ),
    Row(
        'USR1 has a handler of another package, then a crash',
        page('/segfault'),
        'crashed',
        -11,
        'SIGSEGV',
        crashed='/segfault',
        thread=_WORKER,
        setting=EARLY,
        before=survived('SIGUSR1', 'SIGUSR1'),
    ),
    Row(
        'USR1 has a handler of a package imported later, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        setting=LATE,
        before=survived('SIGUSR1'),
        **_SILENT,
    ),
    Row(
        'a child crashed, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        before=deaths.a_child_died(11),
        **_SILENT,
    ),
    Row(
        'a child was aborted, then SIGTERM',
        by('SIGTERM'),
        'stopped',
        -15,
        'SIGTERM',
        before=deaths.a_child_died(6),
    ),
    Row(
        'a child was terminated, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        before=deaths.a_child_died(15),
        **_SILENT,
    ),
    Row(
        'a child had a fatal error, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        before=deaths.a_child_had_a_fatal_error,
        **_SILENT,
    ),
    Row(
        'a child was killed, then a crash',
        page('/segfault'),
        'crashed',
        -11,
        'SIGSEGV',
        crashed='/segfault',
        thread=_WORKER,
        before=deaths.a_child_died(9),
    ),
    Row(
        'nohup: SIGHUP is ignored, then SIGKILL',
        by('SIGKILL'),
        exit=-9,
        setting=NOHUP,
        before=survived('SIGHUP'),
        **_SILENT,
    ),
    Row(
        'nohup: SIGHUP is ignored, then SIGTERM',
        by('SIGTERM'),
        'stopped',
        -15,
        'SIGTERM',
        setting=NOHUP,
        before=survived('SIGHUP'),
    ),
)

_LOCK, _GIL = deaths.all_wait_for_a_lock, deaths.c_code_holds_the_gil
_WAITING, _HOLDING = ('/wait',) * 4, ('/hold_gil',)
#: The report of a hang names the threads, the place, the beginning and the duration.
_TOLD = (
    'All 4 workers have been busy with requests for longer than 1 s: each of 4 ',
    ' in wait; it lasted from 2',
    ' UTC until the run ended, for ',
)
HANGS = (
    Row(
        'SIGTERM while hung on a lock',
        by('SIGTERM'),
        'hung',
        -15,
        'SIGTERM',
        before=_LOCK,
        requests=_WAITING,
        setting=STALLING,
        confidence='strong',
        says='All 4 workers have been busy',
    ),
    Row(
        'SIGKILL while hung on a lock',
        by('SIGKILL'),
        'hung',
        -9,
        before=_LOCK,
        requests=_WAITING,
        setting=STALLING,
        says='ended without a trace',
    ),
    *(
        Row(
            f'{name} while hung on a lock',
            by(name),
            verdict,
            code,
            name,
            before=_LOCK,
            requests=_WAITING,
            setting=STALLING,
            mentions=_TOLD,
        )
        for name, verdict, code in (
            ('SIGINT', 'hung', 0),
            ('SIGUSR2', 'hung', -12),
            ('SIGSEGV', 'crashed', -11),
        )
    ),
    Row(
        'SIGTERM while C code holds the GIL',
        by('SIGTERM'),
        'hung',
        -15,
        'SIGTERM',
        before=_GIL,
        requests=_HOLDING,
        setting=STALLING,
        confidence='strong',
        says='interpreter lock (GIL)',
    ),
    Row(
        'SIGKILL while C code holds the GIL',
        by('SIGKILL'),
        'hung',
        -9,
        before=_GIL,
        requests=_HOLDING,
        setting=STALLING,
        says='ended without a trace',
    ),
    Row(
        'kill -SEGV while C code holds the GIL',
        by('SIGSEGV'),
        'crashed',
        -11,
        'SIGSEGV',
        before=_GIL,
        requests=_HOLDING,
        setting=STALLING,
        confidence='strong',
        says='or another process sent',
    ),
)

_UNSEEN = dict(
    verdict='vanished', exit=-6, requests=('/fatal_error',), not_ruled_out='Py_FatalError'
)
ELSEWHERE = (
    Row(
        'fatal error of Python, stderr to /dev/null',
        page('/fatal_error'),
        setting=Setting('null'),
        **_UNSEEN,
    ),
    Row(
        'fatal error of Python, stderr to a pipe',
        page('/fatal_error'),
        setting=Setting('pipe'),
        **_UNSEEN,
    ),
)

AS_PID_1 = (
    Row(
        'pid 1: SIGTERM does not kill, then SIGKILL',
        by('SIGKILL'),
        'stopped',
        None,
        'SIGTERM',
        setting=PID_1,
        before=survived('SIGTERM', 'SIGTERM'),
        confidence='likely',
        says='as pid 1 of its container it ignores SIGTERM',
        ruled_out=('OOM killer', 'fatal error', 'Not a crash', 'Not SIGTERM, which arrived at'),
    ),
    Row(
        'pid 1: kill -SEGV does not kill, then SIGKILL',
        by('SIGKILL'),
        exit=None,
        setting=PID_1,
        before=survived('SIGSEGV', 'faults'),
        **_SILENT | dict(confidence='likely'),
    ),
    Row(
        'pid 1: SIGHUP does not kill, then SIGINT',
        by('SIGINT'),
        'stopped',
        0,
        'SIGINT',
        setting=PID_1,
        before=survived('SIGHUP', 'SIGHUP'),
    ),
    crash('pid 1: segfault', '/segfault', 'SIGSEGV', -11, setting=PID_1),
    Row(
        'pid 1: os.abort',
        page('/abort'),
        'aborted',
        -11,
        'SIGABRT',
        crashed='/abort',
        thread=_WORKER,
        setting=PID_1,
    ),
)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    site = deaths.Site(tmp_path_factory.mktemp('site')).create()
    yield site
    site.destroy()


def rows(table, *marks):
    return [pytest.param(row, id=row.id, marks=marks) for row in table]


@pytest.mark.parametrize(
    'row',
    [
        *rows(CRASHES + SILENT + STOPS),
        *rows(SURVIVED + ELSEWHERE, pytest.mark.thorough),
        *rows(HANGS),
        *rows(AS_PID_1, pytest.mark.root, pytest.mark.thorough),
    ],
)
def test_the_next_start_says_how_the_last_run_ended(site, row):
    site.run_as(row.setting)
    run, known = site.run_directory.name, site.archived()
    if row.before:
        row.before(site)
    row.die(site)
    ended = site.wait_exit()
    if row.exit is not None:
        assert ended == (-signal.SIGSEGV if has_second_fault(site.run_directory) else row.exit)
    site.run_as(USUAL if row.setting in (OFF, PID_1) else row.setting)
    assert site.archived() == known | {run}
    check(row, run, site.previous())


def has_second_fault(folder):
    """Whether faulthandler itself crashed, and so the process ended by SIGSEGV.

    Before Python 3.14 this happens if another thread ends while the stacks are written: once in
    some thousand deaths.  The first signal is still the one that is reported.
    """
    faults = folder / 'faults'
    if sys.version_info >= (3, 14) or not faults.exists():
        return False
    return faults.read_text(errors='replace').count('Fatal Python error') > 1


def check(row, run, previous):
    assert (previous['run'], previous['verdict'], previous['signal']) == (
        run,
        row.verdict,
        row.signal,
    ), previous
    assert row.confidence in ('', previous['confidence'])
    requests = [(r['path'], r['crashed']) for r in previous['requests']]
    wanted = [(path, False) for path in row.requests]
    assert requests == wanted + ([(row.crashed.partition('?')[0], True)] if row.crashed else [])
    crashed = [t['name'] for t in previous['threads'] if t['crashed']]
    if row.thread:
        (name,) = crashed
        assert name.rstrip('0123456789') == row.thread
    check_words(row, previous)


def check_words(row, previous):
    told = ' '.join([previous['summary'], *(e['fact'] for e in previous['evidence'])])
    assert [words for words in (row.says, *row.mentions) if words not in told] == [], told
    ruled_out, candidates = (' '.join(previous[key]) for key in ('ruled_out', 'candidates'))
    assert [words for words in row.ruled_out if words not in ruled_out] == []
    assert row.not_ruled_out in candidates and (
        not row.not_ruled_out or row.not_ruled_out not in ruled_out
    )


# -- starts that fail ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Start:
    id: str
    setting: Setting = unlucky('')
    trouble: object = None
    exit: int = 1
    says: str = ''
    confidence: str = 'certain'


STARTS = (
    Start('an error in the ZCML', trouble=deaths.bad_zcml, says='nonsense'),
    Start(
        'an exception in another product, at import',
        unlucky('raise-import'),
        says='LookupError: an unlucky',
    ),
    Start(
        'an exception in another product, when initialized',
        unlucky('raise-initialize'),
        says='LookupError: an',
    ),
    Start(
        'SystemExit in another product',
        unlucky('exit-import'),
        says='a normal exit',
        confidence='strong',
    ),
    Start('a locked database', trouble=deaths.locked_database, says='LockError'),
    Start('a port in use', trouble=deaths.port_in_use, says='soon after it had loaded'),
)


@pytest.mark.parametrize('start', [pytest.param(start, id=start.id) for start in STARTS])
def test_the_next_start_reports_a_failed_start(site, start):
    run_once(site)
    known = site.archived()
    with (start.trouble or deaths.no_trouble)(site):
        site.run_as(start.setting, wait=False)
        assert site.wait_exit() == start.exit, site.last_words()
    run = site.run_directory.name
    site.run_as(USUAL)
    assert site.archived() - known - {run} <= {site.stopped}
    check(
        Row(
            start.id,
            None,
            'startup-failed',
            start.exit,
            confidence=start.confidence,
            says=start.says,
        ),
        run,
        site.previous(),
    )


def run_once(site):
    """Run the instance and stop it; `site.stopped` is the run, which the next start archives."""
    site.run_as(USUAL)
    site.stopped = site.run_directory.name
    site.stop()


@pytest.mark.parametrize(
    'name, code, verdict, phase',
    [
        ('SIGKILL', 9, 'startup-failed', 'starting'),
        ('SIGTERM', 15, 'stopped', 'starting'),
        ('SIGINT', 2, 'stopped', 'finished'),
    ],
)
def test_a_signal_during_the_start_is_recognised(site, name, code, verdict, phase):
    run_once(site)
    waits = site.home / 'waits'  # the product "Unlucky" makes this file and then waits
    waits.unlink(missing_ok=True)
    site.run_as(unlucky('wait-initialize', UNLUCKY_SIGN=str(waits)), wait=False)
    deaths.wait_for(waits.exists, deaths.PATIENCE, 'the product that waits')
    site.signal(name)
    assert site.wait_exit() == -code
    run = site.run_directory.name
    site.run_as(USUAL)
    previous = site.previous()
    assert (previous['run'], previous['verdict'], previous['phase']) == (
        run,
        verdict,
        phase,
    ), previous
    assert previous['signal'] == (name if verdict == 'stopped' else None)


# -- the product does not change how Zope dies -----------------------------------------------------

_NOT_PLAIN = (
    'reboot',
    'SystemExit in the main thread',  # waits five seconds for the threads of waitress
)
PLAIN = [row for row in CRASHES + SILENT + STOPS if row.before is None and row.id not in _NOT_PLAIN]
#: One row for each exit status; the sweep tries the others.
OF_EACH_STATUS = list({row.exit: row for row in PLAIN}.values())


@pytest.mark.parametrize(
    'row',
    [
        *rows(OF_EACH_STATUS, pytest.mark.thorough),
        *rows([row for row in PLAIN if row not in OF_EACH_STATUS], pytest.mark.sweep),
    ],
)
def test_an_unmonitored_zope_has_the_same_exit_status(site, row):
    site.run_as(OFF)
    row.die(site)
    assert site.wait_exit() == row.exit


# -- memory ----------------------------------------------------------------------------------------

_OOM = dict(
    verdict='out-of-memory',
    exit=-9,
    signal='SIGKILL',
    confidence='certain' if os.access('/dev/kmsg', os.R_OK) else 'strong',
)
HUNGRY = (
    Row('out of memory', page('/eat_memory'), requests=('/eat_memory',), **_OOM),
    Row(
        'out of memory while hung on a lock',
        deaths.let_it_eat,
        before=deaths.all_wait_and_a_thread_is_hungry,
        requests=_WAITING,
        setting=STALLING,
        mentions=(*_TOLD[:-1], ' or later, for at least '),
        **_OOM,
    ),
)


@pytest.mark.root
@pytest.mark.parametrize('row', rows(HUNGRY))
def test_the_next_start_reports_out_of_memory(site, row):
    try:
        with deaths.memory_cgroup(300 << 20) as group:
            out_of_memory(site, group, row)
    except PermissionError as error:
        pytest.skip(f'no memory cgroup can be made here: {error}')
    assert not group.exists()


def out_of_memory(site, group, row):
    site.run_as(deaths.inside(group, row.setting))
    run = site.run_directory.name
    if row.before:
        row.before(site)
    row.die(site)
    assert site.wait_exit() == row.exit
    site.run_as(USUAL)
    check(row, run, site.previous())
