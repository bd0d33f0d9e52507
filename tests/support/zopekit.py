"""Real Zopes for the tests: write an instance in milliseconds, start it, ask it, kill it, and read
what it left.

    with ZopeInstance(tmp_path, options={'drills': 'on'}) as zope:    # create() and start()
        zope.get('/Control_Panel/StabilityMonitor/manage_main').status
        zope.kill(signal.SIGKILL)
        zope.wait_exit()
        zope.start()
        zope.archive()[0]['verdict']

Everything is real: `runwsgi`, waitress, a FileStorage and the site.zcml of `mkwsgiinstance`.  The
method `publish()` adds pages that a test needs.
"""

import atexit
import base64
import contextlib
import fcntl
import functools
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from programs.handshake import until

from support.childprograms import CHECKOUT

USER, PASSWORD = 'admin', 'secret'
START_SECONDS = 60
_living = set()

ZOPE_CONF = """\
%define INSTANCE {instance}
instancehome $INSTANCE
<zodb_db main>
  <filestorage>
    path $INSTANCE/var/Data.fs
  </filestorage>
  mount-point /
</zodb_db>
<environment>
  CHAMELEON_CACHE {cache}
</environment>
{product_config}
{extra}
"""

ZOPE_INI = """\
[app:zope]
use = egg:Zope#main
zope_conf = %(here)s/zope.conf

[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = {threads}

[pipeline:main]
pipeline =
    egg:Zope#httpexceptions
    zope

[loggers]
keys = root

[handlers]
keys = console, eventlog

[formatters]
keys = generic

[formatter_generic]
format = %(asctime)s %(levelname)s [%(name)s:%(lineno)s][%(threadName)s] %(message)s
datefmt = %Y-%m-%d %H:%M:%S

[logger_root]
level = INFO
handlers = console, eventlog

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic

[handler_eventlog]
class = FileHandler
args = (r'{instance}/var/log/event.log', 'a')
level = INFO
formatter = generic
"""

SITE_ZCML = """\
<configure
    xmlns="http://namespaces.zope.org/zope"
    xmlns:meta="http://namespaces.zope.org/meta"
    xmlns:five="http://namespaces.zope.org/five">

  <include package="Zope2.App" />
  <include files="package-includes/*-meta.zcml" />
  <five:loadProducts file="meta.zcml"/>
  <include files="package-includes/*-configure.zcml" />
  <five:loadProducts />
  <includeOverrides files="package-includes/*-overrides.zcml" />
  <five:loadProductsOverrides />

</configure>
"""

# Appended to a test product: every function of the module becomes a public page of the root.
PUBLISHING = """

def initialize(context):
    import types
    from OFS.Application import Application
    from ZPublisher import zpublish
    for name, value in list(globals().items()):
        local = isinstance(value, types.FunctionType) and value.__module__ == __name__
        if local and name != "initialize" and not name.startswith("_"):
            setattr(Application, name, zpublish(value))
            setattr(Application, name + "__roles__", None)
"""


class ZopeFailed(AssertionError):
    """Zope ended, or did not answer in time; the message has its output on stderr."""


