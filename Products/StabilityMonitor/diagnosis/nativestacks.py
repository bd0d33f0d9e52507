"""Native stacks of a living process: C and Python frames of all threads, taken by pystack or py-spy.

The tool stops the process while it reads: pystack 100 to 240 ms, py-spy 25 to 35 ms, measured with 8 threads.  So it
is never run by the process itself but by a warden: this very file, run as a program.  It reads what the tool says
while the other stands still, ends it when its time is over, and sees that the process goes on.
"""
from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

#: Seconds and bytes that a tool has; the warden gets some seconds more.
LONGEST, MOST, _GRACE = 30.0, 2 << 20, 5.0
_SET_PTRACER = 0x59616d61
#: Name and arguments, the better one first.  `--native-all`: also threads that Python does not know.
_TOOLS = {'pystack': ('remote', 'PID', '--native-all'), 'py-spy': ('dump', '--native', '--pid', 'PID')}
_MAY = {None: 'root, or the user that the process runs as', '0': 'root, or the user that the process runs as',
        '1': 'root; for others only the button in the Control Panel, which the process itself admits',
        '2': 'root', '3': 'nobody, until the machine is started with another value'}
_DENIED = re.compile('not permitted|permission denied|ptrace|EPERM', re.IGNORECASE)
_BUSY = {}                                              # pid of this process: what takes stacks; a forked child is free


def find_tools(executable: str = sys.executable, path: str | None = None) -> dict[str, tuple[str, ...]]:
    """{name: how it is started}: beside the executable, on PATH, or importable.  {} on other systems than Linux."""
    folders = os.pathsep.join((os.path.dirname(executable), os.environ.get('PATH', '') if path is None else path))
    here = {name: _started(name, executable, folders) for name in _TOOLS if sys.platform == 'linux'}
    return {name: started for name, started in here.items() if started}


def _started(name, executable, folders):
    if program := shutil.which(name, path=folders):
        return (program,)
    with contextlib.suppress(ImportError, AttributeError, ValueError, TypeError):
        folder = os.path.dirname(os.path.dirname(importlib.util.find_spec(name).origin))
        return ('/usr/bin/env', f'PYTHONPATH={folder}', executable, '-m', name)


def _command(started, name, pid):
    return [*started, *(str(pid) if word == 'PID' else word for word in _TOOLS[name])]


def command_lines(pid: int, executable: str = '') -> list[tuple[str, str]]:
    """(title, exact shell line) for a person; `executable` is the Python of that process.  See `what_is_needed`."""
    here = find_tools()
    lines = [('gdb: C frames of all threads', ['gdb', '-p', str(pid), '-batch', '-ex', 'set pagination off',
                                              '-ex', 'thread apply all bt', *filter(None, [executable])])]
    for name in _TOOLS:
        first = '' if name in here else f' (first: {shlex.quote(executable or "python3")} -m pip install {name})'
        lines.append((f'{name}: C and Python frames{first}', _command(here.get(name, (name,)), name, pid)))
    return [(title, shlex.join(words)) for title, words in lines]


def what_is_needed(pid: int, proc: str = '/proc') -> str:
    """Who may attach to that process on this machine, in a sentence or two."""
    scope = ptrace_scope(proc)
    who = _MAY.get(scope, 'root')
    user = re.search(r'^Uid:\s+(\d+)', _read(f'{proc}/{pid}/status'), re.MULTILINE)
    with contextlib.suppress(OSError):
        if user and int(user[1]) != os.stat(f'{proc}/{pid}').st_uid == 0:
            who = 'root, for the process has changed its user'
    return (f'Who may attach: {who} (kernel.yama.ptrace_scope is {scope or "not there"}). '
            'In a container CAP_SYS_PTRACE is needed.')


def ptrace_scope(proc: str = '/proc') -> str | None:
    return _read(f'{proc}/sys/kernel/yama/ptrace_scope').strip() or None


def _read(path):
    with contextlib.suppress(OSError), open(path, encoding='utf-8', errors='replace') as file:
        return file.read()
    return ''


def _prctl(option, value):
    import ctypes
    return ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


