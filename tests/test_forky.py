""".ci/forky, the script with which CI runs Python 3.14 and 3.15: the machine sees none of its
mounts, and its root folder is removed when all its processes have ended.

Namespaces, mounts and processes are real.  The root folder has only a shell and a few programs,
which a fake `debootstrap` copies from this system.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs.handshake import until

SCRIPT = Path(__file__).resolve().parents[1] / '.ci' / 'forky'
TOOLS = ('unshare', 'setpriv', 'flock', 'findmnt', 'ldd', 'git', 'pivot_root')
PROGRAMS = ('bash', 'cat', 'chroot', 'env', 'ls', 'mkfifo', 'setsid', 'sleep', 'umount')
MISSING = [name for name in TOOLS + PROGRAMS if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux has namespaces'),
    pytest.mark.skipif(not SCRIPT.exists(), reason='not in a checkout'),
    pytest.mark.skipif(bool(MISSING), reason=f'not installed here: {", ".join(MISSING)}'),
]
DEBOOTSTRAP = """#!/bin/bash
if [ -e {folder}/fails ] || [ -e {folder}/fails-once ]; then
    rm -f {folder}/fails-once
    echo 'E: Failed getting release file'
    exit 1
fi
echo "$@" > {folder}/asked
root=$4
mkdir -p "$root"/{{bin,dev,etc,proc,sys,tmp,usr/bin}}
for program in {programs}; do
    cp "$program" "$root/bin/"
    for library in $(ldd "$program" | grep -o '/[^ ]*'); do
        mkdir -p "$root${{library%/*}}"
        cp -L "$library" "$root$library"
    done
done
for python in python3.14 python3.15; do
    printf '#!/bin/bash\\necho Python of the tests\\n' > "$root/bin/$python"
    chmod +x "$root/bin/$python"
done
[ ! -e {folder}/waits ] || sleep 1000
"""


class Forky:
    """Runs the script, with a fake mirror and a fake debootstrap."""

    def __init__(self, folder):
        self.folder = folder
        programs = ' '.join(shutil.which(name) for name in PROGRAMS)
        for name, text in (
            ('debootstrap', DEBOOTSTRAP.format(folder=folder, programs=programs)),
            ('apt-get', '#!/bin/sh\necho Debian http://mirror.example/debian\n'),
        ):
            path = folder / 'bin' / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        (folder / 'tmp').mkdir()
        self.environment = {
            **os.environ,
            'PATH': f'{folder / "bin"}:{os.environ["PATH"]}',
            'TMPDIR': str(folder / 'tmp'),
        }
        self.environment.pop('FORKY_ROOT', None)

    def start(self, *words, prefix=(), **environment):
        return subprocess.Popen(
            [*prefix, 'bash', str(SCRIPT), *words],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, **how):
        process = self.start(*words, **how)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors

    def left(self):
        """Return (paths in the folder for temporary files, whether a mount is left there)."""
        mounted = Path('/proc/self/mounts').read_text()
        return [*(self.folder / 'tmp').iterdir()], str(self.folder) in mounted


@pytest.fixture
def forky(tmp_path):
    return Forky(tmp_path)


def processes(word):
    """Return the ids of the processes with `word` in their command line."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.root
