"""The add-ons of Plone sites: what is read, and when the database is left alone."""

import threading
from types import SimpleNamespace

import pytest
from support.fakelife import FakeLife

from Products.StabilityMonitor.model.records import Request
from Products.StabilityMonitor.model.siteparts import AddOn
from Products.StabilityMonitor.model.siteparts import SitesRead
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import Stacks
from Products.StabilityMonitor.model.threadstates import ThreadState

pytestmark = [pytest.mark.zope, pytest.mark.in_process]

PLONE = {'plone': '6.2.2'}


class Folder:
    """An object manager; `loaded` counts how often one of its objects was asked for."""

    def __init__(self, connected=None, **objects):
        self.objects, self.loaded = objects, 0
        storage = SimpleNamespace()
        if connected is not None:
            storage.is_connected = lambda: connected
        self._p_jar = SimpleNamespace(db=lambda: SimpleNamespace(storage=storage))

    def objectIds(self, types):
        return [id for id, found in self.objects.items() if found.meta_type in types]

    def _getOb(self, id, default=None):
        self.loaded += 1
        return self.objects.get(id, default)


class Root(Folder):
    meta_type = 'Application'


class Subfolder(Folder):
    meta_type = 'Folder'


class Site(Folder):
    meta_type = 'Plone Site'


def site(**versions):
    profiles = {f'{name}:default': version for name, version in versions.items()}
    setup = SimpleNamespace(_profile_upgrade_versions=profiles)
    return Site(portal_setup=setup)


def read(root, tmp_path, stacks=None, **software):
    from Products.StabilityMonitor.zmi import plonesites

    life = FakeLife(tmp_path, software=PLONE | software)
    if stacks:
        life.stacks = lambda: stacks
    return plonesites.read(root, life)


def test_the_sites_in_the_root_and_in_its_folders_are_read(tmp_path):
    root = Root(
        Plone=site(shop=('2', '1'), blog='unknown'),
        folder=Subfolder(Other=site(shop=('3',))),
        bare=Site(),
    )
    found = read(root, tmp_path)
    assert [site.path for site in found.sites] == ['/Plone', '/bare', '/folder/Other']
    assert found.sites[0].add_ons == (
        AddOn('blog:default', 'unknown'),
        AddOn('shop:default', '2.1'),
    )
    assert found.sites[1].add_ons == () and found.note == '' and found.when


def test_no_more_than_twenty_sites_are_read(tmp_path):
    root = Root(**{f'site{number}': site(shop='1') for number in range(30)})
    found = read(root, tmp_path)
    assert len(found.sites) == root.loaded == 20 and 'first 20 sites' in found.note


def test_reading_ends_when_its_time_is_over():
    from Products.StabilityMonitor.zmi import plonesites

    times = iter([0.0, 1.0, 3.0])
    found = plonesites._read(
        Root(one=site(shop='1'), two=site(shop='1')), clock=lambda: next(times)
    )
    assert len(found.sites) == 1 and 'some sites are missing' in found.note


WAITING = ThreadState(
    activity='database', request=Request(1, 1, 1, 'GET', '/', 0.0, 'publishing', seconds=3.0)
)


@pytest.mark.parametrize(
    'stacks, reason',
    [
        (Stacks(hangs=(Event('hang', 1.0),)), 'the site hangs'),
        (Stacks(threads=(WAITING,)), 'a request waits for the database'),
    ],
    ids=['hang', 'waiting'],
)
def test_a_database_in_trouble_is_left_alone(tmp_path, stacks, reason):
    root = Root(Plone=site(shop='1'))
    assert read(root, tmp_path, stacks) == SitesRead(note=f'Not read: {reason}.')
    assert root.loaded == 0


def test_a_database_that_is_not_connected_is_left_alone(tmp_path):
    root = Root(connected=False, Plone=site(shop='1'))
    assert read(root, tmp_path).note == 'Not read: the database is not connected.'
    assert root.loaded == 0
    assert read(Root(connected=True, Plone=site(shop='1')), tmp_path).sites


def test_events_that_have_ended_do_not_count(tmp_path):
    stacks = Stacks(hangs=(Event('hang', 1.0, ended=2.0),))
    assert read(Root(Plone=site(shop='1')), tmp_path, stacks).sites


def test_without_plone_the_database_is_not_touched(tmp_path):
    assert read(None, tmp_path, plone='') == SitesRead()


def test_only_one_request_reads_at_a_time(tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    class Stuck(Root):
        def _getOb(self, id, default=None):
            begun.set()
            assert go_on.wait(60)
            return super()._getOb(id, default)

    first = threading.Thread(target=read, args=(Stuck(Plone=site(shop='1')), tmp_path))
    first.start()
    assert begun.wait(60)
    root = Root(Plone=site(shop='1'))
    try:
        assert 'another request' in read(root, tmp_path).note and root.loaded == 0
    finally:
        go_on.set()
        first.join()
    assert read(root, tmp_path).sites


def test_a_site_that_cannot_be_read_is_not_an_error(tmp_path):
    broken = Site(portal_setup=SimpleNamespace(_profile_upgrade_versions=5))
    assert read(Root(Plone=broken), tmp_path).note == 'They could not be read: AttributeError.'
