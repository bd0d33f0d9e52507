"""Files with code in the text of /proc/<pid>/maps."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.system.mappedfiles import MappedFile
from Products.StabilityMonitor.system.mappedfiles import executable_files

MAPS = """\
5581c0000000-5581c0001000 r--p 00000000 08:01 11                         /usr/bin/python3
5581c0001000-5581c0002000 r-xp 00001000 08:01 11                         /usr/bin/python3
5581c0003000-5581c0004000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 r-xp 00002000 08:01 22                         /opt/a b/x y.so
7f0000001000-7f0000002000 r-xp 00000000 08:01 33                         /opt/old.so (deleted)
7f0000002000-7f0000003000 r-xp 00000000 08:01 34                         /opt/old.so
7f0000003000-7f0000004000 r-xp 00000000 08:01 44                         /opt/new\\012line.so
7f0000004000-7f0000005000 r-xp 00000000 00:05 55                         /memfd:made (deleted)
7f0000005000-7f0000006000 rwxp 00000000 00:00 0
7f0000006000-7f0000007000 r-xs 00000000 08:01 66                         /opt/shared.so
7f0000007000-7f0000008000 rw-s 00000000 08:01 77                         /srv/blackbox.sbr
7f0000008000-7f0000009000 r-xp 00003000 08:01 22                         /opt/a b/x y.so
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0                          [vdso]
nonsense r-xp
"""


def test_only_files_with_code_are_found_each_once():
    assert executable_files(MAPS) == (
        MappedFile('/usr/bin/python3', 11, 0x5581C0001000, 0x1000),
        MappedFile('/opt/a b/x y.so', 22, 0x7F0000000000, 0x2000),
        MappedFile('/opt/old.so', 33, 0x7F0000001000, 0, is_deleted=True),
        MappedFile('/opt/old.so', 34, 0x7F0000002000, 0),
        MappedFile('/opt/new\nline.so', 44, 0x7F0000003000, 0),
        MappedFile('/opt/shared.so', 66, 0x7F0000006000, 0),
    )


@given(st.text() | st.text('0123456789abcdef- rxp:/\n()', max_size=200))
def test_no_text_raises(text):
    executable_files(text + '\n' + MAPS)


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='no /proc here')
def test_the_files_of_this_process_exist():
    found = executable_files(Path('/proc/self/maps').read_text())
    assert os.path.realpath(sys.executable) in {file.path for file in found}
    for file in found:
        assert file.is_deleted or os.stat(file.path).st_ino == file.inode
