"""Opens files and folders that another user may have replaced: no links, no waiting, bounded sizes.

All access to the data directory goes through `Folder`.  It is reached component by component, each
opened relative to the descriptor of the one above it, and none of them may be a link.  What is
done then is relative to its descriptor too.  So a link in the place of a folder leads nowhere, even
if it is put there between two steps.  (`Base` resolves the path of the data directory once, so
links that the administrator made there do no harm.)

Only regular files are opened.  A FIFO would wait for a writer; a device such as /dev/zero never
ends.  At most as many bytes are read as the caller allows.

Below a data directory (`guard`) files and folders must belong to this user, to root, or to the
owner of the data directory.

Files outside of the data directory, such as standard error, may belong to anybody, and folders that
lead there may be links: `open_outside`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

#: O_NONBLOCK: without it, opening a FIFO waits.  O_NOCTTY: a terminal must not become the
#: controlling terminal of this process.  Windows has none of these flags.
_O_NOFOLLOW = getattr(os, 'O_NOFOLLOW', 0)
_O_CLOEXEC = getattr(os, 'O_CLOEXEC', 0)
_O_DIRECTORY = getattr(os, 'O_DIRECTORY', 0)
_FLAGS = _O_CLOEXEC | getattr(os, 'O_NOCTTY', 0) | getattr(os, 'O_NONBLOCK', 0) | _O_NOFOLLOW
#: With O_PATH, a folder can be passed through that may not be listed, as many folders above a data
#: directory.
_O_PATH = getattr(os, 'O_PATH', 0)
_PASS = _O_PATH | _O_DIRECTORY | _O_CLOEXEC
_LIST = os.O_RDONLY | _O_DIRECTORY | _O_CLOEXEC
#: Flags to open a file that must not exist yet.
_NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_RDWR | _O_CLOEXEC | getattr(os, 'O_BINARY', 0)
#: Windows cannot open relative to a folder.
_HAS_DESCRIPTORS = os.open in os.supports_dir_fd
_TIMES_BY_DESCRIPTOR = os.utime in os.supports_fd
_LINKS_TO_LINKS = os.link in os.supports_follow_symlinks
#: What the system returns for a link (ELOOP), a directory (EISDIR), and for a socket or a FIFO
#: without a reader (ENXIO).
_NOT_REGULAR = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
#: What the system returns when this process, or the machine, has no descriptor left.  Then nothing
#: is known about a file.
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
#: The bytes in a block, as counted by stat.
BLOCK = 512
#: `Folder.remove` goes at most this deep; this product makes two levels.
_DEEPEST = 32
#: The data directories that this process uses: {path: whether it must be ours, see `guard`}.
_GUARDED: dict[str, bool] = {}


class NotARegularFile(OSError):
    """The path leads to something other than a regular file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(errno.EINVAL, 'It is not a regular file', str(path))


class OfAnotherUser(NotARegularFile):
    """The file or folder belongs to a user who has no business there; it counts as damaged."""

    def __init__(self, path: Path | str, owner: int) -> None:
        OSError.__init__(self, errno.EPERM, f'It belongs to another user (uid {owner})', str(path))


class TooLarge(OSError):
    """The file is larger than any that this product writes there."""

    def __init__(self, path: Path | str, most: int) -> None:
        super().__init__(errno.EFBIG, f'It is larger than {most} bytes', str(path))


# -- whose files -----------------------------------------------------------------------------------


def guard(directory: Path | str, is_ours: bool) -> None:
    """From now on, the owners of files and folders below this data directory count.

    The path must be resolved.  A writer says `is_ours`, once and for all: if the directory itself
    belongs neither to this user nor to root, everything in it is refused.  For a reader, the owner
    of the directory is the one whose records it reads.
    """
    _GUARDED[str(directory)] = is_ours or _GUARDED.get(str(directory), False)


def own_user() -> int:
    """Return the user id of this process; 0 on Windows, where each file has the owner 0."""
    if hasattr(os, 'geteuid'):
        return os.geteuid()
    return 0


