"""The layout of the black box: bytes in, values out; torn entries are never read."""

import struct
import sys
from dataclasses import replace

import pytest

from Products.StabilityMonitor.model.errors import UnreadableRecord
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.records import Note
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.records import ThreadSlot
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader

FOREIGN = '>' if sys.byteorder == 'little' else '<'


#: The fields of a sample in the order of the file: the last seven come after the seal.
SAMPLE_VALUES = [7, *vars(Sample(1e9, 5.0)).values()]
SAMPLE_VALUES.insert(box.SEALED_IN_SAMPLE + 1, 7)


def made():
    buffer = bytearray(box.SIZE)
    recorder = Recorder(buffer)
    box.lay_out(buffer)
    box.seal(buffer)
    return buffer, recorder


def read(buffer):
    return blackboxreader.read(bytes(buffer))


class TestTheFile:
    def test_the_file_is_at_most_one_mebibyte(self):
        assert box.SIZE <= 1 << 20
        assert box.SIZE % 8 == 0

    def test_every_part_and_entry_is_aligned_to_8_bytes(self):
        for part in box.parts_of(box.LAYOUT):
            assert part.start % 8 == 0 and part.size % 8 == 0

    def test_no_parts_or_fields_overlap(self):
        words = {box.word_at(name) for name in box.WORDS} | {
            box.mark_at(name) for name in box.MARKS
        }
        assert len(words) == len(box.WORDS) + len(box.MARKS)
        assert max(words) * 8 + 8 <= 1024  # where the text begins
        assert 1024 + box.TEXT_SIZE <= box.HEADER_SIZE
        assert box.slot_head.size <= box.SLOTS.size
        assert (
            struct.calcsize('=' + box.REQUEST_FORMAT) == box.begun_request.size <= box.REQUESTS.size
        )
        assert box.STATUS_IN_REQUEST + box.ended_request.size + 8 == box.begun_request.size
        for entry, part in (
            (box.log_entry, box.LOG),
            (box.sample_entry, box.SAMPLES),
            (box.note_entry, box.NOTE_RING),
            (box.point_entry, box.LIFE_CURVE),
        ):
            assert entry.size <= part.size

    def test_native_structs_have_no_padding(self):
        """The writer's structs may be padded for the CPU; the reader's structs are not padded."""
        for native in (
            box.begun_request,
            box.ended_request,
            box.log_entry,
            box.sample_entry,
            box.note_entry,
        ):
            assert native.size == struct.calcsize('=' + native.format[1:])

    def test_an_unsealed_buffer_is_refused(self):
        buffer = bytearray(box.SIZE)
        box.lay_out(buffer)
        with pytest.raises(UnreadableRecord, match='no valid beginning'):
            read(buffer)

    def test_seal_writes_the_magic_last(self):
        class Watched(bytearray):
            def __setitem__(self, key, value):
                assert bytes(self[8:16]) != bytes(8)
                super().__setitem__(key, value)

        buffer = Watched(box.SIZE)
        box.seal(buffer)
        assert buffer[:8] == box.MAGIC

    def test_a_new_black_box_is_empty(self):
        recording = read(made()[0])
        assert recording.in_flight == recording.finished == recording.log == recording.samples == ()
        assert recording.threads == {} and recording.exception == ''
        assert set(recording.words.values()) | set(recording.survived.values()) == {0}
        assert recording.last_sample is None

    def test_the_word_unmarked_names_marks(self):
        names = {'SIGTERM', 'SIGXCPU'}
        assert box.marks_of(box.bits_of(names)) == names
        assert box.marks_of(box.bits_of(names) | 1 << 63) == names, 'a mark of a later release'
        assert box.bits_of(()) == 0 and box.marks_of(0) == frozenset()

    def test_the_fields_of_version_2_never_move(self):
        """A later release reads what an earlier one wrote, so fields are only appended."""
        assert box.VERSION == 2
        assert box.WORDS[:8] == (
            'armed',
            'serving',
            'finished',
            'overflow',
            'errors',
            'forked',
            'hung_since',
            'drill',
        )
        assert box.MARKS[:10] == (
            'faults',
            'SIGTERM',
            'SIGINT',
            'SIGHUP',
            'SIGQUIT',
            'SIGUSR1',
            'SIGUSR2',
            'SIGALRM',
            'SIGXCPU',
            'watchdog',
        )
        assert box.PHASES[:7] == (
            'traversing',
            'publishing',
            'committing',
            'finishing',
            'aborting',
            'failed',
            'streaming',
        )
        assert (box.word_at('armed') * 8, box.mark_at('faults') * 8) == (128, 512)
        assert (box.SLOTS.start, box.SLOTS.size) == (8192, 128)
        assert (
            box.PHASE_IN_REQUEST,
            box.USER_LENGTH_IN_REQUEST,
            box.USER_IN_REQUEST,
            box.LAST_END_IN_REQUEST,
            box.TALLY_IN_REQUEST,
            box.STATUS_IN_REQUEST,
            box.begun_request.size,
        ) == (384, 385, 392, 456, 464, 472, 496)


