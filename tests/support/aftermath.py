"""What a person sees of a run that has ended: by the command, and on a page."""

import subprocess
import sys
import urllib.parse

from support.zopekit import CHECKOUT

TAB = '/Control_Panel/StabilityMonitor/'


def command(site, *words):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'Products.StabilityMonitor',
            '--client-home',
            str(site.client_home),
            *words,
        ],
        capture_output=True,
        text=True,
        env=site.environment(),
        timeout=60,
        cwd=CHECKOUT,
    )
    assert done.stderr == '', done.stderr
    return done.stdout


def page(site, name):
    return site.get(f'{TAB}{name}?{urllib.parse.urlencode({"run": site.run})}').text
