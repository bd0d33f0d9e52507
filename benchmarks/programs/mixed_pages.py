"""The pages of a busy day, for a soak test; zopekit publishes each function at the root."""

import time

from BTrees.Length import Length
from ZODB.POSException import ConflictError

from Products.PageTemplates.PageTemplate import PageTemplate

_SHOP = """<html><body><h1 tal:content="options/title">Title</h1>
<table><tr tal:repeat="row options/rows"><td tal:content="repeat/row/number">1</td>
<td tal:content="row">goods</td></tr>
</table></body></html>"""
_template = []


def plain(self):
    return 'plain'


def shop(self):
    """Render a page template."""
    if not _template:
        template = PageTemplate()
        template.pt_edit(_SHOP, 'text/html')
        _template.append(template)
    return _template[0](title='Goods', rows=['goods <&>'] * 20)


def order(self, REQUEST):
    """Handle a form."""
    return f'{len(REQUEST.form["goods"])} goods, {REQUEST.form["words"][:10]}'


def count(self):
    """Write to the database."""
    root = self._p_jar.root()
    if 'visits' not in root:
        root['visits'] = Length()
    root['visits'].change(1)
    return 'counted'


def conflict(self, REQUEST):
    """Raise a conflict, and succeed when the request is retried."""
    if not REQUEST.retry_count:
        raise ConflictError('another transaction was first')
    return 'at last'


def broken(self):
    return {}['no such key']


def stream(self, REQUEST):
    """Write the answer in pieces while the request is published."""
    REQUEST.RESPONSE.setHeader('Content-Length', '40000')
    for _ in range(10):
        REQUEST.RESPONSE.write(b'x' * 4000)


def slow(self):
    time.sleep(0.4)
    return 'at last'
