"""Ends that people reported, as the fault log or the standard error that they left.

The files of `data/field-cases` come from public reports of CPython, psycopg2, cryptography and
others.  @WORKER@ and @MAIN@ stand for the idents of threads.
"""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.syntheticruns import SEGFAULT
from support.syntheticruns import STARTED
from support.syntheticruns import DeadRun
from support.syntheticruns import quiet_world
from support.syntheticruns import sample

from Products.StabilityMonitor.knowledge.leftlines import Traces as LeftLines
from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.reporting.runtext import run_lines

DATA = Path(__file__).parents[1] / 'data' / 'field-cases'
MAIN = 0x7F0000000020
GLIBC = b'free(): double free detected in tcache 2\n'
ABORTED = SEGFAULT.replace(b'Segmentation fault', b'Aborted').replace(
    b'0x00007f0000000010', b'0x%016x' % threading.get_ident()
)


def case(name):
    text = (DATA / f'{name}.txt').read_bytes()
    worker = b'%016x' % threading.get_ident()
    return text.replace(b'@WORKER@', worker).replace(b'@MAIN@', b'%016x' % MAIN)


class Run(DeadRun):
    """A dead run that served; with `page`, GET /page was in progress when it ended."""

    def __init__(self, folder, **context):
        super().__init__(folder / 'stability', identity={'boot_id': 'boot-1'}, **context)
        self.folder = folder
        self.world = quiet_world(folder)
        boot = self.world.proc / 'sys/kernel/random/boot_id'
        boot.parent.mkdir(parents=True, exist_ok=True)
        boot.write_text('boot-1')

    def lived(self, page='/page', serving=True, then=lambda recorder: None):
        def write(recorder):
            recorder.stamp('armed', self.started + 1)
            if serving:
                recorder.stamp('serving', self.started + 2)
            recorder.sample(sample(59))
            if page:
                recorder.begin('GET', page, _now=lambda: self.started + 50)
            then(recorder)

        return self.box(write)

    def said(self, text):
        """Standard error is a file with this text."""
        log = self.folder / 'stderr.log'
        log.write_bytes(text)
        status = log.stat()
        output = {'kind': 'file', 'path': str(log), 'size': 0}
        output |= {'device': status.st_dev, 'inode': status.st_ino}
        return self.change(outputs={'2': output})

    def judged(self):
        return triage.examine(self.path, self.world)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def facts(record, source=''):
    return [one.fact for one in record.evidence if source in one.source]


# -- fatal errors of Python on standard error ------------------------------------------------------


def test_a_fatal_error_that_says_stack_overflow_is_one(run):
    record = run.lived().said(case('stack-overflow-fatal-3.14')).judged()
    assert (record.verdict, record.confidence) == ('stack-overflow', 'certain')
    assert record.summary.startswith(
        'A thread overflowed its stack in __getattribute__, while serving GET /page: '
    )
    assert record.signal == 'SIGABRT' and record.requests[0].crashed
    assert any('100 of the 100 frames' in fact for fact in facts(record, 'standard error'))


@pytest.mark.parametrize(
    'reason, confidence',
    [
        ('_Py_CheckRecursiveCall: Cannot recover from stack overflow.', 'certain'),
        ('_Py_CheckRecursiveCall: Cannot recover from Python stack overflow.', 'certain'),
        ('foreign_library: Stack overflow?', 'strong'),
    ],
)
def test_the_words_of_each_release_for_a_stack_overflow_are_known(run, reason, confidence):
    text = case('none-dealloc-3.11').replace(
        b'none_dealloc: deallocating None: bug likely caused by a refcount error in a C extension',
        reason.encode(),
    )
    record = run.lived().said(text).judged()
    assert (record.verdict, record.confidence) == ('stack-overflow', confidence)


def test_the_words_of_another_process_hide_no_stack_overflow(run):
    text = b'Fatal Python error: f: Unrecoverable stack overflow\n<freed thread state>\n'
    deep = SEGFAULT.partition(b'  File "/site/bad.py"')[0]
    deep += b'  File "/site/deep.py", line 3 in deeper\n' * 100
    record = run.lived().said(text).marked('faults', deep).judged()
    assert (record.verdict, record.signal) == ('stack-overflow', 'SIGSEGV')


def test_a_stack_overflow_that_another_process_may_have_written_is_likely(run):
    text = (
        b'Fatal Python error: _Py_CheckRecursiveCall: Unrecoverable stack overflow\n'
        b'Python runtime state: initialized\n\n<freed thread state>\n\n'
    )
    record = run.lived().said(text).judged()
    assert (record.verdict, record.confidence) == ('stack-overflow', 'likely')
    record = run.marked('faults', ABORTED).judged()
    assert (record.verdict, record.confidence) == ('aborted', 'certain')