class Answer:
    """One HTTP response: `status`, `headers`, `body` (bytes), `text`, `json()`."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode(self.headers.get_content_charset() or 'utf-8', 'replace')

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f'<Answer {self.status} {self.body[:300]!r}>'


class ZopeInstance:
    """One instance, and its processes one after the other.

    `options` become `<product-config stabilitymonitor>`; `products_dir` is a folder with
    `Products/<Name>/__init__.py`; `env` wins over the inherited environment (None removes a
    variable); `checkout=False` keeps this checkout off PYTHONPATH (for tests of an installed
    product).  `stderr` is 'file', 'pipe' or 'null'; for the first two, `stderr_text()` returns the
    output.
    """

    def __init__(
        self,
        tmpdir,
        python=sys.executable,
        options=None,
        threads=4,
        products_dir=None,
        zope_conf_extra='',
        env=None,
        stderr='file',
        checkout=True,
        port=None,
    ):
        self.home = Path(tmpdir).resolve()
        self.python = str(python)
        self.options = dict(options or {})
        self.threads = threads
        self.products_dir = Path(products_dir) if products_dir else None
        self.zope_conf_extra = zope_conf_extra
        self.env = dict(env or {})
        self.stderr = stderr
        self.checkout = checkout
        self.port = port or free_port()
        self.process = None
        self._piped = []

    # Paths

    @property
    def client_home(self):
        return self.home / 'var'

    @property
    def stability(self):
        return Path(self.options.get('directory') or self.client_home / 'stability')

    @property
    def stderr_path(self):
        return self.client_home / 'log' / 'stderr.log'

    @property
    def event_log(self):
        return self.client_home / 'log' / 'event.log'

    @property
    def zope_conf(self):
        return self.home / 'etc' / 'zope.conf'

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}'

    # Making the instance

    def create(self):
        """Write the files of the instance; a second call keeps the database and writes the
        configuration again.
        """
        for folder in ('etc/package-includes', 'var/log', 'Products'):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        if not (self.client_home / 'Data.fs').exists():
            (self.home / 'inituser').write_text(inituser_line())
        (self.home / 'etc' / 'site.zcml').write_text(SITE_ZCML)
        return self.configure()

    def configure(self, **options):
        """Set options (underscores for hyphens; None removes one) and write zope.conf and
        zope.ini.
        """
        for name, value in options.items():
            self.options[name.replace('_', '-')] = value
        self.options = {name: value for name, value in self.options.items() if value is not None}
        values = {
            'instance': self.home,
            'port': self.port,
            'threads': self.threads,
            'cache': page_cache(),
            'extra': self.zope_conf_extra,
            'product_config': product_config(self.options),
        }
        self.zope_conf.write_text(ZOPE_CONF.format(**values))
        (self.home / 'etc' / 'zope.ini').write_text(ZOPE_INI.format(**values))
        return self

    def publish(self, source, name='TestMethods'):
        """Publish every function of `source` at the root: `def crash(self): ...` becomes `/crash`.

        A parameter besides self is a form variable. Call it before `start`. Zope imports products
        in alphabetical order, so the default name comes after StabilityMonitor.
        """
        self.products_dir = self.products_dir or self.home / 'testproducts'
        folder = self.products_dir / 'Products' / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / '__init__.py').write_text(source + PUBLISHING)
        return self

    # Its process

    def start(self, wait=True, timeout=START_SECONDS):
        """Start the server.

        With wait=True, return when it answers HTTP; with 'port', when it listens; with False, at
        once.
        """
        assert not self.running, 'it already runs'
        self._piped = []
        with self._stderr() as stderr:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        _living.add(self)
        if self.stderr == 'pipe':
            threading.Thread(target=self._drain, args=(self.process.stderr,), daemon=True).start()
        if wait:
            self.wait_ready(http=wait != 'port', timeout=timeout)
        return self

    def command(self):
        script = Path(self.python).parent / 'runwsgi'
        server = [str(script)] if script.exists() else ['-m', 'Zope2.Startup.serve']
        return [self.python, *server, str(self.home / 'etc' / 'zope.ini')]

    def environment(self):
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(('STABILITYMONITOR_', 'PYTHON', 'COV_', 'PYTEST_'))
        }
        paths = [
            str(path) for path in (self.products_dir, CHECKOUT if self.checkout else None) if path
        ]
        env.update({'PYTHONPATH': os.pathsep.join(paths), **self.env})
        return {name: value for name, value in env.items() if value is not None}

    def wait_ready(self, http=True, timeout=START_SECONDS):
        """Return when it answers; raise ZopeFailed with its last output if it ended or takes too
        long.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ZopeFailed(f'Zope ended with {self.process.returncode}:\n{self.last_words()}')
            if listens(self.port) and (not http or self._answers()):
                return self
            time.sleep(0.02)
        raise ZopeFailed(f'Zope did not answer in {timeout} s:\n{self.last_words()}')

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, timeout=30):
        """Return its exit code; the negative number of the signal if a signal ended it."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ZopeFailed(f'Zope still runs after {timeout} s:\n{self.last_words()}') from None

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.process.pid, sig)
        return self

    def stop(self, timeout=30):
        """Stop it cleanly, by SIGINT, unless it has already ended, and return its exit code."""
        if self.running:
            self.kill(signal.SIGINT)
        return self.wait_exit(timeout) if self.process else None

    def restart(self, **options):
        self.stop()
        return self.configure(**options).start()

    def destroy(self):
        """End it by SIGKILL, even if it is stopped; tests call this at their end."""
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        _living.discard(self)

    def __enter__(self):
        self.create()
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(self, *exc_info):
        try:
            if exc_info[0] is None:
                self.stop()
        finally:
            self.destroy()

    # Requests

    def get(self, path, auth=True, timeout=30, headers=None):
        return self.request('GET', path, auth=auth, timeout=timeout, headers=headers)

    def post(self, path, data=None, auth=True, timeout=30, headers=None):
        """`data` is a dict or pairs (sent as a form), or bytes."""
        body = (
            data
            if isinstance(data, bytes)
            else urllib.parse.urlencode(data or {}, doseq=True).encode()
        )
        headers = {'Content-Type': 'application/x-www-form-urlencoded', **(headers or {})}
        return self.request('POST', path, body, auth, timeout, headers)

    def request(self, method, path, body=None, auth=True, timeout=30, headers=None):
        """Send a request without following redirects; a broken connection (as in a crash) raises
        OSError or HTTPException.
        """
        headers = {**({'Authorization': basic_auth()} if auth else {}), **(headers or {})}
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def crash(self, path, timeout=30):
        """Request a page that kills the process, and return its exit code."""
        try:
            self.get(path, timeout=timeout)
        except (OSError, http.client.HTTPException):
            pass
        return self.wait_exit(timeout)

    def background(self, path, timeout=120):
        """Send a request from another thread (for pages that hang), and return the started
        thread.
        """

        def ask():
            try:
                self.get(path, timeout=timeout)
            except (OSError, http.client.HTTPException):
                pass

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def report(self, **query):
        """Return the report of the living process as a dict; it must fit its JSON Schema."""
        from support.validreports import valid  # imported here: only it needs the product

        query = urllib.parse.urlencode({'format': 'json', **query})
        try:
            answer = self.get(f'/Control_Panel/StabilityMonitor/report?{query}')
        except (OSError, http.client.HTTPException) as error:
            raise ZopeFailed(
                f'{error!r}, status {self.process.poll()}:\n{self.last_words()}'
            ) from error
        assert answer.status == 200, answer
        return valid(answer.json())

    # Files that it left

    def archive(self):
        """Return the archived runs, newest first."""
        folders = sorted((self.stability / 'archive').glob('*/incident.json'), reverse=True)
        return [json.loads(path.read_text('utf-8')) for path in folders]

    def stderr_text(self):
        if self.stderr == 'pipe':
            return b''.join(self._piped).decode('utf-8', 'replace')
        return self.stderr_path.read_text('utf-8', 'replace') if self.stderr_path.exists() else ''

    def last_words(self, lines=40):
        log = self.event_log.read_text('utf-8', 'replace') if self.event_log.exists() else ''
        return '\n'.join((self.stderr_text() or log).splitlines()[-lines:])

    def run_script(self, source, timeout=60):
        """Run `source` as `zconsole run` does (with `app`), in a process of its own, and return a
        CompletedProcess.
        """
        path = self.home / 'script.py'
        path.write_text(source)
        zconsole = 'import sys; from Zope2.utilities.zconsole import main; sys.exit(main())'
        return subprocess.run(
            [self.python, '-c', zconsole, 'run', str(self.zope_conf), str(path)],
            cwd=self.home,
            env=self.environment(),
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    # Internals

    def _answers(self):
        try:
            self.get('/', timeout=10)
            return True
        except (OSError, http.client.HTTPException):
            return False

    def _stderr(self):
        if self.stderr == 'file':
            return self.stderr_path.open('ab')
        return contextlib.nullcontext(
            {'pipe': subprocess.PIPE, 'null': subprocess.DEVNULL}[self.stderr]
        )

    def _drain(self, stream):
        for line in iter(stream.readline, b''):
            self._piped.append(line)
        stream.close()


def product_config(options):
    lines = [f'  {name} {value}' for name, value in options.items()]
    return (
        '\n'.join(['<product-config stabilitymonitor>', *lines, '</product-config>'])
        if lines
        else ''
    )


def inituser_line():
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    return f'{USER}:{{SHA}}{digest}\n'


def basic_auth():
    return 'Basic ' + base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()


@functools.cache
def _ports():
    """Return the file in which each process locks the byte of each of its ports, and the ports of
    this process.

    The second is needed since a lock does not exclude the process that holds it.
    """
    return open(Path(tempfile.gettempdir()) / f'zopekit-ports-{os.getuid()}', 'ab'), set()


def free_port():
    """Return a free loopback port below the range that the kernel gives to clients.

    No other process that uses this function gets the port while this process lives, even if no Zope
    listens on it.
    """
    locks, own = _ports()
    for _ in range(1000):
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(('127.0.0.1', port))
            if port not in own:
                own.add(port)
                return port
    raise OSError('no free port')


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(('127.0.0.1', port)) == 0


def wait_for(condition, timeout=60, what='the condition'):
    """Poll `condition` until it is true, and return its value; for events without a handshake."""
    return until(condition, what, timeout, pause=0.02)


_page_cache = None


def page_cache():
    """Return the folder of compiled page templates for all instances of this test run: they start
    faster.
    """
    global _page_cache
    if _page_cache is None:
        _page_cache = tempfile.mkdtemp(prefix='zopekit-cache-')
        atexit.register(shutil.rmtree, _page_cache, ignore_errors=True)
    return _page_cache


@atexit.register
def _destroy_all():
    for instance in list(_living):
        instance.destroy()
