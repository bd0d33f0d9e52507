"""Protection against forged requests: a form counts only if this product made it for this user.

Zope has no CSRF token.  Ours is an HMAC over user and action, with a key that all processes of a
data directory share.  Where the browser says which site sent the form, that is checked too.
"""

# mypy: disable-error-code="import-untyped"
# Zope and what comes with it has no types.

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from AccessControl import getSecurityManager
from Acquisition import aq_parent
from zExceptions import Forbidden

from ..model.errors import WrongProcess
from ..model.interfaces import ILivingRun
from ..store.regularfiles import read_whole
from ..store.rundirectory import RUN_NAME
from .forms import variable
from .zopetypes import Request

KEY_FILE = 'token.key'
KEY_SIZE = 32  # bytes
#: The key where the data directory cannot be written: forms then work in this process only.
_own_key = secrets.token_bytes(KEY_SIZE)
_DEFAULT_PORTS = {'http': 80, 'https': 443}
#: Host and port.
_Place: TypeAlias = tuple[str, int | None]


def key(directory: Path, mode: int = 0o600) -> bytes:
    """The key of a data directory.  It is made if there is none; the first process wins."""
    file = directory / KEY_FILE
    with contextlib.suppress(OSError):
        if not os.path.lexists(file):
            _make(file, mode)
        found = read_whole(file, KEY_SIZE)
        if len(found) == KEY_SIZE:
            return found
    return _own_key


def _make(file: Path, mode: int) -> None:
    """Write a new key beside the file, then link it: unlike a rename, a link never replaces the key
    of another process.
    """
    beside = file.with_name(f'.{file.name}.{os.getpid()}.{secrets.token_hex(4)}')
    try:
        descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        with open(descriptor, 'wb') as new:
            new.write(secrets.token_bytes(KEY_SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def make(secret: bytes, user: str, action: str) -> str:
    """The token that lets `user` do `action`."""
    # The length says where the user ends, so that no other user and action give the same message.
    message = f'{len(user)}:{user}:{action}'.encode('utf-8', 'surrogatepass')
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def fields(life: ILivingRun, action: str) -> dict[str, str]:
    """The hidden fields of every form: the token, and the run of the process that made the form."""
    return {'token': make(key(life.path), current_user(), action), 'run': life.name}


def check(request: Request, life: ILivingRun, action: str) -> None:
    """Raises Forbidden for a forged request, WrongProcess for a form of another process."""
    if request.get('REQUEST_METHOD') != 'POST':
        raise Forbidden('Only a form can do this.')
    refuse_cross_site(request)
    token = variable(request.form, 'token')
    run = variable(request.form, 'run')
    if token and RUN_NAME.fullmatch(run) and run != life.name:
        raise WrongProcess(
            f'This form was made by the process {run}, but reached the process {life.name}.'
        )
    expected = make(key(life.path), current_user(), action).encode()
    sent = token.encode('utf-8', 'replace')
    if run != life.name or not hmac.compare_digest(sent, expected):
        raise Forbidden(
            'This form does not come from a page of this site, or is too old: reload the page.'
        )


def refuse_cross_site(request: Request) -> None:
    """Raises Forbidden when the browser says that another site sent this."""
    site = request.get_header('Sec-Fetch-Site')
    if site and site not in ('same-origin', 'none'):
        raise Forbidden('This form was sent from another site.')
    origin = request.get_header('Origin')
    if origin and _place(origin) not in _own_places(request):
        raise Forbidden('This form was sent from another site.')


def _own_places(request: Request) -> set[_Place | None]:
    """The places that a page of this site may come from, for the browser: the host that it asked
    for, and the one that virtual hosting has put in its place.
    """
    asked = request.get_header('Host') or ''
    urls = (request.get('SERVER_URL') or '', f'http://{asked}', f'https://{asked}')
    return {_place(url) for url in urls} - {None}


def _place(url: str) -> _Place | None:
    """The host and port of a URL; None for what is no URL, such as the origin "null"."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        return None
    if not host:
        return None
    return host, port or _DEFAULT_PORTS.get(parts.scheme)


def current_user() -> str:
    """The user who is logged in, with the path of the user folder: the same name in another folder
    is another user.
    """
    user = getSecurityManager().getUser()
    if user is None:
        return ''
    folder = aq_parent(user)
    path = ()
    if hasattr(folder, 'getPhysicalPath'):
        path = folder.getPhysicalPath()
    name = user.getId() or user.getUserName()
    return '/'.join((*path, str(name)))
