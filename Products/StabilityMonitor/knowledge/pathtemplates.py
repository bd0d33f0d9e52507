"""Templates of paths: `/orders/4711/pdf` is `/orders/*/pdf`.  Text in, text out."""

from __future__ import annotations

import re

#: At most this many segments of a path are kept; what is below is one more `*`.
_SEGMENTS = 12
#: What a virtual host puts into a path, see Products.SiteAccess.VirtualHostMonster: the scheme and
#: the host before the site, and `VirtualHostRoot` with `_vh_` segments after it.
_VIRTUAL_HOST = re.compile(r'^/+VirtualHostBase/[^/]+/[^/]+')
_VIRTUAL_ROOT = re.compile(r'/VirtualHostRoot(?:/_vh_[^/]*)*(?=/|$)')
#: What separates the words of a segment.
_WORDS = re.compile(r'([-._+~,;:=@ ]+)')
_UUID = re.compile(r'(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.IGNORECASE)
_DIGITS = re.compile(r'\d+', re.ASCII)
_HEX = re.compile(r'(?=[a-f]*\d)[0-9a-f]{8,}', re.ASCII | re.IGNORECASE)
#: A word as programs make it: long, with letters and digits.
_TOKEN = re.compile(r'(?=\D*\d)(?=.*[A-Za-z])\w{16,}', re.ASCII)


def template(path: str) -> str:
    """Return a path with `*` in place of what looks like an id; '' for an empty path.

    An id is a number, hex digits, or a long word of letters and digits, also as a part of a
    segment between "-", "." and the like.  A segment with an e-mail address is an id.  Names that
    people have given, as those of pages, cannot be told from those of programs, and are kept.
    """
    path = _VIRTUAL_ROOT.sub('', _VIRTUAL_HOST.sub('', path.partition('?')[0]))
    segments = [segment for segment in path.split('/') if segment]
    found = [_segment(segment) for segment in segments[:_SEGMENTS]]
    if len(segments) > _SEGMENTS:
        found.append('*')
    if not found:
        return '/' if path else ''
    return '/' + '/'.join(found)


def _segment(segment: str) -> str:
    if segment.startswith(('@@', '++')):  # a view or a namespace of Zope
        head, tail = segment[:2], segment[2:]
        return head + _segment(tail) if tail else head
    if '@' in segment:
        return '*'
    words = _WORDS.split(_UUID.sub('*', segment))
    if not any(_is_id(word) for word in words):
        return segment
    text = ''.join('*' if _is_id(word) else word for word in words)
    return re.sub(r'\*(?:[-._+~,;:= ]+\*)+', '*', text)


def _is_id(word: str) -> bool:
    return word == '*' or any(kind.fullmatch(word) for kind in (_DIGITS, _HEX, _TOKEN))
