"""The classes of secrets and personal data that are taken out of what leaves the site.

The option `redact` names them; `reporting.secretpatterns` says what they look like.
"""

from __future__ import annotations

#: {class: what it is}, in the order of the documents.
CLASSES = {
    'query': 'query strings and form values',
    'cookies': 'cookies and authorization',
    'passwords': 'passwords in URLs, DSNs and key=value',
    'tokens': 'keys, tokens and signed URLs',
    'emails': 'e-mail addresses',
    'addresses': 'IP addresses, except loopback addresses',
    'paths': 'path segments that look like one-time tokens',
    'configuration': 'values of the configuration whose keys smell of secrets',
    'users': 'names of users',
    'homes': 'home directories',
}
ALL, NONE = 'all', 'none'


def classes_of(text: str) -> frozenset[str]:
    """Return the classes that a text names: "all", "none", some of them, or "all -users".

    Raises ValueError for anything else.
    """
    words = text.replace(',', ' ').lower().split()
    if not words:
        raise ValueError(text)
    chosen: set[str] = set()
    if words[0] == ALL or words[0].startswith('-'):
        chosen |= CLASSES.keys()
    for word in words:
        name = word.removeprefix('-')
        if word in (ALL, NONE) and words[0] == word:
            continue
        if name not in CLASSES:
            raise ValueError(f'there is no class "{name}"')
        if word == name:
            chosen.add(name)
        else:
            chosen.discard(name)
    return frozenset(chosen)
