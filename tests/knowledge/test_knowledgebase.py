"""Known issues: each rule applies as its proof says, files are not trusted, and versions and traces
count together.
"""

import os
import re
import signal
import struct
import sys
import time
import tomllib
from dataclasses import replace
from datetime import UTC
from datetime import date
from datetime import datetime
from datetime import timedelta
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support import syntheticruns as synthetic
from support.childprograms import run_python

from Products.StabilityMonitor.knowledge import knowledgebase
from Products.StabilityMonitor.knowledge import leftlines
from Products.StabilityMonitor.knowledge import rules as known_rules
from Products.StabilityMonitor.knowledge import systemfacts
from Products.StabilityMonitor.knowledge.knowledgebase import load
from Products.StabilityMonitor.knowledge.systemfacts import System
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import LogLine
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.severities import SEVERITIES
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.postmortem import faultlog
from Products.StabilityMonitor.postmortem import incident
from Products.StabilityMonitor.postmortem.verdict import Judgement
from Products.StabilityMonitor.postmortem.verdict import judge
from Products.StabilityMonitor.system import distributions as installed
from Products.StabilityMonitor.system import stacksizes

pytest.importorskip('packaging', reason='without packaging the knowledge base is off')

DATA = Path(__file__).parents[1] / 'data' / 'known_issues'
PROOFS = tomllib.loads((DATA / 'proofs.toml').read_text('utf-8'))
ROWS = tomllib.loads((DATA / 'rows.toml').read_text('utf-8'))
RULES = {rule.id: rule for rule in knowledgebase.shipped().rules}
SYSTEM = {
    'python': '3.11.7',
    'platform': 'linux',
    'machine': 'x86_64',
    'libc': 'glibc 2.36',
    'free_threaded': False,
    'debug': False,
    'bits': 64,
    'stack': 8 << 20,
}
SHOWN = sorted(
    id for id, rule in RULES.items() if any(getattr(rule, kind) for kind in rule.EVIDENCE)
)
ISSUE = """[[issue]]
id = "%s"
title = "A title"
happens = "What happens."
effect = "crash"
severity = "warning"
fixed = "not known"
action = "bad >= 2"
source = "the test"
"""
GOOD = ISSUE % 'good-one' + 'distributions = {bad = "<2"}\n'


def hits(id):
    return listed(PROOFS[id]['hit'])


def misses(id):
    return listed(PROOFS[id]['miss'])


def listed(value):
    return value if isinstance(value, list) else [value]


def system(distributions=None, **values):
    values['loaded'] = frozenset(values['loaded']) if 'loaded' in values else None
    return System(
        distributions={
            known_rules.normalized(name): version for name, version in (distributions or {}).items()
        },
        **SYSTEM | values,
    )


def context(values):
    """Return the context.json of a run on that system, with its versions."""
    names = {'linux': 'Linux-6.1.0-', 'darwin': 'Darwin-23.0.0-', 'freebsd': 'FreeBSD-14.0-'}
    kernel = next(text for name, text in names.items() if values.platform.startswith(name))
    build = ' free-threading build' if values.free_threaded else ''
    return {
        'distributions': dict(values.distributions),
        'python': f'{values.python}{build} (main, Nov 1 2026)',
        'implementation': 'CPython',
        'platform': kernel + values.machine,
        'libc': values.libc,
        'bits': values.bits,
        'thread_stack': [values.stack, 4096],
    }


def died(proof, system):
    """Return the record of a run on that system, made by triage from the traces of the proof."""
    dumps = faultlog.parse(proof.get('text', '').encode())
    dump, verdict = faultlog.first_fatal(dumps), proof.get('verdict', 'crashed')
    if dump:
        traces = synthetic.traces(
            **{'fault' if dump.signal else 'stderr_fault': dump}, fault_time=synthetic.STARTED
        )
        record = incident.record(traces, judge(traces))
    else:
        judgement = Judgement(verdict, 'strong', 'It ended.', signal=proof.get('signal'))
        record = incident.record(
            synthetic.traces(stderr_fault=dumps[0] if dumps else None), judgement
        )
    log = tuple(LogLine(1000.0, 'WARNING', *line.split(': ', 1)) for line in proof.get('log', ()))
    return replace(
        record,
        context=context(system),
        compiled_modules=tuple(system.loaded or ()),
        log=log,
        exception=proof.get('exception', ''),
        phase=proof.get('phase', 'serving'),
        samples=samples(proof.get('busy', False), proof.get('growth', False)),
    )


def samples(busy=False, growth=False):
    return tuple(
        Sample(
            time=1000.0 + n,
            monotonic=100.0 + n,
            cpu=n * (0.99 if busy else 0.01),
            rss=(300 << 20) + n * (10 << 20 if growth else 0),
        )
        for n in range(60)
    )


def found(id, proof, system, now=None):
    matches = knowledgebase.match_incident(RULES.values(), died(proof, system), now or system)
    return next((match for match in matches if match.id == id), None)


# -- each rule -------------------------------------------------------------------------------------


def test_the_shipped_file_has_no_problem():
    assert knowledgebase.shipped().problems == ()
    assert len(RULES) > 100


def test_each_rule_is_proved_and_each_proof_has_a_rule():
    assert set(PROOFS) == set(RULES)
    for id, proof in PROOFS.items():
        assert {'hit', 'miss'} <= set(proof), id


def test_each_row_of_the_table_has_rules_and_each_rule_has_a_row():
    left_out, rows = (
        ROWS['left-out'],
        {row: named for row, named in ROWS.items() if row != 'left-out'},
    )
    named = [id for ids in rows.values() for id in ids]
    assert len(rows) > 95 and all(rows.values()) and all(left_out.values())
    assert sorted(named) == sorted(id for id in RULES if not id.startswith('howto-'))


def holds(rule, values):
    """Whether a rule applies to that system, even if it is `incident_only`."""
    hit, missed = knowledgebase.affected([replace(rule, incident_only=False)], system(**values))
    assert len(hit) + len(missed) == 1 and all(
        m.reasons[0].startswith('not affected: ') for m in missed
    )
    return bool(hit)


@pytest.mark.parametrize('id', sorted(PROOFS))
def test_a_rule_applies_to_its_hits_and_not_to_its_misses(id):
    assert [values for values in hits(id) if not holds(RULES[id], values)] == []
    assert [values for values in misses(id) if holds(RULES[id], values)] == []


