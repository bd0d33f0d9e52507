"""The command "status": hangs, dead runs that wait for triage, and JSON."""

import json
import os

import pytest
from support.commandline import archived
from support.syntheticruns import HERE
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import record
from support.syntheticruns import sample
from support.zopekit import CHECKOUT

from Products.StabilityMonitor.inspection import liveness
from Products.StabilityMonitor.inspection import vitalsnow
from Products.StabilityMonitor.knowledge.growth import Growth
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.postmortem import allruns
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

TERM = b'Stack (most recent call first):\n'


@pytest.fixture
def living(base):
    """A function that begins a run of this process and returns its name."""
    made = []

    def make(role='server', instance=HERE):
        context = {'identity': identity(), 'role': role, 'instance': to_json(instance)}
        made.append(base.create(new_name(STARTED + 9e5, os.getpid()), context))
        return made[-1].path.name

    yield make
    for each in made:
        each.abandon()


@pytest.fixture
def hangs(monkeypatch):
    """A function that makes every living run hang like this."""

    def make(*values, state='hanging'):
        def look(path, context):
            pid = int(path.name.split('-')[1])
            hang = liveness.Hang(*values, seconds=61.0)
            return liveness.Pulse(path.name, pid, state, hang, STARTED)

        monkeypatch.setattr(liveness, 'look', look)

    return make


def clean_script(base, number=5):
    run = DeadRun(base.path, number, 'script')

    def write(recorder):
        recorder.stamp('armed', run.started + 1)
        recorder.stamp('finished', run.started + 2)

    return run.box(write)


def stopped(base, number=5):
    return DeadRun(base.path, number).served().marked('SIGTERM', TERM)


# -- living processes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'kind, count, line',
    [
        (
            'hang',
            (4, 4),
            'HANGS: pid {}, began {}: It is stuck. 4 of 4 workers are stuck.',
        ),
        (
            'hang',
            (1, 4),
            'HANGS: pid {}, began {}: It is stuck. 1 of 4 workers is stuck.',
        ),
        (
            'silent',
            (2, 4),
            'HANGS: pid {}, began {}: It is stuck. 2 of 4 workers were busy at the last sample.',
        ),
        (
            'stopped',
            (1, 4),
            'STOPPED: pid {}, began {}: It is stuck. 1 of 4 workers was busy at the last sample.',
        ),
        (
            'deadlock',
            (2, 4),
            'DEADLOCK: pid {}, began {}: It is stuck. 2 of 4 workers are stuck.',
        ),
        ('spinning', (0, 0), 'SPINS: pid {}, began {}: It is stuck. '),
    ],
)
def test_a_hang_is_one_line_and_exit_status_1(living, command, hangs, kind, count, line):
    living()
    hangs(kind, STARTED, 'It is stuck.', *count)
    status, output, _ = command('status')
    since = '2026-09-21 14:13:20 UTC, for 1 min 1 s'
    assert status == 1 and output.splitlines()[1] == line.format(os.getpid(), since)


@pytest.mark.parametrize(
    'state, word', [('starting', 'starting'), ('ending', 'ending'), ('unknown', 'running')]
)
def test_the_state_of_a_process_without_a_hang_is_the_first_word(
    living, command, monkeypatch, state, word
):
    living()
    monkeypatch.setattr(
        liveness, 'look', lambda path, context: liveness.Pulse(path.name, os.getpid(), state)
    )
    status, output, _ = command('status')
    assert status == 0 and output.startswith(f'{word}: pid {os.getpid()}, began 20')


def test_a_slow_start_is_one_line_and_exit_status_0(living, command, monkeypatch):
    living()
    told = liveness.Hang('slow-start', STARTED, 'Zope does not serve yet: it waits.', seconds=61.0)

    def look(path, context):
        return liveness.Pulse(path.name, os.getpid(), 'starting', delay=told)

    monkeypatch.setattr(liveness, 'look', look)
    status, output, _ = command('status')
    assert status == 0
    assert output.splitlines()[1].rstrip() == (
        f'STARTS SLOWLY: pid {os.getpid()}, began 2026-09-21 14:13:20 UTC, for 1 min 1 s: '
        'Zope does not serve yet: it waits.'
    )
    _, output, _ = command('status', '--format', 'json')
    (process,) = json.loads(output)['living']
    assert process['hang'] is None and process['delay']['kind'] == 'slow-start'
    assert process['delay']['since'] == isotime(STARTED)


def test_the_output_says_that_no_server_is_running(base, living, command):
    archived(base, record(0))
    assert command('status')[1].startswith('No process is running.\nlast run of ')
    living('script')
    output = command('status')[1]
    assert '(script)\nOnly scripts are running, no server.\nlast run of ' in output
    living()
    assert 'No process' not in command('status')[1] and 'Only' not in command('status')[1]


# -- vital signs -----------------------------------------------------------------------------------


