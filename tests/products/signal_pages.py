"""Pages that report what a Zope does with signals, and pages that send it signals."""

import json
import os
import signal
import subprocess
import sys
import threading

_STATUS = ['cat', '/proc/self/status']
_forever = threading.Event()


# -- reports ---------------------------------------------------------------------------------------


def native_threads(self):
    """Return [[name, native id]]."""
    return json.dumps([[thread.name, thread.native_id] for thread in threading.enumerate()])


def handlers(self):
    """Return {number: the handler that Python knows}."""
    return json.dumps(
        {int(number): _word(signal.getsignal(number)) for number in sorted(signal.valid_signals())}
    )


def taken(self):
    """Return {number: how many of these signals the product of the site has received}."""
    product = sys.modules[f'Products.{os.environ["SIGNAL_PRODUCT"]}']
    return json.dumps(product.TAKEN)


def module_file(self):
    from Products import StabilityMonitor

    return StabilityMonitor.__file__


def _word(handler):
    return getattr(handler, '__qualname__', None) or repr(handler)


# -- children --------------------------------------------------------------------------------------


def child_by_popen(self):
    return subprocess.run(_STATUS, stdout=subprocess.PIPE, check=True).stdout


def child_by_popen_as_it_is(self):
    return subprocess.run(_STATUS, stdout=subprocess.PIPE, check=True, restore_signals=False).stdout


def child_by_posix_spawn(self):
    return _read_from(
        lambda end: os.posix_spawnp(
            'cat', _STATUS, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, end, 1)]
        )
    )


def child_by_fork(self):
    return _read_from(_fork)


def _fork(end):
    child = os.fork()
    if not child:
        with open('/proc/self/status', 'rb') as file:
            os.write(end, file.read())
        os._exit(0)
    return child


def _read_from(start):
    begin, end = os.pipe()
    child = start(end)
    os.close(end)
    with open(begin, 'rb') as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


# -- signals from inside ---------------------------------------------------------------------------


def raise_here(self, number):
    signal.raise_signal(int(number))
    return 'still here'


def send_to_main(self, number):
    signal.pthread_kill(threading.main_thread().ident, int(number))
    return 'still here'


def send_to_process(self, number):
    os.kill(os.getpid(), int(number))
    return 'still here'


def set_timer(self):
    """Set a timer that soon sends SIGALRM."""
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    _forever.wait()


def leave_with(self, status):
    os._exit(int(status))


# -- the main thread -------------------------------------------------------------------------------


def main_exits(self):
    return _in_main(sys.exit)


def main_raises(self):
    return _in_main(_raise)


def _raise():
    raise RuntimeError('out of luck')


def _in_main(function):
    """Do what `ways_to_die` does, but answer at once, so that the server need not wait for its
    threads.
    """
    sys.modules['Products.TestMethods']._in_main_thread.append(function)
    os.kill(os.getpid(), signal.SIGWINCH)
    return 'it will be called'
