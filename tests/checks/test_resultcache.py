"""What a check has found is remembered until something changes that it looks at: a wrong memory is
worse than none.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import timeit
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.checkconformance import CheckConformance
from zope.interface import implementer
from zope.interface.verify import verifyObject

from Products.StabilityMonitor.checks import knownissues
from Products.StabilityMonitor.checks import resultcache
from Products.StabilityMonitor.checks.check import Check
from Products.StabilityMonitor.checks.check import ILasting
from Products.StabilityMonitor.checks.everycheck import CHECKS
from Products.StabilityMonitor.checks.knownissues import KnownIssues
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.checks.resultcache import FILE
from Products.StabilityMonitor.checks.resultcache import Remembered
from Products.StabilityMonitor.checks.resultcache import remembering
from Products.StabilityMonitor.checks.software import Family
from Products.StabilityMonitor.knowledge import systemfacts
from Products.StabilityMonitor.model.records import Finding
from Products.StabilityMonitor.system import fingerprints

CHECKOUT = Path(__file__).resolve().parents[2]


@implementer(ILasting)
class Counted(Check):
    """Says how often it was asked; what it looks at is `at`."""

    id, question, source = 'counted', 'Is it so?', 'a test'

    def __init__(self, at='this', about=''):
        self.at, self.about, self.times = at, about, 0

    def looks_at(self, site):
        return (self.at,)

    def look(self, site):
        self.times += 1
        return self.found(
            'warning', f'Asked {self.times} times.', 'Why: "<ü\udc80>".', 'Do.', self.about
        )


@pytest.fixture
def life(tmp_path):
    return SimpleNamespace(directory=object(), base=SimpleNamespace(file_mode=0o640), path=tmp_path)


@pytest.fixture
def site(tmp_path):
    return SimpleNamespace(directory=tmp_path)


def title(life, site, check):
    """Of the one finding: as a process that has just been started has it."""
    (found,) = Remembered(check, life).look(site)
    return found.title


# -- the memory ------------------------------------------------------------------------------------


def test_the_next_start_has_it_as_it_was_found(life, site):
    check = Counted(about='x')
    first, second = Remembered(check, life).look(site), Remembered(check, life).look(site)
    assert (
        first
        == second
        == [Finding('counted:x', 'warning', 'Asked 1 times.', 'Why: "<ü\udc80>".', 'Do.', 'a test')]
    )
    assert (site.directory / FILE).stat().st_mode & 0o777 == 0o640


def test_it_is_the_check_for_whoever_asks(life):
    check = Counted()
    ours = Remembered(check, life)
    assert verifyObject(ILasting, ours) and (ours.id, ours.question, ours.source) == (
        check.id,
        check.question,
        check.source,
    )


def test_checks_whose_answer_lasts_are_those_two(life):
    checks = (*CHECKS, KnownIssues())
    assert [check.id for check in remembering(checks, life) if isinstance(check, Remembered)] == [
        'versions',
        'known-issues',
    ]
    assert [check.id for check in remembering(checks, life)] == [check.id for check in checks]


def test_something_else_is_another_answer_and_the_old_one_is_kept(life, site):
    check = Counted()
    assert title(life, site, check) == 'Asked 1 times.'
    check.at = 'that'
    assert [title(life, site, check) for _ in range(2)] == ['Asked 2 times.'] * 2
    check.at = 'this'
    assert title(life, site, check) == 'Asked 1 times.'


def test_the_newest_few_are_kept(life, site):
    check = Counted()
    for check.at in range(12):
        title(life, site, check)
    assert len(json.loads((site.directory / FILE).read_text())['counted']) == 8
    check.at = 4
    assert title(life, site, check) == 'Asked 5 times.'
    check.at = 3
    assert title(life, site, check) == 'Asked 13 times.'


def test_checks_do_not_disturb_each_other(life, site):
    one, other = Counted(), Counted()
    other.id = 'other'
    for _ in range(2):
        assert title(life, site, one) == title(life, site, other) == 'Asked 1 times.'


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        'null',
        '7',
        '{"counted": 7}',
        '{"counted": [7, null, {}]}',
        '{"counted": [{"of": "MARK"}]}',
        '{"counted": [{"of": "MARK", "findings": []}]}',
        '{"counted": [{"of": "MARK", "findings": {"a": 1}}]}',
        '{"counted": [{"of": "MARK", "findings": [7]}]}',
        '[' * 9999,
        '\0',
        '{"counted": {"of": "MARK"}}',
        '{"counted": [{"of": "MARK", "findings": [{"id": "counted", "severity": "loud"}]}]}',
        '{"counted": [{"of": "MARK", "findings": [{"id": "counter", "severity": "ok"}]}]}',
    ],
)
def test_a_damaged_or_foreign_file_costs_a_new_look(life, site, text):
    (site.directory / FILE).write_text(text.replace('MARK', fingerprints.digest(('this',))))
    assert [title(life, site, Counted()) for _ in range(2)] == ['Asked 1 times.'] * 2
    assert json.loads((site.directory / FILE).read_text())['counted'][-1]['findings'], (
        'and is mended'
    )


@pytest.mark.parametrize('trouble', ['full', 'a directory', 'gone'])
def test_where_nothing_can_be_kept_it_is_asked_each_time(life, site, monkeypatch, trouble):
    if trouble == 'full':
        monkeypatch.setattr(
            resultcache, 'write_whole', lambda *args: open('/dev/full', 'w').write('x' * 99999)
        )
    elif trouble == 'a directory':
        (site.directory / FILE).mkdir()
    else:
        site.directory = site.directory / 'gone'
    check = Counted()
    assert [title(life, site, check) for _ in range(2)] == ['Asked 1 times.', 'Asked 2 times.']


def test_a_run_that_records_nothing_leaves_nothing(life, site):
    life.directory, check = None, Counted()
    assert [title(life, site, check) for _ in range(2)] == ['Asked 1 times.', 'Asked 2 times.']
    assert os.listdir(site.directory) == []


def test_trouble_of_another_kind_may_pass_and_is_not_kept(life, site):
    class Troubled(Counted):
        def look(self, site):
            return [
                super().look(site),
                Finding('counted-file', 'warning', 'A file cannot be read.'),
            ]

    check = Troubled()
    assert [len(Remembered(check, life).look(site)) for _ in range(2)] == [2, 2]
    assert check.times == 2 and not (site.directory / FILE).exists()


def test_what_changes_while_it_is_asked_is_not_kept(life, site):
    class Changing(Counted):
        def look(self, site):
            self.at = f'{self.times}'
            return super().look(site)

    check = Changing()
    title(life, site, check)
    assert not (site.directory / FILE).exists()


def test_without_knowing_what_it_looks_at_it_is_asked(life, site, caplog):
    check = Counted()
    check.looks_at = lambda site: 1 / 0
    assert [title(life, site, check) for _ in range(2)] == ['Asked 1 times.', 'Asked 2 times.']
    assert (
        'What the check counted looks at is not known' in caplog.text
        and not (site.directory / FILE).exists()
    )


def test_a_check_that_fails_fails_as_ever(life, site):
    check = Counted()
    check.look = lambda site: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Remembered(check, life).look(site)


def test_many_at_once_may_lose_an_answer_but_never_the_file(life, site):
    def work(number):
        for _ in range(20):
            assert title(life, site, Counted(f'{number % 3}')) == 'Asked 1 times.'

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = json.loads((site.directory / FILE).read_text())['counted']
    assert {row['of'] for row in kept} <= {
        fingerprints.digest((f'{number}',)) for number in range(3)
    } and kept
    assert os.listdir(site.directory) == [FILE]


class TestThoseThatAreRemembered(CheckConformance):
    @pytest.fixture(params=[KnownIssues, Family])
    def check(self, life, request):
        return Remembered(request.param(), life)

    def test_it_says_what_it_looks_at(self, check):
        assert verifyObject(ILasting, check.check)


# -- what they look at -----------------------------------------------------------------------------


class World:
    """A site with two folders on its path, in which something happens."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        self.paths = [folder / 'one', folder / 'two', folder / 'shop.egg']
        self.site = Site(folder, started=1.0, path=tuple(map(str, self.paths)))
        self.install('zope.interface', '8.6')
        self.install('Zope', '6.3', 'Requires-Dist: zope.interface>=8')
        self.paths[1].mkdir()
        self.paths[2].write_text('as it was')

    def install(self, name, version, *lines):
        place = self.paths[0] / f'{name}-{version}.dist-info'
        place.mkdir(parents=True)
        (place / 'METADATA').write_text(
            '\n'.join((f'Name: {name}', f'Version: {version}', *lines, ''))
        )
        return place

    def upgrade(self):
        shutil.rmtree(self.paths[0] / 'zope.interface-8.6.dist-info')
        self.install('zope.interface', '8.7')

    def rewrite(self):
        """As `setup.py develop` does, with the date of before; no folder tells of it."""
        file = self.paths[0] / 'Zope-6.3.dist-info' / 'METADATA'
        before = file.stat()
        file.write_text(file.read_text().replace('>=8', '>=9'))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace_egg(self):
        self.paths[2].write_text('another one')

    def becomes(self, module, name, value):
        self.monkeypatch.setattr(module, name, value)

    def change_system(self, **more):
        here = replace(systemfacts.here(), **more)
        self.becomes(systemfacts, 'here', lambda: here)

    def write_rules(self, text='# none yet\n'):
        (self.folder / 'known-issues.toml').write_text(text)

    def replace_program(self):
        self.becomes(fingerprints, '_PRODUCT', self.paths[0])

    def without_packaging(self):
        for name in [name for name in sys.modules if name.partition('.')[0] == 'packaging']:
            self.monkeypatch.setitem(sys.modules, name, None)


