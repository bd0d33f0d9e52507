"""Which incidents have one signature.  Recorded crashes of real Zopes are compared, too; real
Zopes die in tests/functional.
"""

import functools
from dataclasses import replace

import pytest
from support import recordedcrashes
from support.syntheticruns import request

from Products.StabilityMonitor.knowledge.signatures import signature_of
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.model.threadstates import Event
from Products.StabilityMonitor.model.threadstates import Link
from Products.StabilityMonitor.model.threadstates import ThreadState

SITE = '/srv/env/lib/python3.11/site-packages'
LXML = f'{SITE}/lxml/etree.cpython-311-x86_64-linux-gnu.so'
PYTHON = '/usr/bin/python3.11'
LIBC = '/lib/x86_64-linux-gnu/libc.so.6'
RENDER = Frame(f'{SITE}/shop/views.py', 12, 'render')
CALL = Frame(f'{SITE}/shop/views.py', 7, '__call__')
PUBLISH = Frame(f'{SITE}/ZPublisher/WSGIPublisher.py', 181, 'transaction_pubevents')


def native(function, library=LXML, **more):
    return MergedFrame(function=function, library=library, **more)


def crash(frames=(), python=(RENDER, CALL, PUBLISH), **more):
    """Return the record of a crash, with a core file if native frames are given."""
    threads = (ThreadState(ident=1, crashed=True, frames=tuple(python)),) if python else ()
    core = None
    if frames:
        own = (
            MergedFrame(function=frame.function, native=False, file=frame.file, line=frame.line)
            for frame in python
        )
        thread = CoreThread(native_id=7, crashed=True, frames=(*frames, *own))
        core = CoreFile(
            '/core', 0.0, signal='SIGSEGV', code='SEGV_MAPERR', address=8, threads=(thread,)
        )
    values = {'verdict': 'crashed', 'signal': 'SIGSEGV', 'threads': threads, 'core': core} | more
    return RunRecord(run='20261201T000000Z-1-abcd', **values)


def strict(record):
    return signature_of(record).strict


