"""Which modules may have caused a death, each with its reason and how much speaks for it.

Each rule looks at one kind of trace and yields suspects; the best of each module counts.  That
nothing points anywhere is an answer, too.  Values in, values out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.counts import counted
from ..model.records import Frame
from ..model.runrecord import RunRecord
from ..model.suspects import STRENGTHS
from ..model.suspects import VICTIM
from ..model.suspects import DeathClass
from ..model.suspects import Suspect
from ..threads import codeorigin
from . import callees
from . import commonfeatures
from . import frametable
from .compiledmodules import Loaded
from .compiledmodules import Owner
from .compiledmodules import loaded
from .deathfacts import DeathFacts
from .frametable import PreparedFrame

#: At most this many suspects are named.
MOST = 5
CERTAIN, STRONG, LIKELY, WEAK = STRENGTHS
#: What a suspect of each strength scores; a rule adds at most 9.
_SCORES = {CERTAIN: 90, STRONG: 70, LIKELY: 50, WEAK: 30}
#: Classes of which no module is the cause.
_NO_MODULE = ('sent', 'file-cut-short')
#: How much the first foreign frame of a native stack says, by the class; if it is not on top, one
#: step less, except for what is certain.
_FIRST_FOREIGN = {
    'api-misuse': CERTAIN,
    'overrun': LIKELY,
    'heap-misuse': LIKELY,
    'wild-pointer': LIKELY,
    'at-exit': LIKELY,
    'fatal-error': LIKELY,
    'damaged-earlier': LIKELY,
    'reference-count': WEAK,
    'heap-damaged': WEAK,
    'jump-into-nowhere': WEAK,
}
#: At most this many threads are looked at.
_THREADS = 20
#: So many frames of one object in a row are a recursion in it.
_RECURSION = 10


@dataclass(frozen=True)
class _Case:
    """All that a rule may look at."""

    facts: DeathFacts
    death: DeathClass
    earlier: Sequence[RunRecord]
    read: callees.Read
    loaded: Loaded

    def suspect(self, owner: Owner, strength: str, why: str, more: int = 0) -> Suspect:
        is_zope = 'zope' in frametable.module_roles(owner.module)
        return Suspect(
            module=owner.module,
            distribution=owner.distribution,
            version=owner.version,
            file=owner.file,
            strength=strength,
            score=_SCORES[strength] + more - is_zope,
            why=why,
        )


def suspects(
    facts: DeathFacts, death: DeathClass, earlier: Sequence[RunRecord], read: callees.Read
) -> tuple[Suspect, ...]:
    """Return the suspects of a death, the first one first; () if nothing points anywhere.

    `earlier` are records of the same instance, newest first.
    """
    if death.id in _NO_MODULE:
        return ()
    case = _Case(facts, death, earlier, read, loaded(facts.record))
    best: dict[str, Suspect] = {}
    for rule in RULES:
        for suspect in rule(case):
            known = best.get(suspect.module)
            if known is None or known.score < suspect.score:
                best[suspect.module] = suspect
    ranked = sorted(best.values(), key=lambda each: -each.score)
    return tuple(ranked[:MOST])


# -- rules -----------------------------------------------------------------------------------------


def _first_foreign(case: _Case) -> Iterator[Suspect]:
    """The first native frame of neither the system nor Python, and the module that called it."""
    found = case.facts.first_foreign
    if found is None or case.death.id in ('stack-end', 'two-copies'):
        return
    index, first = found
    above = [each for each in case.facts.frames[:index] if not frametable.only_passes_on(each)]
    strength = _FIRST_FOREIGN.get(case.death.id, STRONG)
    if above and strength != CERTAIN:
        strength = _weaker(strength)
    passes_on = frametable.object_role(first.frame.library) == frametable.PASSES_ON
    if above and passes_on:
        strength = WEAK
    owner = case.loaded.of_file(first.frame.library)
    why = _why_first(first, bool(above), owner)
    caller = _calling_module(case, index, owner)
    if caller and caller.distribution and caller.distribution == owner.distribution:
        yield case.suspect(caller, strength, f'{why}  {caller.module} called it.', 5)
        return
    yield case.suspect(owner, strength, why, 5)
    if caller:
        weaker = strength if passes_on else _weaker(strength)
        yield case.suspect(caller, weaker, f'It called {owner.module} in the native stack.')


def _why_first(first: PreparedFrame, has_above: bool, owner: Owner) -> str:
    function = first.frame.function
    what = f'{function} of {owner.module}' if function else owner.module
    if has_above:
        return f'{what} called the code of Python or of the system that crashed.'
    return f'The innermost native frame is in {what}.'


def _calling_module(case: _Case, index: int, callee: Owner) -> Owner | None:
    """Return the Python module further down that called the first foreign frame, if that was in a
    library, or in code that only passes on.
    """
    first = case.facts.frames[index].frame.library
    is_library = not case.loaded.names.intersection({callee.module})
    passes_on = frametable.object_role(first) == frametable.PASSES_ON
    if not is_library and not passes_on:
        return None
    for each in case.facts.frames[index + 1 :]:
        if each.is_python:
            return None
        if not frametable.is_foreign(each.frame, case.facts.executable):
            continue
        owner = case.loaded.of_file(each.frame.library)
        if owner.module != callee.module and owner.module in case.loaded.names:
            return owner
    return None


def _recursion(case: _Case) -> Iterator[Suspect]:
    """Of a stack that came to its end: the object of which many frames follow one another."""
    if case.death.id != 'stack-end':
        return
    in_a_row = 0
    library = ''
    for frame in case.facts.stack:
        if frame.native and frame.library == library:
            in_a_row += 1
        else:
            library, in_a_row = frame.library, 1
        if in_a_row < _RECURSION or not frametable.is_foreign(frame, case.facts.executable):
            continue
        owner = case.loaded.of_file(library)
        why = f'{in_a_row} native frames of {owner.module} follow one another.'
        yield case.suspect(owner, STRONG, why)
        return


def _both_copies(case: _Case) -> Iterator[Suspect]:
    copies = case.facts.copies
    if case.death.id != 'two-copies' or copies is None:
        return
    for one in copies.objects:
        owner = case.loaded.of_file(one.file)
        why = f'It is one of {len(copies.objects)} copies of {copies.library} in the process.'
        yield case.suspect(owner, STRONG, why)


def _kernel_line(case: _Case) -> Iterator[Suspect]:
    """The object that the kernel names, where no native stack is known."""
    library = case.facts.library
    if case.facts.frames or frametable.object_role(library, case.facts.executable):
        return
    strength = STRONG
    if case.death.role == VICTIM or case.death.id in ('stack-end', 'wild-pointer', 'at-exit'):
        strength = LIKELY
    why = f'The kernel says that the fault was in {library}.'
    yield case.suspect(case.loaded.of_file(library), strength, why, 5)


def _imported(case: _Case) -> Iterator[Suspect]:
    """The module that was being imported."""
    if case.death.id != 'import':
        return
    names = callees.imported(case.facts.python, case.loaded, case.read)
    if not names:
        return
    known = [name for name in names if name in case.loaded.names]
    for name in (known or list(names))[:1]:
        why = 'The line of the innermost Python frame imports it.'
        yield case.suspect(case.loaded.of_module(name), STRONG, why, 2)


def _start_routine(case: _Case) -> Iterator[Suspect]:
    """The object of the function with which a thread of C code began."""
    routine = case.facts.routine
    if routine is None:
        return
    owner = case.loaded.of_file(routine.library)
    why = f'The thread that crashed began in {routine.function or owner.module}, which is its code.'
    yield case.suspect(owner, STRONG if case.death.id == 'native-thread' else LIKELY, why)


def _called(case: _Case) -> Iterator[Suspect]:
    """The compiled modules that the innermost Python frames may have called."""
    if case.facts.first_foreign or case.death.id in ('stack-end', 'import', 'native-thread'):
        return
    is_in_doubt = bool(case.facts.frames) and case.death.role != VICTIM
    for each in callees.callees(case.facts.python, case.loaded, case.read):
        is_called = each.how in (callees.EXACT, callees.PACKAGE)
        is_likely = is_called and each.depth == 0 and not is_in_doubt
        strength = LIKELY if is_likely else WEAK
        owner = case.loaded.of_module(each.module)
        if each.is_library:
            owner = case.loaded.of_file(each.module)
        yield case.suspect(owner, strength, _why_called(each), each.weight)


def _called_by_others(case: _Case) -> Iterator[Suspect]:
    """Of a thread that Python does not know: what the other threads were calling meanwhile."""
    if case.death.id != 'native-thread' or case.facts.stack:
        return
    for thread in case.facts.record.threads[:_THREADS]:
        for each in callees.callees(thread.frames, case.loaded, case.read, most=1):
            if each.how != callees.EXACT or each.depth or each.is_library:
                continue
            why = f'{_where(each.frame)} was calling it when another thread crashed.'
            yield case.suspect(case.loaded.of_module(each.module), WEAK, why, each.weight)


def _why_called(callee: callees.Callee) -> str:
    where = _where(callee.frame)
    if callee.how == callees.EXACT:
        return f'{where} uses it: the innermost Python code that may have called C code.'
    if callee.how == callees.PACKAGE:
        return f'{where} calls its package.'
    if callee.how == callees.NEARBY:
        return f'{where} called it before, and damage may surface later.'
    return f'{where} belongs to its package, or imports it.'


def _where(frame: Frame) -> str:
    line = f', line {frame.line}' if frame.line else ''
    return f'{frame.function} ({codeorigin.place(frame.file).short}{line})'


def _in_common(case: _Case) -> Iterator[Suspect]:
    """What the crashed runs of this instance had, and its other runs lacked."""
    for each in commonfeatures.common(case.facts.record, case.earlier):
        owners = (
            _owners(case, each.name) if not each.is_module else [case.loaded.of_module(each.name)]
        )
        what = f'{each.name} {each.version}' if each.version else 'it'
        why = (
            f'{counted(each.crashed, "run")} that crashed had {what}, and '
            f'{each.others} of those that did not.'
        )
        strength = LIKELY if each.probability < commonfeatures.LEVEL / 5 else WEAK
        for owner in owners:
            yield case.suspect(owner, strength, why, 1)


def _changed(case: _Case) -> Iterator[Suspect]:
    """The distributions with compiled modules that changed since the last run without a crash."""
    strength = LIKELY if case.death.id in ('damaged-earlier', 'heap-damaged') else WEAK
    for name, before, now in commonfeatures.changed(case.facts.record, case.earlier):
        what = f'changed from {before} to {now}' if before else f'{now} is new'
        why = f'{name} {what} since the last run that ended as wanted.'
        for owner in _owners(case, name)[:1]:
            yield case.suspect(owner, strength, why)


def _owners(case: _Case, distribution: str) -> list[Owner]:
    """Return the compiled modules of a distribution that were loaded."""
    found = []
    for name in sorted(case.loaded.names):
        owner = case.loaded.of_module(name)
        if owner.distribution == distribution:
            found.append(owner)
    return found


RULES: tuple[Callable[[_Case], Iterable[Suspect]], ...] = (
    _first_foreign,
    _recursion,
    _both_copies,
    _kernel_line,
    _imported,
    _start_routine,
    _called,
    _called_by_others,
    _in_common,
    _changed,
)


def _weaker(strength: str) -> str:
    index = STRENGTHS.index(strength)
    return STRENGTHS[min(index + 1, len(STRENGTHS) - 1)]
