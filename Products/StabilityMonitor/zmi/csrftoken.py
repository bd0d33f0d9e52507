"""Protection against forged requests: a form must come from this product, for the same user.

Zope has no CSRF token.  The token of this product is an HMAC over user and action, with a key that
all processes of a data directory share.  If the browser says which site sent the form, that is
checked too.
"""

# mypy: disable-error-code="import-untyped"
# Zope and its packages have no type annotations.

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
from ..store.regularfiles import Folder
from ..store.regularfiles import opened
from ..store.regularfiles import own_user
from ..store.rundirectory import RUN_NAME
from .forms import variable
from .zopetypes import Request

KEY_FILE = 'token.key'
KEY_SIZE = 32  # bytes
#: The key that is used when the data directory cannot be written.  Forms then work in this process
#: only.
_own_key = secrets.token_bytes(KEY_SIZE)
_DEFAULT_PORTS = {'http': 80, 'https': 443}
#: Host and port.
_Place: TypeAlias = tuple[str, int | None]


def key(directory: Path, mode: int = 0o600) -> bytes:
    """Return the key of a data directory.  If it is missing, the first process makes it.

    A key that another user made is not used: with it, that user could forge requests.
    """
    with contextlib.suppress(OSError), opened(directory) as folder:
        if not folder.has(KEY_FILE):
            _make(folder, mode)
        with open(folder.open(KEY_FILE), 'rb') as file:
            owner = os.fstat(file.fileno()).st_uid
            found = file.read(KEY_SIZE + 1)
        if owner in (0, own_user()) and len(found) == KEY_SIZE:
            return found
    return _own_key


def _make(folder: Folder, mode: int) -> None:
    """Write a new key to a temporary file, then link it to `KEY_FILE`.

    Unlike a rename, a link never replaces the key that another process made meanwhile.
    """
    beside = Folder.beside(KEY_FILE)
    try:
        with open(folder.create(beside, mode), 'wb') as new:
            new.write(secrets.token_bytes(KEY_SIZE))
        with contextlib.suppress(FileExistsError):
            folder.link(beside, KEY_FILE)
    finally:
        folder.discard(beside)


def make(secret: bytes, user: str, action: str) -> str:
    """Return the token that lets `user` do `action`."""
    # The length marks the end of the user name, so two different pairs of user and action never
    # give the same message.
    message = f'{len(user)}:{user}:{action}'.encode('utf-8', 'surrogatepass')
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def fields(life: ILivingRun, action: str) -> dict[str, str]:
    """Return the hidden fields of a form: the token, and the run of this process."""
    return {'token': make(key(life.path), current_user(), action), 'run': life.name}


def check(request: Request, life: ILivingRun, action: str) -> None:
    """Raise Forbidden for a forged request, WrongProcess for a form of another process."""
    if request.get('REQUEST_METHOD') != 'POST':
        raise Forbidden('This action needs a form that is sent with POST.')
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
            'This form does not come from a page of this site, or it is too old. Reload the page.'
        )


def refuse_cross_site(request: Request) -> None:
    """Raise Forbidden if the browser says that another site sent the form."""
    site = request.get_header('Sec-Fetch-Site')
    if site and site not in ('same-origin', 'none'):
        raise Forbidden('This form was sent from another site.')
    origin = request.get_header('Origin')
    if origin and _place(origin) not in _own_places(request):
        raise Forbidden('This form was sent from another site.')


def _own_places(request: Request) -> set[_Place | None]:
    """Return the origins that a page of this site can have.

    They are the host that the browser asked for, and the host that virtual hosting put in its
    place.
    """
    asked = request.get_header('Host') or ''
    urls = (request.get('SERVER_URL') or '', f'http://{asked}', f'https://{asked}')
    return {_place(url) for url in urls} - {None}


def _place(url: str) -> _Place | None:
    """Return host and port of a URL; None if it is not a URL, for example the origin "null"."""
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
    """Return the path of the user folder and the id of the user who is logged in.

    The path is part of it because the same name in another user folder is another user.
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
