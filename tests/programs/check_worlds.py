"""Put this process into one bad state for real, run a check and print its findings.

    python check_worlds.py WORLD [FOLDER]

prints a JSON list of findings.  Each public function is a world; it returns the check and the
fields of its Site.
"""

import ctypes
import faulthandler
import fcntl
import gc
import importlib
import json
import logging
import logging.config
import mmap
import os
import resource
import shutil
import signal
import sys
import threading
import time
import tracemalloc
import types
import urllib.request
from pathlib import Path

from programs.handshake import Ways
from programs.handshake import say
from programs.handshake import until

from Products.StabilityMonitor.checks import breadcrumbs
from Products.StabilityMonitor.checks import clocks
from Products.StabilityMonitor.checks import corefiles
from Products.StabilityMonitor.checks import databases
from Products.StabilityMonitor.checks import endingsignals
from Products.StabilityMonitor.checks import interpreter
from Products.StabilityMonitor.checks import limits
from Products.StabilityMonitor.checks import memory
from Products.StabilityMonitor.checks import outputs
from Products.StabilityMonitor.checks import runner
from Products.StabilityMonitor.checks import software
from Products.StabilityMonitor.checks import supervision
from Products.StabilityMonitor.checks import switches
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.checks.livesite import ZopeFacts
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.recording.faulthandler_compat import FaultLog
from Products.StabilityMonitor.system import cgroups
from Products.StabilityMonitor.system import runcontext
from Products.StabilityMonitor.system import stacksizes
from Products.StabilityMonitor.system import vitalsigns

KEPT = []


# -- the interpreter and its memory ----------------------------------------------------------------


def small_stack(folder):
    threading.stack_size(128 << 10)
    found = []
    thread = threading.Thread(target=lambda: found.append(stacksizes.own_stack()))
    thread.start()
    thread.join()
    threading.stack_size(0)
    return interpreter.ThreadStacks, {'stack': found[0]}


def high_recursion_limit(folder):
    """Set a limit that is too high for this stack with each Python."""
    resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, 4 << 20))
    sys.setrecursionlimit(100_000)
    return interpreter.RecursionLimit, {}


def raised_recursion_limit(folder):
    """Set a limit of 3,000: no Python needs more than 13 MiB for it."""
    resource.setrlimit(
        resource.RLIMIT_STACK, (16 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1])
    )
    sys.setrecursionlimit(3000)
    return interpreter.RecursionLimit, {}


def gc_off(folder):
    gc.disable()
    return memory.Collector, {}


def gc_threshold_zero(folder):
    gc.set_threshold(0)
    return memory.Collector, {}


def gc_saves_all(folder):
    gc.set_debug(gc.DEBUG_SAVEALL)
    return memory.Collector, {}


def gc_frozen(folder):
    KEPT.extend([] for _ in range(5000))
    gc.freeze()
    return memory.Collector, {}


def plain_gc(folder):
    return memory.Collector, {}


def allocator(folder):
    return memory.Allocator, {}


def little_address_space(folder):
    size = next(
        int(line.split()[1]) << 10
        for line in open('/proc/self/status')
        if line.startswith('VmSize')
    )
    resource.setrlimit(resource.RLIMIT_AS, (int(size * 1.18), resource.RLIM_INFINITY))
    return memory.Limit, {}


def little_cgroup(folder):
    """Use most of the memory cgroup `folder`, which has a limit of 64 MiB; page cache does not
    count.
    """
    Path(folder, 'cgroup.procs').write_text(str(os.getpid()))
    KEPT.append(mmap.mmap(-1, 54 << 20))
    for _ in range(54):
        KEPT[0].write(b'x' * (1 << 20))
    return memory.Limit, {'context': {'cgroup': cgroups.find()}}


def cached_cgroup(folder):
    """Fill the memory cgroup with the pages of a file that was read twice: the kernel drops them
    when it needs room.
    """
    Path(folder, 'cgroup.procs').write_text(str(os.getpid()))
    with open(sys.argv[3], 'wb') as file:
        for _ in range(56):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    for _ in range(2):  # pages count as active from the second read on
        with open(sys.argv[3], 'rb') as file:
            while file.read(1 << 20):
                pass
    return memory.Limit, {'context': {'cgroup': cgroups.find()}}


# -- limits ----------------------------------------------------------------------------------------


def few_descriptors(folder, hard=64):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    while len(os.listdir('/proc/self/fd')) < 62:
        KEPT.append(os.open('/dev/null', os.O_RDONLY))
    return limits.Descriptors, {}


def few_descriptors_and_more_to_have(folder):
    return few_descriptors(folder, 1000)


