"""The command `witness`, for ExecStopPost= of systemd; systemd is played by its variables."""

import pytest
from support.syntheticruns import DeadRun

from Products.StabilityMonitor.cli import witness
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store import witnessfiles
from Products.StabilityMonitor.store.rundirectory import Base

ID = '0123456789abcdef' * 2
OTHER = 'f' * 32
KILLED = {
    'INVOCATION_ID': ID,
    'SERVICE_RESULT': 'signal',
    'EXIT_CODE': 'killed',
    'EXIT_STATUS': 'KILL',
}


@pytest.fixture
def add(tmp_path):
    """A function that makes a dead run of this start of the unit."""

    def add(number=0, invocation_id=ID, **context):
        run = DeadRun(tmp_path / 'stability', number, invocation_id=invocation_id, **context)
        return run.served()

    return add


@pytest.mark.parametrize(
    'result, code, status, expected',
    [
        ('success', 'exited', '0', (0, None, False)),
        ('exit-code', 'exited', '255', (255, None, False)),
        ('success', 'killed', 'TERM', (None, 'SIGTERM', False)),
        ('signal', 'killed', 'KILL', (None, 'SIGKILL', False)),
        ('core-dump', 'dumped', 'SEGV', (None, 'SIGSEGV', True)),
        ('signal', 'killed', 'RTMIN+3', (None, 'SIGRTMIN+3', False)),
    ],
)
def test_the_variables_of_systemd_tell_the_status(result, code, status, expected):
    environ = {'SERVICE_RESULT': result, 'EXIT_CODE': code, 'EXIT_STATUS': status}
    seen = witness.witness(environ)
    assert (seen.exit_code, seen.signal, seen.core_dumped) == expected
    assert f'the result is "{result}".' in seen.fact


@pytest.mark.parametrize(
    'environ',
    [
        {},
        {'EXIT_CODE': 'exited', 'EXIT_STATUS': '256'},
        {'EXIT_CODE': 'exited', 'EXIT_STATUS': '00001'},
        {'EXIT_CODE': 'exited', 'EXIT_STATUS': 'KILL'},
        {'EXIT_CODE': 'exited', 'EXIT_STATUS': ''},
        {'EXIT_CODE': 'killed', 'EXIT_STATUS': '9'},
        {'EXIT_CODE': 'killed', 'EXIT_STATUS': 'KILL\nFORGED'},
        {'EXIT_CODE': 'nonsense', 'EXIT_STATUS': '0'},
    ],
)
def test_what_systemd_does_not_say_is_an_error(environ):
    with pytest.raises(witness.NotBySystemd):
        witness.witness(environ)


def test_a_kill_for_lack_of_memory_may_have_been_of_another_process():
    seen = witness.witness(KILLED | {'SERVICE_RESULT': 'oom-kill'})
    assert seen.cause == '' and 'perhaps another one' in seen.fact


class TestTheCommand:
    def test_it_leaves_what_systemd_saw(self, command, base, add, monkeypatch):
        run = add(parent=1)
        for name, value in KILLED.items():
            monkeypatch.setenv(name, value)
        assert command('witness') == (0, '', '')
        (record,) = triage(base)
        assert (record.run, record.verdict, record.confidence) == (run.name, 'killed', 'certain')
        assert command('witness') == (0, '', '')  # it has been left already

    def test_without_systemd_it_says_so(self, command, monkeypatch):
        monkeypatch.delenv('INVOCATION_ID', raising=False)
        status, said, errors = command('witness')
        assert (status, said) == (2, '') and 'ExecStopPost=' in errors

    def test_a_start_without_a_run_is_told_in_one_sentence(self, command, add, monkeypatch):
        add(invocation_id=OTHER, parent=1)
        for name, value in KILLED.items():
            monkeypatch.setenv(name, value)
        status, said, errors = command('witness')
        assert (status, said, errors.count('\n')) == (2, '', 1)

    def test_any_other_error_does_not_fail_the_unit(self, command, monkeypatch):
        def fail(base, environ):
            raise ZeroDivisionError('the reason')

        monkeypatch.setattr(witness, 'leave', fail)
        status, said, errors = command('witness')
        assert (status, said) == (2, '') and 'the reason' in errors

    def test_a_wrong_id_is_refused(self, base):
        with pytest.raises(witness.NotBySystemd):
            witness.leave(base, KILLED | {'INVOCATION_ID': '../x'})


def test_a_run_that_is_archived_already_is_found(add, tmp_path):
    run = add(parent=1)
    base = Base(tmp_path / 'stability')
    triage(base)
    assert witness.leave(base, KILLED) == run.name
    assert witnessfiles.of_run(base.archive / run.name)[0].signal == 'SIGKILL'


class TestWhichRun:
    """Runs of one start of the unit: (context of each, which of them is the main process)."""

    @pytest.mark.parametrize(
        'contexts, main',
        [
            ([{'parent': 1}], 0),
            ([{'parent': 77}], 0),  # of a user's own systemd
            ([{'parent': 1}, {'parent': 100}], 0),  # a script that Zope has started
            ([{'parent': 77}, {'parent': 100}], 0),
            ([{'parent': 1, 'role': 'script'}, {'parent': 1}], 1),  # ExecStartPre=
            ([{'parent': 77}, {'parent': 1}], 1),
            ([{'parent': 1, 'unit_process': 100}], 0),
            ([{'parent': 1, 'unit_process': 101}, {'parent': 1, 'unit_process': 101}], 1),
            ([{'parent': 77}, {'parent': 77}], None),  # workers of gunicorn
            ([{'parent': 1}, {'parent': 1}], None),
            ([{'parent': 1, 'unit_process': 99}], None),  # a shell has started Zope
            ([], None),
        ],
    )
    def test_only_that_of_the_main_process_counts(self, add, tmp_path, contexts, main):
        runs = [add(number, **context) for number, context in enumerate(contexts)]
        add(50, invocation_id=OTHER, parent=1)
        base = Base(tmp_path / 'stability')
        if main is None:
            with pytest.raises(witness.NoMainProcess):
                witness.leave(base, KILLED)
        else:
            assert witness.leave(base, KILLED) == runs[main].name

    def test_of_a_process_that_replaced_itself_it_is_the_last(self):
        first, second = (
            witness._Candidate(name, 100, number, True, 1, 100)
            for number, name in enumerate(('first', 'second'))
        )
        assert witness.main_run([second, first]) == 'second'