def alternatives(rule):
    """Yield (rule without one alternative, that alternative), if a condition has several."""
    for name in rule.CONDITIONS:
        value = getattr(rule, name)
        if isinstance(value, tuple) and len(value) > 1 and name != 'loaded':
            yield from (
                (replace(rule, **{name: value[:n] + value[n + 1 :]}), value[n])
                for n in range(len(value))
            )
    for key, (name, specifiers) in rule.distributions.items():
        others = {other: rule.distributions[other] for other in rule.distributions if other != key}
        if others:
            yield replace(rule, distributions=others), name
        for n in range(len(specifiers) if len(specifiers) > 1 else 0):
            fewer = specifiers[:n] + specifiers[n + 1 :]
            yield replace(rule, distributions={**others, key: (name, fewer)}), specifiers[n]


@pytest.mark.parametrize('id', sorted(PROOFS))
def test_each_alternative_decides_at_least_one_hit(id):
    idle = [
        which
        for fewer, which in alternatives(RULES[id])
        if all(holds(fewer, values) for values in hits(id))
    ]
    assert idle == []


def unbounded(rule):
    """Yield (rule without one upper bound, that bound), for each upper bound."""
    from packaging.specifiers import SpecifierSet

    for name in ('python', 'distributions', 'together'):
        value = getattr(rule, name)
        sets = {'': ('', value)} if name == 'python' else value
        for key, (title, specifiers) in sets.items():
            for n, specifier in enumerate(specifiers):
                for bound in (part for part in specifier if part.operator in ('<', '<=')):
                    wider = SpecifierSet(
                        ','.join(str(part) for part in specifier if part != bound), prereleases=True
                    )
                    new = specifiers[:n] + (wider,) + specifiers[n + 1 :]
                    yield (
                        replace(
                            rule, **{name: new if name == 'python' else value | {key: (title, new)}}
                        ),
                        bound,
                    )


@pytest.mark.parametrize('id', sorted(PROOFS))
def test_each_upper_bound_excludes_a_miss(id):
    idle = [
        bound
        for wider, bound in unbounded(RULES[id])
        if not any(holds(wider, values) for values in misses(id))
    ]
    assert idle == []


@pytest.mark.parametrize('id', SHOWN)
def test_the_traces_show_the_issue_only_on_an_affected_system(id):
    proof = PROOFS[id]
    match = found(id, proof, system(**hits(id)[0]))
    assert match.strength == 'strong' and match.score >= 70, match
    assert any(
        words.startswith(('frame: ', 'native frame: ', 'message: ', 'signal: '))
        for words in match.matched
    )
    missed = found(id, proof, system(**misses(id)[0]))
    assert missed is None or missed.strength == 'weak'
    if missed:
        assert missed.score < knowledgebase.WEIGHTS['conditions'] and missed.against[0].startswith(
            'version: '
        )


@pytest.mark.parametrize('id', SHOWN)
def test_no_match_depends_on_our_own_summaries(id):
    here = system(**hits(id)[0])
    told = died(PROOFS[id], here)
    hang = Event('spinning', 1.0, summary='MainThread spins.')
    spoken = replace(told, hangs=(hang,))
    marked = replace(told, summary='A marker.', hangs=(replace(hang, summary='A marker.'),))
    weighed = []
    for record in (spoken, marked):
        found = knowledgebase.match_incident(RULES.values(), record, here)
        weighed.append([(match.id, match.strength, match.score) for match in found])
    assert weighed[0] == weighed[1]
    assert id in {name for name, *_ in weighed[0]}


def test_the_quotation_marks_in_shipped_actions_are_paired():
    for rule in RULES.values():
        assert '`' not in str(rule.action)
    requirement = RULES['zope.interface-weak-references'].action
    assert [(str(piece), piece.is_code) for piece in requirement.pieces] == [
        ('Install ', False),
        ('zope.interface >= 8.7', True),
        ('.', False),
    ]


@pytest.mark.parametrize('id', SHOWN)
def test_every_pattern_matches_its_proof(id):
    proof, rule = PROOFS[id], RULES[id]
    traces = leftlines.Traces(died(proof, system(**hits(id)[0])))
    for kind, lines in (
        ('frames', traces.stack),
        ('native', traces.native),
        ('messages', traces.messages),
    ):
        for pattern in getattr(rule, kind):
            assert any(pattern.search(line) for line in lines), (kind, pattern.pattern, lines)
    if 'growth' in rule.signs or 'busy' in rule.signs:
        assert proof.get('growth') or proof.get('busy')


@pytest.mark.parametrize('id', sorted(set(PROOFS) - set(SHOWN)))
def test_without_traces_an_affected_version_is_only_possible(id):
    proof, rule = PROOFS[id], RULES[id]
    verdicts = known_rules.EFFECTS[rule.effect]
    record = replace(
        died(proof | {'verdict': verdicts[0] if verdicts else 'crashed'}, system(**hits(id)[0])),
        phase='finished' if rule.effect == 'exit' else 'serving',
    )
    match = next(
        (m for m in knowledgebase.match_incident([rule], record, system(**hits(id)[0]))), None
    )
    assert match.strength == 'possible' if verdicts else match is None


def test_no_issue_of_the_howto_applies_to_a_current_system():
    zope = {'Zope': '6.3', 'zope.interface': '8.7', 'ZODB': '6.4', 'Products.ZMySQLDA': '5.0'}
    history = [rule for rule in RULES.values() if rule.id.startswith('howto-')]
    hit, missed = knowledgebase.affected(history, system(zope))
    assert not hit and len(missed) == 7
    assert 'not affected: Zope 6.3 is not < 2.6' in [match.reasons[0] for match in missed]
    assert 'Zope 6.3 is not < 2.6' in [match.failed for match in missed]


