"""Checks of what is installed and loaded: do versions fit together, is something missing, and where
do compiled modules come from?
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from ..knowledge.rules import has_packaging
from ..model.action import Action
from ..model.counts import counted
from ..model.counts import plural
from ..model.finding import Finding
from ..model.severities import CRITICAL
from ..model.severities import INFO
from ..model.severities import WARNING
from ..system.distributions import normalized
from ..system.runcontext import compiled_modules
from .check import Check
from .check import several
from .installedonpath import Distribution
from .installedonpath import first_of_each
from .installedonpath import installed
from .livesite import Site

_FAMILY = re.compile(
    r'(zope|z3c|zc|five|products|plone|collective|btrees|persistent|persistence|acquisition|accesscontrol|'
    r'extensionclass|transaction|relstorage|zodb|zodbpickle|zeo|chameleon|restrictedpython|waitress|zconfig|datetime|'
    r'documenttemplate|multimapping|missing|record|zexceptions|authencoding|tempstorage|zdaemon)(-|$)'
)
#: `Family` leaves this product out: `OptionalLibraries` reports what it lacks.
_OURSELVES = 'products-stabilitymonitor'
_REQUIREMENT = re.compile(r'\s*([A-Za-z0-9][\w.-]*)')
_DELETED = re.compile(r'(/.*\.so[^/]*) \(deleted\)$')
#: Releases that do not work together: name and versions of the first, name and versions of the
#: second, what happens, what to do, and the source.
_INCOMPATIBLE = (
    (
        'Zope',
        '<6.1',
        'ZODB',
        '>=6.3',
        'the next start fails: "child name class-factory already used"',
        Action('Run `pip install "ZODB<6.3"`, and restart.'),
        'ZODB CHANGES 6.3, Zope CHANGES 6.1, Zope issue 1291',
    ),
)
#: Optional libraries: module, what to install, and what does not work without it, as a clause.  If
#: `packaging` is missing, the check of known issues says so.
OPTIONAL = (
    (
        'psutil',
        'psutil',
        'memory, threads and descriptors are not recorded on systems without /proc',
    ),
    (
        'pystack',
        '"Products.StabilityMonitor[native]"',
        'C frames of crashes and hangs are not read',
    ),
)


class Family(Check):
    id = 'versions'
    question = 'Do the installed versions of Zope and its libraries fit together?'
    source = 'the metadata of the installed distributions'

    def look(self, site: Site) -> Finding | list[Finding]:
        if not has_packaging():
            return []  # the check of known issues says so, see `knowledgebase.WITHOUT_PACKAGING`
        found = installed(site.path)
        unmet = _unmet(found)
        findings = [*self._incompatible(first_of_each(found)), *self._twice(found)]
        if unmet:
            findings.append(
                self.found(
                    WARNING,
                    'Some installed versions do not fit together.',
                    several(text for text, _ in unmet),
                    Action(
                        'Run `pip install {wanted}` (better: with the constraints file of your '
                        'Zope release), and restart.',
                        wanted=' '.join(sorted({want for _, want in unmet})[:4]),
                    ),
                    'unmet',
                )
            )
        return findings or self.ok(
            'The installed versions fit together.',
            counted(len(found), 'distribution was read.', 'distributions were read.'),
        )

    def _incompatible(self, known: dict[str, Distribution]) -> Iterator[Finding]:
        for one, its, other, others, why, action, source in _INCOMPATIBLE:
            a = known.get(normalized(one))
            b = known.get(normalized(other))
            if a is None or b is None:
                continue
            if _within(a.version, its) and _within(b.version, others):
                yield self.found(
                    CRITICAL,
                    f'{one} {a.version} does not work with {other} {b.version}.',
                    f'{why[0].upper()}{why[1:]} ({source}).',
                    action,
                    f'{one}-{other}',
                )

    def _twice(self, found: tuple[Distribution, ...]) -> Iterator[Finding]:
        places: dict[tuple[str, str], dict[str, str]] = {}
        for d in found:
            places.setdefault((normalized(d.name), d.folder), {})[d.version] = d.name
        for (name, folder), versions in places.items():
            if len(versions) > 1:
                yield self.found(
                    WARNING,
                    f'{versions.popitem()[1]} is installed twice in one folder.',
                    f'{folder} has metadata of several versions: an update was interrupted.',
                    Action('Delete ')
                    + Action(', ').join(_metadata(folder, name))
                    + Action(
                        ', and run "pip install --force-reinstall --no-deps {name}".', name=name
                    ),
                    f'twice-{name}',
                )


def _within(version: str, specifiers: str) -> bool:
    """Whether a version meets specifiers; False for a version that PEP 440 does not allow."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifiers).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _metadata(folder: str, name: str) -> list[Action]:
    """Return the paths of the folders with the metadata of a distribution, marked as code."""
    return [
        Action('"{path}"', path=path)
        for path in sorted(Path(folder).glob('*-info'))
        if normalized(path.name.partition('-')[0]) == name
    ]


