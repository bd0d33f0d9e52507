"""The option `trace-log` in a real Zope: no line is lost by rotation or SIGKILL, and the next start
continues the log.
"""

import contextlib
import re
import stat

import pytest
from support import deaths
from support.tracelogs import GRAMMAR
from support.tracelogs import profile

pytestmark = pytest.mark.zope
SIZE, KEPT = 4096, 20
OPTIONS = {
    'sample-interval': '100ms',
    'trace-log': 'trace.log',
    'trace-log-size': str(SIZE),
    'trace-log-keep': str(KEPT),
}


@pytest.fixture
def site(tmp_path):
    site = deaths.Site(tmp_path / 'site', options=dict(OPTIONS)).create()
    yield site
    site.destroy()


def files(site):
    """Return the files of the log, oldest first."""
    path = site.stability / 'trace.log'
    return [
        *filter(type(path).exists, (path.with_name(f'trace.log.{n}') for n in range(KEPT, 0, -1))),
        path,
    ]


def text(site):
    return ''.join(path.read_text('utf-8') for path in files(site))


def serve(site, numbers):
    for number in numbers:
        assert (
            site.get(f'/clock?number={number}').status == 200
            and site.get(f'/page-{number}').status == 404
        )
    return [f'/page-{number}' for number in numbers]


def until_written(site, words):
    """Wait until the heartbeat has written a line that matches `words`."""

    def is_written():
        with contextlib.suppress(FileNotFoundError):  # a file is being rotated
            return re.search(words, text(site))

    deaths.wait_for(is_written, deaths.PATIENCE, words)


def ends(site, how, path):
    """End the process while it serves a page, and return the lines of the log, which must match the
    format.
    """
    site.background(path)
    until_written(site, rf'GET {path}\n')
    site.signal(how)
    site.wait_exit()
    lines = text(site).splitlines()
    assert [line for line in lines if not GRAMMAR.fullmatch(line)] == []
    assert all(
        file.stat().st_size <= SIZE and stat.S_IMODE(file.stat().st_mode) == 0o600
        for file in files(site)
    )
    return lines


def pages(lines):
    """Return [(path, status or None if in flight)] of the pages of this test, as an old reader of
    such logs sees them.
    """
    requests, complaints = profile(lines)
    assert complaints == 0
    return [(r['url'], r.get('code')) for r in requests if r['url'].startswith(('/page-', '/wait'))]


def starts(lines):
    return [line.split()[3:] for line in lines if line.startswith('U')]


def test_the_trace_log_survives_rotation_and_sigkill(site):
    site.start()
    first, pid = site.run_directory.name, site.pid
    paths = serve(site, range(30))
    lines = ends(site, 'SIGKILL', '/wait')
    assert len(files(site)) > 2, 'it has rotated'
    assert starts(lines) == [['pid', str(pid), first]] and lines[0].startswith('U')
    assert pages(lines) == [(path, '404') for path in paths] + [('/wait', None)]
    numbers = [int(line.split()[1].partition('@')[0]) for line in lines if line.startswith('B')]
    assert numbers == list(range(1, len(numbers) + 1)), 'no request is missing'

    before = text(site)
    site.start()
    second = site.run_directory.name
    more = serve(site, range(30, 35))
    until_written(site, r'GET /page-34\nA .*\nE ')
    assert site.stop() == 0
    after = text(site)
    assert after.startswith(before), 'what the killed process wrote is kept'
    added = after[len(before) :].splitlines()
    assert [words[2] for words in starts(after.splitlines())] == [first, second]
    assert pages(added) == [(path, '404') for path in more]
    assert [line.split()[1].partition('@')[0] for line in added if line.startswith('B')][0] == '1'


def test_a_clean_stop_loses_no_line(site):
    site.start()
    paths = serve(site, range(3))
    site.stop()
    assert pages(text(site).splitlines()) == [(path, '404') for path in paths]
    assert site.start().report()['process']['recording']
    assert [check for check in site.report()['checks'] if check['id'] == 'trace-log'] == []
