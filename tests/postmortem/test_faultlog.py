"""Parses real and made fault logs.  `data/faultlogs/_how_made.txt` says where they come from."""

import timeit
from pathlib import Path

import pytest

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import NativeFrame
from Products.StabilityMonitor.postmortem import faultlog
from Products.StabilityMonitor.postmortem.faultlines import decode_escapes
from Products.StabilityMonitor.postmortem.faultlog import find_py_fatal
from Products.StabilityMonitor.postmortem.faultlog import first_fatal
from Products.StabilityMonitor.postmortem.faultlog import parse
from Products.StabilityMonitor.postmortem.repetition import repetition

DATA = Path(__file__).parents[1] / 'data' / 'faultlogs'
SEGV = b'Fatal Python error: Segmentation fault\n\n'
ONE = (
    b'Current thread 0x00007f0000000001 (most recent call first):\n  File "/x.py", line 7 in work\n'
)
TWO = b'Thread 0x00007f0000000002 (most recent call first):\n  File "/y.py", line 8 in wait\n'


def load(name):
    return (DATA / f'{name}.txt').read_bytes()


def fixtures(pattern):
    return [pytest.param(path.stem, id=path.stem) for path in sorted(DATA.glob(pattern))]


def the_one(data):
    (dump,) = parse(data)
    return dump


