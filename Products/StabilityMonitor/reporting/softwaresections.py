"""The sections of a report about what was installed, how it was configured, and what changed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator

from ..model.counts import counted
from ..model.jsonform import from_json
from ..model.jsonform import items_from_json
from ..model.records import clocktime
from ..model.reportparts import Change
from ..model.reportparts import ConfigurationFile
from ..model.siteparts import ConfiguredDatabase
from ..model.siteparts import PloneSite
from ..threads import codeorigin
from . import crashedstack
from .axes import size
from .blocks import Block
from .blocks import Facts
from .blocks import Item
from .blocks import Items
from .blocks import Lines
from .blocks import Paragraph
from .blocks import Table
from .causewords import object_line
from .fromdisk import Document
from .reading import Reading
from .reading import whole_lines
from .runtext import change_line
from .runtext import changes_note

#: Distributions whose versions a maintainer of Zope asks for in any case.
_USUAL = (
    'Zope',
    'Products.CMFPlone',
    'ZODB',
    'ZEO',
    'RelStorage',
    'persistent',
    'BTrees',
    'AccessControl',
    'Acquisition',
    'ExtensionClass',
    'waitress',
    'gunicorn',
    'Products.StabilityMonitor',
)
#: Facts of a process that the versions section shows first, and what they are called there.
_FIRST = {'zope': 'Zope', 'plone': 'Plone', 'python': 'Python', 'system': 'System'}
#: Facts that other sections have, or that were not known at the start of a run.
_ELSEWHERE = ('run', 'pid', 'uptime_seconds', 'started', 'recording', 'directory', 'platform')
#: Changes of these kinds are named by it.
_NAMED = ('module', 'option', 'setting')
#: Shorter values, such as the number of threads, may be part of another one by chance.
_TELLING = 5


# -- versions --------------------------------------------------------------------------------------


def versions(reading: Reading) -> Iterator[Block]:
    """The HOWTO's versions string: Zope, Plone, Python, the operating system and its parts."""
    facts = _process_facts(reading)
    rows = [(label, facts.pop(key, '')) for key, label in _FIRST.items()]
    rows += [(_name(key), value) for key, value in reading.inventory['system'].items()]
    rows += [(_name(key), facts[key]) for key in facts if key not in _ELSEWHERE]
    known = [(name, _words(value)) for name, value in rows if value not in (None, '')]
    products = ('Products', ', '.join(reading.inventory['products']) or 'not recorded')
    yield Facts((*_without_repetition(known), products))