def test_a_fatal_error_names_its_place_and_its_request(run):
    record = run.lived().said(case('none-dealloc-3.11')).judged()
    assert (record.verdict, record.confidence) == ('aborted', 'certain')
    assert (
        'in <genexpr> of tool/_tree.py, line 1504, during garbage collection, while serving '
        'GET /page: none_dealloc' in record.summary
    )


def test_a_fatal_error_while_python_was_ending_lost_no_request(run):
    record = run.lived(page='').said(case('buffered-busy-finalizing-3.13')).judged()
    assert (record.verdict, record.confidence) == ('aborted', 'certain')
    assert 'while it was ending already, so no request was lost: _enter_buf' in record.summary


def test_a_request_in_progress_at_the_end_was_lost(run):
    record = run.lived().said(case('buffered-busy-finalizing-3.13')).judged()
    assert 'while it was ending already: _enter' in record.summary


def test_a_crash_after_the_exit_began_says_so(run):
    run.lived(page='', then=lambda recorder: recorder.stamp('finished', run.started + 60))
    record = run.marked('faults', SEGFAULT).judged()
    assert (record.verdict, record.confidence) == ('crashed', 'certain')
    assert 'while it was ending already, in crash, so no request was lost.' in record.summary


IN_EXIT_HANDLER = (
    b'Fatal Python error: Segmentation fault\n\nCurrent thread 0x%016x (most recent call first):\n'
    b'  File "/lib/ctypes/__init__.py", line 519 in string_at\n' % threading.get_ident()
)


@pytest.mark.parametrize(
    'asked, more, ends',
    [
        (True, b'', True),
        (False, b'', False),
        (True, b'  File "/bin/runwsgi", line 8 in <module>\n', False),
        (True, b'  File "<frozen runpy>", line 198 in _run_module_as_main\n', False),
        (True, b'  File "/site/deep.py", line 3 in deeper\n' * 99, False),
    ],
)
def test_a_crash_in_an_exit_handler_that_runs_before_ours(run, asked, more, ends):
    run.lived(page='').change(main_ident=threading.get_ident())
    run.marked('faults', IN_EXIT_HANDLER + more)
    if asked:
        run.marked('SIGINT', b'Stack (most recent call first):\n')
        os.utime(run.path / 'SIGINT.mark', (run.started + 59, run.started + 59))
    record = run.judged()
    assert ('while it was ending already' in record.summary) == ends, record.summary
    run.change(main_ident=MAIN)
    assert 'ending' not in run.judged().summary


def test_a_recursion_that_another_faulthandler_wrote_is_a_stack_overflow(run):
    text = SEGFAULT.partition(b'Current')[0] + (
        b'Current thread 0x%016x (most recent call first):\n' % threading.get_ident()
    )
    text += b'  File "/site/deep.py", line 3 in deeper\n' * 100
    record = run.lived().said(text).judged()
    assert (record.verdict, record.confidence) == ('stack-overflow', 'strong')
    assert 'in deeper, while serving GET /page' in record.summary


# -- last words ------------------------------------------------------------------------------------


def test_the_last_words_of_glibc_are_evidence_of_an_abort(run):
    record = run.lived().said(b'Serving.\n' + GLIBC).marked('faults', ABORTED).judged()
    assert (record.verdict, record.confidence) == ('aborted', 'certain')
    assert record.last_words == ('free(): double free detected in tcache 2',)
    assert facts(record, 'standard error') == [
        'Last words of C code: "free(): double free detected in tcache 2".'
    ]


def test_last_words_reach_the_patterns_of_known_issues(run):
    record = run.lived().said(GLIBC).judged()
    assert 'free(): double free detected in tcache 2' in LeftLines(record).messages


def test_last_words_alone_change_no_verdict(run):
    """Another process may share the file."""
    silent = run.lived().said(b'').judged()
    record = run.said(GLIBC).judged()
    assert record.last_words and (record.verdict, record.confidence) == (
        silent.verdict,
        silent.confidence,
    )


@pytest.mark.parametrize('sizes, counts', [((0, 999, 999), True), ((999, 999, 999), False)])
def test_words_that_the_process_outlived_are_not_its_last(run, sizes, counts):
    run.lived(
        page='',
        then=lambda recorder: [recorder.sample(sample(59, stderr_size=n)) for n in sizes],
    )
    record = run.said(GLIBC.ljust(999)).judged()
    assert bool(record.last_words) == counts


# -- the fault log ---------------------------------------------------------------------------------

