"""The product does not change what a signal does to a site.

Two real Zopes, one of them with the option `enabled off`, get the same treatment.  What a site does
with signals in its own products, what threads and children inherit, and how processes end must not
differ.  A pair that has survived serves the next test with the same setting.
"""

import contextlib
import dataclasses
import functools
import http.client
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.deaths import OFF
from support.deaths import PATIENCE
from support.deaths import PRODUCTS
from support.deaths import Site
from support.zopekit import CHECKOUT
from support.zopekit import wait_for

import Products.StabilityMonitor

pytestmark = pytest.mark.zope

#: Names of products that Zope imports before and after StabilityMonitor.
EARLY = 'AEarly'
LATE = 'ZLate'
POSITIONS = (EARLY, LATE)
NOHUP = ('nohup',)
TAB = '/Control_Panel/StabilityMonitor/'
OWN_THREAD = 'StabilityMonitor'
HEARTBEAT = 'StabilityMonitor heartbeat'
LOGGING = 'StabilityMonitor log'

#: Bytes: core files are cut at this size, since the tests only need to know that one was written.
CORE_SIZE = 1 << 20
#: This many signals are sent to a site that waits for them.
OFTEN = 20
#: Seconds in which a surviving site must handle a signal.
GRACE = 10
SURVIVED = 'survived'

#: Faults, which no thread may block: the kernel sends them to the thread that caused them.
SYNCHRONOUS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
}
#: The kernel does not allow to block these.
UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}
#: The product may catch these, and real-time signals from FIRST_OWN on.
MAY_BE_CAUGHT = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGXCPU,
}
FIRST_OWN = signal.SIGRTMIN + 7
#: glibc blocks these while it starts a thread; posix_spawn leaves them ignored in the child.
BY_GLIBC = {32, 33}
#: Each Python ignores these from its start on.
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
#: Real-time signals that the product never uses.
REAL_TIME = {
    signal.SIGRTMIN,
    signal.SIGRTMIN + 6,
    signal.SIGRTMAX,
}
#: Signals that do not end a process by default: they stop or continue it, or are ignored.
_HARMLESS = {
    signal.SIGSTOP,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCONT,
    signal.SIGCHLD,
    signal.SIGURG,
    signal.SIGWINCH,
}
ENDING = sorted({n for n in signal.valid_signals() if n < signal.SIGRTMIN} - _HARMLESS | REAL_TIME)
CATCHABLE = [number for number in ENDING if number not in UNBLOCKABLE]
WAITED_FOR = [number for number in CATCHABLE if number not in SYNCHRONOUS]
#: `faulthandler.register` accepts these; a site that dumps its stacks on them survives them.
REGISTERED = [
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGXCPU,
]


def name_of(number):
    """Return a name such as 'SIGTERM' or 'SIGRTMIN+7'."""
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f'SIGRTMIN+{number - signal.SIGRTMIN}'
    if number in BY_GLIBC:
        return f'signal {number} of glibc'
    return signal.Signals(number).name


def names_of(numbers):
    return sorted(map(name_of, numbers))


# -- two sites -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setting:
    """How both sites run: the program that starts them, and what their own product does with
    signals.
    """

    id: str
    prefix: tuple = ()
    product: str = ''
    deed: str = ''
    numbers: tuple = ()

    @property
    def env(self):
        return {
            'SIGNAL_PRODUCT': self.product,
            'SIGNAL_DEED': self.deed,
            'SIGNALS': ' '.join(str(int(number)) for number in self.numbers),
        }

    @property
    def counts(self):
        """Whether the product of the site counts the signals."""
        return self.deed in ('wait', 'count')


def site_that(deed, product, numbers):
    what = name_of(numbers[0]) if len(numbers) == 1 else 'all'
    return Setting(f'{product} {deed} {what}', (), product, deed, tuple(numbers))


PLAIN = Setting('plain')
UNDER_NOHUP = Setting('nohup', NOHUP)
#: The program that starts Zope blocks signals, as some supervisors do.
_START_BLOCKED = (
    'import os, signal, sys;'
    'signal.pthread_sigmask(signal.SIG_BLOCK, map(int, sys.argv[1].split()));'
    'os.execvp(sys.argv[2], sys.argv[2:])'
)
BORN_BLOCKED = Setting(
    'born with signals blocked',
    (sys.executable, '-c', _START_BLOCKED, ' '.join(str(int(number)) for number in WAITED_FOR)),
)


