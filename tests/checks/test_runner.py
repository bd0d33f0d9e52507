"""The runner: time limits, checks that raise or hang, one run at a time, and runs in the
background.
"""

import json
import os
import threading
import time

import pytest
from programs.handshake import until
from support.childprograms import CHECKOUT
from support.childprograms import PROGRAMS
from support.childprograms import run_python
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

from Products.StabilityMonitor.checks import runner
from Products.StabilityMonitor.checks.check import Check
from Products.StabilityMonitor.checks.runner import Background
from Products.StabilityMonitor.model.action import Action
from Products.StabilityMonitor.model.severities import CRITICAL
from Products.StabilityMonitor.model.severities import INFO


class Fine(Check):
    id, question, source = 'fine', 'Is all well?', 'a test'

    def look(self, site):
        return self.ok(f'All is well with {site}.')


class Several(Fine):
    id = 'several'

    def look(self, site):
        yield self.found(INFO, 'One.', about='one')
        yield self.found(CRITICAL, 'Two.', action=Action('Act.'), about='two')


class Raises(Fine):
    id = 'raises'

    def look(self, site):
        raise self.error

    error = KeyError('x')


class Hangs(Fine):
    """Hangs until `go` is set."""

    id = 'hangs'

    def __init__(self):
        self.go, self.calls = threading.Event(), 0

    def look(self, site):
        self.calls += 1
        self.go.wait(60)
        return self.ok('Late, but well.')


@pytest.fixture
def hangs():
    check = Hangs()
    yield check
    check.go.set()


def test_findings_come_worst_first():
    results = runner.run('site', (Fine(), Several()), clock=lambda: 5.0)
    assert [f.severity.code for f in results.findings] == ['critical', 'info', 'ok']
    assert results.findings[-1].title == 'All is well with site.'
    assert results.when == 5.0 and results.took > 0
    assert [id for id, _ in results.seconds] == ['fine', 'several']


def test_results_become_json():
    document = json.loads(json.dumps(runner.run('site', (Several(),), clock=lambda: 5.0).to_json()))
    assert document['when'] == '1970-01-01T00:00:05.000Z'
    assert document['findings'][0] == {
        'id': 'several:two',
        'severity': 'critical',
        'title': 'Two.',
        'detail': '',
        'action': 'Act.',
        'source': 'a test',
        'check': 'several',
    }


@pytest.mark.parametrize(
    'error',
    [
        KeyError('x'),
        RecursionError('deep'),
        MemoryError(),
        SystemExit(3),
        KeyboardInterrupt(),
        TypeError('a' * 9),
    ],
)
def test_a_check_that_raises_is_a_finding(error, caplog):
    check = Raises()
    check.error = error
    results = runner.run('site', (check, Fine()))
    assert [(f.id, f.severity.code) for f in results.findings] == [
        ('raises', 'warning'),
        ('fine', 'ok'),
    ]
    assert type(error).__name__ in results.findings[0].detail and results.findings[0].action
    until(lambda: 'Traceback' in caplog.text)  # another thread logs it


@pytest.mark.parametrize('answer', [None, 5])
def test_a_check_that_answers_nonsense_is_a_finding(answer):
    class Nonsense(Fine):
        def look(self, site):
            return answer

    (found,) = runner.run('site', (Nonsense(),)).findings
    assert found.severity.code == 'warning' and 'A check failed' in found.title


def test_a_check_that_hangs_is_abandoned_and_not_started_again(hangs):
    results = runner.run('site', (hangs, Fine()), time_limit=0.5, longest=60)
    assert [(f.id, f.severity.code) for f in results.findings] == [
        ('hangs', 'warning'),
        ('fine', 'ok'),
    ]
    assert 'made no progress for 0.5 s' in results.findings[0].detail
    again = runner.run('site', (hangs, Fine()), time_limit=0.5, longest=60)
    assert (
        'still hangs' in again.findings[0].detail and again.findings[0].severity.code == 'warning'
    )
    assert hangs.calls == 1
    hangs.go.set()
    until(
        lambda: not any(t.name == 'StabilityMonitor check' for t in threading.enumerate()),
        'the end of its thread',
    )
    assert runner.run('site', (hangs,), time_limit=20).findings[0].severity.code == 'ok'
    assert hangs.calls == 2


