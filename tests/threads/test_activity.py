"""What a thread is doing, rule by rule, from given facts.  For real threads see test_snapshot."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.system.systemcalls import CALLS
from Products.StabilityMonitor.system.tasks import Descriptor
from Products.StabilityMonitor.system.tasks import Task
from Products.StabilityMonitor.threads import activity
from Products.StabilityMonitor.threads.activity import ACTIVITIES
from Products.StabilityMonitor.threads.activity import Facts
from Products.StabilityMonitor.threads.activity import judge

LIBRARY = os.path.dirname(os.__file__)
SITE = Frame('/site/shop/views.py', 31, 'checkout')
WAIT = Frame(f'{LIBRARY}/threading.py', 327, 'wait')
HANDLER = Frame('/env/site-packages/waitress/task.py', 80, 'handler_thread')
LOOP = Frame('/env/site-packages/waitress/wasyncore.py', 160, 'poll')


def task(call, state='S', *arguments):
    return Task(7, 'python', state, None, call, (*arguments, 1, 1, 1, 1, 1, 1)[:6])


def of_socket(peer='10.0.0.5:80'):
    return Descriptor(9, 'socket', 'socket:[77]', '', peer)


@pytest.mark.parametrize(
    'code, facts',
    [
        ('running', Facts((SITE,), task('running', 'R'), cpu=0.9, busiest=0.9)),
        (
            'running',
            Facts((SITE,), task('futex'), True, cpu=0.3, busiest=0.3, turns=200),
        ),  # one of three threads that spin
        ('running', Facts((SITE,), task('futex'), True)),  # its CPU share is not known
        (
            'running',
            Facts((LOOP,), task('running', 'R'), cpu=1.0, busiest=1.0),
        ),  # spins in its own loop
        ('running', Facts((), task('running', 'R'), cpu=0.9, busiest=0.9)),
        ('gil', Facts((SITE,), task('futex'), True, cpu=0.02, busiest=0.9, turns=190)),
        (
            'gil',
            Facts((SITE,), task('futex'), True, cpu=0.2, busiest=0.8, turns=190),
        ),  # another thread has most of the CPU time
        (
            'gil',
            Facts((SITE,), task('running', 'R'), cpu=0.02, busiest=0.02, turns=210),
        ),  # wakes, but too late to get the GIL
        (
            'running',
            Facts((SITE,), task('running', 'R'), cpu=0.05, busiest=0.05, turns=30),
        ),  # the machine is busy
        ('idle', Facts((WAIT, HANDLER), task('futex'), waiting='a condition')),
        (
            'idle',
            Facts((WAIT, HANDLER), task('futex'), True, cpu=0.0, busiest=0.9, turns=3),
        ),  # a request woke it right now
        (
            'lock',
            Facts(
                (HANDLER,), task('futex'), lock='lock X at waitress/task.py:70 in handler_thread'
            ),
        ),
        ('listening', Facts((LOOP,), task('pselect6', 'S', 3))),
        ('lock', Facts((SITE,), task('futex'), lock='lock X at shop/views.py:31 in checkout')),
        (
            'waiting',
            Facts((WAIT, SITE), task('futex'), waiting='an event at shop/views.py:31 in checkout'),
        ),
        (
            'terminal',
            Facts(
                (SITE,), task('write'), descriptors=(Descriptor(1, 'pipe', 'pipe:[1]', 'stdout'),)
            ),
        ),
        (
            'terminal',
            Facts(
                (SITE,),
                task('writev'),
                descriptors=(Descriptor(5, 'terminal', '/dev/pts/1', 'stderr'),),
            ),
        ),
        (
            'terminal',
            Facts(
                (SITE,),
                task('sendto'),
                descriptors=(Descriptor(2, 'socket', 'socket:[2]', 'stderr'),),
            ),
        ),
        (
            'terminal',
            Facts(
                (SITE,),
                task('read'),
                descriptors=(Descriptor(0, 'terminal', '/dev/pts/1', 'stdin'),),
            ),
        ),
        (
            'file',
            Facts(
                (SITE,),
                task('write'),
                descriptors=(Descriptor(2, 'file', '/var/log/z.log', 'stderr'),),
            ),
        ),
        ('pipe', Facts((SITE,), task('write'), descriptors=(Descriptor(7, 'pipe', 'pipe:[3]'),))),
        ('socket', Facts((SITE,), task('recvfrom'), descriptors=(of_socket(),))),
        ('socket', Facts((SITE,), task('poll', 'S', 1, 1), descriptors=(of_socket(),))),
        (
            'database',
            Facts((SITE,), task('poll', 'S', 1, 1), descriptors=(of_socket('10.0.0.5:5432'),)),
        ),
        (
            'database',
            Facts(
                (SITE,), task('recvfrom'), descriptors=(of_socket('/run/postgresql/.s.PGSQL.5432'),)
            ),
        ),
        (
            'database',
            Facts(
                (Frame('/env/ZODB/FileStorage/FileStorage.py', 9, 'load'),), task('pread64', 'D')
            ),
        ),
        (
            'database',
            Facts(
                (WAIT, Frame('/env/ZEO/asyncio/client.py', 9, 'call')),
                task('futex'),
                waiting='a condition',
            ),
        ),
        (
            'lock',
            Facts(
                (Frame('/env/ZODB/Connection.py', 9, 'open'),),
                task('futex'),
                lock='lock DB._lock at ...',
            ),
        ),
        (
            'database',
            Facts(
                (Frame('/env/ZODB/BaseStorage.py', 9, 'tpc_begin'),),
                task('futex'),
                lock='lock X at ...',
            ),
        ),
        (
            'lock',
            Facts(
                (Frame('/site/mail/queue.py', 9, 'tpc_begin'),), task('futex'), lock='lock X at ...'
            ),
        ),
        ('subprocess', Facts((SITE,), task('wait4'))),
        (
            'subprocess',
            Facts(
                (
                    Frame(f'{LIBRARY}/selectors.py', 1, 'select'),
                    Frame(f'{LIBRARY}/subprocess.py', 9, 'run'),
                    SITE,
                ),
                task('poll', 'S', 1, 2),
            ),
        ),
        ('sleep', Facts((SITE,), task('clock_nanosleep'))),
        ('sleep', Facts((SITE,), task('poll', 'S', 0, 0))),
        ('sleep', Facts((SITE,), task('pselect6', 'S', 0))),
        ('file', Facts((SITE,), task('flock'))),
        ('file', Facts((SITE,), task('', 'D'))),
        ('waiting', Facts((SITE,), task('epoll_wait', 'S', 3))),
        ('native', Facts((SITE,), task('futex'))),
        ('native', Facts((), task('futex'))),
        ('native', Facts((SITE,), task('restart_syscall'))),
        (
            'lock',
            Facts((SITE,), lock='lock X at shop/views.py:31 in checkout'),
        ),  # the kernel shows no system call
        ('idle', Facts((WAIT, HANDLER))),
        ('socket', Facts((Frame(f'{LIBRARY}/socket.py', 5, 'readinto'), SITE))),
        ('unknown', Facts((SITE,))),
        ('unknown', Facts()),
    ],
)
def test_the_first_rule_that_matches_gives_the_code(code, facts):
    assert judge(facts)[0] == code


@pytest.mark.parametrize(
    'facts, phrase',
    [
        (
            Facts((SITE,), task('running', 'R'), cpu=0.98, busiest=0.98),
            '98% of one CPU, at shop/views.py:31 in checkout',
        ),
        (
            Facts(
                (SITE,), task('write'), descriptors=(Descriptor(1, 'pipe', 'pipe:[1]', 'stdout'),)
            ),
            'stdout is a pipe that is not read, at shop/views.py:31 in checkout',
        ),
        (
            Facts((SITE,), task('poll', 'S', 1, 1), descriptors=(of_socket('10.0.0.5:5432'),)),
            'PostgreSQL, 10.0.0.5:5432, at shop/views.py:31 in checkout',
        ),
        (
            Facts((SITE,), task('wait4'), target='process 12 (convert)'),
            'process 12 (convert), at shop/views.py:31 in checkout',
        ),
        (
            Facts((SITE,), task('futex')),
            'in the system call futex, at shop/views.py:31 in checkout',
        ),
        (Facts((WAIT, SITE), task('clock_nanosleep')), 'at shop/views.py:31 in checkout'),
    ],
)
def test_the_phrase_names_what_and_where(facts, phrase):
    assert judge(facts)[1] == phrase


FRAMES = st.lists(
    st.builds(Frame, st.text(max_size=30), st.none() | st.integers(1, 9), st.text(max_size=9)),
    max_size=3,
).map(tuple)
TASKS = st.none() | st.builds(
    task,
    st.sampled_from([*CALLS, '', 'running', 'call 9']),
    st.sampled_from('RSDTZ'),
    st.integers(0, 1 << 64),
    st.integers(0, 1 << 64),
)
DESCRIPTORS = st.lists(
    st.builds(
        Descriptor,
        st.integers(0, 9),
        st.sampled_from(('socket', 'pipe', 'file', 'other')),
        st.text(max_size=9),
        st.sampled_from(('', 'stdout')),
        st.text(max_size=9),
    ),
    max_size=2,
).map(tuple)


@given(
    st.builds(
        Facts,
        FRAMES,
        TASKS,
        st.booleans(),
        st.none() | st.floats(0, 2),
        st.floats(0, 2),
        st.floats(0, 999),
        st.text(max_size=5),
        st.text(max_size=5),
        st.text(max_size=5),
        DESCRIPTORS,
    )
)
def test_any_facts_have_a_code(facts):
    code, phrase = judge(facts)
    assert code in ACTIVITIES and isinstance(phrase, str)


def test_every_code_is_used():
    codes = {code for code, _ in (judge(facts) for facts in _facts_of_rules())}
    assert codes == set(ACTIVITIES)


def _facts_of_rules():
    mark = next(
        mark
        for mark in test_the_first_rule_that_matches_gives_the_code.pytestmark
        if mark.name == 'parametrize'
    )
    return [facts for _, facts in mark.args[1]]


def test_the_table_of_places_has_known_codes():
    assert {code for *_, code, _ in activity.PLACES} <= set(ACTIVITIES)


@pytest.mark.zope
def test_waitress_still_has_the_functions_of_the_table():
    from waitress import task as waitress_task
    from waitress import wasyncore

    assert callable(waitress_task.ThreadedTaskDispatcher.handler_thread)
    assert waitress_task.__file__.endswith('/waitress/task.py')
    assert callable(wasyncore.poll) and callable(wasyncore.poll2)
