"""Tests of support.childprograms: how a test talks with a child process, and how that ends."""

import signal

import pytest
from support.childprograms import PROGRAMS
from support.childprograms import Program
from support.childprograms import run_python

TALK = """
from programs.handshake import hear, say, wait_for_go
wait_for_go()
say('gone')
say(hear())
say('not heard')
"""


def test_a_program_and_a_test_exchange_lines():
    with Program('-c', TALK) as program:
        program.go('gone').tell('a word', 'a word')
        assert program.end() == 0 and not program.lives
        assert (program.said, program.errors) == ('not heard\n', '')


def test_an_unexpected_line_fails_with_the_errors_of_the_program():
    with Program('-c', 'raise ValueError("the reason")') as program:
        with pytest.raises(AssertionError, match=r"(?s)'' instead of 'ready': .*the reason"):
            program.go()


def test_a_program_is_killed_at_the_end_of_the_test():
    with Program('-c', 'import time; print("sleeps", flush=True); time.sleep(600)') as program:
        program.expect('sleeps')
    assert program.process.returncode == -signal.SIGKILL


def test_an_unknown_way_prints_the_list_of_ways():
    done = run_python(PROGRAMS / 'armed.py', 'nowhere', '-', input='go\n', stdin=None)
    assert done.returncode == 1 and done.stdout == 'ready\n'
    assert done.stderr.startswith("No such way: 'nowhere'. There are: abort, abort_handler, ")


@pytest.mark.parametrize('name', ['check_worlds', 'thread_scenes', 'native_target', 'gauge_deep'])
def test_each_program_lists_its_ways(name):
    done = run_python(PROGRAMS / f'{name}.py', 'nowhere', 1, 1)
    assert done.returncode == 1 and done.stderr.startswith("No such way: 'nowhere'. There are: ")
