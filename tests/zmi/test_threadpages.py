"""The Threads page: the values made from a stacks document, and its answers in a real Zope."""

import json
import os
import re
import shlex
import sys
import threading
import time
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from support.fakelife import FakeLife
from support.stacksdocuments import LIB
from support.stacksdocuments import SITE
from support.stacksdocuments import STACKS
from support.stacksdocuments import document
from support.stacksdocuments import thread

from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.reporting import bars
from Products.StabilityMonitor.reporting.flames import flames
from Products.StabilityMonitor.reporting.stacksdocument import tidy
from Products.StabilityMonitor.threads import codeorigin

TAB = '/Control_Panel/StabilityMonitor/'
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'&'


# -- the origin of a frame -------------------------------------------------------------------------


@pytest.mark.parametrize(
    'file, kind, short, package',
    [
        (
            '/srv/venv/lib/python3.11/site-packages/ZPublisher/mapply.py',
            'carrier',
            'ZPublisher/mapply.py',
            'ZPublisher',
        ),
        (
            '/srv/venv/lib/python3.11/site-packages/zope/event/__init__.py',
            'carrier',
            'zope/event/__init__.py',
            'zope',
        ),
        (
            '/eggs/Zope-5.14-py3.11.egg/Zope2/Startup/run.py',
            'carrier',
            'Zope2/Startup/run.py',
            'Zope2',
        ),
        ('/usr/lib/python3/dist-packages/shop/views.py', 'site', 'shop/views.py', 'shop'),
        ('/srv/venv/lib/python3.11/site-packages/six.py', 'site', 'six.py', 'six'),
        (
            '/srv/venv/lib/python3.11/site-packages/Products/PageTemplates/engine.py',
            'carrier',
            'Products/PageTemplates/engine.py',
            'Products.PageTemplates',
        ),
        ('/srv/zope/Products/Shop/views.py', 'site', 'Products/Shop/views.py', 'Products.Shop'),
        ('/srv/zope/src/shop/views.py', 'site', 'shop/views.py', 'shop'),
        ('/usr/lib/python3.11/threading.py', 'python', 'threading.py', 'Python'),
        ('/usr/local/lib/python3.13t/json/decoder.py', 'python', 'json/decoder.py', 'Python'),
        ('<frozen importlib._bootstrap>', 'python', 'importlib._bootstrap', 'Python'),
        ('Script (Python)', 'site', 'Script (Python)', ''),
        ('/srv/zope/var/cache/index_html_0a1b.py', 'site', 'var/cache/index_html_0a1b.py', ''),
        (
            'C:\\zope\\Lib\\site-packages\\waitress\\task.py',
            'carrier',
            'waitress/task.py',
            'waitress',
        ),
        ('', 'site', '', ''),
    ],
)
def test_a_file_is_classed_and_shortened_by_its_place(file, kind, short, package):
    assert codeorigin.place(file) == codeorigin.Place(kind, short, package)


def test_frames_of_the_publisher_are_folded_except_the_innermost_frame():
    frames = tidy(document()).threads[0].frames
    (first, own), (second, carried) = codeorigin.groups(frames)
    assert (first, [f.function for f in own]) == (False, ['checkout']) and (
        second,
        len(carried),
    ) == (True, 10)
    idle = tidy(document()).threads[2].frames
    assert [(folded, len(run)) for folded, run in codeorigin.groups(idle)] == [
        (False, 1),
        (True, 4),
    ]


def test_few_frames_are_not_folded():
    frames = [
        Frame(SITE, 1, 'a'),
        Frame(f'{LIB}/x.py', 2, 'b'),
        Frame(f'{LIB}/y.py', 2, 'c'),
        Frame(SITE, 4, 'd'),
    ]
    assert [folded for folded, _ in codeorigin.groups(frames)] == [False, False, False]
    assert codeorigin.groups([]) == []


def test_the_frame_that_names_a_thread_is_the_innermost_of_the_site():
    busy, _, idle = tidy(document()).threads[:3]
    deep = [Frame(f'{LIB}/socket.py', 5, 'recv'), *busy.frames]
    assert codeorigin.own(deep).function == 'checkout'
    assert codeorigin.own(idle.frames).function == 'wait'
    assert codeorigin.own([]) is None


