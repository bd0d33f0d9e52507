"""A real Zope hangs in each known way: the hang is reported while it lasts, and by the next real
start.

While it lasts, the command is always asked; the page too if a worker is free (in Chromium where it
is installed).  One instance serves all rows, as in the fault matrix.
"""

import html
import signal
import time

import pytest
from support import standstills
from support.needs import NEEDS
from support.standstills import PATIENCE
from support.standstills import STANDING
from support.standstills import STANDSTILLS
from support.zopekit import PASSWORD
from support.zopekit import USER
from support.zopekit import wait_for

from Products.StabilityMonitor.postmortem import hangnotes

pytestmark = pytest.mark.zope
THREADS = '/Control_Panel/StabilityMonitor/manage_threads'


@pytest.fixture(scope='module')
def instance(tmp_path_factory):
    site = standstills.StandingSite(tmp_path_factory.mktemp('site')).create()
    yield site
    site.destroy()


@pytest.fixture
def site(instance):
    """Kill a process that still hangs after a failed row."""
    yield instance
    if instance.still and instance.running:
        instance.end('SIGKILL')


@pytest.fixture
def page(request, site):
    """A function that returns the text of the page Threads: from Chromium if it is installed."""
    if NEEDS['browser']():
        return lambda: html.unescape(standstills.words_of(site.get(THREADS).text))
    return in_browser(request.getfixturevalue('chromium'), site)


def in_browser(chromium, site):
    def shown():
        chromium.get(f'{site.url}{THREADS}'.replace('//', f'//{USER}:{PASSWORD}@', 1))
        chromium.execute_script(
            'document.querySelectorAll("details").forEach(details => details.open = true)'
        )
        return chromium.find_element('tag name', 'main').text

    return shown


def ends_of_hangs():
    """Return a parameter for each way to hang and end; the sweep tries each way's second end."""
    found, names = [], ('SIGTERM', 'SIGKILL')
    for number, way in enumerate(STANDSTILLS):
        for name in names:
            marks = [] if name == names[number % 2] else [pytest.mark.sweep]
            marks += [] if way.answering else [pytest.mark.slow]
            found.append(pytest.param(way, name, id=f'{way.id}, {name}', marks=marks))
    return found


@pytest.mark.parametrize('way, name', ends_of_hangs())
def test_a_hang_is_reported_while_it_lasts_and_by_the_next_start(site, page, way, name):
    site.run_as(way.setting)
    way.begin(site)
    run = site.run_directory.name
    assert eventually(lambda: missing_now(site, page, way)) == []
    assert site.answers() == way.free
    assert site.end(name) == -getattr(signal, name)
    site.run_as(STANDING)
    previous = site.previous()
    assert (previous['run'], previous['verdict'], previous['signal']) == (
        run,
        verdict(way, name),
        stopped_by(name),
    ), previous['evidence']
    assert missing_afterwards(previous, way) == []


def hangs(previous):
    """(kind, whether it lasts) of each hang; on a busy machine, workers may be busy without one."""
    return [
        (hang['kind'], hang['ended'] is None)
        for hang in previous['hangs']
        if hang['kind'] != 'saturated'
    ]


def test_a_hang_that_ends_is_an_event(site):
    run, previous = hung_for_a_while(
        site,
        ['/sleep_long?seconds=3'] * site.threads,
        lambda: all(hang['ended'] for hang in site.standing()['hangs']),
    )
    assert (previous['run'], previous['verdict']) == (run, 'stopped')
    assert hangs(previous) == [('hang', False)]


def test_a_server_loop_that_resumes_is_an_event_even_after_sigstop(site):
    site.run_as(STANDING)
    site.still, run, sign = True, site.run_directory.name, site.home / 'go-on'
    asked = site.background(f'/lock_out_main?until={sign}')
    wait_for(lambda: hangnotes.lasting(site.recording().notes), PATIENCE, 'the hang')
    site.signal('SIGSTOP')
    site.signal('SIGCONT')
    rounds_pass(site)
    sign.touch()
    asked.join()
    wait_for(lambda: not hangnotes.lasting(site.recording().notes), PATIENCE, 'its end')
    assert site.answers()
    site.end('SIGTERM')
    site.run_as(STANDING)
    previous = site.previous()
    assert (previous['run'], previous['verdict']) == (run, 'stopped'), previous['evidence']
    assert hangs(previous) == [('hang', False)]


def test_a_shutdown_that_waits_for_a_request_is_not_a_hang(site):
    """Waitress gives its threads five seconds, which is longer than `stall` is here."""
    site.run_as(STANDING)
    site.still, run = True, site.run_directory.name
    site.background('/sleep_long')
    wait_for(lambda: site.recording().in_flight, PATIENCE, 'the request')
    rounds_pass(site)
    site.end('SIGINT')
    site.run_as(STANDING)
    previous = site.previous()
    assert (previous['run'], previous['verdict']) == (run, 'stopped'), previous['evidence']
    assert {hang['kind'] for hang in previous['hangs']} <= {'slow-stop'}


def rounds_pass(site):
    """Wait for two rounds of the heartbeat: in each, it checks the loop of the server."""
    before = site.recording().last_sample.monotonic
    wait_for(lambda: site.recording().last_sample.monotonic > before + 2, PATIENCE, 'two rounds')


def test_a_site_stopped_after_the_gil_was_released_is_not_hung(site):
    run, previous = hung_for_a_while(
        site, ['/keep_gil?seconds=3'], lambda: site.recording().survived['watchdog']
    )
    assert (previous['run'], previous['verdict']) == (run, 'stopped'), previous['evidence']