class SignalSite(Site):
    """A site with pages about signals; it also reports how its process ended."""

    is_on = True

    def create(self):
        super().create()
        self.publish((PRODUCTS / 'signal_pages.py').read_text(), 'SignalPages')
        for name in POSITIONS:
            product = self.products_dir / 'Products' / name
            product.mkdir(exist_ok=True)
            (product / '__init__.py').write_text((PRODUCTS / 'signals_of_a_site.py').read_text())
        return self

    def begin(self, setting):
        """Start it, unless it already runs with this setting; `ready` waits for it."""
        if self.running and self.setting == setting:
            return
        self.destroy()
        self.setting = setting
        self.prefix = setting.prefix
        self.env = setting.env if self.is_on else setting.env | dict(OFF.env)
        self.configure().start(wait=False)
        hard = resource.prlimit(self.pid, resource.RLIMIT_CORE)[1]
        soft = CORE_SIZE if hard == resource.RLIM_INFINITY else min(CORE_SIZE, hard)
        resource.prlimit(self.pid, resource.RLIMIT_CORE, (soft, hard))

    def ready(self):
        """Wait until it answers and the watchdog of the product is there."""
        self.wait_ready()
        if self.is_on:
            wait_for(self.watchdogs, PATIENCE, 'the watchdog')
        return self

    # What it reports

    def status(self, field, native_id=None):
        """Return the signals in a line of /proc/<pid>/task/<id>/status; by default of
        MainThread.
        """
        path = Path(f'/proc/{self.pid}/task/{native_id or self.pid}/status')
        return signals_in(path.read_text(), field)

    def blocked(self, native_id):
        """Return the signals that a thread blocks, read while it starts no other thread."""

        def blocked():
            found = self.status('SigBlk', native_id)
            return [found] if not found & BY_GLIBC else []

        (found,) = wait_for(blocked, PATIENCE, 'a thread that starts no other thread')
        return found

    def watchdogs(self):
        """Return the real-time signals that have a handler."""
        return {number for number in self.status('SigCgt') if number >= FIRST_OWN}

    def native_threads(self):
        """Return [(name, native id)] of the threads that Python knows."""
        return [(name, number) for name, number in self.get('/native_threads').json() if number]

    def blocked_by_thread(self):
        """Return [(name, blocked signals)] of the threads that still live."""
        found = []
        for name, native_id in self.native_threads():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append((name, self.blocked(native_id)))
        return found

    def taken(self, number):
        """Return how many of these signals its own product has received."""
        return self.get('/taken').json().get(str(int(number)), 0)

    # How it ends

    def ended(self):
        """Return how it ended, or '' while it lives; the exit status can still be read
        afterwards.
        """
        left = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if left is None:
            return ''
        if left.si_code == os.CLD_EXITED:
            return f'exited {left.si_status}'
        core = ', core dumped' if left.si_code == os.CLD_DUMPED else ''
        return f'killed by {name_of(left.si_status)}{core}'

    def outcome(self):
        """Return how it ended, or SURVIVED if it answers after all threads have handled what was
        sent.
        """
        wait_for(lambda: self.ended() or self._is_settled(), PATIENCE, 'the end of all signals')
        for _ in range(2):
            # A new connection: the main thread has accepted it, and so has run its Python handlers.
            if self.ended() or not self._answers_clock():
                return wait_for(self.ended, PATIENCE, 'the end')
        return self.ended() or SURVIVED

    def _answers_clock(self):
        try:
            return self.get('/clock').status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _is_settled(self):
        """Return whether no signal is pending, except those that all threads block."""
        pending, open_to = set(), set()
        try:
            for native_id in os.listdir(f'/proc/{self.pid}/task'):
                pending |= self.status('SigPnd', native_id) | self.status('ShdPnd', native_id)
                open_to |= signal.valid_signals() - self.status('SigBlk', native_id)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return not pending & open_to

    def remove_cores(self):
        for core in self.home.glob('core*'):
            core.unlink()


