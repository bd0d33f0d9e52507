"""The subscribers to Zope's events: the marks that they record; no error reaches the request."""

import importlib
import mmap
import threading
from types import SimpleNamespace

import pytest
from programs.handshake import until
from support.fakelife import FakeLife

from Products.StabilityMonitor.postmortem import triage
from Products.StabilityMonitor.recording import arming
from Products.StabilityMonitor.recording.arming import STATE
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.system import signalmask


class Site:
    """Subscribers with their own recorder and list of findings."""

    def __init__(self):
        from Products.StabilityMonitor.zmi import subscribers

        self.subscribers, self.findings = subscribers, []
        self.buffer = mmap.mmap(-1, box.SIZE)
        box.lay_out(self.buffer)
        box.seal(self.buffer)

    def read(self):
        return blackboxreader.read(self.buffer[:])

    def send(self, event, request, **more):
        getattr(self.subscribers, event)(SimpleNamespace(request=request, **more))

    def add(self, id, *words):
        self.findings.append(id)


class Request(dict):
    retry_count = 0

    def __init__(self, path='/a', query='', user=None):
        self.environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': path, 'QUERY_STRING': query}
        self.response = SimpleNamespace(status=200)
        if user:
            self['AUTHENTICATED_USER'] = SimpleNamespace(getUserName=lambda: user)


@pytest.fixture
def site(monkeypatch):
    pytest.importorskip('ZPublisher')
    site = Site()
    monkeypatch.setattr(STATE, 'recorder', Recorder(site.buffer))
    monkeypatch.setattr(STATE, 'life', SimpleNamespace(findings=site))
    return site


def phases(site):
    return [request.phase for request in site.read().in_flight]


def test_the_phases_of_a_request_are_recorded(site):
    request, seen = Request(), []
    for event in (
        'request_begins',
        'traversed',
        'committing',
        'aborting',
        'failed',
        'request_ends',
    ):
        site.send(event, request)
        seen += phases(site)
    assert seen == ['traversing', 'publishing', 'committing', 'aborting', 'failed']
    assert [(r.method, r.path, r.status) for r in site.read().finished] == [('GET', '/a', 200)]


@pytest.mark.parametrize(
    'name, retries, recorded',
    [
        ('SystemExit', 0, 0),
        ('KeyboardInterrupt', 0, 0),
        ('GeneratorExit', 0, 0),
        ('ValueError', 0, 500),
        ('zExceptions.Redirect', 0, 302),
        ('zExceptions.NotFound', 0, 404),
        ('transaction.interfaces.TransientError', 3, 0),  # Zope tries again
        ('transaction.interfaces.TransientError', 0, 500),
    ],
)
def test_the_status_of_a_request_that_an_error_ended_is_not_200(site, name, retries, recorded):
    """As in ZPublisher.WSGIPublisher: the status of the response is that before the error."""
    module, _, kind = name.rpartition('.')
    error = getattr(importlib.import_module(module or 'builtins'), kind)('/a')

    def publish_module(request):
        try:
            raise error
        finally:
            site.send('request_ends', request)

    request = Request()
    request.retry_max_count = retries
    site.send('request_begins', request)
    with pytest.raises(type(error)):
        publish_module(request)
    assert [r.status for r in site.read().finished] == [recorded]


def test_an_error_that_other_code_handles_changes_no_status(site):
    request = Request()
    try:
        raise ValueError('x')
    except ValueError:
        site.send('request_begins', request)
        site.send('request_ends', request)
    assert [r.status for r in site.read().finished] == [200]


def test_the_streaming_event_needs_no_request(site):
    site.send('request_begins', Request())
    site.subscribers.streaming(SimpleNamespace(response=None))
    assert phases(site) == ['streaming'] and STATE.recorder is not None


def test_a_mark_without_a_request_is_ignored(site):
    """For example a mark of the outer request after the inner request has ended."""
    outer, inner = Request('/outer'), Request('/inner')
    for request in outer, inner:
        site.send('request_begins', request)
    site.send('request_ends', inner)
    site.send('committing', outer)
    site.send('request_ends', outer)
    assert phases(site) == [] and [r.path for r in site.read().finished] == ['/inner']


def test_a_mark_in_a_thread_without_a_slot_is_ignored(site):
    STATE.recorder._free.clear()
    request = Request(user='ann')
    for event in ('request_begins', 'traversed', 'committing', 'request_ends'):
        site.send(event, request)
    assert site.read().words['overflow'] == 1
    assert STATE.recorder is not None and site.findings == []


