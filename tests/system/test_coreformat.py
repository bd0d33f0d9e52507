"""Core files: real ones say what happened, and damaged ones do no harm."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies
from support import corefiles
from support.corefiles import Crash

from Products.StabilityMonitor.store.rundirectory import BLACKBOX
from Products.StabilityMonitor.system import coreformat
from Products.StabilityMonitor.system import signalframes

WHOLE = corefiles.core(
    corefiles.prstatus(4711, rip=0x5000, rsp=0x8008)
    + corefiles.prpsinfo(4711, 1000)
    + corefiles.siginfo(11, 1, struct.pack('<Q', 0x10))
    + corefiles.mapped((0x5000, 0x6000, 2, '/lib/ü.so'), (0x8000, 0x9000, 0, '/box'))
    + corefiles.prstatus(4712, 0),
    (0x5000, 5, b'', 0x1000),
    (0x8000, 6, b'0123456789abcdef', 0x1000),
)


@pytest.fixture
def read(tmp_path):
    files = []

    def read(content):
        path = tmp_path / 'core'
        path.write_bytes(content)
        files.append(open(path, 'rb'))
        return coreformat.read(files[-1].fileno())

    yield read
    for file in files:
        file.close()


def test_each_part_is_read(read):
    core = read(WHOLE)
    assert (core.machine.name, core.pid, core.uid, core.command) == (
        'x86_64',
        4711,
        1000,
        'python3',
    )
    assert [(each.native_id, each.signal) for each in core.threads] == [
        (4711, 'SIGSEGV'),
        (4712, ''),
    ]
    assert core.threads[0].registers['rip'] == 0x5000
    assert core.info == coreformat.SignalInfo('SIGSEGV', 'SEGV_MAPERR', 0x10)
    assert core.file_at(0x5FFF) == coreformat.MappedFile(0x5000, 0x6000, 8192, '/lib/ü.so')
    assert core.file_at(0x6000) is None and core.file_at(0) is None
    assert (
        core.segment_at(0x8FFF).permissions == 'rw-'
        and core.segment_at(0x5000).permissions == 'r-x'
    )
    assert core.segment_at(0x9000) is None
    assert not core.is_cut


def test_memory_is_read_as_far_as_it_was_dumped(read):
    core = read(WHOLE)
    assert core.memory(0x8004, 4) == b'4567' and core.memory(0x800C, 100) == b'cdef'
    assert core.memory(0x8100, 4) == b'' == core.memory(0x5000, 4) == core.memory(1, 4)


def test_a_file_that_is_cut_off_says_so(read):
    core = read(WHOLE[:-5])
    assert core.is_cut and core.memory(0x8000, 16) == b'0123456789a'


@pytest.mark.parametrize(
    ('number', 'code', 'signal', 'name', 'known'),
    [
        (11, 2, 'SIGSEGV', 'SEGV_ACCERR', 'address'),
        (7, 2, 'SIGBUS', 'BUS_ADRERR', 'address'),
        (4, 2, 'SIGILL', 'ILL_ILLOPN', 'address'),
        (8, 1, 'SIGFPE', 'FPE_INTDIV', 'address'),
        (11, 0x80, 'SIGSEGV', 'SI_KERNEL', ''),
        (11, 0, 'SIGSEGV', 'SI_USER', 'sender'),
        (6, -6, 'SIGABRT', 'SI_TKILL', 'sender'),
        (3, -1, 'SIGQUIT', 'SI_QUEUE', 'sender'),
        (11, 99, 'SIGSEGV', 'code 99', ''),
        (31, 1, 'SIGSYS', 'SYS_SECCOMP', ''),
    ],
)
def test_signals_have_codes_addresses_and_senders(number, code, signal, name, known):
    raw = struct.pack('<iiiiII', number, 0, code, 0, 4711, 1000).ljust(128, b'\0')
    info = coreformat.signal_info(raw)
    assert (info.signal, info.code) == (signal, name)
    assert (info.sender, info.sender_uid) == ((4711, 1000) if known == 'sender' else (None, None))
    assert info.address == (4711 + (1000 << 32) if known == 'address' else None)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\x7fELF',
        b'\x28\xb5\x2f\xfd' + bytes(100),
        corefiles.core(b'', kind=2),
        corefiles.core(b'', machine=8),
        b'\x7fELF\x01\x01' + bytes(200),
    ],
)
def test_what_is_no_core_file_is_refused(read, content):
    with pytest.raises(coreformat.NotACoreFile):
        read(content)


def _everything(core):
    for address in (0, 0x5000, 0x8000, (1 << 64) - 1):
        core.memory(address, 64), core.segment_at(address), core.file_at(address)
    return core.signal, core.is_cut, signalframes.interrupted(core)


@settings(max_examples=300, deadline=None)
@given(
    changes=strategies.lists(
        strategies.tuples(
            strategies.integers(0, len(WHOLE) - 1), strategies.binary(min_size=1, max_size=9)
        ),
        max_size=6,
    ),
    length=strategies.integers(0, len(WHOLE)),
)
def test_damaged_bytes_raise_only_the_own_error(changes, length):
    content = bytearray(WHOLE)
    for at, new in changes:
        content[at : at + len(new)] = new
    descriptor = os.memfd_create('core')
    try:
        os.write(descriptor, content[:length] if changes else content)
        _everything(coreformat.read(descriptor))
    except coreformat.NotACoreFile:
        pass
    finally:
        os.close(descriptor)


@settings(max_examples=300, deadline=None)
@given(strategies.binary(max_size=400))
def test_any_table_of_mapped_files_is_read(table):
    list(coreformat.mapped_files(table))


def test_counts_that_lie_take_no_memory_and_no_time(read):
    table = struct.pack('<QQ', 1 << 60, 4096)
    huge = struct.pack('<III', 0, 0xFFFFFFFF, corefiles.NT_FILE)
    assert read(corefiles.core(corefiles.note(corefiles.NT_FILE, table))).files == ()
    assert read(corefiles.core(huge)).files == ()
    many = bytearray(WHOLE)
    many[56:58] = b'\xff\xff'  # the number of segments is elsewhere
    assert read(bytes(many)).segments == ()


STACK = 0x20000


def _stack(stack_pointer, trap, address):
    """Return the memory above the stack pointer, with the frame of a handler on x86_64."""
    frame = bytearray(440)
    struct.pack_into('<QQQI4xQ', frame, 8, 7, 0, STACK, 0, 0x8000)
    struct.pack_into('<QQ', frame, 48 + 15 * 8, 0x30000, 0x5008)  # rsp, rip
    struct.pack_into('<4HQQQQ', frame, 192, 0x33, 0, 0, 0x2B, 6, trap, 0, address)
    content = bytes(200) + bytes(frame) + bytes(100)
    return (stack_pointer, 6, content, 0x1000)


@pytest.mark.parametrize(
    ('code', 'at', 'expected'),
    [
        (-6, STACK, 'SEGV_MAPERR'),  # raised again by the handler
        (1, STACK, 'SEGV_MAPERR'),  # a fault in the handler
        (1, 0x40000, None),  # a fault elsewhere; the frame is an old one
        (0, STACK, None),  # sent
    ],
)
def test_the_first_signal_is_found_behind_a_handler(read, code, at, expected):
    rest = struct.pack('<II', 4711, 0)
    notes = corefiles.prstatus(4711, rsp=at, rip=0x5000) + corefiles.prpsinfo(4711)
    core = read(corefiles.core(notes + corefiles.siginfo(11, code, rest), _stack(at, 14, 0x24)))
    found = signalframes.interrupted(core)
    if expected is None:
        assert found is None
    else:
        assert found.info == coreformat.SignalInfo('SIGSEGV', expected, 0x24)
        assert found.registers['rip'] == 0x5008


@pytest.mark.skipif(bool(corefiles.why_no_core()), reason=corefiles.why_no_core())
class TestReal:
    def test_a_crash_leaves_a_core_file_that_names_the_black_box(self, tmp_path):
        crash = Crash(tmp_path)
        with open(crash.core, 'rb') as file:
            core = coreformat.read(file.fileno())
            assert f'/runs/{crash.run}/{BLACKBOX}' in ''.join(each.path for each in core.files)
            assert not core.is_cut and core.pid == core.threads[0].native_id
            assert int(crash.run.split('-')[1]) == core.pid
            # faulthandler has raised the signal again: the first one is in the frame of its handler
            assert (core.info.code, core.info.sender) == ('SI_TKILL', core.pid)
            first = signalframes.interrupted(core)
        assert first.info == coreformat.SignalInfo('SIGSEGV', 'SEGV_MAPERR', 0)
        assert core.file_at(first.registers['rip']).path.endswith('libc.so.6')

    def test_a_signal_that_another_process_sent_is_not_a_fault(self, tmp_path):
        crash = Crash(tmp_path, 'sent_segv')
        with open(crash.core, 'rb') as file:
            first = signalframes.interrupted(coreformat.read(file.fileno()))
        assert first.info == coreformat.SignalInfo('SIGSEGV', 'SI_USER')