def signals_in(text, field):
    """Return the signal numbers of a line such as "SigBlk:" in the status of a process."""
    mask = int(re.search(rf'^{field}:\s*([0-9a-f]+)', text, re.M)[1], 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}


class Pair:
    """A site without the product and one with it, treated alike."""

    def __init__(self, folder):
        self.off = SignalSite(folder / 'off')
        self.off.is_on = False
        self.on = SignalSite(folder / 'on', options={'sample-interval': '100ms'})
        for site in (self.off, self.on):
            site.create()

    def run_as(self, setting):
        for site in (self.off, self.on):
            site.begin(setting)
        for site in (self.off, self.on):
            site.ready()
        return self

    def ask(self, question):
        """Return (answer without the product, answer with it)."""
        return question(self.off), question(self.on)

    def destroy(self):
        for site in (self.off, self.on):
            site.destroy()


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp('pair'))
    yield pair
    pair.destroy()


def test_both_sites_run_this_checkout(pair):
    wanted = CHECKOUT / 'Products' / 'StabilityMonitor' / '__init__.py'
    pair.run_as(PLAIN)
    assert Path(Products.StabilityMonitor.__file__) == wanted
    assert pair.ask(lambda site: Path(site.get('/module_file').text)) == (wanted, wanted)


# -- signals that a site handles itself ------------------------------------------------------------


def send_often(number, site):
    """Send the signal OFTEN times from outside, each time after the previous one was counted."""
    for count in range(1, OFTEN + 1):
        before = site.taken(number)
        os.kill(site.pid, number)
        said = site.outcome()
        if said != SURVIVED:
            return f'{said} by signal {count}'
        if not is_counted(site, number, before):
            return f'survived, but signal {count} was lost'
    return f'survived {OFTEN}'


def is_counted(site, number, before):
    with contextlib.suppress(AssertionError):
        return wait_for(lambda: site.taken(number) > before, GRACE)
    return False


def assert_it_takes_all(pair, setting):
    (number,) = setting.numbers
    without, with_product = pair.run_as(setting).ask(functools.partial(send_often, number))
    assert without == f'survived {OFTEN}'
    assert with_product == without


@pytest.mark.parametrize('product', [EARLY, pytest.param(LATE, marks=pytest.mark.sweep)])
class TestASiteThatWaitsForASignalSurvivesIt:
    def test_a_site_that_waits_for_sighup_survives_it(self, pair, product):
        assert_it_takes_all(pair, site_that('wait', product, [signal.SIGHUP]))

    def test_a_site_that_waits_for_sigterm_survives_it(self, pair, product):
        assert_it_takes_all(pair, site_that('wait', product, [signal.SIGTERM]))

    @pytest.mark.sweep
    def test_a_site_that_waits_for_sigusr1_survives_it(self, pair, product):
        assert_it_takes_all(pair, site_that('wait', product, [signal.SIGUSR1]))

    @pytest.mark.sweep
    def test_a_site_that_waits_for_sigusr2_survives_it(self, pair, product):
        assert_it_takes_all(pair, site_that('wait', product, [signal.SIGUSR2]))

    @pytest.mark.sweep
    def test_a_site_that_waits_for_sigalrm_survives_it(self, pair, product):
        assert_it_takes_all(pair, site_that('wait', product, [signal.SIGALRM]))

    def test_a_site_that_waits_for_a_real_time_signal_takes_all_of_them(self, pair, product):
        """The signal is the one that the product would choose for its watchdog."""
        setting = site_that('wait', product, [FIRST_OWN])
        assert_it_takes_all(pair, setting)
        assert FIRST_OWN not in pair.on.watchdogs()


# -- inherited signal masks, and handlers that Python knows ----------------------------------------

ASKED = (
    PLAIN,
    UNDER_NOHUP,
    BORN_BLOCKED,
    site_that('wait', EARLY, [signal.SIGHUP]),
    site_that('wait', LATE, [signal.SIGHUP]),
    site_that('ignore', EARLY, [signal.SIGUSR1]),
    site_that('ignore', LATE, [signal.SIGUSR1]),
    site_that('count', EARLY, CATCHABLE),
    site_that('count', LATE, CATCHABLE),
)
CHILDREN = (
    'child_by_popen',
    'child_by_popen_as_it_is',
    'child_by_posix_spawn',
    'child_by_fork',
)