def near_the_end_of_select(folder, poll=False):
    """Run a waitress that has answered a request, and open a high descriptor."""
    import waitress

    resource.setrlimit(
        resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    server = waitress.create_server(
        _answer, listen='127.0.0.1:0', threads=1, asyncore_use_poll=poll
    )
    threading.Thread(target=server.run, daemon=True).start()
    assert urllib.request.urlopen(f'http://127.0.0.1:{server.effective_port}/').read() == b'answer'
    KEPT.append(fcntl.fcntl(0, fcntl.F_DUPFD, 1000))
    return limits.Descriptors, {}


def _answer(environ, start_response):
    start_response('200 OK', [('Content-Length', '6')])
    return [b'answer']


def beyond_the_end_of_select(folder):
    return near_the_end_of_select(folder, poll=True)


def _core_pattern(folder, pattern, limit=1 << 20):
    """Return a fake /proc with this pattern; the real pattern is for all processes of the machine
    and stays as it is.
    """
    file = Path(folder, 'proc/sys/kernel/core_pattern')
    file.parent.mkdir(parents=True)
    file.write_text(pattern + '\n')
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    return corefiles.CoreFiles, {'proc': Path(folder, 'proc')}


def no_core_files(folder):
    return _core_pattern(folder, 'core', 0)


def core_files_for_false(folder):
    return _core_pattern(folder, '|/bin/false')


def core_files_for_nobody(folder):
    return _core_pattern(folder, f'|{folder}/missing %p %u')


def core_files_for_a_program(folder):
    return _core_pattern(folder, f'|{sys.executable} %p')


def core_files_for_a_program_without_limit(folder):
    return _core_pattern(folder, f'|{sys.executable} %p', 0)


def core_files_without_a_place(folder):
    return _core_pattern(folder, f'{folder}/missing/core.%p')


def not_dumpable(folder):
    """Make this process not dumpable, as it is after a change of user."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    return _core_pattern(folder, 'core')


def core_files(folder):
    """Use the core pattern of this machine."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    os.chdir(folder)
    return corefiles.CoreFiles, {}


# -- outputs ---------------------------------------------------------------------------------------


def full_pipe(folder):
    KEPT[:] = reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b'x' * 4096)
    except BlockingIOError:
        pass
    return outputs.StandardOutputs, {'outputs': {'standard error': writer}}


def two_full_pipes(folder):
    """The check must look at both at the same time, since each check has only a second."""
    check, _ = full_pipe(folder)
    slept, one = [], KEPT[1]
    _, site = full_pipe(folder)
    outputs.time = types.SimpleNamespace(
        sleep=lambda time: slept.append(time) or sum(slept) > 0.6 and os._exit(3)
    )
    return check, {'outputs': {'standard output': one, **site['outputs']}}


def busy_pipe(folder):
    """The pipe is full, but it is read while the check looks: at each pause of the check a reader
    has read.
    """
    check, site = full_pipe(folder)
    outputs.time = types.SimpleNamespace(sleep=lambda seconds: os.read(KEPT[0], 4096))
    return check, site


def pipe(folder):
    KEPT[:] = os.pipe()
    return outputs.StandardOutputs, {'outputs': {'standard error': KEPT[1]}}


def pipe_without_reader(folder):
    check, site = pipe(folder)
    os.close(KEPT[0])
    return check, site


def full_socket(folder):
    import socket

    KEPT[:] = socket.socketpair()
    KEPT[1].setblocking(False)
    try:
        while True:
            KEPT[1].send(b'x' * 4096)
    except BlockingIOError:
        pass
    return outputs.StandardOutputs, {'outputs': {'standard error': KEPT[1].fileno()}}


def terminal(folder):
    KEPT[:] = os.openpty()
    return outputs.StandardOutputs, {'outputs': {'standard output': KEPT[1]}}


def controlling_terminal(folder, handler=signal.SIG_DFL):
    """The first terminal that the leader of a session opens becomes its controlling terminal;
    output goes elsewhere.
    """
    signal.signal(signal.SIGHUP, handler)
    KEPT[:] = os.openpty()
    KEPT.append(os.open(os.ttyname(KEPT[1]), os.O_RDWR))
    KEPT.append(os.open('/dev/null', os.O_WRONLY))
    return outputs.StandardOutputs, {'outputs': {'standard output': KEPT[3]}}


def controlling_terminal_under_nohup(folder):
    return controlling_terminal(folder, signal.SIG_IGN)


def closed_error(folder):
    os.close(2)
    return outputs.StandardOutputs, {}


