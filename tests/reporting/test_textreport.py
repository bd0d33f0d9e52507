"""The report as text: everything in it, in lines that fit a terminal and a mail."""

import re

from support.samplereports import incident
from support.samplereports import of_run
from support.samplereports import state
from support.samplereports import with_texts

from Products.StabilityMonitor.reporting.sections import sections
from Products.StabilityMonitor.reporting.textreport import as_text

RULE = '=' * 78


def test_each_section_stands_between_rules():
    for report in (incident(), state(previous=of_run())):
        text = as_text(report).decode()
        for section in sections(report).sections:
            assert f'\n\n{RULE}\n{section.title}\n{RULE}\n' in text


def test_sentences_are_wrapped_and_lines_of_a_log_are_not():
    portion = {'name': 'event-log', 'text': 'word ' * 60}
    report = incident(logs=[portion], reporter={'did': ''})
    report['incident']['death']['why'] = 'word ' * 60
    lines = as_text(report).decode().splitlines()
    assert [len(line) for line in lines if line.startswith('  word')] == [2 + 300]
    wrapped = [line for line in lines if line.endswith('word') and not line.startswith(' ')]
    assert len(wrapped) > 2 and max(map(len, wrapped)) <= 100


def test_the_columns_of_a_table_stand_below_each_other():
    lines = as_text(incident()).decode().splitlines()
    (head,) = (n for n, line in enumerate(lines) if re.match('Distribution .* Why', line))
    assert lines[head].index('Why') == lines[head + 1].index('suspect')


def test_pictures_are_told_in_words():
    assert '- Memory before the end: this process ' in as_text(incident()).decode()


def test_control_characters_are_escaped():
    text = as_text(with_texts(incident(), lambda text: f'{text}\x1b[2J\r\nFORGED')).decode()
    assert '\x1b' not in text and '\r' not in text and '\nFORGED' not in text