class TestRealDumps:
    @pytest.mark.parametrize(
        'name, reason, signal',
        [
            ('abort-3.11.7', 'Aborted', 'SIGABRT'),
            ('bus-3.12.1', 'Bus error', 'SIGBUS'),
            ('fpe-3.12.1', 'Floating point exception', 'SIGFPE'),
            ('fpe-3.13.0', 'Floating-point exception', 'SIGFPE'),
            ('ill-3.13.0', 'Illegal instruction', 'SIGILL'),
            ('segv-3.11.7', 'Segmentation fault', 'SIGSEGV'),
            ('segv-3.12.1', 'Segmentation fault', 'SIGSEGV'),
            ('segv-3.13.0', 'Segmentation fault', 'SIGSEGV'),
            ('segv-3.14.8', 'Segmentation fault', 'SIGSEGV'),
            ('segv-3.15.0', 'Segmentation fault', 'SIGSEGV'),
        ],
    )
    def test_the_signal_of_a_dump_is_read(self, name, reason, signal):
        dump = the_one(load(name))
        assert (dump.kind, dump.reason, dump.signal) == ('fatal', reason, signal)
        assert dump.crashed_thread.frames[-1].function == '<module>'
        assert not dump.truncated

    @pytest.mark.parametrize('name', fixtures('segv-*'))
    def test_threads_keep_the_order_of_the_text(self, name):
        waiting, crashed = the_one(load(name)).threads
        assert (waiting.crashed, len(waiting.frames)) == (False, 6)
        assert crashed.crashed and crashed.ident > 0x7F0000000000
        assert [frame.function for frame in crashed.frames] == ['string_at', 'segv', '<module>']
        assert crashed.frames[1].file == '/tmp/fl/prog/die.py' and crashed.frames[1].line > 1

    @pytest.mark.parametrize('name', ['segv-3.14.8', 'segv-3.15.0'])
    def test_names_and_the_c_stack_are_read(self, name):
        """The kernel cuts a name after 15 characters.  The main thread has the process's name."""
        dump = the_one(load(name))
        python = f'python{name[5:9]}'
        assert [thread.name for thread in dump.threads] == ['Thread-1 (worke', python]
        assert dump.native[0].binary == python and dump.native[0].symbol == '_Py_DumpStack'
        assert len(dump.native) > 20
        assert '/usr/lib/x86_64-linux-gnu/libc.so.6' in {frame.binary for frame in dump.native}

    def test_a_worker_may_be_the_one_that_crashed(self):
        dump = the_one(load('thread_segv-3.12.1'))
        assert dump.crashed_thread is dump.threads[0]

    @pytest.mark.parametrize('name', fixtures('native_thread-*'))
    def test_a_native_thread_has_no_current_thread(self, name):
        dump = the_one(load(name))
        assert dump.crashed_thread is None
        assert len(dump.threads) == 2 and not dump.truncated

    @pytest.mark.parametrize('name', fixtures('collecting-*'))
    def test_garbage_collection_is_noted(self, name):
        assert the_one(load(name)).crashed_thread.note == 'Garbage-collecting'

    @pytest.mark.parametrize('name', fixtures('deep-*'))
    def test_a_stack_of_more_than_100_frames_is_cut(self, name):
        """Python 3.13.0 does not write that it is cut."""
        dump = the_one(load(name))
        assert len(dump.crashed_thread.frames) == 100
        assert dump.crashed_thread.cut and not dump.truncated

    def test_a_dump_of_more_than_100_threads_is_cut(self):
        dump = the_one(load('many-3.12.1'))
        assert len(dump.threads) == 100
        assert dump.threads_cut and dump.crashed_thread is None and not dump.truncated

    def test_the_extension_modules_are_read(self):
        dump = the_one(load('modules-3.12.1'))
        assert dump.extension_modules == ('zope.interface._zope_interface_coptimizations',)

    @pytest.mark.parametrize('name', fixtures('umlaut-*'))
    def test_names_are_decoded_and_backslashes_survive(self, name):
        frame = the_one(load(name)).crashed_thread.frames[1]
        assert frame == Frame('/srv/zöpe/名/😀 C:\\new.py', 1, 'Größe_名_X')

    def test_the_zeros_of_a_preallocated_file_are_ignored(self):
        data = load('preallocated-3.13.0')
        assert data.endswith(b'\0\0')
        assert not the_one(data).truncated

    @pytest.mark.parametrize('name', fixtures('timeout-*'))
    def test_a_timeout_has_no_current_thread(self, name):
        dump = the_one(load(name))
        assert (dump.kind, dump.reason, dump.signal) == ('timeout', '0:00:00.100000', None)
        assert len(dump.threads) == 2 and dump.crashed_thread is None and not dump.truncated

    @pytest.mark.parametrize('name', fixtures('register-*'))
    def test_dumps_without_a_header_are_separated(self, name):
        """The dumps show one thread, all, all, and one; there is no blank line between them."""
        data = load(name)
        dumps = parse(data)
        assert [dump.kind for dump in dumps] == ['stack'] * 4
        assert [len(dump.threads) for dump in dumps] == [1, 2, 2, 1]
        assert dumps[0].threads[0].ident == 0 and dumps[0].crashed_thread is None
        assert dumps[1].crashed_thread is dumps[1].threads[1]
        for dump in dumps:
            assert data[dump.offset :].startswith((b'Stack ', b'Thread '))
        assert first_fatal(dumps) is None

    @pytest.mark.parametrize('name', fixtures('pyfatal-*'))
    def test_a_py_fatal_error_is_read(self, name):
        dump = the_one(load(name))
        assert (dump.kind, dump.reason, dump.signal) == ('pyfatal', 'out of luck', None)
        assert dump.runtime_state == 'initialized'
        assert len(dump.threads) == 2 and dump.crashed_thread and not dump.truncated

    def test_py_fatal_error_with_an_exception_set_shows_no_threads(self):
        dump = the_one(load('pyfatal_set-3.12.1'))
        assert (dump.kind, dump.threads, dump.truncated) == ('pyfatal', (), False)

    @pytest.mark.parametrize('name', fixtures('recursion-*'))
    def test_a_stack_overflow_is_seen_as_a_repetition(self, name):
        """Since Python 3.14 an entry from C counts as one of the 100 frames, but is not shown.

        Here every third frame is such an entry.
        """
        thread = the_one(load(name)).crashed_thread
        shown = 67 if name.endswith(('3.14.8', '3.15.0')) else 100
        assert len(thread.frames) == shown and thread.cut
        assert repetition(thread.frames) >= shown - 2

    @pytest.mark.parametrize('frames, cut', [(49, False), (50, True), (99, True)])
    def test_a_recursion_through_c_is_cut_at_50_frames(self, frames, cut):
        """Only Python 3.14 and later do this; they also name each thread."""
        for name, is_cut in ((b' [waitress-0]', cut), (b'', False)):
            head = ONE.partition(b'  File')[0].replace(b' (most', name + b' (most')
            frame = b'  File "/x.py", line 7 in %s\n'
            assert the_one(SEGV + head + frame % b'work' * frames).crashed_thread.cut == is_cut
            for outermost in (b'<module>', b'_run_module_as_main', b'_bootstrap'):
                whole = head + frame % b'work' * (frames - 1) + frame % outermost
                assert not the_one(SEGV + whole).crashed_thread.cut


