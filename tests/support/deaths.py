"""Ways to die for the fault matrix: one Zope that dies many times, and what leads to each death."""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
from pathlib import Path

from Products.StabilityMonitor.postmortem import hangnotes
from Products.StabilityMonitor.store import blackboxreader
from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.store.rundirectory import CONTEXT
from Products.StabilityMonitor.store.rundirectory import mark_name
from Products.StabilityMonitor.store.rundirectory import read_json
from Products.StabilityMonitor.store.rundirectory import write_whole
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

PRODUCTS = Path(__file__).resolve().parent.parent / 'products'
PATIENCE = 60


@dataclasses.dataclass(frozen=True)
class Setting:
    """The settings of a Zope; `env` and `options` are pairs."""

    stderr: str = 'file'
    prefix: tuple = ()
    env: tuple = ()
    options: tuple = (('sample-interval', '100ms'),)


USUAL = Setting()
STALLING = Setting(options=(('sample-interval', '100ms'), ('stall', '1s')))
NOHUP = Setting(prefix=('nohup',))
EARLY, LATE = Setting(env=(('USR1', 'EarlyPackage'),)), Setting(env=(('USR1', 'ZlatePackage'),))
PID_1 = Setting(prefix=('unshare', '--pid', '--fork', '--mount-proc', '--kill-child'))
OFF = Setting(env=(('STABILITYMONITOR_ENABLED', 'off'),))


def unlucky(how, **env):
    return Setting(env=(('UNLUCKY', how), *env.items()))


class Site(ZopeInstance):
    """One instance whose processes die one after the other; `setting` is that of the last start."""

    prefix = ()
    setting = None

    def command(self):
        return [*self.prefix, *super().command()]

    def create(self):
        super().create()
        self.publish((PRODUCTS / 'ways_to_die.py').read_text())
        self.publish((PRODUCTS / 'diving.py').read_text(), 'TestDiving')
        self.pipe.exists() or os.mkfifo(self.pipe)
        for name in ('EarlyPackage', 'ZlatePackage'):
            self.publish((PRODUCTS / 'handler_of_usr1.py').read_text(), name)
        product = self.products_dir / 'Products' / 'Unlucky'
        product.mkdir(exist_ok=True)
        (product / '__init__.py').write_text((PRODUCTS / 'unlucky.py').read_text())
        return self

    def run_as(self, setting, wait=True):
        """Start it with this setting, unless it already runs with it."""
        if not (self.running and self.setting == setting):
            self.stop()
            self.setting, self.stderr, self.prefix = setting, setting.stderr, setting.prefix
            self.env, self.options = dict(setting.env), dict(setting.options)
            self.configure().start(wait=wait)
        return self

    @property
    def process_id(self):
        """The process id of Zope itself, also when a prefix such as `unshare` forks."""
        if self.prefix[:1] != ('unshare',):
            return self.pid
        return int(Path(f'/proc/{self.pid}/task/{self.pid}/children').read_text())

    def signal(self, name):
        os.kill(self.process_id, getattr(signal, name))

    @property
    def run_directory(self):
        """The directory of the one run that lives or waits to be judged."""
        (run,) = (
            path for path in (self.stability / 'runs').iterdir() if not path.name.startswith('.')
        )
        return run

    def recording(self):
        return blackboxreader.read((self.run_directory / BLACKBOX).read_bytes())

    @property
    def pipe(self):
        return self.home / 'go-on'

    def archived(self):
        return {path.parent.name for path in (self.stability / 'archive').glob('*/incident.json')}

    def previous(self):
        """Return the last run, from the report of the running process."""
        return self.report()['previous']


# -- before the end --------------------------------------------------------------------------------


def in_flight(*paths):
    """Start these requests, which last."""

    def before(site):
        for path in paths:
            site.background(path)
        wait_for(
            lambda: sorted(r.path for r in site.recording().in_flight) == sorted(paths),
            PATIENCE,
            paths,
        )

    return before


def all_wait_for_a_lock(site):
    for _ in range(site.threads):
        site.background('/wait')
    wait_for(
        lambda: (
            (last := site.recording().last_sample)
            and last.overdue >= last.workers == site.threads
            and hangnotes.lasting(site.recording().notes)
        ),
        PATIENCE,
        'all workers overdue, and a note of that',
    )


