"""Who brought a shared object, with and without the list of what was loaded."""

import pytest
from support.deadcrashes import ETREE
from support.deadcrashes import SITE
from support.deadcrashes import XML2
from support.deadcrashes import crash

from Products.StabilityMonitor.knowledge.compiledmodules import loaded
from Products.StabilityMonitor.knowledge.compiledmodules import package_of

OLD = crash(
    shared_objects=(),
    compiled_modules=(
        'lxml.etree',
        'lxml.objectify',
        'zope.interface._zope_interface_coptimizations',
    ),
    context={'distributions': {'lxml': '5.2.1', 'zope.interface': '8.1', 'Pillow': 3}},
)


@pytest.mark.parametrize(
    'file, module, distribution, version',
    [
        (ETREE, 'lxml.etree', 'lxml', '5.2.1'),
        (ETREE.rpartition('/')[2], 'lxml.etree', 'lxml', '5.2.1'),
        (XML2, 'libxml2-0a1b2c3d.so.2', 'lxml', '5.2.1'),
        ('/usr/lib/libldap.so.2', 'libldap.so.2', '', ''),
        ('libldap.so.2', 'libldap.so.2', '', ''),
    ],
)
@pytest.mark.parametrize('run', [crash(), OLD], ids=['listed', 'by path'])
def test_a_file_has_its_owner(run, file, module, distribution, version):
    found = loaded(run).of_file(file)
    assert (found.module, found.distribution, found.version) == (module, distribution, version)


def test_a_module_has_the_distribution_of_its_name():
    found = loaded(OLD).of_module('lxml.objectify')
    assert (found.distribution, found.version) == ('lxml', '5.2.1')
    assert loaded(OLD).of_module('PIL._imaging').distribution == ''


def test_two_files_of_one_name_have_no_owner():
    twice = crash().shared_objects[0]
    other = type(twice)(ETREE.replace('lxml', 'other'), ('other.etree',))
    found = loaded(crash(shared_objects=(twice, other))).of_file(ETREE.rpartition('/')[2])
    assert not found.distribution


def test_packages_of_shared_namespaces_are_told_apart():
    assert package_of('zope.interface._x') == 'zope.interface'
    assert package_of('lxml.etree') == 'lxml'
    assert package_of('zope') == 'zope'


def test_the_name_of_a_module_follows_from_where_others_are():
    assert loaded(crash()).module_of(f'{SITE}/shop/web/page.py') == 'shop.web.page'
    assert loaded(OLD).module_of('/srv/src/shop/page.py') == 'shop.page'
