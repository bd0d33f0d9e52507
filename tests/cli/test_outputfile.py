"""The file of `--out`: whole or not at all, and nothing is replaced by accident."""

import os
import stat
import threading

import pytest

from Products.StabilityMonitor.cli import outputfile
from Products.StabilityMonitor.cli.outputfile import FileIsThere
from Products.StabilityMonitor.cli.outputfile import NotWritten


def test_a_new_file_is_whole_and_for_its_owner_alone(tmp_path):
    path = str(tmp_path / 'report.txt')
    outputfile.check(path, False)
    assert outputfile.write(path, 'name.txt', b'a report', False) == path
    assert (tmp_path / 'report.txt').read_bytes() == b'a report'
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ['report.txt']


def test_a_file_that_exists_is_replaced_only_by_force(tmp_path):
    path = tmp_path / 'report.txt'
    path.write_text('old')
    with pytest.raises(FileIsThere, match='--force'):
        outputfile.check(str(path), False)
    with pytest.raises(FileIsThere):
        outputfile.write(str(path), '', b'new', False)
    assert path.read_text() == 'old'
    outputfile.check(str(path), True)
    outputfile.write(str(path), '', b'new', True)
    assert path.read_text() == 'new'


def test_a_folder_gets_a_file_with_the_name_of_a_download(tmp_path):
    outputfile.check(str(tmp_path), False)
    path = outputfile.write(str(tmp_path), 'stability.txt', b'a report', False)
    assert path == str(tmp_path / 'stability.txt') and os.path.exists(path)
    with pytest.raises(FileIsThere):
        outputfile.write(str(tmp_path), 'stability.txt', b'another', False)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(NotWritten, match='folder'):
        outputfile.write(str(tmp_path), 'folder', b'another', True)


def test_where_a_link_leads_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / 'target').write_text('old')
    link = tmp_path / 'link'
    link.symlink_to('target')
    outputfile.write(str(link), '', b'new', True)
    assert link.is_symlink() and (tmp_path / 'target').read_text() == 'new'


def test_what_is_no_regular_file_is_written_to_not_replaced(tmp_path):
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    outputfile.check(str(fifo), False)
    outputfile.write(str(fifo), '', b'a report', False)
    reader.join(30)
    assert read == [b'a report'] and stat.S_ISFIFO(os.stat(fifo).st_mode)


@pytest.mark.parametrize('path', ['missing/report.txt', 'file/report.txt', 'nul\0'])
def test_what_cannot_be_written_is_said_before_the_work(tmp_path, path):
    (tmp_path / 'file').write_text('')
    for act in (outputfile.check, lambda path, force: outputfile.write(path, '', b'x', force)):
        with pytest.raises(NotWritten, match='cannot be written.*--out - > FILE'):
            act(str(tmp_path / path), False)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_of_another_user_is_said_before_the_work():
    with pytest.raises(NotWritten):
        outputfile.check('/report.txt', False)


def test_nothing_stays_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    (tmp_path / 'report.txt').write_text('old')

    def full(*names):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(outputfile.os, 'replace', full)
    with pytest.raises(NotWritten, match='No space left on device'):
        outputfile.write(str(tmp_path / 'report.txt'), '', b'new', True)
    assert os.listdir(tmp_path) == ['report.txt']
    assert (tmp_path / 'report.txt').read_text() == 'old'