class NativeStacks:
    """Takes the stacks of process `pid` (this one or another) in a thread of its own, one at a time in a process.

    `result` is what the tool said, at most `most` bytes; `error` a sentence with the next step, or ''; `progress` some
    words; `taken` when it was over (epoch), 0 before.  Nothing here raises.
    """

    def __init__(self, pid: int, *, tools=None, seconds: float = LONGEST, most: int = MOST, proc: str = '/proc',
                 prctl=_prctl):
        self.pid, self.longest, self.most, self.proc, self._prctl = pid, seconds, most, proc, prctl
        self.tools = find_tools() if tools is None else tools
        self.result = self.error = ''
        self.busy, self.taken, self.began, self._doing = False, 0.0, time.monotonic(), 'not begun'
        self._over = threading.Event()

    @property
    def progress(self) -> str:
        took = f', {time.monotonic() - self.began:.0f} s of at most {self.longest:.0f} s' if self.busy else ''
        return 'over' if self.taken else self._doing + took

    def start(self) -> bool:
        """False, with `error` set, when one is under way already."""
        if _BUSY.setdefault(os.getpid(), self) is not self or self.busy:
            self.error = 'Native stacks are being taken already. Wait until that is over.'
            return False
        self.busy, self.taken, self.began = True, 0.0, time.monotonic()
        try:
            threading.Thread(target=self._run, name='StabilityMonitor native stacks', daemon=True).start()
        except RuntimeError as error:                   # no thread can be had
            self._finish(f'The native stacks were not taken: {error}. Try again later.')
        return True

    def wait(self, timeout: float | None = None) -> bool:
        return self._over.wait(timeout)

    def _run(self):
        error = 'There is no pystack here. Install it into this Python (pip install pystack), or use the command lines.'
        try:
            for name, started in self.tools.items():
                error, another_may_know = self._ask(name, _command(started, name, self.pid))
                if not another_may_know:
                    break
        except Exception as failure:
            error = f'The native stacks were not taken: {type(failure).__name__}: {failure}. Use the command lines.'
        self._finish(error)

    def _finish(self, error):
        self.error, self.taken, self.busy = error, time.time(), False
        _BUSY.pop(os.getpid(), None)
        self._over.set()

    def _ask(self, name, command):
        """(error, whether another tool may be tried)"""
        self._doing = f'{name} reads process {self.pid}'
        child = subprocess.Popen(
            [_interpreter(), '-I', '-S', __file__, str(self.pid), str(self.longest), str(self.most), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            close_fds=True, start_new_session=True, cwd='/', env=_environment())
        try:
            with self._admitted(child.pid):
                child.stdin.write(b'go\n')
                answer = _drain(child.stdout.fileno(), time.monotonic() + self.longest + _GRACE)
        finally:
            child.stdin.close()                         # a warden that is still there ends the tool
            child.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE)
            child.kill()
        head, _, said = answer.partition(b'\n')        # nothing: the warden was killed
        self.result = said.decode('utf-8', 'replace')
        return self._judged(name, json.loads(head) if head else {'ended': 'lost', 'code': None})

    @contextlib.contextmanager
    def _admitted(self, child):
        """Where Yama asks for it, this process names who may trace it: the child and what that one starts."""
        if self.pid != os.getpid() or ptrace_scope(self.proc) != '1':
            yield
            return
        self._prctl(_SET_PTRACER, child)
        try:
            yield
        finally:
            self._prctl(_SET_PTRACER, 0)

    def _judged(self, name, outcome):
        if outcome['ended'] == 'time':
            return (f'{name} was ended after {self.longest:.0f} s, and process {self.pid} goes on. Try again, or '
                    'use the command line of gdb.', False)
        if outcome['ended'] != 'itself':
            return f'The child that watches {name} was ended. Try again.', False
        if outcome['code'] == 0 and parse(self.result):
            return '', False
        if outcome['code'] not in (0, 127) and _DENIED.search(self.result):
            return (f'{name} may not attach to process {self.pid}, unless another debugger just has. '
                    + what_is_needed(self.pid, self.proc), True)
        last = next((line.strip() for line in reversed(self.result.splitlines()) if line.strip()), 'nothing')
        return (f'{name} ended with code {outcome["code"]} and no threads; the last it said: {last[:300]}. '
                'Use the command line of gdb.', True)


def _interpreter():
    own = sys.executable or ''                          # that of a server that embeds Python is none
    return own if 'python' in os.path.basename(own) else os.path.join(sys.exec_prefix, 'bin', 'python3')


