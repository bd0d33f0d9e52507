"""Real processes that die: what each way to die leaves behind, and that arming does not change how
they die.

Two processes run each way (see programs/armed.py) at the same time: an armed one, and a control
process that is not armed.  The expected marks are those in docs/facts.rst.
"""

import os
import resource
import signal
import stat
import sys
import time

import pytest
from programs.handshake import until

from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store import distributionsets
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import read_json
from Products.StabilityMonitor.system.distributions import installed

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='the expected marks are those of Linux'
)


@pytest.fixture
def pair(start):
    """Return a function that runs one way in both processes, and asserts that they end the same.

    The control process shows how that way ends without this product.
    """

    def pair(way, *words, heard=(), then=None, **popen):
        both = [start(way, *words, armed=armed, **popen) for armed in (True, False)]
        for victim in both:
            victim.go(*heard)
            if then:
                victim.signal(then)
        armed, control = both
        assert armed.end() == control.end()
        assert armed.said == control.said
        return armed, control

    return pair


# -- the fault matrix ------------------------------------------------------------------------------

#: way, exit status, marks, whether atexit was reached, what the excepthook recorded
ENDS = [
    (('return',), 0, set(), True, ''),
    (('exit_3',), 3, set(), True, ''),
    (('exit_text',), 1, set(), True, ''),
    (('exit_in_thread',), 0, set(), True, ''),
    (('exception',), 1, set(), True, 'ValueError: the reason ü'),
    (('memory_error',), 1, set(), True, 'MemoryError'),
    (('os_exit',), 5, set(), False, ''),
    (('c_exit',), 5, set(), False, ''),
    (('execv',), 6, set(), False, ''),
    (('abort',), -6, {'faults'}, False, ''),
    (('abort_in_thread',), -6, {'faults'}, False, ''),
    (('segv',), -11, {'faults'}, False, ''),
    (('segv_in_thread',), -11, {'faults'}, False, ''),
    (('fatal_error',), -6, set(), False, ''),
    (('overflow_in_worker',), -11, {'faults'}, False, ''),
    (('kill_self', 'SIGBUS'), -7, {'faults'}, False, ''),
    (('kill_self', 'SIGILL'), -4, {'faults'}, False, ''),
    (('kill_self', 'SIGFPE'), -8, {'faults'}, False, ''),
    (('kill_self', 'SIGSYS'), -31, set(), False, ''),
    (('kill_self', 'SIGKILL'), -9, set(), False, ''),
]


@pytest.mark.parametrize(
    'way, status, marks, finished, exception', ENDS, ids=['-'.join(end[0]) for end in ENDS]
)
def test_each_way_to_end_itself_has_its_marks_and_its_exit_status(
    pair, way, status, marks, finished, exception
):
    armed, control = pair(*way)
    assert control.process.returncode == status
    assert set(armed.marks()) == marks
    assert bool(armed.box.words['finished']) == finished
    assert armed.box.words['serving'] and armed.box.words['armed']
    assert armed.box.exception.endswith(f'{exception}\n' if exception else '')
    assert bool(armed.box.exception) == bool(exception)
    if not marks:  # tracebacks are still written to standard error
        said = control.errors.partition('\n\nCurrent thread')[0]
        assert armed.errors.replace(armed.process.args[3], '-').startswith(said)


@pytest.mark.parametrize(
    'name', ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGXCPU']
)
def test_a_signal_leaves_its_mark_and_ends_the_process_as_before(pair, name):
    armed, control = pair('wait', heard=['waiting'], then=name)
    assert control.process.returncode == -getattr(signal, name)
    assert set(armed.marks()) == {name}
    assert 'in do_wait' in armed.marks()[name]  # where the main thread was
    assert not armed.box.words['finished'] and not armed.box.exception
    assert [r.path for r in armed.box.in_flight] == ['/the/request']


def test_sigint_leaves_its_mark_and_a_keyboard_interrupt(pair):
    armed, control = pair('wait', heard=['waiting'], then='SIGINT')
    assert set(armed.marks()) == {'SIGINT'}
    assert armed.box.words['finished'] and armed.box.exception.endswith('KeyboardInterrupt\n')


