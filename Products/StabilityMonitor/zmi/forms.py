"""Form variables, and the message of the page after a POST.  A browser may send anything."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode


def variable(form: dict[str, Any], name: str) -> str:
    """Return a form variable that is a string; '' if it is missing or has another type."""
    value = form.get(name)
    return value if isinstance(value, str) else ''


def message_query(message: str, kind: str) -> str:
    """Return the query string that makes a page of the ZMI show a message; '' without a message.

    `kind` is one of Bootstrap's colours, such as "success" or "warning".
    """
    if not message:
        return ''
    return '?' + urlencode({'manage_tabs_message': message, 'manage_tabs_type': kind})