def _unmet(found: tuple[Distribution, ...]) -> tuple[tuple[str, str], ...]:
    """Return (sentence, requirement) for each requirement of the Zope family that is not met."""
    known = first_of_each(found)
    lacking = []
    for key, distribution in known.items():
        if key == _OURSELVES or not _FAMILY.match(key):
            continue
        for line in distribution.requires:
            unmet = _lacking(distribution, line, known)
            if unmet:
                lacking.append(unmet)
    return tuple(lacking)


def _lacking(
    distribution: Distribution, line: str, known: dict[str, Distribution]
) -> tuple[str, str] | None:
    """Return (sentence, requirement) if a requirement of a distribution is not met, else None."""
    if 'extra ==' in line or 'extra==' in line:
        return None
    bare = _REQUIREMENT.match(line)
    if bare and normalized(bare[1]) in known and not re.search(r'[<>=!~;]', line):
        return None  # any version is allowed, as in most lines: the line need not be parsed
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion

    try:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({'extra': ''}):
            return None
        there = known.get(normalized(wanted.name))
        if there and wanted.specifier.contains(there.version, prereleases=True):
            return None
    except (InvalidRequirement, InvalidVersion, ValueError):
        return None
    has = f'but {there.version} is installed' if there else 'which is not installed'
    return (
        f'{distribution.name} {distribution.version} requires {wanted.name}{wanted.specifier}, '
        f'{has}',
        f'"{wanted.name}{wanted.specifier}"',
    )


class OptionalLibraries(Check):
    id = 'optional-libraries'
    question = 'Are the optional libraries of this product installed?'
    source = 'importlib'

    def look(self, site: Site) -> Finding | list[Finding]:
        missing = [row for row in OPTIONAL if importlib.util.find_spec(row[0]) is None]
        if not missing:
            names = several(row[0] for row in OPTIONAL)
            return self.ok('All optional libraries are installed.', names)
        return [
            self.found(
                INFO,
                f'{name} is not installed.',
                f'Without it, {off}.',
                Action('Run `pip install {wanted}`, and restart.', wanted=wanted),
                name,
            )
            for name, wanted, off in missing
        ]


class CompiledModules(Check):
    """The HOWTO calls them the likely suspects: any compiled module can crash the process."""

    id = 'compiled-modules'
    question = 'Do all compiled modules come from the environment of this site?'
    source = 'sys.modules'

    def look(self, site: Site) -> Finding | list[Finding]:
        files: dict[str, Path] = {}
        for name in compiled_modules():
            file = getattr(site.modules.get(name), '__file__', None)
            if file:
                files[name] = Path(file)
        foreign: dict[str, list[str]] = {}
        for name, path in files.items():
            where = _origin(path, site)
            if where:
                foreign.setdefault(where, []).append(name)
        if not foreign:
            return self.ok(
                'All compiled modules come from this environment.',
                f'{counted(len(files), "module")} of '
                + several(sorted({name.partition('.')[0] for name in files}), 30),
            )
        return [
            self.found(
                INFO,
                counted(len(names), 'compiled module comes', 'compiled modules come')
                + f' from {_ORIGINS[where]}.',
                several(sorted(names), 20),
                Action(
                    'Install their distributions into the environment of this site: a module that '
                    'was built for another Python or with other libraries can crash it.'
                ),
                where,
            )
            for where, names in foreign.items()
        ]


#: Where compiled modules come from, as the end of the id of a finding, and in words.
_ORIGINS = {
    'the-home-of-a-user': 'the home of a user',
    'the-system': 'the system',
    'outside-the-environment': 'outside the environment',
}


def _origin(file: Path, site: Site) -> str:
    """Return where a compiled module comes from, as a key of _ORIGINS; '' if it comes from the
    environment of this site, its instance or an egg of its buildout.
    """
    homes = [Path(home).resolve() for home in (site.python.prefix, site.zope.instance_home) if home]
    if any(file.resolve().is_relative_to(home) for home in homes):
        return ''
    if any(part.endswith('.egg') for part in file.parts):
        return ''
    if '.local' in file.parts:
        return 'the-home-of-a-user'
    return 'the-system' if file.is_relative_to('/usr') else 'outside-the-environment'


class ReplacedLibraries(Check):
    """Finds an update that was made while the process runs: what it imports afterwards may not fit
    what it has already loaded.
    """

    id = 'replaced-libraries'
    question = 'Are the loaded libraries still the same as those on disk?'
    source = '/proc/self/maps'

    def look(self, site: Site) -> Finding:
        deleted = set()
        for line in site.lines('self/maps'):
            found = _DELETED.search(line)
            if found:
                deleted.add(found[1])
        gone = sorted(deleted)
        if not gone:
            return self.ok('The loaded libraries are the same as those on disk.')
        return self.found(
            WARNING,
            counted(len(gone), 'library was', 'libraries were')
            + ' replaced or deleted after this process had loaded '
            + plural(len(gone), 'it.', 'them.'),
            several(gone),
            Action('Restart Zope: what it imports now may not fit what it has already loaded.'),
        )