def test_sigkill_leaves_no_mark_but_the_request_in_flight(pair):
    armed, _ = pair('wait', heard=['waiting'], then='SIGKILL')
    assert armed.marks() == {} and not armed.box.words['finished']
    assert [r.path for r in armed.box.in_flight] == ['/the/request']


def test_a_sigsegv_from_another_process_is_dumped_like_a_crash(pair):
    armed, _ = pair('wait', heard=['waiting'], then='SIGSEGV')
    assert armed.marks()['faults'].startswith('Fatal Python error: Segmentation fault')


@pytest.mark.parametrize('way, marks', [('handler_before', {'SIGTERM'}), ('handler_after', set())])
def test_a_handler_of_other_code_still_decides_how_the_process_ends(pair, way, marks):
    armed, control = pair(way, heard=['waiting'], then='SIGTERM')
    assert control.process.returncode == 4
    assert set(armed.marks()) == marks and armed.box.words['finished']


def test_a_dump_before_an_exit_by_a_handler_of_sigabrt_is_noted_as_survived(pair):
    armed, control = pair('abort_handler', heard=['waiting'], then='SIGABRT')
    assert control.process.returncode == 4
    dump = armed.marks()['faults']
    assert dump.startswith('Fatal Python error: Aborted') and armed.box.words['finished']
    assert armed.box.survived['faults'] == len(dump.encode())
    assert read_json(armed.path / 'context.json')['abort_handler'] is True


@pytest.mark.parametrize('variables', [{}, {'PYTHONFAULTHANDLER': '1'}])
def test_without_a_handler_of_sigabrt_an_exit_notes_no_dump_as_survived(pair, variables):
    armed, _ = pair('return', env=os.environ | variables)
    assert armed.box.words['finished'] and armed.box.survived['faults'] == 0
    assert read_json(armed.path / 'context.json')['abort_handler'] is False


def test_sigterm_is_marked_while_another_thread_outlives_the_main_thread(pair):
    armed, _ = pair('thread_outlives_main', heard=['waiting'], then='SIGTERM')
    assert set(armed.marks()) == {'SIGTERM'} and not armed.box.words['finished']


class TestUnmarked:
    """The black box says which signals leave no mark, and the context which of them are handled."""

    @staticmethod
    def unmarked(victim):
        return set(blackbox.marks_of(victim.box.words['unmarked']))

    @staticmethod
    def handled(victim):
        return set(read_json(victim.path / 'context.json')['handled_signals'])

    def test_every_signal_leaves_a_mark_where_other_code_has_no_handler(self, start):
        victim = start('wait').go('waiting')
        assert self.unmarked(victim) == set()
        assert 'SIGINT' in self.handled(victim) and 'SIGTERM' not in self.handled(victim)

    def test_a_handler_that_was_there_before_leaves_a_mark(self, start):
        victim = start('handler_before').go('waiting')
        assert self.unmarked(victim) == set() and 'SIGTERM' in self.handled(victim)

    def test_a_handler_that_is_set_later_leaves_no_mark(self, start):
        victim = start('handler_after').go('waiting')
        until(lambda: self.unmarked(victim) == {'SIGTERM'}, 'the next round')
        assert 'SIGTERM' not in self.handled(victim)

    def test_a_handler_in_c_that_is_set_later_leaves_no_mark(self, start):
        victim = start('c_handler_after').go('waiting')
        until(lambda: self.unmarked(victim) == {'SIGUSR2'}, 'the next round')
        victim.signal('SIGUSR2')
        assert victim.marks() == {}

    def test_a_signal_that_was_survived_leaves_a_mark_again(self, start):
        """The handler of Python runs after ours, which then is set again."""
        victim = start('survived_usr1').go('survived')
        beats = len(victim.box.samples)
        until(lambda: len(victim.box.samples) > beats + 25, 'the next round')
        assert self.unmarked(victim) == set() and set(victim.marks()) == {'SIGUSR1'}

    def test_a_handler_in_c_of_other_code_leaves_no_mark(self, start):
        victim = start('foreign_usr1').go()
        assert self.unmarked(victim) == {'SIGUSR1'} and 'SIGUSR1' in self.handled(victim)

    def test_an_ignored_signal_needs_no_mark(self, start):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        victim = start('wait', preexec_fn=ignore).go('waiting')
        assert self.unmarked(victim) == set() and 'SIGHUP' not in self.handled(victim)

    def test_without_signal_marks_no_signal_leaves_one(self, start):
        def allow_few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

        victim = start('wait', preexec_fn=allow_few).go('waiting')
        every = {name for name in blackbox.MARKS if name.startswith('SIG')}
        assert self.unmarked(victim) == every


