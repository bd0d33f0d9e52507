"""Hostile files in the data directory.

Each start, command and page ends, and no text of a record becomes a path or a program.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from support import deaths
from support import syntheticruns as synthetic
from support.deaths import Site
from support.zopekit import CHECKOUT
from support.zopekit import ZopeFailed
from support.zopekit import wait_for

from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity

pytestmark = pytest.mark.zope

#: Seconds after which a start, a command or a page counts as hanging, also on a busy machine.
START, COMMAND, PAGE = 120, 120, 60
#: Bytes: the limit for the address space of each process, so that one that reads /dev/zero does not
#: harm the machine; and the size of a file that does not fit into it.
ROOM, HUGE = 2 << 30, 20 << 30
#: A start may use at most this many times the memory of a Zope without dead runs.
MORE_MEMORY = 3
#: No system has a process with this number.
GONE_PID = 4_999_999
HOURS_AGO = time.time() - 36_000
LIMITED = ('sh', '-c', f'ulimit -v {ROOM >> 10} && exec "$@"', 'sh')
OPTIONS = {
    'sample-interval': '100ms',
    'keep-runs': '5000',
    'keep-days': '100000',
    'keep-bytes': '20GB',
}
DAMAGED = 'The archived record of this run cannot be read.'
PANEL = '/Control_Panel/StabilityMonitor'
PAGES = (
    'manage_main',
    'manage_checks',
    'manage_threads',
    'manage_incidents?show=all&instances=all',
    'manage_report',
    'report?format=json',
)


# -- special files ---------------------------------------------------------------------------------


def _fifo(path, endless):
    os.mkfifo(path)


def _zero(path, endless):
    path.symlink_to('/dev/zero')


def _endless(path, endless):
    path.symlink_to(endless)


def _socket(path, endless):
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _folder(path, endless):
    path.mkdir()


def _huge(path, endless):
    path.touch()
    os.truncate(path, HUGE)


SPECIAL_FILES = {
    'a FIFO': _fifo,
    'a link to /dev/zero': _zero,
    'a link to an endless FIFO': _endless,
    'a socket': _socket,
    'a folder': _folder,
    'a huge file': _huge,
}
special_files = pytest.mark.parametrize('special', SPECIAL_FILES)
#: Each start of Zope takes seconds, so several kinds are tried at once.
TOGETHER = (
    ('a FIFO', 'a link to /dev/zero', 'a socket'),
    ('a link to an endless FIFO', 'a folder', 'a huge file'),
)


def put(special, path, endless):
    """Replace what is at `path` by this special file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    SPECIAL_FILES[special](path, endless)