class TestTwoFaultsAtOnce:
    """Real dumps: three threads that crash with different signals write into one file."""

    def test_of_nested_headers_one_dump_is_read(self):
        dump = the_one(load('race_headers-3.11.7'))
        assert (dump.reason, dump.offset, len(dump.threads)) == ('Aborted', 0, 4)
        assert dump.truncated  # the file ends in the middle of a frame
        assert dump.threads[-1].frames[-1].function == 'join'

    def test_lines_after_a_header_inside_a_line_belong_to_the_interrupted_dump(self):
        data = load('race_midline-3.13.0')
        first, second = parse(data)
        assert (first.signal, second.signal) == ('SIGSEGV', 'SIGILL')
        assert len(first.threads) == 4 and first.crashed_thread is first.threads[2]
        assert second.threads == () and data[second.offset :].startswith(
            b'Fatal Python error: , line'
        )
        assert first.truncated and second.truncated

    def test_lines_after_a_header_between_lines_belong_to_the_interrupted_dump(self):
        abort = b'Fatal Python error: Aborted\n\n'
        first, second = parse(SEGV + ONE + abort + b'  File "/z.py", line 1 in main\n\n' + TWO)
        assert [frame.line for frame in first.threads[0].frames] == [7, 1]
        assert len(first.threads) == 2 and second.threads == ()

    def test_two_dumps_are_read_if_the_process_dies_during_the_second_header(self):
        first, second = parse(load('race_end-3.12.1'))
        assert (first.signal, second.signal) == ('SIGILL', 'SIGSEGV')
        assert first.truncated and len(first.threads) == 1

    def test_a_dump_may_lack_its_current_thread(self):
        first, second = parse(load('race_lost-3.11.7'))
        assert (first.signal, second.signal) == ('SIGABRT', 'SIGSEGV')
        assert second.crashed_thread is None and len(second.threads) == 3

    def test_dumps_mixed_word_by_word_yield_no_invented_frames(self):
        dump, *_ = parse(load('race_mixed-3.11.7'))
        assert dump.signal == 'SIGILL' and dump.truncated
        names = {frame.function for thread in dump.threads for frame in thread.frames}
        assert names <= {'run', '_bootstrap_inner', '_bootstrap', 'wait', 'join'}

    def test_a_second_fault_cuts_the_text(self):
        dump = the_one(load('race_cut-3.13.0'))
        assert dump.truncated and [frame.line for frame in dump.threads[0].frames] == [992]

    def test_two_faults_one_after_the_other_are_two_dumps(self):
        """A process that is pid 1 survives its own abort() and dies of SIGSEGV."""
        first, second = parse(b'Fatal Python error: Aborted\n\n' + ONE + SEGV + ONE)
        assert (first.signal, second.signal) == ('SIGABRT', 'SIGSEGV')
        assert len(first.threads) == len(second.threads) == 1
        assert not first.truncated and not second.truncated
        assert first_fatal((first, second)) is first


