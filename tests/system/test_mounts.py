"""The type of the file system of a path, from a recorded mount table."""

import pytest

from Products.StabilityMonitor.system import mounts

MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/root rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 0:40 / /srv rw,relatime shared:1 - xfs /dev/vdb rw
25 24 0:41 /export /srv/nfs rw,relatime shared:2 master:1 - nfs4 server:/export rw,vers=4.2
26 24 0:42 / /srv/with\040blank\134s rw - cifs //server/share rw
27 22 0:43 / /home rw - fuse.sshfs user@host: rw
28 22 0:44 / /over rw - nfs server:/ rw
29 22 0:45 / /over rw - ext4 /dev/vdc rw
30 22 0:46 / /bind rw - ext4 /dev/vdc rw
31 22 0:47 / /ümlaut rw - 9p host rw
"""


@pytest.fixture
def proc(tmp_path):
    (tmp_path / 'self').mkdir()
    (tmp_path / 'self/mountinfo').write_text(MOUNTS)
    return tmp_path


class Path(type(mounts.Path())):
    """A path that does not resolve symbolic links of this machine."""

    def resolve(self, strict=False):
        return self


@pytest.mark.parametrize(
    'path, kind, network',
    [
        ('/', 'ext4', ''),
        ('/var/stability', 'ext4', ''),
        ('/srv', 'xfs', ''),
        ('/srv/zope', 'xfs', ''),
        ('/srvx', 'ext4', ''),  # not below /srv
        ('/srv/nfs', 'nfs4', 'nfs4'),
        ('/srv/nfs/zope/stability', 'nfs4', 'nfs4'),
        ('/srv/nfsx', 'xfs', ''),
        ('/srv/with blank\\s/x', 'cifs', 'cifs'),
        ('/home/zope', 'fuse.sshfs', 'fuse.sshfs'),
        ('/over/x', 'ext4', ''),  # the later mount hides the earlier one
        ('/ümlaut/x', '9p', '9p'),
    ],
)
def test_the_longest_and_last_mount_point_decides_the_type(proc, path, kind, network):
    assert mounts.kind(Path(path), proc) == kind
    assert mounts.network_file_system(Path(path), proc) == network


def test_symbolic_links_are_followed(proc, tmp_path):
    (tmp_path / 'link').symlink_to('/srv/nfs')
    assert mounts.kind(mounts.Path(tmp_path / 'link' / 'x'), proc) == 'nfs4'


@pytest.mark.parametrize(
    'text', ['', '\n\n', 'x', '1 2 3 - nfs', '22 1 254:0 / / rw', '1 2 3 / / - ', 'ÿ - ÿ ÿ']
)
def test_a_damaged_mount_table_is_not_an_error(proc, text):
    (proc / 'self/mountinfo').write_text(text)
    assert mounts.network_file_system(Path('/srv'), proc) == ''


def test_without_a_mount_table_the_type_is_unknown(tmp_path):
    assert mounts.kind(Path('/srv'), tmp_path) == ''