def deleted_file(folder):
    path = Path(folder, 'stdout.log')
    KEPT.append(path.open('wb'))
    path.unlink()
    return outputs.StandardOutputs, {'outputs': {'standard output': KEPT[0].fileno()}}


def own_outputs(folder):
    return outputs.StandardOutputs, {}


def no_log(folder):
    return outputs.EventLog, {}


def log_file(folder, kind=logging.FileHandler):
    KEPT.append(kind(os.path.join(folder, 'event.log')))
    logging.getLogger().addHandler(KEPT[0])
    logging.warning('opened')
    return outputs.EventLog, {}


def renamed_log(folder):
    check, site = log_file(folder)
    os.rename(KEPT[0].baseFilename, KEPT[0].baseFilename + '.1')
    return check, site


def renamed_and_watched_log(folder):
    from logging.handlers import WatchedFileHandler

    check, site = log_file(folder, WatchedFileHandler)
    os.rename(KEPT[0].baseFilename, KEPT[0].baseFilename + '.1')
    return check, site


def closed_log(folder):
    check, site = log_file(folder)
    KEPT[0].stream.close()
    return check, site


def log_of_errors_only(folder):
    check, site = log_file(folder)
    logging.getLogger().setLevel(logging.ERROR)
    return check, site


def disabled_log(folder):
    check, site = log_file(folder)
    logging.disable(logging.CRITICAL)
    return check, site


def log_to_null(folder):
    os.dup2(os.open('/dev/null', os.O_WRONLY), 2)
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
    return outputs.EventLog, {}


def configured_log(folder):
    """Configure logging from zope.ini, as the server does."""
    logging.config.fileConfig(os.path.join(folder, 'zope.ini'))
    logging.warning('configured')
    return outputs.EventLog, {'zope': ZopeFacts(client_home=folder)}


# -- places ----------------------------------------------------------------------------------------


def place(folder):
    return breadcrumbs.Place, {}


def room(folder):
    return breadcrumbs.Room, {}


# -- signals and faulthandler ----------------------------------------------------------------------


def fault_log(folder):
    KEPT.append(FaultLog(Path(folder)))
    return endingsignals.FaultHandler, {'fault_log': KEPT[0]}


def fault_log_disabled(folder):
    check, site = fault_log(folder)
    faulthandler.disable()
    return check, site


def fault_log_redirected(folder):
    check, site = fault_log(folder)
    faulthandler.enable(sys.stderr)
    KEPT.append(types.ModuleType('culprit'))
    KEPT[1].faulthandler = faulthandler
    sys.modules['culprit'] = KEPT[1]
    return check, site


def fault_log_closed(folder):
    check, site = fault_log(folder)
    os.close(KEPT[0].file.descriptor)
    return check, site