class TestDumps:
    def test_a_dump_of_a_crash_names_the_thread_of_its_request(self, start):
        victim = start('segv_in_thread').go()
        victim.end()
        dump = victim.marks()['faults']
        assert dump.startswith('Fatal Python error: Segmentation fault') and 'in do_segv' in dump
        (request,) = victim.box.in_flight
        assert f'Current thread 0x{request.ident:016x}' in dump and request.path == '/the/request'

    def test_a_stack_overflow_in_a_worker_is_dumped(self, start):
        """faulthandler alone leaves no dump here: the thread needs an alternate signal stack."""
        victim = start('overflow_in_worker').go()
        assert victim.end() == -signal.SIGSEGV
        (request,) = victim.box.in_flight
        dump = victim.marks()['faults']
        # from Python 3.14 on, a dump of a recursion through C is cut one frame earlier
        least = 50 if sys.version_info >= (3, 14) else 51
        assert f'Current thread 0x{request.ident:016x}' in dump
        assert dump.count('in __repr__') >= least
        size = victim.box.threads[request.ident].stack_size
        assert 0 < size <= 256 << 10

    def test_a_far_too_long_exception_keeps_its_beginning(self, start):
        victim = start('long_exception').go()
        victim.end()
        assert 'ValueError: the reason €€€' in victim.box.exception
        assert 'in do_long_exception' in victim.box.exception


class TestAHeldGIL:
    def test_the_watchdog_marks_a_held_gil_and_a_signal_still_ends_the_process(self, start):
        armed, control = start('hold_gil', 'stall=500ms'), start('hold_gil', armed=False)
        armed.beats()
        for victim in (armed, control):
            victim.go('holding')
        until(lambda: 'watchdog' in armed.marks(), 'the mark of the watchdog')
        for victim in (armed, control):
            victim.signal('SIGTERM')
        assert armed.end() == control.end() == -signal.SIGTERM
        assert set(armed.marks()) == {'watchdog', 'SIGTERM'}
        assert 'in do_hold_gil' in armed.marks()['SIGTERM']
        assert not armed.box.survived['watchdog']

    def test_a_process_that_was_suspended_for_long_survives_the_watchdog(self, start):
        victim = start('serve', 'stall=500ms').go()
        victim.beats()
        victim.tell('hello', 'alive').signal('SIGSTOP')
        os.waitid(os.P_PID, victim.process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(0.8)  # longer than `stall`, so that the timer of the watchdog expires
        victim.signal('SIGCONT').tell('hello', 'alive')
        until(lambda: 'watchdog' in victim.marks())
        length = len(victim.marks()['watchdog'])
        until(lambda: victim.box.survived['watchdog'] >= length, 'the mark counts as survived')
        victim.tell('')
        assert victim.end() == 0
        assert set(victim.marks()) == {'watchdog'} and victim.box.words['finished']

    def test_an_idle_process_leaves_no_mark(self, start):
        victim = start('serve', 'stall=1s').go()
        victim.beats()
        until(lambda: victim.box.last_sample.monotonic - victim.box.samples[0].monotonic > 2)
        victim.tell('')
        assert victim.end() == 0 and victim.marks() == victim.late_marks(1)


class TestNohup:
    def test_an_ignored_signal_stays_ignored(self, pair):
        def ignore():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

        armed, _ = pair('nohup', heard=['alive True'], preexec_fn=ignore)
        assert armed.process.returncode == 0
        assert armed.marks() == {} and not (armed.path / 'SIGHUP.mark').exists()

    def test_ignored_sigint_and_sigquit_stay_ignored(self, pair):
        """`cmd &` without job control ignores SIGINT and SIGQUIT."""

        def ignore():
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)

        armed, _ = pair('kill_self', 'SIGINT', preexec_fn=ignore)
        assert armed.process.returncode == 0 and armed.marks() == {}


