"""`make run` and `make stop`: one Zope instance under zdaemon, which is made once and then found
again.

    python tools/instance.py start|stop FOLDER

The first start makes the instance, its port and the login of the administrator.  Each start writes
zdaemon.conf again, since it contains the path of Python.  All other files are for the user to edit.
"""

import argparse
import hashlib
import http.client
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

TAB = '/Control_Panel/StabilityMonitor/manage_main'
USER = 'admin'
START_SECONDS = 120
STOP_SECONDS = 30
LOG_LINES = 30

PRODUCT_CONFIG = """

# Products.StabilityMonitor.  Each option can also be set by an environment variable, for example
# STABILITYMONITOR_STALL=90s.
<product-config stabilitymonitor>
  # a request older than `slow-request` is listed; when all workers are busy for longer than
  # `stall`, the site hangs
  # slow-request 10s
  # stall 30s
  # how often memory, CPU, threads and descriptors are recorded
  # sample-interval 1s
  # limits of the archive
  # keep-runs 200
  # keep-days 90
  # keep-bytes 200MB
  # the data directory; CLIENT_HOME/stability if not set
  # directory $INSTANCE/var/stability
  # a group that may read it, for monitoring
  # group adm
  # personal data: off by default
  # record-query off
  # record-user off
  # core files, to see C frames; drills end the process on request, to test the product
  # core-files off
  # drills off
  # where reports are sent, and by whom
  # tracker-url https://tracker.example/new
  # support-name The Zope team
  # support-contact zope@example.com
</product-config>
"""

ZDAEMON_CONF = """\
# Written by tools/instance.py at each start.
<runner>
  program {python} {runwsgi} {home}/etc/zope.ini
  directory {home}
  socket-name {socket}
  transcript {home}/var/log/transcript.log
  daemon on
  forever off
  backoff-limit 10
  default-to-interactive off
</runner>

<eventlog>
  level info
  <logfile>
    path {home}/var/log/zdaemon.log
  </logfile>
</eventlog>
"""


class Trouble(Exception):
    """An error with two sentences: what went wrong, and what to do next."""


# The instance