class Computes(Fine):
    """Uses the CPU until `go` is set, or for `seconds` of CPU time."""

    id = 'computes'

    def __init__(self, seconds=60.0):
        self.go, self.seconds, self.calls = threading.Event(), seconds, 0

    def look(self, site):
        self.calls += 1
        while not self.go.is_set() and time.thread_time() < self.seconds:
            sum(range(1000))
        return self.ok('Late, but well.')


@pytest.fixture
def busy_threads():
    """Four threads that compute, like the workers of a busy site."""
    over = threading.Event()

    def compute():
        while not over.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def test_a_slow_check_that_makes_progress_gets_more_time(busy_threads):
    (found,) = runner.run('site', (Computes(seconds=0.2),), time_limit=0.1, longest=60).findings
    assert (found.severity.code, found.title) == ('ok', 'Late, but well.')


def test_a_check_that_is_too_slow_is_abandoned_but_does_not_hang():
    check = Computes()
    try:
        first, second = (
            runner.run('site', (check, Fine()), time_limit=0.1, longest=0.2).findings
            for _ in range(2)
        )
        assert [(f.id, f.severity.code) for f in first] == [('computes', 'info'), ('fine', 'ok')]
        assert (
            first[0].title == 'A check did not finish: Is all well?'
            and 'the machine is busy' in first[0].detail
        )
        assert (
            second[0].severity.code == 'info'
            and 'still running, started by an earlier run' in second[0].detail
        )
        assert check.calls == 1
    finally:
        check.go.set()


