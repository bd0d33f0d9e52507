"""Why a run died, in words."""

import dataclasses

import pytest

from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import BY_NAME
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.runrecord import Amendment
from Products.StabilityMonitor.model.runrecord import Decision
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.model.suspects import CULPRIT
from Products.StabilityMonitor.model.suspects import NEITHER
from Products.StabilityMonitor.model.suspects import VICTIM
from Products.StabilityMonitor.model.suspects import DeathClass
from Products.StabilityMonitor.model.suspects import Suspect
from Products.StabilityMonitor.reporting import causewords
from Products.StabilityMonitor.reporting.runtext import run_lines

LIBXML = '/venv/lxml.libs/libxml2-1a2b.so.2'
FRAMES = (
    MergedFrame('xmlParse', library=LIBXML, file='/build/parser.c', line=12, address=0x7F10),
    MergedFrame('', library=LIBXML, offset=0x1F0),
    MergedFrame('feed', native=False, file='/site/shop.py', line=7),
)
CORE = CoreFile(
    '/var/cores/core.12',
    time=1000.0,
    match=BY_CONTENT,
    size=3 << 20,
    signal='SIGSEGV',
    code='SEGV_MAPERR',
    address=0,
    thread=12,
    program_counter=0x7F10,
    code_at=Mapping(0x7F00, 0x8F00, 'r-x', LIBXML),
    registers={'rax': 7},
    reader='pystack',
    threads=(
        CoreThread(13, 'waitress-1', holds_gil=True, frames=FRAMES[2:]),
        CoreThread(12, 'waitress-0', crashed=True, frames=FRAMES),
    ),
)
DEATH = DeathClass('null-pointer', 'Null pointer', CULPRIT, 'The address is 0x0.', 'Upgrade it.')
SUSPECT = Suspect('lxml.etree', 'lxml', '6.1.3', strength='strong', why='It is on top.')
RECORD = RunRecord(
    '20261201T120000Z-12-00ab', verdict='crashed', death=DEATH, suspects=(SUSPECT,), core=CORE
)


def test_the_class_comes_before_the_suspects():
    assert causewords.cause_lines(RECORD) == [
        'Null pointer. The address is 0x0. The code on top of the stack did it.',
        '1. lxml.etree of lxml 6.1.3 (strong): It is on top.',
    ]


@pytest.mark.parametrize(
    'role, words', [(CULPRIT, 'did it'), (VICTIM, 'where it surfaced'), (NEITHER, '')]
)
def test_a_class_says_whether_the_frame_on_top_is_the_culprit(role, words):
    said = causewords.death_words(dataclasses.replace(DEATH, role=role))
    assert (words or 'The address is 0x0.') in said
    assert ('on top' in said) == bool(words)


def test_a_death_without_suspects_says_so():
    record = dataclasses.replace(RECORD, suspects=())
    assert 'Nothing points to a module.' in causewords.cause_lines(record)
    assert causewords.cause_lines(dataclasses.replace(record, death=None)) == []


def test_what_a_core_file_tells():
    assert dict(causewords.core_facts(CORE)) == {
        'File': '/var/cores/core.12 (3.0 MiB)',
        'Whose': 'it is of this run: it names the black box of the run',
        'Signal': 'SIGSEGV SEGV_MAPERR at 0x0, where nothing is mapped',
        'Instruction': '0x7f10 in libxml2-1a2b.so.2 (r-x)',
        'Read by': 'pystack',
    }


def test_a_core_file_that_is_only_likely_ours_says_so():
    facts = dict(causewords.core_facts(dataclasses.replace(CORE, match=BY_NAME)))
    assert facts['Whose'].startswith('probably')


def test_the_sender_of_a_signal():
    sent = dataclasses.replace(CORE, address=None, code='SI_USER', sender=4711, sender_uid=0)
    facts = dict(causewords.core_facts(sent))
    assert facts['Signal'] == 'SIGSEGV SI_USER'
    assert facts['Sent by'] == 'process 4711 of user 0'


def test_what_could_not_be_read_is_said_with_the_command():
    unread = dataclasses.replace(CORE, threads=(), command='gdb -c core python3')
    assert causewords.core_gaps(unread) == ['To read it by hand: gdb -c core python3']
    cut = dataclasses.replace(unread, incomplete=('It was cut short.',))
    assert causewords.core_gaps(cut)[0] == 'It was cut short.'
    assert causewords.core_gaps(dataclasses.replace(CORE, command='gdb')) == []


def test_native_and_python_frames_of_a_stack():
    assert causewords.merged_lines(FRAMES) == [
        '    xmlParse (libxml2-1a2b.so.2, parser.c:12)',
        '    0x1f0 (libxml2-1a2b.so.2)',
        'File "/site/shop.py", line 7, in feed',
    ]
    deep = causewords.merged_lines(FRAMES[:1] * 60)
    assert len(deep) == 2 and '59 more times' in deep[1]


def test_the_crashed_thread_comes_first():
    titles = list(map(causewords.core_threads_title, causewords.core_threads(CORE)))
    assert titles == ['waitress-0 (crashed)', 'waitress-1 (holds the GIL)']


def test_threads_with_equal_stacks_stand_together():
    waiting = tuple(CoreThread(number, frames=FRAMES[1:]) for number in (14, 15))
    core = dataclasses.replace(CORE, threads=(*waiting, *CORE.threads))
    titles = list(map(causewords.core_threads_title, causewords.core_threads(core)))
    assert titles == ['waitress-0 (crashed)', '2 threads: 14, 15', 'waitress-1 (holds the GIL)']


def test_a_shared_object_with_its_owner():
    lxml = SharedObject(
        '/venv/lxml/etree.so', ('lxml.etree',), build_id='ab' * 20, distribution='lxml', version='6'
    )
    line = causewords.object_line(lxml)
    assert line == 'etree.so  lxml.etree  of lxml 6  build id abababababab'
    assert causewords.object_line(SharedObject('/lib/libc.so.6')) == 'libc.so.6'


def test_the_lines_about_a_run_have_class_suspects_and_merged_stack():
    text = '\n'.join(run_lines(RECORD))
    assert text.index('Null pointer') < text.index('lxml.etree of lxml') < text.index('xmlParse')
    assert 'In the core file: waitress-0 (crashed)' in text


def test_a_core_file_that_was_found_but_not_read_is_said():
    found = Amendment(1000.0, 'core', Decision('vanished'), Decision('crashed'))
    waiting = dataclasses.replace(RECORD, core=None, amendments=(found,))
    assert 'has not been read yet' in causewords.unread_core(waiting)
    assert 'has not been read yet' in '\n'.join(run_lines(waiting))
    assert causewords.unread_core(dataclasses.replace(waiting, core=CORE)) == ''
    assert causewords.unread_core(dataclasses.replace(waiting, amendments=())) == ''