def hung_for_a_while(site, pages, is_over):
    """Let the site hang for longer than `stall`, stop it when it works again, and return (run, its
    record).
    """
    site.run_as(STANDING)
    site.still, run = True, site.run_directory.name
    for asked in [site.background(page) for page in pages]:
        asked.join()
    assert site.answers()
    wait_for(is_over, PATIENCE, 'the end of the hang')
    site.end('SIGTERM')
    site.run_as(STANDING)
    return run, site.previous()


def verdict(way, name):
    return 'hung' if way.is_hang else {'SIGTERM': 'stopped', 'SIGKILL': 'vanished'}[name]


def stopped_by(name):
    return name if name == 'SIGTERM' else None


def eventually(missing):
    """Return what is still missing at the deadline; [] as soon as nothing is missing."""
    end = time.monotonic() + 5 * PATIENCE  # with a held GIL it takes long until the hang is noted
    while (wanted := missing()) and time.monotonic() < end:
        time.sleep(0.1)
    return wanted


# -- while it lasts --------------------------------------------------------------------------------


def missing_now(site, page, way):
    """Return sentences about the first of these that is incomplete: answer of the heartbeat,
    command, page and report.
    """
    return (
        missing_in_answer(site, way)
        or missing_in_command(site, way)
        or (missing_in_page(page, way) + missing_in_report(site, way) if way.free else [])
    )


def missing_in_answer(site, way):
    if not way.answering:
        return missing_in_marks(site, way)
    told = site.standing()
    return missing_in_standing(told.get('threads', []), told.get('hangs', []), way) or (
        [] if is_noted(site, way) else [f'no {way.kind} is noted']
    )


def is_noted(site, way):
    """Return whether the black box has the hang.

    The first answer may come before: a hang is noted when the heartbeat has seen it twice.
    """
    return not way.kind or hangnotes.lasting(site.recording().notes, way.kind)


def missing_in_marks(site, way):
    """Return the functions that are missing in the stacks that the serving threads wrote.

    It takes as long as the heartbeat waits for the GIL before the watchdog acts.
    """
    written = b''.join(
        path.read_bytes() for path in site.run_directory.glob('watchdog-*.mark')
    ).decode()
    return [
        f'{stands.function} is in no mark'
        for stands in way.stands
        if f' in {stands.function}' not in written
    ]


def missing_in_standing(threads, hangs, way):
    wrong = [stands.missing_in(threads) for stands in way.stands]
    kinds = [hang['kind'] for hang in hangs if hang['ended'] is None]
    if set(kinds) != ({way.kind} - {''}):
        wrong.append(f'the hangs that last are {kinds}: {hangs}')
    return [sentence for sentence in wrong if sentence]


def missing_in_command(site, way):
    done = site.tell('stacks')
    wrong = [
        f'stacks does not say {words!r}:\n{done.stdout}\n{done.stderr}'
        for words in way.says
        if words not in done.stdout
    ]
    wrong += [] if done.returncode == 1 else [f'stacks exits with {done.returncode}: {done.stderr}']
    return wrong + missing_in_status(site, way)


#: The first word of the line of `status` for each kind of hang.
TITLES = {'hang': 'HANGS', 'deadlock': 'DEADLOCK', 'spinning': 'SPINS'}


def missing_in_status(site, way):
    """A hang has one line and exit status 1; a request that is only slow has neither."""
    done = site.tell('status')
    lines = [line for line in done.stdout.splitlines() if line.startswith((*TITLES.values(),))]
    if not way.kind:
        return [f'status says {lines}'] if lines else []
    if len(lines) != 1 or done.returncode != 1 or not lines[0].startswith(TITLES[way.kind]):
        return [f'status exits with {done.returncode} and says {done.stdout}{done.stderr}']
    return [
        f'status does not say {words!r}: {lines}' for words in way.says if words not in lines[0]
    ]


def missing_in_page(page, way):
    shown = page()
    return [
        f'manage_threads does not say {words!r}: {shown}'
        for words in way.says
        if words not in shown
    ]


def missing_in_report(site, way):
    report = site.report()
    slow = [request['path'] for request in report['slow_requests'] if request['ended'] is None]
    wrong = missing_in_standing(report['threads'], report['hangs'], way)
    wrong += [f'{path} is not slow: {slow}' for path in way.paths if path not in slow]
    found = [finding['id'] for finding in report['checks']]
    return wrong + (
        [f'no finding {way.finding} among {found}'] if way.finding not in ('', *found) else []
    )


# -- afterwards ------------------------------------------------------------------------------------


def missing_afterwards(previous, way):
    facts = ' '.join(
        [previous['summary'], *(evidence['fact'] for evidence in previous['evidence'])]
    )
    wrong = [
        f'{words!r} is not in the evidence: {facts}' for words in way.says if words not in facts
    ]
    paths = sorted(request['path'] for request in previous['requests'])
    if paths != sorted(way.paths):
        wrong.append(f'in flight were {paths}')
    kinds = [hang['kind'] for hang in previous['hangs'] if hang['ended'] is None]
    if way.answering and set(kinds) != ({way.kind} - {''}):
        wrong.append(f'the hangs that lasted are {kinds}')
    functions = {
        frame['function']
        for thread in (*previous['threads'], *previous['notes'])
        for frame in thread['frames']
    }
    return wrong + [
        f'{stands.function} is in no stack'
        for stands in way.stands
        if stands.function not in functions
    ]