@pytest.fixture
def vital(monkeypatch):
    """A function that gives every living run a sample with these values, and a hang."""

    def make(hang=None, growth=None, **values):
        now = vitalsnow.VitalsNow(sample(**values), 0, 900.0, growth)
        state = 'hanging' if hang else 'running'

        def look(path, context):
            return liveness.Pulse(path.name, os.getpid(), state, hang, now.sample.time, vitals=now)

        monkeypatch.setattr(liveness, 'look', look)

    return make


FULL = {
    'queue': 3,
    'waited': 2.5,
    'connections': 97,
    'connection_limit': 100,
    'accept_queue': 12,
    'accept_errors': 40,
    'descriptors': 60,
    'descriptor_limit': 1024,
}


def test_the_status_tells_the_vital_signs_with_their_limits(living, command, vital):
    living()
    vital(**FULL)
    status, output, _ = command('status')
    assert status == 0
    assert output.splitlines()[1:8] == [
        '    Requests that wait for a worker: 3, the oldest for 2.5 s',
        '    Connections: 97 of 100',
        '    Connections that wait in the kernel: 12',
        '    Failed accept(): 40 times since the start, 0 of them in the last 15 min',
        '    Open descriptors: 60 of 1,024',
        '    Memory: 200 MiB',
        '    Growth of memory: none was found',
    ]


def test_the_vital_signs_are_in_the_json_and_null_where_they_are_not_known(living, command, vital):
    living()
    growth = Growth(43200.0, 800 << 20, 1280 << 20, 11650.84)
    vital(growth=growth, **FULL)
    (process,) = json.loads(command('status', '--format', 'json')[1])['living']
    vitals = process['vitals']
    assert vitals.items() >= (FULL | {'rss': 200 << 20, 'cgroup_limit': None}).items()
    assert vitals['growth'].items() >= {'seconds': 43200.0, 'after': 1280 << 20}.items()
    assert vitals['growth']['summary'] == growth.summary
    assert vitals['growth']['seconds_to_limit'] is None
    vital()
    (process,) = json.loads(command('status', '--format', 'json')[1])['living']
    unknown = {name for name, value in process['vitals'].items() if value is None}
    assert unknown == {*FULL, 'threads', 'cgroup_current', 'cgroup_limit', 'growth'}


def test_a_script_serves_nobody(living, command, vital):
    living('script')
    vital(**FULL)
    assert 'Connections' not in command('status')[1]


@pytest.mark.parametrize('reason', ['workers', 'queue', 'connections', 'descriptors', 'loop'])
def test_the_exit_status_is_1_while_nobody_is_answered(living, command, vital, reason):
    living()
    vital(liveness.Hang('hang', STARTED, 'It is stuck.', reason=reason), **FULL)
    status, output, _ = command('status', '--format', 'json')
    (process,) = json.loads(output)['living']
    assert (status, process['hang']['reason']) == (1, reason)


def test_of_a_mute_process_the_status_says_when_the_values_were_true(living, command, vital):
    living()
    vital(liveness.Hang('silent', STARTED, 'It is mute.'), **FULL)
    status, output, _ = command('status')
    assert status == 1
    assert output.splitlines()[2] == (
        '    as of 2026-09-21 14:14:20 UTC; of the kernel and of the descriptors as of now:'
    )


# -- dead runs that wait ---------------------------------------------------------------------------


def test_a_wanted_stop_that_is_not_archived_yet_gives_exit_status_0(base, living, command):
    archived(base, record(0, 'crashed'))
    run = stopped(base)
    living()
    status, output, _ = command('status')
    assert status == 0 and f'dead, not yet archived: {run.name} [stopped, ' in output
    assert f'last run of {HERE.label}: ' in output and '[crashed' not in output
    status, output, _ = command('checks')
    assert '[info] 1 dead run waits to be archived.' in output
    assert base.waiting()[0] == run.name, 'it is left where it is'


def test_a_waiting_run_that_is_newer_is_the_last_run(base, command):
    archived(base, record(0))
    DeadRun(base.path, 1).crashed()
    status, output, _ = command('status')
    assert status == 1 and f'last run of {HERE.label}: Zope crashed' in output
    assert command('checks')[0] == 1 and '[warning] 1 dead run waits' in command('checks')[1]


def test_waiting_runs_count_for_a_crash_loop(base, command):
    archived(base, record(0, 'crashed', after=-200), record(1, 'crashed', after=-100))
    DeadRun(base.path).crashed()
    status, output, _ = command('status')
    assert status == 1 and output.startswith('CRASH LOOP: 3 incidents in a row: ')


def test_a_clean_script_is_only_counted(base, living, command):
    script = clean_script(base)
    living()
    status, output, _ = command('status')
    assert status == 0 and '1 clean run of a script, not yet counted' in output
    assert 'last run' not in output and script.name not in output
    assert 'wait' not in command('checks')[1]
    assert command('history')[1] == 'and 1 clean run of a script\n'
    assert command('show')[0] == 2


