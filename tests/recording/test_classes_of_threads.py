"""No thread of ours, no exit hook and no exception hook defines a dataclass or a named tuple.

Such a class is made by `exec` of a text.  On Python before 3.14 that resets what the interpreter
notes of a KeyboardInterrupt nobody caught: a process that should end by SIGINT ends with status 1
(`unhandled_keyboard_interrupt` in pythonrun.c; measured on 3.11, 3.12 and 3.13).  So whatever
defines such classes is imported in MainThread, before Zope serves.
"""

import os
import signal

import pytest
from support.aftermath import command
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

#: Runs before all else in each Python that is started with its folder on the path.
WATCH = """
import os, sys, threading

def _watch(event, args):
    if event != 'exec' or getattr(args[0], 'co_filename', '') != '<string>':
        return
    thread, frame, files = threading.current_thread(), sys._getframe(1), []
    while frame is not None:
        files.append(f'{frame.f_code.co_filename}:{frame.f_code.co_name}')
        frame = frame.f_back
    hooked = [place for place in files if place.endswith(
        ('arming.py:_at_exit', 'arming.py:excepthook', 'arming.py:_in_forked_child'))]
    if thread.name.startswith('StabilityMonitor') or hooked:
        module = next((place for place in files if 'importlib' not in place
                       and '<string>' not in place and 'collections/__init__' not in place
                       and 'dataclasses.py' not in place and 'typing.py' not in place), files[0])
        with open(os.environ['EXECUTED'], 'a') as log:
            log.write(f'{thread.name}: {module}\\n')

sys.addaudithook(_watch)
"""

PAGES = """
import threading, time

def control(self):
    import collections
    def make():
        collections.namedtuple("Made", "a b")
    thread = threading.Thread(target=make, name="StabilityMonitor, pretended")
    thread.start()
    thread.join()

def slow(self):
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        sum(range(1000))
    return "ok"
"""


@pytest.fixture
def site(tmp_path):
    watch = tmp_path / 'watch'
    watch.mkdir()
    (watch / 'sitecustomize.py').write_text(WATCH)
    log = tmp_path / 'executed'
    log.touch()
    made = ZopeInstance(
        tmp_path / 'site', options={'slow-request': '0.3s', 'sample-interval': '0.1s'}
    ).publish(PAGES)
    path = os.pathsep.join((str(watch), made.environment()['PYTHONPATH']))
    made.env = {**made.env, 'PYTHONPATH': path, 'EXECUTED': str(log)}
    with made:
        yield made, log


@pytest.mark.zope
def test_none_does_from_the_start_to_the_end(site):
    zope, log = site
    wait_for(lambda: list(zope.stability.glob('runs/*/checks.json')), what='the checks')
    for page in ('main', 'incidents', 'threads', 'checks'):
        assert zope.get(f'/Control_Panel/StabilityMonitor/manage_{page}').status == 200
    assert zope.get('/slow').text == 'ok'
    for word in ('stacks', 'checks', 'status'):
        command(zope, word)
    assert log.read_text() == ''
    zope.kill(signal.SIGINT)
    assert zope.wait_exit() == 0, 'as waitress has it'
    assert log.read_text() == ''


@pytest.mark.zope
def test_the_watch_sees_such_a_class(site):
    zope, log = site
    zope.get('/control')
    assert 'StabilityMonitor, pretended: ' in log.read_text()