def test_every_rule_has_a_source_a_fix_and_a_short_title():
    for rule in RULES.values():
        assert (
            rule.source
            and rule.fixed
            and len(rule.title) < 100
            and rule.severity.code in SEVERITIES
        )
        assert rule.happens.endswith(('.', ')')) and not rule.title.endswith('.')


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'rule, values, words',
    [
        (
            'zope.interface-lookup-cache',
            {'distributions': {'zope.interface': '8.6'}},
            'zope.interface 8.6 is < 8.7',
        ),
        (
            'zope.interface-lookup-cache',
            {'distributions': {'zope-interface': '8.7'}},
            'zope.interface 8.7 is not < 8.7',
        ),
        (
            'zope.interface-lookup-cache',
            {'distributions': {'zope.interface': 'r3-old'}},
            'zope.interface r3-old cannot be compared with < 8.7',
        ),
        ('zope.interface-lookup-cache', {}, 'zope.interface is not installed'),
        ('python-ssl-recv-lock', {'python': '3.13.6+'}, 'Python 3.13.6+ is >= 3.13.6, < 3.13.7'),
        (
            'python-ssl-recv-lock',
            {'python': '3.13.6', 'implementation': 'PyPy'},
            'the interpreter PyPy is not CPython',
        ),
        (
            'python-ssl-recv-lock',
            {'python': ''},
            'Python ? cannot be compared with >= 3.13.6, < 3.13.7',
        ),
        ('python-musl-thread-stacks', {'libc': ''}, 'the C library (not known) is not musl'),
        (
            'python-musl-thread-stacks',
            {'libc': 'musl', 'python': '3.13.0', 'stack': 128 << 10},
            'the stack of a thread has 128 KiB, less than 1024 KiB',
        ),
        (
            'python-musl-thread-stacks',
            {'libc': 'musl', 'python': '3.13.0'},
            'the stack of a thread has 8192 KiB, not less than 1024 KiB',
        ),
        (
            'python-musl-thread-stacks',
            {'libc': 'musl', 'python': '3.13.0', 'stack': None},
            'the stack size of threads is not known',
        ),
        (
            'persistent-32-bit',
            {'distributions': {'persistent': '4.6.0'}, 'bits': 32},
            'this Python is 32-bit',
        ),
        (
            'persistent-32-bit',
            {'distributions': {'persistent': '4.6.0'}, 'bits': None},
            'this Python is of an unknown address size',
        ),
        (
            'persistent-free-threaded',
            {'distributions': {'persistent': '6.5'}, 'python': '3.14.0', 'free_threaded': None},
            'whether this is a free-threaded Python is not known',
        ),
        (
            'lxml-xmlsec-libxml2',
            PROOFS['lxml-xmlsec-libxml2']['hit'] | {'loaded': ['lxml.etree']},
            'xmlsec is not loaded',
        ),
        (
            'lxml-xmlsec-libxml2',
            PROOFS['lxml-xmlsec-libxml2']['hit'] | {'builds': {'lxml': 'source'}},
            'lxml is from a source',
        ),
        (
            'lxml-xmlsec-libxml2',
            PROOFS['lxml-xmlsec-libxml2']['hit'] | {'builds': {}},
            'whether lxml is from a wheel is not known',
        ),
    ],
)
def test_a_match_gives_its_reason(rule, values, words):
    said = [
        match.reasons
        for side in knowledgebase.affected([RULES[rule]], system(**values))
        for match in side
    ]
    assert words in said[0] or f'not affected: {words}' in said[0]


def test_an_installed_distribution_is_named_before_missing_ones():
    """Even if the answers to both end with the same word."""
    either = GOOD.replace('{bad = "<2"}', '{absent = "<9", here = "===installed"}')
    assert either != GOOD
    (rule,) = load(either).rules
    _, (missed,) = knowledgebase.affected([rule], system({'here': '1.0'}))
    assert missed.failed == 'here 1.0 is not === installed'
    _, (missed,) = knowledgebase.affected([rule], system({}))
    assert missed.failed == 'absent is not installed, here is not installed'
    assert str(missed) == f'{rule.title}: not affected: {missed.failed}'


def test_only_a_missing_library_gets_the_advice_to_install_it():
    off = knowledgebase.Problem(0, 'No rules.', lacks='packaging')
    assert str(off.finding.action) == 'Install it: pip install packaging'
    assert str(off.finding_with('/x/python -m pip').action) == (
        'Install it: /x/python -m pip install packaging'
    )
    wrong = knowledgebase.Problem(7, knowledgebase.WITHOUT_PACKAGING, 'known-issues.toml')
    assert wrong.finding.id != 'known-issues-off'


def test_the_most_severe_issue_comes_first():
    hit, _ = knowledgebase.affected(
        RULES.values(), system({'waitress': '2.1.2', 'zope.interface': '5.0'})
    )
    order = [match.rule.severity.rank for match in hit]
    assert order == sorted(order, reverse=True) and len(set(order)) > 1


def test_versions_and_traces_weigh_more_than_either():
    id = 'zope.interface-weak-references'
    proof = PROOFS[id]
    affected = system({'zope.interface': '7.0.3'}, python='3.12.3')
    both = found(id, proof, affected)
    versions = found(id, {'verdict': 'crashed'}, affected)
    traces = found(id, proof, system({'zope.interface': '6.4'}, python='3.12.3'))
    other = found(id, PROOFS['lxml-iterwalk'], affected)
    assert both.matched == (
        'version: zope.interface 7.0.3 is >= 7.0, < 7.1.1',
        'version: Python 3.12.3 is >= 3.12',
        'native frame: /usr/lib/libpython3.12.so:_PyWeakref_ClearRef',
    )
    assert (both.strength, versions.strength, traces.strength) == (
        'strong',
        'possible',
        'weak',
    )
    assert traces.against == ('version: zope.interface 6.4 is not >= 7.0, < 7.1.1',)
    assert both.score > versions.score > other.score and versions.score > traces.score
    assert other.against == ('native frame: no recorded one matches',)


def test_only_the_versions_recorded_with_the_run_count():
    record = died(PROOFS['btrees-byvalue'], system({'BTrees': '6.4'}))
    (match,) = knowledgebase.match_incident(
        [RULES['btrees-byvalue']], record, system({'BTrees': '6.5'})
    )
    assert match.strength == 'strong'
    record = died(PROOFS['btrees-byvalue'], system({'BTrees': '6.5'}))
    assert not knowledgebase.match_incident(
        [RULES['btrees-byvalue']], record, system({'BTrees': '6.4'})
    )


@pytest.mark.parametrize(
    'id, values, strength',
    [
        ('btrees-byvalue', {'distributions': {'BTrees': '6.5'}}, None),
        ('btrees-byvalue', {'distributions': {'BTrees': '7.0'}}, None),
        ('btrees-byvalue', {'distributions': {'BTrees': 'r3-old'}}, 'weak'),
        ('btrees-byvalue', {}, 'weak'),
        # Between two ranges: the series 3.13 has the fix, and 3.14 got it later.
        ('python-split-dict-setattr', {'python': '3.13.9'}, 'weak'),
        ('python-split-dict-setattr', {'python': '3.13.11'}, None),
        ('python-split-dict-setattr', {'python': '3.14.2'}, None),
        # Which release has the fix is not known.
        ('mysqlclient-2.0.0', {'distributions': {'mysqlclient': '2.1'}, 'python': '3.8.1'}, 'weak'),
        # One of two is enough for the rule, so both must have the fix.
        ('psycopg2-readonly', {'distributions': {'psycopg2-binary': '2.9.9'}}, None),
        (
            'psycopg2-readonly',
            {'distributions': {'psycopg2': '2.9.9', 'psycopg2-binary': 'r3-old'}},
            'weak',
        ),
    ],
)
def test_no_trace_shows_an_issue_that_the_version_is_known_to_have_mended(id, values, strength):
    match = found(id, PROOFS[id], system(**values))
    assert (match and match.strength) == strength


