"""The profiles for Plone, without Plone: `make plone` installs and uninstalls them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from zope.interface import Interface

from Products.StabilityMonitor import __file__ as package

PROFILES = Path(package).parent / 'profiles'


def configlet(profile):
    (found,) = ElementTree.parse(PROFILES / profile / 'controlpanel.xml').getroot()
    return found


@pytest.mark.zope
@pytest.mark.in_process
def test_the_link_leads_to_the_tab_and_needs_the_permission_of_the_tab():
    from Products.StabilityMonitor.zmi import names

    link = configlet('default')
    assert link.get('url_expr').endswith(f'/Control_Panel/{names.ID}/manage_main')
    assert f"'Control_Panel/{names.ID}'" in link.get('condition_expr')
    assert [permission.text for permission in link] == [names.VIEW]


def test_the_uninstall_profile_removes_what_the_other_adds():
    removed = configlet('uninstall')
    assert removed.attrib == {'action_id': configlet('default').get('action_id'), 'remove': 'True'}


@pytest.mark.parametrize('profile', ['default', 'uninstall'])
def test_a_profile_has_a_step_for_the_control_panel_only(profile):
    """Nothing else is written into the database."""
    steps = {path.name for path in (PROFILES / profile).iterdir()}
    assert steps - {'metadata.xml'} == {'controlpanel.xml'}


def test_the_uninstall_profile_is_hidden_when_a_site_is_made(monkeypatch):
    plone = SimpleNamespace(INonInstallable=Interface)
    for name in ('plone', 'plone.base', 'plone.base.interfaces'):
        monkeypatch.setitem(sys.modules, name, plone)
    from Products.StabilityMonitor.zmi.plonesetup import HiddenProfiles

    hidden = HiddenProfiles().getNonInstallableProfiles()
    assert hidden == ['Products.StabilityMonitor:uninstall']
