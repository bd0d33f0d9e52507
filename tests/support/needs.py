"""The needs of tests that a machine may lack: {name of a marker: function that returns why it is
missing, or None}.
"""

import importlib.util
import os
import shutil


def _missing_zope():
    return None if importlib.util.find_spec('Zope2') else 'Zope is not installed here'


def _missing_browser():
    wanted = [name for name in ('chromium', 'chromedriver') if not shutil.which(name)]
    if not importlib.util.find_spec('selenium'):
        wanted.append('selenium')
    return f'{", ".join(wanted)} not installed here' if wanted else _missing_zope()


def _missing_root():
    return None if getattr(os, 'geteuid', lambda: 1)() == 0 else 'not run by root'


def _missing_gcc():
    return None if shutil.which('gcc') or shutil.which('cc') else 'no C compiler here'


def _missing_supervisors():
    names = ('zdaemon', 'supervisor', 'gunicorn')
    wanted = [name for name in names if not importlib.util.find_spec(name)]
    return f'{", ".join(wanted)} not installed here' if wanted else None


NEEDS = {
    'zope': _missing_zope,
    'browser': _missing_browser,
    'root': _missing_root,
    'gcc': _missing_gcc,
    'supervisors': _missing_supervisors,
}