class TestMadeDumps:
    """Formats that the installed interpreters do not write; made from CPython's source."""

    def test_c_stack_and_thread_names_are_read(self):
        dump = the_one(load('made-c_stack-3.14'))
        assert [thread.name for thread in dump.threads] == ['waitress-1', 'python3']
        assert dump.native == (
            NativeFrame('/opt/python/python', '_Py_DumpStack', 0x42, 0x5B27F7D7147E),
            NativeFrame('/usr/lib/libc.so.6', '', 0x3DEF0, 0x77B73226BEF0),
            NativeFrame('/usr/lib/x.so', 'early', -0x10, 0x77B73226BE00),
            NativeFrame('/x, at home/y.so', '', None, 0x77B732260000),
            NativeFrame('<unknown>', '', None, 0x7FFC00000000),
        )
        assert dump.extension_modules == ('a._b', 'c') and not dump.truncated

    def test_a_dump_of_free_threaded_python_is_read(self):
        dump = the_one(load('made-free_threaded-3.14t'))
        thread = dump.crashed_thread
        assert thread.ident == 0 and len(thread.frames) == 2
        assert thread.note == '<Cannot show all threads while the GIL is disabled>'
        assert dump.native == () and not dump.truncated

    def test_unknown_signals_and_invalid_frames_are_read(self):
        dump = the_one(load('made-odd_parts-3.14'))
        assert (dump.reason, dump.signal) == ('unexpected signum: 31', 'SIG31')
        assert [thread.note for thread in dump.threads] == [
            '<no Python frame>',
            '<freed frame>',
            '<invalid frame>',
            'Garbage-collecting; <invalid frame>',
            '<freed thread state>',
        ]
        assert dump.threads[0].name == 'a] b [c'
        assert dump.threads[2].frames == (Frame('???', None, '???'),)
        assert dump.threads[3].frames == (
            Frame('/a \\"quoted", line 3 in it/b.py', 7, '<listcomp>'),
        )
        assert not dump.truncated

    def test_crlf_and_a_windows_path_are_read(self):
        dump = the_one(load('made-windows_path'))
        assert (dump.kind, dump.reason) == ('timeout', '1:00:00')
        (frame,) = dump.threads[0].frames
        assert frame == Frame('C:\\users\\new\\xAB\\x41\\Zope\\müller.py', 12, '<lambda>')


