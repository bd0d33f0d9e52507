"""Page and command after a real crash: how deep the stacks were, and which requests came last."""

import re

import pytest
from support import deaths
from support.aftermath import command
from support.aftermath import page
from support.tracelogs import GRAMMAR

pytestmark = pytest.mark.zope


@pytest.fixture(scope='module')
def crashed(tmp_path_factory):
    """A running Zope whose earlier run used much of its stack and then crashed; `run` is the name
    of that earlier run.
    """
    site = deaths.Site(tmp_path_factory.mktemp('site')).create().run_as(deaths.USUAL)
    site.run = site.run_directory.name
    site.get('/clock')
    site.get('/nowhere')
    deaths.dived('/dive_and_crash', 15 / 16)(site)
    deaths.go_on(site)
    site.wait_exit()
    yield site.start()
    site.destroy()


ROOM = r'stack: at most 7\.\d MiB of 8\.\d MiB used'


def test_the_page_shows_the_stack_use_of_the_crashed_thread(crashed):
    (thread,) = re.findall(
        r'<summary>\s*<strong>Crashed thread</strong>.*?</summary>',
        page(crashed, 'manage_incident'),
        re.DOTALL,
    )
    assert re.search(rf'<span>{ROOM}</span>', thread)


def test_the_command_shows_the_stack_use_of_the_crashed_thread(crashed):
    (thread,) = re.findall(
        r'^Crashed thread .*$', command(crashed, 'show', crashed.run), re.MULTILINE
    )
    assert re.search(rf' waitress-\d+ {ROOM}:$', thread)


def test_page_and_command_show_the_same_last_requests(crashed):
    lines = command(crashed, 'trace', crashed.run).splitlines()
    assert page(crashed, 'trace').splitlines() == lines
    assert [line for line in lines if not GRAMMAR.fullmatch(line)] == []
    paths = [line.split()[4] for line in lines if line.startswith('B')]
    assert paths[-3:] == ['/clock', '/nowhere', '/dive_and_crash']
    assert re.search(r' has been in progress for \S+ s, \w+, the crash was in it$', lines[-2])
    assert lines[-1].endswith(' the process ended: crashed, certain')


def test_trace_without_a_run_shows_the_living_run(crashed):
    lines = command(crashed, 'trace').splitlines()
    assert lines[0].endswith(f' {crashed.run_directory.name}') and lines[0].startswith('U - ')
    assert 'the process ended' not in lines[-1]
