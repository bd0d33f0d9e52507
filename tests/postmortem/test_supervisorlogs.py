"""Logs of supervisors: recorded lines, and lines that must not count."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.postmortem import supervisorlogs
from Products.StabilityMonitor.postmortem.supervisorlogs import DeadProcess

END = 1_790_000_000.0
DEAD = DeadProcess(pid=4711, started=END - 3600, last_sign=END - 1, found=END + 60, parent=17)
PARSERS = dict(supervisorlogs.PARSERS, uwsgi=supervisorlogs.uwsgi)


def at(seconds=0.0, form='%Y-%m-%d %H:%M:%S'):
    """Return that many seconds after the end as local time."""
    return time.strftime(form, time.localtime(END + seconds))


def zdaemon(words, seconds=0.0):
    return f'------\n{at(seconds, "%Y-%m-%dT%H:%M:%S")} INFO root {words}\n'


def supervisord(words, seconds=0.0, level='WARN'):
    return f'{at(seconds)},208 {level} {words}\n'


def gunicorn(words, seconds=0.0, writer=17):
    return f'[{at(seconds, "%Y-%m-%d %H:%M:%S %z")}] [{writer}] [ERROR] {words}\n'


SPAWNED = supervisord("spawned: 'zope' with pid 4711", -3660, 'INFO')

#: (parser, text, exit code, signal, core dumped, asked)
RECORDED = [
    ('zdaemon', zdaemon('pid 4711: exit status 3'), 3, None, False, ''),
    ('zdaemon', zdaemon('pid 4711: exit status 0; exiting now'), 0, None, False, ''),
    ('zdaemon', zdaemon('pid 4711: terminated by SIGKILL'), None, 'SIGKILL', False, ''),
    ('zdaemon', zdaemon('pid 4711: terminated by SIGIOT'), None, 'SIGABRT', False, ''),
    (
        'zdaemon',
        zdaemon('unknown(!=12) pid 4711: terminated by SIGSEGV (core dumped)'),
        None,
        'SIGSEGV',
        True,
        '',
    ),
    ('zdaemon', zdaemon('pid 4711: terminated by signal 34'), None, 'SIGRTMIN', False, ''),
    ('zdaemon', zdaemon('pid 4711: unknown termination cause 0x137f'), None, None, False, ''),
    (
        'supervisord',
        SPAWNED + supervisord('exited: zope (terminated by SIGSEGV (core dumped); not expected)'),
        None,
        'SIGSEGV',
        True,
        '',
    ),
    (
        'supervisord',
        SPAWNED + supervisord('exited: zope (exit status 3; not expected)'),
        3,
        None,
        False,
        '',
    ),
    (
        'supervisord',
        SPAWNED + supervisord('exited: zope (exit status 0; expected)', level='INFO'),
        0,
        None,
        False,
        '',
    ),
    (
        'supervisord',
        SPAWNED + supervisord('stopped: zope (terminated by SIGKILL)'),
        None,
        'SIGKILL',
        False,
        'SIGKILL',
    ),
    (
        'supervisord',
        SPAWNED + supervisord('stopped: zope (terminated by SIGQUIT)'),
        None,
        'SIGQUIT',
        False,
        'SIGQUIT',
    ),
    (
        'gunicorn',  # 21 and newer
        gunicorn('Worker (pid:4711) was sent SIGKILL! Perhaps out of memory?'),
        None,
        'SIGKILL',
        False,
        '',
    ),
    ('gunicorn', gunicorn('Worker (pid:4711) exited with code 3.'), 3, None, False, ''),
    ('gunicorn', gunicorn('Worker (pid:4711) exited with code 3'), 3, None, False, ''),
    (
        'gunicorn',  # 21 to 23
        gunicorn('Worker (pid:4711) was sent code 139!'),
        None,
        'SIGSEGV',
        True,
        '',
    ),
    (
        'gunicorn',  # 20.1
        gunicorn('Worker with pid 4711 was terminated due to signal 9'),
        None,
        'SIGKILL',
        False,
        '',
    ),
    (
        'uwsgi',
        'DAMN ! worker 1 (pid: 4711) died, killed by signal 9 :( trying respawn ...\n',
        None,
        'SIGKILL',
        False,
        '',
    ),
    (
        'uwsgi',
        'Tue Dec  1 11:03:02 2026 - DAMN ! worker 2 (pid: 4711) MISTERIOUSLY killed by signal 11 '
        ':( trying respawn ...\n',
        None,
        'SIGSEGV',
        False,
        '',
    ),
    (
        'uwsgi',
        'DAMN ! worker 1 (pid: 4711) died :( trying respawn ...\n',
        None,
        None,
        False,
        '',
    ),
]


@pytest.mark.parametrize('source, text, code, signal, core, asked', RECORDED)
def test_a_recorded_line_tells_the_status(source, text, code, signal, core, asked):
    found = PARSERS[source](text, DEAD)
    assert (found.source, found.exit_code, found.signal) == (source, code, signal)
    assert (found.core_dumped, found.asked) == (core, asked)
    assert text.rstrip('\n').rpartition('\n')[2][:300] in found.fact
    assert found.ended == (None if source == 'uwsgi' else END)
    assert found.time == DEAD.found


@pytest.mark.parametrize('source, text', [row[:2] for row in RECORDED])
class TestEachRecordedLine:
    def test_another_pid_does_not_count(self, source, text):
        for pid in (471, 47110, 711, 1):
            assert PARSERS[source](text, replace(DEAD, pid=pid)) is None

    def test_another_time_does_not_count(self, source, text):
        if source == 'uwsgi':
            return  # its lines have no time: only what was written after the last sample is read
        later = replace(DEAD, last_sign=END + 10)
        found_before = replace(DEAD, last_sign=END - 3000, found=END - 2000)
        assert PARSERS[source](text, later) is None
        assert PARSERS[source](text, found_before) is None

    def test_damage_around_it_does_no_harm(self, source, text):
        noise = '\0' * 5000 + 'x' * 3_000_000 + '\n\x1b[2J\udcff\n[2026-13-45 99:99:99 +9999]\n'
        whole = PARSERS[source](text, DEAD)
        assert PARSERS[source](noise + text + noise, DEAD) == whole
        assert (
            PARSERS[source]('\0' * 5000 + text.replace('\n', '\r\n'), DEAD).signal == whole.signal
        )

    def test_a_line_that_is_still_being_written_does_not_count(self, source, text):
        for missing in (1, 2, 5):
            assert PARSERS[source](text[:-missing], DEAD) is None


def test_a_signal_that_does_not_exist_is_no_status():
    found = supervisorlogs.zdaemon(zdaemon('pid 4711: terminated by SIGK'), DEAD)
    assert not found.knows_status


def test_a_process_that_got_the_same_pid_later_does_not_count():
    again = zdaemon('spawned process pid=4711', 20) + zdaemon('pid 4711: exit status 3', 30)
    assert supervisorlogs.zdaemon(again, DEAD) is None
    again = gunicorn('Booting worker with pid: 4711', 20, writer=4711)
    again += gunicorn('Worker (pid:4711) exited with code 3.', 30)
    assert supervisorlogs.gunicorn(again, DEAD) is None
    again = SPAWNED + supervisord("spawned: 'other' with pid 4711", 20)
    again += supervisord('exited: other (exit status 3; not expected)', 30)
    assert supervisorlogs.supervisord(again, DEAD) is None
    again = 'Respawned uWSGI worker 1 (new pid: 4711)\n'
    again += 'DAMN ! worker 1 (pid: 4711) died, killed by signal 9 :( trying respawn ...\n'
    assert supervisorlogs.uwsgi(again, DEAD) is None


def test_the_end_of_an_earlier_process_with_the_same_pid_does_not_count():
    before = zdaemon('pid 4711: exit status 3', -7200)
    own = zdaemon('spawned process pid=4711', -3660) + zdaemon('pid 4711: terminated by SIGKILL')
    assert supervisorlogs.zdaemon(before + own, DEAD).signal == 'SIGKILL'
    assert supervisorlogs.zdaemon(before, DEAD) is None


def test_a_predecessor_with_the_same_pid_that_died_just_before_does_not_count():
    dead = replace(DEAD, started=END - 1)
    before = zdaemon('pid 4711: exit status 3', -2) + zdaemon('spawned process pid=4711', -2)
    assert supervisorlogs.zdaemon(before, dead) is None
    own = zdaemon('pid 4711: terminated by SIGKILL')
    assert supervisorlogs.zdaemon(before + own, dead).signal == 'SIGKILL'
    before = gunicorn('Worker (pid:4711) exited with code 3.', -2)
    before += gunicorn('Booting worker with pid: 4711', -2, writer=4711)
    assert supervisorlogs.gunicorn(before, dead) is None
    before = SPAWNED + supervisord('exited: zope (exit status 3; not expected)', -2)
    before += supervisord("spawned: 'zope' with pid 4711", -2)
    assert supervisorlogs.supervisord(before, dead) is None


def test_supervisord_is_believed_only_if_it_says_which_pid_the_name_has():
    end = supervisord('exited: zope (exit status 3; not expected)')
    assert supervisorlogs.supervisord(end, DEAD) is None
    two_groups = SPAWNED + supervisord("spawned: 'zope' with pid 4712", -3000)
    assert supervisorlogs.supervisord(two_groups + end, DEAD) is None
    restarted = supervisord("spawned: 'zope' with pid 4000", -9000)
    restarted += supervisord('supervisord started with pid 1', -4000, 'INFO')
    assert supervisorlogs.supervisord(restarted + SPAWNED + end, DEAD).exit_code == 3


def test_only_the_parent_tells_the_end_of_a_worker_of_gunicorn():
    forged = gunicorn('Worker (pid:4711) exited with code 0.', writer=4711)
    assert supervisorlogs.gunicorn(forged, DEAD) is None


def test_a_line_cannot_be_forged_behind_a_separator_that_is_no_newline():
    for separator in '\x0b\x0c\x1c\x85\u2028':
        line = f'{at()},1 INFO a visitor said {separator}{zdaemon("pid 4711: exit status 3")[7:]}'
        assert supervisorlogs.zdaemon(line, DEAD) is None


def test_the_reason_of_a_timeout_is_quoted_too():
    late = gunicorn('WORKER TIMEOUT (pid:4711)', -0.5)
    end = gunicorn('Worker (pid:4711) was sent SIGKILL! Perhaps out of memory?', 1)
    found = supervisorlogs.gunicorn(late + end, DEAD)
    assert 'WORKER TIMEOUT' in found.fact and 'SIGKILL' in found.fact
    assert found.asked == '', 'a worker that was too slow was not stopped as wanted'
    harakiri = '*** HARAKIRI ON WORKER 1 (pid: 4711, try: 1, graceful: no) ***\n'
    end = 'worker 1 killed successfully (pid: 4711)\n'
    found = supervisorlogs.uwsgi(harakiri + end, DEAD)
    assert 'HARAKIRI' in found.fact and not found.knows_status


def test_a_clock_that_was_set_back_joins_nothing():
    assert supervisorlogs.zdaemon(zdaemon('pid 4711: exit status 3', -1800), DEAD) is None


def test_the_hour_that_comes_twice_means_either_moment(monkeypatch):
    monkeypatch.setenv('TZ', 'Europe/Berlin')
    time.tzset()
    try:
        first = (
            1_792_888_200.0 + 600
        )  # 2026-10-25 02:40 summer time; an hour later it is 02:40 again
        for end in (first, first + 3600):
            assert time.strftime('%H:%M', time.localtime(end)) == '02:40'
            shown = time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(end))
            line = f'{shown} INFO root pid 4711: exit status 3\n'
            dead = DeadProcess(4711, end - 900, end - 1, end + 60)
            assert supervisorlogs.zdaemon(line, dead).ended == end
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text):
    for source, parser in PARSERS.items():
        assert parser(text, DEAD) is None, source
    supervisorlogs.first_moment(text)