@pytest.mark.parametrize('on', [True, False])
def test_the_user_is_recorded_after_traversal_if_the_option_is_on(site, monkeypatch, on):
    monkeypatch.setattr(STATE, 'record_user', on)
    request = Request(user='ann')
    seen = []
    for event in ('request_begins', 'traversed', 'committing'):
        site.send(event, request)
        seen += [r.user for r in site.read().in_flight]
    assert seen == (['', 'ann', 'ann'] if on else ['', '', ''])


def test_a_request_without_a_user_is_not_an_error(site, monkeypatch):
    monkeypatch.setattr(STATE, 'record_user', True)
    site.send('request_begins', Request())
    site.send('traversed', Request())
    assert phases(site) == ['publishing'] and site.findings == []


def test_the_query_is_recorded_if_the_option_is_on(site, monkeypatch):
    for on in False, True:
        monkeypatch.setattr(STATE, 'record_query', on)
        site.send('request_begins', Request(query='a=1'))
    assert [r.path for r in site.read().in_flight] == ['/a?a=1']


def test_a_request_without_path_and_method_is_recorded(site):
    request = Request()
    request.environ, request.retry_count = {}, 2
    site.send('request_begins', request)
    (request_read,) = site.read().in_flight
    assert (request_read.method, request_read.path, request_read.retry) == ('', '', 2)


@pytest.mark.parametrize('event', ['request_begins', 'traversed', 'committing', 'request_ends'])
def test_a_recorder_that_fails_is_switched_off_and_no_request_sees_it(site, event):
    request = Request()
    site.send('request_begins', request)
    STATE.recorder.detach()
    site.send(event, request)
    assert STATE.recorder is None and site.findings == ['recorder']
    site.send(event, request)


@pytest.mark.parametrize('event', ['request_begins', 'traversed', 'committing', 'request_ends'])
def test_a_recorder_that_fails_without_a_living_run_reaches_no_request(site, monkeypatch, event):
    monkeypatch.setattr(STATE, 'life', None)
    request = Request()
    site.send('request_begins', request)
    STATE.recorder.detach()
    site.send(event, request)
    assert STATE.recorder is None


def test_no_reference_to_a_request_is_kept(site):
    import gc
    import weakref

    request = Request()
    for event in ('request_begins', 'traversed', 'committing', 'request_ends'):
        site.send(event, request)
    known, thread = weakref.ref(request), threading.get_ident()
    del request
    gc.collect()
    assert known() is None and [r.ident for r in site.read().finished] == [thread]


class TestTheFirstRequestOfAForkedWorker:
    @pytest.fixture
    def life(self, site, tmp_path, monkeypatch):
        """The run of the worker; `did` lists what was done, each with its thread."""
        life = FakeLife(tmp_path, recorder=STATE.recorder, did=[])
        life.armed = lambda: life.did.append(('armed', threading.current_thread()))
        monkeypatch.setattr(STATE, 'recorder', None)
        monkeypatch.setattr(STATE, 'cut_off', ['the run of the parent'])
        monkeypatch.setattr(arming, 'arm_forked_worker', lambda: life)
        monkeypatch.setattr(
            triage, 'at_start', lambda life: life.did.append(('judged', threading.current_thread()))
        )
        monkeypatch.setattr(site.subscribers.zopechecks, 'begin', lambda life: None)
        return life

    def test_the_request_is_recorded_while_dead_runs_are_judged(self, site, life):
        site.send('request_begins', Request())
        assert [r.path for r in site.read().in_flight] == ['/a']
        until(lambda: len(life.did) == 2)
        (judged, thread), (armed, same) = life.did
        assert (judged, armed) == ('judged', 'armed') and thread is same
        assert signalmask.is_ours(thread) and thread.daemon
        assert thread.name == 'StabilityMonitor triage' and not list(life.findings)

    def test_the_request_is_recorded_even_if_no_thread_can_be_started(
        self, site, life, monkeypatch
    ):
        def no_more_threads(thread):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(signalmask, 'start', no_more_threads)
        site.send('request_begins', Request())
        assert [r.path for r in site.read().in_flight] == ['/a']
        (finding,) = life.findings
        assert finding.id == 'triage' and "can't start new thread" in finding.detail

    def test_a_failed_triage_is_a_finding_and_no_error_of_the_request(
        self, site, life, monkeypatch
    ):
        def fail():
            raise OSError('no room')

        life.armed = fail
        site.send('request_begins', Request())
        until(lambda: list(life.findings))
        (finding,) = life.findings
        assert finding.id == 'triage' and finding.detail == 'OSError: no room.'
