"""What can be seen of another process without its answer."""

import os
import sys

import pytest

from Products.StabilityMonitor.inspection import outside


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has /proc')
def test_program_and_users_of_a_process_are_found():
    assert outside.executable(os.getpid()) == os.path.realpath(sys.executable)
    assert {os.getuid(), os.geteuid()} <= outside.users(os.getpid())


@pytest.mark.parametrize('status', [None, '', 'Name:\tpython\n'])
def test_program_and_users_are_empty_if_they_are_not_known(tmp_path, status):
    (tmp_path / '7').mkdir()
    if status is not None:
        (tmp_path / '7' / 'status').write_text(status)
    assert outside.users(7, tmp_path) == set()
    assert outside.executable(7, tmp_path) == ''


def test_all_four_user_ids_are_returned(tmp_path):
    (tmp_path / '7').mkdir()
    (tmp_path / '7' / 'status').write_text('Name:\tpython\nUid:\t0\t33\t33\t1000\n')
    assert outside.users(7, tmp_path) == {0, 33, 1000}
