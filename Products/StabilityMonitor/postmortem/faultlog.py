"""Reads the texts that faulthandler and Py_FatalError leave behind.

Bytes in, values out.  There is no I/O.  Whatever the bytes are, no exception is raised, and the
time is linear in their number.  The formats are those of CPython 3.11 to 3.15 (traceback.c,
faulthandler.c, pylifecycle.c).  A dying process writes such a text in many small pieces:

* The text may stop anywhere.  In a preallocated file NULs follow; they end a torn line.
* A second thread may crash meanwhile.  Its header is then in the middle of a line, often right
  after the first header: `Fatal Python error: Fatal Python error: AbortedIllegal instruction` was
  seen.  faulthandler writes no stacks for the second thread, so what follows belongs to the dump
  that was interrupted.  If two dumps are mixed word by word, only whole lines are read.
* A log of standard error has other text in between.  Up to 8 foreign lines in a row are skipped;
  more of them end a dump.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..model.records import Frame
from ..model.records import NativeFrame
from ..model.threadstates import ThreadState
from . import faultlines

#: At most this many bytes are parsed by one call.
LIMIT = 1 << 20
#: faulthandler shows at most this many frames of a thread.  Python 3.13 does not say when there are
#: more.
_FRAMES = 100
#: Python 3.14 counts each entry from C code as a frame, but does not show it.  So of a recursion
#: through C only half as many frames are shown.
_FRAMES_THROUGH_C = 50
#: The outermost function of a complete stack: of a script, of `python -m`, or of a thread.
_OUTERMOST = ('<module>', '_run_module_as_main', '_bootstrap')
#: A dump ends when more than this many foreign lines follow one another.
_NOISE = 8
_LINES = re.compile(rb'([^\n\0]*)(\n|\0+|\Z)')
_HEADERS = re.compile(rb'(?=Fatal Python error(?:: | from unexpected signum: ))')
#: When a thread gets another note, at most this many characters of its earlier notes are kept.
_NOTE = 200
#: What Python 3.14 and later write at the thread at which they stop.
_FREED = '<freed thread state>'
#: The kinds of dumps that begin with "Fatal Python error".
_FATAL = ('fatal', 'pyfatal')


@dataclass(frozen=True)
class Dump:
    """One dump, with the values that its text holds.

    `kind` is 'fatal' (a signal), 'pyfatal' (Py_FatalError), 'timeout' (dump_traceback_later) or
    'stack' (register() and dump_traceback(), which write no header).  `reason` is for example
    'Segmentation fault', 'func: message', or the time of a timeout, '0:01:00'.  `signal` is None if
    the text names no signal.  `threads` are in the order of the text, newest first.  `truncated`
    says that the text ends too early or is damaged.  `offset` is in bytes from the start of the
    input.
    """

    kind: str
    reason: str
    signal: str | None
    runtime_state: str
    threads: tuple[ThreadState, ...]
    native: tuple[NativeFrame, ...]
    extension_modules: tuple[str, ...]
    threads_cut: bool
    truncated: bool
    offset: int

    @property
    def crashed_thread(self) -> ThreadState | None:
        for thread in self.threads:
            if thread.crashed:
                return thread
        return None

    def names(self, ident: int | None) -> bool:
        """Whether the dump shows the thread with this ident."""
        return ident in {thread.ident for thread in self.threads}

    @property
    def leaves_out_threads(self) -> bool:
        """Whether the process may have had more threads than the dump names.

        Python names at most 100.  Python 3.14 and later stop at a thread that ends meanwhile: with
        two threads that always started another one, one dump in six named no thread at all.
        """
        return self.threads_cut or any(thread.note == _FREED for thread in self.threads)


def parse(data: bytes, start: int = 0) -> tuple[Dump, ...]:
    """Return all dumps in the first LIMIT bytes of `data` from `start` on."""
    start = max(0, start)
    parser = _Parser()
    text = data[start : start + LIMIT]
    for match in _LINES.finditer(text):
        line, end = match.groups()
        parser.feed(
            line.removesuffix(b'\r'),
            at=start + match.start(),
            whole=end == b'\n',
        )
    return tuple(draft.freeze() for draft in parser.drafts)


def first_fatal(dumps: Iterable[Dump]) -> Dump | None:
    """Return the first dump with a fatal header, or None.  Later ones are its consequences."""
    for dump in dumps:
        if dump.kind in _FATAL:
            return dump
    return None


def with_crashed(dump: Dump, ident: int) -> Dump:
    """Return the dump with the thread `ident` as the one that crashed.

    That thread may be missing, because the dump was cut short before it.
    """
    threads = []
    for thread in dump.threads:
        threads.append(replace(thread, crashed=thread.ident == ident))
    if not dump.names(ident):
        threads.append(ThreadState(ident=ident, crashed=True))
    return replace(dump, threads=tuple(threads))


def find_py_fatal(data: bytes, main_ident: int | None) -> Dump | None:
    """Return the last fatal dump in the tail of a stderr log that names the thread `main_ident`.

    Only this ident shows which process wrote the text.  If no dump names it, the last dump is
    returned if it leaves out threads: it may be of this process.  None is returned also for an
    error during which an exception was set: Python then prints a plain traceback.
    """
    if not main_ident:
        return None
    fatal = [dump for dump in parse(data, start=len(data) - LIMIT) if dump.kind in _FATAL]
    for dump in reversed(fatal):
        if dump.names(main_ident):
            return dump
    if fatal and fatal[-1].leaves_out_threads:
        return fatal[-1]
    return None


@dataclass
class _DraftThread:
    """A thread that is being parsed."""

    ident: int | None
    name: str
    crashed: bool
    note: str = ''
    cut: bool = False
    frames: list[Frame] = field(default_factory=list)

    def freeze(self) -> ThreadState:
        is_full = len(self.frames) >= _FRAMES
        return ThreadState(
            ident=self.ident or 0,
            name=self.name,
            crashed=self.crashed,
            frames=tuple(self.frames),
            cut=self.cut or is_full or self.ends_in_a_recursion_through_c(),
            note=self.note,
        )

    def ends_in_a_recursion_through_c(self) -> bool:
        """Whether the stack is cut after _FRAMES_THROUGH_C frames.

        Only Python 3.14 and later cut it so; these are also the releases that name the thread.
        """
        if not self.name or len(self.frames) < _FRAMES_THROUGH_C:
            return False
        outermost = self.frames[-1]
        return outermost.function not in _OUTERMOST


@dataclass
class _Draft:
    """A dump that is being parsed."""

    kind: str
    offset: int
    reason: str = ''
    signal: str | None = None
    raw: str = ''  # the whole text of the reason; it may contain a signal's name
    under: _Draft | None = None  # the dump that this one interrupted
    runtime_state: str = ''
    note: str = ''  # belongs to the next thread
    extension_modules: tuple[str, ...] = ()
    closed: bool = False  # no more threads follow
    threads_cut: bool = False
    truncated: bool = False
    threads: list[_DraftThread] = field(default_factory=list)
    idents: set[int | None] = field(default_factory=set)  # of its threads
    native: list[NativeFrame] = field(default_factory=list)

    def is_unfinished(self) -> bool:
        if self.closed:
            return False
        if not self.threads:
            return not self.runtime_state
        last = self.threads[-1]
        return not last.frames and not last.note

    def freeze(self) -> Dump:
        return Dump(
            kind=self.kind,
            reason=self.reason,
            signal=self.signal,
            runtime_state=self.runtime_state,
            threads=tuple(thread.freeze() for thread in self.threads),
            native=tuple(self.native),
            extension_modules=self.extension_modules,
            threads_cut=self.threads_cut,
            truncated=self.truncated or self.is_unfinished(),
            offset=self.offset,
        )


class _Parser:
    """Reads line by line.

    RULES say how a line begins, what must be there before it, and which method reads it.  Such a
    method returns False if the line turns out to be something else.
    """

    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.now: _Draft | None = None  # the dump to which lines are added
        self.at = 0  # where the line begins, in bytes
        self.noise = 0  # foreign lines since the last line of a dump
        self.blank = False  # whether the line before was empty

    @property
    def dump(self) -> _Draft:
        """The dump to which lines are added; read only by methods that run while there is one."""
        assert self.now is not None
        return self.now

    def feed(self, line: bytes, at: int, whole: bool) -> None:
        self.at = at
        noise = self.noise
        head = line
        headers: list[bytes] = []
        if faultlines.MARK in line:  # a quick test, because few lines have a header
            head, *headers = _HEADERS.split(line)
        if headers:
            self.headers(head, headers)
        elif line:
            self.content(line)

        is_torn = line and not whole
        if is_torn and self.now and not noise:
            self.now.truncated = True
        is_blank = whole and not line
        if is_blank:
            self.blank = True

    def headers(self, head: bytes, headers: list[bytes]) -> None:
        """Begin a dump for each header in this line.

        If a second thread crashes while faulthandler writes a header, two headers come before the
        reason of the first.  So a header without a reason is skipped if another header follows.
        """
        interrupted = None
        if head.startswith(_PREFIXES):
            interrupted = self.now
        self.at += len(head)
        with_reason = [header for header in headers if not header.endswith(b': ')]
        for header in with_reason or headers[-1:]:
            reason, signal = faultlines.read_reason(header)
            is_signal = signal or not reason
            _, _, raw = header.partition(b': ')
            draft = _Draft(
                kind='fatal' if is_signal else 'pyfatal',
                offset=self.at,
                reason=reason,
                signal=signal,
                raw=faultlines.read_text(raw),
                under=self.now,
            )
            if self.now and not self.now.threads:
                draft.under = self.now.under
            self.begin(draft)
        if interrupted and interrupted.threads:
            interrupted.truncated = True
            self.now = interrupted

    def begin(self, draft: _Draft) -> None:
        self.now = draft
        self.drafts.append(draft)
        self.noise = 0
        self.blank = False

    def content(self, line: bytes) -> None:
        if self.dispatch(line):
            self.noise = 0
            self.blank = False
        elif self.now:
            if line.startswith(_PREFIXES) and b', in ' not in line:
                self.now.truncated = True
            self.noise += 1
            if self.noise > _NOISE:
                self.now = None

    def dispatch(self, line: bytes) -> bool:
        """Read the line by the rule that applies; return whether there is one."""
        for prefix, needed, read in RULES:
            if not line.startswith(prefix):
                continue
            if not self.has(needed):
                return False
            return read(self, line)
        return False

    def has(self, needed: str) -> bool:
        """Whether there is what a rule needs: a dump, or a thread of a dump.

        If the current dump has no threads and has interrupted another dump, a line of a thread
        belongs to the interrupted dump.
        """
        if not needed:
            return True
        if needed == 'thread' and self.now and not self.now.threads:
            self.now = self.now.under or self.now
        if not self.now:
            return False
        if needed == 'dump':
            return True
        return bool(self.now.threads) and not self.now.closed

    def timeout(self, line: bytes) -> bool:
        """Read `Timeout (0:01:00)!`."""
        if not line.endswith(b')!'):
            return False
        time = line[len(b'Timeout (') : -2]
        if time.strip(b'0123456789:.'):
            return False
        draft = _Draft('timeout', self.at, reason=faultlines.read_text(time))
        self.begin(draft)
        return True

    def state(self, line: bytes) -> bool:
        """Read `Python runtime state: ...`.

        Py_FatalError writes this line right after its header.  So the dump is not that of a signal,
        even if its reason contains the text of a signal.
        """
        last = self.drafts[-1]
        if last.threads or last.kind not in _FATAL:
            return False
        last.kind = 'pyfatal'
        last.signal = None
        last.reason = last.raw
        _, _, state = line.partition(b': ')
        last.runtime_state = faultlines.read_text(state)
        self.now = last
        return True

    def thread(self, line: bytes) -> bool:
        """Read `Current thread 0x7f00 [name] (most recent call first):`, or `Thread ...`."""
        _, _, rest = line.partition(b'hread 0x')
        digits, space, name = rest.partition(b' ')
        ident = faultlines.read_hexadecimal(digits)
        if not space or ident is None:
            return False
        name = name.removesuffix(b'(most recent call first):').strip()
        name = name.removeprefix(b'[').removesuffix(b']')
        thread = _DraftThread(
            ident=ident,
            name=faultlines.read_text(name),
            crashed=line.startswith(b'Current'),
        )
        self.add(thread)
        return True

    def stack(self, line: bytes) -> bool:
        """Read the heading of a stack without a thread ident.

        Right after a fatal header, this is the stack of the thread that crashed.
        """
        crashed = False
        if self.now and not self.now.threads:
            crashed = self.now.kind in _FATAL
        thread = _DraftThread(ident=None, name='', crashed=crashed)
        self.add(thread)
        return True

    def freed(self, line: bytes) -> bool:
        thread = _DraftThread(ident=None, name='', crashed=False)
        thread.note = faultlines.read_text(line)
        self.add(thread)
        return True

    def add(self, thread: _DraftThread) -> None:
        """Add a thread to the current dump, or begin another dump.

        The threads of one dump have blank lines between them.
        """
        now = self.now
        if now and self.blank and thread.ident in now.idents:
            self.forget_newborn(thread.ident)
        if not now or not self.belongs_to(now, thread):
            now = _Draft('stack', self.at)
            self.begin(now)
        now.threads.append(thread)
        now.idents.add(thread.ident)
        self.remark(now.note.encode())
        now.note = ''

    def belongs_to(self, dump: _Draft, thread: _DraftThread) -> bool:
        if dump.closed or thread.ident in dump.idents:
            return False
        return self.blank or not dump.threads

    def forget_newborn(self, ident: int | None) -> None:
        """Remove that ident from a thread that was being started during the dump.

        The dump shows such a thread without frames, and with the ident of the thread that starts
        it.  The thread that really has the ident comes later in the dump.
        """
        for thread in self.dump.threads:
            if thread.ident == ident and not thread.frames:
                thread.ident = None
                self.dump.idents.discard(ident)

    def remark(self, line: bytes) -> bool:
        thread = self.dump.threads[-1]
        before = thread.note[:_NOTE]
        note = faultlines.read_text(line.strip())
        if before and note:
            thread.note = f'{before}; {note}'
        else:
            thread.note = before or note
        return True

    def frame(self, line: bytes) -> bool:
        frame = faultlines.read_frame(line)
        if frame is None:
            return False
        self.dump.threads[-1].frames.append(frame)
        return True

    def native(self, line: bytes) -> bool:
        frame = faultlines.read_native(line)
        if frame is None:
            return False
        self.dump.native.append(frame)
        return True

    def more_frames(self, line: bytes) -> bool:
        self.dump.threads[-1].cut = True
        return True

    def more_threads(self, line: bytes) -> bool:
        self.dump.threads_cut = True
        self.dump.closed = True
        return True

    def single(self, line: bytes) -> bool:
        self.dump.note = faultlines.read_text(line)
        return True

    def close(self, line: bytes) -> bool:
        self.dump.closed = True
        return True

    def modules(self, line: bytes) -> bool:
        """Read `Extension modules: a._b, c (total: 2)`; without a total the last name is torn."""
        _, _, listed = line.partition(b': ')
        whole, total, _ = listed.rpartition(b' (total: ')
        if total:
            names = whole.split(b', ')
        else:
            names = listed.split(b', ')[:-1]
        dump = self.dump
        if not dump.extension_modules:
            dump.extension_modules = tuple(map(faultlines.read_name, names))
        dump.closed = True
        return True


#: How a line begins, what must be there ('thread', 'dump' or nothing), and what reads it.
RULES: tuple[tuple[bytes, str, Callable[[_Parser, bytes], bool]], ...] = (
    (b'  File ', 'thread', _Parser.frame),
    (b'  Binary file ', 'dump', _Parser.native),
    (b'  Garbage-collecting', 'thread', _Parser.remark),
    (b'  <', 'thread', _Parser.remark),
    (b'  ...', 'thread', _Parser.more_frames),
    (b'...', 'thread', _Parser.more_threads),
    (b'Thread 0x', '', _Parser.thread),
    (b'Current thread 0x', '', _Parser.thread),
    (b"Current thread's C stack trace ", 'dump', _Parser.close),
    (b'Stack (most recent call first):', '', _Parser.stack),
    (_FREED.encode(), 'dump', _Parser.freed),
    (b'<Cannot show all threads', 'dump', _Parser.single),
    (b'Extension modules: ', 'dump', _Parser.modules),
    (b'Timeout (', '', _Parser.timeout),
    (b'Python runtime state: ', 'dump', _Parser.state),
)
# A line that begins like this and that no rule reads is damaged, not foreign, unless it is a line
# of a traceback.  Short beginnings such as "..." are left out: foreign lines often begin so.
_PREFIXES = tuple(prefix for prefix, _, _ in RULES if len(prefix) > 5)
