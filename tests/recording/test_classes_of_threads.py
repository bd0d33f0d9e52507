"""The threads of this product, its exit hook and its exception hook define no dataclass and no
named tuple.

Python makes such a class by `exec` of a text.  Before Python 3.14 this resets the interpreter's
note of an unhandled KeyboardInterrupt, so that a process which should end by SIGINT ends with
status 1 (`unhandled_keyboard_interrupt` in pythonrun.c; measured on 3.11, 3.12 and 3.13).  So all
modules that define such classes are imported in MainThread, before Zope serves.
"""

import os
import signal

import pytest
from support.aftermath import command
from support.zopekit import ZopeInstance
from support.zopekit import wait_for

#: A `sitecustomize`: it runs first in each Python that is started with its folder on the path.
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
def test_no_thread_or_hook_defines_a_dataclass_or_named_tuple(site):
    zope, log = site
    wait_for(lambda: list(zope.stability.glob('runs/*/checks.json')), what='the checks')
    for page in ('main', 'incidents', 'threads', 'checks'):
        assert zope.get(f'/Control_Panel/StabilityMonitor/manage_{page}').status == 200
    assert zope.get('/slow').text == 'ok'
    for word in ('stacks', 'checks', 'status'):
        command(zope, word)
    assert log.read_text() == ''
    zope.kill(signal.SIGINT)
    assert zope.wait_exit() == 0, 'waitress ends with status 0 after SIGINT'
    assert log.read_text() == ''


@pytest.mark.zope
def test_a_class_defined_in_a_thread_is_detected(site):
    zope, log = site
    zope.get('/control')
    assert 'StabilityMonitor, pretended: ' in log.read_text()
