"""What a start of Zope imports: all modules that are needed when the site hangs, and none that only
pages need.
"""

from types import SimpleNamespace

import pytest
from support.childprograms import run_python

import Products.StabilityMonitor as product
from Products.StabilityMonitor.store.rundirectory import Base

pytestmark = [
    pytest.mark.zope,
    pytest.mark.xdist_group('starting'),  # `starts` takes ten seconds, so run it only once
]

SOURCE = """
def loaded(self):
    import json, sys
    return json.dumps(sorted(sys.modules))
"""
OURS = f'{product.__name__}.'


def ours(zope):
    """Return the loaded modules of this product, and those that compare versions."""
    return {
        name.removeprefix(OURS)
        for name in zope.get('/loaded').json()
        if name.startswith(OURS) or name in ('packaging', 'tomllib')
    }


def start(zope):
    """Start Zope, and return what is loaded after the first run of the checks."""
    from support.zopekit import wait_for

    seen = set(zope.stability.glob('runs/*/checks.json'))
    zope.start()
    wait_for(lambda: set(zope.stability.glob('runs/*/checks.json')) - seen, what='the checks')
    return ours(zope)


@pytest.fixture(scope='module')
def starts(tmp_path_factory):
    """What is loaded after the first start, after the second one, and after the tab was opened."""
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(tmp_path_factory.mktemp('starting'))
    zope.publish(SOURCE)
    zope.create()
    try:
        first = start(zope)
        zope.stop()
        second = start(zope)
        assert zope.get('/Control_Panel/StabilityMonitor/manage_main').status == 200
        yield SimpleNamespace(first=first, second=second, opened=ours(zope))
    finally:
        zope.destroy()


def test_modules_that_are_needed_in_a_hang_are_loaded(starts):
    assert {
        'threads.locks',
        'threads.lockregions',
        'threads.snapshot',
        'system.tasks',
        'recording.hangs',
        'recording.watchdog',
        'store.runmailbox',
        'checks.allfindings',
    } <= starts.first


def test_modules_of_pages_are_loaded_only_when_a_page_is_opened(starts):
    rooms = {name for name in starts.second if name.startswith('reporting')}
    assert not rooms and not starts.second & {
        'zmi.controlpanel',
        'zmi.pages',
        'zmi.threadpages',
        'zmi.checkpages',
        'inspection.liveness',
        'inspection.nativestacks',
        'inspection.outside',
        'inspection.recursionexperiment',
        'inspection.recursionprogram',
        'recording.tracelog',
    }
    assert {
        'zmi.controlpanel',
        'zmi.pages',
        'zmi.checkpages',
        'reporting.renderers',
    } <= starts.opened


def test_postmortem_is_loaded_only_if_there_are_dead_runs(starts):
    assert not {name for name in starts.first if name.startswith('postmortem')}
    assert {'postmortem.triage', 'postmortem.verdict'} <= starts.second


def test_what_reads_core_files_is_loaded_only_after_an_incident(starts):
    """The run before the second start was stopped."""
    assert 'postmortem.witnesslogs' in starts.second
    assert not {'postmortem.corereading', 'postmortem.earlysigning'} & starts.second


def test_modules_that_the_checks_need_are_loaded_before_zope_serves(starts):
    pytest.importorskip('packaging')
    compares = {
        'packaging',
        'tomllib',
        *(
            f'knowledge.{name}'
            for name in (
                'rulesinforce',
                'knowledgebase',
                'rules',
                'conditions',
                'leftlines',
                'symptoms',
            )
        ),
    }
    assert compares <= starts.first & starts.second
    assert 'knowledge.knowledgebase' in starts.opened


@pytest.mark.parametrize(
    'runs, archived, has_past',
    [
        ((), (), False),
        (('own',), (), False),
        (('own', 'other'), (), True),
        (('own', '.new-other'), (), True),
        (('own',), ('other',), True),
    ],
)
def test_a_process_has_a_past_if_there_is_another_run(tmp_path, runs, archived, has_past):
    base = Base(tmp_path)
    base.prepare()
    for folder, names in ((base.runs, runs), (base.archive, archived)):
        for name in names:
            (folder / name).mkdir()
    assert product._has_past((base.runs, base.archive), 'own') == has_past


def test_without_a_readable_folder_there_is_no_past(tmp_path):
    assert not product._has_past((tmp_path / 'missing',), 'own')


def test_the_checks_import_no_more_than_they_need():
    """Each of these modules of Python's library costs tens of KiB in every site."""
    program = (
        'import sys; before = set(sys.modules); from Products.StabilityMonitor.checks import '
        'allfindings; '
        'print(*sorted((set(sys.modules) - before) & {"sysconfig", '
        '"tracemalloc", '
        '"termios", "subprocess", "_strptime", "secrets"}))'
    )
    done = run_python('-c', program)
    assert (done.stdout.split(), done.stderr) == ([], '')
