"""Mailbox requests to a living run: each is answered once, a dead run is recognized, and no file in
the mailbox does harm.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import stat
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs.handshake import PATIENCE
from programs.handshake import until

from Products.StabilityMonitor.model.errors import NoAnswer
from Products.StabilityMonitor.store import answerboard
from Products.StabilityMonitor.store import runmailbox
from Products.StabilityMonitor.store.runmailbox import BELL
from Products.StabilityMonitor.store.runmailbox import FOLDER
from Products.StabilityMonitor.store.runmailbox import Inbox
from Products.StabilityMonitor.store.runmailbox import ask

HEX = '0123456789abcdef'
NOBODY = 65534


class Run:
    """A run's directory with an inbox; inside a `with` block a thread beats for it."""

    def __init__(self, path):
        self.path, self.folder, self.calls = path, path / FOLDER, []
        self.inbox = Inbox(
            path, {'stacks': self.tell, 'broken': self.fail, 'odd': lambda: {'a': {1, 2}}}
        )
        self.over = threading.Event()

    def tell(self):
        self.calls.append(time.monotonic())
        return {'threads': ['ü'], 'call': len(self.calls)}

    def fail(self):
        raise FileNotFoundError('a file of the site')

    def beat(self):
        while not self.over.wait(0.01):
            self.inbox.listen()

    def __enter__(self):
        self.thread = threading.Thread(target=self.beat)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.thread.join()

    def leave(self, name=f'{HEX}-stacks.ask', age=0.0):
        """Make a file in the folder, `age` seconds old."""
        path = self.folder / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
        return path

    @property
    def names(self):
        return sorted(os.listdir(self.folder))

    def age_folder(self, seconds=10):
        os.utime(self.folder, (time.time() - seconds,) * 2)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_only_the_owner_has_access_to_the_folder(run):
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700


class TestAnAnswer:
    def test_a_request_is_answered_and_no_file_is_left(self, run):
        with run:
            assert ask(run.path, 'stacks', PATIENCE) == {'threads': ['ü'], 'call': 1}
        assert run.names == []

    def test_ten_equal_requests_in_one_beat_cost_one_answer(self, run):
        with ThreadPoolExecutor(10) as pool, as_an_older_release(run):
            asked = [pool.submit(ask, run.path, 'stacks', PATIENCE) for _ in range(10)]
            until(lambda: len(run.names) == 10)
            run.inbox.look()
            assert [future.result()['call'] for future in asked] == [1] * 10
        assert run.names == [] and len(run.calls) == 1

    def test_fifty_requests_at_once_are_all_answered(self, run):
        with run, ThreadPoolExecutor(50) as pool:
            asked = [pool.submit(ask, run.path, 'stacks', PATIENCE) for _ in range(50)]
            assert all(future.result()['threads'] == ['ü'] for future in asked)
        assert run.names == []

    def test_an_answer_is_written_whole_and_for_the_owner_alone(self, run):
        run.leave()
        run.inbox.look()
        (name,) = run.names
        assert name == f'{HEX}-stacks.answer'
        assert stat.S_IMODE((run.folder / name).stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        'subject, words',
        [
            ('nonsense', 'does not know that request'),
            ('broken', 'a file of the site'),
            ('odd', 'not JSON serializable'),
        ],
    )
    def test_a_failed_answer_gives_its_reason_and_the_next_one_works(
        self, run, monkeypatch, subject, words
    ):
        with run:
            if subject != 'nonsense':
                monkeypatch.setattr(answerboard, 'SUBJECTS', ('stacks', subject))
            error = ask(run.path, subject, PATIENCE)['error']
            assert error.startswith(f"There is no answer to '{subject}'") and words in error
            assert ask(run.path, 'stacks', PATIENCE)['call'] == 1

    def test_a_withdrawn_request_gets_no_answer(self, run, monkeypatch):
        path, listdir = run.leave(), os.listdir

        def list_and_leave(folder):
            found = listdir(folder)
            path.unlink()
            return found

        monkeypatch.setattr(os, 'listdir', list_and_leave)
        run.inbox.look()
        monkeypatch.undo()
        assert run.calls == [] and run.names == []

    def test_an_answer_that_cannot_be_written_does_no_harm(self, run, monkeypatch):
        def full(*args):
            raise OSError(28, 'No space left on device')

        with monkeypatch.context() as patch:
            patch.setattr(runmailbox.Folder, 'write_whole', full)
            run.leave()
            run.inbox.look()
        with run:
            assert ask(run.path, 'stacks', PATIENCE)['threads'] == ['ü']

    def test_an_answer_that_does_not_fit_says_so(self, run):
        run.inbox.answers['stacks'] = lambda: {'noise': os.urandom(answerboard.AREA_SIZE).hex()}
        with run:
            error = ask(run.path, 'stacks', PATIENCE)['error']
        assert error.endswith(f'it has {2 * answerboard.AREA_SIZE + 13} characters.')