HEADLESS = SEGFAULT.partition(b'\n\n')[2]


def test_a_fault_log_without_its_head_is_a_crash_of_an_unknown_signal(run):
    record = run.lived().marked('faults', HEADLESS).judged()
    assert (record.verdict, record.confidence, record.signal) == ('crashed', 'likely', None)
    (fact,) = facts(record, 'fault log')
    assert 'the stacks of 2 threads' in fact and 'no line "Fatal Python error"' in fact
    assert record.threads[0].frames[0].function == 'crash'


def test_stacks_of_another_process_in_the_fault_log_are_only_evidence(run):
    foreign = HEADLESS.replace(b'Current t', b'T')
    record = run.lived().change(main_ident=5).marked('faults', foreign).judged()
    assert record.verdict == 'vanished' and record.confidence == 'weak'
    assert any('no line "Fatal Python error"' in fact for fact in facts(record, 'fault log'))
    assert not any('Not a crash' in sentence for sentence in record.ruled_out)
    assert any(cause.startswith('A crash') for cause in record.candidates)


@pytest.mark.parametrize('text', [b'\x7fELF\x01', b'GET / HTTP/1.1\r\nHost: x\r\n', b'x' * 999])
def test_a_fault_log_with_unknown_content_says_what_is_there(run, text):
    record = run.lived().marked('faults', text).judged()
    assert record.verdict == 'vanished'
    (fact,) = facts(record, 'fault log')
    assert f'It holds {len(text)} bytes' in fact and 'it begins with "' in fact
    assert not any('Not a crash' in sentence for sentence in record.ruled_out)


def test_a_fault_log_whose_first_line_is_torn_still_is_a_crash(run):
    record = run.lived().marked('faults', b'Fatal Python error: Segm').judged()
    assert (record.verdict, record.confidence) == ('crashed', 'strong')
    assert 'by a signal whose name is cut off ("Segm")' in record.summary


# -- imports ---------------------------------------------------------------------------------------


def test_a_crash_while_a_module_is_imported_names_the_line_that_imports_it(run):
    record = run.lived('', serving=False).marked('faults', case('sigill-at-import-3.12')).judged()
    assert record.summary == (
        'Zope crashed: Illegal instruction (SIGILL) while it started, importing a module from '
        'cryptography/exceptions.py, line 9.'
    )


def test_an_import_during_a_request_is_no_start(run):
    record = run.lived().marked('faults', case('sigill-at-import-3.12')).judged()
    assert '(SIGILL) while importing a module from cryptography/exceptions.py' in record.summary


@pytest.mark.parametrize(
    'line, name',
    [
        ('from PIL import _imaging', 'PIL'),
        ('import lxml.etree, os', 'lxml.etree'),
        ('    from . import _speedups', '._speedups'),
        ('from ._rust import (', '._rust'),
        ('load("x")', ''),
    ],
)
def test_the_source_names_the_module_that_was_imported(run, line, name):
    source = run.folder / 'view.py'
    source.write_text(f'"""A view."""\n{line}\n')
    text = case('sigill-at-import-3.12').replace(
        b'/srv/env/lib/python3.12/site-packages/cryptography/exceptions.py", line 9',
        f'{source}", line 2'.encode(),
    )
    run.lived('', serving=False).marked('faults', text)
    os.utime(source, (STARTED - 9, STARTED - 9))
    assert f'importing {name or "a module"} from ' in run.judged().summary
    os.utime(source, (STARTED + 9, STARTED + 9))  # changed since: that line may have moved
    assert 'importing a module from ' in run.judged().summary


# -- a dump that the process outlived --------------------------------------------------------------


def outlived(run, after, finished=True):
    """A dump of SIGABRT at 60 s, then an exit `after` seconds, in which GET /slow was cut off."""

    def end(recorder):
        recorder.survived('faults', len(ABORTED))
        recorder.end(0, _now=lambda: run.started + 60 + after)
        if finished:
            recorder.stamp('finished', run.started + 60 + after)

    run.lived('/slow', then=end).marked('faults', ABORTED)
    return run.change(supervisor='gunicorn', abort_handler=True)


def test_a_dump_that_the_process_outlived_is_not_the_end(run):
    record = outlived(run, 0.01).judged()
    assert (record.verdict, record.confidence) == ('signalled', 'strong')
    assert '--timeout of gunicorn' in record.summary
    assert 'GET /slow had taken 10 s and got no answer' in record.summary
    assert record.recent[0].answer == 'no answer'
    assert any('The process outlived "Fatal Python error: Aborted"' in f for f in facts(record))


