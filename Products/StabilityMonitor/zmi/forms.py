"""What a form sends, and what the page that follows it is told.  A browser may send anything."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode


def variable(form: dict[str, Any], name: str) -> str:
    """A form variable that is one string; '' for whatever else was sent."""
    value = form.get(name)
    return value if isinstance(value, str) else ''


def message_query(message: str, kind: str) -> str:
    """The query string that makes a page of the ZMI show a message; '' for none.

    `kind` is one of Bootstrap's colours, such as "success" or "warning".
    """
    if not message:
        return ''
    return '?' + urlencode({'manage_tabs_message': message, 'manage_tabs_type': kind})
