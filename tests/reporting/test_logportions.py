"""The logs around the end of a run are found, also rotated; what cannot be read is a gap."""

import gzip
import logging
import os
from dataclasses import replace
from datetime import datetime

import pytest
from support.syntheticruns import STARTED
from support.syntheticruns import quiet_world
from support.syntheticruns import record
from support.syntheticruns import sample

from Products.StabilityMonitor.model.reportparts import Gap
from Products.StabilityMonitor.model.reportparts import LogPortion
from Products.StabilityMonitor.postmortem import journal
from Products.StabilityMonitor.reporting.logportions import portions
from Products.StabilityMonitor.reporting.subject import Subject
from Products.StabilityMonitor.system import processidentity

END = float(int(STARTED) + 60)
DAY = 86400


def lines(start=END - 100, stop=END + 100, step=5):
    text = []
    for number in range(int((stop - start) / step)):
        at = start + number * step
        text.append(f'{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S} INFO at {at - END:.0f}\n')
    return ''.join(text)


def write(path, text, written=END + 100):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.gz':
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    os.utime(path, (written, written))
    return path


@pytest.fixture
def subject(tmp_path):
    """A run on this machine that wrote an event log and an access log, and has ended."""
    context = {
        'identity': processidentity.identity(),
        'logs': [
            {'logger': '', 'file': str(tmp_path / 'log' / 'event.log')},
            {'logger': 'wsgi', 'file': str(tmp_path / 'log' / 'Z2.log')},
        ],
    }
    world = replace(quiet_world(tmp_path), kernel_files=(), journalctl=None, now=END + 9 * DAY)
    boot = tmp_path / 'proc/sys/kernel/random/boot_id'
    boot.parent.mkdir(parents=True)
    boot.write_text(processidentity.identity()['boot_id'])
    return Subject(context, END, record(), world)


def of(name, subject):
    """Return (the portion or None, the gaps) of the log with this name."""
    logs, gaps = portions(subject)
    found = [log for log in logs if log.name == name]
    return found[0] if found else None, [gap for gap in gaps if gap.what == name]


def changed(subject, **context):
    return replace(subject, context=subject.context | context)


def test_the_event_log_and_the_access_log_are_found(subject, tmp_path):
    write(tmp_path / 'log/event.log', lines())
    write(tmp_path / 'log/Z2.log', lines(END - 20))
    event, gaps = of('event-log', subject)
    access, _ = of('access-log', subject)
    assert event.file.endswith('/event.log') and not gaps and not event.rotated
    assert (event.first, event.last) == (END - 100, END + 55)
    assert len(access.lines) == 16 and access.lines[-1].endswith('at 55')


@pytest.mark.parametrize('name', ['event.log.1', 'event.log-20260921.gz', 'event-20260921.log.gz'])
def test_a_rotated_log_is_found(subject, tmp_path, name):
    write(tmp_path / 'log' / name, lines(), END + DAY)
    write(tmp_path / 'log' / 'event.log.9.gz', lines(END - 3 * DAY, END - DAY, 3600), END - DAY)
    write(tmp_path / 'log/event.log', lines(END + DAY, END + DAY + 99), END + 2 * DAY)
    event, _ = of('event-log', subject)
    assert event.file.endswith(name) and event.rotated
    assert 'at 0' in event.text and event.last == END + 55


def test_a_rotation_just_before_the_end_is_bridged(subject, tmp_path):
    write(tmp_path / 'log/event.log.1', lines(END - 400, END - 10), END - 10)
    write(tmp_path / 'log/event.log', lines(END - 10, END + 10), END + 20)
    event, _ = of('event-log', subject)
    assert event.first < END - 290 and 'at -15\n' in event.text and event.lines[-1].endswith('at 5')


@pytest.mark.parametrize(
    'make, why',
    [
        (lambda path: None, 'not-found'),
        (lambda path: path.symlink_to('/etc/passwd'), 'not-a-file'),
        (lambda path: os.mkfifo(path), 'not-a-file'),
        (lambda path: path.mkdir(), 'not-a-file'),
        (lambda path: path.write_text(''), 'nothing-then'),
        (lambda path: write(path, 'no times\n', END + 9999), 'nothing-then'),
        (lambda path: write(path.with_name('event.log.1.xz'), 'x'), 'packed'),
        (lambda path: write(path.with_name('event.log.1.gz'), 'x').write_bytes(b'no'), 'failed'),
    ],
)
def test_what_cannot_be_read_is_a_gap(subject, tmp_path, make, why):
    (tmp_path / 'log').mkdir()
    make(tmp_path / 'log/event.log')
    event, (gap,) = of('event-log', subject)
    assert event is None and gap.why == why


def test_a_log_without_times_counts_if_it_was_written_at_the_end(subject, tmp_path):
    write(tmp_path / 'log/event.log', 'one\ntwo\n', END + 1)
    event, _ = of('event-log', subject)
    assert event.lines == ['one', 'two'] and event.timeless


def test_a_file_of_another_user_is_not_read_for_a_reader(subject, tmp_path):
    """The owner of the data directory could name a file that only the reader may read."""
    write(tmp_path / 'log/event.log', lines())
    event, (gap,) = of('event-log', replace(subject, owner=os.getuid() + 1))
    assert event is None and gap.why == 'of-another-user'


@pytest.mark.parametrize('logs', [None, 7, ['x'], [{'file': 'event.log'}], [{'file': 7}]])
def test_a_context_that_names_no_log_is_a_gap(subject, logs):
    event, (gap,) = of('event-log', changed(subject, logs=logs))
    assert event is None and gap == Gap('event-log', 'not-named')