def c_code_holds_the_gil(site):
    site.background('/hold_gil')
    mark = site.run_directory / mark_name('watchdog')
    wait_for(lambda: mark.read_bytes().strip(b'\0'), PATIENCE, "the watchdog's mark")


def survived(name, mark=None):
    """Send a signal that does not kill; if it leaves a mark, wait until the heartbeat notes that it
    was survived.
    """

    def before(site):
        site.signal(name)
        if mark:
            wait_for(lambda: site.recording().survived[mark], PATIENCE, f'{mark} survived')
        assert site.get('/clock').status == 200

    return before


def a_child_died(number):
    def before(site):
        assert int(site.get(f'/fork_and_die?number={number}').text) & 0x7F == number

    return before


def a_child_had_a_fatal_error(site):
    """Fork a child in the main thread: its fatal error names the same thread and goes to the same
    stderr, but the parent survives.
    """
    assert int(site.get('/fork_in_main').text) & 0x7F == 6
    size = site.stderr_path.stat().st_size
    wait_for(
        lambda: [s.stderr_size >= size for s in site.recording().samples][-3:] == [True] * 3,
        PATIENCE,
        'samples',
    )


def dived(path, *shares):
    """Recurse to these shares of the stack; the gauge must see each one before the recursion
    continues.
    """

    def before(site):
        site.background(path)
        for number, share in enumerate(shares):
            if number:
                go_on(site)
            wait_for(
                functools.partial(_has_been_deep, site, share), PATIENCE, f'{share} of the stack'
            )

    return before


def _has_been_deep(site, share):
    return any(s.stack_used >= share * s.stack_size > 0 for s in site.recording().threads.values())


# -- how it ends -----------------------------------------------------------------------------------


def page(path):
    return lambda site: site.crash(path)


def by(name):
    return lambda site: site.signal(name)


def go_on(site):
    site.pipe.write_text('')


def reboot(site):
    """Kill it, and make its run look like one of an earlier boot."""
    site.signal('SIGKILL')
    site.wait_exit()
    context = read_json(site.run_directory / CONTEXT)
    context['identity']['boot_id'] = '00000000-0000-4000-8000-000000000000'
    write_whole(site.run_directory / CONTEXT, json.dumps(context))


# -- trouble during the start ----------------------------------------------------------------------


def no_trouble(site):
    return contextlib.nullcontext()


@contextlib.contextmanager
def bad_zcml(site):
    zcml = site.home / 'etc' / 'site.zcml'
    good = zcml.read_text()
    zcml.write_text(good.replace('<configure', '<configure><nonsense/>', 1))
    try:
        yield
    finally:
        zcml.write_text(good)


@contextlib.contextmanager
def locked_database(site):
    import zc.lockfile  # comes with Zope; this file is also imported without Zope

    lock = zc.lockfile.LockFile(str(site.client_home / 'Data.fs.lock'))
    try:
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def port_in_use(site):
    with socket.create_server(('127.0.0.1', site.port)):
        yield


# -- memory ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def memory_cgroup(size):
    """Make a memory cgroup with a limit of `size` bytes; raises OSError where that is not
    possible.
    """
    v1 = Path('/sys/fs/cgroup/memory')
    version_1 = (v1 / 'memory.limit_in_bytes').exists()
    group = (v1 if version_1 else Path('/sys/fs/cgroup')) / f'stabilitymonitor-test-{os.getpid()}'
    group.mkdir()
    try:
        (group / ('memory.limit_in_bytes' if version_1 else 'memory.max')).write_text(str(size))
        yield group
    finally:
        wait_for(lambda: not (group / 'cgroup.procs').read_text(), PATIENCE, 'the empty group')
        group.rmdir()


def inside(group, setting):
    return dataclasses.replace(
        setting, prefix=('sh', '-c', f'echo $$ > {group}/cgroup.procs && exec "$@"', 'sh')
    )


def all_wait_and_a_thread_is_hungry(site):
    site.get(f'/eat_memory_later?sign={_sign(site)}')
    all_wait_for_a_lock(site)


def let_it_eat(site):
    _sign(site).touch()


def _sign(site):
    return site.home / 'eat'
