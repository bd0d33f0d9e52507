"""The fake living run of the tests has the interface of a real one."""

from support.fakelife import FakeLife
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.model.interfaces import ILivingRun


def test_the_fake_life_provides_the_interface(tmp_path):
    assert verifyObject(ILivingRun, FakeLife(tmp_path))
