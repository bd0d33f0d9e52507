"""The check of libraries of which this process has more than one copy."""

from __future__ import annotations

from ..model.action import NOTHING
from ..model.action import Action
from ..model.finding import Finding
from ..model.librarycopies import Copies
from ..model.librarycopies import library_copies
from ..model.severities import INFO
from ..model.severities import WARNING
from ..model.sharedobject import SharedObject
from ..system import sharedobjects
from .check import Check
from .check import several
from .livesite import Site

#: It exists only as a wheel; another distribution is the same code to build.
_ONLY_A_WHEEL, _ITS_SOURCE = 'psycopg2-binary', 'psycopg2'


class LibraryCopies(Check):
    """A warning only for libraries of which such crashes are known.

    Most wheels bring copies of libraries such as libz or libgcc_s, which nothing else in the
    process uses: that is how they are meant to be, and one line of information tells it.
    """

    id = 'library-copies'
    question = 'Is each library only once in this process?'
    source = '/proc/self/maps'

    def look(self, site: Site) -> Finding | list[Finding]:
        maps = '\n'.join(line.rstrip('\n') for line in site.lines('self/maps'))
        mapped = sharedobjects.mapped(maps, site.modules)
        if not mapped:
            return self.unknown('Which libraries are loaded is not known on this system.')
        copies = library_copies(mapped)
        owned = sharedobjects.with_owners(each for one in copies for each in one.objects)
        copies = library_copies(owned)
        findings = [self._dangerous(one) for one in copies if one.is_known_to_crash]
        usual = [one for one in copies if not one.is_known_to_crash]
        if usual:
            findings.append(self._usual(usual))
        return findings or self.ok(
            'Each library is only once in this process.', f'{len(mapped)} files with code.'
        )

    def _dangerous(self, copies: Copies) -> Finding:
        return self.found(
            WARNING,
            f'There are {len(copies.objects)} copies of {copies.library} in this process.',
            _list(copies)
            + '. Crashes are known when two parts of a process use different copies of it.',
            _advice(copies),
            copies.library,
        )

    def _usual(self, every: list[Copies]) -> Finding:
        return self.found(
            INFO,
            'Some libraries are in this process more than once.',
            '; '.join(f'{one.library}: {_list(one)}' for one in every)
            + '. This is usual for wheels, and seldom does harm.',
        )


def _list(copies: Copies) -> str:
    return several(_named(each) for each in copies.objects)


def _named(one: SharedObject) -> str:
    if one.distribution:
        return f'{one.file} ({one.distribution} {one.version})'
    return one.file


def _advice(copies: Copies) -> Action:
    """Return how to get rid of copies that wheels brought."""
    names = {each.distribution for each in copies.objects if each.distribution}
    if not names:
        return Action('Find out which programs brought them, and let all use the same file.')
    before = NOTHING
    if _ONLY_A_WHEEL in names:
        names = (names - {_ONLY_A_WHEEL}) | {_ITS_SOURCE}
        before = Action('Run "pip uninstall {name}". ', name=_ONLY_A_WHEEL)
    return before + Action(
        'Build from source what brings a copy of its own, so that it uses that of the system: run '
        '"pip install --force-reinstall --no-deps --no-binary {listed} {words}", and restart.',
        listed=','.join(sorted(names)),
        words=' '.join(sorted(names)),
    )