class TestCrash:
    def test_class_native_and_python_places(self):
        found = signature_of(crash([native('parse'), native('feed')]))
        places = 'lxml.etree!parse < lxml.etree!feed|shop.views:render < shop.views:__call__'
        assert found.strict == f'crashed|SIGSEGV|null-pointer|{places}'
        assert (found.suspect, found.is_weak) == ('lxml.etree', False)

    def test_lines_addresses_folders_and_versions_of_python_do_not_count(self):
        moved = [
            Frame(
                frame.file.replace('/srv/env', '/opt/x').replace('3.11', '3.14'), 99, frame.function
            )
            for frame in (RENDER, CALL, PUBLISH)
        ]
        library = '/opt/x/lib/python3.14/site-packages/lxml/etree.cpython-314-x86_64-linux-gnu.so'
        other = crash([native('parse.part.0', library, address=99, line=5)], moved)
        assert strict(other) == strict(crash([native('parse', address=1)]))

    def test_other_threads_do_not_count(self):
        idle = ThreadState(ident=2, frames=(Frame(f'{SITE}/other.py', 1, 'wait'),))
        alone = crash()
        assert strict(replace(alone, threads=(*alone.threads, idle))) == strict(alone)

    def test_another_function_is_another_fault(self):
        assert strict(crash([native('parse')])) != strict(crash([native('feed')]))
        other = (replace(RENDER, function='export'), CALL)
        assert strict(crash(python=other)) != strict(crash())

    def test_only_three_places_count(self):
        outer = [Frame(f'{SITE}/shop/a{n}.py', 1, 'f') for n in range(9)]
        assert strict(crash(python=outer[:3])) == strict(crash(python=outer))

    def test_what_python_does_within_counts_only_as_far_as_it_was_called(self):
        api = native('PyList_Append', PYTHON)
        deep = crash([native('list_resize', PYTHON), api, native('parse')])
        shallow = crash([api, native('parse')])
        assert strict(deep) == strict(shallow)
        assert 'python!PyList_Append < lxml.etree!parse' in strict(deep)

    @pytest.mark.parametrize('function', ['memcpy', '__memcpy_avx_unaligned_erms', 'free'])
    def test_which_function_of_the_c_library_it_was_does_not_count(self, function):
        libc = native(function, LIBC)
        assert strict(crash([libc, native('parse')])) == strict(crash([native('parse')]))

    def test_a_comprehension_has_no_frame_of_its_own_from_3_12_on(self):
        inner = Frame(RENDER.file, 12, '<listcomp>')
        assert strict(crash(python=(inner, RENDER, CALL))) == strict(crash())

    def test_without_native_frames_it_is_weak(self):
        found = signature_of(crash())
        assert found.is_weak and found.native == () and found.death == 'unknown'

    def test_an_unknown_function_makes_it_weak(self):
        found = signature_of(crash([native(''), native('feed')]))
        assert found.is_weak and found.native == ('lxml.etree', 'lxml.etree!feed')

    def test_objects_without_any_name_are_no_places(self):
        assert signature_of(crash([native('', PYTHON), native('', '')])).native == ()

    def test_the_c_library_alone_is_no_place(self):
        """It is where each process ends that aborts."""
        found = signature_of(crash([native('', LIBC), native('', PYTHON)]))
        assert found.native == () and found.is_weak
        called = signature_of(crash([native('strlen', LIBC)]))
        assert called.native == ('libc!strlen',)

    def test_where_the_collector_ran_is_weak(self):
        found = signature_of(crash([native('deduce_unreachable', PYTHON)]))
        assert found.native == ('[gc]',) and found.is_weak

    def test_a_stack_may_come_to_its_end_anywhere_in_a_recursion(self):
        """Neither the function on top counts, nor what it had called."""
        cycle = [Frame(f'{SITE}/shop/tree.py', 1, name) for name in ('walk', 'visit', 'children')]
        leaf = Frame(f'{SITE}/shop/tree.py', 50, 'label')
        found = {
            strict(crash(python=(*top, *cycle[n:], *cycle * 30, CALL), verdict='stack-overflow'))
            for n in range(3)
            for top in ((), (leaf,))
        }
        (one,) = found
        assert one.endswith('shop.tree:children < shop.tree:visit < shop.tree:walk')

    def test_where_a_waiting_main_thread_stood_counts_not_the_program_that_began_it(self):
        poll = Frame(f'{SITE}/waitress/wasyncore.py', 167, 'poll')
        program = Frame('/srv/env/bin/runwsgi', 8, '<module>')
        assert signature_of(crash(python=(poll, program))).python == ('waitress.wasyncore:poll',)
        assert signature_of(crash(python=(RENDER, poll, program))).python == ('shop.views:render',)
        script = Frame('/srv/scripts/nightly.py', 8, '<module>')
        assert signature_of(crash(python=(script,))).python == ('nightly:<module>',)

    def test_a_native_thread_that_tells_nothing_has_none(self):
        """The request in progress is not what it did."""
        recorded = recordedcrashes.read().records['null_in_native_thread']
        assert signature_of(replace(recorded, core=None)) is None

    def test_without_a_stack_the_path_of_the_request_counts(self):
        found = signature_of(crash(python=(), requests=(request(path='/orders/12/pdf'),)))
        assert found.strict == 'crashed|SIGSEGV|unknown|||/orders/*/pdf'


class TestImport:
    MACHINERY = (
        Frame('<frozen importlib._bootstrap>', 241, '_call_with_frames_removed'),
        Frame('<frozen importlib._bootstrap_external>', 1233, 'create_module'),
    )

    def of(self, line, source=None, native=()):
        frames = (*self.MACHINERY, Frame(f'{SITE}/shop/__init__.py', line, '<module>'))
        return signature_of(crash(native, frames), lambda path: source)

    def test_the_module_counts_not_the_line(self):
        first = self.of(1, 'import alpha\nimport beta\n')
        moved = self.of(3, '\n\nimport alpha\nimport beta\n')
        other = self.of(2, 'import alpha\nimport beta\n')
        assert first.strict == moved.strict != other.strict
        assert first.python[0] == 'import alpha'

    def test_several_modules_of_one_line_are_named(self):
        found = self.of(1, 'from shop import prices, taxes\n')
        assert found.python[0] == 'import shop.prices or shop.taxes' and found.is_weak
        assert self.of(1, 'import alpha, beta\n').python[0] == 'import alpha or beta'

    def test_a_module_whose_name_is_computed_is_that_of_the_native_code(self):
        computed = 'import_module(name)\n'
        found = self.of(1, computed, [native('PyInit_etree')])
        assert found.python[0] == 'import lxml.etree'
        assert found.strict == self.of(2, f'\n{computed}', [native('PyInit_etree')]).strict
        assert self.of(1, computed) is None

    def test_the_line_counts_if_the_source_cannot_be_read(self):
        assert self.of(1).strict != self.of(2).strict
        assert self.of(1).is_weak