class TestRefusal:
    @pytest.mark.parametrize('data', [b'', b'x', bytes(box.SIZE), b'\x7fELF' + bytes(box.SIZE)])
    def test_data_that_is_not_a_black_box_is_refused(self, data):
        with pytest.raises(UnreadableRecord):
            blackboxreader.read(data)

    @pytest.mark.parametrize(
        'length', [7, 8, 20, box.HEADER_SIZE - 1, box.HEADER_SIZE, box.SIZE - 1]
    )
    def test_a_truncated_file_is_refused(self, length):
        with pytest.raises(UnreadableRecord):
            blackboxreader.read(bytes(made()[0][:length]))

    def test_a_newer_version_is_refused(self):
        buffer, _ = made()
        struct.pack_into('=H', buffer, 8, 3)
        with pytest.raises(UnreadableRecord, match='format 3'):
            read(buffer)

    @pytest.mark.parametrize('index', range(12))
    @pytest.mark.parametrize('value', [0, 1, 0xFFFFFFFF])
    def test_impossible_sizes_are_refused(self, index, value):
        buffer, _ = made()
        struct.pack_into('=I', buffer, 16 + 4 * index, value)
        if (index, value) in {(0, 1), (2, 1), (4, 1), (6, 1), (8, 1), (10, 1)}:
            read(buffer)  # a part may have a single entry
        else:
            with pytest.raises(UnreadableRecord):
                read(buffer)


def test_a_later_release_may_append_fields_to_every_entry():
    """Of larger entries than ours, the fields that we know are read."""
    buffer, recorder = made()
    recorder.begin('GET', '/in-flight')
    recorder.log(30, 'logger', 'line', 1000.0)
    recorder.sample(Sample(1000.0, 5.0, rss=7))
    recorder.note(Note(0, 1000.0, 'hang', 5, title='stuck'))
    grown, sizes = bytearray(buffer[: box.HEADER_SIZE]), []
    for part in box.parts_of(box.LAYOUT):
        sizes += [part.count, part.size + 64]
        for index in range(part.count):
            grown += buffer[part.at(index) : part.at(index) + part.size] + b'\xee' * 64
    struct.pack_into('=12I', grown, 16, *sizes)
    recording = blackboxreader.read(bytes(grown) + b'and a part that we do not know')
    assert recording.in_flight[0].path == '/in-flight'
    assert recording.log[0].message == 'line'
    assert recording.last_sample.rss == 7
    assert recording.notes[0].title == 'stuck'


def test_a_file_of_a_machine_with_the_other_byte_order_is_read():
    data = bytearray(box.SIZE)
    sizes = [n for part in box.parts_of(box.LAYOUT) for n in (part.count, part.size)]
    struct.pack_into(
        FOREIGN + '8sHHI12I', data, 0, box.MAGIC, box.VERSION, box.ORDER, box.HEADER_SIZE, *sizes
    )
    struct.pack_into(FOREIGN + 'Q', data, box.word_at('serving') * 8, 77)
    struct.pack_into(FOREIGN + 'QQQQQ', data, box.SLOTS.at(3), 0x7F00, 42, 1, 65536, 4096)
    struct.pack_into(
        FOREIGN + box.REQUEST_FORMAT,
        data,
        box.REQUESTS.at(7),
        9,
        1e9,
        5.0,
        0x7F00,
        42,
        1,
        3,
        b'POST',
        b'/a?',
        1,
        2,
        b'me',
        0.0,
        0,
        0,
        0.0,
        9,
    )
    recording = blackboxreader.read(bytes(data))
    assert recording.words['serving'] == 77
    assert recording.threads == {
        0x7F00: ThreadSlot(native_id=42, stack_size=65536, guard_size=4096, slot=3)
    }
    (request,) = recording.in_flight
    assert (
        request.number,
        request.method,
        request.path,
        request.phase,
        request.retry,
        request.user,
        request.ident,
    ) == (9, 'POST', '/a?', 'publishing', 1, 'me', 0x7F00)


