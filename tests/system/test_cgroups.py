"""Find the memory cgroup in recorded trees: version 1, version 2, both at once, and containers."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.system import cgroups
from Products.StabilityMonitor.system.vitalsigns import counter

DATA = Path(__file__).parents[1] / 'data'


def tree(tmp_path, name):
    """Copy a recorded tree, with its mount points changed to the place of the copy."""
    copy = tmp_path / name
    shutil.copytree(DATA / f'proc_{name}', copy)
    mountinfo = copy / 'self/mountinfo'
    mountinfo.write_text(mountinfo.read_text().replace('@TREE@', str(copy)))
    return copy


@pytest.mark.parametrize(
    'name, version, directory, limit, kills',
    [
        ('v1', 1, 'fs/memory/system.slice/zope.service', 1073741824, 2),
        (
            'v2',
            2,
            'fs/system.slice/zope.service',
            2147483648,
            3,
        ),  # no limit in this group, but in the one above
        ('hybrid', 1, 'fs/memory/process_api/e203', -1, 1),
        ('container_v1', 1, 'fs/memory', 536870912, 0),
        ('container_v2', 2, 'fs', 268435456, 0),
    ],
)
def test_the_memory_cgroup_is_found_in_recorded_trees(
    tmp_path, name, version, directory, limit, kills
):
    proc = tree(tmp_path, name)
    found = cgroups.find(proc)
    assert (found['version'], found['directory'], found['limit']) == (
        version,
        str(proc / directory),
        limit,
    )
    status = os.stat(proc / directory)
    assert (found['device'], found['inode']) == (status.st_dev, status.st_ino)
    assert counter(Path(found['counter_file']).read_bytes(), b'oom_kill') == kills
    assert Path(found['current_file']).read_text() == '734003200\n'
    assert Path(found['limit_file']).is_file()


def test_the_smallest_limit_of_the_group_and_its_ancestors_counts(tmp_path):
    proc = tree(tmp_path, 'v2')
    (proc / 'fs/system.slice/zope.service/memory.max').write_text('4294967296\n')
    assert cgroups.find(proc)['limit'] == 2147483648
    (proc / 'fs/system.slice/memory.max').write_text('max\n')
    assert cgroups.find(proc)['limit'] == 4294967296


def test_a_group_without_a_memory_controller_is_not_found(tmp_path):
    proc = tree(tmp_path, 'v2')
    (proc / 'fs/system.slice/zope.service/memory.events').unlink()
    assert cgroups.find(proc) == {}


@pytest.mark.parametrize('missing', ['self/cgroup', 'self/mountinfo', 'fs'])
def test_without_one_of_the_files_no_group_is_found(tmp_path, missing):
    proc = tree(tmp_path, 'v1')
    path = proc / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cgroups.find(proc) == {}


def test_without_permission_no_group_is_found(tmp_path, monkeypatch):
    proc = tree(tmp_path, 'v1')

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'exists', refuse)
    assert cgroups.find(proc) == {}


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_content_of_the_files_is_not_an_error(tmp_path_factory, groups, mounts):
    proc = tmp_path_factory.getbasetemp() / 'noise'
    (proc / 'self').mkdir(parents=True, exist_ok=True)
    for head, table in (
        (b'', b''),
        (b'0::/\n4:memory:/x\n', b'1 - cgroup2 rw\n2 3 - cgroup memory\n'),
    ):
        (proc / 'self/cgroup').write_bytes(head + groups)
        (proc / 'self/mountinfo').write_bytes(table + mounts)
        assert isinstance(cgroups.find(proc), dict)


def test_a_cgroup_of_this_process_has_its_counter_file():
    found = cgroups.find()
    assert found == {} or Path(found['counter_file']).exists()
