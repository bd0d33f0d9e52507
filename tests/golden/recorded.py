"""Where the golden files are, and how a test unpacks them.

It does not import the product: make.py uses it with the release that wrote the files, the tests
with today's.
"""

import json
import lzma
import os
import re
import shutil
import tarfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent
#: The data directory of a call of the command, in stored output.
DIRECTORY = '<directory>'
#: The name of the run that waits to be judged in the data directory of the kind "waiting".
WAITING = 'orderly-stop'


def names(folder, ending):
    """Return the names of the golden files in a folder, without suffix."""
    return sorted(path.name.removesuffix(ending) for path in (GOLDEN / folder).glob(f'*{ending}'))


# -- archives --------------------------------------------------------------------------------------


def pack(name, folder):
    """Pack everything in `folder` as `name`.tar.xz, with times in fractions of a second."""
    path = GOLDEN / f'{name}.tar.xz'
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, 'w:xz', format=tarfile.PAX_FORMAT, preset=9) as tar:
        for item in sorted(folder.rglob('*')):
            tar.add(item, item.relative_to(folder), recursive=False, filter=_of_nobody)


def _of_nobody(member):
    member.uid = member.gid = 0
    member.uname = member.gname = ''
    return member


def unpack(name, into):
    into.mkdir(parents=True, exist_ok=True)
    safely = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
    with tarfile.open(GOLDEN / f'{name}.tar.xz') as tar:
        tar.extractall(into, **safely)
    return into


def store(name, text):
    """Write a text to a file; compressed if the suffix is .xz."""
    path = GOLDEN / name
    path.parent.mkdir(exist_ok=True)
    content = text.encode()
    path.write_bytes(lzma.compress(content, preset=9) if name.endswith('.xz') else content)


def stored(name):
    content = (GOLDEN / name).read_bytes()
    return (lzma.decompress(content) if name.endswith('.xz') else content).decode()


# -- dead runs -------------------------------------------------------------------------------------


class DeadRun:
    """A dead run that is not judged, with what its system reported at its end.

    `run/<name>/` is the directory of the run.  `world/` has excerpts of /proc, the log of the
    kernel, the file that was standard error of the process, and the counter of its memory cgroup.
    """

    def __init__(self, folder):
        self.folder = folder
        self.world = folder / 'world'
        (self.path,) = (folder / 'run').iterdir()

    @classmethod
    def of(cls, name, into):
        """Unpack the golden run with this name."""
        dead = cls(unpack(f'runs/{name}', into))
        dead._put_in_place()
        return dead

    def _put_in_place(self):
        """Set path, device and inode of two files in the context to those of the unpacked
        copies.
        """
        context = self.path / 'context.json'
        document = json.loads(context.read_text())
        stderr, group = self.world / 'stderr.log', self.world / 'cgroup'
        if stderr.exists():
            document['outputs']['2'] |= {'path': str(stderr), **_identity(stderr)}
        if group.exists():
            document['cgroup'] |= {'directory': str(group), **_identity(group)}
        context.write_text(json.dumps(document))

    def without_place(self, record):
        """Return the JSON form of a record without what differs between copies of this run."""
        context = record['context']
        for known in (context.get('cgroup'), context.get('outputs', {}).get('2')):
            if known:
                known |= {'device': 0, 'inode': 0}
        return json.loads(json.dumps(record).replace(str(self.folder), '<folder>'))


def _identity(path):
    status = path.stat()
    return {'device': status.st_dev, 'inode': status.st_ino}


# -- data directories ------------------------------------------------------------------------------


def data_directory(kind, into):
    """Unpack a golden data directory.

    "archived": all runs are judged; "waiting": one is not; "quiet": no incident; "loop": only
    crashes.
    """
    unpack('stability', into)
    kept = {'quiet': ['stopped'], 'loop': ['crashed', 'stack-overflow']}.get(kind)
    for summary in list(into.glob('archive/*/summary.json')):
        if kept and json.loads(summary.read_text())['verdict'] not in kept:
            shutil.rmtree(summary.parent)
    if kind == 'waiting':
        unpack(f'runs/{WAITING}', into / 'unpacked')
        dead = DeadRun(into / 'unpacked')
        shutil.rmtree(into / 'archive' / dead.path.name)
        dead.path.rename(into / 'runs' / dead.path.name)
        shutil.rmtree(into / 'unpacked')
    return into


def contents(folder):
    """Return {relative path: bytes} of all files in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


# -- texts and documents ---------------------------------------------------------------------------


def timeless(text, directory):
    """Return output without the path of the data directory and without the time of its making."""
    text = text.replace(str(directory), DIRECTORY)
    return re.sub(r'; made \d{4}-.+', '; made <time>', text)


def plain(value):
    """Return value objects, tuples and dicts in the form that JSON gives them."""
    if fields := getattr(value, 'FIELDS', getattr(value, '__dataclass_fields__', None)):
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def environment(checkout):
    """Return the environment for a command of the product of this checkout, even if another one is
    installed.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('STABILITYMONITOR_', 'PYTHON', 'COV_', 'PYTEST_', 'CLIENT_HOME'))
        and name not in ('INSTANCE_HOME', 'COLUMNS')
    }
    return inherited | {'PYTHONPATH': str(checkout), 'TZ': 'UTC'}


def missing(old, new, place=''):
    """Yield a sentence for each place where `new` lacks or changes a value of `old`; keys may be
    added.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from missing(value, new[key], f'{place}/{key}')
            else:
                yield f'{place}/{key} is gone'
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, now) in enumerate(zip(old, new, strict=True)):
            yield from missing(before, now, f'{place}/{number}')
    elif old != new:
        yield f'{place} was {old!r} and is {new!r}'
