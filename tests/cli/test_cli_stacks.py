"""The command "stacks": while all workers are busy, and when the process does not answer."""

import ctypes
import errno
import json
import os
import sys
import time
from dataclasses import replace

import pytest
from support.childprograms import COMMAND
from support.childprograms import Program
from support.childprograms import run_python
from support.livingruns import Living
from support.stacksdocuments import document
from support.stacksdocuments import thread
from support.syntheticruns import STARTED
from support.syntheticruns import mark
from support.syntheticruns import recording
from support.syntheticruns import request
from support.syntheticruns import sample
from support.syntheticruns import traces
from support.zopekit import wait_for

from Products.StabilityMonitor.cli import command as cli
from Products.StabilityMonitor.cli import stacks as clistacks
from Products.StabilityMonitor.inspection import outside
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.reporting import outsidetext
from Products.StabilityMonitor.reporting import stackssummary
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity
from Products.StabilityMonitor.system.tasks import Task

WORKER = 0x7F0000000010


# -- asked -----------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


@pytest.fixture
def living(base):
    made = []

    def make(told, **context):
        made.append(Living(base, told, **context))
        return made[-1]

    yield make
    for run in made:
        run.end()


@pytest.fixture
def command(base, capfd, monkeypatch):
    """A function that runs the command and returns (exit status, output, errors)."""
    monkeypatch.setattr(clistacks, '_LEAST_PATIENCE', 30.0)

    def run(*words):
        return cli.main(['--directory', str(base.path), 'stacks', *words]), *capfd.readouterr()

    return run


QUIET = {'time': 1.0, 'threads': [thread(2)], 'slow': [], 'hangs': []}


def test_the_exit_status_of_an_idle_process_is_0(living, command):
    run = living(QUIET)
    status, output, errors = command()
    assert (status, errors) == (0, '')
    assert (
        output.startswith(f'Threads of process {os.getpid()} (run {run.name}) at ')
        and 'waitress-2' in output
    )


@pytest.mark.parametrize('key', ['slow', 'hangs'])
def test_a_hang_or_slow_request_that_lasts_gives_exit_status_1(living, command, key):
    living(QUIET | {key: document()[key]})
    assert command()[0] == 1


def test_a_run_name_selects_one_of_several_processes(living, command):
    first, second = living(QUIET), living(document())
    status, output, _ = command()
    assert status == 1 and first.name in output and second.name in output
    status, output, _ = command(first.name)
    assert status == 0 and first.name in output and second.name not in output


def test_without_a_living_run_the_exit_status_is_2(base, command):
    status, output, errors = command()
    assert (status, output) == (2, '') and errors.startswith(
        'stabilitymonitor: No living process uses this data directory.'
    )
    dead = base.create(
        new_name(time.time(), os.getpid()), {'identity': identity() | {'start_ticks': 1}}
    )
    status, output, errors = command(dead.path.name)
    assert (status, output) == (2, '')
    assert errors == (
        f'stabilitymonitor: The run {dead.path.name!r} is not alive. The command '
        '"status" lists the living runs.\n'
    )
    dead.abandon()


