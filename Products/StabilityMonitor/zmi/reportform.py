"""The form of the page "Report": what it asks for, and who files the report.

A browser may send anything: an unknown value means the default, and what is too long is cut.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from urllib.parse import unquote
from urllib.parse import urlencode

from ..model.errors import NoSuchRun
from ..model.errors import NoSuchSignature
from ..model.errors import NoSuchSnapshot
from ..model.interfaces import ILivingRun
from ..reporting.renderers import FORMATS
from ..reporting.reportchoice import MOST_NAME
from ..reporting.reportchoice import MOST_TEXT
from ..reporting.reportchoice import PARTS
from ..reporting.reportchoice import Reporter
from ..store.rundirectory import RUN_NAME
from .forms import variable
from .zopetypes import Request

#: What a report may be about: the parameter that names it.
STATE, RUN, SNAPSHOT, SIGNATURE = 'state', 'run', 'snapshot', 'signature'
#: The format of what is opened in a tracker, and in the clipboard.
FOR_TRACKERS = 'markdown'
#: An address of e-mail, as far as a mistake can be seen.
EMAIL = re.compile(r'[^@\s]+@[^@\s]+')
#: The cookie that holds name and e-mail address in the browser of the person, and its age in s.
_COOKIE = 'stabilitymonitor_reporter'
_COOKIE_AGE = 365 * 24 * 3600
_MOST_COOKIE = 2000  # characters
_SIGNATURE_ID = re.compile(r'~?[0-9a-f]{10}', re.ASCII)
#: Marks that the fields were sent: a box that is not checked is not sent at all.
_SENT = 'sent'


@dataclass(frozen=True)
class About:
    """What a report is about: this process, or what the name stands for."""

    kind: str = STATE
    name: str = ''

    @property
    def value(self) -> str:
        """The value of the choice in the form: "state", "run:<name>", ..."""
        return f'{self.kind}:{self.name}' if self.name else self.kind

    @property
    def query(self) -> str:
        return urlencode({self.kind: self.name} if self.name else {})


@dataclass(frozen=True)
class Wanted:
    """What the form asks for.  `title` is '' for the usual one."""

    about: About
    reporter: Reporter
    parts: tuple[str, ...]
    format: str
    title: str
    remembers: bool


def wanted(life: ILivingRun, request: Request) -> Wanted:
    """Return what a form or an address asks for.

    Raises NoSuchRun, NoSuchSnapshot or NoSuchSignature for what cannot be such a name.
    """
    form = request.form
    is_sent = bool(variable(form, _SENT))
    known = _remembered(request)
    name, email = life.options.support_name, life.options.support_contact
    reporter = Reporter(
        name=_line(form, 'name') if is_sent else known.get('name') or name,
        email=_line(form, 'email') if is_sent else known.get('email') or email,
        did=_text(form, 'did'),
        expected=_text(form, 'expected'),
    )
    format = variable(form, 'format')
    return Wanted(
        about=_about(form),
        reporter=reporter,
        parts=_parts(form) if is_sent else tuple(PARTS),
        format=format if format in FORMATS else FOR_TRACKERS,
        title=_title(form),
        remembers=bool(variable(form, 'remember')) if is_sent else bool(known),
    )


def _about(form: dict[str, Any]) -> About:
    """Return what the choice of the form means, or else the first of the parameters."""
    if form.get('about'):
        kind, _, name = variable(form, 'about').partition(':')
        return _valid(kind, name)
    for kind in (SNAPSHOT, SIGNATURE, RUN):
        if form.get(kind):
            return _valid(kind, form[kind])
    return About()


def _valid(kind: str, name: object) -> About:
    if kind == STATE:
        return About()
    if kind == SIGNATURE:
        if not isinstance(name, str) or not _SIGNATURE_ID.fullmatch(name):
            raise NoSuchSignature('This is not the name of a signature.')
    elif not isinstance(name, str) or not RUN_NAME.fullmatch(name):
        if kind == SNAPSHOT:
            raise NoSuchSnapshot('This is not the name of a snapshot.')
        raise NoSuchRun('This is not the name of a run.')
    if kind not in (RUN, SNAPSHOT, SIGNATURE):
        raise NoSuchRun('This is not the name of a run.')
    return About(kind, name)


def _line(form: dict[str, Any], name: str) -> str:
    return ' '.join(variable(form, name).split())[:MOST_NAME]


def _title(form: dict[str, Any]) -> str:
    """Return the title that a person typed; '' for the one that was suggested.

    That was of what the report was about then.
    """
    title = _line(form, 'title')
    return '' if title == _line(form, 'suggested') else title


def _text(form: dict[str, Any], name: str) -> str:
    return variable(form, name).replace('\r\n', '\n').strip()[:MOST_TEXT]


def _parts(form: dict[str, Any]) -> tuple[str, ...]:
    value = form.get('parts')
    names = [value] if isinstance(value, str) else value
    return tuple(name for name in PARTS if isinstance(names, list) and name in names)


# -- who files it ----------------------------------------------------------------------------------


def _remembered(request: Request) -> dict[str, str]:
    """Return {name, email} as this browser remembers them; {} if it does not."""
    value = request.cookies.get(_COOKIE)
    if not isinstance(value, str) or len(value) > _MOST_COOKIE:
        return {}
    try:
        known = json.loads(unquote(value))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: _line(known, key) for key in ('name', 'email')}


def remember(request: Request, asked: Wanted, path: str) -> None:
    """Let the browser keep or forget name and e-mail address."""
    response = request.RESPONSE
    if asked.remembers:
        value = quote(json.dumps({'name': asked.reporter.name, 'email': asked.reporter.email}))
        if len(value) <= _MOST_COOKIE:
            response.setCookie(
                _COOKIE, value, path=path, max_age=_COOKIE_AGE, http_only=True, same_site='Strict'
            )
    elif request.cookies.get(_COOKIE):
        response.expireCookie(_COOKIE, path=path)


def lacking(reporter: Reporter) -> str:
    """Return what a tracker needs to know, in a sentence; '' if nothing is missing."""
    if not reporter.name or not reporter.email:
        return (
            'Enter your name and your e-mail address first. They are only written into the report.'
        )
    if not EMAIL.fullmatch(reporter.email):
        return f'"{reporter.email}" is not an e-mail address.'
    return ''
