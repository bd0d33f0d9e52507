"""A background job: one run at a time, its progress, and its end with a result or an error."""

import os
import threading
import time

import pytest
from programs.handshake import until
from support.childprograms import run_python

from Products.StabilityMonitor.system import loglater
from Products.StabilityMonitor.system import signalmask
from Products.StabilityMonitor.system.backgroundjob import BackgroundJob


def made(work, name='test', **named):
    return BackgroundJob(
        name,
        work,
        first='not begun',
        not_started='It could not be started: {}.',
        failed='It failed: {}.',
        **named,
    )


class Gate:
    """Work that reports its progress, and then waits until the test lets it end."""

    def __init__(self, result='result', error=''):
        self.answer = result, error
        self.go = threading.Event()
        self.threads = []

    def __call__(self):
        self.threads.append(threading.current_thread())
        self.job.tell('half done')
        assert self.go.wait(60)
        return self.answer


@pytest.fixture
def gate():
    gate = Gate()
    gate.job = made(gate)
    yield gate
    gate.go.set()
    assert gate.job.wait(60)


@pytest.fixture
def no_threads(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    return monkeypatch


def state(job):
    return job.running, job.progress, job.result, job.error


def test_before_its_start_no_run_is_in_progress():
    job = made(lambda: ('result', ''))
    assert state(job) == (False, None, None, '') and job.ended == 0.0
    assert job.wait(0)
    job.stop()


def test_a_run_has_progress_until_its_end_and_a_result_after_it(gate):
    job, before = gate.job, time.time()
    assert job.start()
    until(lambda: job.progress == 'half done', 'the progress')
    assert state(job) == (True, 'half done', None, '') and job.ended == 0.0
    assert not job.wait(0.01)
    gate.go.set()
    assert job.wait(60)
    assert state(job) == (False, None, 'result', '')
    assert before <= job.ended <= time.time()
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(time, 'time', lambda: before + 3 * 86400)  # the clock was set
        assert 0 <= job.seconds_ago < 3600


def test_its_thread_is_a_daemon_and_blocks_signals(gate):
    assert gate.job.start()
    (thread,) = until(lambda: gate.threads, 'the thread')
    assert thread.daemon and thread.name == 'StabilityMonitor test'
    assert signalmask.is_ours(thread)


def test_progress_is_the_first_until_the_work_reports_some():
    go = threading.Event()
    job = made(lambda: (go.wait(60), ''))
    assert job.start() and job.progress == 'not begun'
    go.set()
    assert job.wait(60)


def test_a_second_run_starts_only_after_the_first(gate):
    assert gate.job.start()
    assert not gate.job.start() and gate.job.error == '' and gate.job.running
    gate.go.set()
    assert gate.job.wait(60)
    assert gate.job.start() and gate.job.wait(60)
    assert len(gate.threads) == 2


def test_only_one_of_many_threads_starts_a_run(gate):
    answers, together = [], threading.Barrier(16)

    def start():
        together.wait()
        answers.append(gate.job.start())

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 15 + [True]
    gate.go.set()
    assert gate.job.wait(60) and len(gate.threads) == 1


def test_a_start_clears_the_result_of_the_last_run(gate):
    gate.answer = 'result', 'It is not complete.'
    gate.go.set()
    assert gate.job.start() and gate.job.wait(60)
    assert state(gate.job) == (False, None, 'result', 'It is not complete.')
    gate.go.clear()
    assert gate.job.start()
    assert (gate.job.result, gate.job.error, gate.job.ended) == (None, '', 0.0)


def test_result_and_error_are_set_before_it_is_no_longer_running():
    """A reader that polls while it ends never sees an ended run without a result."""
    job = made(lambda: ('result', 'error'))
    for _ in range(300):
        assert job.start()
        while job.running:
            pass
        assert (job.result, job.error, job.ended > 0) == ('result', 'error', True)


@pytest.mark.parametrize(
    'problem', [ValueError('bad'), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
def test_any_exception_of_the_work_is_an_error_and_is_logged(problem, monkeypatch):
    logged = []
    monkeypatch.setattr(
        loglater, 'log', lambda level, text, *args, exc_info: logged.append((text % args, exc_info))
    )

    def work():
        raise problem

    job = made(work)
    assert job.start() and job.wait(60)
    sentence = f'It failed: {type(problem).__name__}: {problem}.'
    assert state(job) == (False, None, None, sentence)
    assert logged == [(sentence, problem)]
    assert job.start() and job.wait(60), 'it cannot be started again'


def test_an_exception_is_not_logged_if_is_logged_is_false(monkeypatch):
    monkeypatch.setattr(loglater, 'log', None)
    job = made(lambda: 1 / 0, is_logged=False)
    assert job.start() and job.wait(60)
    assert job.error == 'It failed: ZeroDivisionError: division by zero.'


def test_a_thread_that_cannot_be_started_is_an_error(no_threads):
    job, followed = made(lambda: ('result', '')), []
    assert not job.start(lambda: followed.append(1))
    assert state(job) == (False, None, None, "It could not be started: can't start new thread.")
    assert job.ended and job.wait(0) and not followed
    no_threads.undo()
    assert job.start() and job.wait(60)
    assert state(job) == (False, None, 'result', '')


def test_then_is_called_after_the_end_in_the_same_thread(gate):
    seen, refused = [], []
    assert gate.job.start(lambda: seen.append((state(gate.job), threading.current_thread())))
    assert not gate.job.start(lambda: refused.append(1))
    gate.go.set()
    until(lambda: seen, 'what follows')
    assert seen == [((False, None, 'result', ''), gate.threads[0])] and not refused


def test_then_may_start_another_run(gate):
    gate.go.set()
    assert gate.job.start(gate.job.start)
    until(lambda: len(gate.threads) == 2, 'the second run')


def test_stop_reaches_the_current_run_but_no_later_one():
    stopped = []

    def work():
        stopping = job.stopping
        stopped.append(stopping.wait(60 if not stopped else 0))
        return 'result', 'It was stopped.' if stopped[-1] else ''

    job = made(work)
    assert job.start() and job.running
    job.stop()
    assert job.wait(60) and job.error == 'It was stopped.'
    job.stop()
    assert job.start() and job.wait(60) and job.error == ''
    assert stopped == [True, False]


def test_of_jobs_with_the_same_turns_only_one_runs(gate):
    turns = {}
    gate.job = made(gate, turns=turns)
    other = made(lambda: ('other', ''), turns=turns, refused='Another is under way.')
    assert gate.job.start()
    assert not other.start()
    assert state(other) == (False, None, None, 'Another is under way.')
    assert other.wait(0) and gate.job.running
    gate.go.set()
    assert gate.job.wait(60) and not turns
    assert other.start() and other.wait(60)
    assert state(other) == (False, None, 'other', '')


def test_progress_after_the_end_is_ignored(gate):
    gate.go.set()
    assert gate.job.start() and gate.job.wait(60)
    gate.job.tell('too late')
    assert state(gate.job) == (False, None, 'result', '')


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_in_a_forked_child_no_run_is_in_progress(gate):
    assert gate.job.start()
    until(lambda: gate.job.progress == 'half done', 'the progress')
    child = os.fork()
    if not child:
        code = 1
        try:
            assert state(gate.job) == (False, None, None, '') and gate.job.wait(0)
            gate.go = threading.Event()
            gate.go.set()
            assert gate.job.start() and gate.job.wait(60)
            assert state(gate.job) == (False, None, 'result', '')
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gate.job.running and not gate.go.is_set()


def test_a_run_does_not_keep_the_process_from_ending():
    code = """if True:
        import threading
        from Products.StabilityMonitor.system.backgroundjob import BackgroundJob
        work = threading.Event().wait
        job = BackgroundJob('test', work, first='', not_started='{}', failed='{}')
        print(job.start(), job.running)
    """
    done = run_python('-c', code)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'True True\n', '')