def test_a_report_says_no_answer(run):
    record = outlived(run, 0.01).judged()
    assert any(line.strip().startswith('GET /slow -> no answer') for line in run_lines(record))


@pytest.mark.zope
@pytest.mark.in_process
def test_a_page_says_no_answer(run):
    from Products.StabilityMonitor.zmi import pages

    record = outlived(run, 0.01).judged()
    assert [pages.request_row(request)['state'] for request in record.recent] == ['no answer']


def test_a_worker_that_gunicorn_had_to_kill_after_sigabrt_was_not_aborted(run):
    """Its handler exits, but other threads do not end; two beats later the dump is survived."""
    record = outlived(run, 3, finished=False).judged()
    assert (record.verdict, record.confidence) == ('signalled', 'likely')
    assert 'GET /slow had taken 13 s and got no answer' in record.summary
    record = run.change(supervisor='').judged()
    assert record.verdict == 'vanished'


def test_a_request_that_outlives_sigabrt_in_another_thread_got_no_answer(run):
    run.lived('/slow', then=lambda recorder: recorder.survived('faults', len(ABORTED)))
    run.marked('faults', ABORTED).change(supervisor='gunicorn', abort_handler=True)
    assert 'GET /slow had taken 10 s and got no answer' in run.judged().summary


def test_a_stop_that_was_asked_for_after_an_outlived_sigabrt_is_a_stop(run):
    outlived(run, 5).marked('SIGTERM', b'Stack (most recent call first):\n')
    os.utime(run.path / 'SIGTERM.mark', (run.started + 62, run.started + 62))
    record = run.judged()
    assert record.verdict == 'stopped' and record.signal == 'SIGTERM'


def test_a_dump_that_was_outlived_long_before_is_only_evidence(run):
    record = outlived(run, 7200).judged()
    assert record.verdict == 'stopped'
    (fact,) = facts(record, 'fault log')
    assert fact.endswith(', by 2 hours.')


def test_an_exit_after_the_dump_shows_that_the_process_outlived_it(run):
    """Also where the recorder did not note it, as in records of earlier releases."""
    run.lived('', then=lambda recorder: recorder.stamp('finished', run.started + 61))
    assert run.marked('faults', ABORTED).judged().verdict == 'signalled'


def test_an_abort_of_the_main_thread_with_a_handler_of_other_code_is_not_certain(run):
    """gunicorn sends SIGABRT, and a second later SIGKILL if C code does not return."""
    text = ABORTED.replace(b'%016x' % threading.get_ident(), b'%016x' % MAIN)
    run.lived().marked('faults', text)
    assert run.judged().confidence == 'certain'
    run.change(abort_handler=True, supervisor='gunicorn')
    record = run.judged()
    assert '--timeout of gunicorn' in ' '.join(facts(record, 'run context'))
    assert (record.verdict, record.confidence) == ('aborted', 'strong')
    run.marked('faults', ABORTED)  # a worker: only abort() in it sends it there
    assert run.judged().confidence == 'certain'


# -- the kernel's line -----------------------------------------------------------------------------

CUT = SEGFAULT.partition(b'Current')[0]


def kernel_line(thread, seconds, what='segfault at 0 ip 00007f rsp 1 error 4 in x.so'):
    return f'6,1,{seconds * 1_000_000},-;python3.11[{thread}]: {what}\n'


@pytest.mark.parametrize(
    'thread, seconds, what, named',
    [
        ('ours', 1060, 'segfault at 0 ip 00007f error 4 in x.so', True),
        ('ours', 1060, 'trap invalid opcode ip:7f sp:7f error:0 in x.so', True),
        ('ours', 1060, 'general protection fault ip:7f sp:7f error:0', True),
        ('other', 1060, 'segfault at 0 ip 00007f', False),
        ('ours', 1000, 'segfault at 0 ip 00007f', False),
        ('ours', 1090, 'segfault at 0 ip 00007f', False),
        ('ours', 1060, 'exited with preempt_count 1', False),
    ],
)
def test_a_dump_that_was_cut_short_is_completed_by_the_kernel(run, thread, seconds, what, named):
    run.lived().change(monotonic=1000.0).marked('faults', CUT)
    number = threading.get_native_id() if thread == 'ours' else 1
    run.world.kernel_log.write_text(kernel_line(number, seconds, what))
    record = run.judged()
    assert (record.verdict, record.confidence) == ('crashed', 'certain')
    assert ('while serving GET /page' in record.summary) == named
    assert bool(facts(record, 'kernel log')) == named
    assert record.requests[0].crashed == named


def test_a_whole_dump_needs_no_kernel(run):
    run.lived().marked('faults', SEGFAULT)
    run.world.kernel_log.write_text(kernel_line(threading.get_native_id(), 1060))
    assert facts(run.judged(), 'kernel log') == []


