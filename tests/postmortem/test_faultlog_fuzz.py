"""Any bytes are parsed without an exception, and give nothing that was not in the text."""

from pathlib import Path

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.postmortem import faultlog
from Products.StabilityMonitor.postmortem.faultlines import decode_escapes
from Products.StabilityMonitor.postmortem.repetition import repetition

DATA = Path(__file__).parents[1] / 'data' / 'faultlogs'
TEXTS = sorted(path.read_bytes()[:3000] for path in DATA.glob('*.txt') if path.name[0] != '_')
WORDS = [prefix for prefix, _, _ in faultlog.RULES] + [
    b'Fatal Python error: ',
    b'Fatal Python error from unexpected signum: ',
    b'Segmentation fault',
    b'Aborted',
    b'\n',
    b'\n\n',
    b'\r\n',
    b'\0',
    b'\0\0\0',
    b'"',
    b'", line ',
    b' in ',
    b'???',
    b'7',
    b'00007f0000000001',
    b' (most recent call first):\n',
    b' [name]',
    b'", at ',
    b'+0x1f',
    b'-0x',
    b' [0x7f00]',
    b' (total: ',
    b', ',
    b'\\xe9',
    b'\\U0001f600',
    b'\xff',
    b'x',
    b')!',
    b'>',
]

words = st.lists(st.sampled_from(WORDS), max_size=60).map(b''.join)
lines = st.lists(
    st.sampled_from([line for text in TEXTS for line in text.splitlines(True)]), max_size=40
).map(b''.join)
anything = st.one_of(st.binary(max_size=300), words, lines, st.sampled_from(TEXTS))


@st.composite
def scribbled(draw):
    """A text in which one piece is replaced by another."""
    text, piece = draw(anything), draw(anything)
    begin = draw(st.integers(0, len(text)))
    return text[:begin] + piece + text[draw(st.integers(begin, len(text))) :]


def check(dump, data):
    assert dump.kind in ('fatal', 'pyfatal', 'timeout', 'stack')
    assert 0 <= dump.offset < len(data)
    assert (dump.signal is None) or dump.kind == 'fatal'
    strings = [dump.reason, dump.runtime_state, *dump.extension_modules]
    for thread in dump.threads:
        assert isinstance(thread.frames, tuple)
        strings += [thread.name, thread.note]
        strings += [text for frame in thread.frames for text in (frame.file, frame.function)]
    strings += [text for frame in dump.native for text in (frame.binary, frame.symbol)]
    for text in strings:
        assert text.isprintable()
        text.encode()  # no lone surrogates
    hash(dump)


@given(scribbled())
@settings(max_examples=1500, deadline=None)
def test_any_bytes_give_valid_dumps(data):
    dumps = faultlog.parse(data)
    for dump in dumps:
        check(dump, data)
        for thread in dump.threads:
            assert repetition(thread.frames) <= len(thread.frames)
    assert [dump.offset for dump in dumps] == sorted(dump.offset for dump in dumps)
    assert faultlog.first_fatal(dumps) is None or faultlog.first_fatal(dumps) in dumps


@given(scribbled(), st.integers(-10, 4000), st.one_of(st.none(), st.integers(0, 2**64)))
@settings(max_examples=500, deadline=None)
def test_any_start_and_any_ident_are_accepted(data, start, ident):
    for dump in faultlog.parse(data, start):
        assert dump.offset >= start
    found = faultlog.find_py_fatal(data, ident)
    assert found is None or found.names(ident) or found.leaves_out_threads


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=500, deadline=None)
def test_a_shorter_text_never_gives_more(text, data):
    cut = text[: data.draw(st.integers(0, len(text)))]
    whole, part = faultlog.parse(text), faultlog.parse(cut)
    assert len(part) <= len(whole)
    for before, after in zip(whole, part, strict=False):
        assert len(after.threads) <= len(before.threads)
        assert before.offset == after.offset


@given(st.text(max_size=80))
@settings(max_examples=1000, deadline=None)
def test_decoding_reverses_the_escapes_of_faulthandler(text):
    """Printable text without backslashes is restored."""
    text = ''.join(char for char in text if char != '\\' and (char.isprintable() or ord(char) < 32))
    decoded = decode_escapes(''.join(map(escape, text)))
    assert decoded == ''.join(char if char.isprintable() else escape(char) for char in text)


def escape(char):
    """Escape a character like _Py_DumpASCII in CPython's traceback.c."""
    code = ord(char)
    if 32 <= code <= 126:
        return char
    return (
        f'\\x{code:02x}'
        if code <= 0xFF
        else f'\\u{code:04x}'
        if code <= 0xFFFF
        else f'\\U{code:08x}'
    )


@given(st.text(alphabet='\\xuU0123456789abcdefEF', max_size=60))
@settings(max_examples=1000, deadline=None)
def test_decoded_text_can_always_be_printed(text):
    decoded = decode_escapes(text)
    assert decoded.isprintable()
    decoded.encode()