def blocked_by_its_threads(site):
    """Return the blocked signals of the threads that Zope has without the product too."""
    return {
        name: names_of(blocked)
        for name, blocked in site.blocked_by_thread()
        if name.startswith(('MainThread', 'waitress'))
    }


def inherited(page, site):
    status = site.get(f'/{page}').text
    return {field: names_of(signals_in(status, field)) for field in ('SigBlk', 'SigIgn')}


def grouped(settings):
    return [
        pytest.param(
            setting,
            id=setting.id,
            marks=[
                pytest.mark.xdist_group(setting.id),
                *([pytest.mark.sweep] if setting.product == LATE else []),
            ],
        )
        for setting in settings
    ]


@pytest.fixture(scope='module', params=grouped(ASKED))
def asked(pair, request):
    return pair.run_as(request.param)


class TestNothingIsInheritedFromTheProduct:
    def test_the_threads_of_the_site_block_the_same_signals(self, asked):
        without, with_product = asked.ask(blocked_by_its_threads)
        assert {'MainThread', 'waitress-0', 'waitress-3'} <= without.keys()
        assert with_product == without

    def test_the_site_ignores_the_same_signals(self, asked):
        without, with_product = asked.ask(lambda site: names_of(site.status('SigIgn')))
        assert with_product == without

    @pytest.mark.parametrize('page', CHILDREN)
    def test_a_child_of_a_page_blocks_and_ignores_the_same_signals(self, asked, page):
        without, with_product = asked.ask(functools.partial(inherited, page))
        assert with_product == without

    def test_python_reports_the_same_handlers(self, asked):
        without, with_product = asked.ask(lambda site: site.get('/handlers').json())
        assert len(without) == len(signal.valid_signals())
        assert with_product == without

    def test_only_the_documented_signals_are_caught(self, asked):
        without, with_product = asked.ask(lambda site: site.status('SigCgt'))
        assert names_of(without - with_product) == []
        added = with_product - without
        own = {number for number in added if number >= FIRST_OWN}
        assert names_of(added - own - MAY_BE_CAUGHT) == []
        assert own


# -- how it ends -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ending:
    """A signal or page that may end a site; `wanted` is the beginning of its outcome without the
    product.
    """

    id: str
    setting: Setting
    wanted: str
    number: int = 0
    page: str = ''

    def of(self, site):
        before = site.taken(self.number) if self.setting.counts else 0
        if self.page:
            with contextlib.suppress(OSError, http.client.HTTPException):
                site.get(self.page)
        else:
            os.kill(site.pid, self.number)
        said = site.outcome()
        if said == SURVIVED and self.setting.counts and not is_counted(site, self.number, before):
            said = f'{SURVIVED}, but the site did not take it'
        site.remove_cores()
        return said


def sent(setting, numbers, wanted=''):
    """Return endings by signals from outside; `wanted` is the default action of the signal if not
    given.
    """
    found = []
    for number in numbers:
        id = f'{setting.id}: {name_of(number)}'
        found.append(Ending(id, setting, wanted or by_default(number), number))
    return found


def by_default(number):
    """Return the outcome in a Zope: Python ignores two signals, and SIGINT is a clean stop."""
    if number in IGNORED_BY_PYTHON:
        return SURVIVED
    return 'exited 0' if number == signal.SIGINT else f'killed by {name_of(number)}'


#: Each end of a site costs two starts of Zope: the sweep sends the other signals.
USUAL = {
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGINT,
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGALRM,
    signal.SIGRTMIN,
}
USUAL_PAGES = (
    '/leave_with',
    '/exit_in_c',
    '/abort',
    '/segfault_in_native_thread',
    '/overflow_stack',
    '/main_raises',
    '/set_timer',
    '/send_to_main',
)


def page(path, wanted, setting=PLAIN):
    return Ending(f'{setting.id}: {path}', setting, wanted, page=path)


def by_a_site_that(deed, numbers, wanted, positions=POSITIONS):
    """Return endings of sites whose own product does `deed` with all of these signals."""
    found = []
    for product in positions:
        found += sent(site_that(deed, product, numbers), numbers, wanted)
    return found