def test_file_names_in_sentences_are_shortened():
    assert codeorigin.shortened(
        f'lock B in f ({SITE}:31), held in /usr/lib/python3.11/threading.py:2',
        (SITE, '/usr/lib/python3.11/threading.py', ''),
    ) == ('lock B in f (shop/views.py:31), held in threading.py:2')


# -- pictures --------------------------------------------------------------------------------------


def boxes(svg):
    """Return [(title, x, width, y)] for all boxes of a picture, which must be well-formed XML."""
    name = '{http://www.w3.org/2000/svg}'
    found = []
    for group in xml.etree.ElementTree.fromstring(svg).iter(f'{name}g'):
        rect = group.find(f'{name}rect')
        found.append(
            (
                group.find(f'{name}title').text,
                *(float(rect.get(key)) for key in ('x', 'width', 'y')),
            )
        )
    return found


def test_a_box_is_as_wide_as_its_share_of_the_samples():
    found = boxes(flames(STACKS))
    names = [title.split('  ')[1].split(' (')[0].splitlines()[0] for title, *_ in found]
    assert names == ['_bootstrap', 'prices', 'cheapest', 'loads', 'decode', 'raw_decode']
    by_name = dict(zip(names, found, strict=True))
    assert by_name['prices'][2] == 1000 and by_name['prices'][0].startswith('100%  prices (')
    assert by_name['cheapest'][1:3] == (0, 700) and by_name['loads'][1:3] == (700, 300)
    assert (
        by_name['cheapest'][3]
        == by_name['loads'][3]
        > by_name['prices'][3]
        > by_name['_bootstrap'][3]
    )


def test_boxes_of_a_row_do_not_overlap_or_exceed_the_row_before():
    stacks = [
        [[['/a.py', f'f{n % 3}'], ['/a.py', f'g{n % 5}'], ['/a.py', 'h']], n] for n in range(1, 20)
    ]
    found = boxes(flames(stacks))
    rows = sorted({y for *_, y in found})
    widths = [sum(width for _, _, width, y in found if y == row) for row in rows]
    assert widths == sorted(widths, reverse=True) and abs(widths[0] - 1000) < 1
    for row in rows:
        spans = sorted((x, x + width) for _, x, width, y in found if y == row)
        assert all(
            end <= begin + 0.2 for (_, end), (begin, _) in zip(spans, spans[1:], strict=False)
        )


@pytest.mark.parametrize(
    'stacks', [[], [[[], 3]], [[[['/a.py', 'f']] * 500, 1]], [[[['', '']], 1]]]
)
def test_odd_stacks_make_a_well_formed_picture_or_none(stacks):
    svg = flames(stacks)
    assert not svg or xml.etree.ElementTree.fromstring(svg) is not None


def test_hostile_text_is_escaped_in_a_picture():
    svg = flames([[[[HOSTILE, HOSTILE]], 1], [[['/a.py', 'f']], 1]]) + bars.bar(
        0.5, bars.GOOD, HOSTILE
    )
    assert '<script' not in svg and '<img' not in svg and '&lt;script' in svg


@pytest.mark.parametrize('share, width', [(0, 0), (0.5, 50), (1, 100), (7.5, 100), (-1, 0)])
def test_a_bar_is_limited_to_0_and_100_percent(share, width):
    svg = bars.bar(share, bars.GOOD, 'x')
    assert f'<rect width="{width:.1f}"' in svg and 'style=' not in svg
    xml.etree.ElementTree.fromstring(svg)


# -- values ----------------------------------------------------------------------------------------


@pytest.fixture
def threadpages():
    return pytest.importorskip('Products.StabilityMonitor.zmi.threadpages')


