"""The sections of a report: their order, and what a maintainer reads in them."""

import json
from dataclasses import replace

import pytest
from support.samplereports import CRASH
from support.samplereports import ISSUE
from support.samplereports import STACK
from support.samplereports import incident
from support.samplereports import of_run
from support.samplereports import state
from support.snapshots import snapshot
from support.syntheticruns import STARTED
from support.syntheticruns import note
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge.crashgroups import Group
from Products.StabilityMonitor.model.comparisons import Difference
from Products.StabilityMonitor.model.jsonform import to_json
from Products.StabilityMonitor.model.records import clocktime
from Products.StabilityMonitor.model.records import isotime
from Products.StabilityMonitor.model.runrecord import Amendment
from Products.StabilityMonitor.model.runrecord import Decision
from Products.StabilityMonitor.model.seenbefore import SeenBefore
from Products.StabilityMonitor.model.signature import Signature
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting import sections as module
from Products.StabilityMonitor.reporting.blocks import Facts
from Products.StabilityMonitor.reporting.blocks import Items
from Products.StabilityMonitor.reporting.blocks import Lines
from Products.StabilityMonitor.reporting.blocks import Paragraph
from Products.StabilityMonitor.reporting.blocks import Picture
from Products.StabilityMonitor.reporting.blocks import Table
from Products.StabilityMonitor.reporting.report import build_of_snapshot
from Products.StabilityMonitor.reporting.sections import sections
from Products.StabilityMonitor.reporting.signaturereport import about_signature
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base

SNAPSHOT = {
    'id': '20261201T101010Z-7-abcd',
    'summary': 'Two requests are slow.',
    'note': 'It is slow.',
    'who': 'ada',
    'time': isotime(STARTED + 90),
    'samples': [to_json(each) for each in CRASH.samples],
    'log': [to_json(each) for each in CRASH.log],
    'native_threads': [
        {'native_id': 4711, 'frames': [{'function': 'epoll_wait', 'library': 'libc.so'}]}
    ],
}


def blocks(report, section):
    """The blocks of the section with this id; () if the report has no such section."""
    found = [each.blocks for each in sections(report).sections if each.id == section]
    assert len(found) < 2
    return found[0] if found else ()


def ids(report):
    return [section.id for section in sections(report).sections]


def facts(report, section):
    (rows,) = (block.rows for block in blocks(report, section) if isinstance(block, Facts))
    return dict(rows)


def test_the_sections_of_an_incident_stand_best_first():
    assert ids(incident()) == [
        'what',
        'where',
        'cause',
        'known-issues',
        'next',
        'requests',
        'evidence',
        'versions',
        'distributions',
        'changes',
        'checks',
        'vital-signs',
        'logs',
        'other-threads',
        'compiled-modules',
        'all-distributions',
        'configuration',
        'history',
        'workarounds',
        'not-told',
        'reporter',
    ]


def test_what_happened_is_three_sentences_and_what_the_reporter_did():
    sentences, did, _ = blocks(incident(), 'what')
    assert sentences.text == (
        f'{CRASH.summary} It had been up for 1 min and ended {clocktime(CRASH.ended)}. '
        'The first suspect is lxml.etree of lxml 6.1.3 (strong): It is on top.'
    )
    assert did == Lines(('I paid.',), 'What was done')
    told = facts(incident(), 'what')
    assert told['Verdict'] == 'crashed, certain' and 'Changed by witnesses' not in told


@pytest.mark.parametrize(('about', 'section'), [('incident', 'what'), ('state', 'now')])
def test_what_the_reporter_says_keeps_its_lines_and_is_whole(about, section):
    report = incident() if about == 'incident' else state()
    did = '1. I paid.\n\n2. ' + 'I waited. ' * 400
    report['reporter'] = {'did': did, 'expected': 'An answer.'}
    said = [block for block in blocks(report, section) if isinstance(block, Lines)]
    assert [block.title for block in said] == ['What was done', 'What was expected']
    assert said[0].lines[:2] == ('1. I paid.', '')
    assert ' '.join(said[0].lines).split() == did.split()
    assert max(map(len, said[0].lines)) <= 100


def test_what_witnesses_changed_is_told_but_not_what_they_confirmed():
    was, became = Decision('vanished', 'weak'), Decision('crashed', 'certain')
    confirmed = replace(CRASH, amendments=(Amendment(STARTED, 'core', became, became),))
    assert 'Changed by witnesses' not in facts(incident(confirmed), 'what')
    changed = replace(CRASH, amendments=(Amendment(STARTED, 'core', was, became),))
    assert 'vanished (weak) at first' in facts(incident(changed), 'what')['Changed by witnesses']