BOTH, RULES = ('versions', 'known-issues'), ('known-issues',)
CHANGES = {
    'something is installed': (BOTH, lambda w: w.install('waitress', '3.0.2')),
    'something is removed': (BOTH, lambda w: shutil.rmtree(w.paths[0] / 'Zope-6.3.dist-info')),
    'something is upgraded': (BOTH, World.upgrade),
    'metadata are written anew': (BOTH, World.rewrite),
    'the same is built anew': (BOTH, lambda w: os.utime(w.paths[0] / 'Zope-6.3.dist-info')),
    'an egg that is one file is replaced': (BOTH, World.replace_egg),
    'an egg appears': (
        BOTH,
        lambda w: (w.paths[1] / 'shop.egg-info').write_text('Name: shop\nVersion: 1\n'),
    ),
    'the path is turned round': (
        BOTH,
        lambda w: setattr(w, 'site', replace(w.site, path=w.site.path[::-1])),
    ),
    'a folder more': (
        BOTH,
        lambda w: setattr(w, 'site', replace(w.site, path=(*w.site.path, str(w.folder)))),
    ),
    'another release of ours': (BOTH, lambda w: w.becomes(fingerprints, '__version__', '99')),
    'our program is replaced': (BOTH, World.replace_program),
    'packaging is gone': (BOTH, World.without_packaging),
    'another Python': (BOTH, lambda w: w.becomes(sys, 'version', '3.99.0 (main)')),
    'another system': (
        BOTH,
        lambda w: w.becomes(fingerprints.os, 'uname', lambda: ('Linux', 'me', '9', '#1', 'riscv')),
    ),
    'other distributions than at first': (
        RULES,
        lambda w: w.change_system(distributions={'zope': '1'}),
    ),
    'a wheel is built here': (RULES, lambda w: w.change_system(builds={'lxml': 'source'})),
    'another C library': (RULES, lambda w: w.change_system(libc='musl 1.2.5')),
    'other stacks': (RULES, lambda w: w.change_system(stack=65536)),
    'another module is loaded': (
        RULES,
        lambda w: w.change_system(loaded=frozenset({'lxml.etree'})),
    ),
    'another executable': (
        RULES,
        lambda w: w.becomes(knownissues.sys, 'executable', '/opt/python3'),
    ),
    'it has not started': (RULES, lambda w: setattr(w, 'site', replace(w.site, started=None))),
    'the site has rules': (RULES, World.write_rules),
}