class TestOtherEnds:
    def of(self, verdict, *paths, **more):
        requests = tuple(request(path=path) for path in paths)
        return signature_of(RunRecord('r', verdict=verdict, requests=requests, **more))

    def test_the_template_of_the_path_counts(self):
        first = self.of('out-of-memory', '/orders/1/pdf', signal='SIGKILL')
        again = self.of('out-of-memory', '/orders/2/pdf', signal='SIGKILL')
        assert first.strict == again.strict == 'out-of-memory|SIGKILL||||/orders/*/pdf'
        assert not first.is_weak

    @pytest.mark.parametrize('verdict', ['vanished', 'killed', 'out-of-memory'])
    def test_of_several_requests_none_is_chosen(self, verdict):
        """Ends that share their verdict only are not the same."""
        assert self.of(verdict, '/a', '/b') is None
        assert self.of(verdict) is None

    def test_an_exit_status_alone_is_weak(self):
        found = self.of('exited', '/a', '/b', exit_code=3)
        assert (found.place, found.is_weak) == ('exit status 3', True)

    @pytest.mark.parametrize('verdict', ['vanished', 'killed', 'hung'])
    def test_a_process_that_was_ended_while_it_hung_is_known_by_the_hang(self, verdict):
        hang = Event('deadlock', started=1.0, place=RENDER)
        found = self.of(verdict, '/a', '/b', hangs=(hang,), signal='SIGKILL')
        assert found.strict == 'hung|||||deadlock shop.views:render'
        assert self.of('out-of-memory', '/a', '/b', hangs=(hang,)) is None

    def test_where_no_code_of_the_site_is_that_of_its_platform_counts(self):
        load = Frame(f'{SITE}/ZODB/Connection.py', 12, 'setstate')
        wait = Frame('/usr/lib/python3.11/threading.py', 9, 'wait')
        hang = Event('hang', started=1.0, reason='workers', threads=(7,))
        stuck = ThreadState(ident=7, frames=(wait, load, PUBLISH))
        found = self.of('hung', hangs=(hang,), threads=(stuck,))
        assert found.place == 'hang workers ZODB.Connection:setstate'

    def test_two_orders_are_one_kind_of_request(self):
        assert self.of('vanished', '/orders/1', '/orders/2').place == '/orders/*'

    def test_the_exit_status_counts(self):
        assert self.of('exited', '/a', exit_code=3).place == 'exit status 3 /a'

    def test_the_exception_and_its_place_count(self):
        text = (
            'Traceback (most recent call last):\n'
            f'  File "{SITE}/shop/__init__.py", line {{}}, in initialize\n    load()\n'
            '  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode\n    raise\n'
            'ValueError: {}\n'
        )
        first = self.of('startup-failed', exception=text.format(3, 'line 1'))
        again = self.of('startup-failed', exception=text.format(9, 'line 2'))
        assert first == again and first.place == 'ValueError in shop:initialize'
        other = self.of('startup-failed', exception=text.format(3, '').replace('Value', 'Key'))
        assert first != other

    def test_the_program_in_each_traceback_is_not_the_place(self):
        text = (
            'Traceback (most recent call last):\n'
            '  File "/srv/env/bin/runwsgi", line 8, in <module>\n    sys.exit(main())\n'
            f'  File "{SITE}/ZODB/FileStorage/FileStorage.py", line 3, in read_index\n    raise\n'
            'ZODB.FileStorage.FileStorage.CorruptedTransactionError: at 5\n'
        )
        found = self.of('startup-failed', exception=text)
        assert found.place.endswith('Error in ZODB.FileStorage.FileStorage:read_index')
        assert found.is_weak

    @pytest.mark.parametrize(
        'message',
        ["ModuleNotFoundError: No module named '{}'", "ImportError: cannot import name '{}'"],
    )
    def test_what_could_not_be_imported_counts(self, message):
        text = (
            'Traceback (most recent call last):\n'
            '  File "/home/site/shop.py", line 3, in <module>\n    import something\n'
        )
        one, other = (
            self.of('startup-failed', exception=f'{text}{message.format(name)}\n')
            for name in ('lxml.etree', 'xmlsec')
        )
        assert one.strict.endswith('Error lxml.etree in shop:<module>') and not one.is_weak
        assert other.strict == one.strict.replace('lxml.etree', 'xmlsec')

    def test_of_an_error_in_zcml_its_files_count(self):
        """The parser has raised it, as each other one."""
        text = (
            'Traceback (most recent call last):\n'
            '  File "../Modules/pyexpat.c", line 421, in StartElement\n'
            'zope.configuration.exceptions.ConfigurationError: Unknown directive\n'
            '    File "/srv/zope/etc/site.zcml", line 7.2\n'
            f'    File "{SITE}/Products/Shop/configure.zcml", line {{}}.2-9.5\n'
        )
        first, again = (self.of('startup-failed', exception=text.format(line)) for line in (3, 30))
        assert first == again
        assert first.place.endswith('Error in Products.Shop.configure.zcml + site.zcml')

    def test_a_hang_counts_by_its_reason_and_place(self):
        hang = Event('hang', started=1.0, reason='workers', place=RENDER)
        found = self.of('hung', '/a', hangs=(hang,), signal='SIGKILL')
        assert found.strict == 'hung|||||hang workers shop.views:render'

    def test_of_workers_that_do_not_progress_only_those_of_requests_count(self):
        """The main thread is where it always is."""
        script = Frame('/srv/env/bin/runwsgi', 8, '<module>')
        threads = (
            ThreadState(ident=1, frames=(script,)),
            ThreadState(ident=7, frames=(RENDER,)),
        )
        for reason, place in (('workers', ''), ('gil', 'runwsgi:<module> + ')):
            hang = Event('hang', started=1.0, reason=reason, threads=(1, 7))
            serving = replace(request(path='/a'), ident=7)
            found = signature_of(
                RunRecord('r', verdict='hung', hangs=(hang,), threads=threads, requests=(serving,))
            )
            assert found.place == f'hang {reason} {place}shop.views:render'

    def test_a_deadlock_counts_before_the_hang_that_it_led_to_in_any_order_of_threads(self):
        links = [Link(ident, '', 'GET', '/', '', '') for ident in (1, 2)]
        places = {1: RENDER, 2: CALL}

        def hung(idents):
            threads = tuple(ThreadState(ident=n, frames=(places[n],)) for n in idents)
            cycle = tuple(links[n - 1] for n in idents)
            deadlock = Event('deadlock', started=1.0, cycle=cycle)
            hang = Event('hang', started=1.0, reason='workers', place=RENDER)
            return self.of('hung', hangs=(hang, deadlock), threads=threads)

        assert hung((1, 2)) == hung((2, 1))
        assert hung((1, 2)).place == 'deadlock shop.views:__call__ + shop.views:render'

    @pytest.mark.parametrize('verdict', ['stopped', 'host-restarted', 'unreadable', 'running'])
    def test_other_ends_have_none(self, verdict):
        assert self.of(verdict, '/a') is None

    def test_a_drill_has_none(self):
        assert self.of('vanished', '/a', drill='kill') is None

    def test_a_damaged_record_has_none(self):
        assert self.of('startup-failed', exception=None) is None


def test_names_in_a_damaged_record_are_bounded():
    frames = tuple(Frame('/site/shop.py', 1, f'{number}{"x" * 30_000}') for number in range(3))
    places = [native(f'{number}{"x" * 30_000}') for number in range(3)]
    found = signature_of(crash(places, frames, signal='S' * 30_000))
    assert len(found.native) == len(found.python) == 3 and len(found.strict) < 10_000


@functools.cache
def _recorded():
    return recordedcrashes.read()


@pytest.mark.parametrize('cores', [True, False])
def test_no_two_recorded_crashes_have_the_same(cores):
    known = _recorded()
    found = {}
    for page, record in known.records.items():
        record = record if cores else replace(record, core=None)
        found[page] = signature_of(record, known.sources.get)
    texts = [each.strict for each in found.values() if each]
    assert len(texts) == len(set(texts)) >= 36