def test_a_version_that_is_only_installed_now_does_not_rule_an_issue_out():
    record = died(PROOFS['btrees-byvalue'], system())
    record.context.pop('distributions')
    (match,) = knowledgebase.match_incident(
        [RULES['btrees-byvalue']], record, system({'BTrees': '6.5'})
    )
    assert match.strength == 'weak'
    assert match.against == ('version: BTrees 6.5 (as installed now) is not < 6.5',)


ENDINGS = sorted(id for id, rule in RULES.items() if rule.effect == 'exit')


@pytest.mark.parametrize('phase', ['', 'arming', 'starting', 'serving', 'finished'])
@pytest.mark.parametrize('id', ENDINGS)
def test_an_issue_at_exit_is_met_only_by_a_run_that_was_ending(id, phase):
    here = system(**hits(id)[0])
    for verdict in ('crashed', 'aborted', 'hung'):
        record = replace(died(PROOFS[id], here), verdict=verdict, phase=phase)
        matches = knowledgebase.match_incident([RULES[id]], record, here)
        assert bool(matches) == (phase == 'finished')


def test_an_exception_that_ended_a_run_is_no_issue_at_exit():
    """Python calls exit handlers after it, so the run looks as if it had been ending before."""
    here = system(python='3.11.7')
    record = replace(died({}, here), verdict='unhandled-exception', phase='finished')
    assert not knowledgebase.match_incident(RULES.values(), record, here)


#: A version in an action, such as "zope.interface >= 8.7" or "Python >= 3.13.16 or >= 3.14.9".
ADVISED = re.compile(
    r'(?P<name>[A-Za-z][\w.-]*) (?:>=|==) (?P<first>\d+(?:\.\w+)*)'
    r'(?: or >= (?P<second>\d+(?:\.\w+)*))?'
)


def advice(rule):
    """Yield (name, version) of each version that the action of a rule names."""
    for match in ADVISED.finditer(str(rule.action)):
        for version in (match['first'], match['second']):
            if version:
                yield match['name'], version


def named(rule, name):
    """Whether the rule is about versions of that software."""
    if name == 'Python':
        return bool(rule.python)
    return known_rules.normalized(name) in {**rule.distributions, **rule.together}


def following(values, name, version):
    """Return the system after somebody followed the advice there; None if it is for another one."""
    if name == 'Python':
        return values | {'python': version}
    installed = values.get('distributions', {})
    if name not in installed:
        return None
    return values | {'distributions': installed | {name: version}}


def test_advice_is_found_in_actions():
    assert list(advice(RULES['python-dict-clear'])) == [
        ('Python', '3.13.16'),
        ('Python', '3.14.9'),
    ]
    assert dict(advice(RULES['persistent-dealloc']))['zope.interface'] == '8.7'
    assert sum(bool(list(advice(rule))) for rule in RULES.values()) > 70


@pytest.mark.parametrize('id', sorted(RULES))
def test_advice_leads_into_the_range_of_no_issue(id):
    """Neither its own, nor that of any other issue about the same software.

    An issue that is `incident_only` has a range that nobody can avoid, such as "any version".
    """
    entered = []
    for values in hits(id):
        for name, version in advice(RULES[id]):
            after = following(values, name, version)
            for other in RULES.values() if after else ():
                if other.incident_only and other.id != id or not named(other, name):
                    continue
                if holds(other, after):
                    entered.append((name, version, other.id))
    assert entered == []


def test_versions_that_were_not_recorded_are_marked_as_installed_now():
    record = died(PROOFS['btrees-byvalue'], system())
    record.context.pop('distributions')
    (match,) = knowledgebase.match_incident(
        [RULES['btrees-byvalue']], record, system({'BTrees': '6.4'})
    )
    assert match.matched[0] == 'version: BTrees 6.4 (as installed now) is < 6.5'
    (match,) = knowledgebase.match_incident(
        [RULES['python-ssl-recv-lock']],
        replace(record, verdict='hung', context={}),
        system(python='3.13.6'),
    )
    assert match.matched[0] == ('version: Python 3.13.6 (as installed now) is >= 3.13.6, < 3.13.7')


def test_a_frame_of_another_thread_counts_less_than_one_of_the_crashed_thread():
    text = PROOFS['pillow-font']['text'].replace(
        'Current thread 0x00007f0000000010', 'Thread 0x00007f0000000020'
    )
    text += (
        '\nCurrent thread 0x00007f0000000010 (most recent call first):\n  File '
        '"/site/page.py", line 1 in view\n'
    )
    match = found('pillow-font', {'text': text}, system({'Pillow': '9.3.0'}))
    assert match.strength == 'likely'
    assert 'frame of another thread: /site/PIL/ImageFont.py:__init__' in match.matched


def test_an_idle_waitress_does_not_count_as_spinning():
    proof = PROOFS['waitress-half-open-socket']
    assert (
        found(
            'waitress-half-open-socket', proof | {'busy': False}, system({'waitress': '3.0.0'})
        ).strength
        == 'possible'
    )
    assert found('waitress-half-open-socket', proof, system({'waitress': '3.0.2'})) is None
    crashed = {'text': 'Fatal Python error: Segmentation fault\n\n' + proof['text'], 'busy': True}
    assert found('waitress-half-open-socket', crashed, system({'waitress': '3.0.0'})) is None


def test_a_thread_that_was_seen_to_spin_counts_without_a_full_cpu():
    """Under other load, a thread that spins gets less than a whole CPU."""
    proof, old = (
        PROOFS['waitress-half-open-socket'] | {'busy': False},
        system({'waitress': '3.0.0'}),
    )
    hang = Event('spinning', 1.0, seconds=9.0, summary='MainThread spins.')
    for ended, strength in ((None, 'strong'), (2.0, 'possible')):
        record = replace(died(proof, old), hangs=(replace(hang, ended=ended),))
        (match,) = knowledgebase.match_incident([RULES['waitress-half-open-socket']], record, old)
        assert (match.strength, 'CPU: MainThread spins.' in match.matched) == (
            strength,
            ended is None,
        )


