"""The files of a rotated log, oldest first; nothing else in the folder is one."""

import os

from Products.StabilityMonitor.system.rotatedlogs import files_of

NAMES = [
    'event.log.2.gz',
    'event.log.1',
    'event-20261130.log',
    'event.log-20261201.xz',
    'event.log',
]
OTHERS = [
    'event.log.bak',
    'event.log.d',
    'other.log.1',
    'event.logx.1',
    'event-old.log',
    'xevent.log.1',
]


def test_the_files_of_a_log_come_in_the_order_of_their_times(tmp_path):
    for number, name in enumerate([*NAMES, *OTHERS]):
        (tmp_path / name).write_text('x' * number)
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    found = files_of(str(tmp_path / 'event.log'))
    assert [os.path.basename(file.path) for file in found] == NAMES
    assert [file.packed for file in found] == ['.gz', '', '', '.xz', '']
    assert found[1].size == 1 and found[1].written == 1001


def test_links_folders_and_pipes_do_not_count(tmp_path):
    (tmp_path / 'event.log.1').symlink_to('/etc/passwd')
    (tmp_path / 'event.log.2').mkdir()
    os.mkfifo(tmp_path / 'event.log')
    assert files_of(str(tmp_path / 'event.log')) == []


def test_a_missing_folder_has_none(tmp_path):
    assert files_of(str(tmp_path / 'gone' / 'event.log')) == [] == files_of('a\0b')