@pytest.mark.skipif(not hasattr(resource, 'prlimit'), reason='needs prlimit')
def test_a_process_without_a_descriptor_answers(run):
    """Neither the question nor the answer opens anything in the process that is asked."""
    child = os.fork()
    if child == 0:
        try:
            answer_without_descriptors(run.inbox)
        finally:
            os._exit(1)
    try:
        assert ask(run.path, 'stacks', PATIENCE)['threads'] == [errno.EMFILE]
        assert ask(run.path, 'stacks', PATIENCE)['threads'] == [errno.EMFILE]
        run.leave()
        assert ask(run.path, 'checks', PATIENCE) == {'after': 'a file that could not be read'}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def answer_without_descriptors(inbox):
    def tell():
        try:
            os.open('/', os.O_RDONLY)
        except OSError as error:
            return {'threads': [error.errno]}
        return {'threads': ['a descriptor was left']}

    inbox.answers = {
        'stacks': tell,
        'checks': lambda: {'after': 'a file that could not be read'},
    }
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    while True:
        inbox.listen()
        inbox.look()
        time.sleep(0.01)


@contextlib.contextmanager
def as_an_older_release(run):
    """The bell of an older release has no board."""
    board = (run.path / BELL).rename(run.path / 'board')
    (run.path / BELL).write_bytes(bytes(8))
    yield
    (run.path / BELL).unlink()
    board.rename(run.path / BELL)


def test_a_folder_that_cannot_be_opened_is_looked_at_again(run, monkeypatch):
    """A duty that raises is switched off for good."""

    def refused(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    run.leave()
    runmailbox._ring(run.path / BELL)
    with monkeypatch.context() as patch:
        patch.setattr(runmailbox, 'opened', refused)
        for _ in range(3):
            run.inbox.listen()
            assert run.inbox.look() is False
    assert run.names == [f'{HEX}-stacks.ask']
    run.inbox.listen()
    assert run.names == [f'{HEX}-stacks.answer']


def test_a_question_before_there_is_a_bell_is_answered(run):
    """The folder is made before the bell."""
    run.leave()
    run.inbox.listen()
    assert run.names == [f'{HEX}-stacks.answer']


def test_other_errors_of_the_folder_are_reported(run):
    shutil.rmtree(run.folder)
    with pytest.raises(FileNotFoundError):
        run.inbox.look()


@pytest.mark.parametrize(
    'text, answer',
    [
        (b'no zlib', None),
        (zlib.compress(b'{}')[:-3], {}),
        (zlib.compress(b'[1]'), {}),
        (zlib.compress(b'{"a": '), {}),
        (zlib.compress(b'"' + b'x' * answerboard.ANSWER_MOST + b'"'), {}),
        (zlib.compress(b'{"a": 1}'), {'a': 1}),
    ],
)
def test_an_answer_of_another_release_is_not_trusted(run, text, answer):
    """None: it may not be complete yet."""
    run.inbox._board.begin('stacks')
    run.inbox._board.write('stacks', text)
    with open(run.path / BELL, 'rb') as bell:
        at = answerboard._area(0, answerboard.AREA_SIZE)
        assert answerboard._read(bell.fileno(), at, answerboard.AREA_SIZE, 1) == answer


def test_any_number_of_processes_may_ask_at_the_same_time(run):
    with run, ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, run.path, 'stacks', PATIENCE) for _ in range(200)]
        assert all(future.result()['threads'] == ['ü'] for future in asked)


def test_an_answer_was_begun_after_its_question(run):
    """An answer that is being made when the question comes may be too old."""
    asking = threading.Event()

    def tell():
        run.calls.append(time.monotonic())
        if len(run.calls) == 1:
            asking.set()
            time.sleep(0.3)
        return {'call': len(run.calls)}

    run.inbox.answers['stacks'] = tell
    with run, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, run.path, 'stacks', PATIENCE)
        asking.wait()
        second = pool.submit(ask, run.path, 'stacks', PATIENCE)
        assert second.result()['call'] == 2
        assert first.result()['call'] in (1, 2), 'it may see the newer one'


def test_both_ways_to_ask_at_once(run):
    with run:
        path = run.leave()
        runmailbox._ring(run.path / BELL)
        assert ask(run.path, 'stacks', PATIENCE)['threads'] == ['ü']
        until(lambda: not path.exists())
    assert run.names == [f'{HEX}-stacks.answer']


