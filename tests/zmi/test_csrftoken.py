"""A form is accepted only if this process made it for this user and this site sent it."""

import multiprocessing
import os
import stat
from types import SimpleNamespace

import pytest

pytest.importorskip('AccessControl')

from support.hostiledirectory import NOBODY
from support.hostiledirectory import HostileDirectory
from zExceptions import Forbidden

from Products.StabilityMonitor.model.errors import WrongProcess
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.zmi import csrftoken

pytestmark = [pytest.mark.zope, pytest.mark.in_process]
RUN, OTHER = '20261123T074501Z-17-abcd', '20261123T074502Z-18-abcd'


class Request:
    def __init__(self, method='POST', server='http://example.org', form=(), **headers):
        self.form = dict(form)
        self.variables = {'REQUEST_METHOD': method, 'SERVER_URL': server}
        self.headers = {'Host': 'example.org'} | {
            name.replace('_', '-'): value for name, value in headers.items()
        }

    def get(self, name, default=None):
        return self.variables.get(name, default)

    def get_header(self, name, default=None):
        return self.headers.get(name, default)


@pytest.fixture
def life(tmp_path):
    return SimpleNamespace(path=tmp_path, name=RUN)


def checked(life, request=None, action='drill', **changed):
    request = request or Request()
    request.form = csrftoken.fields(life, 'drill') | changed
    return csrftoken.check(request, life, action)


def test_a_form_of_this_process_is_accepted(life):
    assert checked(life) is None


@pytest.mark.parametrize(
    'changed',
    [
        {'token': ''},
        {'token': 'x' * 64},
        {'token': 'ü'},
        {'token': ['a', 'b']},
        {'token': None},
        {'run': ''},
        {'run': None},
        {'run': '../../etc/passwd'},
        {'run': [RUN, RUN]},
        {'token': '', 'run': OTHER},
    ],
)
def test_a_forged_form_is_refused(life, changed):
    with pytest.raises(Forbidden):
        checked(life, **changed)


def test_a_token_is_valid_for_one_action_only(life):
    with pytest.raises(Forbidden):
        checked(life, action='something else')


def test_a_token_is_valid_for_one_user_only(life, monkeypatch):
    fields = csrftoken.fields(life, 'drill')
    monkeypatch.setattr(csrftoken, 'current_user', lambda: '/acl_users/eve')
    with pytest.raises(Forbidden):
        csrftoken.check(Request(form=fields), life, 'drill')


def test_two_pairs_of_user_and_action_have_different_tokens():
    assert csrftoken.make(b'k' * 32, 'ab', 'c') != csrftoken.make(b'k' * 32, 'a', 'bc')


def test_get_is_refused(life):
    with pytest.raises(Forbidden):
        checked(life, Request('GET'))


def test_a_form_of_another_process_raises_wrong_process(life):
    with pytest.raises(WrongProcess) as caught:
        checked(life, run=OTHER)
    assert OTHER in str(caught.value) and 'Nothing was changed' in str(caught.value)


@pytest.mark.parametrize(
    'site, passes',
    [
        ('same-origin', True),
        ('none', True),
        ('same-site', False),
        ('cross-site', False),
        ('nonsense', False),
    ],
)
def test_a_form_from_another_site_is_refused(life, site, passes):
    if passes:
        checked(life, Request(Sec_Fetch_Site=site))
    else:
        with pytest.raises(Forbidden):
            checked(life, Request(Sec_Fetch_Site=site))