@pytest.mark.parametrize(
    'phase, verdict, meets',
    [
        ('starting', 'crashed', True),
        ('serving', 'startup-failed', True),
        ('serving', 'crashed', False),
        ('finished', 'crashed', False),
        ('', 'crashed', True),
    ],
)
def test_a_run_that_had_started_did_not_meet_an_issue_at_start(phase, verdict, meets):
    id = 'relstorage-4.1.0-start'
    here = system(**hits(id)[0])
    record = replace(died({}, here), phase=phase, verdict=verdict)
    assert bool(knowledgebase.match_incident([RULES[id]], record, here)) == meets
    assert [bool(side) for side in knowledgebase.affected([RULES[id]], here, has_started=True)] == [
        False,
        True,
    ]


def test_a_leak_does_not_explain_a_crash_and_nothing_explains_a_stop():
    rules = RULES.values()
    old = system({'zope.interface': '5.0', 'waitress': '2.1.2', 'plone.dexterity': '2.0'})
    for verdict, effects in (('out-of-memory', {'leak'}), ('stopped', set()), ('hung', {'hang'})):
        record = replace(died({}, old), verdict=verdict)
        matches = knowledgebase.match_incident(rules, record, old)
        assert {RULES[match.id].effect for match in matches} == effects


def test_a_frame_far_from_the_crash_does_not_show_an_issue():
    inner = ''.join(f'  Binary file "/x.so", at f{n}+0x1 [0x{n + 1:x}]\n' for n in range(20))
    head, stack, tail = PROOFS['btrees-byvalue']['text'].partition(
        'C stack trace (most recent call first):\n'
    )
    match = found(
        'btrees-byvalue', {'text': head + stack + inner + tail}, system({'BTrees': '6.4'})
    )
    assert stack
    assert match.strength == 'possible'


def test_a_real_crash_is_recognised_by_a_rule_of_the_site(tmp_path):
    """The test uses a process that really dies, its dump from faulthandler, and its versions."""
    program = 'import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(0)'
    done = run_python('-c', program, text=False)
    dump, here = faultlog.first_fatal(faultlog.parse(done.stderr)), systemfacts.here()
    (rule,) = load(
        ISSUE % 'null-pointer'
        + 'distributions = {packaging = ">1"}\n'
        + "frames = 'ctypes/__init__\\.py:string_at$'\n"
    ).rules
    traces = synthetic.traces(fault=dump, fault_time=synthetic.STARTED)
    record = replace(
        incident.record(traces, judge(traces)), context={'distributions': dict(here.distributions)}
    )
    (match,) = knowledgebase.match_incident([rule], record, system())
    version = here.distributions['packaging']
    assert done.returncode < 0 and match.strength == 'strong'
    assert match.matched[0] == f'version: packaging {version} is > 1'
    assert match.matched[1].endswith('ctypes/__init__.py:string_at')


def test_a_match_can_be_stored_in_a_record():
    match = found('btrees-byvalue', PROOFS['btrees-byvalue'], system({'BTrees': '6.4'}))
    assert set(to_json(match)) == {
        'id',
        'title',
        'severity',
        'strength',
        'score',
        'matched',
        'against',
        'fixed',
        'action',
        'source',
    }
    record = RunRecord.from_json(synthetic.record(known_issues=(match,)).to_json())
    assert record.known_issues == (match,)


# -- files -----------------------------------------------------------------------------------------


def problem(text, name='known-issues.toml'):
    loaded = load(text, name)
    assert len(loaded.problems) == 1, loaded
    return loaded.problems[0]


@pytest.mark.parametrize(
    'text, line, words',
    [
        (GOOD + 'colour = "red"\n', 11, "'colour' is not a field"),
        (ISSUE % 'Bad Id' + 'python = "<3"\n', 2, "'id' must be 3 to 80 lower case letters"),
        (GOOD.replace('"<2"', '"<two"'), 10, 'must be a version specifier'),
        (GOOD.replace('{bad = "<2"}', '"<2"'), 10, 'must be a table of distributions'),
        (GOOD.replace('{bad = "<2"}', '{"b/d" = "<2"}'), 10, 'must be a table of distributions'),
        (GOOD.replace('"crash"', '"explosion"'), 5, 'must be one of crash, '),
        (GOOD.replace('"crash"', '["crash"]'), 5, 'must be one of crash, '),
        (GOOD.replace('"warning"', '"ok"'), 6, 'must be one of info, warning, critical'),
        (GOOD.replace('title = "A title"\n', ''), 1, 'These fields are missing: title.'),
        (GOOD.replace('"A title"', '7'), 3, 'must be a text'),
        (GOOD + 'incident_only = 1\n', 11, 'must be true or false'),
        (GOOD + 'bits = 16\n', 11, 'must be a number, 32 or 64'),
        (GOOD + 'bits = 32.0\n', 11, 'must be a number, 32 or 64'),
        (GOOD + 'stack_below = 0\n', 11, 'must be a number, from 1 to 1048575'),
        (GOOD + 'stack_below = true\n', 11, 'must be a number, from 1 to'),
        (GOOD + 'frames = []\n', 11, 'must be a text or a list'),
        (GOOD + "frames = '('\n", 11, 'is not: '),
        (GOOD + "frames = '.*'\n", 11, 'does not match everything'),
        (GOOD + "frames = ''\n", 11, 'is empty or too long'),
        (GOOD + f"frames = '{'a' * 201}'\n", 11, 'is empty or too long'),
        (ISSUE % 'always', 1, 'It has no condition, and no frames'),
        (GOOD + 'title = "twice"\n', 11, 'Cannot overwrite a value'),
        (GOOD + '\n\n' + GOOD, 14, "Two tables have the id 'good-one'"),
        (GOOD + '\n[[isue]]\nid = "x"\n', 12, "'isue' is not allowed here"),
        ('title = "before any table"\n' + GOOD, 1, "'title' is not allowed here"),
        ('[issue]\nid = "x"\n', 1, "'issue' is not allowed here"),
        (GOOD.encode() + b'\n[[issue]]\ntitle = "M\xfcll"\n', 13, 'not UTF-8'),
        (
            GOOD + '[[issue]]\nid = "open\ntitle = "x"\n',
            12,
            'This cannot be read: Illegal character',
        ),
        (GOOD + '[[issue]]\nx = ' + '[' * 5000, 11, 'This cannot be read'),
        (GOOD + '[[issue]]\nx = ' + '9' * 5000, 11, 'This cannot be read'),
        (GOOD + '[[issue]]\nhappens = "' + 'x' * 20000 + '"', 11, 'longer than 16 KiB'),
        (GOOD + '[[mute]]\nid = "good-one"\n', 11, 'fields are missing: reason'),
        (
            GOOD + '[[mute]]\nid = "good-one"\nreason = "x"\nuntil = "soon"\n',
            14,
            'must be a day such as',
        ),
        (
            GOOD + '[[mute]]\nid = "good-one"\nreason = "x"\nuntil = 2027-01-01T00:00:00\n',
            14,
            'must be a day such as',
        ),
        ('#' * (513 << 10), 1, 'too large'),
        ('[[issue]]\n' * 1001, 1, 'too large'),
    ],
)
def test_a_mistake_is_reported_with_its_line(text, line, words):
    found = problem(text)
    assert found.line == line and words in found.sentence, found
    finding = found.finding
    assert (
        finding.severity.code == 'warning'
        and f'known-issues.toml, line {line}' in finding.title
        and finding.action
    )


