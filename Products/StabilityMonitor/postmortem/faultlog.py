r"""The texts that faulthandler and Py_FatalError leave behind, read back into values.

Bytes in, values out: no I/O, never an exception whatever the bytes are, and linear in their
number.  The formats are CPython's, 3.11 to 3.15 (traceback.c, faulthandler.c, pylifecycle.c).
A dying process writes them in many small pieces, so:

* The text may stop anywhere; in a preallocated file NULs follow.  They end a line as its torn end.
* A second thread may die meanwhile.  Its header lands in the middle of a line, often right behind
  the first one: `Fatal Python error: Fatal Python error: AbortedIllegal instruction` is real.
  faulthandler withholds its stacks, so what follows belongs to the dump that it interrupted.
  Where two dumps are mixed word by word, only lines that are still whole are taken.
* In a stderr log other text stands between.  A few foreign lines are passed over, more end a dump.
"""

import re
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace

from ..model.records import NativeFrame
from ..model.records import ThreadStack
from . import faultlines

LIMIT = 1 << 20  # bytes that one call looks at
_FRAMES = 100  # faulthandler's limit; 3.13 stops there without a word
#: 3.14 counts each entry from C code as a frame and does not show it: a recursion through C ends
#: after half of them.
_FRAMES_THROUGH_C = 50
#: What a stack that is shown whole ends with: a script, `python -m`, a thread.
_OUTERMOST = ('<module>', '_run_module_as_main', '_bootstrap')
_NOISE = 8  # foreign lines in a row that do not yet end a dump
_LINES = re.compile(rb'([^\n\0]*)(\n|\0+|\Z)')
_HEADERS = re.compile(rb'(?=Fatal Python error(?:: | from unexpected signum: ))')
_NOTE = 200  # characters of a thread's notes


@dataclass(frozen=True)
class Dump:
    """One dump, as its text says it.

    `kind` is 'fatal' (a signal), 'pyfatal' (Py_FatalError), 'timeout' (dump_traceback_later) or
    'stack' (register() and dump_traceback(): no header).  `reason` is 'Segmentation fault',
    'func: message', or a timeout's time, '0:01:00'.  `signal` is None where the text names none.
    `threads` keep the text's order, newest first.  `truncated`: the text ends, or is damaged, in
    the middle.  `offset` counts bytes from the start of the input.
    """

    kind: str
    reason: str
    signal: str | None
    runtime_state: str
    threads: tuple[ThreadStack, ...]
    native: tuple[NativeFrame, ...]
    extension_modules: tuple[str, ...]
    threads_cut: bool
    truncated: bool
    offset: int

    @property
    def crashed_thread(self):
        return next((thread for thread in self.threads if thread.crashed), None)


def parse(data, start=0):
    """All dumps in the LIMIT bytes of `data` from `start` on."""
    start = max(0, start)
    parser = _Parser()
    for match in _LINES.finditer(bytes(data[start : start + LIMIT])):
        parser.feed(match[1].removesuffix(b'\r'), start + match.start(), match[2] == b'\n')
    return tuple(draft.freeze() for draft in parser.drafts)


def first_fatal(dumps):
    """The first dump with a fatal header; what comes after it are consequences."""
    return next((dump for dump in dumps if dump.kind in ('fatal', 'pyfatal')), None)


def find_py_fatal(data, main_ident):
    """The last fatal dump in the tail of a stderr log that names the thread `main_ident`.

    Only this name ties the text to a process.  So None for an error during which an exception was
    set (a plain traceback is printed instead) and for one with more than 100 threads.
    """
    for dump in reversed(parse(data, len(data) - LIMIT)):
        idents = {thread.ident for thread in dump.threads}
        if main_ident is not None and main_ident in idents and first_fatal([dump]):
            return dump
    return None