# -- a signal that was sent ------------------------------------------------------------------------


def standing_at(frame, word=b'Segmentation fault'):
    """Return a dump whose crashed thread has this line as its innermost frame."""
    place = b'  File "/site/bad.py", line 7 in crash\n'
    assert place in SEGFAULT
    return SEGFAULT.replace(b'Segmentation fault', word).replace(place, frame)


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program and returns the frame of its second line."""

    def write(line):
        file = tmp_path / 'program.py'
        file.write_text(f'def watch():\n    {line}\n')
        os.utime(file, (1, 1))
        return f'  File "{file}", line 2 in watch\n'.encode()

    return write


@pytest.mark.parametrize(
    'line, word, call',
    [
        ('time.sleep(60)', b'Segmentation fault', 'sleep'),
        ('ready = select.select([sock], [], [])', b'Bus error', 'select'),
        ('self.condition.wait(3)', b'Aborted', 'wait'),
        ('data = sock.recv(4096)', b'Aborted', 'recv'),
    ],
)
def test_a_signal_to_a_thread_in_a_system_call_may_have_been_sent(run, program, line, word, call):
    record = run.lived().marked('faults', standing_at(program(line), word)).judged()
    assert record.confidence == 'strong'
    assert record.summary.endswith(', or another process sent this signal.')
    (fact,) = facts(record, 'stack')
    assert f'({call})' in fact
    assert ('a watchdog may have sent SIGABRT' in fact) == (word == b'Aborted')


@pytest.mark.parametrize('word', [b'Segmentation fault', b'Aborted'])
def test_a_thread_that_runs_code_was_not_sent_its_signal(run, program, word):
    frame = program('image = parse(data)')
    record = run.lived().marked('faults', standing_at(frame, word)).judged()
    assert record.confidence == 'certain'
    assert 'somebody' not in record.summary
    assert facts(record, 'stack') == []


def test_the_loop_of_the_server_is_known_without_its_source(run):
    poll = b'  File "/gone/waitress/wasyncore.py", line 183 in poll\n'
    parse = b'  File "/gone/waitress/parser.py", line 80 in received\n'
    for frames in (poll, parse + poll):
        record = run.lived().marked('faults', standing_at(frames)).judged()
        assert (record.verdict, record.confidence) == ('crashed', 'strong')
        assert 'or another process sent' in record.summary
    handler = b'  File "/site/handler.py", line 3 in crash\n'
    record = run.lived().marked('faults', standing_at(handler + poll)).judged()
    assert record.confidence == 'certain', 'a signal handler of the site ran in MainThread'


@pytest.mark.parametrize('thread, confidence', [('ours', 'certain'), ('other', 'strong')])
def test_the_line_of_the_kernel_tells_a_fault_from_a_sent_signal(run, program, thread, confidence):
    text = standing_at(program('time.sleep(60)'))
    text = text.replace(b'0x00007f0000000010', b'0x%016x' % threading.get_ident())
    run.lived().change(monotonic=1000.0)
    run.marked('faults', text)
    number = threading.get_native_id() if thread == 'ours' else 1
    run.world.kernel_log.write_text(kernel_line(number, 1060))
    assert run.judged().confidence == confidence


# -- anything at all -------------------------------------------------------------------------------

_PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            SEGFAULT,
            HEADLESS,
            ABORTED,
            GLIBC,
            CUT,
            case('none-dealloc-3.11'),
            case('sigill-at-import-3.12'),
            case('buffered-busy-finalizing-3.13'),
            b'Fatal Python error: ',
            b'stack overflow\n',
            b'Python runtime state: finalizing\n',
            b'\0\0',
        ]
    ),
)
_TEXTS = st.lists(_PIECES, max_size=5).map(b''.join)
_ANY_KERNEL = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from([kernel_line(threading.get_native_id(), 1060), '6,1,9e9,-;x[1]: trap ']),
    ),
    max_size=4,
).map(''.join)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(stderr=_TEXTS, faults=_TEXTS, kernel=_ANY_KERNEL, survived=st.integers(0, 1 << 64 - 1))
def test_any_content_of_the_files_gives_a_record(run, stderr, faults, kernel, survived):
    run.lived(then=lambda recorder: recorder.survived('faults', survived))
    run.said(stderr).marked('faults', faults)
    run.world.kernel_log.write_text(kernel)
    record = run.judged()
    assert 'could not be judged' not in record.summary
    json.dumps(record.to_json())
    for text in (record.summary, *facts(record)):
        assert text.isprintable(), text