def test_a_script_that_crashed_is_not_the_last_run(base, command):
    script = DeadRun(base.path, 1, 'script').crashed()
    status, output, _ = command('status')
    assert status == 0 and f'dead, not yet archived: {script.name} [crashed' in output
    assert 'last run' not in output and 'No process is running.' in output
    assert script.name in command('history')[1] and script.name in command('show')[1]


def test_history_marks_what_is_not_archived_yet(base, command):
    (old,) = archived(base, record(0))
    run = stopped(base)
    lines = command('history')[1].splitlines()
    assert [line.split('  ')[-1] for line in lines[1:2]] == ['(not yet archived)']
    assert run.name in lines[1] and lines[2].endswith(old)


def test_a_run_that_another_process_archives_meanwhile_is_found(base, monkeypatch):
    run, examine = DeadRun(base.path).crashed(), allruns.examine

    def slowly(path, world=None):
        triage(base)
        return examine(path, world)

    monkeypatch.setattr(allruns, 'examine', slowly)
    found = allruns.AllRuns(base)
    assert found.waiting == () and [each.verdict for each in found.summaries()] == ['crashed']
    assert found.record(run.name).verdict == 'crashed'
    assert found.folder(run.name) == base.archive / run.name


def test_a_run_that_is_archived_after_the_scan_is_shown_once(base):
    run = DeadRun(base.path).crashed()
    found = allruns.AllRuns(base)
    triage(base)
    assert [each.run for each in found.summaries()] == [run.name]


def test_reading_commands_write_nothing(base, command):
    DeadRun(base.path, 0).crashed()
    clean_script(base)
    before = sorted(base.path.rglob('*'))
    for words in (('status',), ('history',), ('show',), ('report',), ('checks',), ('trace',)):
        command(*words)
    assert sorted(base.path.rglob('*')) == before and Archive(base).summaries() == ()


# -- for programs ----------------------------------------------------------------------------------


def test_status_as_json_has_all_keys(base, living, command, hangs):
    archived(base, record(0, 'crashed', signal='SIGSEGV'))
    run, script = stopped(base, 3), clean_script(base)
    name = living()
    hangs('silent', STARTED, 'It is stuck.', 2, 4)
    status, output, _ = command('status', '--format', 'json')
    told = json.loads(output)
    assert status == told['exit_status'] == 1
    assert told['directory'] == str(base.path) and told['generated'].endswith('Z')
    assert told['living'] == [
        {
            'run': name,
            'pid': os.getpid(),
            'role': 'server',
            'instance': to_json(HERE),
            'started': isotime(STARTED + 9e5)[:19] + '.000Z',
            'state': 'hanging',
            'last_sample': isotime(STARTED),
            'hang': {
                'kind': 'silent',
                'since': isotime(STARTED),
                'summary': 'It is stuck.',
                'stuck': 2,
                'serving': 4,
                'reason': '',
                'seconds': 61.0,
            },
            'delay': None,
            'vitals': None,
        }
    ]
    (waits,) = told['waiting']
    assert (waits['run'], waits['verdict'], waits['is_incident']) == (run.name, 'stopped', False)
    assert told['clean_scripts_waiting'] == [script.name]
    (known,) = told['instances']
    assert known == {
        'instance': to_json(HERE),
        'living': [name],
        'last_run': waits,
        'crash_loop': [],
        'open_incidents': [],
        'before_that': None,
    }


def test_status_as_json_lists_the_runs_of_a_crash_loop(base, command):
    status, output, _ = command('status', '--format', 'json')
    told = json.loads(output)
    assert (status, told['exit_status'], told['living'], told['instances']) == (0, 0, [], [])
    names = archived(base, *(record(n, 'crashed', after=n * 60) for n in range(3)))
    (known,) = json.loads(command('status', '--format', 'json')[1])['instances']
    assert known['crash_loop'] == names[::-1] and known['last_run']['run'] == names[-1]


def test_formats_rst_names_every_key_of_the_json_of_status(base, living, command, hangs, vital):
    archived(base, record(0))
    living()
    hangs('hang', STARTED, 'It is stuck.', 1, 1)
    told = json.loads(command('status', '--format', 'json')[1])
    formats = (CHECKOUT / 'docs/formats.rst').read_text('utf-8')
    section = formats.partition('``stabilitymonitor status --format json``')[2]
    section = section.partition('\nThe trace log\n')[0]
    keys = {*told, *told['living'][0], *told['living'][0]['hang'], *told['instances'][0]}
    vital(**FULL)
    keys |= set(json.loads(command('status', '--format', 'json')[1])['living'][0]['vitals'])
    assert [key for key in keys | {*told['instances'][0]['last_run']} if key not in section] == []
