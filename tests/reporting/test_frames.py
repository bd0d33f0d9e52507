"""A frame looks the same wherever it is shown: as Python's own traceback writes it."""

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
from Products.StabilityMonitor.reporting.renderers import run_lines
from Products.StabilityMonitor.reporting.stacksdocument import tidy

HOUSE = Path(__file__).resolve().parents[2] / 'Products' / 'StabilityMonitor'
FRAME = Frame('/site/bad.py', 7, 'crash')
LINE = 'File "/site/bad.py", line 7, in crash'
OF_THREAD = ThreadState(1, crashed=True, frames=(FRAME,))
NOTE = Note(1, 1.5, 'slow', 1, seconds=1.0, frames=(FRAME,))


def test_a_frame_is_written_as_by_python():
    (written,) = traceback.format_list([('/site/bad.py', 7, 'crash', '')])
    assert threadtext.frame_line(FRAME) == LINE == written.strip()


@pytest.mark.parametrize('document', [{}, {'file': '', 'line': None, 'function': ''}])
def test_what_is_not_known_of_a_frame_is_marked(document):
    assert threadtext.frame_line(from_json(Frame, document)) == 'File "???", line ?, in ???'


def test_a_thread_and_a_slow_request_of_a_report():
    shown = list(run_lines(record(1, 'crashed', threads=(OF_THREAD,), notes=(NOTE,))))
    assert shown.count(f'  {LINE}') == 2


def test_the_command_stacks():
    threads = [document()['threads'][0] | {'frames': [vars(FRAME)]}]
    assert f'    {LINE}\n' in threadtext.text(tidy(document(threads=threads)))


@pytest.mark.zope
@pytest.mark.in_process
def test_the_pages():
    from Products.StabilityMonitor.zmi import pages

    assert pages._thread(OF_THREAD)['frames'] == [LINE]
    assert pages._slow(NOTE)['frames'] == [LINE]


def test_one_place_in_the_house_writes_frames():
    writers = [
        path.name
        for path in HOUSE.rglob('*.py')
        if re.search(r"""f'[^'\n]*File "\{""", path.read_text('utf-8'))
    ]
    assert writers == ['threadtext.py']