class _Draft:
    """A dump in the making, its threads with lists of frames.  `under`: the one it interrupted."""

    signal = under = None
    reason = runtime_state = ''
    raw = ''  # the reason before a signal's name was seen in it
    note = ''  # waits for its thread
    extension_modules = ()
    closed = False  # no more threads will come
    threads_cut = truncated = False

    def __init__(self, kind, offset, **known):
        self.kind, self.offset = kind, offset
        self.threads, self.idents, self.native = [], set(), []
        vars(self).update(known)

    def unfinished(self):
        if self.closed or not self.threads:
            return not (self.closed or self.runtime_state)
        return not (self.threads[-1].frames or self.threads[-1].note)

    def freeze(self):
        values = {each.name: getattr(self, each.name) for each in fields(Dump)}
        return Dump(
            **values
            | dict(
                threads=tuple(map(_freeze, self.threads)),
                native=tuple(self.native),
                truncated=self.truncated or self.unfinished(),
            )
        )


def _freeze(thread):
    cut = thread.cut or len(thread.frames) >= _FRAMES or _ends_in_a_recursion_through_c(thread)
    return replace(thread, frames=tuple(thread.frames), cut=cut)


def _ends_in_a_recursion_through_c(thread):
    """Only 3.14 and later name the thread."""
    return (
        thread.name != ''
        and len(thread.frames) >= _FRAMES_THROUGH_C
        and thread.frames[-1].function not in _OUTERMOST
    )


def _push(frames, frame):
    if frame is None:
        return False
    frames.append(frame)
    return True