def _environment():
    """Without what would make it ask the network for debug symbols, or say where it failed itself."""
    kept = {name: value for name, value in os.environ.items() if name != 'DEBUGINFOD_URLS'}
    return kept | {'NO_COLOR': '1', 'RUST_BACKTRACE': '0', 'PYTHONIOENCODING': 'utf-8:backslashreplace'}


def _drain(descriptor, until):
    parts, poll = [], select.poll()                     # select() knows no descriptor from 1024 on
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b''.join(parts)


_HEADS = (re.compile(r'Traceback for thread (?P<id>\d+)(?: \((?P<name>.*)\))? (?P<status>\[[^]]*\] )?\(most recent'),
          re.compile(r'Thread (?P<id>\d+) \((?P<status>[^)]*)\)(?:: "(?P<name>.*)")?$'))
_FRAMES = (re.compile(r'\s+\((?P<kind>C|Python)\) File "(?P<file>.*)", line (?P<line>-?\d+), in '
                      r'(?P<function>.*?)(?: \((?P<library>[^()]*)\))?$'),
           re.compile(r'    (?P<kind>)(?P<function>\S.*) \((?P<file>.*?)(?P<library>)(?::(?P<line>\d+))?\)$'))


def parse(text: str) -> list[dict]:
    """[{native_id, name, holds_gil, frames: [{file, line, function, native, library}]}], frames innermost first.

    Best effort: what is not understood is left out.  `line` is None, or a string '', where nothing is known.
    """
    threads, number = [], 0
    for line in text.splitlines():
        heads = [head.match(line) for head in _HEADS]
        if any(heads):
            number = 0 if heads[0] else 1
            threads.append(_thread(heads[number]))
        elif threads and (found := _FRAMES[number].match(line)):
            frames = threads[-1]['frames']
            frames.insert(len(frames) if number else 0, _frame(found))
    return threads


def _thread(head):
    return {'native_id': int(head['id']), 'name': head['name'] or '', 'frames': [],
            'holds_gil': bool(re.search(r'Has the GIL|\+gil', head['status'] or ''))}


def _frame(found):
    file, line = found['file'], int(found['line'] or 0)
    native = found['kind'] == 'C' or not (found['kind'] or file.endswith('.py') or file.startswith('<'))
    library = found['library'] or (file if native and not line else '')
    return {'file': '' if file in ('???', library) else file, 'line': line or None, 'native': native,
            'function': found['function'].replace('???', ''), 'library': library}


def _guard(pid: int, seconds: float, most: int, command: list[str]) -> None:
    """The warden: waits for "go", runs `command`, and says a line of JSON {ended, code}, then what `command` said."""
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if not os.read(0, 3):
        return
    stood = _stands_still(pid)
    try:
        tool = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                start_new_session=True)
    except OSError as error:
        return _say({'ended': 'itself', 'code': 127}, str(error).encode())
    said, ended = _listen(tool, parent, time.monotonic() + seconds, most)
    with contextlib.suppress(OSError):
        os.killpg(tool.pid, signal.SIGKILL)
    code = tool.wait()
    with contextlib.suppress(OSError):
        if not stood and (ended != 'itself' or code or _stands_still(pid)):
            os.kill(pid, signal.SIGCONT)                # a tool that is killed may leave a SIGSTOP behind
    _say({'ended': ended, 'code': code}, said)


def _listen(tool, parent, until, most):
    """(what it said, why no more: itself, time, or parent)"""
    said, open_ends = bytearray(), [0, tool.stdout.fileno()]
    while True:
        ready = select.select(open_ends, [], [], 0.05)[0]
        if 0 in ready or os.getppid() != parent:
            return said, 'parent'
        if ready:
            part = os.read(ready[0], 1 << 16)
            said += part[:most - len(said)]
            open_ends = open_ends if part else [0]      # the tool may have closed it, and live
        elif tool.poll() is not None:
            return said, 'itself'
        if time.monotonic() > until:
            return said, 'time'


def _stands_still(pid):
    return _read(f'/proc/{pid}/stat').rpartition(')')[2].split()[:1] == ['T']


def _say(outcome, said):
    with contextlib.suppress(OSError), open(1, 'wb') as answer:
        answer.write(json.dumps(outcome).encode() + b'\n' + said)


if __name__ == '__main__':
    _guard(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