def test_a_run_of_an_older_release_has_the_logs_of_its_ini_file(subject, tmp_path):
    write(tmp_path / 'log/event.log', lines())
    ini = tmp_path / 'etc/zope.ini'
    ini.parent.mkdir()
    ini.write_text(
        '[loggers]\nkeys = root\n[logger_root]\nhandlers = f\n'
        "[handler_f]\nclass = FileHandler\nargs = ('%(here)s/../log/event.log',)\n"
    )
    older = changed(subject, logs=None, software={'instance_home': str(tmp_path)})
    event, _ = of('event-log', older)
    assert event and event.file == str(tmp_path / 'log/event.log')


def test_a_living_process_is_asked_for_its_handlers(subject, tmp_path):
    path = tmp_path / 'living.log'
    handler = logging.FileHandler(path)
    logging.getLogger('wsgi').addHandler(handler)
    try:
        write(path, lines(), END)
        logs, _ = portions(replace(subject, is_own=True))
    finally:
        logging.getLogger('wsgi').removeHandler(handler)
        handler.close()
    assert ('access-log', str(path)) in [(log.name, log.file) for log in logs]


def test_no_log_of_this_machine_is_read_for_a_run_of_another(subject, tmp_path):
    write(tmp_path / 'log/event.log', lines())
    elsewhere = changed(subject, identity={'boot_id': 'other'}, machine_id='other')
    (tmp_path / 'machine-id').write_text('this\n')
    assert portions(elsewhere) == ([], [Gap('logs', 'other-machine')])
    with_host = changed(subject, identity={}, hostname='elsewhere.example')
    assert portions(with_host) == ([], [Gap('logs', 'other-machine')])
    assert portions(replace(subject, context={})) == ([], [Gap('logs', 'not-recorded')])


def test_standard_error_and_the_log_of_the_supervisor_are_read(subject, tmp_path):
    error = write(tmp_path / 'stderr', 'free(): invalid pointer\n', END)
    status = error.stat()
    log = write(tmp_path / 'zdaemon.log', lines())
    output = {
        'kind': 'file',
        'path': str(error),
        'size': 0,
        'device': status.st_dev,
        'inode': status.st_ino,
    }
    run = changed(
        subject, outputs={'2': output}, supervisor_log={'kind': 'zdaemon', 'path': str(log)}
    )
    portion, _ = of('standard-error', run)
    assert portion.lines == ['free(): invalid pointer'] and portion.timeless
    portion, _ = of('supervisor-log', run)
    assert portion.file == str(log)


def test_the_logs_of_the_system_are_read(subject, tmp_path, monkeypatch):
    kernel = write(tmp_path / 'kern.log', '')
    stamp = f'{datetime.fromtimestamp(END):%b %e %H:%M:%S}'
    said = f'zope[{subject.record.pid}]: segfault at 0'
    kernel.write_text(f'{stamp} web1 kernel: {said}\n')
    write(tmp_path / 'root/var/log/syslog', f'{stamp} web1 cron: hello\n')
    asked = []

    def service_lines(program, invocation, since, until):
        asked.append((invocation, since, until))
        return ['2026-09-21T13:34:20.000Z zope[1]: hello']

    monkeypatch.setattr(journal, 'service_lines', service_lines)
    run = changed(replace(subject, world=replace(subject.world, kernel_files=(kernel,))))
    logs, _ = portions(changed(run, invocation_id='a' * 32))
    found = {log.name: log.lines for log in logs}
    assert found['kernel-log'][0].endswith(f'kernel: {said}')
    assert found['system-log'][0].endswith('cron: hello')
    assert found['journal'][0].endswith('zope[1]: hello')
    assert asked == [('a' * 32, END - 300, END + 60)]


def test_faults_of_other_processes_are_left_out(subject, tmp_path):
    stamp = f'{datetime.fromtimestamp(END):%b %e %H:%M:%S}'
    words = (
        f'zope[{subject.record.pid + 9}]: segfault at 0',
        'Out of memory: Killed process 9 (x)',
    )
    kernel = write(tmp_path / 'kern.log', '')
    kernel.write_text(''.join(f'{stamp} web1 kernel: {each}\n' for each in words))
    run = changed(replace(subject, world=replace(subject.world, kernel_files=(kernel,))))
    logs, _ = portions(run)
    (lines,) = [log.lines for log in logs if log.name == 'kernel-log']
    assert len(lines) == 1 and 'Killed process 9' in lines[0]


def test_logs_of_the_system_that_cannot_be_read_are_gaps(subject):
    _, gaps = portions(changed(subject, invocation_id='a' * 32))
    assert Gap('kernel-log', 'not-readable', str(subject.world.kernel_log)) in gaps
    assert Gap('journal', 'not-readable') in gaps


def test_a_damaged_context_raises_nothing(subject):
    context = dict.fromkeys(
        ('logs', 'outputs', 'supervisor_log', 'invocation_id', 'software', 'started'), {'2': 7}
    )
    logs, _ = portions(changed(subject, **context))
    assert logs == []


def test_the_lines_of_a_portion_are_those_of_its_text():
    assert LogPortion('event-log').lines == [] and LogPortion('x', text='a\nb').lines == ['a', 'b']


def test_the_clock_of_a_sample_places_the_lines_of_the_kernel(subject):
    """See `kernel_lines`: /dev/kmsg counts seconds since the boot."""
    from Products.StabilityMonitor.reporting.logportions import _ahead

    assert _ahead(replace(subject, record=record(samples=(sample(),)))) == STARTED - 1000
    assert _ahead(changed(subject, started=100.0, monotonic=40.0)) == 60.0
    assert _ahead(changed(subject, identity={})) is None
