"""Virtual environments of their own for Zope without a monitor, with this one, and with its peers.

`.venv-bench-<name>` in the checkout, made once, with the versions of the constraints file of this
Zope.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from figures import CHECKOUT

#: What is installed beside Zope, as pip would.  This product is not: the checkout is put on its
#: path.
PEERS = {
    'none': (),
    'stabilitymonitor': ('packaging', 'psutil'),
    'haufe.requestmonitoring': ('haufe.requestmonitoring==0.6.0', 'six'),
    'sentry-sdk': ('sentry-sdk',),
}


def python(name: str) -> str:
    """The interpreter of the environment for `name`; made when it is not there."""
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