class TestOtherCode:
    @pytest.mark.parametrize(
        'way, trouble', [('disable', 'disabled'), ('redirect', 'redirected'), ('close', 'closed')]
    )
    def test_the_fault_log_is_repaired_after_other_code_interferes(self, start, way, trouble):
        victim = start(way).go()
        assert victim.end() == -signal.SIGSEGV
        assert victim.marks()['faults'].startswith('Fatal Python error: Segmentation fault')
        assert trouble in victim.errors  # the finding in the event log

    @pytest.mark.parametrize('name, mark', [('SIGTERM', 'SIGTERM'), ('SIGSEGV', 'faults')])
    def test_nothing_is_written_into_a_file_that_has_got_our_descriptor(
        self, start, tmp_path, name, mark
    ):
        foreign = tmp_path / 'Data.fs'
        victim = start('steal', str(foreign)).go('waiting').signal(name)
        assert victim.end() == -getattr(signal, name)
        assert foreign.read_bytes() == b''
        assert 'most recent call first' in victim.marks()[mark]

    def test_a_taken_descriptor_is_repaired_in_the_next_beat(self, start, tmp_path):
        victim = start('count_beats_to_repair', str(tmp_path / 'Data.fs')).go('at once True')
        assert victim.end() == 0

    def test_a_signal_on_which_other_code_dumps_stacks_does_not_kill(self, pair):
        armed, control = pair('foreign_usr1', heard=['alive'])
        assert control.process.returncode == 0 and armed.marks() == {}
        assert 'in do_foreign_usr1' in armed.errors

    @pytest.mark.parametrize('way, status', [('fork_and_handler', 9), ('fork_and_foreign_usr1', 0)])
    def test_handlers_of_other_code_work_in_a_forked_child(self, pair, way, status):
        armed, _ = pair(way, heard=[f'child {status}'])
        assert armed.marks() == {}

    @pytest.mark.parametrize('way', ['log', 'log_unconfigured', 'log_configured'])
    def test_the_logging_of_other_code_is_unchanged(self, pair, way):
        armed, control = pair(way)
        assert armed.errors == control.errors != ''
        lines = [line.message for line in armed.box.log]
        assert ('captured' in lines) == (way == 'log_configured')

    def test_a_stack_size_set_by_other_code_is_kept(self, pair):
        armed, _ = pair('own_stack_size', heard=[f'stack {7 << 20}'])
        assert armed.process.returncode == 0


# -- forks -----------------------------------------------------------------------------------------


class TestForks:
    @pytest.mark.parametrize(
        'what, status', [('segv', -11), ('abort', -6), ('exit_3', 3), ('return', 0)]
    )
    def test_a_child_leaves_nothing_in_the_files_of_its_parent(self, start, what, status):
        victims = [start('fork', what, armed=armed) for armed in (True, False)]
        for victim in victims:
            victim.go(f'child {status}')
        armed, _ = victims
        assert armed.marks() == {}
        assert armed.box.log == () and not armed.box.words['finished'] and not armed.box.exception
        for victim in victims:
            victim.tell('go on')
            assert victim.end() == 0
        assert armed.box.words['finished']

    def test_a_child_that_a_signal_ends_leaves_nothing_in_the_files_of_its_parent(self, start):
        victim = start('fork', 'kill_self_term').go('child -15')
        assert victim.marks() == {}

    def test_a_child_that_executes_a_program_leaves_nothing_in_the_files_of_its_parent(self, pair):
        armed, _ = pair('preexec', heard=['child -15'])
        assert armed.marks() == {}

    def test_a_child_does_not_keep_the_lock_of_its_dead_parent(self, start):
        victim = start('fork_and_stay').go()
        child = int(victim.hear().split()[1])
        (name,) = victim.base.waiting()
        assert victim.base.claim(name) is None
        victim.signal('SIGKILL')
        victim.process.wait()
        claimed = victim.base.claim(name)
        os.kill(child, 0)  # the child still lives
        assert claimed is not None
        claimed.abandon()

    def test_a_child_has_none_of_our_descriptors(self, pair):
        armed, _ = pair('descriptors')  # `pair` compares the output of both
        assert armed.said.startswith('forked ')

    def test_a_forked_worker_has_its_own_run(self, start):
        victim = start('worker').go()
        word, name = victim.hear().split()
        assert (word, victim.hear()) == ('worker', 'child -11')
        (parent,) = (victim.base.runs / other for other in victim.base.waiting() if other != name)
        own = victim.base.runs / name
        assert b'Segmentation fault' in (own / 'faults.mark').read_bytes()
        assert (parent / 'faults.mark').read_bytes().strip(b'\0') == b''
        boxes = [blackboxreader.read((path / BLACKBOX).read_bytes()) for path in (own, parent)]
        assert [[r.path for r in box.in_flight] for box in boxes] == [
            ['/of/the/worker'],
            ['/of/the/parent'],
        ]
        claimed = victim.base.claim(name)
        assert claimed is not None and victim.base.claim(parent.name) is None
        claimed.abandon()

    def test_a_process_that_was_not_forked_gets_no_second_run(self, start):
        victim = start('no_worker').go('worker None')
        assert victim.end() == 0


