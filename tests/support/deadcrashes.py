"""Invented records of crashes, with core files, for tests of class and suspects."""

from Products.StabilityMonitor.model.corefile import BY_CONTENT
from Products.StabilityMonitor.model.corefile import CoreFile
from Products.StabilityMonitor.model.corefile import CoreThread
from Products.StabilityMonitor.model.corefile import Mapping
from Products.StabilityMonitor.model.corefile import MergedFrame
from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.records import Frame
from Products.StabilityMonitor.model.sharedobject import SharedObject
from Products.StabilityMonitor.model.threadstates import ThreadState
from support.syntheticruns import STARTED
from support.syntheticruns import record

SITE = '/venv/lib/python3.11/site-packages'
LIBC = '/lib/x86_64-linux-gnu/libc.so.6'
PYTHON = '/usr/lib/libpython3.11.so.1.0'
CTYPES = '/usr/lib/python3.11/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so'
FFI = '/lib/x86_64-linux-gnu/libffi.so.8'
ETREE = f'{SITE}/lxml/etree.cpython-311-x86_64-linux-gnu.so'
XML2 = f'{SITE}/lxml.libs/libxml2-0a1b2c3d.so.2'
FAST = f'{SITE}/shop/_fast.cpython-311-x86_64-linux-gnu.so'
ACQUISITION = f'{SITE}/Acquisition/_Acquisition.cpython-311-x86_64-linux-gnu.so'
OOBTREE = f'{SITE}/BTrees/_OOBTree.cpython-311-x86_64-linux-gnu.so'
VIEW = f'{SITE}/shop/view.py'

OBJECTS = (
    SharedObject(ETREE, ('lxml.etree',), distribution='lxml', version='5.2.1'),
    SharedObject(XML2, (), 'libxml2.so.2', 'aa', 'lxml', '5.2.1'),
    SharedObject(FAST, ('shop._fast',), distribution='shop', version='2.0'),
    SharedObject(ACQUISITION, ('Acquisition._Acquisition',), distribution='Acquisition'),
    SharedObject(OOBTREE, ('BTrees._OOBTree',), distribution='BTrees', version='6.1'),
    SharedObject(LIBC, (), 'libc.so.6'),
    SharedObject(f'{SITE}/lib/libwidget.so', (), 'libwidget.so'),
)
#: What pystack shows above the stack of a crash: the handler raises the signal again.
HANDLER = (
    MergedFrame('__pthread_kill_implementation', library=LIBC),
    MergedFrame('__GI_raise', library=LIBC),
    MergedFrame('<signal handler called>'),
)
PYTHON_FRAME = MergedFrame('view', native=False, file=VIEW, line=3)
OUTER = (
    PYTHON_FRAME,
    MergedFrame('Wrapper_call', library=ACQUISITION),
    MergedFrame('publish', native=False, file=f'{SITE}/ZPublisher/WSGIPublisher.py', line=9),
)
STACK = 0x7FFD_0000_8000


def native(function, library):
    return MergedFrame(function, library=library)


def thread(*frames):
    return ThreadState(ident=7, crashed=True, frames=frames or (Frame(VIEW, 3, 'view'),))


def core(*frames, code='SEGV_MAPERR', signal='SIGSEGV', address=0x10, **values):
    """Return a core file of a thread that was in these native frames when it crashed."""
    at = values.pop('code_at', Mapping(0x1000, 0x2000, 'r-x', ETREE))
    return CoreFile(
        **{
            'path': '/var/core',
            'time': STARTED + 70,
            'match': BY_CONTENT,
            'signal': signal,
            'code': code,
            'address': address,
            'program_counter': 0x7F00_0000_1500,
            'stack_pointer': STACK,
            'code_at': at,
            'stack_at': Mapping(STACK - 0x1000, STACK + 0x9000, 'rw-'),
            'threads': (CoreThread(7, crashed=True, frames=(*HANDLER, *frames, *OUTER)),),
            **values,
        }
    )


def crash(*frames, verdict='crashed', signal='SIGSEGV', **values):
    """Return the record of a crash; with native frames it has a core file."""
    if frames:
        values.setdefault('core', core(*frames, signal=signal))
    return record(
        values.pop('number', 0),
        verdict,
        **{
            'signal': signal,
            'threads': (thread(),),
            'shared_objects': OBJECTS,
            'compiled_modules': tuple(name for each in OBJECTS for name in each.modules),
            'fatal': FatalError('signal', 'Segmentation fault', names_thread=True, is_whole=True),
            **values,
        },
    )