def test_an_end_that_nobody_saw_is_told_so():
    run = record(0, 'vanished', ended_before=STARTED + 600, found_by='x')
    text = blocks(incident(run), 'what')[0].text
    assert 'at least' in text and 'last sign' in text and 'ended before' in text


def test_the_crashed_request_comes_first():
    in_progress, before = blocks(incident(), 'requests')
    assert [row[0] for row in in_progress.rows] == ['GET /shop (crashed here)', 'GET /other']
    assert before.rows[0][:3] == ('GET /before', '200', '0.500')


def test_a_known_issue_has_its_reasons_and_its_source():
    (items,) = blocks(incident(), 'known-issues')
    (item,) = items.items
    assert item.text == 'lxml crashes'
    assert item.details[1:] == ('lxml 6.1.3', 'Update lxml.', f'Source: {ISSUE.source}')


def test_the_steps_of_a_report_do_not_tell_to_make_it():
    (steps,) = blocks(incident(), 'next')
    assert len(steps.items) == 3 and steps.is_numbered
    assert not [item for item in steps.items if 'stabilitymonitor report' in item.text]


def test_a_value_that_an_earlier_one_contains_is_left_out():
    told = facts(incident(), 'versions')
    assert told == {
        'Zope': '6.3',
        'Python': '3.14.1 (main) [GCC 14]',
        'Platform': 'Linux-6.1-x86_64',
        'Distribution': 'Debian 13',
        'Threads': '4',
        'Products': 'Shop',
    }


def test_the_distributions_that_matter_have_a_reason():
    table, usual = blocks(incident(), 'distributions')
    assert table.rows == (('lxml', '6.1.3', 'suspect'),)
    assert usual.text == 'Usually asked for: Zope 6.3.'
    without = incident(replace(CRASH, suspects=()))
    assert blocks(without, 'distributions')[0].rows == (('lxml', '6.1.3', 'changed'),)


def test_a_distribution_in_the_stack_that_crashed_matters():
    stack = (replace(STACK[0], file='/srv/lib/python3.14/site-packages/attrs/a.py'),)
    run = replace(CRASH, threads=(ThreadState(ident=1, crashed=True, frames=stack),))
    rows = blocks(incident(run), 'distributions')[0].rows
    assert ('attrs', '26', 'in the stack that crashed') in rows


def test_what_changed_since_the_last_stable_run_is_a_table():
    table, since = blocks(incident(), 'changes')
    assert '20260920T133320Z-99-abcd' in table.title
    assert table.rows == (('lxml', '6.0.2', '6.1.3'), ('option stall', '30', 'none'))
    assert since.text == 'No version has changed since: the living process has the same ones.'


def test_checks_that_found_nothing_are_one_line():
    _, found, fine = blocks(incident(), 'checks')
    assert [(item.text, item.details) for item in found.items] == [
        ('[warning] The disk is full.', ('Why.',)),
        ('[info] No core file.', ()),
    ]
    assert fine.text == 'Nothing was found by 2 other checks.'


def test_muted_findings_are_counted():
    report = incident()
    report['checks'][0]['muted'] = {'until': '2999-01-01', 'who': 'ada', 'reason': 'Known.'}
    _, found, rest = blocks(report, 'checks')
    assert len(found.items) == 1
    assert rest.text == '1 finding muted. Nothing was found by 2 other checks.'


def test_vital_signs_are_curves_and_figures():
    memory, cpu, table = blocks(incident(), 'vital-signs')
    assert isinstance(memory, Picture) and memory.alt.startswith('Memory before the end: ')
    assert (memory.title, cpu.title) == ('Memory', 'CPU (percent of one CPU)')
    assert len(table.rows) == 5 and table.head[-1] == 'In progress'


def test_the_logs_are_those_of_the_black_box_and_of_the_system():
    own, event_log = blocks(incident(), 'logs')
    assert 'WARNING shop The stock is low. [3 times, last ' in own.lines[0]
    assert event_log == Lines(('One.', 'Two.'), 'Event log /srv/log/event.log', ends_best=True)


def test_a_log_that_was_cut_says_so():
    portion = {'name': 'journal', 'text': 'One.', 'cut': True, 'rotated': True, 'timeless': True}
    *_, journal = blocks(incident(logs=[portion]), 'logs')
    assert journal.title == (
        'Journal of the service (cut, from an older file, its lines have no times)'
    )


def test_configuration_and_gaps_are_shown():
    (file,) = blocks(incident(), 'configuration')
    assert file == Lines(('# why', 'threads 4'), '/srv/etc/zope.conf (its end is cut)')
    (gaps,) = blocks(incident(), 'not-told')
    assert gaps.rows == (('a core file', 'the system was told to write none'),)


