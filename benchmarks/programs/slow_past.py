"""A page that gives its process a past with many slow requests; zopekit publishes it at the
root.
"""

_PATH = '/srv/zope/instance/lib/python3.11/site-packages'
_REQUESTS, _STACKS, _DEPTH, _SAME = 50, 100, 120, 80


def remember_slow_requests(self):
    """Add as many slow requests as are kept, each with as many stacks as are counted; return the
    query for the picture of the newest.
    """
    from Products.StabilityMonitor.recording.arming import STATE

    watch = STATE.life.rounds.slow
    for number in range(1, _REQUESTS + 1):
        watch._end(_profile(number, watch.clock()), watch.clock())
    return f'run={STATE.life.name}&request={_REQUESTS}'


def _profile(number, now):
    import threading
    from types import SimpleNamespace

    from Products.StabilityMonitor.recording.slowrequests import Profile

    thread = SimpleNamespace(ident=threading.get_ident(), native_id=threading.get_native_id())
    profile = Profile(number, thread, ('GET', f'/shop/report-{number}'), now - 100, 30.0)
    profile.noted = 1
    for seconds in range(_STACKS):
        profile.add(_stack(number, seconds), seconds)
    return profile


def _stack(number, seconds):
    from Products.StabilityMonitor.model.records import Frame

    own = (
        Frame(f'{_PATH}/shop/page_{number}.py', n, f'step_{n}_{seconds % 4}')
        for n in range(_DEPTH - _SAME)
    )
    carriers = (Frame(f'{_PATH}/ZPublisher/part_{n}.py', n, f'carries_{n}') for n in range(_SAME))
    return (*own, *carriers)
