"""A data directory whose owner plants links in it, and files of ours that must stay as they are."""

import os
import shutil
import traceback
from pathlib import Path

from Products.StabilityMonitor.store.rundirectory import Base

NOBODY = 65534
IS_ROOT = getattr(os, 'geteuid', lambda: 1)() == 0


class HostileDirectory:
    """A data directory of `nobody`, if the tests run as root; else of this user.

    `victim` is a folder of this user outside of it, with files of the names that the product uses.
    """

    def __init__(self, place: Path):
        self.path = place / 'stability'
        self.base = Base(self.path)
        self.base.prepare()
        self.victim = place / 'victim'
        self.victim.mkdir(mode=0o700)

    def hand_over(self, *paths):
        """Give these, by default everything in the directory, to its owner."""
        if not IS_ROOT:
            return
        for path in paths or (self.path, *self.path.rglob('*')):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def fill_victim(self, *names):
        """Make files in the folder of the victim, and note how all of it looks."""
        for name in names:
            path = self.victim / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('precious\0\0\0')
            path.chmod(0o604)
        for path in (self.victim, *self.victim.rglob('*')):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        self._before = self._looks()
        return self

    def plant(self, path, target=None, hard=False):
        """Put a link in the place of `path`; by default to the folder of the victim."""
        target = target or self.victim
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if hard:
            os.link(target, path)
        else:
            path.symlink_to(target)
            self.hand_over(path)

    def exchange(self, folder):
        """Move a folder away, and put a link to the victim in its place."""
        if folder.is_symlink() or not folder.exists():
            return
        folder.rename(folder.with_name(f'{folder.name}.moved'))
        self.plant(folder)

    def _looks(self):
        looks = {}
        for path in (self.victim, *sorted(self.victim.rglob('*'))):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else None
            looks[str(path.relative_to(self.victim))] = (
                content,
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
            )
        return looks

    def check(self):
        """Fail unless content, mode, owner and time of each file of the victim are unchanged."""
        assert self._looks() == self._before


class Steps:
    """The module `os`, which calls `hook()` before its call number `at` that acts on a path.

    Put it in the place of `os` in a module.
    """

    ACTS = frozenset(
        'open mkdir replace unlink stat listdir rmdir link chmod chown utime scandir'.split()
    )

    def __init__(self, at, hook):
        self.at = at
        self.hook = hook
        self.number = 0

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in self.ACTS:
            return function

        def called(*words, **named):
            self.number += 1
            if self.number == self.at:
                self.hook()
            return function(*words, **named)

        return called


def in_child(uid, function):
    """Whether `function()` ends in a child process of that user, and does not return False."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            status = 2 if function() is False else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0
