"""Where a report is filed, and the address that opens a new issue there, filled in.

The tracker is that of the option `tracker-url`, else that of the suspect, by the metadata of its
distribution, else Zope's.  Nothing is sent from here: a person opens the address.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
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
#: What opens a block of code in Markdown, and a part that is folded, and what ends it.
_FENCE = re.compile('`{3,}')
_FOLDED, _UNFOLDED = '<details>', '</details>'
#: A line that needs more bytes of the address than this is not kept whole or left out, but cut.
_LONG_LINE = 500
#: The title may need this share of the address.
_OF_TITLE = 1 / 4


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

    A body that is too long is cut, at the end of a line if that is no long one, and says so.
    "{title}" and "{body}" in the option stand for them; other trackers get them as parameters, by
    the name of their host.
    '' if the address of the tracker is none of the web.
    """
    if not _is_web(tracker.address):
        return ''
    template = _template(tracker.address)
    left = most - len(template.format(title='', body='').encode())
    title = quote(_beginning(title, min(left, int(most * _OF_TITLE))), safe='')
    room = most - len(template.format(title=title, body='').encode())
    return template.format(title=title, body=_quoted(body, room))


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
    """Return a body for an address, cut if it needs more bytes than `room`."""
    whole = quote(body, safe='')
    if len(whole) <= room:
        return whole
    lines = body.split('\n')
    # What is open at the cut is closed, or else the note would be in it.
    fence = max((line for line in lines if _FENCE.fullmatch(line)), key=len, default='')
    room -= _bytes(f'\n{fence}\n\n{_UNFOLDED}{_CUT}')
    if room < 0:
        return ''
    kept: list[str] = []
    for line in lines:
        room -= _bytes(f'{line}\n')
        if room < 0:
            if _bytes(line) > _LONG_LINE:
                kept.append(_beginning(line, room + _bytes(f'{line}\n')))
            break
        kept.append(line)
    return quote('\n'.join([*kept, *_endings(kept)]) + _CUT, safe='')


def _bytes(text: str) -> int:
    """Return how many bytes a text has in an address."""
    return len(quote(text, safe=''))


def _beginning(text: str, room: int) -> str:
    """Return as much of the beginning of a text as fits, with " ..." if that is not all of it."""
    if _bytes(text) <= room:
        return text
    room -= _bytes(' ...')
    end = 0
    while end < len(text) and (room := room - _bytes(text[end])) >= 0:
        end += 1
    words = text[:end].rpartition(' ')[0] or text[:end]
    return f'{words} ...' if words else ''


def _endings(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that close what is open after these lines of Markdown."""
    fence = ''
    is_folded = False
    for line in lines:
        found = _FENCE.match(line)
        if fence:
            fence = '' if line == fence else fence
        elif found:
            fence = found[0]
        elif line.startswith((_FOLDED, _UNFOLDED)):
            is_folded = line.startswith(_FOLDED)
    if fence:
        yield fence
    if is_folded:
        yield from ('', _UNFOLDED)
