"""The report as JSON, for programs."""

from __future__ import annotations

from zope.interface import provider

from ..model.interfaces import IRenderer
from ..model.plaintext import json_text
from .fromdisk import Document


@provider(IRenderer)
def as_json(report: Document) -> bytes:
    """See IRenderer.  Each key, and each item of a list, is on its own line.

    `json.dumps` with `indent` would look better, but is twenty times slower.
    """
    lines = []
    for key, value in report.items():
        if isinstance(value, list | tuple) and value:
            items = ',\n '.join(map(json_text, value))
            text = f'[\n {items}\n]'
        else:
            text = json_text(value)
        lines.append(f'{json_text(key)}: {text}')
    keys = ',\n'.join(lines)
    return f'{{\n{keys}\n}}\n'.encode('utf-8', 'backslashreplace')