def test_a_thread_that_cannot_be_started_is_a_finding(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    (found,) = runner.run('site', (Fine(),)).findings
    assert found.severity.code == 'warning' and "can't start new thread" in found.detail
    background = Background(lambda: 'site', (Fine(),))
    assert not background.start() and "can't start new thread" in background.error
    assert not background.running


def test_a_second_run_waits_for_the_first(hangs):
    """The second run waits for the first, and they never overlap."""
    order, checks = [], []

    class Notes(Fine):
        def look(self, site):
            order.append(site)
            return self.ok('Noted.')

    first = threading.Thread(
        target=lambda: checks.append(runner.run('first', (hangs, Notes()), time_limit=60))
    )
    first.start()
    until(lambda: hangs.calls, 'the first run')
    second = threading.Thread(target=lambda: checks.append(runner.run('second', (Notes(),))))
    second.start()
    assert order == []
    hangs.go.set()
    first.join()
    second.join()
    assert order == ['first', 'second'] and len(checks) == 2


def test_progress_is_reported_before_each_check():
    seen = []
    runner.run('site', (Fine(), Several()), on_progress=seen.append)
    assert [(p.share, p.words) for p in seen] == [
        (0.0, 'Is all well?'),
        (0.5, 'Is all well?'),
        (1.0, ''),
    ]


def test_an_error_of_the_progress_observer_does_not_end_the_run():
    def broken(progress):
        raise ValueError(progress)

    assert len(runner.run('site', (Fine(),), on_progress=broken).findings) == 1


def test_the_checks_run_in_the_background_one_run_at_a_time(hangs):
    background = Background(lambda: 'site', (Fine(), hangs), time_limit=60)
    assert (background.running, background.progress, background.results) == (False, None, None)
    assert background.start()
    assert not background.start()  # one at a time
    until(lambda: hangs.calls, 'the second check')
    assert background.progress.share == 0.5 and background.running
    assert not background.wait(0.01)
    hangs.go.set()
    assert background.wait(20)
    assert background.progress is None
    assert [f.id for f in background.results.findings] == ['fine', 'hangs']
    first = background.results
    assert background.start() and background.wait(20)
    assert background.results is not first


def test_an_error_while_the_site_is_made_is_reported():
    def broken():
        raise OSError('no such disk')

    background = Background(broken, (Fine(),))
    assert background.start() and background.wait(20)
    assert 'no such disk' in background.error and background.results is None
    assert background.start() and background.wait(20)


def test_a_site_that_hangs_while_it_is_made_is_abandoned(hangs):
    background = Background(lambda: hangs.look(None), (Fine(),), time_limit=0.2)
    for words in ('made no progress', 'still hangs, started by an earlier run'):
        assert background.start() and background.wait(60)
        assert (
            words in background.error and 'The facts about Zope cannot be read' in background.error
        )
    assert hangs.calls == 1 and background.results is None


@pytest.mark.parametrize('error', [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_run_is_over_whatever_exception_ends_it(error, monkeypatch):
    def broken(*args):
        raise error

    monkeypatch.setattr(runner, 'run', broken)
    background = Background(lambda: 'site', (Fine(),))
    assert background.start() and background.wait(20)
    assert not background.running and type(error).__name__ in background.error
    assert background.start() and background.wait(20)


def test_the_callback_is_called_after_the_run(hangs):
    seen = threading.Event()
    background = Background(lambda: 'site', (hangs,), time_limit=60)
    assert background.start(lambda: background.results and not background.running and seen.set())
    assert not background.start(seen.set)
    hangs.go.set()
    assert seen.wait(20)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_a_child_forked_during_a_run_can_run_its_own_checks(hangs):
    thread = threading.Thread(target=runner.run, args=('site', (hangs,), 60), daemon=True)
    thread.start()
    until(lambda: hangs.calls, 'the run')
    child = os.fork()
    if not child:
        code = 1
        try:
            code = len(runner.run('site', (Fine(),)).findings) - 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_hanging_check_does_not_keep_the_process_from_ending():
    code = """if True:
        import time
        from Products.StabilityMonitor.checks.runner import run
        from Products.StabilityMonitor.checks.check import Check
        class Hangs(Check):
            id = question = source = 'x'
            def look(self, site):
                time.sleep(1000)
        print(run(None, (Hangs(),), 0.2).findings[0].detail)
    """
    done = run_python('-c', code)
    assert (done.returncode, done.stdout) == (
        0,
        'It gave no answer, and made no progress for 0.2 s.\n',
    )


def test_no_check_fails_in_this_process(tmp_path):
    done = run_python(PROGRAMS / 'check_worlds.py', 'everything', tmp_path)
    document = json.loads(done.stdout)
    assert {'thread-stacks', 'versions', 'clock-jumps'} <= {
        f['id'].partition(':')[0] for f in document['findings']
    }
    assert not [f for f in document['findings'] if 'A check ' in f['title']]


# -- what it costs, and when -----------------------------------------------------------------------


def told_by(program, *words):
    """Return the lines that a fresh process prints."""
    done = run_python('-c', program, *words, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_arming_runs_no_check(tmp_path):
    """Arming imports no check; the recorder itself checks the thread stacks."""
    (loaded,) = told_by(
        """if True:
        import sys
        from Products.StabilityMonitor.model.records import Instance
        from Products.StabilityMonitor.postmortem import triage
        from Products.StabilityMonitor.recording import arming
        instance = Instance('test', '', '')
        life = arming.arm({'directory': sys.argv[1]}, {}, instance, 'server', {})
        triage.at_start(life)
        assert life.recorder and life.rounds
        print(sorted(name for name in sys.modules if '.checks' in name or '.knowledge' in name))
    """,
        tmp_path / 'stability',
    )
    assert loaded == '[]'


def test_the_budget_of_the_checks_is_measured():
    benches = (
        (CHECKOUT / 'benchmarks/run.py').read_text().partition('BENCHES = (')[2].partition(')')[0]
    )
    assert "'checks'" in benches
    assert 'BUDGET, STARTS, AGAIN = 200,' in (CHECKOUT / 'benchmarks/bench_checks.py').read_text()


STANDING = """
def standing_now(self):
    import json
    from Products.StabilityMonitor.checks import allfindings as standing
    from Products.StabilityMonitor.recording.arming import STATE
    heartbeat = STATE.life.rounds.heartbeat
    return json.dumps([len(heartbeat.errands), [here.checks.results is not None for here in
                                                standing._STANDINGS.values()]])
"""


@pytest.mark.zope
@pytest.mark.slow
def test_a_real_server_runs_its_checks_only_after_it_serves(tmp_path):
    """The slow server has one beat at its start and the next an hour later: the checks that
    ProcessStarting asks for wait for that beat.
    """
    slow = ZopeInstance(tmp_path / 'slow', options={'sample-interval': '1h'}).publish(STANDING)
    with slow:
        errands, results = slow.get('/standing_now').json()
        assert errands >= 1 and not any(results)
        assert not list(slow.stability.glob('runs/*/checks.json'))
    quick = ZopeInstance(tmp_path / 'quick', options={'sample-interval': '100ms'}).publish(STANDING)
    with quick:
        wait_for(lambda: quick.get('/standing_now').json() == [0, [True]], what='the results')
