"""The parts of a report that are read only on demand: logs, configuration, changes, gaps."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from typing import TypeVar

from ..knowledge import changedsince
from ..knowledge import systemfacts
from ..knowledge.changedsince import RunFacts
from ..model.errors import NoSuchRun
from ..model.interfaces import ILivingRun
from ..model.jsonform import to_json
from ..model.reportparts import ChangedSince
from ..model.reportparts import Gap
from ..model.runrecord import RunRecord
from ..postmortem.evidence import World
from ..store import distributionsets
from ..store.archive import Archive
from ..store.rundirectory import SERVING
from ..store.rundirectory import read_json
from ..system.eventlog import LOGGER
from ..system.runcontext import compiled_modules
from . import configurationfiles
from . import fromdisk
from . import gaps
from . import logportions
from .fromdisk import Document
from .fromdisk import RecordedRun
from .subject import Subject
from .subject import of_life
from .subject import of_run

#: The keys of these parts in a report.
LOGS = 'logs'
CONFIGURATION = 'configuration'
NOT_TOLD = 'not_told'
CHANGED = 'changed_since_stable'
#: The configuration as a whole, among what is not told.
ZOPE_CONF = 'zope-conf'
_STABLE = 'last-stable'
PARTS = (LOGS, CONFIGURATION, NOT_TOLD, CHANGED)

Value = TypeVar('Value')
_NO_GAPS: list[Gap] = []
_UNCHANGED: tuple[ChangedSince, list[Gap]] = (ChangedSince(), [])
#: No values, and no gaps.
_EMPTY: tuple[list[Any], list[Gap]] = ([], _NO_GAPS)


@dataclass(frozen=True)
class _About:
    """The run that the parts are about: this process (`life`), or a run by its files."""

    subject: Subject
    run: RecordedRun | None
    life: ILivingRun | None = None

    @property
    def record(self) -> RunRecord | None:
        return self.subject.record


def parts_of(
    wanted: Collection[str],
    life: ILivingRun | None,
    archive: Archive,
    run: str | None,
    left: RecordedRun | None,
    world: World | None = None,
) -> Document:
    """Return those of PARTS that are wanted, as in a report:

    logs [LogPortion], configuration [ConfigurationFile], not_told [Gap] and changed_since_stable
    (ChangedSince), see `model.reportparts`; about the archived `run`, or else about this process
    or the run `left`.  What fails is a Gap.
    """
    about = _about(life, archive, run, left, world or World())
    if about is None:
        return {key: value for key, value in _nothing().items() if key in wanted}
    missing: list[Gap] = []
    document: Document = {}
    if LOGS in wanted:
        logs, without = _safely(LOGS, lambda: logportions.portions(about.subject), missing, _EMPTY)
        document[LOGS] = list(map(to_json, logs))
        missing += without
    if CONFIGURATION in wanted:
        files, without = _safely(
            ZOPE_CONF, lambda: configurationfiles.texts(about.subject), missing, _EMPTY
        )
        document[CONFIGURATION] = list(map(to_json, files))
        missing += without
    if CHANGED in wanted:
        changed, without = _safely(_STABLE, lambda: _changed(about, archive), missing, _UNCHANGED)
        document[CHANGED] = to_json(changed)
        missing += without
    if NOT_TOLD in wanted:
        missing = _safely('gaps', lambda: _gaps(about), missing, _NO_GAPS) + missing
        document[NOT_TOLD] = list(map(to_json, missing))
    return document


def _nothing() -> Document:
    return {LOGS: [], CONFIGURATION: [], NOT_TOLD: [], CHANGED: to_json(ChangedSince())}


def _about(
    life: ILivingRun | None,
    archive: Archive,
    run: str | None,
    left: RecordedRun | None,
    world: World,
) -> _About | None:
    if run:
        recorded = fromdisk.of_record(archive, archive.record(run))
        return _About(of_run(recorded, archive, world), recorded)
    if life:
        return _About(of_life(life, world), None, life)
    if left:
        return _About(of_run(left, archive, world), left)
    return None


def _gaps(about: _About) -> list[Gap]:
    if about.record and about.run:
        return gaps.of_record(about.record, fromdisk.versions(about.run))
    return []


def _safely(what: str, read: Callable[[], Value], missing: list[Gap], nothing: Value) -> Value:
    """Return what `read` returns.  If it raises, the report says so in `missing` and is made all
    the same: the files of others, and a record, may be anything.
    """
    try:
        return read()
    except Exception as error:
        LOGGER.warning('A part of a report could not be made: %s.', what, exc_info=True)
        missing.append(Gap(what, 'failed', detail=f'{type(error).__name__}: {error}'))
        return nothing


# -- what has changed ------------------------------------------------------------------------------


def _changed(about: _About, archive: Archive) -> tuple[ChangedSince, list[Gap]]:
    changed = _since_stable(about, archive)
    return changed, [] if changed.run else [Gap(_STABLE, 'no-such-run')]


def _since_stable(about: _About, archive: Archive) -> ChangedSince:
    if about.life:
        role, instance, number = about.life.role, about.life.instance, None
    elif about.run:
        record = about.run.record
        role = str(about.run.context.get('role') or 'server')
        instance, number = about.run.instance, record.number if record else None
    else:
        return ChangedSince()
    stable = changedsince.last_stable(archive.summaries(), role, instance, number)
    if stable is None:
        return ChangedSince()
    try:
        then = fromdisk.of_record(archive, archive.record(stable.run))
    except NoSuchRun:  # it was pruned meanwhile
        return ChangedSince()
    return ChangedSince(
        run=stable.run,
        started=stable.started,
        ended=stable.ended,
        changes=changedsince.changes(_facts(then), _facts_now(about)),
    )


def _facts_now(about: _About) -> RunFacts:
    if about.run:
        return _facts(about.run)
    directory = about.life.directory if about.life else None
    # The versions at the start of this process: a later install takes effect at a restart.
    noted = distributionsets.of_run(directory.path) if directory else {}
    versions = noted.get('distributions') or systemfacts.here().distributions
    return RunFacts(about.subject.context, versions, compiled_modules())


def _facts(run: RecordedRun) -> RunFacts:
    modules = run.record.compiled_modules if run.record else ()
    noted = read_json(run.path / SERVING).get('compiled_modules')
    if not modules and isinstance(noted, list):
        modules = tuple(map(str, noted))
    return RunFacts(run.context, fromdisk.versions(run), modules)