class TestTornRecords:
    """A kill between two stores leaves the earlier state or nothing, but never a mixture."""

    @staticmethod
    def begin(buffer, recorder, path, seen):
        """Begin a request; `seen` gets what is in flight before, during and after its writing."""

        def pack(view, at, *values):
            seen.append([r.path for r in read(buffer).in_flight])
            box.begun_request.pack_into(view, at, *values)
            seen.append([r.path for r in read(buffer).in_flight])

        recorder.begin('GET', path, token=path, _pack=pack)
        seen.append([r.path for r in read(buffer).in_flight])

    def test_a_request_that_is_being_written_is_not_in_flight_yet(self):
        buffer, recorder = made()
        for path in ('/first', '/second'):
            seen = []
            self.begin(buffer, recorder, path, seen)
            recorder.end(200, path)
            assert seen == [[], [path], [path]] and read(buffer).in_flight == ()

    def test_an_outer_request_is_whole_while_an_inner_one_is_written(self):
        buffer, recorder = made()
        for turn in range(5):
            recorder.begin('GET', f'/outer{turn}', token='outer')
            seen = []
            self.begin(buffer, recorder, f'/inner{turn}', seen)
            assert seen == [[f'/outer{turn}'], [f'/inner{turn}'], [f'/inner{turn}']]
            recorder.end(200, f'/inner{turn}')
            recorder.end(200, 'outer')
        recording = read(buffer)
        assert [r.path for r in recording.finished] == [f'/inner{turn}' for turn in range(5)]
        assert recording.in_flight == ()

    BEGUN = (7, 1e9, 5.0, b'16 bytes: thread', 0, 2, b'GET', b'/b', 7)

    @pytest.mark.parametrize('stops_at', range(len(BEGUN)))
    @pytest.mark.parametrize('before', ['in flight', 'finished', 'counted'])
    def test_a_partly_written_request_entry_is_empty(self, before, stops_at):
        """struct.pack_into first fills with zeros, then writes the fields in order.

        Python does not promise this, and the black box depends on it.
        """
        buffer, recorder = made()
        for _ in range(['in flight', 'finished', 'counted'].index(before)):
            recorder.begin('GET', '/a')
            recorder.end(200)
        if before == 'in flight':
            recorder.begin('GET', '/a')
        at = box.REQUESTS.at(0)
        assert blackboxreader.read_request(buffer, at).path == '/a'
        values = list(self.BEGUN)
        values[stops_at] = None
        with pytest.raises((struct.error, TypeError)):
            box.begun_request.pack_into(buffer, at, *values)
        assert blackboxreader.read_request(buffer, at) is None
        box.begun_request.pack_into(buffer, at, *self.BEGUN)
        assert blackboxreader.read_request(buffer, at).path == '/b'

    @pytest.mark.parametrize(
        'part, pack, values',
        [
            ('log', box.log_entry, (7, 1e9, 1, 30, 0, 1, 1, b'a', b'b', 7, 1, 1e9, 7)),
            ('samples', box.sample_entry, SAMPLE_VALUES),
            ('notes', box.note_entry, (7, 1e9, 1, 2, 3, 4.0, 0, 0, 1, 1, 0, b'ab', 7)),
        ],
    )
    def test_a_partly_written_entry_of_another_ring_is_empty(self, part, pack, values):
        at = {'log': box.LOG, 'samples': box.SAMPLES, 'notes': box.NOTE_RING}[part].at(1)
        for stops_at in range(len(values)):
            buffer, recorder = made()
            pack.pack_into(buffer, at, *values)
            assert len(getattr(read(buffer), part)) == 1
            with pytest.raises((struct.error, TypeError)):
                pack.pack_into(buffer, at, *values[:stops_at], None, *values[stops_at + 1 :])
            seal_at = {'samples': box.SEALED_IN_SAMPLE + 1, 'log': 9}.get(part, len(values))
            is_sealed = stops_at > seal_at
            assert len(getattr(read(buffer), part)) == is_sealed

    def test_of_a_sample_that_ends_after_its_seal_the_fields_after_it_are_not_known(self):
        at = box.SAMPLES.at(1)
        buffer, recorder = made()
        box.sample_entry.pack_into(buffer, at, *SAMPLE_VALUES[:-7], 3, 1.5, 7, 2, 5, 8, 9)
        (whole,) = read(buffer).samples
        assert (whole.queue, whole.waited, whole.connections, whole.accept_queue) == (3, 1.5, 7, 2)
        buffer[at + 112 : at + 128] = bytes(16)  # as an older release wrote it, too
        (old,) = read(buffer).samples
        assert (old.queue, old.waited, old.connections, old.accept_queue) == (-1, -1.0, -1, -1)

    def test_of_a_sample_without_its_last_field_the_limits_are_not_known(self):
        at = box.SAMPLES.at(1)
        buffer, recorder = made()
        box.sample_entry.pack_into(buffer, at, *SAMPLE_VALUES[:-7], 3, 1.5, 7, 2, 5, 8, 9)
        (whole,) = read(buffer).samples
        assert (whole.accept_errors, whole.descriptor_limit, whole.connection_limit) == (5, 8, 9)
        buffer[at + 132 : at + 144] = bytes(12)
        (torn,) = read(buffer).samples
        assert (torn.accept_errors, torn.descriptor_limit, torn.connection_limit) == (-1, -1, -1)
        assert torn.connections == 7

    def test_a_request_is_in_flight_until_the_last_store_of_its_end(self):
        buffer, recorder = made()
        recorder.begin('GET', '/a')
        with pytest.raises(struct.error):
            box.ended_request.pack_into(
                buffer, box.REQUESTS.at(0) + box.STATUS_IN_REQUEST, 200, None
            )
        assert [r.path for r in read(buffer).in_flight] == ['/a'] and read(buffer).finished == ()

    @pytest.mark.parametrize(
        'word', [0, box.begun_request.size // 8 - 1], ids=['its first number', 'its last number']
    )
    @pytest.mark.parametrize('value', [0, 4711])
    def test_an_entry_with_two_different_numbers_is_left_out(self, word, value):
        buffer, recorder = made()
        for number in range(3):
            recorder.begin('GET', f'/{number}')
            recorder.end(200)
        recorder.begin('GET', '/3')
        for entry in (1, 3):
            recorder.words[box.REQUESTS.at(entry) // 8 + word] = value
        assert [r.path for r in read(buffer).finished] == ['/0', '/2'] and read(
            buffer
        ).in_flight == ()

    def test_a_request_that_was_already_counted_is_not_in_flight(self):
        """The kill came after it was counted in the last entry, before its own entry was freed."""
        buffer, recorder = made()
        for _ in range(3):
            recorder.begin('GET', '/x')
            recorder.end(200)
        at = box.REQUESTS.at(1)
        assert blackboxreader.read_request(buffer, at) is None
        recorder.words[at // 8] = recorder.words[(at + box.begun_request.size) // 8 - 1]
        assert blackboxreader.read_request(buffer, at).path == '/x'
        recording = read(buffer)
        assert recording.in_flight == () and [r.count for r in recording.finished] == [3]

    @pytest.mark.parametrize('at', [8, box.LAST_END_IN_REQUEST, box.STATUS_IN_REQUEST + 8])
    @pytest.mark.parametrize('time', [float('nan'), float('inf'), -1.0, 1e300])
    def test_a_finished_request_with_an_impossible_time_is_left_out(self, time, at):
        buffer, recorder = made()
        recorder.begin('GET', '/x')
        recorder.end(200)
        struct.pack_into('=d', buffer, box.REQUESTS.at(0) + at, time)
        assert read(buffer).finished == read(buffer).in_flight == ()

    @pytest.mark.parametrize('time', [float('nan'), float('inf'), -1.0, 1e300])
    def test_entries_with_impossible_times_are_left_out(self, time):
        buffer, recorder = made()
        recorder.begin('GET', '/x')
        struct.pack_into('=d', buffer, box.REQUESTS.at(0) + 8, time)
        recorder.log(30, 'a', 'b', time)
        recorder.sample(Sample(time, 1.0))
        recording = read(buffer)
        assert recording.in_flight == recording.log == recording.samples == ()


class TestSamplesAlone:
    def test_read_samples_returns_the_same_samples_as_read(self):
        buffer, recorder = made()
        for number in range(box.SAMPLE_COUNT + 3):
            recorder.sample(Sample(float(number), 1.0))
        assert blackboxreader.read_samples(buffer) == read(buffer).samples
        assert len(blackboxreader.read_samples(buffer)) == box.SAMPLE_COUNT

    def test_read_samples_refuses_other_data(self):
        with pytest.raises(UnreadableRecord):
            blackboxreader.read_samples(b'nonsense')

    def test_read_samples_reads_no_other_part(self, monkeypatch):
        """The black box has half a megabyte, and the living process must not read it all."""
        for name in ('_requests', '_threads', '_log', '_notes', '_words', '_text'):
            monkeypatch.setattr(blackboxreader, name, None)
        buffer, recorder = made()
        recorder.sample(Sample(1.0, 1.0))
        assert len(blackboxreader.read_samples(buffer)) == 1


class TestText:
    @pytest.mark.parametrize(
        'text, most, result',
        [
            ('abc', 3, (b'abc', 0)),
            ('abcd', 3, (b'abc', 1)),
            ('', 3, (b'', 0)),
            ('aé', 2, (b'a', 1)),
            ('aé', 3, ('aé'.encode(), 0)),
            ('a€', 3, (b'a', 1)),
            ('😀', 3, (b'', 1)),
            ('\udcff', 16, (b'\\udcff', 0)),
        ],
    )
    def test_cut_splits_no_character(self, text, most, result):
        assert box.cut(text, most) == result

    def test_the_end_of_a_long_exception_is_kept(self):
        buffer, _ = made()
        box.write_text(buffer, 'Traceback ' + 'ü€😀' * 3000 + ' ValueError: the point of it')
        text = read(buffer).exception
        assert text.endswith('😀 ValueError: the point of it')
        assert '\ufffd' not in text
        assert 3000 < len(text.encode()) <= box.TEXT_SIZE - 8

    def test_a_wrong_length_reads_no_further_than_the_text(self):
        buffer, _ = made()
        box.write_text(buffer, 'x' * 9999)
        struct.pack_into('=Q', buffer, 1024, 2**64 - 1)
        assert set(read(buffer).exception) == {'x'}

    def test_bytes_that_are_not_utf8_are_replaced(self):
        buffer, recorder = made()
        recorder.begin('GET', '/abc')
        (slot,) = recorder.slots.values()
        at = bytes(buffer).index(b'/abc')
        buffer[at + 1] = 0xFF
        assert read(buffer).in_flight[0].path == '/\ufffdbc'


class TestNotes:
    FRAMES = tuple(
        Frame(f'/site/packages/{module}.py', line, name)
        for module, line, name in (
            ('shop/views', 31, 'checkout'),
            ('shop/views', 7, '__call__'),
            ('ZPublisher/BaseRequest', 480, 'traverse'),
        )
    )

    def test_notes_are_read_back_unchanged(self):
        buffer, recorder = made()
        note = Note(
            0,
            1000.0,
            'deadlock',
            0x7F00,
            42,
            9,
            61.5,
            'GET /shop',
            'lock B, held by 0x7f01',
            self.FRAMES,
        )
        recorder.note(note)
        assert read(buffer).notes == (replace(note, number=1),)

    def test_a_deep_stack_keeps_its_innermost_frames(self):
        buffer, recorder = made()
        frames = tuple(Frame(f'/{"deep" * 20}/{n}.py', n, f'f{n}') for n in range(500))
        recorder.note(Note(0, 1000.0, 'slow', 1, title='t' * 999, detail='d' * 999, frames=frames))
        (note,) = read(buffer).notes
        assert (
            note.cut and 50 < len(note.frames) < 500 and note.frames == frames[: len(note.frames)]
        )
        assert (len(note.title), len(note.detail)) == (box.TITLE_MAX, box.DETAIL_MAX)

    def test_the_newest_notes_are_kept(self):
        buffer, recorder = made()
        for n in range(200):
            recorder.note(Note(0, 1000.0 + n, 'slow', n, frames=self.FRAMES))
        assert [note.ident for note in read(buffer).notes] == list(range(200 - box.SLOW_NOTES, 200))

    def test_slow_requests_never_overwrite_a_hang(self):
        buffer, recorder = made()
        recorder.note(Note(0, 1000.0, 'hang', 1))
        for n in range(200):
            recorder.note(Note(0, 1000.0 + n, 'slow', n))
        assert read(buffer).notes[0].kind == 'hang'

    def test_a_partly_written_note_is_left_out(self):
        buffer, recorder = made()
        recorder.note(Note(0, 1000.0, 'hang', 1))
        struct.pack_into('=Q', buffer, box.NOTE_RING.at(box.SLOW_NOTES), 0)
        assert read(buffer).notes == ()

    def test_function_and_file_names_may_hold_any_character(self):
        buffer, recorder = made()
        recorder.note(
            Note(0, 1000.0, 'slow', 1, frames=(Frame('/a\nb\udcff.py', None, '<lambda>'),))
        )
        assert read(buffer).notes[0].frames == (Frame('/a b\\udcff.py', None, '<lambda>'),)