def _as_usual():
    """Set the default actions, as in a process that was not started with nohup."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def default_signals(folder):
    _as_usual()
    return endingsignals.KillingSignals, {}


def ignored_signals(folder):
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return endingsignals.KillingSignals, {}


def marked_signals(folder):
    """The product's own C handler notes the signals and continues with the default action, so they
    still kill.
    """
    from Products.StabilityMonitor.recording.faulthandler_compat import SignalMarks

    _as_usual()
    KEPT.append(SignalMarks(Path(folder)))
    return endingsignals.KillingSignals, {'marked': frozenset(KEPT[0].files)}


def foreign_signal(folder):
    """A C handler of other code, without chain: SIGUSR1 does not kill."""
    _as_usual()
    faulthandler.register(signal.SIGUSR1, file=sys.stderr)
    return endingsignals.KillingSignals, {}


def stop_signal(folder):
    """As it is: `unshare` makes this process pid 1."""
    return endingsignals.StopSignal, {}


def usual_stop_signal(folder):
    """Below no shell, whatever is pid 1 where the tests run."""
    return endingsignals.StopSignal, {'parent': 0}


def marked_stop_signal(folder):
    """Our own C handler notes SIGTERM and continues with the default action."""
    from Products.StabilityMonitor.recording.faulthandler_compat import SignalMarks

    KEPT.append(SignalMarks(Path(folder)))
    return endingsignals.StopSignal, {'marked': frozenset(KEPT[0].files)}


def ignored_stop_signal(folder):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return endingsignals.StopSignal, {}


def handled_stop_signal(folder):
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
    return endingsignals.StopSignal, {}


# -- switches --------------------------------------------------------------------------------------


def python_switches(folder):
    return switches.PythonSwitches, {}


def tracing(folder):
    threading.settrace(lambda *args: None)
    return switches.PythonSwitches, {}


def memory_tracing(folder):
    tracemalloc.start()
    return switches.PythonSwitches, {}


def late_variable(folder):
    os.environ.update(PYTHONMALLOC='malloc', MALLOC_ARENA_MAX='2')
    return switches.LateVariables, {}


def no_late_variable(folder):
    os.environ.update(PYTHONPATH='/for/children', MY_PRODUCT='x')
    return switches.LateVariables, {}


# -- clocks ----------------------------------------------------------------------------------------


def clock_set_back(folder, seconds=-3600):
    """Change the clock between two samples of this process."""
    true, signs = time.time, vitalsigns.Vitals({})
    signs.look()
    samples = [signs.sample(0, 0, 0)]
    time.time = lambda: true() + seconds
    samples.append(signs.sample(0, 0, 0))
    return clocks.Jumps, {'samples': tuple(samples)}


def clock_set_forward(folder):
    return clock_set_back(folder, 3600)


# -- modules ---------------------------------------------------------------------------------------


def _adapter(folder, level):
    Path(folder, 'fakedb.py').write_text(
        f"apilevel, paramstyle, threadsafety = '2.0', 'qmark', {level}"
    )
    sys.path.insert(0, folder)
    importlib.import_module('fakedb')


def unsafe_adapter(folder):
    _adapter(folder, 0)
    return databases.Adapters, {}


def adapter_of_level_1(folder):
    _adapter(folder, 1)
    return databases.Adapters, {}


def shared_adapter_of_level_1(folder):
    _adapter(folder, 1)
    sys.modules['Products.ZFakeDA'] = types.ModuleType('Products.ZFakeDA')
    return databases.Adapters, {}


def _fake_program(folder, source):
    """Import a program that uses an adapter of level 1 and has made a connection."""
    _adapter(folder, 1)
    with open(os.path.join(folder, 'fakedb.py'), 'a') as file:
        file.write('\nclass Connection:\n    def commit(self): pass\n    cursor = commit\n')
    importlib.reload(sys.modules['fakedb'])
    Path(folder, 'program.py').write_text(f'import fakedb, threading\n{source}\n')
    importlib.import_module('program')
    return databases.Adapters, {}


def connection_in_a_module(folder):
    return _fake_program(folder, 'connection = fakedb.Connection()')


def connection_in_a_class(folder):
    return _fake_program(folder, 'class Product:\n    connection = fakedb.Connection()')


def connection_of_each_thread(folder):
    return _fake_program(folder, 'own = threading.local()\nown.connection = fakedb.Connection()')


def lazy_stand_in(folder):
    """Add a placeholder for a deferred import that ends the process when it is touched."""

    class Deferred:
        def __getattribute__(self, name):
            print('touched', name, file=sys.stderr)
            os._exit(3)

    sys.modules['deferred'] = Deferred()
    return databases.Adapters, {}


def _compiled(folder):
    source = importlib.util.find_spec('zope.interface._zope_interface_coptimizations').origin
    file = shutil.copy(source, folder)
    sys.path.insert(0, folder)
    sys.modules.pop('zope.interface._zope_interface_coptimizations', None)
    importlib.import_module('_zope_interface_coptimizations')
    return file


def strange_compiled_module(folder):
    _compiled(folder)
    return software.CompiledModules, {}


def replaced_library(folder):
    os.unlink(_compiled(folder))
    return software.ReplacedLibraries, {}


def missing_library(folder):
    sys.modules['pystack'] = None
    return software.OptionalLibraries, {}


def orphan(folder):
    """Write the finding before and after the end of the parent, which the test kills: two files,
    complete when they appear.
    """
    context, parent = runcontext.collect({}, Instance(), 'server'), os.getppid()
    for name in ('before', 'after'):
        found = supervision.Supervisor().look(Site(Path(folder), context))
        Path(folder, 'writing').write_text(json.dumps(found.to_json() | {'parent': parent}))
        Path(folder, 'writing').rename(Path(folder, name))
        until(lambda: os.getppid() != parent, 'the end of the parent')
    sys.exit()


def everything(folder):
    """Run all checks as `run` does, and say how long it took."""
    began = time.perf_counter()
    results = runner.run(Site(Path(folder)))
    say(json.dumps({'took': time.perf_counter() - began, **results.to_json()}))
    sys.exit()


WORLDS = Ways(globals())


def main(world, folder='/nonexistent', *rest):
    check, fields = WORLDS[world](folder)
    found = check().look(Site(**{'directory': Path(folder)} | fields))
    findings = [found] if isinstance(found, Finding) else list(found)
    say(json.dumps([finding.to_json() for finding in findings]))
    os._exit(0)  # no clean-up, since the state of the process may be damaged


if __name__ == '__main__':
    main(*sys.argv[1:])