@pytest.mark.parametrize(
    'broken', ['[[issue]]\nid = """unclosed\n', '[[issue]]\nid = "unclosed\n', '[[issue]\n', '[[\n']
)
def test_the_good_rules_of_a_broken_file_are_used(broken):
    loaded = load(GOOD + broken + GOOD.replace('good-one', 'good-two'))
    assert [rule.id for rule in loaded.rules] == ['good-one', 'good-two'] and len(
        loaded.problems
    ) == 1


@pytest.mark.parametrize('prefix', ['\ufeff', '\r\n', '# a comment\n'])
def test_a_byte_order_mark_and_line_ends_of_editors_are_read(prefix):
    loaded = load((prefix + GOOD).replace('\n', '\r\n').encode())
    assert [rule.id for rule in loaded.rules] == ['good-one'] and not loaded.problems


@pytest.mark.parametrize(
    'pattern',
    [
        '(a+)+$',
        '(a|a)*b',
        '(?:a*)*',
        'a*a*b',
        '.*x.*',
        '(a|b|ab)*c',
        r'(a)\1',
        '(?=a)b',
        '(?P<x>a)',
        'a{1,9}',
        'a**',
        'a+?',
        '(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)b',
        'a?a?a?a?a?a?a?aaaaaaa',
        '(a?){40}',
        '(?i)a',
        '[',
        'a)',
        r'\Zx{2}',
    ],
)
def test_a_pattern_that_may_take_very_long_is_refused(pattern):
    found = problem(GOOD + f"frames = '{pattern}'\n")
    assert found.line == 11 and 'regular expression' in found.sentence


@pytest.mark.parametrize(
    'pattern',
    [
        r'wasyncore\.py:(poll|poll2)$',
        'a.*b',
        r'x[*+]+y',
        r'\(\)\*\+',
        '[]]a',
        r'[^\]]b',
        'a|b|c',
        '(?:ab)?c',
        r'\{x\}',
    ],
)
def test_a_pattern_that_cannot_take_long_is_accepted(pattern):
    loaded = load(GOOD + f"frames = '{pattern}'\n")
    assert not loaded.problems and loaded.rules[0].frames[0].pattern == pattern


def test_the_slowest_accepted_pattern_ends_in_time():
    """In a child process, so that an endless pattern fails this test instead of blocking it."""
    program = """
from Products.StabilityMonitor.knowledge.knowledgebase import load
for pattern in ('(a|a)(a|a)(a|a)(a|a)(a|a)a*b', 'a?a?a?a?a?a?a*b', '.*a?a?a?a?a?b',
                '(a|aa|a)(a|aa|a)(a|aa|a).*b'):
    rule, = load(GOOD + f"frames = '{pattern}'").rules
    assert not rule.frames[0].search('a' * 300)
""".replace('GOOD', repr(GOOD))
    done = run_python('-c', program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    'make',
    [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to('/dev/zero'),
    ],
)
def test_a_path_that_is_not_a_file_is_a_problem_and_does_not_block(tmp_path, make):
    make(tmp_path / 'known-issues.toml')
    assert 'cannot be read' in problem(tmp_path / 'known-issues.toml').sentence


def test_a_missing_file_counts_as_empty(tmp_path):
    assert load(tmp_path / 'known-issues.toml') == knowledgebase.Knowledge()


def test_the_number_of_reported_problems_is_limited():
    assert len(load('[[issue]]\n' * 900).problems) == 50


# -- the site's own file ---------------------------------------------------------------------------


def site(tmp_path, text):
    (tmp_path / 'known-issues.toml').write_text(text, 'utf-8')
    return knowledgebase.in_force(tmp_path, today=date(2026, 11, 23))


def test_without_a_file_of_the_site_the_shipped_rules_are_in_force(tmp_path):
    assert knowledgebase.in_force(tmp_path) == knowledgebase.Knowledge(
        knowledgebase.shipped().rules
    )


def test_a_link_to_rules_elsewhere_is_not_followed(tmp_path):
    (tmp_path / 'rules').write_text(GOOD)
    directory = tmp_path / 'stability'
    directory.mkdir()
    (directory / 'known-issues.toml').symlink_to(tmp_path / 'rules')
    knowledge = knowledgebase.in_force(directory)
    assert knowledge.rules == knowledgebase.shipped().rules
    (found,) = knowledge.problems
    assert 'not a regular file' in found.sentence


def test_the_site_adds_and_mutes_rules(tmp_path):
    knowledge = site(
        tmp_path,
        GOOD + '[[mute]]\nid = "btrees-repr"\nreason = "never logged"\nuntil = 2026-11-23\n',
    )
    ids = {rule.id for rule in knowledge.rules}
    assert ids == set(RULES) - {'btrees-repr'} | {'good-one'}
    assert knowledge.muted[0].reason == 'never logged' and not knowledge.problems


def test_the_table_of_an_older_release_mutes_too(tmp_path):
    table = '[[silence]]\nid = "btrees-repr"\nreason = "never logged"\n'
    (tmp_path / 'known-issues.toml').write_text(table)
    knowledge = knowledgebase.in_force(tmp_path)
    assert [mute.id for mute in knowledge.muted] == ['btrees-repr'] and not knowledge.problems


