"""The formats of a report, and the one function that renders it as bytes."""

from __future__ import annotations

from collections.abc import Callable

from ..model.errors import UnknownFormat
from .fromdisk import Document
from .htmlreport import as_html
from .jsonreport import as_json
from .markdownreport import as_markdown
from .redaction import EVERYTHING
from .redaction import KEY
from .redaction import Policy
from .redaction import redacted
from .textreport import as_text
from .zipreport import as_zip


def render(report: Document, format: str, policy: Policy = EVERYTHING) -> tuple[str, str, bytes]:
    """Return (file name, content type, bytes) of a report that may leave the site: without what the
    policy names.  A report that was redacted before stays as it is.  Raises UnknownFormat.
    """
    if format not in FORMATS:
        raise UnknownFormat(f'There is no report format {format!r}.')
    content_type, extension, function = FORMATS[format]
    if report.get('incident'):
        subject = report['incident']['run']
    elif report.get('snapshot'):
        subject = f'snapshot-{report["snapshot"]["id"]}'
    else:
        subject = report['generated'].replace(':', '')
    file_name = f'stability-{subject}.{extension}'
    if KEY not in report:
        report, _ = redacted(report, policy)
    return file_name, content_type, function(report)


#: {format: (content type, extension of the file, renderer)}
FORMATS: dict[str, tuple[str, str, Callable[[Document], bytes]]] = {
    'text': ('text/plain; charset=utf-8', 'txt', as_text),
    'markdown': ('text/markdown; charset=utf-8', 'md', as_markdown),
    'json': ('application/json', 'json', as_json),
    'html': ('text/html; charset=utf-8', 'html', as_html),
    'zip': ('application/zip', 'zip', as_zip),
}