# -- what is on disk -------------------------------------------------------------------------------


class TestTheRunDirectory:
    def test_all_files_are_there_and_only_their_owner_may_read_them(self, start):
        victim = start('serve').go()
        until(
            lambda: (
                (victim.path / 'watchdog.mark').exists()
                and (victim.path / 'watchdog.mark').stat().st_size
            )
        )
        names = {path.name for path in victim.path.iterdir()}
        assert names >= {
            'blackbox.sbr',
            'context.json',
            'serving.json',
            'lock',
            'faults.mark',
            'SIGTERM.mark',
        }
        for path in victim.path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
            if path.suffix in ('.sbr', '.mark'):
                assert path.stat().st_blocks * 512 >= path.stat().st_size > 0, (
                    'the file is preallocated, so that a full disk cannot prevent writing'
                )
        assert stat.S_IMODE(victim.path.stat().st_mode) == 0o700
        assert sum(path.stat().st_size for path in victim.path.iterdir()) < 2 << 20

    def test_processes_with_the_same_distributions_share_one_list_of_them(self, start, tmp_path):
        base = [start('serve').go() for _ in range(2)][0].base
        one, other = (base.runs / name for name in base.waiting())
        for path in (one, other):
            until(lambda path=path: distributionsets.of_run(path))
        known = distributionsets.of_run(one)
        assert known == distributionsets.of_run(other)
        assert known['distributions'] == installed()[0]
        (file,) = (tmp_path / 'stability/installed').iterdir()
        assert file.name == f'{known["installed"]}.json'
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert isinstance(read_json(one / 'serving.json')['products'], list)

    def test_the_context_of_a_run_is_recorded(self, start):
        victim = start('serve').go()
        context = read_json(victim.path / 'context.json')
        assert context['identity']['pid'] == victim.process.pid
        assert context['instance'] == {'host': 'test', 'client_home': '/nowhere', 'listen': ''}
        assert (context['role'], context['software'], context['locked']) == (
            'server',
            {'zope': '6.3'},
            True,
        )
        assert context['outputs']['1']['kind'] == 'pipe'

    def test_samples_are_taken(self, start):
        victim = start('serve').go()
        until(lambda: len(victim.box.samples) > 3)
        sample = victim.box.last_sample
        assert sample.rss > 1 << 20 and sample.threads >= 2 and sample.descriptors > 3

    def test_two_processes_share_a_directory(self, start):
        one, two = start('serve').go(), start('serve').go()
        assert len(one.base.waiting()) == 2
        for victim in (one, two):
            victim.tell('hello', 'alive')

    @pytest.mark.parametrize('option, stack', [('0', 0), ('16MB', 16 << 20)])
    def test_the_option_thread_stack_size_sets_the_stack_of_new_threads(self, start, option, stack):
        victim = start('stack_size', f'thread-stack-size={option}').go(f'stack {stack}')
        assert victim.end() == 0