@pytest.mark.parametrize('at', [*range(64, 128, 4), 136, 144])
@pytest.mark.parametrize('value', [b'\xff' * 4, bytes(4), b'\x07\0\0\0'])
def test_a_damaged_board_does_no_harm(run, at, value):
    with open(run.path / BELL, 'r+b') as bell:
        bell.seek(at)
        bell.write(value)
    with run:
        try:
            answer = ask(run.path, 'stacks', 0.1)
        except NoAnswer:
            return
    assert answer == {} or answer['threads'] == ['ü']


class TestWithoutAnAnswer:
    def dead(self, *args):
        before = time.monotonic()
        with pytest.raises(NoAnswer) as caught:
            ask(*args)
        return str(caught.value), time.monotonic() - before

    def test_a_dead_process_does_not_answer(self, run):
        text, took = self.dead(run.path, 'stacks', 0.3)
        assert (
            text.startswith('The process has not answered within 0.3 s. ')
            and 'The process may have ended' in text
        )
        assert took >= 0.3 and run.names == [], 'the request must be withdrawn'

    @pytest.mark.parametrize(
        'make',
        [
            lambda path: None,
            lambda path: path.mkdir(),
            lambda path: (path.mkdir(), (path / FOLDER).touch()),
        ],
    )
    def test_a_run_without_a_mailbox_is_reported_at_once(self, tmp_path, make):
        make(tmp_path / 'run')
        text, took = self.dead(tmp_path / 'run', 'stacks', 3600)
        assert text.startswith('This run has no mailbox. ')

    def test_a_run_that_is_archived_meanwhile_does_not_answer(self, run):
        with ThreadPoolExecutor(1) as pool:
            before = (run.path / BELL).read_bytes()
            asked = pool.submit(self.dead, run.path, 'stacks', 0.3)
            until(lambda: (run.path / BELL).read_bytes() != before)
            shutil.rmtree(run.path)
            assert 'has not answered' in asked.result()[0]


class TestListening:
    def test_listening_costs_no_system_call_while_the_bell_is_unchanged(self, run, monkeypatch):
        run.age_folder()
        run.inbox.listen()
        run.leave()  # a request whose sender does not change the bell
        monkeypatch.setattr(os, 'stat', None)  # would raise
        run.inbox.listen()
        monkeypatch.undo()
        assert run.names == [f'{HEX}-stacks.ask']
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer'], (
            'without the bell a request waits for the next look'
        )

    def test_asking_changes_the_bell(self, run):
        run.beat = lambda: [run.inbox.listen() for _ in iter(lambda: run.over.wait(0.01), True)]
        run.age_folder()
        with run:
            assert [ask(run.path, 'stacks', PATIENCE)['call'] for _ in range(3)] == [1, 2, 3]

    def test_without_mapped_files_the_folder_is_read(self, tmp_path, monkeypatch):
        def refused(*args):
            raise OSError(19, 'No such device')

        monkeypatch.setattr(runmailbox.mmap, 'mmap', refused)
        run = Run(tmp_path)
        run.leave()
        run.inbox.listen()
        assert run.names == [f'{HEX}-stacks.answer']
        run.inbox.detach()

    def test_a_run_without_a_bell_can_be_asked(self, run):
        (run.path / BELL).unlink()  # like a run of an older release
        run.inbox.listen = run.inbox.look
        with run:
            assert ask(run.path, 'stacks', PATIENCE)['call'] == 1

    def test_a_forked_child_closes_the_mailbox(self, run):
        mapped = run.inbox._board._mapped
        run.inbox.detach()
        run.inbox.detach()
        assert mapped.closed


class TestLooking:
    def test_an_unchanged_folder_is_not_listed_again(self, run, monkeypatch):
        run.age_folder()
        run.inbox.look()
        monkeypatch.setattr(os, 'listdir', None)  # would raise
        run.inbox.look()
        run.inbox.look()

    def test_a_request_in_the_clock_tick_of_the_last_look_is_found(self, run):
        """The time of the folder does not change within a clock tick."""
        now = run.folder.stat().st_mtime_ns
        run.inbox.look()
        run.leave()
        os.utime(run.folder, ns=(now, now))
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']

    def test_a_request_long_after_the_last_look_is_found(self, run):
        run.age_folder()
        run.inbox.look()
        run.leave()
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']

    def test_a_request_after_the_clock_was_set_back_is_found(self, run):
        run.age_folder(-3600)
        run.inbox.look()
        run.leave()
        run.age_folder(-3600)
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']


