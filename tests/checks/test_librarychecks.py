"""The check of libraries that a process has mapped more than once."""

import re
from pathlib import Path

import pytest
from support.childprograms import run_python

from Products.StabilityMonitor.checks import librarychecks
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.model.sharedobject import SharedObject

#: Loads a second copy of libssl as a wheel that brings its own would, and tells what is found.
TWO_COPIES = """
import ctypes, shutil, sys
from pathlib import Path
import _ssl
from Products.StabilityMonitor.checks.librarychecks import LibraryCopies
from Products.StabilityMonitor.checks.livesite import Site

def look():
    found = LibraryCopies().look(Site(folder))
    found = found if isinstance(found, list) else [found]
    return [f'{each.id} {each.severity.code} {each.detail}' for each in found]

folder = Path(sys.argv[1])
original = next((line.split()[-1] for line in open('/proc/self/maps') if '/libssl.so' in line), '')
if original:
    print(*look(), sep='\\n')
    shutil.copy(original, folder)
    ctypes.CDLL(str(folder / Path(original).name))
    print(*look(), sep='\\n')
"""


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Return a function that runs the check in a process with these objects."""

    def look(*objects):
        monkeypatch.setattr(librarychecks.sharedobjects, 'mapped', lambda *given: objects)
        monkeypatch.setattr(librarychecks.sharedobjects, 'with_owners', tuple)
        found = librarychecks.LibraryCopies().look(Site(tmp_path, proc=tmp_path))
        return found if isinstance(found, list) else [found]

    return look


def library(folder, name, *owner):
    return SharedObject(f'{folder}/{name}', (), name, '', *owner)


LIBC = library('/lib', 'libc.so.6')
SSL = library('/lib', 'libssl.so.3')
OWN_SSL = library('/v/p.libs', 'libssl-bc1ac41d.so.1.1', 'psycopg2-binary', '2.9.9')


def test_one_copy_of_each_is_fine(look):
    (found,) = look(LIBC, SSL)
    assert found.severity.code == 'ok' and '2 files' in found.detail


def test_two_copies_that_are_known_to_crash_are_a_warning(look):
    (found,) = look(LIBC, SSL, OWN_SSL)
    assert (found.id, found.severity.code) == ('library-copies:libssl', 'warning')
    assert SSL.file in found.detail and f'{OWN_SSL.file} (psycopg2-binary 2.9.9)' in found.detail
    action = str(found.action)
    assert '"pip uninstall psycopg2-binary"' in action and '--no-binary psycopg2 psycopg2' in action


def test_copies_without_an_owner_have_an_advice_too(look):
    (found,) = look(SSL, library('/opt', 'libssl.so.3'))
    assert found.severity.code == 'warning' and found.action


def test_the_usual_private_copies_of_wheels_are_for_information(look):
    own = library('/v/pillow.libs', 'libz-0a1b2c3d.so.1', 'pillow', '11')
    other = library('/v/x.libs', 'libjpeg-0a1b2c3d.so.62'), library('/lib', 'libjpeg.so.62')
    (found,) = look(LIBC, library('/lib', 'libz.so.1'), own, *other)
    assert (found.id, found.severity.code) == ('library-copies', 'info')
    assert 'libz: ' in found.detail and 'libjpeg: ' in found.detail and 'pillow 11' in found.detail


def test_a_system_without_maps_is_not_known(look):
    assert 'not known' in look()[0].title


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='no /proc here')
def test_a_second_copy_in_a_real_process_is_found(tmp_path):
    done = run_python('-c', TWO_COPIES, tmp_path)
    if 'ModuleNotFoundError' in done.stderr or not done.stdout:
        pytest.skip('this Python has no libssl of its own to copy')
    found = re.findall(rf'^library-copies:libssl warning .*{tmp_path}/libssl', done.stdout, re.M)
    assert len(found) == 1 and not done.stderr
