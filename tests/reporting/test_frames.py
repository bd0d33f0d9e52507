"""A frame looks the same everywhere: as in a Python traceback."""

import re
import traceback
from pathlib import Path

import pytest
from support.stacksdocuments import document
from support.syntheticruns import record

from Products.StabilityMonitor.model.jsonform import from_json
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.threadstates import ThreadState
from Products.StabilityMonitor.reporting import threadtext
from Products.StabilityMonitor.reporting.runtext import run_lines
from Products.StabilityMonitor.reporting.stacksdocument import tidy

HOUSE = Path(__file__).resolve().parents[2] / 'Products' / 'StabilityMonitor'
FRAME = Frame('/site/bad.py', 7, 'crash')
LINE = 'File "/site/bad.py", line 7, in crash'
OF_THREAD = ThreadState(1, crashed=True, frames=(FRAME,))
NOTE = Note(1, 1.5, 'slow', 1, seconds=1.0, frames=(FRAME,))


def test_a_frame_is_written_as_python_writes_it():
    (written,) = traceback.format_list([('/site/bad.py', 7, 'crash', '')])
    assert threadtext.frame_line(FRAME) == LINE == written.strip()


@pytest.mark.parametrize('document', [{}, {'file': '', 'line': None, 'function': ''}])
def test_unknown_parts_of_a_frame_are_question_marks(document):
    assert threadtext.frame_line(from_json(Frame, document)) == 'File "???", line ?, in ???'


def test_a_report_writes_frames_as_python_does():
    shown = list(run_lines(record(1, 'crashed', threads=(OF_THREAD,), notes=(NOTE,))))
    assert shown.count(f'  {LINE}') == 2


def test_the_command_stacks_writes_frames_as_python_does():
    threads = [document()['threads'][0] | {'frames': [vars(FRAME)]}]
    assert f'    {LINE}\n' in threadtext.text(tidy(document(threads=threads)))


@pytest.mark.zope
@pytest.mark.in_process
def test_the_pages_write_frames_as_python_does():
    from Products.StabilityMonitor.zmi import pages

    assert pages._threads([OF_THREAD])['frames'] == [LINE]
    assert pages._slow([NOTE])['frames'] == [LINE]


def test_only_one_function_writes_frames():
    writers = [
        path.name
        for path in HOUSE.rglob('*.py')
        if re.search(r"""f'[^'\n]*File "\{""", path.read_text('utf-8'))
    ]
    assert writers == ['threadtext.py']