class TestTroubleWithTheDisk:
    def test_on_a_full_disk_black_box_and_fault_log_are_off_with_findings(self, start):
        victim = start('full').go()
        found = victim.hear().split()
        assert {'black-box-file', 'fault-log'} <= set(found) and 'run-directory' not in found
        assert victim.end() == 0
        left = {path.name for path in victim.path.iterdir()}
        assert not left & {'blackbox.sbr', 'faults.mark'}

    def test_a_data_directory_that_cannot_be_made_is_a_finding(self, start, tmp_path):
        (tmp_path / 'stability').write_text('a file is in the way')
        victim = start('findings').go()
        assert 'run-directory' in victim.hear().split()
        assert victim.end() == 0

    def test_on_a_network_file_system_the_black_box_is_in_memory_only(self, start):
        """The black box is in memory only; its missing file does not count as deleted."""
        victim = start('network').go()
        found = victim.hear().split()
        assert (
            'network-volume' in found
            and 'breadcrumbs-gone' not in found
            and 'black-box' not in found
        )
        assert victim.end() == 0

    def test_deleted_breadcrumbs_are_a_finding(self, start):
        victim = start('remove_all').go('alive')
        assert victim.end() == 0
        assert 'The breadcrumbs of this run were deleted' in victim.errors

    def test_a_group_that_does_not_exist_is_a_finding(self, start):
        victim = start('findings', 'group=no-such-group').go()
        assert 'group' in victim.hear().split()
        assert victim.end() == 0 and victim.box.words['finished']


class TestDisabled:
    def test_a_disabled_product_writes_and_changes_nothing(self, start, tmp_path):
        off, control = start('touched', 'enabled=off').go(), start('touched', armed=False).go()
        assert off.end() == control.end() == 0
        assert off.said == control.said and off.errors == control.errors
        assert not (tmp_path / 'stability').exists()


class TestEnding:
    def test_the_heartbeat_does_not_delay_the_end(self, start):
        """The next beat would come after an hour."""
        victim = start('return', 'sample-interval=1h').go()
        assert victim.end() == 0 and victim.box.words['finished']


class TestSafeMode:
    def die(self, start, **words):
        victim = start('die_arming', *(f'{k}={v}' for k, v in words.items()))
        assert victim.end() == -signal.SIGKILL

    def live(self, start, *words):
        """Return whether the next start is in safe mode."""
        victim = start('findings', *words).go()
        found = victim.hear().split()
        assert victim.end() == 0
        return 'safe-mode' in found

    def test_safe_mode_begins_after_two_runs_that_died_while_arming_and_stays(
        self, start, tmp_path
    ):
        self.die(start)
        self.die(start)
        assert self.live(start)
        assert self.live(start), 'safe mode stays until somebody deletes the markers'
        for marker in (tmp_path / 'stability/arming').iterdir():
            marker.unlink()
        assert not self.live(start)

    def test_safe_mode_leaves_the_risky_parts_off(self, start, tmp_path):
        self.die(start)
        self.die(start)
        before = set(os.listdir(tmp_path / 'stability/runs'))
        victim = start('kill_self', 'SIGTERM').go()
        assert victim.end() == -signal.SIGTERM
        (name,) = set(victim.base.waiting()) - before
        assert {path.name for path in (victim.base.runs / name).iterdir()} == {
            'lock',
            'context.json',
            'serving.json',
        }

    def test_a_run_that_armed_in_between_resets_safe_mode(self, start):
        self.die(start)
        assert not self.live(start)
        self.die(start)
        assert not self.live(start)

    def test_failed_starts_of_another_instance_do_not_count(self, start):
        self.die(start, client_home='/other')
        self.die(start, client_home='/other')
        assert not self.live(start)
        assert self.live(start, 'client_home=/other')

    def test_a_living_process_does_not_count_as_died_while_arming(self, start, tmp_path):
        self.die(start)
        waiting = start('serve').go()  # it has armed, so its marker is gone
        assert not self.live(start)
        waiting.tell('')
        assert waiting.end() == 0
        assert list((tmp_path / 'stability/arming').iterdir()) == []