class TestAsRoot:
    def test_the_command_runs_in_a_copy_of_the_checkout_with_its_own_devices(self, forky):
        status, output, errors = forky.run('bash', '-c', 'ls -d setup.py /dev/*; exit 7')
        assert status == 7, errors
        assert 'Debian forky: Python of the tests' in output
        found = output.splitlines()
        assert 'setup.py' in found and {'/dev/null', '/dev/zero', '/dev/ptmx'} <= set(found)
        assert not {'/dev/vda', '/dev/sda', '/dev/kmsg', '/dev/mem'} & set(found)
        assert 'forky' in (forky.folder / 'asked').read_text()
        assert 'http://mirror.example/debian' in (forky.folder / 'asked').read_text()
        assert forky.left() == ([], False)

    def test_its_mounts_are_invisible_outside(self, forky):
        pipe = forky.folder / 'forky' / 'go-on'
        process = forky.start(
            'bash', '-c', 'mkfifo /go-on; cat /go-on', FORKY_ROOT=str(pipe.parent)
        )
        until(pipe.exists, 'the command')
        assert str(forky.folder) not in Path('/proc/self/mounts').read_text()
        assert not list((pipe.parent / 'dev').iterdir())
        pipe.write_text('said')
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and output.endswith('said')

    def test_signals_have_their_default_action(self, forky):
        """The shell starts background processes with SIGINT ignored."""
        status, output, _ = forky.run('cat', '/proc/self/status')
        ignored = re.search(r'^SigIgn:\t(\w+)$', output, re.M)[1]
        of_glibc = (
            0b11 << 31
        )  # 32 and 33: posix_spawn leaves them ignored, and they cannot be reset
        assert status == 0 and int(ignored, 16) & ~of_glibc == 0, ignored

    @pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP'])
    def test_a_signal_ends_all_processes_and_removes_the_folder(self, forky, name):
        word = f'1000.{os.getpid()}'
        process = forky.start(
            'bash', '-c', f'setsid sleep {word} & trap "" TERM INT HUP; echo runs; sleep {word}'
        )
        while process.stdout.readline() != 'runs\n':
            assert process.poll() is None
        until(lambda: len(processes(f'sleep\0{word}')) == 2, 'both processes')
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == 128 + getattr(signal, name)
        assert processes(f'sleep\0{word}') == [] and forky.left() == ([], False)

    def test_a_timeout_while_the_folder_is_made_removes_the_folder(self, forky):
        (forky.folder / 'waits').touch()
        root = forky.folder / 'forky'
        status, *_ = forky.run('ls', prefix=('timeout', '3'), FORKY_ROOT=str(root))
        assert status == 124 and not root.exists() and not processes(str(root))

    def test_sigkill_of_the_script_leaves_no_process(self, forky):
        word = f'1001.{os.getpid()}'
        process = forky.start('bash', '-c', f'echo runs; setsid sleep {word}')
        while process.stdout.readline() != 'runs\n':
            assert process.poll() is None
        until(lambda: processes(f'sleep\0{word}'), 'the command')
        process.kill()
        process.wait()
        until(lambda: not processes(f'sleep\0{word}'), 'the end of the command')

    def test_a_named_folder_is_kept_until_the_command_remove(self, forky):
        root = forky.folder / 'forky'
        assert forky.run('ls', FORKY_ROOT=str(root))[0] == 0
        (forky.folder / 'fails').touch()  # a second debootstrap would fail
        assert forky.run('ls', FORKY_ROOT=str(root))[0] == 0 and root.exists()
        assert forky.run('remove', FORKY_ROOT=str(root))[0] == 0 and not root.exists()

    def test_a_folder_in_use_is_not_removed(self, forky):
        root = forky.folder / 'forky'
        process = forky.start('bash', '-c', 'mkfifo /go-on; cat /go-on', FORKY_ROOT=str(root))
        until((root / 'go-on').exists, 'the command')
        status, _, errors = forky.run('remove', FORKY_ROOT=str(root))
        assert status == 1 and 'another .ci/forky uses' in errors and root.exists()
        (root / 'go-on').write_text('')
        assert process.wait(60) == 0

    def test_a_foreign_folder_is_not_removed(self, forky):
        mine = forky.folder / 'mine'
        mine.mkdir()
        (mine / 'kept').touch()
        assert forky.run('ls', FORKY_ROOT=str(mine))[0] == 1
        forky.run('remove', FORKY_ROOT=str(mine))
        assert [*mine.iterdir()] == [mine / 'kept']

    def test_an_unreachable_mirror_is_reported(self, forky):
        (forky.folder / 'fails').touch()
        status, output, errors = forky.run('ls')
        assert (status, output) == (69, '')
        assert errors == (
            'no root folder of Debian forky: debootstrap: E: Failed getting release file\n'
        )
        assert forky.left() == ([], False)

    def test_a_mirror_is_asked_twice(self, forky):
        (forky.folder / 'fails-once').touch()
        status, _, errors = forky.run('ls')
        assert (status, errors) == (0, '')

    def test_missing_root_rights_are_reported(self, forky):
        forky.folder.chmod(0o777)
        prefix = ('setpriv', '--reuid', '65534', '--clear-groups')
        status, output, errors = forky.run('ls', prefix=prefix)
        if 'Permission denied' in errors:
            pytest.skip('the checkout cannot be read by another user')
        assert (status, output) == (69, '')
        assert errors == 'no root folder of Debian forky: chroot needs root rights\n'
