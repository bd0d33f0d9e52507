"""What the command prints fits a terminal; a pipe gets whole lines."""

import contextlib
import os
import pty
import subprocess
import sys

import pytest
from support.childprograms import COMMAND
from support.childprograms import environment
from support.commandline import archived
from support.syntheticruns import record

from Products.StabilityMonitor.cli.terminal import fitted

PATH = '/srv/' + 'x' * 90


@pytest.mark.parametrize(
    'line, width, parts',
    [
        ('short', 80, ['short']),
        ('a b ' * 30, 0, ['a b ' * 30]),
        ('a b ' * 30, 20, ['a b ' * 30]),
        (
            f'  see {"word " * 16}',
            60,
            [f'  see {"word " * 10}word', f'      {"word " * 5}'.rstrip()],
        ),
        (f'in {PATH} is', 80, ['in', f'    {PATH}', '    is']),
        (f'{"x" * 70} the-very-long-option', 80, ['x' * 70, '    the-very-long-option']),
        ('', 80, ['']),
    ],
)
def test_a_line_is_broken_at_spaces_only(line, width, parts):
    assert list(fitted(line, width)) == parts


@pytest.mark.parametrize('name', ['status', 'history', 'show', 'report', 'checks'])
def test_each_output_fits_80_columns_of_a_terminal_and_is_whole_in_a_pipe(
    base, command, monkeypatch, name
):
    archived(base, record(0, 'crashed', summary='It ' + 'was very long ' * 12, signal='SIGSEGV'))
    monkeypatch.setenv('COLUMNS', '80')
    _, whole, _ = command(name)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    _, shown, _ = command(name)
    too_long = [line for line in shown.splitlines() if len(line) > 80 and ' ' in line.strip()]
    assert shown and too_long == [] and '\x1b' not in shown + whole
    if name != 'checks':
        assert any(len(line) > 80 for line in whole.splitlines())


def test_a_real_terminal_gets_broken_lines(base):
    archived(base, record(0, 'crashed', summary='It ' + 'was very long ' * 12))
    ours, theirs = pty.openpty()
    words = (*COMMAND, '--directory', str(base.path), 'status')
    shown = b''
    with subprocess.Popen(
        [sys.executable, *words],
        env=environment(COLUMNS='80'),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    ) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            while piece := os.read(ours, 1 << 16):
                shown += piece
    os.close(ours)
    assert process.returncode == 1 and b'was very long' in shown
    assert max(map(len, shown.decode().splitlines())) <= 80