def test_the_page_groups_hangs_requests_others_and_idle_threads(threadpages):
    page = threadpages.page(tidy(document()))
    assert [(hang['title'], hang['lasted']) for hang in page['hangs']] == [('Deadlock', '30.0 s')]
    summary = page['hangs'][0]['summary']
    assert summary.startswith('POST /shop/checkout (waitress-0) waits for a lock: lock LOCK_B at')
    assert summary.endswith('in checkout (inferred from the code).'), 'the title says "Deadlock"'
    assert [(hang['title'], hang['lasted']) for hang in page['past_hangs']] == [
        ('The site does not answer', '1 min 40 s')
    ]
    assert [row['name'] for row in page['requests']] == ['waitress-0', 'waitress-1', 'waitress-3']
    assert [row['name'] for row in page['others']] == ['MainThread', 'grpc_poller']
    assert [row['name'] for row in page['quiet']] == [
        'waitress-2',
        'waitress-4',
        'StabilityMonitor heartbeat',
    ]


def test_a_deadlock_that_was_first_seen_now_has_no_duration(threadpages):
    stacks = tidy(document())
    assert threadpages.page(stacks)['hangs'][0]['duration'] == 'for 30.0 s'
    begun = replace(stacks.hangs[0], started=stacks.time)
    shown = threadpages.page(replace(stacks, hangs=(begun,)))
    assert shown['hangs'][0]['duration'] == 'seen just now'


def test_a_possible_deadlock_says_so(threadpages):
    stacks = tidy(document())
    possible = replace(stacks.hangs[0], possible=True)
    (hang,) = threadpages.page(replace(stacks, hangs=(possible,)))['hangs']
    assert hang['summary'].endswith('(possible, inferred from the code).')


def test_the_threads_of_a_deadlock_link_to_each_other(threadpages):
    first, second, third = threadpages.page(tidy(document()))['requests']
    assert first['deadlock'] and second['deadlock'] and not third['deadlock']
    assert (
        first['holders'] == [{'key': second['key'], 'name': 'waitress-1'}]
        and first['look'] == 'stuck'
    )
    assert first['request'] == {
        'method': 'POST',
        'path': '/shop/checkout',
        'age': '34.2 s',
        'phase': 'publishing',
    }