def marks(world):
    return {
        check.id: fingerprints.digest(check.looks_at(world.site))
        for check in (Family(), KnownIssues())
    }


def differ(before, after):
    return tuple(id for id in before if before[id] != after[id])


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_nothing_has_changed(world):
    before = marks(world)
    (world.folder / 'runs').mkdir()
    (world.paths[0] / 'module.py').touch()
    assert marks(world) == before, 'only what an answer depends on counts'


@pytest.mark.parametrize('what', CHANGES)
def test_each_change_leads_to_a_new_look(world, what):
    ids, happens = CHANGES[what]
    before = marks(world)
    happens(world)
    assert differ(before, marks(world)) == ids


def test_the_sites_own_rules_are_edited_or_a_day_begins_on_which_one_of_them_ends(world):
    before = marks(world)
    world.becomes(
        knownissues, 'datetime', SimpleNamespace(now=lambda zone: datetime(2031, 1, 1, tzinfo=UTC))
    )
    assert marks(world) == before, 'without rules each day is the same'
    world.write_rules()
    first = marks(world)
    world.becomes(
        knownissues, 'datetime', SimpleNamespace(now=lambda zone: datetime(2031, 1, 2, tzinfo=UTC))
    )
    second = marks(world)
    world.write_rules('# NONE YET\n')
    assert differ(first, second) == differ(second, marks(world)) == RULES


