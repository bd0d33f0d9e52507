"""Which distribution brought a compiled file, for each kind of installation."""

import importlib.metadata
import json
import os

import pytest

from Products.StabilityMonitor.system.fileowners import owners


class Environment:
    """A made-up site-packages."""

    def __init__(self, path):
        self.path = path
        self.folders = [path]
        path.mkdir()

    def add(self, folder, files, **metadata):
        """Make files, and metadata in `folder`; "_" in a name of a metadata file stands for "."."""
        for name in files:
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        info = self.path / folder
        info.mkdir(parents=True)
        for name, text in metadata.items():
            (info / name).write_text(text)

    def owner(self, file):
        file = os.path.realpath(file if os.path.isabs(file) else self.path / file)
        return owners([file, '/lib/libc.so.6'], self.distributions).get(file)

    def distributions(self):
        return importlib.metadata.distributions(path=list(map(str, self.folders)))


@pytest.fixture
def site(tmp_path):
    return Environment(tmp_path / 'site-packages')


def test_a_wheel_lists_its_modules_and_its_libraries(site):
    files = ['PIL/_imaging.so', 'pillow.libs/libjpeg-a41b0190.so.62.4.0', 'PIL/a,b.so', 'PIL/c.so']
    record = ''.join(f'{name},sha256=x,1\n' for name in files[:2]) + '"PIL/a,b.so",,\nPIL/x.py,,\n'
    site.add('pillow-11.0.0.dist-info', files, RECORD=record)
    site.add('other-1.dist-info', [], RECORD='other/x.so,,\n')
    for name in files[:3]:
        assert site.owner(name) == ('pillow', '11.0.0')
    assert site.owner('PIL/c.so') is None  # nothing lists it


def test_a_file_is_found_through_a_link_to_its_environment(site, tmp_path):
    site.add('a_b-1.0.dist-info', ['a/x.so'], RECORD='a/x.so,,\n')
    link = tmp_path / 'link'
    link.symlink_to(site.path)
    site.folders = [link]
    assert site.owner('a/x.so') == ('a-b', '1.0')


def test_an_older_pip_left_installed_files(site):
    site.add('a-1.0-py3.11.egg-info', ['a/x.so'], **{'installed-files.txt': '../a/x.so\nPKG-INFO'})
    assert site.owner('a/x.so') == ('a', '1.0')


def test_all_in_an_egg_belongs_to_it(site):
    egg = 'lxml-5.3-py3.11-linux-x86_64.egg'
    site.add(f'{egg}/EGG-INFO', [f'{egg}/lxml/etree.so'], **{'PKG-INFO': 'Name: lxml\n'})
    site.folders = [site.path / egg]
    assert site.owner(f'{egg}/lxml/etree.so') == ('lxml', '5.3')


@pytest.mark.parametrize('is_editable', [True, False])
def test_all_in_the_folder_of_an_editable_install_belongs_to_it(site, tmp_path, is_editable):
    source = tmp_path / 'my source'
    (source / 'build').mkdir(parents=True)
    (source / 'build/x.so').touch()
    url = {'url': source.as_uri(), 'dir_info': {'editable': is_editable}}
    site.add('mine-2.dist-info', [], RECORD='mine.pth,,\n', **{'direct_url.json': json.dumps(url)})
    assert site.owner(str(source / 'build/x.so')) == (('mine', '2') if is_editable else None)


def test_a_top_level_package_belongs_to_the_only_one_that_has_it(site):
    site.add('a-1.egg-info', ['a/x.so', 'm.so', 'zope/y.so'], **{'top_level.txt': 'a\nzope\nm\n'})
    site.add('b-1.egg-info', [], **{'top_level.txt': 'zope\n'})
    assert site.owner('a/x.so') == site.owner('m.so') == ('a', '1')
    assert site.owner('zope/y.so') is None


@pytest.mark.parametrize(
    'text', ['', '[]', '"editable"', '{"dir_info": {"editable": true}}', '{"editable"' * 9999]
)
def test_damaged_metadata_is_ignored(site, text):
    site.add('a-1.dist-info', ['a/x.so'], RECORD='a/x.so\n,,\n.so', **{'direct_url.json': text})
    assert site.owner('a/x.so') == ('a', '1') and site.owner('b.so') is None


def test_the_files_of_this_environment_have_their_owners():
    persistent = pytest.importorskip('persistent.cPersistence')
    file = os.path.realpath(persistent.__file__)
    version = importlib.metadata.version('persistent')
    assert owners([file]) == {file: ('persistent', version)}
