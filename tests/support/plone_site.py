"""A real Plone site, installed from PyPI into an environment of its own; `make plone` makes the
environment.

The instance comes from zopekit.  A script adds the site, as the form "Create a new Plone site" does
(the distribution "classic", with its example content).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.zopekit import CHECKOUT
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

#: The Python of that environment.
PYTHON = os.environ.get('PLONE_PYTHON', '')
NOT_ASKED_FOR = 'make plone'
TAB = '/Control_Panel/StabilityMonitor/'
START_SECONDS, PATIENCE = 180, 60
DOCUMENT = '/Plone/front'
#: A manager of the site who has no rights at the root.
BOSS = ('boss', 'Of-the-site-0nly')

ADD_SITE = """
import transaction
from AccessControl.SecurityManagement import newSecurityManager
from plone import api
from Products.CMFPlone.factory import addPloneSite
from Testing.makerequest import makerequest
from zope.globalrequest import setRequest

app = makerequest(app)
setRequest(app.REQUEST)
newSecurityManager(None, app.acl_users.getUser('admin').__of__(app.acl_users))
how = {'title': 'A site with a past', 'distribution_name': 'classic', 'setup_content': True}
site = addPloneSite(app, 'Plone', **how)
page = api.content.create(site, 'Document', 'front', title='The front page')
api.content.transition(page, 'publish')
site.acl_users.userFolderAddUser('boss', 'Of-the-site-0nly', ('Member', 'Manager'), ())
transaction.commit()
print('Added', site.Title(), 'with', *sorted(site.contentIds()))
"""

#: Pages of an add-on: each is a view of any Plone content, inside the main template of Plone.
SLOW_PAGES = '''
import ctypes
import time
from Products.Five.browser import BrowserView
from zope.component import provideAdapter
from zope.interface import Interface
from zope.publisher.interfaces.browser import IDefaultBrowserLayer
from ZPublisher import zpublish


@zpublish
class Slow(BrowserView):
    """An add-on that takes its time, deep inside a catalog query's result."""

    def __call__(self):
        found = self.context.portal_catalog(portal_type='Document')
        return '\\n'.join(self.one(brain) for brain in found)

    def one(self, brain):
        time.sleep(float(self.request.form.get('seconds', 3)))
        return brain.Title


@zpublish
class Crash(BrowserView):
    def __call__(self):
        ctypes.string_at(0)


@zpublish
class Careless(BrowserView):
    def __call__(self):
        self.context.title = 'Written without asking'
        self.request.response.setHeader('Content-Type', 'text/html')
        return '<html><body><p>Done.</p></body></html>'


provideAdapter(Careless, (Interface, IDefaultBrowserLayer), Interface, 'careless')
provideAdapter(Slow, (Interface, IDefaultBrowserLayer), Interface, 'slow-listing')
provideAdapter(Crash, (Interface, IDefaultBrowserLayer), Interface, 'crash')
for view in (Slow, Careless, Crash):
    view.__roles__ = None


def initialize(context):
    """Nothing else to do."""
'''


def needs_plone():
    """Skip the calling module, unless it runs under `make plone`."""
    if not PYTHON:
        pytest.skip(NOT_ASKED_FOR, allow_module_level=True)


class PloneSite(ZopeInstance):
    """An instance with one Plone site, `/Plone`."""

    def __init__(self, folder, **arguments):
        super().__init__(folder, python=PYTHON, **arguments)

    def create(self):
        new = not (self.client_home / 'Data.fs').exists()
        super().create()
        if new:
            self._publish_pages()
            done = self.run_script(ADD_SITE, timeout=600)
            assert done.returncode == 0 and 'Added' in done.stdout, done.stdout + done.stderr
        return self

    def _publish_pages(self):
        self.products_dir = self.home / 'addons'
        folder = self.products_dir / 'Products' / 'SlowAddOn'
        folder.mkdir(parents=True)
        (folder / '__init__.py').write_text(SLOW_PAGES)

    def start(self, wait=True, timeout=START_SECONDS):
        return super().start(wait, timeout)

    def findings(self):
        """Return {id: finding} of all checks, from the report.  The checks run in the background
        after each start.
        """
        return wait_for(self._asked, PATIENCE, 'the checks')

    def _asked(self):
        found = {finding['id']: finding for finding in self.report()['checks']}
        return found if any(id.startswith('known-issues') for id in found) else None

    def form(self, page, action):
        """Return the hidden fields of the form with this `action` on a page of the product."""
        html = self.get(f'{TAB}{page}', timeout=PATIENCE).text
        form = re.search(rf'<form[^>]*action="[^"]*{action}"[^>]*>(.*?)</form>', html, re.S)
        assert form, f'{page} has no form for {action}'
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[1]))

    def add_on(self, action):
        """Install or uninstall the product's profile, as a manager does on the page "Add-ons".

        `action` is "install" or "uninstall".
        """
        page = self.get('/Plone/prefs_install_products_form', timeout=PATIENCE).text
        field = f'{action}_product'
        (form,) = re.findall(
            rf'<form[^>]*>\s*<input[^>]*name="{field}"[^>]*value="Products.StabilityMonitor".*?</form>',
            page,
            re.S,
        )
        token = re.search(r'name="_authenticator"[^>]*value="(\w+)"', form)[1]
        values = {field: 'Products.StabilityMonitor', '_authenticator': token}
        answer = self.post(f'/Plone/{action}_products', values, timeout=PATIENCE)
        assert answer.status == 302, answer

    def links_of_site_setup(self, **who):
        """Return the addresses of all links in Plone's Site Setup; `who` as for `get`."""
        answer = self.get('/Plone/overview-controlpanel', timeout=PATIENCE, **who)
        assert answer.status == 200, answer
        return set(re.findall(r'<a [^>]*href="([^"]*)"', answer.text))

    def ask(self, *words):
        """Run the command `stabilitymonitor` in the environment of this Plone."""
        return subprocess.run(
            [
                self.python,
                '-m',
                'Products.StabilityMonitor',
                '--client-home',
                str(self.client_home),
                *words,
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
        )

    def transactions(self):
        """Return the last transaction of the database, which a page that only reads does not
        change.
        """
        return (self.client_home / 'Data.fs').stat().st_size


def installed(name):
    """Return the version of a distribution in the environment of Plone, or ''."""
    done = subprocess.run(
        [PYTHON, '-c', f'from importlib.metadata import version; print(version({name!r}))'],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.stdout.strip()


def chromium(folder):
    """A headless Chromium, large enough to show a whole page."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-dev-shm-usage',
        '--window-size=1280,2400',
    ):
        options.add_argument(argument)
    options.binary_location = shutil.which('chromium')
    driver = webdriver.Chrome(
        options, Service(shutil.which('chromedriver'), env={**os.environ, 'HOME': str(folder)})
    )
    driver.set_page_load_timeout(PATIENCE)
    return driver


if __name__ == '__main__':  # start a Plone to look at: plone_site.py FOLDER
    site = PloneSite(Path(sys.argv[1])).create().start()
    print(f'{site.url}/Plone and {site.url}{TAB}manage_main, until you press Enter')
    input()
    site.stop()