def _without_repetition(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the rows whose value is not a part of an earlier one: "Python" has the compiler."""
    values: list[str] = []
    for name, value in rows:
        if len(value) < _TELLING or not any(value in earlier for earlier in values):
            yield name, value
            values.append(value)


def _process_facts(reading: Reading) -> Document:
    """Return the facts of the process; in a report about an incident, those of its context."""
    report = reading.report
    if reading.is_state or reading.record is None:
        return dict(report.get('process') or report.get('last_process') or {})
    context = reading.record.context
    software = context.get('software')
    facts = dict(software) if isinstance(software, dict) else {}
    facts.pop('databases', None)
    for key in ('python', 'supervisor', 'core_pattern', 'thread_stack'):
        facts[key] = context.get(key)
    return facts


def _name(key: str) -> str:
    name = key.replace('_', ' ')
    return name[:1].upper() + name[1:]


def _words(value: object) -> str:
    match value:
        case bool():
            return 'on' if value else 'off'
        case [int(size), int(guard)]:  # of a thread's stack, in bytes
            return f'{size >> 10} KiB, guard {guard >> 10} KiB'
    return str(value)


# -- what was installed ----------------------------------------------------------------------------


def telling_distributions(reading: Reading) -> Iterator[Block]:
    """The distributions that matter: suspects, those in the stack that crashed, the usual ones."""
    reasons: dict[str, str] = {}
    for name, reason in _reasons(reading):
        reasons.setdefault(_normalized(name), reason)
    usual = set(map(_normalized, _USUAL))
    rows, others = [], []
    for each in reading.inventory['distributions']:
        name = _normalized(each['name'])
        if name in reasons:
            rows.append((each['name'], each['version'], reasons[name]))
        elif name in usual:
            others.append(f'{each["name"]} {each["version"]}')
    order = list(dict.fromkeys(reasons.values()))
    rows.sort(key=lambda row: order.index(row[2]))
    if rows:
        yield Table(('Distribution', 'Version', 'Why'), tuple(rows))
    if others:
        yield Paragraph(f'Usually asked for: {", ".join(others)}.')


def _reasons(reading: Reading) -> Iterator[tuple[str, str]]:
    record = reading.record
    if record and not reading.is_state:
        for suspect in record.suspects:
            yield suspect.distribution or suspect.module.partition('.')[0], 'suspect'
        owners = {each.file: each.distribution for each in record.shared_objects}
        for frame in crashedstack.frames(record):
            owner = owners.get(frame.library, '') or codeorigin.place(frame.file).package
            if owner:
                yield owner, 'in the stack that crashed'
    for change in reading.changed_since.changes:
        yield change.name, 'changed'


def _normalized(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def all_distributions(reading: Reading) -> Iterator[Block]:
    lines = tuple(
        f'{each["name"]} {each["version"]}' for each in reading.inventory['distributions']
    )
    yield Lines(lines) if lines else Paragraph('Not recorded.')


def compiled_modules(reading: Reading) -> Iterator[Block]:
    record = reading.record
    if not reading.is_state and record and record.shared_objects:
        yield Lines(tuple(map(object_line, record.shared_objects)))
        return
    names = reading.inventory.get('compiled_modules') or ()
    if not reading.is_state and record:
        names = record.compiled_modules or names
    if names:
        yield Paragraph(', '.join(names))


def databases(reading: Reading) -> Iterator[Block]:
    known = items_from_json(ConfiguredDatabase, reading.inventory.get('databases'))
    if known:
        yield Items(tuple(Item(database_words(database)) for database in known))


def database_words(database: ConfiguredDatabase) -> str:
    words = [f'{database.name} at {", ".join(database.mounted) or "?"}: {database.storage}']
    if database.adapter:
        driver = f' with the driver {database.driver}' if database.driver else ''
        words.append(f'{database.adapter}{driver}')
    if database.servers:
        words.append(f'server {", ".join(database.servers)}')
    if database.shared_cache >= 0:
        words.append(f'shared cache {size(database.shared_cache)}')
    if database.cache_objects >= 0:
        cache = f'cache of each connection {counted(database.cache_objects, "object")}'
        if database.cache_bytes > 0:
            cache += f' and {size(database.cache_bytes)}'
        words.append(cache)
    if database.connections >= 0:
        words.append(f'pool of {counted(database.connections, "connection")}')
    return '; '.join(words)


def add_ons(reading: Reading) -> Iterator[Block]:
    """The add-ons of the Plone sites; nothing if there are no sites, or none could be read."""
    for site in items_from_json(PloneSite, reading.report.get('sites')):
        lines = tuple(f'{add_on.profile} {add_on.version}' for add_on in site.add_ons)
        yield Lines(lines, site.path)
    note = reading.source('sites').get('note')
    if note:
        yield Paragraph(note)


# -- what changed ----------------------------------------------------------------------------------


def changes(reading: Reading) -> Iterator[Block]:
    """What changed since the last run that was stable, and what has changed since this one."""
    since = reading.changed_since
    if since.run:
        stable = f'the last run that ended as wanted, {since.run} ({clocktime(since.ended)})'
        if since.changes:
            rows = tuple(_change(each) for each in since.changes)
            yield Table(('What', 'Then', 'Now'), rows, f'Since {stable}')
        else:
            yield Paragraph(
                f'Versions, modules, options and settings are those of {stable}. The code of the '
                'site itself is not compared.'
            )
    versions = reading.run.get('versions')
    if not versions or reading.record is None:
        return
    yield Paragraph(changes_note(versions, reading.record.verdict))
    if versions['changed']:
        yield Items(tuple(Item(change_line(change)) for change in versions['changed']))


def _change(change: Change) -> tuple[str, str, str]:
    name = change.name
    if change.kind in _NAMED:
        name = f'{change.kind} {name}'
    return name, change.before or 'none', change.now or 'none'


def configuration(reading: Reading) -> Iterator[Block]:
    for document in reading.report.get('configuration') or ():
        file = from_json(ConfigurationFile, document)
        cut = ' (its end is cut)' if file.cut else ''
        yield Lines(whole_lines(document), f'{file.file}{cut}')
