"""Compiled distributions for tests: those of tests/crashers, which die, and innocent ones from the
package index.

Each is built or downloaded once for each version of Python, into a folder of the user's cache,
outside the checkout.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / 'crashers'
VERSION = '1.0'
_SUFFIX = sysconfig.get_config_var('EXT_SUFFIX') or '.so'
_INCLUDE = sysconfig.get_paths()['include']
# Little optimization: the functions that die must keep their frames.  Without debug information, as
# in wheels.
_HOW = ('-O1', '-fPIC', '-shared', '-fno-optimize-sibling-calls', f'-I{_INCLUDE}', '-pthread')


class Unavailable(Exception):
    """This machine cannot build it, or reaches no package index; the text says why."""


@functools.cache
def innocents():
    """Return the folder with the distributions of innocents.txt.  Raises Unavailable."""
    return _installed('innocents.txt')


def canonical(name):
    """Return the name of a distribution as in the package index, see PEP 503."""
    return re.sub(r'[-_.]+', '-', name).lower()


@functools.cache
def site(*names):
    """Return the folder with these distributions of tests/crashers, such as "crasher-c".

    Without names, all that this machine can build.  Raises Unavailable if that fails.
    """
    names = names or buildable()
    content = [str(names), _SUFFIX, sys.version, Path(__file__).read_text('utf-8')]
    for path in sorted(SOURCES.rglob('*')):
        if path.is_file():
            content += [str(path.relative_to(SOURCES)), path.read_text('utf-8')]

    def build(folder):
        for name in names:
            before = _files(folder)
            DISTRIBUTIONS[name](folder)
            _describe(folder, name, _files(folder) - before)

    return _made_once('crashers', content, build)


def lacking():
    """Return {distribution: why this machine cannot build it}."""
    reasons = {}
    for name, compilers in _COMPILERS.items():
        absent = [program for program in compilers if not shutil.which(program)]
        if absent:
            reasons[name] = f'{", ".join(absent)} not installed here'
        elif name != 'crasher-rust' and not Path(_INCLUDE, 'Python.h').exists():
            reasons[name] = 'no Python.h here'
    return reasons


def buildable():
    """Return the names of the distributions that this machine can build."""
    return tuple(name for name in DISTRIBUTIONS if name not in lacking())


# -- building --------------------------------------------------------------------------------------


def _c(folder):
    _run('gcc', *_HOW, SOURCES / 'c' / 'crasher_c.c', '-o', folder / f'crasher_c{_SUFFIX}')


def _heap(folder):
    package = _package(folder, 'heap')
    _run('gcc', *_HOW, SOURCES / 'heap' / 'native.c', '-o', package / f'_native{_SUFFIX}')


def _ctypes(folder):
    package = _package(folder, 'ctypes')
    _run('gcc', *_HOW, SOURCES / 'ctypes' / 'widget.c', '-o', package / 'libwidget.so')


def _cffi(folder):
    package = _package(folder, 'cffi')
    source = SOURCES / 'cffi' / 'gadget.c'
    _run('gcc', *_HOW, source, '-o', package / 'libgadget.so')
    emit = (
        'import cffi, sys\n'
        'ffi = cffi.FFI()\n'
        'ffi.cdef("long gadget_weight(void *gadget);")\n'
        'code = "static long gadget_weight(void *g) { return ((volatile long *)g)[2]; }"\n'
        'ffi.set_source("crasher_cffi._gadget", code)\n'
        'ffi.emit_c_code(sys.argv[1])\n'
    )
    generated = folder / 'gadget.c'
    _run(sys.executable, '-c', emit, generated, PYTHONPATH=str(innocents()))
    _run('gcc', *_HOW, generated, '-o', package / f'_gadget{_SUFFIX}')
    generated.unlink()


def _cython(folder):
    generated = folder / 'crasher_cython.c'
    source = SOURCES / 'cython' / 'crasher_cython.pyx'
    compilers = str(_installed('compilers.txt'))
    _run(sys.executable, '-m', 'cython', source, '-o', generated, PYTHONPATH=compilers)
    _run('gcc', *_HOW, generated, '-o', folder / f'crasher_cython{_SUFFIX}')
    generated.unlink()


def _imports(folder):
    source = SOURCES / 'imports' / 'at_import.c'
    for name in AT_IMPORT:
        _run('gcc', *_HOW, f'-DNAME={name}', source, '-o', folder / f'{name}{_SUFFIX}')


def _cpp(folder):
    _run('g++', *_HOW, SOURCES / 'cpp' / 'crasher_cpp.cpp', '-o', folder / f'crasher_cpp{_SUFFIX}')


def _rust(folder):
    source = SOURCES / 'rust' / 'crasher_rust.rs'
    how = ('--edition=2021', '--crate-type=cdylib', '-O', '-Cdebuginfo=0')
    _run('rustc', *how, source, '-o', folder / f'crasher_rust{_SUFFIX}')


#: The modules of "crasher-imports", which die while they are imported.
AT_IMPORT = ('crasher_prices', 'crasher_taxes')
#: {distribution: function that builds it into a folder}.
DISTRIBUTIONS = {
    'crasher-c': _c,
    'crasher-heap': _heap,
    'crasher-ctypes': _ctypes,
    'crasher-cffi': _cffi,
    'crasher-cython': _cython,
    'crasher-cpp': _cpp,
    'crasher-rust': _rust,
    'crasher-imports': _imports,
}
#: The distributions that a C compiler alone can build, without a package index.
OF_C = ('crasher-c', 'crasher-heap', 'crasher-ctypes')
_COMPILERS = dict.fromkeys(DISTRIBUTIONS, ('gcc',)) | {
    'crasher-cpp': ('g++',),
    'crasher-rust': ('rustc', 'cc'),
}


def _package(folder, name):
    package = f'crasher_{name}'
    shutil.copytree(SOURCES / name / package, folder / package)
    return folder / package


def _files(folder):
    """Return the relative paths of the files of a folder, without compiled Python."""
    paths = (path for path in folder.rglob('*') if path.is_file() and path.suffix != '.pyc')
    return {str(path.relative_to(folder)) for path in paths}


def _describe(folder, name, files):
    """Write the metadata of a distribution that consists of these files."""
    about = folder / f'{name.replace("-", "_")}-{VERSION}.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n')
    own = {f'{about.name}/METADATA', f'{about.name}/RECORD'}
    (about / 'RECORD').write_text(''.join(f'{path},,\n' for path in sorted(files | own)))


# -- the cache -------------------------------------------------------------------------------------


def _installed(requirements):
    path = SOURCES / requirements

    def install(folder):
        pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet')
        _run(*pip, '--no-deps', '--only-binary=:all:', '--target', folder, '--requirement', path)

    return _made_once(path.stem, [path.read_text('utf-8'), sys.version], install)


def _made_once(name, content, make):
    """Return a folder of the cache that `make` fills, once for this content."""
    digest = hashlib.sha256('\0'.join(content).encode()).hexdigest()[:16]
    version = 'python{}.{}'.format(*sys.version_info[:2])
    parent = cache()
    folder = parent / f'{name}-{version}-{digest}'
    with _locked(parent / f'{folder.name}.lock'):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=parent) as temporary:
                unfinished = Path(temporary, 'made')
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
    return folder


def cache():
    """Return the folder of all that is built and downloaded, which only this user may change."""
    usual = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    folder = Path(usual, 'stabilitymonitor-tests')
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise Unavailable(f'{folder} belongs to another user')
    return folder


@contextlib.contextmanager
def _locked(path):
    with path.open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command, **env):
    try:
        subprocess.run(
            [*map(str, command)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
        )
    except FileNotFoundError:
        raise Unavailable(f'{command[0]} is not installed here') from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f'{command[0]} failed:\n{error.stdout}') from None