def _check_owner(status: os.stat_result, owner: int | None, path: str) -> None:
    """Raise OfAnotherUser if what is at `path` belongs neither to us, nor to root, nor to `owner`.

    `owner` is the owner of the data directory, None outside of all.  It may have made a hard link
    to a file that we or root have elsewhere, so such a file must have no other name.
    """
    if owner is None or status.st_uid == owner:
        return
    may_be_elsewhere = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
    if status.st_uid not in (0, own_user()) or may_be_elsewhere:
        raise OfAnotherUser(path, status.st_uid)


# -- folders ---------------------------------------------------------------------------------------


class Folder:
    """An open folder.  Names are those of its entries, and no link is followed.

    `owner` is the owner of the data directory above it, None if there is none.  The errors are
    OSErrors; they name the whole path.  Without descriptors (Windows) it works with paths.
    """

    def __init__(
        self, path: str, descriptor: int | None, owner: int | None = None, follow: bool = False
    ) -> None:
        self.path = path
        self.owner = owner
        self._descriptor = descriptor
        self._follow = follow

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _at(self, name: str) -> str:
        """Return the name as the functions of `os` need it beside `dir_fd`."""
        if self._descriptor is None:
            return os.path.join(self.path, name)
        return name

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Give an OSError the whole path, instead of a name relative to the folder."""
        try:
            yield
        except OSError as error:
            error.filename = os.path.join(self.path, name)
            raise

    # -- files

    def open(self, name: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Open a regular file and return its descriptor.  Raises NotARegularFile, OfAnotherUser."""
        path = os.path.join(self.path, name)
        flags |= _FLAGS
        if self._follow:
            flags &= ~_O_NOFOLLOW
        try:
            descriptor = os.open(self._at(name), flags, mode, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in _NOT_REGULAR:
                raise NotARegularFile(path) from None
            error.filename = path
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotARegularFile(path)
            _check_owner(status, self.owner, path)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, name: str, mode: int = 0o600) -> int:
        """Make a file that must not exist yet, whatever the umask is; return its descriptor."""
        with self._named(name):
            descriptor = os.open(self._at(name), _NEW_FILE, mode, dir_fd=self._descriptor)
            try:
                if hasattr(os, 'fchmod'):
                    os.fchmod(descriptor, mode)
            except OSError:
                os.close(descriptor)
                raise
        return descriptor

    def read_whole(self, name: str, most: int) -> bytes:
        """Return a whole file.  Raises TooLarge above `most` bytes, or what `open` raises."""
        with open(self.open(name), 'rb') as file:
            status = os.fstat(file.fileno())
            if status.st_size > most:
                raise TooLarge(os.path.join(self.path, name), most)
            return file.read(status.st_size)

    def write_whole(self, name: str, content: bytes, mode: int = 0o600) -> None:
        """Write a temporary file and rename it: a reader sees the old file or the new one."""
        beside = self.beside(name)
        try:
            with open(self.create(beside, mode), 'wb') as file:
                file.write(content)
            self.rename(beside, name)
        except BaseException:
            self.discard(beside)
            raise

    @staticmethod
    def beside(name: str) -> str:
        """Return a name for a temporary file."""
        return f'.{name}.{os.getpid()}.{os.urandom(4).hex()}'

    # -- entries

    def names(self) -> list[str]:
        with self.itself() as itself:
            return os.listdir(itself)

    def statuses(self) -> list[tuple[str, os.stat_result]]:
        """Return the name and the status of each entry that is still there."""
        found = []
        with self.itself() as itself, os.scandir(itself) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
        return found

    def stat(self, name: str) -> os.stat_result:
        """Return the status of an entry: of the link itself, if it is one."""
        with self._named(name):
            return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=self._follow)

    def is_folder(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(self.stat(name).st_mode)
        except OSError:
            return False

    def has(self, name: str) -> bool:
        try:
            self.stat(name)
        except OSError:
            return False
        return True

    def unlink(self, name: str) -> None:
        with self._named(name):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def discard(self, name: str) -> None:
        """Remove a file, if that is possible."""
        with contextlib.suppress(OSError):
            self.unlink(name)

    def rename(self, name: str, new: str, to: Folder | None = None) -> None:
        """Rename an entry; it replaces a file of the new name.  `to` is another folder."""
        to = to or self
        try:
            os.replace(
                self._at(name), to._at(new), src_dir_fd=self._descriptor, dst_dir_fd=to._descriptor
            )
        except OSError as error:
            error.filename = os.path.join(self.path, name)
            error.filename2 = os.path.join(to.path, new)
            raise

    def link(self, name: str, new: str) -> None:
        """Give a file a second name.  Unlike a rename, this never replaces a file."""
        with self._named(new):
            os.link(
                self._at(name),
                self._at(new),
                src_dir_fd=self._descriptor,
                dst_dir_fd=self._descriptor,
                # Windows, which cannot say this, makes no link to a link.
                follow_symlinks=not _LINKS_TO_LINKS,
            )

    def touch(self, name: str) -> None:
        """Set the times of a file to now.  Raises what `open` raises."""
        descriptor = self.open(name)
        try:
            os.utime(descriptor if _TIMES_BY_DESCRIPTOR else self._at(name))
        finally:
            os.close(descriptor)

    def remove(self, name: str, depth: int = 0) -> None:
        """Remove a folder with its content, or an entry of any other type.

        What cannot be removed stays.  `shutil.rmtree` would wait at a FIFO.
        """
        with contextlib.suppress(OSError):
            if not self.is_folder(name):
                self.unlink(name)
                return
            if depth < _DEEPEST:
                with self._inner(name) as inner:
                    for each in inner.names():
                        inner.remove(each, depth + 1)
            os.rmdir(self._at(name), dir_fd=self._descriptor)

    def remove_at_once(self, name: str, gone: str) -> None:
        """Rename a folder to `gone`, then remove it, if that is possible: who reads sees all of it
        or nothing, and two processes may remove it at the same time.
        """
        with contextlib.suppress(OSError):
            self.rename(name, gone)
            self.remove(gone)

    # -- folders in it

    def disk_size(self, name: str) -> int:
        """Return how many bytes the files of a folder take on the disk; 0 if it is gone."""
        try:
            with self.folder(name) as inner:
                return sum(status.st_blocks * BLOCK for _, status in inner.statuses())
        except OSError:
            return 0

    def make(self, name: str, mode: int = 0o700) -> None:
        with self._named(name):
            os.mkdir(self._at(name), mode, dir_fd=self._descriptor)

    def folder(self, name: str) -> Folder:
        """Open a folder in this one.  Raises NotADirectoryError for a link, or OfAnotherUser."""
        inner = self._inner(name)
        try:
            inner._enter(self.owner)
        except BaseException:
            inner.__exit__()
            raise
        return inner

    def _inner(self, name: str) -> Folder:
        path = os.path.join(self.path, name)
        if self._descriptor is None:
            return _by_path(path)
        with self._named(name):
            descriptor = os.open(name, _PASS | _O_NOFOLLOW, dir_fd=self._descriptor)
        return Folder(path, descriptor)

    def _enter(self, owner: int | None) -> None:
        """Note whose files this folder may hold; `owner` is that of the folder above.

        Raises OfAnotherUser.
        """
        is_ours = _GUARDED.get(self.path)
        self.owner = owner
        if self._descriptor is None or (is_ours is None and owner is None):
            return
        status = os.fstat(self._descriptor)
        if is_ours is None:
            _check_owner(status, owner, self.path)
            return
        if is_ours and status.st_uid not in (0, own_user()):
            raise OfAnotherUser(self.path, status.st_uid)
        self.owner = status.st_uid

    @contextlib.contextmanager
    def itself(self) -> Iterator[int | str]:
        """Yield this folder as functions of `os` take it that read or change the folder itself.

        They take no descriptor that was opened with O_PATH.
        """
        with self._named(''):
            if self._descriptor is None:
                yield self.path
                return
            readable = os.open('.', _LIST, dir_fd=self._descriptor)
            try:
                yield readable
            finally:
                os.close(readable)


def opened(folder: Path | str) -> Folder:
    """Open a folder without following a link in any component of its path.

    Raises NotADirectoryError for a link, OfAnotherUser, or another OSError.
    """
    path = os.path.abspath(folder)
    if not _HAS_DESCRIPTORS:
        return _by_path(path)
    start, names = _start(path)
    here = Folder(start, os.open(start, _PASS | _O_NOFOLLOW))
    try:
        here._enter(None)
        for name in names:
            inner = here.folder(name)
            here.__exit__()
            here = inner
    except BaseException:
        here.__exit__()
        raise
    return here


def _by_path(path: str) -> Folder:
    """Return a folder for a system without descriptors of folders."""
    if not stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return Folder(path, None)


def _start(path: str) -> tuple[str, list[str]]:
    """Return (folder, names): where the way to `path` begins, and the names of the way.

    Without O_PATH it begins at the data directory, because the folders above it cannot be opened
    where they may not be listed.
    """
    if _O_PATH:
        return os.sep, [name for name in path.split(os.sep) if name]
    start = data_directory_of(path) or path
    return start, [name for name in path[len(start) :].split(os.sep) if name]


def data_directory_of(path: Path | str) -> str | None:
    """Return the data directory that this path leads into, None if there is none."""
    here = os.path.abspath(path)
    while here not in _GUARDED:
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above
    return here


def opened_outside(folder: Path | str) -> Folder:
    """Open a folder that is not ours: links are followed, and the owner does not matter."""
    path = os.path.abspath(folder)
    descriptor = os.open(path, _PASS) if _HAS_DESCRIPTORS else None
    return Folder(path, descriptor, follow=True)


# -- single steps, by path -------------------------------------------------------------------------


def _parted(path: Path | str) -> tuple[str, str]:
    return os.path.split(os.path.abspath(path))


def open_regular(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file and return its descriptor.

    Raises NotARegularFile, OfAnotherUser, or another OSError.
    """
    above, name = _parted(path)
    with opened(above) as folder:
        return folder.open(name, flags, mode)


def read_whole(path: Path | str, most: int) -> bytes:
    """Return a whole file.  Raises TooLarge above `most` bytes, or what `open_regular` raises."""
    above, name = _parted(path)
    with opened(above) as folder:
        return folder.read_whole(name, most)


def names_in(path: Path | str) -> list[str]:
    """Return the names in a folder; none if it is missing or not to be trusted."""
    try:
        with opened(path) as folder:
            return folder.names()
    except OSError:
        return []


def is_folder(path: Path | str) -> bool:
    """Whether this is a folder that can be reached without a link, and whose owner is trusted."""
    try:
        with opened(path):
            return True
    except OSError:
        return False


def status_of(path: Path | str) -> os.stat_result:
    """Return the status of what is at this path: of the link itself, if it is one."""
    above, name = _parted(path)
    with opened(above) as folder:
        return folder.stat(name)


def rename(path: Path | str, new: Path | str) -> None:
    above, name = _parted(path)
    new_above, new_name = _parted(new)
    with opened(above) as folder:
        if new_above == above:
            folder.rename(name, new_name)
            return
        with opened(new_above) as to:
            folder.rename(name, new_name, to)


def unlink(path: Path | str) -> None:
    above, name = _parted(path)
    with opened(above) as folder:
        folder.unlink(name)


# -- files outside ---------------------------------------------------------------------------------


def open_outside(path: Path | str, flags: int = os.O_RDONLY, follow: bool = False) -> int:
    """Open a regular file that is not in the data directory, and return its descriptor.

    Anybody may own it.  Raises NotARegularFile, also for a link in the last component of the path
    unless `follow` is true, or another OSError.
    """
    flags |= _FLAGS
    if follow:
        flags &= ~_O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise NotARegularFile(path) from None
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor
    os.close(descriptor)
    raise NotARegularFile(path)


def read_start_outside(path: Path | str, most: int, follow: bool = False) -> bytes:
    """Return at most the first `most` bytes of a file.  Raises what `open_outside` raises."""
    with open(open_outside(path, follow=follow), 'rb') as file:
        return file.read(most)


def read_tail(descriptor: int, most: int, start: int = 0) -> bytes:
    """Return at most the last `most` bytes of an open file, and nothing before offset `start`."""
    status = os.fstat(descriptor)
    start = max(start, status.st_size - most)
    length = max(0, status.st_size - start)
    return os.pread(descriptor, length, start)
