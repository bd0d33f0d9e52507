"""The command "history --by signature", and "seen before" of "show"."""

import json

from support.syntheticruns import record

from Products.StabilityMonitor.cli import history
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.store.archive import Archive


def keep(base, *runs):
    base.prepare()
    for run in runs:
        (base.runs / run.run).mkdir()
        Archive(base).add(base.runs / run.run, run)


def crash(number, **values):
    frames = (Frame('/site/shop.py', number + 1, 'render'),)
    crashed = ThreadState(1, 'waitress-0', True, frames)
    return record(number, 'crashed', signal='SIGSEGV', threads=(crashed,), **values)


def test_history_by_signature_has_one_line_for_the_same_fault(base, command):
    keep(base, crash(0), crash(1), record(2), record(3, 'crashed', drill='abort'))
    status, output, _ = command('history', '--by', 'signature')
    head, line, drills, weak = output.splitlines()
    assert status == 0 and line.split()[0] == '2' and line.endswith('SIGSEGV shop:render')
    assert 'count' in head and drills == 'and 1 drill' and '~' in weak


def test_history_by_signature_as_json_names_the_runs(base, command):
    runs = [crash(0), crash(1)]
    keep(base, *runs)
    status, output, _ = command('history', '--by', 'signature', '--format', 'json')
    told = json.loads(output)
    assert status == 0 and told['directory'] == str(base.path)
    (found,) = told['signatures']
    assert found['runs'] == [runs[1].run, runs[0].run] and told['unsigned'] == 0


def test_show_says_that_it_was_seen_before_and_what_was_different(base, command):
    keep(base, crash(0, context={'python': '3.11.6'}), crash(1, context={'python': '3.14.0'}))
    _, output, _ = command('show')
    assert 'Seen before: once, 2026-' in output.splitlines()[1]
    assert '  Python: 3.11.6 then, 3.14.0 now' in output
    _, output, _ = command('show', '-2')
    assert output.splitlines()[1].startswith('Not seen before; seen once since')


def test_json_of_show_and_report_has_it_too(base, command):
    runs = [crash(0), crash(1)]
    keep(base, *runs)
    shown = json.loads(command('show', '--format', 'json')[1])
    seen = shown['seen_before']
    assert seen['signature'] == shown['signature'] and seen['runs'] == [runs[0].run]
    assert json.loads(command('report', '--format', 'json')[1])['incident']['seen_before'] == seen
    assert 'Seen before: once' in command('report')[1]
    assert json.loads(command('show', runs[0].run, '--format', 'json')[1])['seen_before']['since']


def test_a_run_without_a_signature_has_null(base, command):
    keep(base, record(0, 'crashed', drill='abort'))
    assert json.loads(command('show', '--format', 'json')[1])['seen_before'] is None
    assert 'een before' not in command('show')[1]


class Terminal:
    def __init__(self):
        self.text = ''

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_the_progress_is_shown_on_a_terminal_and_wiped(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(history.sys, 'stderr', terminal)
    monkeypatch.setattr(history, '_PAUSE', 0)
    tell = history._Progress()
    for done in (0, 3200, 10_000):
        tell(done, 10_000)
    assert 'Signing 3,200 of 10,000 past incidents' in terminal.text
    assert terminal.text.endswith(' \r') and not terminal.text.rsplit('\r', 2)[1].strip()


def test_a_short_work_shows_no_progress(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(history.sys, 'stderr', terminal)
    tell = history._Progress()
    tell(0, 2)
    tell(2, 2)
    assert terminal.text == ''