def test_a_stack_below_a_quarter_of_headroom_is_red(threadpages):
    third = threadpages.page(tidy(document()))['requests'][2]
    assert third['stack']['tight'] and bars.BAD in third['stack']['bar']
    assert third['stack']['text'] == '7.0 MiB of 8.0 MiB'
    size = 8 << 20
    for used, tight in ((size * 3 // 4, False), (size * 3 // 4 + 4096, True)):
        (row,) = threadpages.page(tidy({'threads': [thread(1, stack_used=used)]}))['quiet']
        assert row['stack']['tight'] == tight


def test_unknown_values_are_shown_as_unknown(threadpages):
    row = threadpages.page(tidy(document()))['others'][1]
    assert row['stack']['text'] == row['cpu']['text'] == 'unknown' and row['key'] == 'native-1010'
    assert row['depth'] == '' and row['top'] is None


def test_the_thread_that_serves_the_page_is_marked(threadpages):
    threads = tidy(document())
    page = threadpages.page(threads, own=threads.threads[0].ident)
    own = page['quiet'][0]
    assert (own['name'], own['word'], own['detail']) == ('waitress-0', 'serves this page', '')


def test_the_sentence_of_a_deadlock_is_made_from_its_fields(threadpages):
    stacks = document()
    deadlock = stacks['hangs'][0]
    deadlock['summary'] = 'Words in which nothing is looked for.'
    deadlock['cycle'][1] |= {'method': '', 'path': '', 'detail': f'lock A at {SITE}:52 in stock'}
    for known, source in ((False, 'inferred from the code'), (True, 'the locks name their owners')):
        deadlock['known'] = known
        (hang,) = threadpages.page(tidy(stacks))['hangs']
        assert hang['summary'] == (
            'POST /shop/checkout (waitress-0) waits for a lock: lock LOCK_B at shop/views.py:31 '
            'in checkout, held by waitress-1 at shop/views.py:50 in stock; '
            f'waitress-1 waits for a lock: lock A at shop/views.py:52 in stock ({source}).'
        )


def test_a_deadlock_without_known_and_cycle_keeps_its_summary(threadpages):
    """As in a document of an older release, or in a damaged document."""
    for wrong in ({}, {'known': 'yes'}, {'cycle': 7}, {'cycle': [7]}):
        stacks = document()
        deadlock = stacks['hangs'][0]
        if not wrong:
            del deadlock['known'], deadlock['cycle']
        (hang,) = threadpages.page(tidy(stacks | {'hangs': [deadlock | wrong]}))['hangs']
        assert hang['summary'] == deadlock['summary']


def test_a_path_that_looks_like_the_ident_of_a_thread_is_not_replaced(threadpages):
    """Only fields of the document name threads; the path of a request never does."""
    stacks = document()
    ident = f'0x{stacks["threads"][1]["ident"]:x}'
    stacks['threads'][0]['detail'] = f'lock B at {SITE}:31 in f, held by {ident}'
    stacks['hangs'][0]['cycle'][0]['path'] = f'/{ident}'
    page = threadpages.page(tidy(stacks))
    assert page['requests'][0]['detail'] == f'lock B at shop/views.py:31 in f, held by {ident}'
    assert page['hangs'][0]['summary'].startswith(f'POST /{ident} (waitress-0) waits for a lock')


def test_no_script_looks_for_words_in_an_error():
    for script in (Path(bars.__file__).parents[1] / 'www' / 'static').glob('*.js'):
        assert 'error.message' not in script.read_text()


def test_slow_requests_show_where_the_time_was_spent(threadpages):
    page = threadpages.page(tidy(document()))
    (slow,), (ended,) = page['slow'], page['past_slow']
    assert [(s['function'], s['own']) for s in slow['shares']] == [
        ('cheapest', '70%'),
        ('raw_decode', '30%'),
    ]
    assert (
        slow['lasts'] and slow['took'] == '12.5 s' and slow['thread'] == page['requests'][2]['key']
    )
    assert not ended['lasts'] and ended['took'] == '1 min 35 s'
    assert ended['picture'] == 'request=3&samples=30'


def test_a_request_with_a_single_stack_has_no_flame_graph(threadpages):
    found = document()['slow']
    page = threadpages.page(
        tidy({'slow': [profile | {'different_stacks': 1} for profile in found]})
    )
    assert [slow['picture'] for slow in page['slow'] + page['past_slow']] == ['', '']


def test_no_flame_graph_is_embedded_in_the_page(threadpages):
    """The page stays small with many slow requests: a picture is loaded when it is shown."""
    assert 'stability-flames' in flames(STACKS) and 'stability-flames' not in repr(
        threadpages.page(tidy(document()))
    )


def test_every_activity_has_an_icon(threadpages):
    from Products.StabilityMonitor.reporting import stacksdocument

    for code in set(stacksdocument.ACTIVITIES) - {'unknown'}:
        page = threadpages.page(tidy({'threads': [thread(1, activity=code, kind='other')]}))
        (row,) = page['quiet'] + page['others']
        assert row['icon'] != 'fa-question-circle', code


class Taking:
    """Native stacks that were taken `ago` seconds ago, or are being taken (None)."""

    def __init__(self, ago):
        self.running, self.ended = ago is None, ago is not None and time.time() - ago
        self.seconds_ago = ago or 0.0
        self.error, self.result, self.words = '', 'x' * (2 << 20), 'pystack runs'

    def start(self):
        return True


@pytest.fixture
def native_life(threadpages, monkeypatch, tmp_path):
    """A living run whose heartbeat rounds are called by the test, with faked native stacks."""
    monkeypatch.setattr(threadpages, '_NATIVE', {})
    return FakeLife(tmp_path)


def test_old_native_stacks_are_dropped_by_the_heartbeat(threadpages, native_life, monkeypatch):
    taken = []
    monkeypatch.setattr(threadpages.nativestacks, 'NativeStacks', lambda pid: taken[-1])
    for ago, kept in ((60, True), (601, False), (None, True)):
        taken.append(Taking(ago))
        threadpages.take_native(native_life)
        for forget in native_life.rounds:
            forget()
        assert (native_life.pid in threadpages._NATIVE) == kept, ago


def test_old_native_stacks_are_dropped_by_the_page_without_a_heartbeat(
    threadpages, native_life, monkeypatch
):
    monkeypatch.setattr(threadpages.nativestacks, 'NativeStacks', lambda pid: Taking(601))
    threadpages.take_native(native_life)
    assert threadpages._NATIVE
    assert (
        threadpages.native(native_life, False)['native']['result'] == '' and not threadpages._NATIVE
    )


def test_the_page_shows_why_native_stacks_could_not_be_started(
    threadpages, native_life, monkeypatch
):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    threadpages.take_native(native_life)
    shown = threadpages.native(native_life, False)['native']
    assert (shown['busy'], shown['result']) == (False, '')
    assert shown['error'] == (
        "The native stacks were not read: can't start new thread. Try again later."
    )


def test_native_stacks_taken_elsewhere_do_not_change_the_page(threadpages, native_life):
    go = threading.Event()
    other = threadpages.nativestacks.NativeStacks(native_life.pid, tools={})
    other._work = lambda: ('', '' if go.wait(60) else 'late')
    assert other.start()
    threadpages.take_native(native_life)
    go.set()
    assert other.wait(60) and other.error == '' and not threadpages._NATIVE


def test_without_a_tool_the_page_gives_the_command_lines_for_this_process(
    threadpages, native_life, monkeypatch
):
    monkeypatch.setattr(threadpages.nativestacks, 'find_tools', dict)
    shown, pid = threadpages.native(native_life, True)['native'], os.getpid()
    assert shown['fields'] is None and shown['tools'] == ''
    assert [line['command'] for line in shown['lines']] == [
        f"gdb -p {pid} -batch -ex 'set pagination off' -ex 'thread apply all bt' "
        f'{shlex.quote(sys.executable)}',
        f'pystack remote {pid} --native-all',
        f'py-spy dump --native --pid {pid}',
    ]


# -- in a real Zope --------------------------------------------------------------------------------

#: `pretend` lets the page show a document of the test, so that any text in it can be hostile.
SOURCE = """
import threading
release = threading.Event()

def wait_here(self):
    release.wait(60)
    return "released"

def change_often(self):
    release.clear()
    while not release.is_set():
        _here(), _there()
    return "changed"

def _here():
    release.wait(0.02)

def _there():
    release.wait(0.02)

def let_go(self):
    release.set()
    return "ok"

def pretend(self, stacks):
    import json
    from Products.StabilityMonitor.recording.arming import STATE
    from Products.StabilityMonitor.model.jsonform import from_json
    from Products.StabilityMonitor.model.threadstates import Stacks
    STATE.life.rounds.stacks = lambda: from_json(Stacks, json.loads(stacks))
    return "ok"

def as_it_is(self):
    from Products.StabilityMonitor.recording.arming import STATE
    vars(STATE.life.rounds).pop("stacks", None)
    return "ok"

def grant(self):
    self._addRole("Watcher")
    self.manage_permission("View stability monitor", ["Manager", "Watcher"], 1)
    self.acl_users._doAddUser("watcher", "secret", ["Watcher"], [])
    return "granted"
"""


@pytest.fixture(scope='module')
def zope(tmp_path_factory):
    from support.zopekit import ZopeInstance

    zope = ZopeInstance(
        tmp_path_factory.mktemp('threads'),
        env={'ZPUBLISHER_DEPRECATE_DOCSTRINGS': 'error'},
        options={'slow-request': '0.3s', 'stall': '60s', 'sample-interval': '0.1s'},
    )
    zope.publish(SOURCE)
    with zope:
        yield zope


@pytest.fixture
def pretending(zope):
    """Let the pages of `zope` show a document of the test."""
    yield lambda stacks: zope.post('/pretend', {'stacks': json.dumps(stacks)})
    zope.get('/as_it_is')


def harmless(text):
    return '<script>alert' not in text and '<img src=x' not in text


def hostile(value):
    """Return the same value with every string hostile, except for codes."""
    if isinstance(value, dict):
        return {key: item if key == 'kind' else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.zope
def test_a_slow_request_is_shown_while_it_runs_and_afterwards(zope):
    from support.zopekit import wait_for

    zope.background('/wait_here')

    def lasting():
        text = zope.get(TAB + 'manage_threads').text
        return 'so far' in text and '/wait_here' in text and text

    text = wait_for(lasting, what='the slow request on the page')
    assert '<b>wait_here</b>' in text and 'class="code stability-site"' in text
    live = text.partition('id="stability-live"')[2]
    assert '<th' not in re.split('Earlier hangs|Native stacks', live)[0]
    zope.get('/let_go')
    wait_for(
        lambda: (
            'stability-past">Finished slow requests</h4>' in zope.get(TAB + 'manage_threads').text
        ),
        what='the end',
    )


def picture_of(text, path):
    """Return the URL of the flame graph of a slow request on the Threads page; '' without one."""
    own = re.split('</section>|</details>', text.partition('>Slow requests')[2].partition(path)[2])[
        0
    ]
    found = re.search(r'<img [^>]*src="(flames[^"]+)"', own)
    return found[1].replace('&amp;', '&') if found else ''


@pytest.mark.zope
def test_the_flame_graph_of_a_slow_request_can_be_fetched(zope):
    from support.zopekit import wait_for

    def picture():
        return picture_of(zope.get(TAB + 'manage_threads').text, '/change_often')

    zope.background('/change_often')
    lasting = wait_for(picture, what='a picture while it lasts')
    zope.get('/let_go')
    wait_for(
        lambda: (
            '/change_often' in zope.get(TAB + 'stacks').text.partition('Finished slow requests:')[2]
        ),
        what='its end',
    )
    ended = picture()
    assert ended.partition('&samples')[0] == lasting.partition('&samples')[0]
    answer = zope.get(TAB + ended)
    assert answer.status == 200 and answer.headers['Content-Type'] == 'image/svg+xml; charset=utf-8'
    assert {'change_often', '_here', '_there'} <= {
        re.split('  | \\(', title)[1] for title, *_ in boxes(answer.text)
    }
    assert zope.get(TAB + ended, auth=False).status == 401
    for wrong in (ended.replace('run=', 'run=x'), ended.replace('request=', 'request=9'), 'flames'):
        assert zope.get(TAB + wrong).status == 404


@pytest.mark.zope
def test_a_fragment_has_only_its_part_of_the_page(zope, pretending):
    pretending(document())
    page, fragment = zope.get(TAB + 'manage_threads'), zope.get(TAB + 'threads_fragment?part=live')
    assert (
        fragment.status == 200
        and '<html' not in fragment.text
        and 'Native stacks' not in fragment.text
    )
    cards = re.findall(r'<article [^>]+id="([\w-]+)"|<article id="([\w-]+)"', fragment.text)
    assert len(cards) == 8 and cards == re.findall(
        r'<article [^>]+id="([\w-]+)"|<article id="([\w-]+)"', page.text
    )
    native = zope.get(TAB + 'threads_fragment?part=native').text
    assert 'gdb -p' in native and '<article' not in native
    assert zope.get(TAB + 'threads_fragment?part=nonsense').text.count('<article') == 8


@pytest.mark.zope
def test_foreign_text_stays_text(zope, pretending):
    pretending(hostile(document()))
    for path in ('manage_threads', 'threads_fragment?part=live'):
        answer = zope.get(TAB + path)
        assert (
            answer.status == 200
            and harmless(answer.text)
            and answer.text.count('&lt;script&gt;') > 20
        )


@pytest.mark.zope
@pytest.mark.parametrize(
    'stacks', [{}, {'threads': [{}], 'slow': [{}], 'hangs': [{}]}, {'threads': 5}]
)
def test_an_empty_or_damaged_document_makes_a_page(zope, pretending, stacks):
    pretending(stacks)
    assert 'No requests in progress other than this page.' in zope.get(TAB + 'manage_threads').text


@pytest.mark.zope
def test_no_inline_script_or_style_that_a_content_policy_would_refuse(zope, pretending):
    pretending(document())
    main = zope.get(TAB + 'manage_threads').text.partition('<main')[2].partition('</main>')[0]
    assert re.findall(r'<script[^>]*>(.*?)</script>', main, re.DOTALL) == ['']
    assert not re.search(r'\s(style|on\w+)=', main)
    (script,) = re.findall(r'<script[^>]*src="([^"]+)"', main)
    assert zope.get(script, auth=False).status == 200


@pytest.mark.zope
def test_stacks_and_trace_log_can_be_downloaded(zope):
    stacks, trace = zope.get(TAB + 'stacks'), zope.get(TAB + 'trace')
    for answer, name in ((stacks, 'stacks'), (trace, 'trace')):
        assert (
            answer.status == 200 and answer.headers['Content-Type'] == 'text/plain; charset=utf-8'
        )
        assert re.fullmatch(
            rf'attachment; filename="{name}-\d{{8}}T\d{{6}}Z-{zope.pid}-\w{{4}}\.txt"',
            answer.headers['Content-Disposition'],
        )
        assert answer.headers['X-Content-Type-Options'] == 'nosniff'
    assert (
        f'Threads of process {zope.pid} (run ' in stacks.text
        and 'StabilityMonitor heartbeat' in stacks.text
    )
    assert re.search(
        r'^B \S+ \S+ GET /Control_Panel/StabilityMonitor/stacks$', trace.text, re.MULTILINE
    )


@pytest.mark.zope
def test_threads_and_native_stacks_need_their_permissions(zope):
    for path in ('manage_threads', 'threads_fragment', 'stacks', 'trace'):
        assert zope.get(TAB + path, auth=False).status == 401
    zope.get('/grant')
    import base64

    watcher = {'Authorization': 'Basic ' + base64.b64encode(b'watcher:secret').decode()}
    shown = zope.get(TAB + 'manage_threads', auth=False, headers=watcher)
    assert shown.status == 200 and 'id="native-stacks"' not in shown.text
    assert 'needs the permission' in shown.text
    assert zope.post(TAB + 'manage_native_stacks', {}, auth=False, headers=watcher).status == 401


def fields(zope):
    return dict(
        re.findall(r'name="(token|run)" value="([^"]+)"', zope.get(TAB + 'manage_threads').text)
    )


@pytest.mark.zope
@pytest.mark.parametrize('change', [{'token': ''}, {'token': 'f' * 64}, {'run': ''}])
def test_a_forged_form_takes_no_stacks(zope, change):
    assert zope.post(TAB + 'manage_native_stacks', fields(zope) | change).status == 403
    assert zope.get(TAB + 'manage_native_stacks').status in (403, 404, 405)
    assert 'Taken' not in zope.get(TAB + 'threads_fragment?part=native').text


@pytest.mark.zope
def test_the_process_takes_its_own_native_stacks(zope):
    from support.zopekit import wait_for

    pytest.importorskip('pystack', reason='without pystack the page has no button')
    answer = zope.post(TAB + 'manage_native_stacks', fields(zope))
    assert answer.headers['Location'].endswith('/manage_threads#native')

    def over():
        text = zope.get(TAB + 'threads_fragment?part=native').text
        return 'data-busy' not in text and text

    text = wait_for(over, timeout=60, what='the native stacks')
    assert 'Taken' in text and '(C) File' in text and 'handler_thread' in text


@pytest.mark.zope
def test_the_page_says_that_the_process_is_not_recorded(make_zope):
    zope = make_zope(options={'enabled': 'off'}).start()
    for path in ('manage_threads', 'threads_fragment', 'stacks', 'trace'):
        answer = zope.get(TAB + path)
        assert answer.status in (200, 503) and 'Traceback' not in answer.text, path
    assert 'This process is not recorded' in zope.get(TAB + 'manage_threads').text


@pytest.mark.zope
def test_many_users_can_open_the_page_at_the_same_time(zope):
    answers, lock = [], threading.Lock()

    def look():
        began = time.monotonic()
        answer = zope.get(TAB + 'threads_fragment?part=live')
        with lock:
            answers.append((answer.status, time.monotonic() - began))

    lookers = [threading.Thread(target=look) for _ in range(12)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    assert [status for status, _ in answers] == [200] * 12