def test_a_silence_ends_although_the_answer_was_remembered(world, life):
    pytest.importorskip('packaging')
    world.write_rules(
        '[[issue]]\nid = "shop"\ntitle = "t"\nhappens = "h"\neffect = "crash"\nseverity = "info"\n'
        'action = "a"\nsource = "s"\nfixed = "f"\nplatform = ["' + sys.platform + '"]\n'
        '[[silence]]\nid = "shop"\nreason = "r"\nuntil = 2031-01-01\n'
    )
    from Products.StabilityMonitor.knowledge import knowledgebase

    def told(day):
        now = SimpleNamespace(now=lambda zone: datetime(2031, 1, day, tzinfo=UTC))
        for module in (knownissues, knowledgebase):
            world.becomes(module, 'datetime', now)
        return {finding.id for finding in Remembered(KnownIssues(), life).look(world.site)}

    assert (
        'known-issues:shop' not in told(1)
        and 'known-issues:shop' in told(2)
        and 'known-issues:shop' not in told(1)
    )
    assert len(json.loads((world.folder / FILE).read_text())['known-issues']) == 2


def test_who_had_the_product_replaced_under_him_answers_for_nobody_else(world):
    fresh = marks(world)
    at_first = fingerprints._at_first()
    world.replace_program()
    assert differ(fresh, marks(world)) == BOTH
    world.becomes(fingerprints, '_at_first', fingerprints._files)
    next_start = marks(world)
    world.becomes(fingerprints, '_at_first', lambda: at_first)
    assert differ(next_start, marks(world)) == BOTH


def test_what_was_found_is_what_is_found(world, life):
    """With whatever is installed here, the real checks, from the file as from themselves."""
    pytest.importorskip('packaging')
    site = Site(world.folder, started=1.0)
    for check in (Family(), KnownIssues()):
        found = check.look(site)
        found = [found] if isinstance(found, Finding) else found
        assert [Remembered(check, life).look(site) for _ in range(2)] == [found, found]
    assert set(json.loads((world.folder / FILE).read_text())) == set(BOTH)


# -- what that is good for -------------------------------------------------------------------------

PROGRAM = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from Products.StabilityMonitor.checks import resultcache as remembered
from Products.StabilityMonitor.checks.everycheck import CHECKS
from Products.StabilityMonitor.checks.knownissues import KnownIssues
from Products.StabilityMonitor.checks.livesite import Site
life = SimpleNamespace(directory=True, base=SimpleNamespace(file_mode=0o600))
site = Site(Path(sys.argv[1]), started=1.0)
for check in remembered.remembering((*CHECKS, KnownIssues()), life):
    check.look(site)
print(*sorted(name.rpartition('.')[2] for name in sys.modules if name in ('packaging', 'tomllib')
              or name.startswith('Products.StabilityMonitor.knowledge.')))
"""


def test_a_start_that_finds_all_as_it_was_imports_nothing_to_compare(tmp_path):
    pytest.importorskip('packaging')
    loaded = [
        subprocess.run(
            [sys.executable, '-c', PROGRAM, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {'PYTHONPATH': str(CHECKOUT)},
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert {'packaging', 'tomllib', 'knowledgebase', 'rules'} <= set(loaded[0])
    assert loaded[1] == ['systemfacts']


def test_to_see_that_nothing_has_changed_takes_about_as_long_as_to_ask(tmp_path):
    """What is spared is memory.  This is for what is many times as slow."""
    pytest.importorskip('packaging')
    site, checks = Site(tmp_path, started=1.0), (Family(), KnownIssues())

    def fastest(work):
        return min(timeit.repeat(lambda: list(map(work, checks)), number=1, repeat=5))

    looking = fastest(lambda check: fingerprints.digest(check.looks_at(site)))
    assert looking < 10 * fastest(lambda check: check.look(site))