class TestOldFiles:
    def test_an_answer_is_removed_after_a_minute_without_another_request(self, run):
        answer = run.leave(f'{HEX}-stacks.answer')
        run.age_folder()
        run.inbox.look()
        run.inbox.look()
        assert answer.exists()
        os.utime(answer, (time.time() - 61,) * 2)  # a minute passes; the folder does not change
        run.inbox.look()
        assert run.names == []

    @pytest.mark.parametrize(
        'name',
        [
            'x',
            f'{HEX}-stacks',
            f'{HEX[:-1]}-stacks.ask',
            f'{HEX}-STACKS.ask',
            f'{HEX}-.ask',
            f'{HEX}-{"a" * 21}.ask',
            f'{HEX}-stacks.ask.ask',
            '.hidden',
            f'{HEX}-stacks.ask\n',
            'ü\udcff.ask',
            f'{HEX.upper()}-stacks.ask',
        ],
    )
    def test_other_files_are_not_answered_and_removed_after_a_minute(self, run, name):
        run.leave(name, age=59)
        run.inbox.look()
        assert run.calls == [] and run.names == [name]
        run.leave(name, age=61)
        run.inbox.look()
        assert run.names == []

    def test_a_thousand_requests_are_answered_within_fifty_beats(self, run):
        for number in range(1000):
            run.leave(f'{number:016x}-stacks.ask')
        for _ in range(50):
            run.inbox.look()
        assert len(run.calls) == 50 and not [name for name in run.names if name.endswith('.ask')]


class TestTricks:
    @pytest.fixture
    def precious(self, tmp_path):
        path = tmp_path / 'precious'
        path.write_text('keep me')
        yield path
        assert path.read_text() == 'keep me'

    def test_a_request_that_is_a_link_harms_no_other_file(self, run, precious):
        (run.folder / f'{HEX}-stacks.ask').symlink_to(precious)
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']

    def test_an_answer_that_is_a_link_harms_no_other_file(self, run, precious):
        (run.folder / f'{HEX}-stacks.answer').symlink_to(precious)
        run.leave()
        run.inbox.look()
        answer = run.folder / f'{HEX}-stacks.answer'
        assert not answer.is_symlink() and json.loads(answer.read_text())['call'] == 1

    def test_another_file_that_is_a_link_harms_no_other_file(self, run, precious):
        (run.folder / 'link').symlink_to(precious)
        os.utime(run.folder / 'link', (0, 0), follow_symlinks=False)
        run.inbox.look()
        assert run.names == []

    def test_a_folder_with_the_name_of_a_request_does_no_harm(self, run):
        (run.folder / f'{HEX}-stacks.ask').mkdir()
        run.inbox.look()
        run.leave(f'{HEX[::-1]}-stacks.ask')
        run.inbox.look()
        assert f'{HEX[::-1]}-stacks.answer' in run.names and len(run.calls) == 1

    def test_a_request_without_read_permission_is_answered(self, run):
        run.leave().chmod(0)
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']

    def test_a_pipe_with_the_name_of_a_request_does_not_block(self, run):
        os.mkfifo(run.folder / f'{HEX}-stacks.ask')
        run.inbox.look()
        assert run.names == [f'{HEX}-stacks.answer']


@pytest.mark.root
class TestUsers:
    """Zope runs as another user than root, and root asks."""

    @pytest.fixture
    def path(self):
        """A run's directory that belongs to another user and that this user can reach."""
        path = Path(tempfile.mkdtemp(prefix='mailbox-'))
        os.chown(path, NOBODY, NOBODY)
        yield path
        shutil.rmtree(path)

    def as_nobody(self, function):
        """Call `function` in a child of that user; its exit status is 0 if nothing was raised."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                function()
                status = 0
            finally:
                os._exit(status)
        return child

    def test_root_asks_and_the_user_answers(self, path):
        def live():
            asked = []
            inbox = Inbox(path, {'stacks': lambda: asked.append(1) or {'uid': os.getuid()}})
            until(lambda: inbox.listen() or asked)

        child = self.as_nobody(live)
        until((path / FOLDER).is_dir)
        assert ask(path, 'stacks', PATIENCE) == {'uid': NOBODY}
        assert os.waitpid(child, 0)[1] == 0
        assert os.listdir(path / FOLDER) == []

    def test_the_request_is_a_file_of_root_that_the_user_cannot_read(self, path):
        folder = path / FOLDER  # of an older release: there is no board
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        thread = threading.Thread(target=lambda: pytest.raises(NoAnswer, ask, path, 'stacks', 0.5))
        thread.start()
        name = until(lambda: os.listdir(folder))[0]
        status = (folder / name).stat()
        thread.join()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)

    def test_another_user_may_not_ask(self, path):
        Inbox(path, {})  # the mailbox of a process of root
        os.chmod(path, 0o755)

        def try_it():
            with pytest.raises(PermissionError):
                ask(path, 'stacks', 0.1)

        assert os.waitpid(self.as_nobody(try_it), 0)[1] == 0
