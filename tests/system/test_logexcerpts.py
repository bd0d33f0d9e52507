"""Lines around a moment are found in any log, and little of a large one is read."""

import gzip
import io
import os
from datetime import datetime

import pytest

from Products.StabilityMonitor.system import logexcerpts
from Products.StabilityMonitor.system.logexcerpts import of_file
from Products.StabilityMonitor.system.logexcerpts import of_lines
from Products.StabilityMonitor.system.logexcerpts import of_packed

NOW = 1_790_000_000.0
MEBIBYTE = 1 << 20


def line(at, words='text'):
    return f'{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S},000 INFO [site] {words}'


def log(path, *lines):
    path.write_text(''.join(f'{each}\n' for each in lines))
    return path


def excerpt(path, moment, now=NOW):
    with open(path, 'rb') as file:
        return of_file(file.fileno(), moment, now)


@pytest.fixture
def bytes_read(monkeypatch):
    counts = []
    real = os.pread

    def counting(descriptor, length, offset):
        found = real(descriptor, length, offset)
        counts.append(len(found))
        return found

    monkeypatch.setattr(os, 'pread', counting)
    return counts


def test_the_lines_around_the_moment_are_returned(tmp_path):
    path = log(
        tmp_path / 'event.log', *(line(NOW - after, f'{after}') for after in range(400, -1, -5))
    )
    found = excerpt(path, NOW - 200)
    assert found.first == NOW - 200 - logexcerpts.BEFORE + 100  # there the log begins
    assert found.last == NOW - 200 + logexcerpts.AFTER - 5
    assert found.lines[found.before - 1].endswith(' 200')
    assert found.lines[found.before].endswith(' 195')
    assert not found.cut and not found.reaches_end


def test_few_lines_are_shown_however_old_they_are(tmp_path):
    path = log(tmp_path / 'event.log', *(line(NOW - 9000 - n) for n in range(50, 0, -1)))
    found = excerpt(path, NOW)
    assert len(found.lines) == logexcerpts.LEAST_LINES and found.reaches_end


def test_a_traceback_stays_with_its_record(tmp_path):
    record = [line(NOW - 900, 'error'), 'Traceback:', *['  File "x.py", line 3'] * 60, 'ValueError']
    path = log(tmp_path / 'event.log', line(NOW - 1000), *record)
    found = excerpt(path, NOW)
    assert list(found.lines) == record


def test_of_many_lines_those_near_the_moment_are_returned(tmp_path):
    path = log(tmp_path / 'event.log', *(line(NOW - 150 + n // 10) for n in range(3000)))
    found = excerpt(path, NOW)
    assert found.before == logexcerpts.MOST_BEFORE
    assert len(found.lines) == logexcerpts.MOST_BEFORE + logexcerpts.MOST_AFTER
    assert found.cut and found.first == NOW - 15


def test_only_the_tail_of_a_log_of_two_gigabytes_is_read(tmp_path, bytes_read):
    path = tmp_path / 'event.log'
    with open(path, 'wb') as file:
        file.truncate(2 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b'\n')
        for number in range(20_000):
            file.write(f'{line(NOW - 2000 + number / 10, number)}\n'.encode())
    found = excerpt(path, NOW)
    assert found.lines[-1].endswith(' 19999') and found.reaches_end
    assert sum(bytes_read) < MEBIBYTE


def test_an_old_moment_is_found_in_a_large_log_with_few_reads(tmp_path, bytes_read):
    path = tmp_path / 'event.log'
    with open(path, 'w') as file:
        for number in range(40_000):
            file.write(f'{line(NOW + number, number)}\n  more\n  of it {"x" * 300}\n')
    assert path.stat().st_size > 13 * MEBIBYTE
    found = excerpt(path, NOW + 12_345, NOW + 99_999)
    assert found.lines[found.before - 3].endswith(' 12345')
    assert found.lines[found.before].endswith(' 12346')
    assert sum(bytes_read) < MEBIBYTE // 2


def test_a_log_without_times_is_read_at_its_end(tmp_path):
    path = log(tmp_path / 'event.log', *map(str, range(30_000)))
    found = excerpt(path, NOW)
    assert found.first is None and found.lines[-1] == '29999'
    assert len(found.lines) == logexcerpts.LEAST_LINES


def test_a_moment_before_the_log_has_only_what_is_after_it(tmp_path):
    path = log(tmp_path / 'event.log', line(NOW + 30), line(NOW + 90))
    found = excerpt(path, NOW, NOW + 99)
    assert (found.before, len(found.lines)) == (0, 1)


def test_a_compressed_log_is_read_alike(tmp_path):
    lines = [line(NOW + number / 10, number) for number in range(30_000)]
    plain = excerpt(log(tmp_path / 'event.log', *lines), NOW + 1000, NOW + 9999)
    packed = gzip.compress('\n'.join(lines).encode())
    with gzip.open(io.BytesIO(packed)) as file:
        found = of_packed(file.read, NOW + 1000, NOW + 9999)
    assert found.lines == plain.lines and found.before == plain.before and found.cut
    assert found.lines[found.before - 1].endswith(' 10009')


def test_no_more_of_a_compressed_log_is_unpacked_than_the_limit(monkeypatch):
    monkeypatch.setattr(logexcerpts, '_MOST_UNPACKED', MEBIBYTE)
    file = io.BytesIO(bytes(4 * MEBIBYTE))
    of_packed(file.read, NOW, NOW)
    assert file.tell() <= MEBIBYTE


def test_a_long_line_is_cut_between_words_and_cleaned():
    long = line(NOW, 'word ' * 2000)
    found = of_lines([long, 'a\x1b[31mb\tc'], NOW, NOW)
    assert len(found.lines[0]) < 4100 and found.lines[0].endswith('word ...')
    assert found.lines[1] == 'a\\x1b[31mb c'


def test_an_empty_log_has_no_lines(tmp_path):
    assert excerpt(log(tmp_path / 'event.log'), NOW).lines == ()