@pytest.fixture(scope='module')
def endless(tmp_path_factory):
    """A FIFO into which a process always writes."""
    path = tmp_path_factory.mktemp('elsewhere') / 'endless'
    os.mkfifo(path)
    writer = subprocess.Popen(
        ['sh', '-c', 'while :; do yes > "$0"; done', str(path)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield path
    os.killpg(writer.pid, signal.SIGKILL)
    writer.wait()


# -- sites, dead runs and commands -----------------------------------------------------------------


class LimitedSite(Site):
    prefix = LIMITED

    def most_memory(self):
        """Return the high-water mark of the resident memory of the process, in KiB."""
        with open(f'/proc/{self.pid}/status') as file:
            most = [int(line.split()[1]) for line in file if line.startswith('VmHWM')]
        assert most, f'It has ended: {self.wait_exit()}, {self.last_words()}'
        return most[0]


@pytest.fixture
def site(tmp_path):
    site = LimitedSite(tmp_path / 'site', options=OPTIONS).create()
    yield site
    site.destroy()


@pytest.fixture(scope='module')
def usual_memory(tmp_path_factory):
    """The high-water mark of the memory of a Zope without dead runs, after requests for its pages,
    in KiB.
    """
    site = LimitedSite(tmp_path_factory.mktemp('usual'), options=OPTIONS).create()
    try:
        site.start()
        nothing_in(troubles_of_pages(site))
        memory = site.most_memory()
    finally:
        site.destroy()
    return memory


@pytest.fixture(scope='module')
def dead(tmp_path_factory):
    """Two dead runs: {'crashed': its directory, 'vanished': its directory}."""
    site, made = Site(tmp_path_factory.mktemp('dead'), options=OPTIONS).create(), {}
    for verdict, die in (('crashed', deaths.page('/segfault')), ('vanished', deaths.by('SIGKILL'))):
        site.start()
        die(site)
        site.wait_exit()
        made[verdict] = site.run_directory.rename(site.home / verdict)
        change(made[verdict], identity={'pid': GONE_PID})
    yield made
    site.destroy()


def change(path, **sections):
    """Change values in sections of the context of a run."""
    file = path / 'context.json'
    context = json.loads(file.read_text())
    for name, values in sections.items():
        context[name] = context.get(name, {}) | values
    file.write_text(json.dumps(context))


def troubles_of_pages(site, *more):
    """Return a sentence for each page that does not answer with status 200."""
    found = []
    for page in (*PAGES, *more):
        try:
            status = site.get(f'{PANEL}/{page}', timeout=PAGE).status
        except OSError as error:
            status = repr(error)
        if status != 200:
            found.append(f'{page}: {status}')
    return found


def nothing_in(troubles):
    """Fail with all troubles, if there are any."""
    if troubles:
        pytest.fail('\n'.join(troubles), pytrace=False)


def start_command(stability, *words, **environ):
    program = [*LIMITED, sys.executable, '-m', 'Products.StabilityMonitor']
    environ = os.environ | {'PYTHONPATH': str(CHECKOUT)} | environ
    return subprocess.Popen(
        [*program, '--directory', str(stability), *words],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_of(command, timeout=COMMAND):
    """Return (exit status, output, errors) of a command; the status of a command that hangs is
    None.
    """
    try:
        output, errors = command.communicate(timeout=timeout)
        return command.returncode, output, errors
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGKILL)
        return None, *command.communicate()


def trouble_of(end):
    """Return what is wrong with the end of a command, or ''."""
    status, output, errors = end
    if status is None:
        return 'it hangs'
    if 'Traceback' in errors or status not in (0, 1, 2):
        return f'it ends with {status}: {errors[-400:]}'
    return '' if output or errors or not status else 'it fails and says nothing'


def troubles_of_commands(stability, *commands):
    """Run the commands at the same time, and return a sentence for each that hangs or fails."""
    started = {' '.join(words): start_command(stability, *words) for words in commands}
    until = time.monotonic() + COMMAND
    ends = {
        words: end_of(command, max(1, until - time.monotonic()))
        for words, command in started.items()
    }
    return [f'{words}: {trouble}' for words, end in ends.items() if (trouble := trouble_of(end))]


def all_commands(run):
    return [
        ('status',),
        ('history',),
        ('checks', '--all'),
        ('checks', '--json'),
        ('stacks',),
        ('report',),
        ('report', '--format', 'json'),
        ('report', run),
        ('show', run),
        ('trace',),
        ('trace', run),
    ]


def checks_in_trouble(stability):
    """Return the titles of checks of the living process that hang or have failed."""
    status, output, errors = end_of(start_command(stability, 'checks', '--json'))
    assert status is not None, 'the command "checks" hangs'
    titles = [
        check['title'] for subject in json.loads(output)['subjects'] for check in subject['checks']
    ]
    return [title for title in titles if title.startswith(('A check hangs', 'A check failed'))]


class Graveyard:
    """Dead runs in the data directory of a site, each with a special file or an odd value.

    `labels` describes them; `wanted` has the possible verdicts of each.
    """

    def __init__(self, site):
        self.site, self.labels, self.wanted = site, {}, {}
        self.runs = site.stability / 'runs'
        self.runs.mkdir(parents=True)

    def bury(self, source, label, *verdicts):
        name = new_name(HOURS_AGO + len(self.wanted), GONE_PID)
        shutil.copytree(source, self.runs / name)
        self.labels[name], self.wanted[name] = label, verdicts
        return self.runs / name

    def check(self, usual_memory):
        """Assert that the runs disturb no command, no start and no page, and that each is judged
        once.
        """
        run = min(self.wanted)
        stability = self.site.stability
        found = [
            f'before the start, {each}'
            for each in troubles_of_commands(stability, *all_commands(run))
        ]
        self.start(found)
        found += [
            f'{self.labels[name]}: {verdict}'
            for name, verdict in self.verdicts().items()
            if verdict not in self.wanted[name]
        ]
        found += ['Traceback'] if 'Traceback' in self.site.event_log.read_text() else []
        found += troubles_of_pages(self.site, f'manage_incident?run={run}', f'report?run={run}')
        found += troubles_of_commands(stability, *all_commands(run), ('triage',))
        memory = self.site.most_memory()
        found += [f'{memory} KiB'] if memory > MORE_MEMORY * usual_memory else []
        before = self.stamps()
        self.site.stop()
        self.start(found)
        found += ['judged again'] if self.stamps() != before else []
        nothing_in(found)

    def start(self, found=()):
        """Start the site; if the start does not end, fail with `found` and the runs that
        cause it.
        """
        try:
            self.site.start(timeout=START)
        except ZopeFailed:
            self.site.destroy()
            culprits = [f'alone, {each}' for each in self.culprits()]
            nothing_in([*found, 'the start does not end', *culprits])

    def verdicts(self):
        """Return {name: verdict or "not archived"}."""
        archived = {record['run']: record['verdict'] for record in self.site.archive()}
        return {name: archived.get(name, 'not archived') for name in self.wanted}

    def stamps(self):
        """Return {name: time of the last change of its record}."""
        files = [self.site.stability / 'archive' / name / 'incident.json' for name in self.wanted]
        return {file.parent.name: file.stat().st_mtime_ns for file in files if file.exists()}

    def culprits(self):
        """Judge each run alone, and describe those whose triage fails or hangs; at most eight."""
        found = []
        for name in sorted(os.listdir(self.runs)):
            alone = self.site.home / 'alone' / name
            if name in self.labels and len(found) < 8:
                (alone / 'runs').mkdir(parents=True)
                (alone / 'archive').mkdir()
                (self.runs / name).rename(alone / 'runs' / name)
                trouble = trouble_of(end_of(start_command(alone, 'triage'), 5))
                found += [f'{self.labels[name]} ({trouble})'] if trouble else []
        return found


# -- special files in dead runs --------------------------------------------------------------------

#: Files that other releases write, that are written later, or that are foreign.
ALSO = (
    'claim',
    'checks.json',
    'extra.mark',
    'watchdog-0.mark',
    'incident.json',
    'summary.json',
    'blackbox.sbr.gz',
)
IN_VANISHED = {'context.json', 'blackbox.sbr', 'installed.json', 'SIGTERM.mark', 'watchdog.mark'}
ANYTHING = ('crashed', 'vanished', 'unreadable', 'startup-failed')


def possible(verdict, file):
    """Return the possible verdicts: the dump alone shows a crash, black box and context show the
    rest.
    """
    if file == 'faults.mark' or verdict == 'vanished' and file in ('blackbox.sbr', 'context.json'):
        return ANYTHING
    return (verdict,)


def test_undamaged_dead_runs_cause_no_trouble(site, dead, usual_memory):
    """Shows that the assertions of the other tests hold for normal runs."""
    graves = Graveyard(site)
    for verdict, source in dead.items():
        graves.bury(source, verdict, verdict)
    graves.check(usual_memory)


@pytest.mark.parametrize(
    'specials', [TOGETHER[0], pytest.param(TOGETHER[1], marks=pytest.mark.sweep)]
)
@pytest.mark.slow
def test_special_files_in_dead_runs_do_no_harm(site, dead, endless, usual_memory, specials):
    graves = Graveyard(site)
    files = {'crashed': {*os.listdir(dead['crashed']), *ALSO}, 'vanished': IN_VANISHED}
    places = [(verdict, file) for verdict in files for file in sorted(files[verdict])]
    for special, (verdict, file) in itertools.product(specials, places):
        label = f'{verdict}, {special} as {file}'
        put(special, graves.bury(dead[verdict], label, *possible(verdict, file)) / file, endless)
    graves.bury(dead['crashed'], 'nothing', 'crashed')
    graves.check(usual_memory)


def as_it_is(path):
    status = path.stat()
    return {'path': str(path), 'device': status.st_dev, 'inode': status.st_ino}


@pytest.mark.sweep
def test_a_special_file_in_place_of_standard_error_does_no_harm(
    site, dead, endless, usual_memory, tmp_path
):
    """The file was replaced after the start, or the context says that it always was this special
    file.
    """
    graves = Graveyard(site)
    for number, special in enumerate(SPECIAL_FILES):
        path = tmp_path / f'stderr{number}'
        put(special, path, endless)
        for verdict, source in dead.items():
            change(
                graves.bury(source, f'{verdict}, replaced by {special}', verdict),
                outputs={
                    '2': json.loads((source / 'context.json').read_text())['outputs']['2']
                    | {'path': str(path)}
                },
            )
            change(
                graves.bury(source, f'{verdict}, always {special}', verdict),
                outputs={'2': {'kind': 'file', 'size': 0} | as_it_is(path)},
            )
    graves.bury(dead['crashed'], 'nothing', 'crashed')
    graves.check(usual_memory)


def write_box(path):
    """Write the black box of a run that has served and knew its memory cgroup."""
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    for word in ('armed', 'serving'):
        recorder.stamp(word, HOURS_AGO)
    recorder.begin('GET', '/served')
    recorder.end(200)
    recorder.sample(synthetic.sample(cgroup_kills=0, host_kills=0))
    (path / 'blackbox.sbr').write_bytes(recorder.buffer)


@pytest.mark.sweep
def test_a_special_file_in_place_of_the_cgroup_does_no_harm(
    site, dead, endless, usual_memory, tmp_path
):
    graves = Graveyard(site)
    good = tmp_path / 'cgroup'
    good.mkdir()
    for number, special in enumerate(SPECIAL_FILES):
        path = tmp_path / f'counter{number}'
        put(special, path, endless)
        for label, directory in (('counter', good), ('directory', path)):
            grave = graves.bury(dead['vanished'], f'{label}: {special}', 'vanished')
            write_box(grave)
            known = as_it_is(directory)
            change(grave, cgroup={**known, 'directory': known['path'], 'counter_file': str(path)})
    graves.bury(dead['crashed'], 'nothing', 'crashed')
    graves.check(usual_memory)


def stat_of(start_ticks):
    """Return a line as in /proc/<pid>/stat."""
    return '1 (x) S ' + ' '.join(['0'] * 18 + [str(start_ticks)] + ['0'] * 20)


@pytest.mark.slow
def test_an_impossible_pid_in_the_context_does_no_harm(site, dead, usual_memory, tmp_path):
    """Such a pid must not lead outside of /proc, and a pid that stands for several processes must
    not count as alive.
    """
    graves = Graveyard(site)
    ticks = json.loads((dead['crashed'] / 'context.json').read_text())['identity']['start_ticks']
    waiting, lying = tmp_path / 'waiting', tmp_path / 'lying'
    for folder in (waiting, lying):
        folder.mkdir()
    os.mkfifo(waiting / 'stat')
    (lying / 'stat').write_text(stat_of(ticks))
    pids = [
        path
        for folder in (waiting, lying)
        for path in (str(folder), f'../..{folder}', f'self/../..{folder}')
    ]
    for pid in [
        *pids,
        -1,
        0,
        True,
        1e300,
        -1e300,
        0.5,
        'x',
        '',
        '1',
        '-1',
        '1/../1',
        '\0',
        None,
        [1],
        {'pid': 1},
    ]:
        label = f'pid {str(pid).replace(str(tmp_path), "")!r}'
        change(graves.bury(dead['crashed'], label, 'crashed'), identity={'pid': pid})
        for missing in ({'start_ticks': 0}, {'boot_id': ''}):
            grave = graves.bury(dead['crashed'], f'{label}, {missing}', 'crashed')
            change(grave, identity={'pid': pid, **missing})
    for key, value in (
        ('start_ticks', str(ticks)),
        ('start_ticks', 1e300),
        ('start_ticks', -1),
        ('host', '/dev/zero'),
        ('boot_id', '../../x'),
        ('pid_namespace', '/dev/zero'),
    ):
        change(graves.bury(dead['crashed'], f'{key} {value!r}', 'crashed'), identity={key: value})
    graves.check(usual_memory)


@pytest.mark.slow
def test_entries_that_are_not_runs_do_no_harm(site, dead, endless, usual_memory):
    """Incomplete runs, and names with an impossible date."""
    graves = Graveyard(site)
    graves.bury(dead['crashed'], 'nothing', 'crashed')
    for number, special in enumerate(SPECIAL_FILES):
        half = graves.runs / f'.new-{new_name(HOURS_AGO + number, GONE_PID)}'
        half.mkdir()
        put(special, half / 'context.json', endless)
        os.utime(half, (HOURS_AGO, HOURS_AGO))
        put(special, graves.runs / new_name(HOURS_AGO - 1000 - number, GONE_PID), endless)
    for name in (
        '20269999T999999Z-1-abcd',
        '00000000T000000Z-1-abcd',
        f'20260101T000000Z-{"9" * 200}-abcd',
    ):
        shutil.copytree(dead['crashed'], graves.runs / name)
    graves.bury(dead['crashed'], 'nothing', 'crashed')
    graves.check(usual_memory)


# -- special files beside the runs -----------------------------------------------------------------

BESIDE = (
    'acknowledged.json',
    'muted.json',
    'token.key',
    'known-issues.toml',
    'recursion-probe.json',
    'arming/x.json',
    'archive/clean-scripts',
)
IN_RECORD = ('incident.json', 'summary.json', 'checks.json', 'context.json')


def archived(stability, number, run=None, **values):
    """Write a record with `run` in place of its real name, and return the name of its folder."""
    record = synthetic.record(number, 'crashed', **values)
    folder = stability / 'archive' / record.run
    folder.mkdir(parents=True)
    for name, document in (
        ('incident.json', record.to_json()),
        ('summary.json', record.summary_json()),
    ):
        (folder / name).write_text(json.dumps(document | ({} if run is None else {'run': run})))
    (folder / 'checks.json').write_text('{}')
    (folder / 'context.json').write_text('{}')
    return record.run


class Beside:
    """A site with special files in place of some files beside its runs, or in its records.

    `specials` is {file: the kind of special file}.
    """

    def __init__(self, folder, specials, endless):
        self.site = LimitedSite(folder, options=OPTIONS).create()
        self.names = {
            file: archived(self.site.stability, number) for number, file in enumerate(IN_RECORD)
        }
        for file, special in specials.items():
            name = f'archive/{self.names[file]}/{file}' if file in IN_RECORD else file
            path = self.site.stability / name
            path.parent.mkdir(parents=True, exist_ok=True)
            put(special, path, endless)

    def troubles(self, usual_memory, timeout=START):
        """Return what is wrong with a start, the pages and the commands, in sentences."""
        site, run = self.site, self.names['incident.json']
        try:
            found = [
                f'before the start, {each}'
                for each in troubles_of_commands(site.stability, *all_commands(run))
            ]
            site.start(timeout=timeout)
            found += troubles_of_pages(site, f'manage_incident?run={run}', f'report?run={run}')
            found += troubles_of_commands(site.stability, *all_commands(run))
            found += checks_in_trouble(site.stability)
            found += (
                []
                if set(self.names.values()) <= listed(site.stability)
                else ['not all runs are listed']
            )
            found += ['Traceback'] if 'Traceback' in site.event_log.read_text() else []
            found += (
                []
                if site.most_memory() < MORE_MEMORY * usual_memory
                else ['it takes too much memory']
            )
            return found
        except ZopeFailed:
            return [*found, 'the start does not end']
        finally:
            site.destroy()


def listed(stability):
    """Return the names of the runs that `history` lists."""
    status, output, errors = end_of(start_command(stability, 'history'))
    assert (status, errors) == (0, '')
    _, *lines = output.splitlines()  # the first line has the titles of the columns
    return {line.split()[-1] for line in lines if not line.startswith('and ')}


@pytest.mark.parametrize(
    'first', [0, *(pytest.param(first, marks=pytest.mark.sweep) for first in range(1, 6))]
)
@pytest.mark.slow
def test_special_files_beside_the_runs_do_no_harm(tmp_path, endless, usual_memory, first):
    """Tries all files at once, with the kinds in turn, from the first one on; after a failure each
    file alone, to find the cause.
    """
    kinds = itertools.islice(itertools.cycle(SPECIAL_FILES), first, None)
    specials = dict(zip(BESIDE + IN_RECORD, kinds, strict=False))
    together = Beside(tmp_path / 'all', specials, endless).troubles(usual_memory)
    if together:
        each = {
            f'{special} as {file}': Beside(
                tmp_path / file.replace('/', '-'), {file: special}, endless
            ).troubles(usual_memory, 10)
            for file, special in specials.items()
        }
        nothing_in(
            [
                *together,
                *(f'alone, {file}: {"; ".join(found)}' for file, found in each.items() if found),
            ]
        )


@special_files
def test_a_special_file_in_place_of_the_script_counter_does_no_harm(tmp_path, endless, special):
    """A script that ended cleanly adds a byte to that file; other dead runs are judged all the
    same.
    """
    script = synthetic.DeadRun(tmp_path / 'stability', 1, role='script')
    script.box(
        lambda recorder: [
            recorder.stamp(word, script.started + 1) for word in ('armed', 'finished')
        ]
    )
    server = synthetic.DeadRun(tmp_path / 'stability', 2).crashed()
    put(special, tmp_path / 'stability' / 'archive' / 'clean-scripts', endless)
    assert trouble_of(end_of(start_command(tmp_path / 'stability', 'triage'))) == ''
    assert server.name in listed(tmp_path / 'stability')


# -- special files as answers ----------------------------------------------------------------------


@pytest.fixture
def living(tmp_path):
    """The directory of a run of this test process."""
    directory = Base(tmp_path / 'stability').create(
        new_name(time.time(), os.getpid()),
        {'format': 1, 'identity': identity(), 'role': 'server', 'started': time.time()},
    )
    (directory.path / 'questions').mkdir()
    (directory.path / 'bell').write_bytes(bytes(8))
    yield directory.path
    directory.abandon()


@contextlib.contextmanager
def answering(run, answer):
    """Answer each mailbox request: `answer` puts something at the path of the answer."""
    over = threading.Event()

    def look():
        while not over.wait(0.01):
            for question in run.glob('questions/*.ask'):
                with contextlib.suppress(FileNotFoundError):
                    question.unlink()
                    answer(question.with_suffix('.answer'))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kinds_and_files():
    """Return a parameter for each kind and place; the sweep has four of five."""
    found = []
    files = ('bell', 'questions', 'context.json', 'checks.json', 'blackbox.sbr')
    for number, special in enumerate(SPECIAL_FILES):
        for place, file in enumerate(files):
            marks = [pytest.mark.sweep] if (number + place) % 5 else []
            found.append(pytest.param(special, file, marks=marks))
    return found


@special_files
def test_a_special_file_in_place_of_a_mailbox_answer_does_no_harm(living, endless, special):
    with answering(living, lambda path: put(special, path, endless)):
        nothing_in(
            troubles_of_commands(
                living.parent.parent, ('checks',), ('checks', '--json'), ('stacks',)
            )
        )


@pytest.mark.parametrize('special, file', kinds_and_files())
def test_a_special_file_in_a_living_run_does_no_harm(living, endless, special, file):
    put(special, living / file, endless)
    commands = [('status',), ('checks',), ('stacks',), ('trace', living.name)]
    nothing_in(troubles_of_commands(living.parent.parent, *commands))


# -- links that lead elsewhere ---------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path):
    """A foreign folder, with files that have the names of files of a run."""
    folder = tmp_path / 'site' / 'precious'
    (folder / 'questions').mkdir(parents=True)
    for name in ('questions/letter', 'bell', 'blackbox.sbr', 'SIGTERM.mark', 'letter'):
        (folder / name).write_bytes(b'precious' + bytes(4096))
    (folder / 'checks.json').write_text(
        json.dumps(
            {'checks': [{'id': 'secret', 'severity': 'critical', 'title': 'A secret word.'}]}
        )
    )
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_a_link_in_a_dead_run_changes_nothing_elsewhere(site, dead, precious):
    graves = Graveyard(site)
    for file in (
        'extra.mark',
        'SIGTERM.mark',
        'blackbox.sbr.gz',
        'lock',
        'bell',
        'incident.json',
        'summary.json',
    ):
        path = graves.bury(dead['crashed'], file, 'crashed') / file
        path.unlink(missing_ok=True)
        path.symlink_to(precious / 'letter')
    path = graves.bury(dead['crashed'], 'questions', 'crashed') / 'questions'
    path.rmdir()
    path.symlink_to(precious / 'questions')
    (graves.runs / new_name(HOURS_AGO - 5, GONE_PID)).symlink_to(precious)
    before = contents(precious)
    graves.start()
    assert set(graves.verdicts().values()) == {'crashed'}
    assert contents(precious) == before


@pytest.mark.parametrize('file', ['bell', 'questions'])
def test_a_link_in_a_living_run_changes_nothing_elsewhere(living, precious, file):
    path = living / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(precious / file)
    before = contents(precious)
    nothing_in(troubles_of_commands(living.parent.parent, ('checks',), ('stacks',)))
    assert contents(precious) == before


# -- a record's text becomes a path ----------------------------------------------------------------


def claims(site, precious):
    """Return values for the key `run` of a record."""
    return [
        '../../precious',
        '../../../precious',
        str(precious),
        '',
        '.',
        '..',
        '../archive',
        '../runs',
        '/',
        '20260101T000000Z-1-abcd/../../../../precious',
        '20200101T000000Z-1-abcd',
    ]


@pytest.fixture
def impostors(site, precious):
    """Return {folder of a record: the run that it claims to be}, and the newest record, which is
    correct.
    """
    good = archived(site.stability, 99)
    told = {}
    for number, claim in enumerate([*claims(site, precious), good]):
        instance = synthetic.Instance('here', f'/home/{number}', '')
        told[archived(site.stability, number, claim, instance=instance)] = claim
    shutil.copytree(precious, site.client_home / 'precious')
    return told, good


def test_a_record_that_names_another_run_counts_as_damaged(site, precious, impostors):
    told, good = impostors
    assert listed(site.stability) == {*told, good}
    shown = {name: end_of(start_command(site.stability, 'show', name))[1] for name in told}
    assert [
        told[name] for name, text in shown.items() if DAMAGED not in text or name not in text
    ] == []
    assert 'It ended: crashed.' in end_of(start_command(site.stability, 'show', good))[1]


def test_a_record_that_names_another_run_shows_nothing_from_elsewhere(site, precious, impostors):
    told, good = impostors
    commands = [words for name in (good, next(iter(told))) for words in all_commands(name)]
    for words in dict.fromkeys(commands):
        end = end_of(start_command(site.stability, *words))
        assert trouble_of(end) == '', words
        assert 'secret' not in end[1] + end[2], words


@pytest.mark.parametrize('keep', [1, 3])
def test_a_record_that_names_another_run_removes_nothing_else(site, precious, impostors, keep):
    """Pruning removes folders of the archive by the names of the folders."""
    told, good = impostors
    before = contents(precious)
    site.configure(keep_runs=str(keep)).start()
    with contextlib.suppress(AssertionError):
        wait_for(lambda: len(folders(site)) <= keep, 10)
    site.stop()
    assert contents(precious) == contents(site.client_home / 'precious') == before
    assert len(folders(site)) == keep
    assert good in folders(site)
    assert (site.stability / 'runs').is_dir()


def test_a_record_with_an_impossible_name_does_not_stop_pruning(site):
    """No path can contain a zero byte: pruning continues with the other records."""
    for number, claim in enumerate([None, 'x\0y', None]):
        archived(site.stability, number, claim)
    site.configure(keep_runs='1').start()
    wait_for(lambda: len(folders(site)) == 1, 20, 'pruning')


def folders(site):
    archive = site.stability / 'archive'
    return (
        {name for name in os.listdir(archive) if not name.startswith('.')}
        if archive.exists()
        else set()
    )


# -- a record's text becomes a program -------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    """Return (a program that must not be run, the file that it writes when it is run)."""
    folder = tmp_path / 'theirs'
    folder.mkdir()
    program, written = folder / 'python3', folder / 'written'
    program.write_text(f'#!/bin/sh\necho run >> {written}\n')
    program.chmod(0o755)
    return program, written


@pytest.fixture
def sleeping():
    """A function that starts a sleeping program and returns its process."""
    started = []

    def start():
        started.append(subprocess.Popen(['sleep', '600']))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def planted(stability, pid, known, **context):
    """Make the directory of a run that never existed; its name contains `pid`."""
    path = stability / 'runs' / new_name(time.time(), pid)
    path.mkdir(parents=True)
    (path / 'context.json').write_text(
        json.dumps(
            {'format': 1, 'identity': known, 'role': 'server', 'started': time.time(), **context}
        )
    )
    return path


WHOSE = (
    'dead',
    'archived',
    'another process',
    'a process of its name',
    'no identity',
    'this very process',
)


@pytest.mark.parametrize('whose', WHOSE)
def test_the_probe_runs_no_program_named_in_a_record(tmp_path, script, sleeping, whose):
    stability, context = tmp_path / 'stability', {'executable': str(script[0])}
    stability.mkdir()
    victim = sleeping()
    if whose == 'archived':
        name = archived(stability, 1)
        (stability / 'archive' / name / 'context.json').write_text(json.dumps(context))
    else:
        pid, known = {
            'dead': (GONE_PID, identity(victim.pid) | {'start_ticks': 1}),
            'another process': (GONE_PID, identity(victim.pid)),
            'a process of its name': (victim.pid, identity(victim.pid)),
            'no identity': (victim.pid, None),
            'this very process': (os.getpid(), identity()),
        }[whose]
        planted(stability, pid, known, **context)
    assert trouble_of(end_of(start_command(stability, 'checks', '--probe'))) == ''
    assert not script[1].exists()


def test_the_probe_runs_no_program_named_in_a_living_context(site, script):
    site.start()
    file = site.run_directory / 'context.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'executable': str(script[0])}))
    assert trouble_of(end_of(start_command(site.stability, 'checks', '--probe'))) == ''
    assert not script[1].exists()


#: The command, with another `sys.executable`: tools for native stacks are looked for beside it.
AS_PYTHON = """\
import sys
sys.executable = sys.argv.pop(1)
from Products.StabilityMonitor.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize('known', ['another process', 'no identity', 'no start'])
def test_native_stacks_are_taken_only_of_the_process_of_the_run(tmp_path, sleeping, known):
    """Neither the process with the pid in the name of the run nor the one in its context is
    examined.
    """
    tools = tmp_path / 'tools'
    tools.mkdir()
    attacked = tmp_path / 'attacked'
    (tools / 'python3').symlink_to(os.path.realpath(sys.executable))
    for name in ('py-spy', 'pystack'):
        (tools / name).write_text(f'#!/bin/sh\necho "$@" >> {attacked}\n')
        (tools / name).chmod(0o755)
    victim = sleeping()
    other = sleeping()
    told = {
        'another process': identity(other.pid),
        'no identity': None,
        'no start': identity(other.pid) | {'start_ticks': 0},
    }[known]
    run = planted(tmp_path / 'stability', victim.pid, told)
    program = [sys.executable, '-c', AS_PYTHON, str(tools / 'python3')]
    done = subprocess.run(
        [*program, '--directory', str(tmp_path / 'stability'), 'stacks', run.name, '--native'],
        env=os.environ | {'PYTHONPATH': str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND,
    )
    assert 'Traceback' not in done.stderr
    assert not attacked.exists(), attacked.read_text()
    assert (victim.poll(), other.poll()) == (None, None)