SURVIVED_UNDER_NOHUP = sent(UNDER_NOHUP, [signal.SIGHUP, signal.SIGPIPE], SURVIVED)
FATAL_UNDER_NOHUP = sent(
    UNDER_NOHUP,
    [
        signal.SIGTERM,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGINT,
    ],
)
LEFT = [
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGSEGV,
]
PAGES = [
    page('/leave_with?status=3', 'exited 3'),
    page('/exit_in_c', 'exited 6'),
    page('/abort', 'killed by SIGABRT'),
    page('/fatal_error', 'killed by SIGABRT'),
    page('/segfault', 'killed by SIGSEGV'),
    page('/segfault_in_main', 'killed by SIGSEGV'),
    page('/segfault_in_native_thread', 'killed by SIGSEGV'),
    page('/overflow_stack', 'killed by SIGSEGV'),
    page('/main_exits', 'exited 0'),
    page('/main_raises', 'exited 1'),
    page('/set_timer', 'killed by SIGALRM'),
    *[
        page(f'/raise_here?number={int(number)}', by_default(number))
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGQUIT, signal.SIGFPE, signal.SIGINT)
    ],
    *[
        page(f'/send_to_main?number={int(number)}', by_default(number))
        for number in (signal.SIGXFSZ, signal.SIGXCPU, signal.SIGBUS, signal.SIGINT)
    ],
    *[
        page(f'/send_to_process?number={int(number)}', by_default(number))
        for number in (signal.SIGUSR2, signal.SIGILL)
    ],
]
ENDINGS = (
    *sent(PLAIN, sorted(CATCHABLE, key=lambda number: number not in IGNORED_BY_PYTHON)),
    *sent(PLAIN, [signal.SIGKILL]),
    *PAGES,
    *SURVIVED_UNDER_NOHUP,
    *FATAL_UNDER_NOHUP,
    *by_a_site_that('ignore', CATCHABLE, SURVIVED),
    *by_a_site_that('count', CATCHABLE, SURVIVED),
    *by_a_site_that('dump', REGISTERED, SURVIVED),
    *by_a_site_that('wait', WAITED_FOR, SURVIVED),
    *by_a_site_that('block', WAITED_FOR, SURVIVED, [EARLY]),
    *by_a_site_that('leave', LEFT, 'exited 7'),
)


def as_parameter(ending):
    """Return a parameter; endings that the site survives run in one process, which uses the same
    pair.
    """
    if ending.wanted == SURVIVED:
        marks = [pytest.mark.xdist_group(ending.setting.id)]
        marks += [pytest.mark.sweep] if ending.setting.product == LATE else []
    else:
        is_usual = ending.page.startswith(USUAL_PAGES) if ending.page else ending.number in USUAL
        marks = [] if is_usual and ending.setting.product != LATE else [pytest.mark.sweep]
    return pytest.param(ending, id=ending.id, marks=marks)


@pytest.mark.parametrize('ending', [as_parameter(ending) for ending in ENDINGS])
def test_the_site_ends_as_without_the_product(pair, ending):
    without, with_product = pair.run_as(ending.setting).ask(ending.of)
    assert without.startswith(ending.wanted)
    assert with_product in {without, *if_the_dump_crashes(ending, without)}


#: Signals of a crash except SIGSEGV: faulthandler dumps the stacks of all threads on them.
CRASH_SIGNALS = ('SIGILL', 'SIGFPE', 'SIGBUS', 'SIGABRT')


def if_the_dump_crashes(ending, without):
    """Yield another possible outcome of a healthy process that gets the signal of a crash.

    Its threads continue to run while faulthandler reads their stacks, and the dump can crash (see
    README).  This happened about once in several hundred runs.
    """
    if ending.number or ending.page.startswith(('/send_to_process', '/send_to_main')):
        for name in CRASH_SIGNALS:
            if without.startswith(f'killed by {name}'):
                yield without.replace(name, 'SIGSEGV')
            if without == SURVIVED and ending.number == getattr(signal, name):
                yield from ('killed by SIGSEGV', 'killed by SIGSEGV, core dumped')