def test_parts_that_were_left_out_are_named_and_not_shown_as_unknown():
    report = incident(parts=['requests', 'threads', 'reporter'])
    shown = ids(report)
    assert {'requests', 'other-threads', 'reporter'} <= set(shown)
    for gone in ('logs', 'configuration', 'checks', 'all-distributions', 'history', 'vital-signs'):
        assert gone not in shown
    left_out = blocks(report, 'taken-out')[0]
    assert 'The list of past runs' in [item.text for item in left_out.items]


def test_a_report_without_parts_of_newer_releases_has_no_sections_for_them():
    report = state(incident=of_run())
    assert not {'configuration', 'not-told', 'seen-before'} & set(ids(report))


def test_a_hang_shows_the_stacks_of_its_threads():
    threads = tuple(ThreadState(ident, f'waitress-{ident}', frames=STACK) for ident in (1, 2, 3))
    hang = Event('hang', STARTED + 30, seconds=30.0, summary='All are busy.', threads=(1, 2))
    run = record(0, 'hung', threads=threads, hangs=(hang,))
    report = incident(run)
    items, stack = blocks(report, 'where')
    assert items.items[0].text.endswith('All are busy.')
    assert stack.title.startswith('2 threads: waitress-1, waitress-2') and len(stack.lines) == 2
    (other,) = blocks(report, 'other-threads')
    assert 'waitress-3' in other.title
    assert 'Hang for 30 s until then.' in blocks(report, 'what')[0].text


def test_a_hang_without_stacks_of_its_threads_shows_the_slow_requests():
    slow = note('slow', ident=1, title='GET /slow', detail='waits', seconds=9.0, frames=STACK)
    hang = Event('hang', STARTED + 30, seconds=30.0, summary='All are busy.')
    report = incident(record(0, 'hung', hangs=(hang,), notes=(slow,)))
    _, stack = blocks(report, 'where')
    assert stack.lines[0] == 'waits' and 'GET /slow' in stack.title
    assert 'slow' not in ids(report)
    assert 'slow' in ids(incident(record(0, 'crashed', notes=(slow,))))


def test_an_exception_and_the_last_words_are_where_it_happened():
    run = record(0, 'startup-failed', exception='Traceback\nKeyError: 1', last_words=('Oh.',))
    assert blocks(incident(run), 'where') == (
        Lines(('Traceback', 'KeyError: 1'), 'The exception'),
        Lines(('Oh.',), 'Last words on standard error'),
    )


SEEN = SeenBefore(
    signature='SIGSEGV shop:render 0123456789',
    id='0123456789',
    count=2,
    first=STARTED - 9000,
    last=STARTED - 60,
    runs=('20260920T133320Z-99-abcd',),
    different=(
        Difference('distribution', 'lxml', '', '6.1.3'),
        Difference('user', who=('user-1',), who_before=('user-2', 'user-3')),
    ),
)


def test_what_was_seen_before_is_told_at_the_top_and_in_a_section():
    report = incident()
    report['incident']['seen_before'] = SEEN.to_json()
    told, table, runs = blocks(report, 'seen-before')
    assert told.text.startswith('Seen before: 2 times, first ')
    assert blocks(report, 'what')[0].text.endswith(told.text)
    assert table.rows == (
        ('lxml', 'not installed', '6.1.3'),
        ('User', 'user-2, user-3', 'user-1'),
    )
    assert runs.lines == SEEN.runs and SEEN.signature in runs.title


def test_a_fault_that_is_new_has_no_section_about_earlier_ones():
    report = incident()
    report['incident']['seen_before'] = replace(SEEN, count=0, runs=()).to_json()
    assert 'seen-before' not in ids(report) and 'seen' not in blocks(report, 'what')[0].text


# -- the current state -----------------------------------------------------------------------------


def test_the_current_state_begins_with_the_process():
    report = state(in_flight=[to_json(request(seconds=2.0))])
    assert ids(report)[:3] == ['now', 'in-progress', 'versions']
    up, told, none = blocks(report, 'now')
    assert up.text == 'This process has been up for 2 hours.'
    assert dict(told.rows)['Instance'] == '/home/zope/var on here (127.0.0.1:8080)'
    assert none.text == 'No earlier run of this instance is archived.'
    (table,) = blocks(report, 'in-progress')
    assert table.rows[0][:3] == ('GET /page', 'publishing', '2.000')


