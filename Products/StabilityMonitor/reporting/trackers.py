"""Where a report is filed, and the address that opens a new issue there, filled in.

The tracker is that of the option `tracker-url`, else that of the suspect, by the metadata of its
distribution, else Zope's.  Nothing is sent from here: a person opens the address.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import quote
from urllib.parse import urlsplit

from ..model.suspects import Suspect

ZOPE = 'https://github.com/zopefoundation/Zope/issues'
#: The longest address, in bytes: that which servers and browsers accept everywhere.
MOST = 8000
#: Suspects that are this weak are guesses: their maintainers are not bothered.
_GUESS = 'weak'
#: Labels of the address of a tracker in the metadata of a distribution, without case and
#: punctuation; see packaging.python.org, "Well-known Project URLs in Metadata".
_LABELS = frozenset(
    'issues issue issuetracker tracker bugtracker bugs bugreports bugreport '
    'issuestracker reportissues'.split()
)
#: And of the address of its code, whose hosts have a tracker beside it.
_CODE_LABELS = frozenset('source repository sourcecode github code homepage'.split())
#: What may follow the address of a repository, in this order from the end.
_AFTER_REPOSITORY = ('/new', '/issues', '/-', '.git')
#: A text that was cut ends so.
_CUT = '\n\n(Cut here. The full text is in the clipboard: please paste it.)'
_FENCE = '```'


@dataclass(frozen=True)
class Tracker:
    """`address` is that of the list of issues; `why` says in a sentence why it is this one."""

    address: str
    why: str


@dataclass(frozen=True)
class _Form:
    """How a kind of tracker is filled in: `new` follows the address of its repository."""

    new: str
    title: str
    body: str


_GITHUB = _Form('/issues/new', 'title', 'body')  # also Gitea and Forgejo
_GITLAB = _Form('/-/issues/new', 'issue[title]', 'issue[description]')
_LAUNCHPAD = _Form('/+filebug', 'field.title', 'field.comment')
_PLAIN = _Form('', 'title', 'body')

#: {how the name of a host begins: form}
_HOSTS = {
    'github.': _GITHUB,
    'gitlab.': _GITLAB,
    'codeberg.': _GITHUB,
    'bugs.launchpad.': _LAUNCHPAD,
}


def urls_of(distribution: str) -> tuple[tuple[str, str], ...]:
    """Return the (label, address) that the metadata of an installed distribution names."""
    try:
        found = metadata.metadata(distribution)
    except (metadata.PackageNotFoundError, ValueError, OSError):
        return ()
    rows = [('homepage', address) for address in found.get_all('Home-page') or ()]
    for line in found.get_all('Project-URL') or ():
        label, _, address = line.partition(',')
        rows.append((label.strip(), address.strip()))
    return tuple(rows)


def tracker_of(
    option: str,
    suspects: Iterable[Suspect] = (),
    urls: Callable[[str], tuple[tuple[str, str], ...]] = urls_of,
) -> Tracker:
    """Return where to file: `option` is the value of `tracker-url`, '' if it is not set."""
    if option:
        return Tracker(option, 'The option "tracker-url" names it.')
    for suspect in suspects:
        if suspect.strength == _GUESS or not suspect.distribution:
            continue
        address = _in_metadata(urls(suspect.distribution))
        if address:
            why = f'It is that of {suspect.distribution}, the first suspect ({suspect.strength}).'
            return Tracker(address, why)
        break  # the maintainers of a weaker suspect are not asked
    return Tracker(ZOPE, "It is Zope's: nothing points to another distribution with a tracker.")


def _in_metadata(urls: Iterable[tuple[str, str]]) -> str:
    known = [(_plain(label), address) for label, address in urls if _is_web(address)]
    for label, address in known:
        if label in _LABELS:
            return address
    for label, address in known:
        host = urlsplit(address).hostname or ''
        if label in _CODE_LABELS and host.startswith(('github.', 'gitlab.', 'codeberg.')):
            return f'{address.rstrip("/").removesuffix(".git")}/issues'
    return ''


def _plain(label: str) -> str:
    return re.sub(r'[^a-z]', '', label.lower())


def _is_web(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ('https', 'http') and bool(parts.hostname)


def new_issue(tracker: Tracker, title: str, body: str, most: int = MOST) -> str:
    """Return the address of a new issue with its title and body, of at most `most` bytes.

    A body that is too long is cut at the end of a line, and says so.  "{title}" and "{body}" in
    the option stand for them; other trackers get them as parameters, by the name of their host.
    '' if the address of the tracker is none of the web.
    """
    if not _is_web(tracker.address):
        return ''
    template = _template(tracker.address)
    room = most - len(template.format(title=quote(title, safe=''), body='').encode())
    return template.format(title=quote(title, safe=''), body=_quoted(body, room))


def _template(address: str) -> str:
    """Return the address with "{title}" and "{body}" in it, and all other braces doubled."""
    marked = address.replace('{', '{{').replace('}', '}}')
    if '{title}' in address or '{body}' in address:
        return marked.replace('{{title}}', '{title}').replace('{{body}}', '{body}')
    host = urlsplit(address).hostname or ''
    form = next((form for start, form in _HOSTS.items() if host.startswith(start)), _PLAIN)
    if form.new:
        marked = f'{_repository(marked)}{form.new}'
    joint = '&' if '?' in marked else '?'
    names = [quote(name, safe='[].') for name in (form.title, form.body)]
    return f'{marked}{joint}{names[0]}={{title}}&{names[1]}={{body}}'


def _repository(address: str) -> str:
    base = address.partition('?')[0].partition('#')[0].rstrip('/')
    for end in _AFTER_REPOSITORY:
        base = base.removesuffix(end)
    return base


def _quoted(body: str, room: int) -> str:
    """Return a body for an address, cut at the end of a line if it needs more bytes than `room`."""
    whole = quote(body, safe='')
    if len(whole) <= room:
        return whole
    # A block of code that is open is closed, or else the note would be in it.
    room -= len(quote(f'\n{_FENCE}{_CUT}', safe=''))
    kept: list[str] = []
    for line in body.split('\n'):
        room -= len(quote(f'{line}\n', safe=''))
        if room < 0:
            break
        kept.append(line)
    text = '\n'.join(kept)
    if sum(line.startswith(_FENCE) for line in kept) % 2:
        text += f'\n{_FENCE}'
    return quote(f'{text}{_CUT}', safe='')