def test_at_least_80_endings_are_compared():
    assert len(ENDINGS) >= 80


CHILD_DEATHS = [number for number in CATCHABLE if number not in (signal.SIGINT, *IGNORED_BY_PYTHON)]


@pytest.mark.parametrize('number', CHILD_DEATHS, ids=name_of)
def test_a_forked_child_ends_as_without_the_product(pair, number):
    def status(site):
        said = int(site.get(f'/fork_and_die?number={int(number)}').text)
        site.remove_cores()
        return said

    without, with_product = pair.run_as(PLAIN).ask(status)
    assert os.WTERMSIG(without) == number
    assert with_product == without


# -- the threads of the product --------------------------------------------------------------------

TO_BE_BLOCKED = signal.valid_signals() - UNBLOCKABLE - SYNCHRONOUS
TOOL = """\
#!/bin/sh
cat /proc/self/status > {folder}/status.new
mv {folder}/status.new {folder}/status
while [ ! -e {folder}/go-on ]; do sleep 0.05; done
exit 1
"""
PROBE_PROGRAM = 'recursionprogram.py'


class BusySite(SignalSite):
    """A site that gives the product much to do, with a fake tool for native stacks.

    The product first looks for the tool beside the executable, so this Python has a folder of its
    own.
    """

    def __init__(self, home):
        super().__init__(
            home / 'site',
            options={
                'sample-interval': '100ms',
                'slow-request': '200ms',
                'stall': '1s',
            },
        )
        self.tools = home / 'python' / 'bin'
        self.python = str(own_python(self.tools))

    def create(self):
        for name in ('pystack', 'py-spy'):
            tool = self.tools / name
            tool.write_text(TOOL.format(folder=self.tools))
            tool.chmod(0o755)
        return super().create()

    def let_the_tool_go_on(self):
        (self.tools / 'go-on').touch()

    def status_of_the_tool(self):
        path = self.tools / 'status'
        return path.read_text() if path.exists() else ''

    def press(self, tab, action):
        shown = self.get(f'{TAB}{tab}').text
        fields = dict(re.findall(r'name="(token|run)" value="([^"]+)"', shown))
        assert self.post(f'{TAB}{action}', fields).status == 302

    def checks_go_on(self):
        return 'data-busy' in self.get(f'{TAB}manage_checks').text


def own_python(folder):
    """Link this Python into a folder with nothing else, as in a virtual environment with shared
    packages.
    """
    folder.mkdir(parents=True)
    home = folder.parent
    python = folder / Path(sys.executable).name
    python.symlink_to(sys.executable)
    config = Path(sys.prefix) / 'pyvenv.cfg'
    if config.exists():
        shutil.copy(config, home)
    else:
        own = Path(sys.executable).resolve().parent
        (home / 'pyvenv.cfg').write_text(f'home = {own}\ninclude-system-site-packages = true\n')
    (home / 'lib').symlink_to(Path(sys.prefix) / 'lib')
    return python


def children_of(pid):
    """Return the ids of all child processes, whichever thread started them."""
    found = []
    for path in Path(f'/proc/{pid}/task').glob('*/children'):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, path.read_text().split())
    return found


def statuses_of_probes(pid):
    """Yield the status of each recursion program that already catches faults."""
    for child in children_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if PROBE_PROGRAM in Path(f'/proc/{child}/cmdline').read_text():
                status = Path(f'/proc/{child}/status').read_text()
                starts_a_thread = signals_in(status, 'SigBlk') & BY_GLIBC
                if signal.SIGSEGV in signals_in(status, 'SigCgt') and not starts_a_thread:
                    yield status


def masks(status):
    """Return (blocked signals, ignored signals that Python does not ignore by itself)."""
    ignored = signals_in(status, 'SigIgn') - IGNORED_BY_PYTHON
    return tuple(names_of(signals_in(status, 'SigBlk'))), tuple(names_of(ignored))


@pytest.fixture(scope='module', params=[PLAIN, UNDER_NOHUP], ids=lambda setting: setting.id)
def observed(request, tmp_path_factory):
    """What was seen while the product was busy."""
    site = BusySite(tmp_path_factory.mktemp('busy')).create()
    try:
        site.begin(request.param)
        site.ready()
        yield observe(site)
    finally:
        site.destroy()