def test_a_last_run_that_was_stopped_is_one_sentence():
    report = state(previous=of_run(record(0, 'stopped')))
    assert blocks(report, 'now')[-1] == Paragraph('How the last run ended: It ended: stopped.')
    assert 'last-run' not in ids(report) and 'where' not in ids(report)


def test_a_last_run_that_crashed_is_told_whole():
    shown = ids(state(previous=of_run()))
    assert shown[:4] == ['now', 'in-progress', 'last-run', 'where']
    assert {'cause', 'requests', 'vital-signs', 'logs'} <= set(shown)


def test_a_snapshot_is_shown_with_its_stacks_and_not_with_the_last_run():
    told = {'source': 'snapshot', 'run': 'x', 'as_of': isotime(STARTED + 90)}
    sources = dict.fromkeys(('process', 'checks', 'inventory', 'in_flight'), told)
    report = state(previous=of_run(), snapshot=SNAPSHOT, sources=sources)
    shown = ids(report)
    assert 'last-run' not in shown and 'where' not in shown
    summary, about, *_ = blocks(report, 'now')
    assert summary.text == 'Two requests are slow.' and ('Note', 'It is slow.') in about.rows
    assert blocks(report, 'vital-signs')[0].alt.startswith('Memory until the snapshot: ')
    assert 'The stock is low.' in blocks(report, 'logs')[0].lines[0]
    assert 'epoll_wait' in blocks(report, 'threads')[-1].lines[0]


# -- what may be wrong with a report ---------------------------------------------------------------


@pytest.mark.parametrize('report', [incident(), state()], ids=['incident', 'state'])
def test_a_section_that_raises_says_so_and_all_others_are_there(report, monkeypatch):
    def fail(reading):
        yield Paragraph('The beginning')
        raise RuntimeError('out of luck')

    whole = ids(report)
    rows = [replace(row, blocks=fail) if row.id == 'checks' else row for row in module._ROWS]
    monkeypatch.setattr(module, '_ROWS', tuple(rows))
    assert ids(report) == whole
    assert blocks(report, 'checks') == (Paragraph('This part of the report could not be made.'),)


@pytest.mark.parametrize('nonsense', [None, 5, 'x', [], {}, {'x': [1]}, [[]]])
def test_nonsense_in_a_record_does_not_break_the_report(nonsense):
    report = incident()
    for key in CRASH.to_json():
        if key not in ('run', 'verdict', 'inventory', 'versions'):
            broken = report | {'incident': report['incident'] | {key: nonsense}}
            assert ids(json.loads(json.dumps(broken)))


def test_each_section_has_an_id_of_its_own_and_blocks():
    for report in (incident(), state(previous=of_run()), state()):
        made = sections(report).sections
        assert len({section.id for section in made}) == len(made)
        for section in made:
            assert section.title and all(
                isinstance(block, Paragraph | Facts | Table | Lines | Items | Picture)
                for block in section.blocks
            )


def test_the_title_says_what_happened_in_one_line():
    run = replace(CRASH, signature='SIGSEGV Products.Shop.views:render 0123456789')
    assert sections(incident(run)).title == 'Zope crashed: SIGSEGV Products.Shop.views:render'
    assert sections(incident()).title == 'Zope crashed: SIGSEGV'
    hung = record(0, 'hung', signature='hung deadlock shop:pay ~0123456789')
    assert sections(incident(hung)).title == 'Zope was hanging: deadlock shop:pay'
    assert sections(state()).title == 'Current state of /home/zope/var on here'


def test_a_snapshot_as_it_is_kept_shows_its_threads_and_native_stacks(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    report = build_of_snapshot(None, Archive(base), snapshot())
    assert sections(report).title.startswith('Snapshot of /home/zope/var')
    text = str(blocks(report, 'threads'))
    assert 'waitress-0' in text and 'parse (libxml2.so.2)' in text


def test_a_report_about_a_signature_lists_its_incidents_and_shows_the_newest():
    runs = (record(2, 'crashed', signal='SIGSEGV'), record(1, 'crashed', signal='SIGSEGV'))
    group = Group(Signature('crashed', 'SIGSEGV', python=('shop:render',)), runs)
    report = about_signature(incident(runs[0]), group)
    (words, table) = blocks(report, 'signature')
    assert words.text.startswith('2 incidents with the signature SIGSEGV shop:render')
    assert [row[-1] for row in table.rows] == [run.run for run in runs]


def test_who_reports_is_in_the_first_lines():
    report = state() | {'reporter': {'name': 'Ada', 'email': 'ada@example.org'}}
    assert sections(report).about.endswith(', by Ada, ada@example.org')
    assert sections(state()).about.endswith('UTC')