@pytest.mark.parametrize(
    'origin, server, host, passes',
    [
        ('http://example.org', 'http://example.org', 'example.org', True),
        ('http://example.org:80', 'http://example.org', 'example.org', True),
        ('http://EXAMPLE.org', 'http://example.org', 'example.org', True),
        ('http://example.org:8080', 'http://example.org:8080', 'example.org:8080', True),
        ('http://example.org:8081', 'http://example.org:8080', 'example.org:8080', False),
        (
            'https://www.example.org',
            'https://www.example.org',
            '127.0.0.1:8080',
            True,
        ),  # virtual hosting
        (
            'https://www.example.org',
            'http://www.example.org',
            'www.example.org',
            True,
        ),  # TLS ends at the proxy
        ('https://evil.example', 'http://example.org', 'example.org', False),
        ('http://example.org.evil.example', 'http://example.org', 'example.org', False),
        ('null', 'http://example.org', 'example.org', False),
        ('http://[', 'http://example.org', 'example.org', False),
        ('null', '', '', False),
    ],
)
def test_the_origin_must_be_this_site(life, origin, server, host, passes):
    request = Request(server=server, Origin=origin, Host=host)
    if passes:
        checked(life, request)
    else:
        with pytest.raises(Forbidden):
            checked(life, request)


# -- the key ---------------------------------------------------------------------------------------


def test_the_key_is_kept_in_a_private_file(tmp_path):
    made = csrftoken.key(tmp_path)
    assert csrftoken.key(tmp_path) == made and len(made) == csrftoken.KEY_SIZE
    assert stat.S_IMODE((tmp_path / csrftoken.KEY_FILE).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [csrftoken.KEY_FILE]


def test_each_directory_has_its_own_key(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    assert csrftoken.key(tmp_path / 'a') != csrftoken.key(tmp_path / 'b')


def test_without_a_directory_forms_work_in_this_process(tmp_path):
    assert csrftoken.key(tmp_path / 'gone') == csrftoken.key(tmp_path / 'gone too')


@pytest.mark.parametrize('damaged', [b'', b'short', b'x' * 33])
def test_a_damaged_key_is_not_used(tmp_path, damaged):
    (tmp_path / csrftoken.KEY_FILE).write_bytes(damaged)
    assert csrftoken.key(tmp_path) not in (damaged, b'')


@pytest.mark.root
def test_a_key_that_another_user_made_is_not_used(tmp_path):
    """With a known key that user could make valid tokens."""
    planted = b'k' * csrftoken.KEY_SIZE
    file = tmp_path / csrftoken.KEY_FILE
    file.write_bytes(planted)
    assert csrftoken.key(tmp_path) == planted
    os.chown(file, NOBODY, NOBODY)
    assert csrftoken.key(tmp_path) != planted
    assert file.read_bytes() == planted


@pytest.mark.root
def test_a_key_in_the_directory_of_another_user_is_not_used(tmp_path):
    planted = b'k' * csrftoken.KEY_SIZE
    base = Base(tmp_path / 'stability', is_ours=True)
    base.prepare()
    (base.path / csrftoken.KEY_FILE).write_bytes(planted)
    assert csrftoken.key(base.path) == planted
    os.chown(base.path, NOBODY, NOBODY)
    assert csrftoken.key(base.path) != planted


@pytest.mark.parametrize('what', ['the key', 'the directory'])
def test_no_key_is_read_or_made_through_a_link(tmp_path, what):
    hostile = HostileDirectory(tmp_path)
    hostile.hand_over()
    hostile.fill_victim()
    secret = hostile.victim / csrftoken.KEY_FILE
    if what == 'the key':
        hostile.plant(hostile.path / csrftoken.KEY_FILE, secret)
    else:
        hostile.exchange(hostile.path)
    assert len(csrftoken.key(hostile.path)) == csrftoken.KEY_SIZE
    hostile.check()
    secret.write_bytes(b's' * csrftoken.KEY_SIZE)
    assert csrftoken.key(hostile.path) != secret.read_bytes()


def _race(directory, barrier, results):
    barrier.wait()
    results.put(csrftoken.key(directory))


def test_processes_that_start_together_agree_on_one_key(tmp_path):
    context = multiprocessing.get_context('fork')
    barrier, results = context.Barrier(12), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, barrier, results)) for _ in range(12)]
    for racer in racers:
        racer.start()
    keys = {results.get(timeout=30) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(keys) == 1
