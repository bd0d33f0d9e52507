"""What each check must fulfil: its interface, findings that a person can act on, and no error on
any system.
"""

import re
from pathlib import Path
from types import SimpleNamespace

from zope.interface.verify import verifyObject

from Products.StabilityMonitor.checks.check import ICheck
from Products.StabilityMonitor.checks.livesite import Database
from Products.StabilityMonitor.checks.livesite import Interpreter
from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.checks.livesite import ZopeFacts
from Products.StabilityMonitor.model.finding import Finding
from Products.StabilityMonitor.model.records import LifePoint
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.severities import WORST_FIRST


def strange_sites(folder):
    """Return sites that no check may fail on: nothing is known, or everything is odd."""
    nowhere = Path(folder) / 'nowhere'
    bare = dict(
        directory=nowhere,
        proc=nowhere,
        etc=nowhere,
        unit_folders=(),
        environ={},
        modules={},
        path=(),
        stack=None,
        outputs={},
    )
    odd = SimpleNamespace(__file__=None)
    return {
        'nothing is known': Site(**bare),
        'garbage': Site(
            **bare
            | dict(
                directory=Path('/'),
                proc=_garbage(Path(folder)),
                modules={'odd': odd, 'none': None},
                context={
                    'cgroup': {'directory': str(nowhere), 'version': 7},
                    'supervisor': 'systemd',
                },
                outputs={'standard output': 9999},
                arguments=('', '--paste', '--log-config=', '#.ini'),
                path=('', str(nowhere), '/etc/hostname'),
                samples=(Sample(0, 0), Sample(-1e9, 5), Sample(1e9, 5)),
                curve=(LifePoint(0, 0), LifePoint(5, 9, rss=1 << 60), LifePoint(1, -9, rss=1)),
                zope=ZopeFacts(
                    threads=0,
                    switches={'debug-mode': None},
                    databases=(
                        Database('', '', 0),
                        Database('x', 'y', -1, ('/',), '/nowhere/at/all', lambda: 0.0),
                    ),
                ),
            )
        ),
        'another Python': Site(
            **bare | dict(python=Interpreter((9, 0, 0), 'alpha', True, False, True, '/nowhere'))
        ),
        'this process': Site(directory=Path(folder)),
    }


def _garbage(folder):
    proc = folder / 'proc'
    (proc / 'self').mkdir(parents=True, exist_ok=True)
    for name in (
        'self/status',
        'self/maps',
        'self/environ',
        'self/mountinfo',
        'self/cgroup',
        'meminfo',
        'vmstat',
    ):
        (proc / name).write_bytes(b'\xff\x00 = : -\n\n kB\nMemTotal: x kB\n' * 3)
    return proc


class CheckConformance:
    """Mix this into a class with a fixture `check`."""

    def test_it_provides_the_interface_of_a_check(self, check):
        verifyObject(ICheck, check)

    def test_it_has_no_state(self, check, tmp_path):
        before = dict(vars(check))
        for site in strange_sites(tmp_path).values():
            check.look(site)
        assert vars(check) == before

    def test_it_has_an_id_a_question_and_a_source(self, check):
        assert re.fullmatch(r'[a-z][a-z0-9-]*', check.id)
        assert check.question.endswith('?') and check.question[0].isupper()
        assert check.source

    def test_it_works_on_every_system(self, check, tmp_path):
        for name, site in strange_sites(tmp_path).items():
            found = check.look(site)
            findings = [found] if isinstance(found, Finding) else list(found)
            assert findings, name
            for finding in findings:
                self.assert_useful(check, finding)
            assert len({finding.id for finding in findings}) == len(findings), name

    @staticmethod
    def assert_useful(check, finding):
        """A finding has one sentence, an action if there is trouble, and the source of the fact."""
        assert finding.id == check.id or finding.id.startswith(f'{check.id}:')
        assert finding.check == check.id
        assert finding.severity in WORST_FIRST
        assert finding.title and finding.title[-1] in '.?!' and finding.source
        assert not finding.severity.presses or finding.action, finding
        assert all(isinstance(text, str) for text in finding.to_json().values())
        assert '`' not in str(finding.action), 'a backquote without its pair'
