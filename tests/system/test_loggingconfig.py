"""The log files that an .ini file names, as far as they can be known."""

import pytest

from Products.StabilityMonitor.system.loggingconfig import files_in

INI = """
[loggers]
keys = root, wsgi, none
[logger_root]
handlers = console, eventlog
[logger_wsgi]
handlers = accesslog
qualname = wsgi
[handler_console]
class = StreamHandler
args = (sys.stderr,)
[handler_eventlog]
class = handlers.RotatingFileHandler
args = (r'%(here)s/../var/log/event.log', 'a', 1000)
[handler_accesslog]
class = FileHandler
args = ('Z2.log','a')
"""


def test_the_files_of_the_loggers_are_found():
    assert files_in(INI, '/srv/zope/etc/zope.ini') == [
        ('', '/srv/zope/var/log/event.log'),
        ('wsgi', '/srv/zope/etc/Z2.log'),
    ]


@pytest.mark.parametrize(
    'text', ['', '[loggers', '[loggers]\nkeys = root', INI.replace("'a'", '__import__("os")')]
)
def test_what_cannot_be_read_is_left_out(text):
    assert ('wsgi', '/srv/zope/etc/Z2.log') not in files_in(text, '/srv/zope/etc/zope.ini')