class TestDamage:
    @pytest.mark.parametrize('length', range(len(SEGV) + 1, len(SEGV + ONE)))
    def test_text_that_stops_anywhere_is_truncated(self, length):
        for tail in (b'', b'\0' * 10):
            dump = the_one((SEGV + ONE)[:length] + tail)
            assert dump.truncated and dump.signal == 'SIGSEGV'

    def test_a_header_alone_is_truncated(self):
        assert the_one(SEGV).truncated
        assert the_one(b'Fatal Python error: ').kind == 'fatal'

    def test_a_dump_after_the_zeros_is_read(self):
        data = SEGV + ONE + b'  File "/torn' + b'\0' * 100 + SEGV + ONE
        first, second = parse(data)
        assert first.truncated and not second.truncated
        assert data[second.offset :] == SEGV + ONE

    def test_offsets_count_from_the_start_of_the_data(self):
        data = SEGV + ONE + SEGV + ONE
        assert [dump.offset for dump in parse(data)] == [0, len(SEGV + ONE)]
        rest, dump = parse(data, 5)
        assert (rest.kind, rest.offset) == ('stack', len(SEGV))  # its header was cut away
        assert dump.offset == len(SEGV + ONE)
        assert parse(data, 10**9) == () and len(parse(data, -5)) == 2

    def test_at_most_limit_bytes_are_parsed(self):
        data = b' ' * (faultlog.LIMIT - 30) + SEGV + ONE
        dump = the_one(data)
        assert (dump.signal, dump.threads, dump.truncated) == (None, (), True)
        assert len(the_one(data[1000:]).threads) == 1

    @pytest.mark.parametrize(
        'line',
        [
            b'  File "/x.py", line 7, in work',
            b'  File "/x.py", line -7 in work',
            b'  File "/x.py", line 1_0 in work',
            b'  File /x.py, line 7 in work',
            b'  File "/x.py", line ' + b'9' * 5000 + b' in work',
            b'  File "/x.py", line 7 in ',
            b'  File "',
            b'  Binary file "',
            b'  Binary file "/x" [0xg]',
            b'  Binary file "/x", at y [0x1]',
        ],
    )
    def test_a_malformed_frame_is_left_out(self, line):
        dump = the_one(SEGV + ONE + line + b'\n')
        assert len(dump.threads[0].frames) == 1 and dump.native == ()

    @pytest.mark.parametrize(
        'line',
        [
            b'Thread 0x',
            b'Thread 0xyz (most recent call first):',
            b'Timeout (30 s) reached',
            b'Timeout (0:00:01',
            b'  File "/x.py", line 7 in work',
            b'...',
            b'  ...',
            b'  <x>',
            b'Extension modules: a (total: 1)',
            b'Python runtime state: initialized',
        ],
    )
    def test_a_line_that_begins_no_dump_is_ignored(self, line):
        assert parse(line + b'\n') == ()

    def test_torn_extension_modules_lose_the_last_name(self):
        dump = the_one(SEGV + ONE + b'\nExtension modules: a.b, c.d, lxm')
        assert dump.extension_modules == ('a.b', 'c.d') and dump.truncated

    def test_characters_that_cannot_be_printed_are_escaped(self):
        dump = the_one(
            SEGV + b'Thread 0x01 [\x1b[31m\xff\xc3\xa9] (most recent call first):\n'
            b'  File "\x1b<b>", line 1 in \\x1b\n'
        )
        assert dump.threads[0].name == '\\x1b[31m\\xffé'
        assert dump.threads[0].frames == (Frame('\\x1b<b>', 1, '\\x1b'),)

    @pytest.mark.parametrize(
        'piece',
        [
            b'Fatal Python error: ',
            b'Fatal Python error: Aborted\n\n',
            b'\n',
            b'\0',
            b'\0a',
            b'  <\n',
            b'Thread 0x01 (most recent call first):\n',
            b'  File "/x.py", line 7 in work\n',
            b'\n...\n',
            b'  File "/x.py", line ',
            b', line ',
            b' in ',
            b'\\xe9',
            b'", at +0x',
            b'\nExtension modules: a, ',
            b'Stack (most recent call first):\n',
            b'  Binary file "/x", at y+0x1 [0x1]\n',
            b'Timeout (1)!\n',
        ],
    )
    def test_parsing_time_grows_linearly_with_the_length(self, piece):
        """One long text takes about as long as 32 short ones of the same total size.

        Up to four times as long was seen, because the short ones fit into a cache; quadratic time
        would take 32 times as long.  Both take long enough that a busy machine slows both.
        """

        def seconds(size, times):
            text = SEGV + ONE + piece * (size // len(piece))
            return timeit.timeit(lambda: parse(text), number=times)

        whole = faultlog.LIMIT // 4
        assert any(seconds(whole, 1) < 12 * seconds(whole // 32, 32) for _ in range(5))


class TestFindPyFatal:
    stderr = load('made-stderr')

    def test_a_fatal_error_is_found_by_its_main_thread(self):
        assert find_py_fatal(self.stderr, 0xC03).reason.startswith('PyEval_RestoreThread: Aborted')
        assert find_py_fatal(self.stderr, 0xC04).kind == 'pyfatal'
        assert find_py_fatal(self.stderr, 0xB02).runtime_state.startswith('finalizing')
        assert find_py_fatal(self.stderr, 0xA01).signal == 'SIGSEGV'

    def test_a_fatal_error_of_another_process_is_not_found(self):
        assert find_py_fatal(self.stderr, 0xD05) is None
        assert find_py_fatal(self.stderr, None) is None
        assert find_py_fatal(b'', 1) is None

    def test_the_last_fatal_error_is_found(self):
        dump = find_py_fatal(
            self.stderr + SEGV + ONE.replace(b'7f0000000001', b'000000000c03'), 0xC03
        )
        assert dump.signal == 'SIGSEGV'

    def test_stacks_and_timeouts_are_not_fatal_errors(self):
        assert find_py_fatal(ONE + b'Timeout (0:00:01)!\n' + ONE, 0x7F0000000001) is None

    def test_of_a_long_log_the_tail_is_parsed_with_offsets_of_the_file(self):
        data = b'noise\n' * 300_000 + self.stderr
        dump = find_py_fatal(data, 0xC03)
        assert data[dump.offset :].startswith(b'Fatal Python error: PyEval')

    def test_a_few_foreign_lines_are_skipped(self):
        dump = find_py_fatal(self.stderr, 0xC03)
        assert [len(thread.frames) for thread in dump.threads] == [1, 1]
        assert not dump.truncated and dump.extension_modules

    def test_many_foreign_lines_end_a_dump(self):
        data = SEGV + ONE + b'GET / 200\n' * 20 + b'\n' + TWO
        assert [dump.kind for dump in parse(data)] == ['fatal', 'stack']


class TestDecodeEscapes:
    @pytest.mark.parametrize(
        'text, expected',
        [
            (r'z\xf6pe', 'zöpe'),
            (r'\u540d', '名'),
            (r'\U0001f600', '😀'),
            (r'\xe9\xe9', 'éé'),
            ('plain', 'plain'),
            ('', ''),
            (r'C:\xe9', 'C:é'),  # ambiguous: it may have been a folder xe9
        ],
    )
    def test_escapes_of_faulthandler_are_decoded(self, text, expected):
        assert decode_escapes(text) == expected

    @pytest.mark.parametrize(
        'text',
        [
            r'C:\users\new',
            r'C:\Users',
            r'\x41',
            r'\xE9',
            r'\u00e9',
            r'\U0000540d',
            r'\n',
            '\\',
            r'\x',
            r'\xe',
            r'\u540',
            r'\x1b',
            r'\x7f',
            r'\x9b',
            r'\udce9',
            r'\u202e',
            r'\U00110000',
            r'\Uffffffff',
        ],
    )
    def test_other_escapes_are_kept(self, text):
        assert decode_escapes(text) == text


class TestRepetition:
    def frames(self, names):
        return tuple(Frame('/x.py', 1, name) for name in names)

    @pytest.mark.parametrize(
        'names, length',
        [
            ('', 0),
            ('a', 0),
            ('abcdef', 0),
            ('aa', 2),
            ('aaab', 3),
            ('ababa', 5),
            ('abcabcabcx', 9),
            ('abcdefgh' * 3, 24),
            ('abcdefghi' * 3, 0),
            ('xyababab', 6),
            ('abab' + 'q', 4),
            ('123456789aaaa', 0),  # the cycle is too far below the top
        ],
    )
    def test_the_frames_that_a_cycle_covers_are_counted(self, names, length):
        assert repetition(self.frames(names)) == length

    def test_a_cycle_compares_files_but_not_lines(self):
        assert repetition([Frame('/x.py', line, 'f') for line in range(50)]) == 50
        assert repetition([Frame(f'/{line}.py', 1, 'f') for line in range(50)]) == 0


def test_a_thread_that_is_being_started_does_not_begin_a_dump():
    """It has the ident of the thread that starts it, which comes later.  Recorded on 3.11.7."""
    (dump,) = faultlog.parse(b"""Fatal Python error: Aborted

Thread 0x00007f1d24f7e6c0 (most recent call first):
  <no Python frame>

Thread 0x00007f1d24f7e6c0 (most recent call first):
  File "/lib/threading.py", line 969 in start

Current thread 0x00007f1d268816c0 (most recent call first):
  File "/site/page.py", line 69 in abort
""")
    assert [thread.ident for thread in dump.threads] == [0, 0x7F1D24F7E6C0, 0x7F1D268816C0]
    assert dump.crashed_thread.frames[0].function == 'abort'
