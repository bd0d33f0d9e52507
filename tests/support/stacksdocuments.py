"""A stacks document as of a busy site with a deadlock; tests change what they need."""

NOW = 1_795_400_034.0
SITE = '/srv/zope/src/shop/views.py'
LIB = '/usr/lib/python3.11'
INSTALLED = '/srv/zope/lib/python3.11/site-packages'


def frame(file, line, function):
    return {'file': file, 'line': line, 'function': function}


CARRIED = [
    frame(f'{INSTALLED}/ZPublisher/mapply.py', 85, 'mapply'),
    frame(f'{INSTALLED}/ZPublisher/WSGIPublisher.py', 404, 'publish'),
    frame(f'{INSTALLED}/ZPublisher/WSGIPublisher.py', 298, 'publish_module'),
    frame(f'{INSTALLED}/paste/translogger.py', 69, '__call__'),
    frame(f'{INSTALLED}/waitress/task.py', 440, 'execute'),
    frame(f'{INSTALLED}/waitress/task.py', 168, 'service'),
    frame(f'{INSTALLED}/waitress/task.py', 84, 'handler_thread'),
    frame(f'{LIB}/threading.py', 982, 'run'),
    frame(f'{LIB}/threading.py', 1045, '_bootstrap_inner'),
    frame(f'{LIB}/threading.py', 1002, '_bootstrap'),
]
IDLE = [frame(f'{LIB}/threading.py', 327, 'wait'), *CARRIED[-4:]]


def request(number, path, seconds, method='GET', phase='publishing'):
    return {
        'number': number,
        'method': method,
        'path': path,
        'started': NOW - seconds,
        'seconds': seconds,
        'phase': phase,
    }


def thread(number, **values):
    return {
        'ident': 0x7F00_0000_0000 + number,
        'native_id': 1000 + number,
        'name': f'waitress-{number}',
        'kind': 'worker',
        'activity': 'idle',
        'detail': '',
        'frames': IDLE,
        'cpu': 0.0,
        'cpu_seconds': 10.0,
        'request': None,
        'stack_size': 8 << 20,
        'stack_used': 120 << 10,
        'holders': [],
        **values,
    }


_TOP = [[SITE, 'cheapest'], [SITE, 'prices']]
_BELOW = [[f['file'], f['function']] for f in CARRIED]
#: The stacks of a slow request, in the form of `StackCounts.stacks`.
STACKS = [
    [[*_TOP, *_BELOW], 21],
    [
        [
            [f'{LIB}/json/decoder.py', 'raw_decode'],
            [f'{LIB}/json/decoder.py', 'decode'],
            [f'{LIB}/json/__init__.py', 'loads'],
            *_TOP[1:],
            *_BELOW,
        ],
        9,
    ],
]


def profile(number, path, seconds, ended=None):
    return {
        'number': number,
        'ident': 0x7F00_0000_0003,
        'method': 'GET',
        'path': path,
        'started': NOW - seconds,
        'seconds': seconds,
        'ended': ended,
        'samples': 30,
        'frames': [frame(SITE, 12, 'cheapest')],
        'shares': [
            {'file': SITE, 'function': 'cheapest', 'own': 0.7, 'within': 0.7},
            {'file': f'{LIB}/json/decoder.py', 'function': 'raw_decode', 'own': 0.3, 'within': 0.3},
            {'file': SITE, 'function': 'prices', 'own': 0.0, 'within': 1.0},
        ],
        'different_stacks': 2,
    }


def document(**values):
    """Two requests that wait for each other's locks, one that computes, a spinning MainThread, and
    idle threads.
    """
    site = [frame(SITE, 31, 'checkout'), *CARRIED]
    return {
        'time': NOW,
        'threads': [
            thread(
                0,
                activity='lock',
                detail='LOCK_B at shop/views.py:31, which waitress-1 holds',
                frames=site,
                request=request(7, '/shop/checkout', 34.2, 'POST'),
                holders=[0x7F00_0000_0001],
            ),
            thread(
                1,
                activity='lock',
                detail='LOCK_A at shop/views.py:52, which waitress-0 holds',
                frames=site,
                request=request(8, '/shop/stock', 33.9),
                holders=[0x7F00_0000_0000],
            ),
            thread(2),
            thread(4),
            thread(
                3,
                activity='running',
                detail='99% of one CPU',
                cpu=0.99,
                stack_used=(7 << 20) + 5000,
                frames=[frame(SITE, 12, 'cheapest'), frame(SITE, 9, 'prices'), *CARRIED],
                request=request(9, '/shop/prices?sort=cheapest', 12.5),
            ),
            thread(
                8,
                name='MainThread',
                kind='main',
                activity='running',
                cpu=1.0,
                detail='100% of one CPU',
                frames=[
                    frame(f'{INSTALLED}/waitress/wasyncore.py', 180, 'poll2'),
                    frame(f'{INSTALLED}/waitress/server.py', 321, 'run'),
                ],
            ),
            thread(9, name='StabilityMonitor heartbeat', kind='monitor', activity='idle'),
            {
                **thread(10, name='grpc_poller', kind='other', activity='native', frames=[]),
                'ident': 0,
                'cpu': None,
                'stack_size': 0,
            },
        ],
        'slow': [
            profile(9, '/shop/prices?sort=cheapest', 12.5),
            profile(3, '/shop/report', 95.0, NOW - 60),
        ],
        'hangs': [
            {
                'kind': 'deadlock',
                'started': NOW - 30,
                'ended': None,
                'threads': [0x7F00_0000_0000, 0x7F00_0000_0001],
                'severity': 'warning',
                'summary': 'Deadlock (inferred from the code): POST /shop/checkout (waitress-0) '
                'waits for a lock: lock LOCK_B at '
                'shop/views.py:31 in checkout, held by waitress-1 at shop/views.py:50 in stock; '
                'GET /shop/stock '
                '(waitress-1) waits for a lock: lock LOCK_A at shop/views.py:52 in stock, held '
                'by waitress-0 at '
                'shop/views.py:29 in checkout.',
                'place': None,
                'known': False,
                'cycle': [
                    {
                        'ident': 0x7F00_0000_0000,
                        'name': 'waitress-0',
                        'method': 'POST',
                        'path': '/shop/checkout',
                        'activity': 'lock',
                        'detail': 'lock LOCK_B at shop/views.py:31 in checkout, held by waitress-1 '
                        'at shop/views.py:50 in stock',
                    },
                    {
                        'ident': 0x7F00_0000_0001,
                        'name': 'waitress-1',
                        'method': 'GET',
                        'path': '/shop/stock',
                        'activity': 'lock',
                        'detail': 'lock LOCK_A at shop/views.py:52 in stock, held by waitress-0 '
                        'at shop/views.py:29 in checkout',
                    },
                ],
            },
            {
                'kind': 'hang',
                'started': NOW - 500,
                'ended': NOW - 400,
                'summary': 'All 4 workers have been '
                'busy with requests for longer than 60 s: each of 4 sleeps at shop/views.py:70 '
                'in wait.',
                'threads': [],
                'severity': 'critical',
                'place': frame(SITE, 70, 'wait'),
                'known': None,
                'cycle': [],
            },
        ],
        **values,
    }
