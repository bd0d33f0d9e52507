"""The option `directory` in zope.conf, as the command reads it."""

import os

import pytest
from support.commandline import archived
from support.commandline import process
from support.syntheticruns import record

from Products.StabilityMonitor.cli.directoryoption import directory_in
from Products.StabilityMonitor.cli.directoryoption import named_directory
from Products.StabilityMonitor.store.rundirectory import Base

SECTION = '<product-config stabilitymonitor>\n  {}\n</product-config>\n'


@pytest.mark.parametrize(
    'text, path',
    [
        ('', ''),
        ('directory /a\n', ''),
        (SECTION.format('directory /a'), '/a'),
        (SECTION.format('# directory /a'), ''),
        (SECTION.format('Directory   /a b'), '/a b'),
        (SECTION.replace('stability', 'other').format('directory /a'), ''),
        (SECTION.format('stall 1') + 'directory /a\n', ''),
        ('%define Home /h\n' + SECTION.format('directory $HOME/a'), '/h/a'),
        ('%define A /h\n%define B ${a}/b\n' + SECTION.format('directory ${B}'), '/h/b'),
        (SECTION.format('directory $UNKNOWN/a'), '$unknown/a'),
    ],
)
def test_the_directory_is_read_with_its_definitions(text, path):
    assert directory_in(text) == path


@pytest.mark.parametrize(
    'home, conf',
    [
        ('instance/var', 'instance/etc/zope.conf'),
        ('buildout/var/client1', 'buildout/parts/client1/etc/zope.conf'),
    ],
)
def test_zope_conf_is_found_where_instances_have_it(tmp_path, home, conf):
    assert named_directory(str(tmp_path / home)) is None
    write(tmp_path / conf, SECTION.format('directory /a'))
    found = named_directory(str(tmp_path / home))
    assert (found.path, found.conf) == ('/a', str(tmp_path / conf))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize('way', ['--client-home', 'here'])
def test_the_command_uses_the_directory_of_zope_conf_and_says_so(tmp_path, way):
    for place in ('elsewhere', 'site/var/stability'):
        base = Base(tmp_path / place)
        base.prepare()
        archived(base, record(0, summary=f'It is {place}.'))
    conf = tmp_path / 'site' / 'etc' / 'zope.conf'
    write(conf, SECTION.format(f'directory {tmp_path}/elsewhere'))
    words = () if way == 'here' else (way, str(tmp_path / 'site' / 'var'))
    done = process(*words, 'status', cwd=tmp_path / 'site')
    assert 'It is elsewhere.' in done.stdout, done
    assert f'{conf} sets the option "directory": {tmp_path}/elsewhere.\n' in done.stderr


def test_a_directory_that_cannot_be_resolved_is_said(tmp_path):
    write(tmp_path / 'etc' / 'zope.conf', SECTION.format('directory $(DATA)/stability'))
    done = process('--client-home', str(tmp_path / 'var'), 'status')
    assert done.returncode == 2 and 'which this command cannot resolve' in done.stderr


def test_a_fifo_in_the_place_of_zope_conf_is_not_waited_for(tmp_path):
    (tmp_path / 'etc').mkdir()
    os.mkfifo(tmp_path / 'etc' / 'zope.conf')
    assert named_directory(str(tmp_path / 'var')) is None
