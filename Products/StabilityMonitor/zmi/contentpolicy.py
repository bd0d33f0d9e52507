"""Headers that say what a browser may do with a page, a picture or a download of this product.

A Content-Security-Policy is the second line of defence: should foreign text ever get into a page
unescaped, the browser still runs nothing of it.

The pages stand in Zope's own frame.  It was measured with Zope 5.14.2 and 6.3: it needs scripts,
styles and fonts of this site, icons in `data:` addresses of its style sheets, one inline script in
its footer and one inline handler in its navigation bar.  The last two are allowed by their SHA-256,
so that no page needs 'unsafe-inline'.  No inline style is needed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import re
from collections.abc import Iterable

from .zopetypes import Request
from .zopetypes import Response
from .zopetypes import Template

#: For downloads, and for pictures, which a browser may also open as a page.
NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"
_PAGE = (
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'",  # the ZMI is a set of frames
)
_SCRIPT = re.compile(r'<script>(.*?)</script>', re.DOTALL)
#: Handlers that do not depend on the request.
_HANDLER = re.compile(r'\son\w+="([^"<]*)"')
#: An address that cannot end the string of the script that Zope's footer writes it into.
_HARMLESS_ADDRESS = re.compile(r'[A-Za-z0-9\[\]:/.%_~+@-]*')
_UNSAFE_IN_NAMES = re.compile(r'[^A-Za-z0-9._-]+')
_MOST_OF_A_NAME = 120


def of_page(footer: str, navigation_bar: Template, request: Request) -> str:
    """Return the policy of a page.

    `footer` is the rendered footer of Zope's frame, '' if the page has no frame.  The handlers of
    the navigation bar are read from its source, because it also shows the name of the user.
    """
    inline: list[str] = []
    if footer:
        inline += _handlers(navigation_bar)
        # Zope does not quote the address, and a request can choose its host name.
        if _HARMLESS_ADDRESS.fullmatch(request['URL']):
            inline += _SCRIPT.findall(footer)
    return '; '.join((*_PAGE, _scripts(inline)))


def _scripts(inline: Iterable[str]) -> str:
    sources = ["script-src 'self'"]
    for code in inline:
        digest = hashlib.sha256(code.encode('utf-8', 'replace')).digest()
        sources.append(f"'sha256-{base64.b64encode(digest).decode()}'")
    if len(sources) > 1:
        sources.append("'unsafe-hashes'")  # handlers too, but none without its hash
    return ' '.join(sources)


def _handlers(navigation_bar: Template) -> tuple[str, ...]:
    """Return the inline handlers of Zope's navigation bar; none if a site has replaced the bar."""
    file = getattr(navigation_bar, 'raw', None)
    if not isinstance(file, str):
        return ()
    return _handlers_of_file(file)


@functools.cache
def _handlers_of_file(file: str) -> tuple[str, ...]:
    try:
        with open(file, encoding='utf-8') as opened:
            source = opened.read()
    except (OSError, ValueError):
        return ()
    return tuple(html.unescape(code) for code in _HANDLER.findall(source))


def send(response: Response, policy: str) -> None:
    """Set the policy.  One that the site has set for this answer stays, and both are in force.

    A proxy or a middleware that sets its own later replaces or adds it, as it does for any page.
    """
    response.appendHeader('Content-Security-Policy', policy)
    response.setHeader('X-Content-Type-Options', 'nosniff')


def file_name(name: str) -> str:
    """Return a name for a download, of safe ASCII characters whatever a record says.

    So it needs no quoting in the header, on a shell, or on the disk of the user.
    """
    safe = _UNSAFE_IN_NAMES.sub('_', name).lstrip('.-')
    stem, dot, extension = safe.rpartition('.')
    kept = stem[: _MOST_OF_A_NAME - len(extension) - 1] + dot + extension
    return kept[:_MOST_OF_A_NAME] or 'download'
