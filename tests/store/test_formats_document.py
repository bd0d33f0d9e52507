"""docs/formats.rst is enough to read a black box: a reader made from its tables reads one."""

import re
import struct
from pathlib import Path

import pytest
from support.syntheticruns import note
from support.syntheticruns import sample

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.recording.lifecurve import LifeCurve
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox
from Products.StabilityMonitor.store import blackboxreader

DOCUMENT = (Path(__file__).parents[2] / 'docs' / 'formats.rst').read_text('utf-8')
ROW = re.compile(r'^(\d+) +(u8|u16|u32|u64|i32|i64|f32|f64|text(?: \d+)?) +(\w+)', re.M)
CODES = {
    'u8': 'B',
    'u16': 'H',
    'u32': 'I',
    'u64': 'Q',
    'i32': 'i',
    'i64': 'q',
    'f32': 'f',
    'f64': 'd',
    'text 64': '64s',
}
PARTS = {
    'A slot': blackbox.SLOTS,
    'A request': blackbox.REQUESTS,
    'A line of the event log': blackbox.LOG,
    'A sample': blackbox.SAMPLES,
    'A note': blackbox.NOTE_RING,
    'A point': blackbox.LIFE_CURVE,
}


def table(title):
    """{name: (offset, type)} of the table below the heading that begins with `title`."""
    (text,) = re.findall(
        rf'^{title}[^\n]*\n~+\n(.*?)(?=^[^\n]+\n[~-]{{5,}}\n)', DOCUMENT, re.M | re.S
    )
    return {name: (int(offset), kind) for offset, kind, name in ROW.findall(text)}


def value(data, at, kind):
    if kind.startswith('text'):
        return data[at : at + int(kind.split()[1])].rstrip(b'\0').decode()
    return struct.unpack_from('=' + CODES[kind], data, at)[0]


def entries(data, title):
    """The complete entries of a part, read as the document says."""
    fields, part = table(title), PARTS[title]
    found = []
    for start in part.places:
        entry = {name: value(data, start + at, kind) for name, (at, kind) in fields.items()}
        if 'seal' not in fields or (entry['number'] and entry['number'] == entry['seal']):
            found.append(entry)
    return found


@pytest.fixture(scope='module')
def box():
    recorder = Recorder(bytearray(blackbox.SIZE))
    blackbox.lay_out(recorder.buffer)
    blackbox.seal(recorder.buffer)
    recorder.begin('GET', '/shöp', retry=2)
    recorder.phase(1)
    recorder.user('ada')
    recorder.end(200)
    recorder.begin('POST', '/save')
    recorder.log(40, 'site', 'It fails.', 1_790_000_000.5)
    recorder.sample(
        sample(rss=1 << 40, cgroup_kills=3, stderr_size=7, queue=5, connections=9, accept_errors=2)
    )
    LifeCurve(recorder.buffer).add(sample(rss=5, descriptors=6, threads=7))
    frames = (Frame('/site/a.py', 1, 'f'), Frame('/site/b.py', None, 'g'))
    recorder.note(note('hang', ident=5, request=1, title='GET /', detail='x', frames=frames))
    recorder.stack(0, 8 << 20, 4096)
    return bytes(recorder.buffer)


def test_the_document_describes_the_header(box):
    fields = table('Header')
    assert fields['magic'][0] == 0 and box[:8].hex(' ').upper() in DOCUMENT
    for name, expected in (('version', 2), ('order', 258), ('header_size', 8192)):
        assert value(box, *fields[name]) == expected
    assert [fields[name][0] for name in ('sizes', 'words', 'survived', 'exception_length')] == [
        blackbox.SIZES_AT,
        blackbox.WORDS_AT,
        blackbox.MARKS_AT,
        blackbox.TEXT_AT,
    ]
    for name in (*blackbox.WORDS, *blackbox.MARKS[:10]):
        assert f'``{name}``' in DOCUMENT
    assert f'The {len(blackbox.MARKS)} mark files' in DOCUMENT


@pytest.mark.parametrize('title, known', [('A request', 'phase'), ('A note', 'kind')])
def test_the_document_lists_the_codes(title, known):
    names = blackbox.PHASES if known == 'phase' else blackbox.NOTES
    (text,) = re.findall(rf'^\d+ +u\d+ +{known} +(.*?)\n\d', DOCUMENT, re.M | re.S)
    assert re.findall(r'(\d+) ([\w-]+)', text) == [(str(n), name) for n, name in enumerate(names)]


def test_a_reader_made_of_the_tables_reads_the_same(box):
    recorded = blackboxreader.read(box)
    over, flying = entries(box, 'A request')
    assert (flying['method'], flying['path'], flying['ended']) == ('POST', '/save', 0.0)
    (request,) = recorded.finished
    for name in ('number', 'started', 'ident', 'native_id', 'retry', 'method', 'path', 'status'):
        assert over[name] == getattr(request, name), name
    assert over['user'][: over['user_length']] == request.user == 'ada'
    (line,) = entries(box, 'A line of the event log')
    assert (line['level'], line['logger'], line['message']) == (40, 'site', 'It fails.')
    (vital,) = entries(box, 'A sample')
    assert {name: vital[name] for name in vars(recorded.samples[0])} == vars(recorded.samples[0])
    (point,) = entries(box, 'A point')
    assert {name: point[name] for name in vars(recorded.curve[0])} == vars(recorded.curve[0])
    (seen,) = entries(box, 'A note')
    (expected,) = recorded.notes
    for name in ('number', 'time', 'ident', 'request', 'seconds'):
        assert seen[name] == getattr(expected, name), name
    texts = seen['text'].encode()[: seen['title_length'] + seen['detail_length']].decode()
    assert texts == 'GET /x' and blackbox.NOTES[seen['kind']] == 'hang'
    slot = entries(box, 'A slot')[0]
    (known,) = recorded.threads.values()
    assert (slot['stack_size'], slot['guard_size']) == (known.stack_size, known.guard_size)


def test_the_fields_of_each_table_fit_its_part():
    for title, part in PARTS.items():
        *_, (at, kind) = table(title).values()
        assert at + struct.calcsize('=' + CODES[kind]) <= part.size, title
