"""What a person sees of a dead run: with the command, and on a page."""

import urllib.parse

from support.childprograms import CHECKOUT
from support.childprograms import COMMAND
from support.childprograms import run_python

TAB = '/Control_Panel/StabilityMonitor/'


def command(site, *words):
    where = ('--client-home', site.client_home)
    done = run_python(*COMMAND, *where, *words, env=site.environment(), cwd=CHECKOUT)
    assert done.stderr == '', done.stderr
    return done.stdout


def page(site, name):
    return site.get(f'{TAB}{name}?{urllib.parse.urlencode({"run": site.run})}').text