def test_a_mute_ends_and_a_mute_of_an_unknown_id_is_a_problem(tmp_path):
    knowledge = site(
        tmp_path,
        '[[mute]]\nid = "btrees-repr"\nreason = "x"\nuntil = 2026-11-22\n'
        '[[mute]]\nid = "no-such-issue"\nreason = "x"\n',
    )
    assert {rule.id for rule in knowledge.rules} == set(RULES) and not knowledge.muted
    assert [(p.line, p.sentence) for p in knowledge.problems] == [
        (5, "No issue has the id 'no-such-issue', so it cannot be muted.")
    ]


@pytest.mark.skipif(
    not hasattr(time, 'tzset'), reason='the zone of a process cannot be changed here'
)
@pytest.mark.parametrize('zone', ['Etc/GMT-14', 'Etc/GMT+12'])
def test_the_last_day_of_a_mute_is_in_utc(tmp_path, monkeypatch, zone):
    """At any time, one of these two zones has another date than UTC."""

    def lasts(day):
        mute = f'[[mute]]\nid = "btrees-repr"\nreason = "x"\nuntil = {day}\n'
        (tmp_path / 'known-issues.toml').write_text(mute)
        return bool(knowledgebase.in_force(tmp_path).muted)

    monkeypatch.setenv('TZ', zone)
    time.tzset()
    try:
        today = None
        while today != datetime.now(UTC).date():  # not over midnight
            today = datetime.now(UTC).date()
            found = [lasts(today - timedelta(1)), lasts(today)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [False, True]


def test_the_site_cannot_replace_a_shipped_rule(tmp_path):
    knowledge = site(tmp_path, GOOD.replace('good-one', 'btrees-repr'))
    assert (
        next(rule for rule in knowledge.rules if rule.id == 'btrees-repr') == RULES['btrees-repr']
    )
    assert (
        'belongs to a shipped rule' in knowledge.problems[0].sentence
        and knowledge.problems[0].line == 1
    )


def test_without_packaging_there_are_no_rules_and_one_finding(tmp_path, monkeypatch):
    for name in ('packaging', 'packaging.version', 'packaging.specifiers'):
        monkeypatch.setitem(sys.modules, name, None)
    knowledgebase.shipped.cache_clear()
    try:
        knowledge = site(tmp_path, GOOD)
    finally:
        knowledgebase.shipped.cache_clear()
    assert knowledge.rules == () and [p.finding.id for p in knowledge.problems] == [
        'known-issues-off'
    ]
    assert 'pip install packaging' in str(knowledge.problems[0].finding.action)
    assert knowledgebase.match_incident(knowledge.rules, synthetic.record(), system()) == []


# -- nothing raises --------------------------------------------------------------------------------

VALUES = st.sampled_from(
    [
        '"<2"',
        '["<1", ">2"]',
        '{a = "<1"}',
        '{a = 7}',
        '7',
        'true',
        "'a.*'",
        "'(a+)+'",
        '2027-01-01',
        'inf',
        '"\\u0000"',
        '[[1]]',
        '{}',
        '""',
        '"' + 'x' * 3000 + '"',
        '"lxml"',
        '"===x"',
    ]
)
KEYS = st.sampled_from(
    [
        *known_rules.KINDS['issue'].fields,
        *known_rules.KINDS['mute'].fields,
        'x',
        'a.b.c',
        '"quoted"',
    ]
)
FIELD = st.builds('{} = {}\n'.format, KEYS, VALUES)
WORDS = st.sampled_from(
    [
        GOOD,
        '[[issue]]\n',
        '[[mute]]\n',
        '[issue]\n',
        '"""',
        "'''",
        '\r\n',
        '\0',
        '[[',
        'id = "abc"\nreason = "x"\n',
    ]
)
PIECES = st.one_of(FIELD, WORDS, st.text(max_size=20))
TEXTS = st.lists(PIECES, max_size=25).map(''.join)


@given(st.one_of(TEXTS, TEXTS.map(lambda text: text.encode('utf-16')), st.binary(max_size=300)))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_as_rules_and_problems(text):
    loaded = load(text, 'known-issues.toml')
    total = (text if isinstance(text, bytes) else text.encode('utf-8', 'surrogatepass')).count(
        b'\n'
    ) + 1
    assert len({rule.id for rule in loaded.rules}) == len(loaded.rules)
    for found in loaded.problems:
        assert 0 <= found.line <= total and found.sentence.isprintable() and found.finding.action
    knowledgebase.affected(loaded.rules, system({'a': '0.5', 'bad': '1'}))
    knowledgebase.match_incident(
        loaded.rules, synthetic.record(verdict='crashed'), system({'a': '0.5', 'bad': '1'})
    )


@given(st.sampled_from(sorted(set(known_rules.KINDS['issue'].fields))), VALUES)
@settings(max_examples=300, deadline=None)
def test_a_rule_with_any_value_is_accepted_or_refused_with_its_line(key, value):
    lines = [line for line in GOOD.splitlines(True) if not line.startswith(f'{key} ')]
    loaded = load(''.join([*lines, f'{key} = {value}\n']))
    assert len(loaded.rules) + bool(loaded.problems) == 1
    assert not loaded.problems or loaded.problems[0].line in (1, len(lines) + 1)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ITEM = st.dictionaries(
    st.sampled_from(
        [
            'frames',
            'file',
            'function',
            'binary',
            'symbol',
            'cpu',
            'rss',
            'monotonic',
            'message',
            'logger',
            'crashed',
            'fact',
        ]
    ),
    JSON,
    max_size=5,
)
CONTEXT = st.dictionaries(st.sampled_from(['python', 'platform', 'libc', 'distributions']), JSON)
RECORD = st.fixed_dictionaries(
    {'run': st.just('r')},
    optional=dict.fromkeys(
        (
            'threads',
            'native',
            'samples',
            'log',
            'evidence',
            'exception',
            'summary',
            'compiled_modules',
            'signal',
        ),
        st.one_of(JSON, st.lists(ITEM, max_size=4)),
    )
    | {
        'verdict': st.sampled_from(['crashed', 'hung', 'out-of-memory', 'nonsense']),
        'context': st.one_of(JSON, CONTEXT),
    },
)


@pytest.mark.slow(30)
@given(RECORD)
@settings(max_examples=300, deadline=None)
def test_any_record_that_can_be_read_is_matched(document):
    now = system({'waitress': '2.0.0', 'BTrees': '4.0', 'zope.interface': '5.0'})
    for match in knowledgebase.match_incident(RULES.values(), RunRecord.from_json(document), now):
        assert 0 <= match.score <= 100 and match.strength in (
            'strong',
            'likely',
            'possible',
            'weak',
        )


# -- this system -----------------------------------------------------------------------------------


def test_the_facts_of_this_system_are_right():
    here = systemfacts.here()
    assert (
        here.python == '.'.join(map(str, sys.version_info[:3]))
        or '+' in here.python
        or 'rc' in here.python
    )
    assert (
        here.distributions['packaging']
        and here.platform == sys.platform
        and here.as_now == frozenset()
    )
    assert (
        here.free_threaded is (not getattr(sys, '_is_gil_enabled', lambda: True)())
        or here.free_threaded
    )


def test_a_32_bit_python_is_recognised_by_its_own_size():
    here = systemfacts.here()
    assert here.bits == 8 * struct.calcsize('P')
    assert (
        here.stack == stacksizes.default_stack()[0]
        if stacksizes.default_stack()
        else here.stack is None
    )
    then = systemfacts.of_run(
        {'bits': 32, 'platform': 'Linux-6.1.0-x86_64', 'thread_stack': [131072, 4096]}, (), here
    )
    assert (then.bits, then.machine, then.stack) == (32, 'x86_64', 131072)
    damaged = systemfacts.of_run({'bits': 'x', 'thread_stack': {}}, (), here)
    assert (damaged.bits, damaged.stack) == (here.bits, here.stack) and {
        'bits',
        'stack',
    } <= damaged.as_now


def test_folder_names_give_the_same_versions_as_the_metadata():
    """The shortcut must give the same versions as pip."""
    from importlib.metadata import distributions

    slow = {}
    for distribution in distributions():
        slow.setdefault(known_rules.normalized(distribution.metadata['Name']), distribution.version)
    assert systemfacts.installed()[0] == slow


@pytest.mark.parametrize(
    'folder, name, version',
    [
        ('zope.interface-8.7-py3.11.egg/EGG-INFO', 'zope-interface', '8.7'),
        ('lxml-5.1.0-py3.11-linux-x86_64.egg/EGG-INFO', 'lxml', '5.1.0'),
        ('plone.app.theming-5.0.dist-info', 'plone-app-theming', '5.0'),
        ('Products.CMFPlone-6.1.0-py3.11.egg-info', 'products-cmfplone', '6.1.0'),
        ('odd_name-1.0+local.1.dist-info', 'odd-name', '1.0+local.1'),
        ('some.thing.egg-info', 'some-thing', '9.9'),
        ('no-version-at-all.egg-info', 'no-version-at-all', '9.9'),
    ],
)
def test_every_kind_of_installation_gives_its_name_and_version(tmp_path, folder, name, version):
    path = tmp_path / folder
    path.mkdir(parents=True)
    (path / 'PKG-INFO').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n')
    assert systemfacts.installed(lambda: [PathDistribution(path)])[0] == {name: version}


@pytest.mark.parametrize(
    'wheel, build',
    [
        ('Tag: cp311-cp311-manylinux_2_17_x86_64\n', 'wheel'),
        ('Tag: cp311-cp311-musllinux_1_2_x86_64\n', 'wheel'),
        ('Tag: cp311-cp311-linux_x86_64\n', 'source'),
        ('Tag: cp311-cp311-macosx_11_0_arm64\n', ''),
        ('', ''),
        (None, ''),
    ],
)
def test_a_wheel_is_distinguished_from_a_build_from_source(tmp_path, wheel, build):
    path = tmp_path / 'lxml-5.1.0.dist-info'
    path.mkdir()
    if wheel is not None:
        (path / 'WHEEL').write_text('Wheel-Version: 1.0\n' + wheel)
    assert systemfacts.installed(lambda: [PathDistribution(path)]) == (
        {'lxml': '5.1.0'},
        {'lxml': build},
    )


def test_a_damaged_installation_is_left_out(tmp_path):
    (tmp_path / '~ip.dist-info').mkdir()
    (tmp_path / 'bad.dist-info').mkdir()
    (tmp_path / 'bad.dist-info' / 'METADATA').write_bytes(b'\xff\xfe\0')
    paths = sorted(tmp_path.iterdir())
    assert systemfacts.installed(lambda: [PathDistribution(path) for path in paths]) == ({}, {})


def test_no_metadata_file_is_read(tmp_path, monkeypatch):
    """A Plone site has 300 distributions: name and version come from the folder's name."""
    for number in range(3):
        path = tmp_path / f'plone.part{number}-1.{number}.dist-info'
        path.mkdir()
        (path / 'METADATA').write_text(f'Name: plone.part{number}\nVersion: 1.{number}\n')
    found = [PathDistribution(path) for path in sorted(tmp_path.iterdir())]
    read, read_text = [], PathDistribution.read_text
    monkeypatch.setattr(
        PathDistribution, 'read_text', lambda self, name: read.append(name) or read_text(self, name)
    )
    versions, _ = systemfacts.installed(lambda: found)
    assert versions == {f'plone-part{number}': f'1.{number}' for number in range(3)}
    assert set(read) <= {'WHEEL'}


@pytest.mark.skipif(
    sys.version_info >= (3, 15), reason='importlib.metadata of 3.15 evaluates code, harmlessly'
)
def test_reading_the_installed_versions_evaluates_no_code():
    """`eval` in any thread makes CPython forget that KeyboardInterrupt ends the main thread: then
    the exit status is 1.  Named tuples, as in urllib.parse, are made by `eval`, and the module
    `email` imports urllib.parse.
    """
    program = (
        'import builtins; from Products.StabilityMonitor.system.distributions import installed; '
        'known = eval; '
        'builtins.eval = lambda *words: print("eval", words) or known(*words); '
        'print(len(installed()[0]) > 3)'
    )
    done = run_python('-c', program)
    assert (done.stdout, done.stderr) == ('True\n', '')


def test_from_python_3_14_on_eval_does_not_change_the_exit_by_sigint():
    program = 'import atexit; atexit.register(lambda: eval("1")); raise KeyboardInterrupt'
    done = run_python('-c', program)
    assert done.returncode == (-signal.SIGINT if sys.version_info >= (3, 14) else 1)


def test_the_build_is_looked_up_for_all_rules_about_wheels():
    names = {
        key
        for rule in RULES.values()
        if {'wheel', 'source'} & set(rule.build)
        for key in rule.distributions
    }
    assert names <= set(installed.WHEELS)


def test_no_path_of_a_machine_and_no_control_character_is_shipped():
    text = knowledgebase.SHIPPED.read_text('utf-8')
    assert not re.search(r'/(root|work|tmp|home)/', text) and text.replace('\n', '').isprintable()
