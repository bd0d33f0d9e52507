"""The same crashes in other circumstances: other threads, lines, folders and releases of Python.

with Again(folder, CIRCUMSTANCES['moved'], cores=True) as site:
    records = {crash: site.record(crash) for crash in crashes}
"""

import dataclasses
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from support import crashers
from support.crashmeasure import CrashSite

#: What a site does beside the request that dies.
_OTHER_THREADS = """

import threading as _threading

_never = _threading.Event()


def _work():
    while not _never.wait(0.05):
        use_all()


for _number in range(24):
    _threading.Thread(target=_never.wait, name=f'idle {_number}', daemon=True).start()
for _number in range(2):
    _threading.Thread(target=_work, name=f'busy {_number}', daemon=True).start()


def wait(self):
    _never.wait()
"""


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """What is not the same when a crash happens again.

    `is_moved`: each function of the product is in other lines.  `has_threads`: other threads work
    and wait, and another request is in progress.  `is_elsewhere`: Zope, the product and the
    compiled modules are in a virtual environment of another path.
    """

    id: str
    is_moved: bool = False
    has_threads: bool = False
    is_elsewhere: bool = False


CIRCUMSTANCES = {
    each.id: each
    for each in (
        Circumstances('first'),
        Circumstances('moved', is_moved=True, has_threads=True),
        Circumstances('elsewhere', is_elsewhere=True),
    )
}


def moved(source):
    """Return a source whose functions, and the lines in them, are elsewhere in the file."""
    longer = re.sub(
        r'^(def .*:)$', r'\1\n    # A comment that was not there.\n', source, flags=re.M
    )
    return '# A file of another release.\n' * 40 + longer


class Again(CrashSite):
    """A `CrashSite` in the given circumstances."""

    def __init__(self, folder, circumstances, cores):
        super().__init__(folder, cores)
        self.circumstances = circumstances

    def create(self):
        if self.circumstances.is_elsewhere:
            packages = self._environment()
            self.products_dir = packages
        super().create()
        product = self.products_dir / 'Products' / 'TestCrashes' / '__init__.py'
        source = product.read_text('utf-8')
        if self.circumstances.is_moved:
            source = moved(source)
        if self.circumstances.has_threads:
            source = source.replace('\n\ndef initialize', f'{_OTHER_THREADS}\n\ndef initialize')
        product.write_text(source)
        return self

    def record(self, crash):
        if self.circumstances.has_threads:
            self.background('/wait')
        return super().record(crash)

    def crashers(self):
        if not self.circumstances.is_elsewhere:
            return super().crashers()
        return [self.products_dir]

    def _environment(self):
        """Make another virtual environment with the same packages; return their folder."""
        other = self.home / 'environment'
        shutil.copytree(sys.prefix, other, symlinks=True, copy_function=_linked)
        scheme = {'base': str(other), 'platbase': str(other)}
        packages = Path(sysconfig.get_path('purelib', vars=scheme))
        for source in (crashers.site(), crashers.innocents()):
            shutil.copytree(source, packages, dirs_exist_ok=True, copy_function=_linked)
        self.python = str(other / 'bin' / Path(sys.executable).name)
        return packages


def _linked(source, target):
    if os.path.exists(target):
        os.unlink(target)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
