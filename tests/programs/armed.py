"""A process that arms itself and then goes one of many ways: `python armed.py WAY DIRECTORY
[name=value ...]`

With DIRECTORY "-" it is the control process: it goes the same way without being armed.
`before_WAY` does what must come before arming.  The process says "ready NAME" when it is armed; a
line on stdin starts the way; calls of `say` report the outcome.
"""

import collections
import ctypes
import dataclasses
import faulthandler
import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from products.diving import _dive as dive  # noqa: E402
from products.diving import _go_over_the_end as go_over_the_end  # noqa: E402
from programs.handshake import Ways  # noqa: E402
from programs.handshake import hear  # noqa: E402
from programs.handshake import say  # noqa: E402
from programs.handshake import until  # noqa: E402
from programs.handshake import wait_for_go  # noqa: E402

from Products.StabilityMonitor.model.options import RUN_PIPE  # noqa: E402
from Products.StabilityMonitor.model.records import Instance  # noqa: E402
from Products.StabilityMonitor.recording.watchdog import TURNS  # noqa: E402
from Products.StabilityMonitor.store import blackboxreader  # noqa: E402

INSTANCE = Instance('test', '/nowhere', '')
life = None


def begin(path='/the/request'):
    """Begin a request in the calling thread, if the process is armed and records."""
    if life is not None and life.recorder is not None:
        life.recorder.begin('GET', path)


def has_finding(id):
    return life is None or any(finding.id == id for finding in life.findings)


def until_told(id):
    """Wait until the finding is there, and until the thread that logs it has ended."""
    until(lambda: has_finding(id))
    until_settled()


def until_settled():
    """Wait until no thread of the product begins or ends."""
    if life is not None:
        beats = life.rounds.heartbeat.beats
        until(lambda: life.rounds.heartbeat.beats > beats)
        until(
            lambda: 'StabilityMonitor log' not in [thread.name for thread in threading.enumerate()]
        )


def in_thread(function, stack=0):
    threading.stack_size(stack)
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def fork(function):
    """Fork a child that runs `function`, and return its exit status."""
    pid = os.fork()
    if pid == 0:
        function()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- ways to end -----------------------------------------------------------------------------------


def do_return():
    pass


def do_exit_3():
    sys.exit(3)


def do_exit_text():
    sys.exit('the text')


def do_exception():
    raise ValueError('the reason ü')


def do_long_exception():
    raise ValueError('the reason ' + '€' * 9000)


def do_memory_error():
    raise MemoryError


def do_exit_in_thread():
    in_thread(sys.exit)


def do_os_exit():
    os._exit(5)


def do_c_exit():
    ctypes.CDLL(None).exit(5)


def do_execv():
    os.execv(sys.executable, [sys.executable, '-c', 'import sys; sys.exit(6)'])


def do_abort():
    os.abort()


def do_abort_in_thread():
    in_thread(os.abort)


def do_double_free():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    memory = libc.malloc(24)
    libc.free(memory)
    libc.free(memory)


