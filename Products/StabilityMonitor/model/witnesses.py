"""What others saw of the end of a run, and what that changes in its record.  No I/O.

A witness is another process that saw the end: the one that waited for it, a sibling, the kernel.
Each writes down what it saw once, beside the record (`store.witnessfiles`).  The record stays as it
was judged.  What people see is made here from both, and it does not matter which came first.

A status that was witnessed decides where the own traces of a run decide nothing.  Of any other run
it is evidence, and may make its verdict certain.  What contradicts is shown with both sides.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from types import MappingProxyType

from . import stackends
from .faultfacts import KernelFault
from .records import Evidence
from .records import Moment
from .records import clocktime
from .runrecord import Amendment
from .runrecord import Decision
from .runrecord import RunRecord

#: Why a process was ended, as far as a witness tells it: the kernel for lack of memory, or for a
#: fault of its own code, so that nobody else sent the signal; or another process sent it.
OUT_OF_MEMORY = 'out-of-memory'
FAULT = 'fault'
SENT = 'sent'

#: {source: words for it}, most trusted first: who waited for the process, the kernel's own answer
#: about it and what it wrote into a core file, the log of the one who waited, and other logs.
SOURCES: Mapping[str, str] = MappingProxyType(
    {
        'run': 'stabilitymonitor run',
        'sibling': 'another Zope',
        'core': 'core file',
        'systemd': 'systemd',
        'journal': 'journal',
        'zdaemon': 'log of zdaemon',
        'supervisord': 'log of supervisord',
        'uwsgi': 'log of uWSGI',
        'gunicorn': 'log of gunicorn',
        'kernel': 'kernel log',
    }
)

_CRASH_SIGNALS = ('SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE')
_STOP_SIGNALS = ('SIGTERM', 'SIGINT')
#: Verdicts of runs whose own traces decide nothing.
_UNDECIDED = ('vanished', 'unreadable')
#: Verdicts which say that a signal ended the process: the one in the record.
_BY_SIGNAL = ('crashed', 'stack-overflow', 'aborted', 'out-of-memory')


@dataclass(frozen=True)
class Witness:
    """What one witness saw.

    `source` is a key of SOURCES.  `time` is when this was written down, `ended` when the process
    ended by the clock of the witness; both in seconds since the epoch.  `fact` is a sentence, or a
    quoted line.  `exit_code` (0 to 255) and `signal` (such as "SIGKILL") are None if the witness
    does not know them; at most one of them is set.  `asked` is the signal with which the witness
    asked the process to stop, or passed such a request on, before the end; '' if it did not.
    `cause` is OUT_OF_MEMORY, FAULT, SENT, or '' if it is not known.  `fault` is what the kernel
    says about the fault.  `at_stack_end`: a core file shows that a stack had come to its end.
    """

    source: str
    time: Moment
    fact: str
    ended: Moment | None = None
    exit_code: int | None = None
    signal: str | None = None
    core_dumped: bool = False
    asked: str = ''
    cause: str = ''
    fault: KernelFault | None = None
    at_stack_end: bool = False

    @property
    def knows_status(self) -> bool:
        return self.exit_code is not None or self.signal is not None

    @property
    def status(self) -> str:
        """The status in words: "SIGKILL", "exit status 3"; '' if it is not known."""
        if self.signal is not None:
            return f'{self.signal} (core dumped)' if self.core_dumped else self.signal
        if self.exit_code is not None:
            return f'exit status {self.exit_code}'
        return ''


def amended(record: RunRecord, witnesses: Sequence[Witness]) -> RunRecord:
    """Return the record with what these witnesses saw of the end.

    Their order does not matter.  `amendments` of the result says what each of them has changed, in
    the order in which they wrote.
    """
    if not witnesses:
        return record
    amendments = []
    seen: list[Witness] = []
    now = record
    for witness in sorted(witnesses, key=lambda each: (each.time, each.source)):
        seen.append(witness)
        before = now
        now = _with_witnesses(record, seen)
        amendments.append(
            Amendment(witness.time, witness.source, _decision(before), _decision(now))
        )
    return replace(now, amendments=tuple(amendments))


def _decision(record: RunRecord) -> Decision:
    return Decision(record.verdict, record.confidence, record.signal, record.exit_code)


def _with_witnesses(record: RunRecord, seen: Sequence[Witness]) -> RunRecord:
    ranked = sorted(seen, key=_rank)
    evidence = record.evidence + tuple(map(_evidence, ranked))
    fault = next((witness.fault for witness in ranked if witness.fault), None)
    record = replace(record, kernel_fault=record.kernel_fault or fault)
    is_in_core = any(witness.at_stack_end for witness in ranked)
    knowing = [witness for witness in ranked if witness.knows_status]
    if not knowing:
        return stackends.judged(replace(record, evidence=evidence), is_in_core)
    best = knowing[0]
    asked = next((witness.asked for witness in ranked if witness.asked), '')
    cause = next((witness.cause for witness in ranked if _agrees(witness, best)), '')
    if record.verdict in _UNDECIDED:
        found = _decided(record, best, asked, cause)
    else:
        found = replace(
            record,
            signal=record.signal or best.signal,
            exit_code=best.exit_code,
            confidence=_confidence(record, best, asked, cause),
        )
        if _contradicts(record, best):
            doubt = Evidence(SOURCES.get(best.source, best.source), _contradiction(record, best))
            evidence += (doubt,)
    for other in knowing[1:]:
        if (other.exit_code, other.signal) != (best.exit_code, best.signal):
            evidence += (_disagreement(best, other),)
            if found.confidence == 'certain':
                found = replace(found, confidence='strong')
    return stackends.judged(replace(found, evidence=evidence), is_in_core)


def _rank(witness: Witness) -> int:
    ranks = list(SOURCES)
    return ranks.index(witness.source) if witness.source in ranks else len(ranks)


def _agrees(witness: Witness, best: Witness) -> bool:
    return bool(witness.cause) and witness.signal == best.signal


def _evidence(witness: Witness) -> Evidence:
    source = SOURCES.get(witness.source, witness.source)
    if witness.ended is None:
        return Evidence(source, witness.fact)
    return Evidence(source, f'{clocktime(witness.ended)}: {witness.fact}')


def _decided(record: RunRecord, best: Witness, asked: str, cause: str) -> RunRecord:
    """Return the record of a run whose own traces decide nothing, as the witness decides."""
    confidence = 'certain'
    left = 'it wrote no stack' if record.verdict == 'vanished' else 'its own record is damaged'
    if cause == OUT_OF_MEMORY:
        verdict = 'out-of-memory'
        summary = 'The kernel killed Zope because memory had run out.'
    elif cause == SENT and best.signal in (*_CRASH_SIGNALS, 'SIGABRT'):
        verdict = 'signalled'
        summary = f'Zope was ended by {best.signal}, which was sent to it.'
    elif best.signal in (*_CRASH_SIGNALS, 'SIGABRT'):  # also if it was asked to stop before
        verdict = 'aborted' if best.signal == 'SIGABRT' else 'crashed'
        if cause == FAULT:
            summary = f'Zope crashed ({best.signal}); {left}.'
        else:
            confidence = 'strong'
            summary = (
                f'Zope was ended by {best.signal}, and {left}: it crashed, or another process sent '
                'this signal.'
            )
    elif asked or best.signal in _STOP_SIGNALS:
        verdict = 'stopped'
        summary = f'Zope was stopped by {asked or best.signal}; it ended with {best.status}.'
    elif best.signal == 'SIGKILL':
        verdict = 'killed'
        summary = 'Zope was killed (SIGKILL); the signal does not tell who sent it.'
    elif best.signal:
        verdict = 'signalled'
        summary = f'Zope was ended by {best.signal}, which leaves no trace of its own.'
    elif record.verdict == 'unreadable':  # it may have ended as it should
        verdict, confidence = record.verdict, record.confidence
        summary = (
            f'Zope exited with status {best.exit_code}; its own record is damaged, so why it did '
            'is not known.'
        )
    else:
        verdict = 'exited'
        summary = (
            f'Zope exited with status {best.exit_code} and without clean-up: by os._exit, or by '
            'exit() in C code.'
        )
    return replace(
        record,
        verdict=verdict,
        confidence=confidence,
        summary=summary,
        signal=best.signal,
        exit_code=best.exit_code,
        candidates=(),
        # That such a signal would have left a mark is refuted now.
        ruled_out=record.ruled_out if verdict in ('killed', 'exited') else (),
    )


def _confidence(record: RunRecord, best: Witness, asked: str, cause: str) -> str:
    """Return the confidence of a verdict that the run's own traces have decided."""
    if _contradicts(record, best):
        return 'strong' if record.confidence == 'certain' else record.confidence
    if record.verdict == 'stopped':
        # An exit or the signal itself is the end that was asked for.  After SIGKILL, only who asked
        # knows that.
        was_asked = bool(asked) or record.signal is not None or record.phase == 'finished'
        if was_asked and (asked or best.signal in (None, record.signal)):
            return 'certain'
    elif record.verdict == 'signalled' and best.signal == record.signal:
        return 'certain'
    elif record.verdict == 'out-of-memory' and cause == OUT_OF_MEMORY:
        return 'certain'
    elif record.verdict == 'crashed' and record.signal and cause == FAULT:
        return 'certain'
    return record.confidence


def _contradicts(record: RunRecord, best: Witness) -> bool:
    """Whether the status that was seen is not one with which such a run ends."""
    if record.verdict == 'stopped':
        return best.signal in _CRASH_SIGNALS or best.signal == 'SIGABRT'
    if record.verdict in _BY_SIGNAL:
        return bool(record.signal) and best.signal != record.signal
    if record.verdict == 'signalled':  # a handler of other code may have turned it into an exit
        return best.signal not in (None, record.signal, 'SIGKILL')
    return False


def _contradiction(record: RunRecord, best: Witness) -> str:
    own = f'"{record.verdict}"' + (f', {record.signal}' if record.signal else '')
    return (
        f'This contradicts the traces of the run itself: they say {own}, and it ended with '
        f'{best.status}.'
    )


def _disagreement(best: Witness, other: Witness) -> Evidence:
    one = SOURCES.get(best.source, best.source)
    two = SOURCES.get(other.source, other.source)
    return Evidence(
        two,
        f'This contradicts what was seen by {one}: there it is {best.status}, here {other.status}.',
    )