class _Parser:
    """Fed line by line; RULES say what begins a line, what it needs and who takes it."""

    def __init__(self):
        self.drafts = []
        self.now = None  # the dump that lines go to
        self.noise = 0
        self.blank = False  # the line before was empty

    def feed(self, line, at, whole):
        self.at, noise = at, self.noise
        head, *headers = _HEADERS.split(line) if faultlines.MARK in line else (line,)
        if headers:
            self.headers(head, headers)
        elif line:
            self.content(line)
        if line and not whole and self.now and not noise:
            self.now.truncated = True
        self.blank |= whole and not line

    def headers(self, head, headers):
        """Headers begin in this line.  One without a reason, before another, lost it to that."""
        cut = self.now if head.startswith(_PREFIXES) else None
        self.at += len(head)
        for header in [h for h in headers if not h.endswith(b': ')] or headers[-1:]:
            reason, named = faultlines.read_reason(header)
            under = self.now if not self.now or self.now.threads else self.now.under
            self.begin(
                'fatal' if named or not reason else 'pyfatal',
                reason=reason,
                signal=named,
                raw=faultlines.read_text(header.partition(b': ')[2]),
                under=under,
            )
        if cut and cut.threads:
            self.now, cut.truncated = cut, True

    def begin(self, kind, **values):
        self.now = _Draft(kind, self.at, **values)
        self.drafts.append(self.now)
        self.noise, self.blank = 0, False

    def content(self, line):
        if self.dispatch(line):
            self.noise, self.blank = 0, False
        elif self.now:
            self.now.truncated |= line.startswith(_PREFIXES) and b', in ' not in line
            self.noise += 1
            self.now = self.now if self.noise <= _NOISE else None

    def dispatch(self, line):
        """Whether a rule took the line."""
        for prefix, needed, effect in RULES:
            if line.startswith(prefix):
                return self.has(needed) and effect(self, line) is not False
        return False

    def has(self, needed):
        """A thread may be one of the interrupted dump, where the interrupting one has none."""
        if needed == 'thread' and self.now and not self.now.threads:
            self.now = self.now.under or self.now
        return (
            not needed
            or self.now is not None
            and (needed == 'dump' or bool(self.now.threads) and not self.now.closed)
        )

    def timeout(self, line):
        time, end = line[9:-2], line[-2:]
        if end != b')!' or time.strip(b'0123456789:.'):
            return False
        self.begin('timeout', reason=faultlines.read_text(time))

    def state(self, line):
        """Py_FatalError writes this right under its header, which then was no signal's."""
        last = self.drafts[-1]
        if last.threads or last.kind not in ('fatal', 'pyfatal'):
            return False
        last.kind, last.signal, last.reason = 'pyfatal', None, last.raw
        last.runtime_state = faultlines.read_text(line.partition(b': ')[2])
        self.now = last

    def thread(self, line):
        """`Current thread 0x7f00 [name] (most recent call first):`, or `Thread ...`."""
        who, _, rest = line.partition(b'hread 0x')
        ident, space, name = rest.partition(b' ')
        if not space or faultlines.read_hexadecimal(ident) is None:
            return False
        name = name.removesuffix(b'(most recent call first):').strip()
        name = faultlines.read_text(name.removeprefix(b'[').removesuffix(b']'))
        self.add(ThreadStack(faultlines.read_hexadecimal(ident), name, who != b'T', []))

    def stack(self, line):
        """One stack, the current thread's: after a fatal header, that of the crash."""
        fatal = self.now and not self.now.threads and first_fatal([self.now])
        self.add(ThreadStack(None, '', bool(fatal), []))

    def freed(self, line):
        self.add(ThreadStack(None, '', False, [], note=faultlines.read_text(line)))

    def add(self, thread):
        """Threads of one dump have blank lines between them; without one, another dump begins."""
        now = self.now
        if now and self.blank and thread.ident in now.idents:
            self.forget_newborn(thread.ident)
        if not now or now.closed or thread.ident in now.idents or now.threads and not self.blank:
            self.begin('stack')
        self.now.threads.append(thread)
        self.now.idents.add(thread.ident)
        self.remark(self.now.note.encode())
        self.now.note = ''

    def forget_newborn(self, ident):
        """A thread that is being started has the ident of the one that starts it, which comes
        later, and no frame.
        """
        for number, thread in enumerate(self.now.threads):
            if thread.ident == ident and not thread.frames:
                self.now.threads[number] = replace(thread, ident=None)
                self.now.idents.discard(ident)

    def remark(self, line):
        thread = self.now.threads[-1]
        notes = filter(None, (thread.note[:_NOTE], faultlines.read_text(line.strip())))
        self.now.threads[-1] = replace(thread, note='; '.join(notes))

    def frame(self, line):
        return _push(self.now.threads[-1].frames, faultlines.read_frame(line))

    def native(self, line):
        return _push(self.now.native, faultlines.read_native(line))

    def gap(self, line):
        """`...` at the margin for threads left out, and indented for frames."""
        if line.startswith(b' '):
            self.now.threads[-1] = replace(self.now.threads[-1], cut=True)
        else:
            self.now.threads_cut = self.now.closed = True

    def single(self, line):
        self.now.note = faultlines.read_text(line)

    def close(self, line):
        self.now.closed = True

    def modules(self, line):
        """`Extension modules: a._b, c (total: 2)`; without the total the last name is torn."""
        names, total, _ = line.partition(b': ')[2].rpartition(b' (total: ')
        found = names.split(b', ') if total else line.partition(b': ')[2].split(b', ')[:-1]
        self.now.extension_modules = self.now.extension_modules or tuple(
            map(faultlines.read_name, found)
        )
        self.now.closed = True


RULES = (
    (b'  File ', 'thread', _Parser.frame),
    (b'  Binary file ', 'dump', _Parser.native),
    (b'  Garbage-collecting', 'thread', _Parser.remark),
    (b'  <', 'thread', _Parser.remark),
    (b'  ...', 'thread', _Parser.gap),
    (b'...', 'thread', _Parser.gap),
    (b'Thread 0x', '', _Parser.thread),
    (b'Current thread 0x', '', _Parser.thread),
    (b"Current thread's C stack trace ", 'dump', _Parser.close),
    (b'Stack (most recent call first):', '', _Parser.stack),
    (b'<freed thread state>', 'dump', _Parser.freed),
    (b'<Cannot show all threads', 'dump', _Parser.single),
    (b'Extension modules: ', 'dump', _Parser.modules),
    (b'Timeout (', '', _Parser.timeout),
    (b'Python runtime state: ', 'dump', _Parser.state),
)
# A line that begins so and that no rule takes is damaged, not foreign, unless a traceback's.
_PREFIXES = tuple(prefix for prefix, _, _ in RULES if len(prefix) > 5)