def make_instance(home):
    """Copy the skeleton of Zope, and add a login, a port and the options of the product."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    password = secrets.token_urlsafe(12)
    write_private(home / 'login', f'{USER}:{password}\n')
    write_private(home / 'inituser', f'{USER}:{encrypted(password)}\n')
    copy_skeleton(home)
    set_port(home, free_port())
    with (home / 'etc' / 'zope.conf').open('a') as conf:
        conf.write(PRODUCT_CONFIG)
    (home / '.made').touch()  # last, so that an interrupted first start is repeated


def copy_skeleton(home):
    from Zope2.utilities import mkwsgiinstance

    before, sys.argv = sys.argv, ['mkwsgiinstance', '-d', str(home), '-p', sys.executable]
    try:
        with redirect_stdout(StringIO()):
            mkwsgiinstance.main()
    finally:
        sys.argv = before


def encrypted(password):
    from AuthEncoding import pw_encrypt

    value = pw_encrypt(password.encode(), 'SSHA')
    return value.decode() if isinstance(value, bytes) else value


def write_private(path, text):
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'w') as out:
        out.write(text)


def login(home):
    return (home / 'login').read_text().strip()


def write_zdaemon_conf(home):
    runwsgi = Path(sys.executable).parent / 'runwsgi'
    text = ZDAEMON_CONF.format(
        home=home, python=sys.executable, runwsgi=runwsgi, socket=socket_path(home)
    )
    (home / 'etc' / 'zdaemon.conf').write_text(text)


def socket_path(home):
    """Return a path beside the data, or in the folder for temporary files if that is too long for a
    socket.
    """
    path = home / 'var' / 'zdaemon.sock'
    if len(os.fsencode(path)) < 90:
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f'zdaemon-{os.getuid()}-{digest}.sock'


# Its port


def port_of(home):
    match = re.search(r'^port\s*=\s*(\d+)', (home / 'etc' / 'zope.ini').read_text(), re.M)
    if not match:
        raise Trouble(
            f'{home}/etc/zope.ini has no line "port = NUMBER". Add one to its section '
            '[server:main].'
        )
    return int(match.group(1))


def set_port(home, port):
    ini = home / 'etc' / 'zope.ini'
    ini.write_text(re.sub(r'^port\s*=.*', f'port = {port}', ini.read_text(), count=1, flags=re.M))


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError:
            return False
        return True


def free_port():
    """Return a free port; 8080 and the next ones first, since people know them."""
    for port in range(8080, 8180):
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


# Its process


def zdaemon(home, action, timeout=STOP_SECONDS + 10):
    """Run one zdaemon command, and return its output.

    The output goes to a file and not to a pipe, since the manager of zdaemon keeps it open.
    """
    script = Path(sys.executable).parent / 'zdaemon'
    command = [sys.executable, str(script), '-C', str(home / 'etc' / 'zdaemon.conf'), action]
    with tempfile.TemporaryFile('w+') as out:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout)
        out.seek(0)
        return out.read()


def status(home):
    """Return whether the manager of zdaemon runs, and the pid of its program (None while it waits
    for a new attempt).
    """
    if not (home / 'etc' / 'zdaemon.conf').exists():
        return False, None
    said = zdaemon(home, 'status')
    match = re.search(r'pid=([1-9]\d*)', said)
    return 'manager not running' not in said, int(match.group(1)) if match else None


def status_of(port, path, credentials=None):
    """Return the HTTP status of a page, or None if there is no answer."""
    headers = {}
    if credentials:
        headers['Authorization'] = 'Basic ' + b64encode(credentials.encode()).decode()
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    try:
        connection.request('GET', path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_until_it_answers(home, port):
    """Print dots until Zope answers; raise Trouble when zdaemon gives up or time runs out."""
    end = time.monotonic() + START_SECONDS
    next_look = time.monotonic() + 3
    while time.monotonic() < end:
        if status_of(port, '/') is not None:
            print(flush=True)
            return
        if time.monotonic() > next_look:
            print('.', end='', flush=True)
            next_look = time.monotonic() + 2
            if status(home)[1] is None:
                break
        time.sleep(0.1)
    print()
    zdaemon(home, 'stop')
    show_log(home)
    raise Trouble(
        'Zope did not start. Fix what the log above reports (all of it is in '
        f'{home}/var/log/transcript.log), then type "make run" again.'
    )


def show_log(home):
    log = home / 'var' / 'log' / 'transcript.log'
    if log.exists():
        print(*log.read_text('utf-8', 'replace').splitlines()[-LOG_LINES:], sep='\n')


# The two commands


def start(home):
    found = (home / '.made').exists()
    if not found:
        print(f'Making a Zope instance in {home} ...')
        make_instance(home)
    supervised, pid = status(home)
    if pid:
        print(f'Zope already runs, as process {pid}.')
        return say_where(home)
    if found:
        print(f'Found the instance and its data in {home}.')
    if supervised:
        zdaemon(home, 'stop')
    start_process(home)
    say_where(home)


def start_process(home):
    port = port_of(home)
    if not is_free(port):
        port, taken = free_port(), port
        set_port(home, port)
        print(f'Port {taken} is used by another program; Zope now uses port {port}.')
    write_zdaemon_conf(home)
    print('Starting Zope ...', end='', flush=True)
    zdaemon(home, 'start', timeout=START_SECONDS)
    wait_until_it_answers(home, port)


def say_where(home):
    port = port_of(home)
    answer = status_of(port, TAB, login(home))
    if answer == 401:
        print('(The password was changed; below is the original one.)')
    elif answer != 200:
        print(f'Zope answers, but the tab has an error ({answer}): see {home}/var/log/event.log.')
    user, password = login(home).split(':', 1)
    print(f'http://127.0.0.1:{port}{TAB}')
    print(f'login: {user}   password: {password}')


def stop(home):
    supervised, pid = status(home)
    if not supervised:
        print(f'Nothing runs in {home}.')
        return
    print('Stopping Zope ...', end='', flush=True)
    zdaemon(home, 'stop')
    end = time.monotonic() + STOP_SECONDS
    while pid and is_alive(pid):
        if time.monotonic() > end:
            raise Trouble(
                f'Process {pid} still runs after {STOP_SECONDS} s. Kill it by hand: kill -9 {pid}'
            )
        time.sleep(0.05)
    print(' stopped.')


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('action', choices=['start', 'stop'])
    parser.add_argument('folder', type=Path)
    arguments = parser.parse_args()
    try:
        {'start': start, 'stop': stop}[arguments.action](arguments.folder.resolve())
    except Trouble as trouble:
        sys.exit(str(trouble))
    except subprocess.TimeoutExpired as late:
        sys.exit(
            f'zdaemon did not answer in {late.timeout:.0f} s. Type "make stop", then "make run" '
            'again.'
        )


if __name__ == '__main__':
    main()
