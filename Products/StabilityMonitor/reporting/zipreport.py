"""The report as one ZIP file: all formats, each picture, and each excerpt of a log."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator

from zope.interface import provider

from ..model.interfaces import IRenderer
from ..model.plaintext import clean
from .blocks import Lines
from .blocks import Picture
from .fromdisk import Document
from .htmlreport import as_html
from .jsonreport import as_json
from .markdownreport import as_markdown
from .sections import sections
from .textreport import as_text

#: The time of each file in the archive: the same report makes the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o644 << 16
_NOT_IN_NAMES = re.compile(r'[^a-z0-9]+')
#: The sections whose blocks are files of their own.
_PICTURES, _LOGS = 'vital-signs', 'logs'
#: The most characters of a title in the name of a file.
_NAME = 60


@provider(IRenderer)
def as_zip(report: Document) -> bytes:
    """See IRenderer.  Everything that a report can be, to attach it to a mail."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in _files(report):
            member = zipfile.ZipInfo(name, _TIME)
            member.external_attr = _FILE_MODE
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return content.getvalue()


def _files(report: Document) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content).  No part of a name is foreign but letters and digits."""
    yield 'report.txt', as_text(report)
    yield 'report.md', as_markdown(report)
    yield 'report.html', as_html(report)
    yield 'report.json', as_json(report)
    for section in sections(report).sections:
        for number, block in enumerate(section.blocks, 1):
            if section.id == _PICTURES and isinstance(block, Picture):
                name = _file_name(number, block.title)
                yield f'pictures/{name}.svg', block.svg.encode('utf-8', 'backslashreplace')
            elif section.id == _LOGS and isinstance(block, Lines):
                text = ''.join(f'{clean(line)}\n' for line in block.lines)
                name = _file_name(number, block.title)
                yield f'logs/{name}.txt', text.encode('utf-8', 'backslashreplace')


def _file_name(number: int, title: str) -> str:
    words = _NOT_IN_NAMES.sub('-', title.lower()).strip('-')
    return f'{number}-{words[:_NAME]}'.strip('-')