def do_map_much(size):
    """Crash with so many bytes of memory, of which hardly any were written."""
    import mmap

    keep = mmap.mmap(-1, int(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    keep[:: 1 << 20] = b'x' * len(range(0, int(size), 1 << 20))
    do_segv()


def do_segv():
    begin()
    ctypes.string_at(0)


def do_sent_segv():
    subprocess.run(['kill', '-SEGV', str(os.getpid())])
    time.sleep(60)


def do_sent_fpe():
    subprocess.run(['kill', '-FPE', str(os.getpid())])
    time.sleep(60)


def do_segv_in_thread():
    in_thread(do_segv)


def do_fatal_error():
    ctypes.pythonapi.Py_FatalError(b'the message')


class Deep:
    def __repr__(self):
        try:
            return repr([self])
        except RecursionError:  # from Python 3.14 on, near the end of the stack
            return go_over_the_end()


def overflow():
    begin('/deep')
    sys.setrecursionlimit(10**6)
    repr(Deep())


def do_overflow_in_worker():
    # Room for more than the 100 frames of a dump, but not for the 299 calls after which Python 3.12
    # raises RecursionError: then there may still be room for what `go_over_the_end` needs.
    room = 240 if sys.version_info >= (3, 14) else 160
    in_thread(overflow, room << 10)


def do_dive():
    """Recurse over the end of the stack without a stop."""
    dive(None, endless=True)


def do_survive_then(what):
    """Recurse nearly to the end of the stack, seen by the gauge, and return; then go the way WHAT
    in the same thread.
    """

    def serve():
        begin('/deep')
        dive(until_seen, 15 / 16)
        life.recorder.end(200)
        begin('/later')
        WAYS[what]()

    in_thread(serve, 1 << 20)


def do_overflow_slowly():
    """Overflow the stack in one request, after the gauge has seen two depths of it."""

    def serve():
        begin('/deep')
        dive(until_seen, 1 / 2, 15 / 16, endless=True)

    in_thread(serve, 1 << 20)


def until_seen(share):
    """Wait until the black box shows that this share of the thread's stack has been used."""

    def is_seen():
        stack = blackboxreader.read(bytes(life.recorder.buffer)).threads[threading.get_ident()]
        return stack.stack_used >= share * stack.stack_size > 0

    until(is_seen)
    if share > 0.9:
        # A thread logs the warning of the gauge and then ends.  A thread that ends while
        # faulthandler walks through all threads cuts the dump short ("<freed thread state>").
        until_told('stack-headroom')


def do_wait():
    """Wait for a signal."""
    begin()
    say('waiting')
    while True:
        time.sleep(0.05)  # with `signal.pause`, the signal could come just before the call


def do_exec_in_place():
    """Replace this process by another program, as a server does that restarts in place."""
    begin('/before')
    life.recorder.end(200)
    begin()
    os.execv(sys.executable, [sys.executable, '-c', 'print("replaced", flush=True); input()'])


def do_close_descriptors():
    """Close all descriptors but the standard ones, as some code does before it goes on."""
    begin()
    os.closerange(3, 1024)
    say('closed')
    input()


def do_kill_self(name):
    os.kill(os.getpid(), getattr(signal, name))


def do_kill_self_term():
    do_kill_self('SIGTERM')


def before_handler_before():
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(4))


def do_handler_before():
    do_wait()


def before_abort_handler():
    """As gunicorn in its workers."""
    signal.signal(signal.SIGABRT, lambda *args: sys.exit(4))


def do_abort_handler():
    """Wait with the GIL held: before 3.14, faulthandler may crash if another thread runs meanwhile.

    Holding the GIL is no protection from a thread that is just beginning or ending.
    """
    until_settled()
    sleep = ctypes.PyDLL(None).sleep
    say('waiting')
    for _ in range(30):  # a signal that comes just before such a call does not end it
        sleep(2)


def do_handler_after():
    before_handler_before()
    do_wait()


def before_survived_usr1():
    signal.signal(signal.SIGUSR1, lambda *args: None)


def do_survived_usr1():
    os.kill(os.getpid(), signal.SIGUSR1)
    say('survived')
    do_wait()


def do_c_handler_after():
    """Set a handler in C, of which Python's module `signal` knows nothing."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGUSR2, ctypes.cast(libc.abs, ctypes.c_void_p))
    do_wait()


def do_hold_gil():
    say('holding')
    ctypes.PyDLL(None).sleep(60)


def at_exit(what):
    """Run `what` in an exit handler that comes after those of the product: registered before."""
    import atexit

    def block():
        if life is not None:
            say('finishing')
            what()

    atexit.register(block)


def stand_at_exit():
    threading.Event().wait(60)


def before_stand_at_exit():
    at_exit(stand_at_exit)


def serve_one():
    begin('/done')
    if life is not None:
        life.recorder.end(200)


def do_stand_at_exit():
    serve_one()
    stand_in_request('unfinished')
    if life is not None:
        until(life.recorder.in_flight)


def before_hold_gil_at_exit():
    at_exit(lambda: hold_gil('waiting'))


def do_hold_gil_at_exit():
    serve_one()


def before_compute_at_exit():
    at_exit(lambda: compute(6))


def do_compute_at_exit():
    pass


def compute(seconds):
    """Run Python code: a stack that is written meanwhile can kill the process."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sorted(range(50), key=lambda number: -number)


def do_thread_outlives_main():
    threading.Thread(target=do_wait_in_thread).start()


def do_wait_in_thread():
    say('waiting')
    threading.Event().wait()


# -- workers and their watchdogs -------------------------------------------------------------------


def standing(gate):
    gate.acquire()


def stand_in_request(number):
    """Start a thread that serves `/<number>` and blocks in `standing`."""
    gate = threading.Lock()
    gate.acquire()

    def serve():
        begin(f'/{number}')
        standing(gate)

    threading.Thread(target=serve, daemon=True, name=f'waitress-{number}').start()


def hold_gil(how):
    """Hold the GIL for ever in C code that no signal interrupts: no Python code runs between the
    calls.
    """
    lock = ctypes.pythonapi.PyThread_allocate_lock
    lock.restype = ctypes.c_void_p
    take, taken = ctypes.pythonapi.PyThread_acquire_lock, ctypes.c_void_p(lock())
    calls = {
        'waiting': map(take, itertools.repeat(taken), itertools.repeat(1)),
        'sleeping': map(ctypes.PyDLL(None).usleep, itertools.repeat(10_000)),
        'working': itertools.repeat(None),
    }
    collections.deque(calls[how], maxlen=0)


def serve_guarded(count):
    """Start this many workers, each with a timer."""
    for number in range(count):
        stand_in_request(number)
    until_guarded(count)


def until_guarded(count):
    """Wait until this many threads have a running timer: the round that made the last one is
    over.
    """
    until(lambda: own_timers() == 1 + TURNS * count)
    beats = life.rounds.heartbeat.beats
    until(lambda: life.rounds.heartbeat.beats > beats + 1)


def own_timers():
    return open('/proc/self/timers').read().count('signal: ')


def own_files(folder):
    """Return the number of open descriptors below a folder."""
    names = [os.path.realpath(f'/proc/self/fd/{number}') for number in os.listdir('/proc/self/fd')]
    return sum(name.startswith(str(folder)) for name in names)


def do_hold_gil_among_servers(how):
    """A thread that serves calls the C code that holds the GIL."""
    serve_guarded(3)

    def hold():
        begin('/holding')
        until_guarded(4)
        say('holding')
        hold_gil(how)

    threading.Thread(target=hold, name='waitress-3').start()
    threading.Event().wait()


def do_hold_gil_in_first_request(how):
    """A worker holds the GIL in its first request; another one is idle."""
    gate = threading.Event()

    def serve():
        gate.wait()
        begin('/first')
        say('holding')
        hold_gil(how)

    threading.Thread(target=serve, name='waitress-0', daemon=True).start()
    threading.Thread(target=threading.Event().wait, name='waitress-1', daemon=True).start()
    until_guarded(2)
    gate.set()
    threading.Event().wait()


def before_serve_guarded():
    """Give the heartbeat its default CPU budget, however short the stall time is: a slow machine
    charges more CPU time.
    """
    from Products.StabilityMonitor.recording import heartbeatwork

    heartbeatwork._LEAST_CPU = 0.06


def do_serve_guarded():
    serve_guarded(4)
    say('guarded')
    do_serve()


def do_work_aside():
    """Run an errand with one second of CPU time beside the heartbeat, which must continue to
    beat.
    """
    serve_guarded(4)
    done = []

    def work():
        end = time.thread_time() + 1
        while time.thread_time() < end:
            pass
        done.append(life.rounds.heartbeat.beats)

    life.in_background(work)
    until(lambda: done and life.rounds.heartbeat.beats > done[0] + 20)
    say('done')
    hear()


def before_work_in_each_duty():
    before_serve_guarded()


def do_work_in_each_duty():
    """Add 20 duties to the heartbeat; each takes more than half of the CPU time after which the
    threads write their stacks.
    """
    serve_guarded(4)
    heartbeat, switch = life.rounds.heartbeat, life.rounds.watchdog

    def work():
        end = time.thread_time() + 0.6 * switch._cpu
        while time.thread_time() < end:
            pass

    for _ in range(20):
        life.every_beat(
            lambda: work()
        )  # a new function each time, since the same one is not added twice
    beats = heartbeat.beats
    until(lambda: heartbeat.beats > beats + 5)
    say('done')
    hear()


def do_hang():
    """Answer one request, and then hang in all threads."""
    in_thread(lambda: (begin(), life.recorder.end(200)))
    serve_guarded(3)
    say('hanging', *(slot.ident for slot in life.recorder.slots.values()))
    hear()


def do_fork_guarded():
    """A forked child must have no file and no timer of the watchdogs; those of the parent must
    stay.
    """
    serve_guarded(2)
    before = own_files(life.directory.path)

    def child():
        from Products.StabilityMonitor.recording.arming import STATE

        say('child', own_files(STATE.cut_off[0].directory.path), own_timers())

    fork(child)
    say('parent', own_files(life.directory.path) == before, own_timers())
    hear()


def do_new_threads(count):
    """Threads that serve end, and new ones start, at most eight at a time.  This thread does the
    rounds of the heartbeat.
    """
    count = int(count)
    until(lambda: life.rounds.watchdog)
    life.rounds.heartbeat.stop(timeout=20)
    for served in range(0, count, 8):
        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        if served % 80 == 0:  # some threads are seen alive, some dead, some never
            life.rounds._guard_threads()
        for thread in threads:
            thread.join()
        if served % 160 == 0:
            life.rounds._guard_threads()
        life.recorder.release_dead_slots()
        if served in (800, count - 8):
            life.rounds._guard_threads()
            say(
                'now',
                own_timers(),
                len(os.listdir('/proc/self/fd')),
                len(list(life.directory.path.glob('watchdog-*.mark'))),
            )
    do_findings()


def busy(number):
    """Run Python code that changes its frame all the time."""

    def deeper(depth):
        return sum(deeper(depth - 1) for _ in range(2)) if depth else len([*map(str, range(9))])

    while True:
        deeper(number + 3)


def do_short_watchdog(path, timeout, nice='0', cpu=''):
    """Not armed: use watchdogs with a timeout shorter than any option allows, and four busy
    threads.

    Says "alive" for each line when all timers have been set again since then.  At the end it says
    the most CPU time that the heartbeat was charged before it set them again.  The time in its
    pauses counts too, in case the machine itself was suspended meanwhile.
    """
    from Products.StabilityMonitor.recording.watchdog import Watchdog

    os.nice(int(nice))
    sys.setswitchinterval(0.0005)
    threads = [threading.Thread(target=busy, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    guarded = {number: thread.native_id for number, thread in enumerate(threads)}
    over, beats = threading.Event(), []

    def beat():
        switch = Watchdog(Path(path), float(timeout), float(cpu or timeout), apart=0.0)
        begun, charged = time.thread_time(), 0.0
        while not over.wait(float(timeout) / 4):
            now = time.thread_time()
            switch.rearm()
            switch.rearm_threads(guarded)
            begun, charged = now, max(charged, time.thread_time() - begun)
            beats.append(1)
        switch.disarm()
        say('timers', own_timers())
        say(max(charged, time.thread_time() - begun))

    heart = threading.Thread(target=beat)
    heart.start()
    say('busy')
    while hear():
        del beats[:]
        until(lambda: len(beats) > 1)  # the first beat may have begun before
        say('alive')
    over.set()
    heart.join()


# -- ways to survive -------------------------------------------------------------------------------


def do_serve():
    """Say "alive" for each line until the end of the input."""
    while hear():
        say('alive')


def do_nohup():
    """SIGHUP was ignored when this process was started."""
    os.kill(os.getpid(), signal.SIGHUP)
    code = 'import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)'
    say(
        'alive',
        subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip(),
    )


def before_foreign_usr1():
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=False, chain=False)


def do_foreign_usr1():
    os.kill(os.getpid(), signal.SIGUSR1)
    say('alive')


def do_disable():
    faulthandler.disable()
    until_told('fault-log')
    do_segv()


def do_redirect():
    faulthandler.enable(open(os.devnull, 'w'))
    until_told('fault-log')
    do_segv()


def do_close():
    os.close(life.fault_log.file.descriptor)
    until_told('fault-log')
    do_segv()


def do_steal(path):
    """Act as code that closes all descriptors and whose own file then gets the numbers of ours."""
    foreign = os.open(path, os.O_CREAT | os.O_RDWR)
    until(lambda: life.rounds.watchdog)
    ours = [life.fault_log.file, life.rounds.watchdog.file, *life.marks.files.values()]
    for file in ours:
        os.dup2(foreign, file.descriptor)
    until(lambda: has_finding('marks-closed') and has_finding('fault-log'))
    until(lambda: all(file.is_intact() for file in ours))
    do_wait()


def do_count_beats_to_repair(path):
    """Take a descriptor amid two rounds, and say in how many beats it is repaired."""
    heartbeat = life.rounds.heartbeat
    foreign = os.open(path, os.O_CREAT | os.O_RDWR)
    ours = [life.marks.files['SIGTERM'], life.fault_log.file]
    until(lambda: heartbeat.beats % 20 == 4)
    for file in ours:
        os.dup2(foreign, file.descriptor)
    begun = heartbeat.beats
    until(lambda: all(file.is_intact() for file in ours))
    say('at once', heartbeat.beats - begun <= 2)


def do_remove_all():
    import shutil

    until(
        lambda: (
            shutil.rmtree(life.directory.path, ignore_errors=True)
            or not life.directory.path.exists()
        )
    )
    until_told('breadcrumbs-gone')
    say('alive')


def do_fork(what):
    """A forked child ends in this way; the parent survives."""
    from Products.StabilityMonitor.recording.arming import STATE

    def child():
        if STATE.recorder is not None:
            os._exit(99)
        logging.getLogger('child').warning('of the child')
        globals()['life'] = None
        WAYS[what]()

    say('child', fork(child))
    hear()


def do_fork_and_handler():
    """A handler that other code set after arming also works in a forked child."""
    signal.signal(signal.SIGTERM, lambda *args: os._exit(9))
    say('child', fork(lambda: do_kill_self('SIGTERM')))


def do_fork_and_foreign_usr1():
    """A signal that other code has registered with faulthandler also works in a forked child."""
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=False, chain=False)
    say('child', fork(lambda: do_kill_self('SIGUSR1')))


def do_fork_and_stay():
    """Fork a child that lives as long as stdin is open."""
    if os.fork() == 0:
        say('child', os.getpid())
    sys.stdin.read()


def do_preexec():
    say(
        'child',
        subprocess.run(
            [sys.executable, '-c', 'import os; os.kill(os.getpid(), 15)'], preexec_fn=lambda: None
        ).returncode,
    )


def do_descriptors():
    """Say how many descriptors a forked child and an executed program have, at a moment when the
    heartbeat and the errands have none open.
    """
    until(lambda: life is None or life.rounds.heartbeat.beats > 2)
    if life is not None:
        errands_are_done = threading.Event()
        life.in_background(errands_are_done.set)
        errands_are_done.wait(60)
    fork(lambda: say('forked', len(os.listdir('/dev/fd'))))
    subprocess.run(
        [sys.executable, '-c', 'import os; print("executed", len(os.listdir("/dev/fd")))'],
        close_fds=False,
    )


def do_worker():
    """Fork a child that serves as a worker and crashes."""
    from Products.StabilityMonitor.recording import arming

    def child():
        own = arming.arm_forked_worker()
        own.armed()
        assert arming.STATE.recorder is own.recorder and arming.arm_forked_worker() is None
        own.recorder.begin('GET', '/of/the/worker')
        say('worker', own.name)
        ctypes.string_at(0)

    begin('/of/the/parent')
    say('child', fork(child))
    hear()


def do_no_worker():
    from Products.StabilityMonitor.recording import arming

    say('worker', arming.arm_forked_worker())


def do_log():
    """Log like a script that sets up logging late and by itself."""
    logging.warning('the first')
    logging.getLogger('some.where').warning('the second %s', 2)


def do_log_unconfigured():
    logging.getLogger('some.where').warning('of last resort')
    logging.basicConfig(format='configured: %(message)s', level=logging.INFO)
    logging.getLogger('some.where').info('shown')


def do_log_configured():
    logging.basicConfig(format='configured: %(message)s')
    if life is not None:
        until(lambda: life.handler in logging.getLogger().handlers)
    logging.getLogger('some.where').warning('captured')
    logging.getLogger().handlers[:1] = []


def do_stack_size():
    say('stack', threading.stack_size(0))


def before_own_stack_size():
    threading.stack_size(7 << 20)


def do_own_stack_size():
    do_stack_size()


def before_full():
    """Imitate a disk that has room for small files only."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


def do_full():
    say('findings', *sorted(finding.id for finding in life.findings))


def do_findings():
    do_full()


def before_network():
    from Products.StabilityMonitor.recording import livingrun

    livingrun.network_file_system = lambda path: 'nfs4'


def do_network():
    begin()
    until(lambda: len(life.recorder.in_flight()) == 1 and life.rounds.heartbeat.last)
    beat = life.rounds.heartbeat.last
    until(lambda: life.rounds.heartbeat.last > beat)
    do_full()


def before_die_arming():
    from Products.StabilityMonitor.recording import livingrun

    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    livingrun.FaultLog = die


def do_die_arming():
    say('never')


def do_touched():
    """Say what differs in this process from a plain Python process."""
    handlers = [signal.getsignal(n) for n in sorted(signal.valid_signals())]
    caught = next(line for line in open('/proc/self/status') if line.startswith('SigCgt'))
    say(
        sys.excepthook is sys.__excepthook__,
        threading.active_count(),
        faulthandler.is_enabled(),
        len(logging.getLogger().handlers),
        handlers,
        caught.split()[1],
    )


#: Functions that run before arming, for some of the ways.
BEFORE = Ways(globals(), 'before_')
WAYS = Ways(globals(), 'do_')


def arm(directory, options):
    global life
    from Products.StabilityMonitor.recording import arming

    configured = {'directory': directory, 'sample-interval': '50ms', 'stall': '30s', **options}
    instance = dataclasses.replace(INSTANCE, client_home=options.pop('client_home', '/nowhere'))
    configured.pop('client_home', None)
    environ = {name: os.environ[name] for name in (RUN_PIPE,) if name in os.environ}
    life = arming.arm(configured, environ, instance, 'server', {'zope': '6.3'})
    life.armed()
    life.serving()


def main(way, directory, *words):
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # only the option core-files lifts it
    options = dict(word.split('=', 1) for word in words if '=' in word)
    if way in BEFORE:
        BEFORE[way]()
    if directory != '-':
        arm(directory, options)
    wait_for_go()
    WAYS[way](*(word for word in words if '=' not in word))


if __name__ == '__main__':
    main(*sys.argv[1:])