def test_unknown_options_are_refused(base, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(['--directory', str(base.path), 'stacks', '--nonsense'])
    assert ended.value.code == 2 and '--nonsense' in capfd.readouterr().err


@pytest.mark.parametrize('told', [{}, {'error': ''}, {'threads': 7}])
def test_an_answer_without_threads_gives_exit_status_1(living, command, told):
    """The answer of another release, or of a process that cannot read its threads."""
    living(told)
    status, output, _ = command()
    assert status == 1 and 'No thread could be read.' in output


def test_an_answer_with_an_error_shows_the_reason_and_the_outside_view(living, command):
    living({'error': "There is no answer to 'stacks': ValueError: \x1b[2J."})
    status, output, _ = command()
    assert (
        status == 1
        and output.startswith(f'No answer from process {os.getpid()} (run ')
        and "): there is no answer to 'stacks': ValueError: " in output
    )
    assert '\x1b' not in output and 'from the kernel:' in output, 'what else can be seen'


def test_a_run_without_a_mailbox_is_seen_from_outside(living, command):
    living(None)
    status, output, errors = command()
    assert (status, errors) == (1, '')
    assert 'this run has no mailbox.' in output and 'from the kernel:' in output
    assert f'gdb -p {os.getpid()}' in output


@pytest.mark.parametrize('exit_status', [0, 2])
def test_native_stacks_of_a_mute_process_replace_the_commands(base, living, capfd, exit_status):
    """The commands are for the case that the tool fails."""

    def native(pid):
        print(f'the native stacks of {pid}')
        return exit_status

    run = living(None)
    found = clistacks.show(base, [(run.name, {})], run.name, native)
    output = capfd.readouterr().out
    assert found == max(1, exit_status)
    assert f'the native stacks of {os.getpid()}\n' in output
    after = output.partition('the native stacks')[2]
    assert ('gdb -p' in after) == (exit_status == 2) and output.count('gdb -p') <= 1


def test_a_process_that_cannot_be_asked_is_seen_from_outside(living, command, monkeypatch):
    """For example because its volume is read-only now."""

    def refused(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(clistacks.runmailbox, 'ask', refused)
    living(QUIET)
    status, output, errors = command()
    assert (status, errors) == (1, '')
    assert 'it could not be asked: ' in output and 'from the kernel:' in output


def test_stacks_as_json_has_the_answer_of_each_process(living, command):
    run = living(document())
    status, output, errors = command('--format', 'json')
    told = json.loads(output)
    assert (status, told['exit_status'], errors) == (1, 1, '')
    (process,) = told['processes']
    assert (process['run'], process['pid'], process['outside']) == (run.name, os.getpid(), None)
    assert process['stacks']['hangs'] and process['stacks']['threads'][0]['frames']
    assert process['summary'][-1] == stackssummary.EVIDENCE_IS_KEPT


def test_stacks_as_json_of_a_mute_process_has_what_is_seen_from_outside(living, command):
    living(None)
    status, output, errors = command('--format', 'json')
    (process,) = json.loads(output)['processes']
    assert (status, process['stacks'], errors) == (1, None, '')
    assert process['reason'] == 'This run has no mailbox.'
    threads = process['outside']['threads']
    assert os.getpid() in [thread['native_id'] for thread in threads]


def test_native_stacks_are_text_only(base, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(['stacks', '--native', '--format', 'json'])
    assert ended.value.code == 2 and 'not allowed with' in capfd.readouterr().err


# -- the summary -----------------------------------------------------------------------------------

BUSY = {'number': 1, 'method': 'GET', 'path': '/export', 'seconds': 17.0, 'started': 1.0}


def test_a_summary_says_how_many_workers_are_busy_before_there_is_a_hang(living, command):
    busy = thread(3, activity='lock', request=BUSY)
    living(QUIET | {'threads': [thread(2), busy]}, options={'stall': 30.0})
    _, output, _ = command()
    second = output.splitlines()[1]
    assert second == '1 of 2 workers is busy; the oldest request is GET /export, for 17.0 s.'
    assert 'What next' not in output


def test_where_all_workers_are_busy_the_summary_says_when_the_evidence_is_kept(living, command):
    busy = [
        thread(3, activity='lock', request=BUSY),
        thread(4, activity='lock', request=BUSY | {'seconds': 5.0}),
    ]
    living(QUIET | {'threads': busy}, options={'stall': 30.0})
    status, output, _ = command()
    _, count, doing, advice, *_ = output.splitlines()
    assert status == 0 and count.startswith('2 of 2 workers are busy; the oldest request is GET')
    assert doing == 'What each does: waits for a lock (2).'
    assert advice.startswith('No hang is recorded. What next: ')
    assert 'last 10 s longer than 30 s (the option "stall")' in advice


def test_in_a_hang_the_summary_says_that_the_evidence_is_kept(living, command):
    living(document())
    _, output, _ = command()
    head, _, _ = output.partition('\n\n')
    assert head.splitlines()[-1] == stackssummary.EVIDENCE_IS_KEPT


def test_without_an_answer_the_advice_depends_on_what_is_recorded():
    for found, advice in (
        (view(MAIN, HEARTBEAT), stackssummary.before_a_hang(None)),
        (view(MAIN, HEARTBEAT, hang=mark(text=b'')), stackssummary.EVIDENCE_IS_KEPT),
    ):
        assert advice in list(outsidetext.lines(found, 'x', 'No answer.'))


def test_the_command_says_which_part_the_kernel_has_told(living, command):
    living(QUIET | {'without_kernel': True})
    _, output, errors = command()
    first, second, _ = output.split('\n', 2)
    assert errors == '' and first.endswith('it has told its requests and Python frames itself.')
    assert second == 'This command has read from the kernel what its threads wait for.'


def test_what_cannot_be_read_from_outside_is_said(living, command, monkeypatch):
    monkeypatch.setattr(clistacks, 'is_alive', lambda path: None)
    living(QUIET | {'without_kernel': True})
    _, output, _ = command()
    assert output.startswith('Threads of process ')
    assert 'could not read what the kernel knows of its threads' in output


def test_a_process_on_another_host_is_not_confused_with_a_local_one(living, command, monkeypatch):
    known = identity() | {'boot_id': 'another', 'host': 'elsewhere'}
    living(None, identity=known)
    status, output, _ = command()
    assert status == 1 and 'This command cannot see the process' in output
    assert 'from the kernel:' not in output and 'gdb' not in output


def test_the_command_waits_three_beats_for_an_answer(base, tmp_path, monkeypatch):
    samples = [replace(recording().samples[0], monotonic=at) for at in (10.0, 20.0, 30.0)]
    (tmp_path / 'blackbox.sbr').write_bytes(b'')
    monkeypatch.setattr(clistacks, 'load', lambda path: recording(samples=tuple(samples)))
    assert clistacks.patience(tmp_path) == 30.0
    monkeypatch.setattr(clistacks, 'load', lambda path: recording(samples=tuple(samples[:1])))
    assert clistacks.patience(tmp_path) == 5.0


def test_without_a_black_box_the_command_waits_five_seconds(tmp_path):
    assert clistacks.patience(tmp_path) == 5.0


# -- who holds the GIL -----------------------------------------------------------------------------


def seen(native_id, call='futex', state='S', wakes=0.0, cpu=0.0, path=''):
    asked = request(path=path, native_id=native_id, ident=WORKER + native_id) if path else None
    return outside.Seen(
        Task(native_id, state=state, call=call), WORKER + native_id, cpu, wakes, asked
    )


def seen_often(native_id, *looks, **values):
    """A thread that was looked at several times: a system call, or R for on a CPU."""
    tasks = []
    for look in looks:
        state, call = ('R', 'running') if look == 'R' else ('S', look)
        tasks.append(Task(native_id, state=state, call=call))
    *before, last = tasks
    return replace(seen(native_id, **values), kernel=last, before=tuple(before))


def view(*threads, **values):
    return outside.View(17, 1_790_000_100.0, True, threads, traces(**values))


@pytest.mark.parametrize('step', [0, 3600, -3600, 3 * 86400])
def test_ages_seen_from_outside_do_not_come_from_a_clock_that_was_set(step):
    box = recording(
        samples=(sample(60.0, monotonic=1060.0),),
        in_flight=(request(7, started=STARTED + 50),),
        began={7: 1050.0},
    )
    found = outside.View(17, STARTED + 100 + step, True, (MAIN,), traces(recording=box), 1100.0)
    told = '\n'.join(outsidetext.lines(found, 'process 17', 'It does not answer.'))
    assert 'The last beat of its heartbeat was 40 s ago' in told
    assert 'GET /page for 50' in told


HEARTBEAT, MAIN, IDLE = seen(2, wakes=198), seen(1, call='pselect6'), seen(3)


@pytest.mark.parametrize(
    'holder, others',
    [
        (seen(9, 'clock_nanosleep', path='/hold'), ()),
        (seen(9, '', 'R', cpu=1.0, path='/spin'), (seen(8, 'recvfrom', path='/asks'),)),
        (seen(9, 'futex', path='/deadlock-in-c'), ()),
        (seen(9, 'poll', path='/libpq'), ()),
        (seen(9, 'clock_nanosleep'), ()),
        (seen(9, 'recvfrom', path='/hold'), (seen(8, 'futex', wakes=190, path='/waits'),)),
    ],
)
def test_the_thread_that_probably_holds_the_interpreter_lock_is_named(holder, others):
    found = view(MAIN, HEARTBEAT, IDLE, holder, *others)
    assert found.holders() == [holder]
    told = '\n'.join(outsidetext.lines(found, 'process 17', 'It does not answer.'))
    assert 'The interpreter lock (GIL) is probably held by thread 9 (0x7f0000000019)' in told


def test_the_main_thread_can_be_the_holder_of_the_interpreter_lock():
    spinning = seen(1, '', 'R', cpu=0.9)
    assert view(spinning, HEARTBEAT, IDLE).holders() == [spinning]


@pytest.mark.parametrize(
    'looks',
    [('futex', 'futex', 'futex', 'R'), ('R', 'futex', 'R', 'R'), ('R',), ('R', 'R', 'R', 'R')],
)
def test_a_thread_that_wakes_to_wait_for_the_lock_is_not_its_holder(looks):
    """It stands on a CPU at a look, or at all of them, but hardly uses any."""
    waker = seen_often(2, *looks, wakes=198, cpu=0.01)
    holder = seen(9, 'clock_nanosleep', path='/hold')
    assert not waker.runs
    assert view(MAIN, IDLE, HEARTBEAT, waker, holder).holders() == [holder]


def test_a_thread_that_is_ready_at_each_look_runs_on_a_busy_machine():
    spinning = seen_often(9, 'R', 'R', 'R', 'R', cpu=0.2, wakes=60, path='/spin')
    sleeping = seen(8, 'clock_nanosleep', path='/nap')
    assert view(MAIN, HEARTBEAT, sleeping, spinning).holders() == [spinning]


def test_a_thread_that_reads_a_file_with_the_lock_is_the_holder():
    reading = seen_often(9, 'pread64', 'R', 'pread64', 'R', cpu=0.3)
    assert view(MAIN, HEARTBEAT, IDLE, reading).holders() == [reading]


def test_two_possible_holders_are_both_named():
    both = seen(8, 'clock_nanosleep', path='/nap'), seen(9, 'clock_nanosleep', path='/hold')
    told = '\n'.join(
        outsidetext.lines(view(MAIN, HEARTBEAT, *both), 'process 17', 'It does not answer.')
    )
    assert 'one of these probably holds it' in told and 'GET /nap' in told and 'GET /hold' in told


def test_no_holder_is_named_if_no_thread_waits():
    found = view(MAIN, IDLE, seen(9, 'clock_nanosleep', path='/nap'))
    assert found.holders() == []
    assert 'No thread waits for the interpreter lock' in '\n'.join(
        outsidetext.lines(found, 'x', 'No answer.')
    )


def test_a_stopped_process_is_shown_as_stopped_without_a_holder():
    told = '\n'.join(
        outsidetext.lines(view(seen(1, state='T'), seen(2, state='T', wakes=99)), 'x', 'No answer.')
    )
    assert (
        'All its threads are stopped. "kill -CONT 17" resumes it' in told
        and 'probably held' not in told
    )


# -- what was left ---------------------------------------------------------------------------------


def test_idle_workers_are_left_out_and_the_busy_one_comes_first():
    head = b'Stack (most recent call first):\n'
    idle = mark(
        text=head
        + b'  File "/lib/python3.11/threading.py", line 327 in wait\n'
        + b'  File "/lib/waitress/task.py", line 71 in handler_thread\n'
    )
    other = mark(text=head + b'  File "/site/d.py", line 6 in compute\n')
    held = mark(text=head + b'  File "/site/c.py", line 5 in hold\n')
    stuck = {WORKER + 8: idle, WORKER + 16: other, WORKER: held}
    found = view(MAIN, stuck=stuck, recording=recording(in_flight=(request(),)))
    told = '\n'.join(outsidetext.lines(found, 'x', 'No answer.'))
    assert 'handler_thread' not in told
    assert 0 < told.index('in hold') < told.index('in compute')


def test_marks_and_notes_are_shown_with_their_time():
    stuck = mark(text=b'Stack (most recent call first):\n  File "/site/c.py", line 5 in hold\n')
    notes = (
        Note(1, 1_790_000_050.0, 'hang', 0, title='All 4 workers have been busy'),
        Note(
            2,
            1_790_000_050.0,
            'hang',
            WORKER,
            title='GET /page',
            detail='sleeps',
            frames=(Frame('/site/nap.py', 3, 'nap'),),
        ),
    )
    told = '\n'.join(
        outsidetext.lines(
            view(
                MAIN,
                hang=mark(
                    text=b'Stack (most recent call first):\n  File "/hb.py", line 1 in run\n'
                ),
                stuck={WORKER: stuck},
                recording=recording(in_flight=(request(),), notes=notes),
            ),
            'process 17',
            'No answer.',
        )
    )
    for words in (
        'The stack of the heartbeat, as of 2026-09-21 14:14:20 UTC',
        'The stack of thread 0x7f0000000010 (GET /page), as of',
        'File "/site/c.py", line 5, in hold',
        'All 4 workers',
        'GET /page: sleeps',
        'File "/site/nap.py", line 3, in nap',
        'GET /page for 49.8 s (publishing)',
    ):
        assert words in told, words


def test_the_damage_of_a_black_box_is_shown(tmp_path):
    found = replace(view(MAIN), traces=traces(recording=None, damage='The black box is cut short.'))
    assert 'The black box is cut short.' in '\n'.join(outsidetext.lines(found, 'x', 'No answer.'))


# -- real processes --------------------------------------------------------------------------------

HOLDER = """
import ctypes, sys, threading
def hold():
    print(threading.get_native_id(), flush=True)
    ctypes.PyDLL(None).sleep(60)
threading.Thread(target=threading.Event().wait, daemon=True).start()
threading.Thread(target=hold, daemon=True).start()
while True:
    sum(range(1000))
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc')
def test_a_real_thread_that_holds_the_interpreter_lock_is_found(tmp_path):
    """The holder sleeps in C.  MainThread wakes 200 times a second to wait for the lock; another
    thread waits for an event.
    """
    with Program('-c', HOLDER) as holder:
        native_id = int(holder.hear())
        base = Base(tmp_path)
        run = base.create(new_name(time.time(), holder.pid), {'identity': identity(holder.pid)})
        context = json.loads((run.path / 'context.json').read_text())

        def holds():
            found = outside.look(run.path, context, holder.pid)
            return [held.kernel.tid for held in found.holders()] == [native_id] and found

        found = wait_for(holds, what='that thread to hold the lock')
        assert found.waiting and found.there and not found.is_stopped
        holder.signal('SIGSTOP')
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
        assert outside.look(run.path, context, holder.pid).is_stopped
    gone = outside.look(run.path, context, holder.pid)
    assert gone.there is False and gone.threads == ()
    assert 'has ended' in '\n'.join(outsidetext.lines(gone, 'x', 'No answer.'))
    run.abandon()


SOURCE = """
import ctypes, signal, threading, time
def wait_for_ever(self):
    threading.Event().wait()
def hold(self):
    # The signal of the watchdog would end the sleep early, if this thread has a timer already.
    signals = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    ctypes.PyDLL(None).sleep(60)
"""


@pytest.fixture(scope='module')
def zope(tmp_path_factory):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        tmp_path_factory.mktemp('stacks'),
        threads=2,
        options={'slow-request': '0.2s', 'stall': '0.5s', 'sample-interval': '0.1s'},
    )
    zope.publish(SOURCE)
    with zope:
        yield zope


def stacks(zope, *words):
    where = ('--client-home', zope.client_home)
    done = run_python(*COMMAND, *where, 'stacks', *words, env=zope.environment(), timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.zope
def test_stacks_shows_a_real_site_while_it_works_hangs_and_does_not_answer(zope):
    status, output, errors = stacks(zope)
    assert (status, errors) == (0, '') and 'waitress-1' in output

    for _ in range(2):  # now all workers are busy
        zope.background('/wait_for_ever')
    output = wait_for(
        lambda: (told := stacks(zope)[1]) and 'HANG began' in told and told, what='the hang'
    )
    assert 'All 2 workers' in output and output.count('serves GET /wait_for_ever for') == 2
    assert ', in wait_for_ever\n' in output and 'Slow requests:' in output
    assert stacks(zope)[0] == 1


@pytest.mark.zope
@pytest.mark.thorough
@pytest.mark.slow(20)
def test_stacks_names_the_thread_of_a_real_site_that_holds_the_gil(make_zope):
    zope = make_zope(options={'stall': '0.5s', 'sample-interval': '0.1s'})
    zope.publish(SOURCE).start()
    zope.background('/hold')

    held = 'The interpreter lock (GIL) is probably held by thread '
    where = ', which serves GET /hold: it waits in the system call clock_nanosleep'

    def mute():
        """The output; False while a busy machine lets the other threads wake too rarely."""
        told = stacks(zope)
        wanted = 'No answer', held, where, 'The stack of '
        return all(words in told[1] for words in wanted) and told

    status, output, errors = wait_for(mute, what='the request to hold the lock')
    assert (status, errors) == (1, '')
    assert f'gdb -p {zope.pid}' in output
    done = run_python(
        *COMMAND, '--client-home', zope.client_home, 'checks', env=zope.environment(), timeout=120
    )
    assert (done.returncode, done.stderr) == (1, '')
    assert f'[critical] Process {zope.pid} hangs; this began at ' in done.stdout
    if 'pystack remote' in output:
        status, output, _ = stacks(zope, '--native')
        assert status == 1 and '[Has the GIL]' in output and 'in hold' in output
        assert f'gdb -p {zope.pid}' not in output, 'the tool has worked: nobody has to run it'


def test_pydll_can_call_sleep_of_libc():
    """The programs above need it to hold the interpreter lock."""
    assert ctypes.PyDLL(None).sleep(0) == 0
