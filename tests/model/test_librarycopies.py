"""Libraries of which a process has more than one copy."""

import pytest

from Products.StabilityMonitor.model.librarycopies import library_copies
from Products.StabilityMonitor.model.librarycopies import library_of
from Products.StabilityMonitor.model.sharedobject import SharedObject

SYSTEM = SharedObject('/usr/lib/libssl.so.3', soname='libssl.so.3', build_id='aa')
WHEEL = SharedObject(
    '/v/psycopg2_binary.libs/libssl-bc1ac41d.so.1.1',
    soname='libssl-bc1ac41d.so.1.1',
    build_id='bb',
    distribution='psycopg2-binary',
    version='2.9.9',
)
LIBC = SharedObject('/usr/lib/libc.so.6', soname='libc.so.6', build_id='cc')


@pytest.mark.parametrize(
    'file, soname, library',
    [
        ('/usr/lib/libxml2.so.2.9.14', 'libxml2.so.2', 'libxml2'),
        ('/v/x.libs/libxml2-3f1a2b4c.so.2.9.14', 'libxml2-3f1a2b4c.so.2.9.14', 'libxml2'),
        ('/v/x.libs/libxml2-3f1a2b4c.so.2.9.14', '', 'libxml2'),
        ('/v/x.libs/libelf-0-9a6420ce.195.so', '', 'libelf-0.195'),
        ('/usr/lib/libstdc++.so.6', 'libstdc++.so.6', 'libstdc++'),
        ('/usr/lib/ld-linux-x86-64.so.2', 'ld-linux-x86-64.so.2', ''),
        ('/usr/bin/python3', '', ''),
        ('/v/a/_speedups.cpython-311-x86_64-linux-gnu.so', '', ''),
    ],
)
def test_a_library_is_known_by_its_name_without_hash_and_version(file, soname, library):
    assert library_of(SharedObject(file, soname=soname)) == library


def test_a_python_module_is_no_library():
    assert library_of(SharedObject('/v/a/libthing.so', modules=('a.libthing',))) == ''


def test_two_files_of_one_library_are_copies():
    (found,) = library_copies([WHEEL, LIBC, SYSTEM])
    assert (found.library, found.objects) == ('libssl', (SYSTEM, WHEEL))
    assert found.is_known_to_crash


def test_the_same_content_in_two_files_is_two_copies():
    (found,) = library_copies([SYSTEM, SharedObject('/opt/libssl.so.3', (), 'libssl.so.3', 'aa')])
    assert len(found.objects) == 2


def test_a_file_that_was_replaced_while_it_was_mapped_is_another_copy():
    (found,) = library_copies([SYSTEM, SharedObject(SYSTEM.file, (), SYSTEM.soname, 'dd')])
    assert len(found.objects) == 2


def test_one_file_is_no_copy():
    assert library_copies([SYSTEM, SYSTEM, LIBC]) == () == library_copies([])


@pytest.mark.parametrize(
    'library, is_known', [('libpython3.11', True), ('libz', False), ('libxml2', True)]
)
def test_only_some_libraries_are_known_to_crash(library, is_known):
    objects = [SharedObject(f'/{folder}/{library}.so.1') for folder in 'ab']
    (found,) = library_copies(objects)
    assert found.is_known_to_crash == is_known
