"""Virtual environments for Zope: without a monitor, with this one, and with each of the others.

They are `.venv-bench-<name>` in the checkout, made once, with the versions of the constraints file
of this Zope.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from figures import CHECKOUT

#: Packages that pip installs beside Zope.  This product is not among them: the checkout is on the
#: path.
PEERS = {
    'none': (),
    'stabilitymonitor': ('packaging', 'psutil'),
    'haufe.requestmonitoring': ('haufe.requestmonitoring==0.6.0', 'six'),
    'sentry-sdk': ('sentry-sdk',),
}


def python(name: str) -> str:
    """Return the Python of the environment for `name`, which is made if it does not exist."""
    zope = version('Zope')
    folder = CHECKOUT / f'.venv-bench-{name}-{zope}-py{sys.version_info[0]}.{sys.version_info[1]}'
    interpreter, constraints = folder / 'bin' / 'python', CHECKOUT / f'constraints-{zope}.txt'
    ready = folder / '.ready'
    wanted = '\n'.join((constraints.read_text(), *PEERS[name]))
    if not ready.exists() or ready.read_text() != wanted:
        print(f'Installing Zope {zope} and {name} into {folder.name} (once) ...', flush=True)
        _run(sys.executable, '-m', 'venv', '--clear', str(folder))
        _run(
            str(interpreter),
            '-m',
            'pip',
            '--disable-pip-version-check',
            'install',
            '--quiet',
            '--constraint',
            str(constraints),
            f'Zope[wsgi]=={zope}',
            *PEERS[name],
        )
        ready.write_text(wanted)
    return str(interpreter)


def _run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{" ".join(command)}\n{done.stdout}{done.stderr}')