@dataclasses.dataclass
class Observed:
    #: {(name of the thread, blocked signals)}
    threads: set
    #: {(blocked signals, ignored signals)}
    probes: set
    #: The status of the tool for native stacks, from /proc.
    tool: str


def observe(site):
    seen = Observed(set(), set(), '')

    def look():
        for name, blocked in site.blocked_by_thread():
            if name.startswith(OWN_THREAD):
                seen.threads.add((name, frozenset(blocked)))
        seen.probes.update(map(masks, statuses_of_probes(site.pid)))

    def is_over():
        look()
        return not site.checks_go_on()

    site.background('/wait')  # a slow request, which the product samples
    wait_for(is_over, PATIENCE, 'the checks')
    site.press('manage_checks', 'manage_run_checks')
    wait_for(is_over, PATIENCE, 'the second run of the checks')
    site.press('manage_threads', 'manage_native_stacks')
    wait_for(lambda: look() or site.status_of_the_tool(), PATIENCE, 'the tool')
    seen.tool = site.status_of_the_tool()
    for path in ('manage_threads', 'stacks', 'report'):
        assert site.get(TAB + path).status == 200
        look()
    site.let_the_tool_go_on()
    site.press('manage_checks', 'manage_recursion_probe')
    wait_for(is_over, PATIENCE, 'the probe')
    return seen


def not_blocked(blocked):
    """Return the signals that are not blocked, without faults and signals that cannot be
    blocked.
    """
    return TO_BE_BLOCKED - blocked


@pytest.mark.slow
@pytest.mark.xdist_group('the busy product')
class TestThreadsAndToolsOfTheProduct:
    def test_its_threads_block_every_signal_except_faults(self, observed):
        """The thread that logs is like MainThread: a log handler may start a process."""
        names = {name for name, _ in observed.threads}
        assert {f'{OWN_THREAD} {name}' for name in ('aside', 'errands', 'native stacks')} <= names
        open_to = {
            name: names_of(not_blocked(blocked))
            for name, blocked in observed.threads
            if name not in (HEARTBEAT, LOGGING) and not_blocked(blocked)
        }
        assert open_to == {}

    def test_its_heartbeat_blocks_every_signal_except_faults_and_its_own(self, observed):
        found = [not_blocked(blocked) for name, blocked in observed.threads if name == HEARTBEAT]
        assert any(found), 'a thread that has just begun blocks its own signal, too'
        for open_to in filter(None, found):
            assert len(open_to) == 1
            assert min(open_to) >= FIRST_OWN

    def test_its_threads_do_not_block_faults(self, observed):
        """Except for the moment in which `subprocess` starts a child: it blocks all signals
        then.
        """
        always = {}
        for name, blocked in observed.threads:
            always[name] = always.get(name, SYNCHRONOUS) & blocked
        assert {name: names_of(faults) for name, faults in always.items() if faults} == {}

    def test_its_recursion_probe_blocks_and_ignores_nothing(self, observed):
        assert observed.probes == {((), ())}

    def test_its_tool_for_native_stacks_blocks_and_ignores_nothing(self, observed):
        assert names_of(signals_in(observed.tool, 'SigBlk')) == []
        assert names_of(signals_in(observed.tool, 'SigIgn')) == []


@pytest.mark.slow
@pytest.mark.parametrize('setting', [PLAIN, UNDER_NOHUP, BORN_BLOCKED], ids=lambda one: one.id)
def test_the_probe_of_the_command_blocks_and_ignores_nothing(tmp_path, setting):
    (tmp_path / 'runs').mkdir()
    command = [
        sys.executable,
        '-m',
        'Products.StabilityMonitor',
        '--directory',
        str(tmp_path),
        'checks',
        '--probe',
    ]
    env = os.environ | {'PYTHONPATH': str(CHECKOUT)}
    with subprocess.Popen(
        [*setting.prefix, *command],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        seen = set()

        def is_over():
            seen.update(map(masks, statuses_of_probes(process.pid)))
            return process.poll() is not None

        wait_for(is_over, PATIENCE, 'the end of the command')
    assert seen == {((), ())}
