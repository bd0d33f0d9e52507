"""Whatever the bytes are: a recording of sane values, or UnreadableRecord; nothing else, and
soon.
"""

import json
import math
import struct

from hypothesis import HealthCheck
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader

OUR_SETTINGS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow],
)


def full():
    """A black box in which all parts are in use."""
    buffer = bytearray(box.SIZE)
    recorder = Recorder(buffer)
    box.lay_out(buffer)
    box.seal(buffer)
    for number in range(400):
        recorder.begin('GET', f'/{number % 350}/ü')
        recorder.user('admin')
        recorder.end(200)
        recorder.log(30, 'logger', f'line {number}', 1e9 + number)
    for number in range(1000):
        recorder.sample(Sample(1e9 + number, float(number), rss=number))
    recorder.begin('POST', '/in-flight')
    recorder.exception('ValueError: x')
    recorder.stamp('serving', 1e9)
    return bytes(buffer)


FULL = full()
HEADER = FULL[: box.HEADER_SIZE]
# Values that may trouble a reader: all ones, sign bits, infinities and nans of both widths, long
# lengths.
NASTY = [
    b'\xff' * 8,
    b'\x00' * 8,
    b'\x01' + b'\0' * 7,
    b'\0' * 7 + b'\x80',
    struct.pack('<d', math.inf),
    struct.pack('<d', math.nan),
    struct.pack('<d', 1e10),
    struct.pack('<Q', 1 << 40),
    b'\xc3' * 8,
    b'\x1b[2J\r\n\0',
]
scribbles = st.lists(
    st.tuples(
        st.integers(0, box.SIZE - 1),
        st.one_of(st.binary(min_size=1, max_size=64), st.sampled_from(NASTY)),
    ),
    max_size=30,
)


def is_sane(request):
    for seconds in (request.started, request.ended, request.seconds):
        assert seconds is None or 0 <= seconds < 1e11
    assert request.phase in box.PHASES and request.count >= 1
    for text, most in ((request.method, 16), (request.path, 320), (request.user, 64)):
        assert len(text) <= most


def check(data):
    try:
        recording = blackboxreader.read(data)
    except UnreadableRecord:
        return
    assert len(recording.finished) <= box.FINISHED_COUNT
    assert len(recording.log) <= box.LOG_COUNT and len(recording.samples) <= box.SAMPLE_COUNT
    for request in recording.in_flight + recording.finished:
        is_sane(request)
    assert list(recording.finished) == sorted(recording.finished, key=lambda r: (r.ended, r.number))
    for line in recording.log:
        assert 0 <= line.time < 1e11
    # The archive holds JSON, and JSON has no infinities.
    json.dumps(
        [recording.in_flight, recording.finished, recording.log, recording.samples],
        default=vars,
        allow_nan=False,
    )
    json.dumps(
        [recording.words, recording.survived, recording.exception, recording.threads],
        default=vars,
        allow_nan=False,
    )


@given(st.binary(max_size=4096))
@example(b'')
@OUR_SETTINGS
def test_random_bytes_raise_only_unreadable_record(data):
    check(data)
    check(HEADER + data)
    check(HEADER[:16] + data + bytes(box.SIZE))


@given(st.binary(min_size=1, max_size=509))
@OUR_SETTINGS
def test_random_entries_raise_only_unreadable_record(data):
    """Every entry of every part is random."""
    body = data * (box.SIZE // len(data) + 1)
    check((HEADER + body)[: box.SIZE])


@given(scribbles)
@OUR_SETTINGS
def test_a_damaged_black_box_raises_only_unreadable_record(changes):
    data = bytearray(FULL)
    for at, scribble in changes:
        data[at : at + len(scribble)] = scribble[: box.SIZE - at]
    assert len(data) == box.SIZE
    check(bytes(data))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1024),
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(NASTY)),
        ),
        min_size=1,
        max_size=6,
    )
)
@OUR_SETTINGS
def test_a_damaged_header_raises_only_unreadable_record(changes):
    data = bytearray(FULL)
    for at, scribble in changes:
        data[at : at + len(scribble)] = scribble
    check(bytes(data))


@given(st.integers(0, box.SIZE))
@OUR_SETTINGS
def test_a_file_cut_at_any_length_raises_only_unreadable_record(length):
    check(FULL[:length])


@given(st.text(max_size=400), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_a_cut_text_is_a_prefix_in_utf8(text, most):
    encoded, was_cut = box.cut(text, most)
    whole = text.encode('utf-8', 'backslashreplace')
    assert len(encoded) <= most and whole.startswith(encoded)
    assert was_cut == (encoded != whole)
    assert len(encoded) > most - 4 or not was_cut
    encoded.decode('utf-8')
