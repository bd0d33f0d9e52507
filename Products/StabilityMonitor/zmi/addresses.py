"""The addresses of pages, relative to the tab."""

from __future__ import annotations

from urllib.parse import urlencode


def of_run(run: str) -> str:
    """Return the URL of the page of a past run."""
    return 'manage_incident?' + urlencode({'run': run})


def of_signature(id: str, **more: str | int) -> str:
    """Return the URL of the page of a signature; `more` are other variables."""
    return 'manage_signature?' + urlencode({'id': id} | more)
