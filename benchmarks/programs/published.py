"""A Zope that answers requests as fast as possible, with a monitor switched on and off batch by
batch.

    published.py ZOPE_CONF none|stabilitymonitor|begin-and-end|haufe.requestmonitoring|sentry-sdk

It runs in an environment of its own.  It says "ready"; it answers each line "BATCHES REQUESTS" with
a line of JSON: [nanoseconds per request of the fastest batch with the monitor, of the fastest batch
without].  This is CPU time of the thread that answers, which other processes disturb less than the
wall-clock time.
"""

import gc
import io
import json
import sys
import time
from types import SimpleNamespace

PAGES = 100
#: Requests before each batch: after a change, the registry of Zope looks up all handlers again.
WARM = 50


def stabilitymonitor():
    """Zope's product scan finds the product; its configure.zcml registers the subscribers."""
    from zope.component import getGlobalSiteManager

    from Products.StabilityMonitor.recording.arming import STATE

    assert STATE.recorder is not None, 'nothing is recorded'
    return [
        (r.handler, r.required)
        for r in getGlobalSiteManager().registeredHandlers()
        if r.handler.__module__.startswith('Products.StabilityMonitor')
    ]


def begin_and_end():
    """Keep only our subscribers for what the other monitors record too; the rest is removed for
    good.
    """
    from zope.component import getGlobalSiteManager

    ours = stabilitymonitor()
    kept = [
        (handler, required)
        for handler, required in ours
        if handler.__name__ in ('request_begins', 'request_ends')
    ]
    for other in ours:
        if other not in kept:
            getGlobalSiteManager().unregisterHandler(*other)
    return kept


def haufe():
    """Register the monitor as its monitor.zcml and `start_monitor` do."""
    from haufe.requestmonitoring import info
    from haufe.requestmonitoring import monitor
    from zope.component import provideAdapter

    provideAdapter(info.get_or_make_ticket)
    provideAdapter(info.info)
    monitor.start_new_thread(
        monitor._Monitor(SimpleNamespace(period=10, verbosity=0, handlers=[])).run, ()
    )
    return [(monitor.handle_request_start, None), (monitor.handle_request_end, None)]


class Handlers:
    """Subscribers of Zope's events, which can be removed and restored."""

    def __init__(self, handlers, app):
        from zope.component import getGlobalSiteManager

        self.registry, self.handlers, self.app = getGlobalSiteManager(), handlers, app
        self.on, self.off = self._on, self._off
        self._off()

    def _on(self):
        for handler, required in self.handlers:
            self.registry.registerHandler(handler, required)
        return self.app

    def _off(self):
        for handler, required in self.handlers:
            self.registry.unregisterHandler(handler, required)
        return self.app


def sentry(app):
    import sentry_sdk
    from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware

    sentry_sdk.init(dsn='http://key@127.0.0.1:9/1')
    wrapped = SentryWsgiMiddleware(app)
    return SimpleNamespace(on=lambda: wrapped, off=lambda: app)


def switch(monitor, app):
    if monitor == 'sentry-sdk':
        return sentry(app)
    return Handlers(
        {
            'none': list,
            'stabilitymonitor': stabilitymonitor,
            'begin-and-end': begin_and_end,
            'haufe.requestmonitoring': haufe,
        }[monitor](),
        app,
    )


def publish_pages():
    from OFS.Application import Application
    from ZPublisher import zpublish

    def page(self):
        return 'A page.'

    for number in range(PAGES):
        setattr(Application, f'page{number:03}', zpublish(page))
        setattr(Application, f'page{number:03}__roles__', None)


def environs():
    return [
        {
            'REQUEST_METHOD': 'GET',
            'PATH_INFO': f'/page{number:03}',
            'SCRIPT_NAME': '',
            'QUERY_STRING': '',
            'SERVER_NAME': '127.0.0.1',
            'SERVER_PORT': '8080',
            'SERVER_PROTOCOL': 'HTTP/1.1',
            'HTTP_HOST': 'localhost',
            'REMOTE_ADDR': '127.0.0.1',
            'HTTP_USER_AGENT': 'benchmark',
            'wsgi.url_scheme': 'http',
            'wsgi.version': (1, 0),
            'wsgi.errors': sys.stderr,
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
        }
        for number in range(PAGES)
    ]


def batch(app, requests, templates):
    ready = [
        dict(templates[n % PAGES], **{'wsgi.input': io.BytesIO()}) for n in range(WARM + requests)
    ]
    statuses = []

    def start_response(status, headers, exc_info=None):
        statuses.append(status)

    for environ in ready[:WARM]:
        app(environ, start_response)
    begun = time.thread_time_ns()
    for environ in ready[WARM:]:
        answer = app(environ, start_response)
        for _ in answer:
            pass
        if hasattr(answer, 'close'):
            answer.close()
    took = time.thread_time_ns() - begun
    assert set(statuses) == {'200 OK'} and len(statuses) == len(ready), set(statuses)
    return took / requests


def main(zope_conf, monitor):
    from Zope2.Startup.run import make_wsgi_app

    app = make_wsgi_app({}, zope_conf)
    publish_pages()
    monitored, templates = switch(monitor, app), environs()
    print('ready', flush=True)
    for line in sys.stdin:
        batches, requests = map(int, line.split())
        gc.collect()
        times = {'on': [], 'off': []}
        for number in range(2 * batches):
            state = ('on', 'off', 'off', 'on')[number % 4]
            times[state].append(batch(getattr(monitored, state)(), requests, templates))
            if state == 'on':
                monitored.off()
        print(json.dumps([min(times['on']), min(times['off'])]), flush=True)


main(*sys.argv[1:])
