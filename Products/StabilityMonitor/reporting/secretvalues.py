"""What looks like a secret and is none: placeholders, names in source code, versions, usual paths.

Each function takes a match of a row of `secretpatterns`, whose group `v` may be a secret.  Rows
about `name = value` have the groups `name`, `sep`, `key_quote` and `quote`, too.
"""

from __future__ import annotations

import ipaddress
import re

#: The word of each kind of pseudonym, as in `user-1`.
WORDS = (
    'value',
    'cookie',
    'credentials',
    'password',
    'key',
    'token',
    'email',
    'address',
    'path',
    'setting',
    'user',
    'pattern',
)
#: A pseudonym that stands for a value.
PSEUDONYM = re.compile(rf'(?:{"|".join(WORDS)})-\d+')

# -- values that are no secrets --------------------------------------------------------------------

#: Part of the name of a variable or key that holds a secret.
SMELL = (
    r'(?:pass(?:word|wd|wort|phrase|code)|passw|(?<![a-z])pwd|(?<![a-z])pw(?![a-z])|'
    r'(?<![a-z])pass(?![a-z])|'
    r'secret|credential|(?:api|access|private|account|auth|signing|encrypt|encryption|shared'
    r'|service|'
    r'storage|license|master|secret|stripe|client)[_-]?key(?![a-z])|apikey|token(?![a-z])|'
    r'(?<![a-z])auth(?![a-z])|kennwort|(?<![a-z])otp(?![a-z])|(?<![a-z])pin(?![a-z])|'
    r'(?<![a-z])salt(?![a-z])|sessionid|session_id)'
)
#: Names that smell, but hold a count, a name or an address.
_NO_SECRET = re.compile(
    r'(?i)(?:count|length|limit|size|type|expir\w*|expires?_?in|timeout|ttl|ur[il]|endpoint|name|'
    r'field|policy|reset|_id|path|file|class|min|max|age|prefix|header|method|scheme|plugin|form|'
    r'label|hint|manager|provider|utility|validator|required|enabled|changed|algorithm|module)s?$'
)
#: Parts of names that hold a secret also as the first item of a pair.
_LONG_SMELL = re.compile(r'(?i)password|passwd|secret|token|api_?key|credential|private_?key')
_NAME = re.compile(rf'(?i)[\w.-]*{SMELL}[\w.-]*')
#: What stands for a value: a placeholder, or nothing.
PLACEHOLDER = re.compile(
    r'(?i)none|true|false|null|nil|undefined|unset|empty|yes|no|on|off|options?|%\(\w+\)[sr]|%[sr]|'
    r'\$\{\w+\}|\$[A-Z_]+|(?:\{[^{}]*\}|[:@/ ])+|<[\w .:-]*>?|[01]|\*+|x{3,}|\.{3}|\W*'
)
#: An annotation of a parameter.
_TYPE = re.compile(
    r'(?i)(?:str|bytes|int|bool|float|any|object|dict|list|tuple|optional|union|callable)'
    r'(?:\s*[\[|,)=].*)?'
)
DOTTED = re.compile(r'[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+')
IDENTIFIER = re.compile(r'[A-Za-z_]+')


def smells(name: str) -> bool:
    """Return whether a value with this name is a secret."""
    return _NAME.fullmatch(name) is not None and not _NO_SECRET.search(name)


def is_no_value(match: re.Match[str]) -> bool:
    """Whether `name = value` holds no secret: a placeholder, or a name of source code."""
    value = match['v']
    if not match['quote']:
        value = value.rstrip(')]}>:')
    if PSEUDONYM.fullmatch(value) or PLACEHOLDER.fullmatch(value):
        return True
    if not smells(match['name'].rpartition('.')[2]):  # as in `token.name`
        return True
    if re.fullmatch(r'\d+(?:\.\d+)+\w*', value):
        return True  # a version: `secretstorage = 3.3.3`
    if match['sep'].strip() == ',':  # a pair; or a list of names
        is_list = not _LONG_SMELL.search(match['name']) or IDENTIFIER.fullmatch(value) is not None
        return is_list or not match['quote']
    return not match['quote'] and _is_code(match, value)


def _is_code(match: re.Match[str], value: str) -> bool:
    """Whether an unquoted value is an expression of source code and not the value itself."""
    if _TYPE.fullmatch(value):
        return True
    if re.match(r'[A-Za-z_][\w.]*[(\[]|[(\[]|\{[^}]*["\']|lambda', value):
        return True
    if re.match(r'[bfru]{1,2}[\'"]', value):
        return False
    if DOTTED.fullmatch(value) and not re.search(r'\d', value):
        return True
    if _NAME.fullmatch(value) and IDENTIFIER.fullmatch(value):
        return True
    text = match.string
    begin = match.start()
    line = text[text.rfind('\n', 0, begin) + 1 : begin]
    before = line.rstrip()[-1:]
    separator = match['sep']
    is_name = IDENTIFIER.fullmatch(value) is not None
    if is_name and (before in ('(', ',') or match['key_quote']):
        return True
    is_indented = text[begin - len(line) :][:4] == '    ' and not line.strip()
    if is_indented and separator == ' = ' and re.fullmatch(r'[A-Za-z_][\w.]*', value):
        return True
    if separator.strip() == ':' and separator != ':':
        return _is_prose(match, line, value)
    if separator.strip() == '=' and separator != '=' and line.strip() and is_name:
        return True  # a comparison, or an assignment after other code
    return False


def _is_prose(match: re.Match[str], line: str, value: str) -> bool:
    """Whether `name: word` is a sentence: then the word looks like one, and more words follow."""
    rest = match.string[match.end() :].split('\n', 1)[0]
    if not line.strip(' -') and not rest.strip():
        return False  # `password: word` alone, as in YAML
    return re.fullmatch(r'[A-Za-z]?[a-z]+[.,;:]?', value) is not None


# -- addresses -------------------------------------------------------------------------------------


def is_no_address(match: re.Match[str]) -> bool:
    """Whether digits and dots are no address, or an address that every machine has."""
    try:
        address = ipaddress.ip_address(match['v'])
    except ValueError:
        return True
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        groups = [group for group in match['v'].split(':') if group]
        return len(groups) < 3 or not any(char.isdigit() for char in match['v'])
    is_inside = any(address in network for network in _INSIDE)
    return match['v'].startswith('255.') or _is_version(match, is_inside)


#: Networks inside of a company or at home: RFC 1918.
_INSIDE = tuple(map(ipaddress.ip_network, ('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16')))
#: What stands before a version with four parts, and no machine.
_BEFORE_VERSION = re.compile(
    r'(?i)(?:[=<>~!]=|[<>_-]|\bv|versions?\W{0,3}|release |met by |\b(?:[a-z][\w-]*\.)+[a-z]\w* |'
    r'\b(?:firefox|chrome|chromium|safari|version|python|zope|plone|glibc|linux|openssl|edg[ea]?'
    r'|opr|'
    r'mozilla|applewebkit|crios|samsungbrowser)[ /])$'
)
#: A name and a version: `lxml 6.1.3.2`, `lxml (6.1.3.2)`, `lxml = 6.1.3.2`, `"lxml": "6.1.3.2"`.
_NAME_BEFORE = re.compile(r'^\W*([A-Za-z][\w.-]*)["\']?(?: \(| ?[=:] ?["\']?|( ))$')
#: Words of a line about versions, and of one about machines.
_OF_VERSIONS = re.compile(
    r'(?i)\b(?:upgrad\w+|versions?|installed|available|releases?|does not match)\b'
)
_OF_MACHINES = re.compile(
    r'(?i)\b(?:hosts?|clients?|addr\w*|connect\w*|refused|requests?|GET|POST|peers?|ports?|ip'
    r'|login|user)\b'
)
#: Parts of names of machines.
_MACHINE = re.compile(
    r'(?i)(?:^|[._-])(?:\w*(?:host|addr|server|client|peer|remote|gateway|proxy)\w*|ips?|from'
    r'|via|to|at|'
    r'by|for|listen|bind|dns|url|network|node|origin|backend|upstream|forwarded|local|source|dest|'
    r'destination|connect|connected|router|subnet|smtp|ldap|relay|mail|redis|memcached|postgres'
    r'|mysql|'
    r'interface|allow|deny|trusted|is|and|or|refused|closed|blocked|banned)$'
)


def _is_version(match: re.Match[str], is_inside: bool) -> bool:
    begin = match.start('v')
    before = match.string[max(0, begin - 80) : begin].rpartition('\n')[2]
    if _BEFORE_VERSION.search(before):
        return True
    if is_inside:
        return False  # hardly a version
    rest = match.string[match.end('v') :].partition('\n')[0]
    named = _NAME_BEFORE.search(before)
    if named is not None and not _MACHINE.search(named[1]):
        return not named[2] or not rest.strip(' ,;)')
    line = before + rest
    return _OF_VERSIONS.search(line) is not None and not _OF_MACHINES.search(line)


# -- paths -----------------------------------------------------------------------------------------

#: Segments after which no token of a person comes: ids and revisions of content.
_NO_TOKEN_AFTER = ('resolveuid', 'resolveUid', '@@images', 'commit', 'tree', 'blob', 'archive')


def is_ordinary_segment(match: re.Match[str]) -> bool:
    """Whether a long segment of a path is a name and not a random token."""
    value = match['v']
    before = match.string[max(0, match.start() - 90) : match.start('v')].rstrip('/')
    if before.endswith(_NO_TOKEN_AFTER) or re.search(r'sha\d{3}-[\w+/=]*$', before):
        return True
    digits = sum(char.isdigit() for char in value)
    upper = sum(char.isupper() for char in value)
    lower = sum(char.islower() for char in value)
    return digits < 2 or min(upper, lower) < 3 or '.' in value


def is_word(match: re.Match[str]) -> bool:
    """Whether the segment after a page for one-time tokens is the name of a page or a method."""
    value = match['v']
    return re.fullmatch(r'[@+a-z_.-]+(?:\.\w+)?|\d{1,5}', value) is not None


def is_no_user(match: re.Match[str]) -> bool:
    value = match['v']
    if value.lower() in NOBODY or PLACEHOLDER.fullmatch(value):
        return True
    if re.fullmatch(r'[\d.]+', value) or match.string[match.end() :][:1] == '(':
        return True
    if 'quote' in match.groupdict() and not match['quote']:
        rest = match.string[match.end() :]
        is_label = match['name'].lower() in ('username', 'userid') and rest.startswith('  ')
        return not is_label and _is_code(match, value)
    return False


#: What is said to be "of the user", and is no name.
_THINGS_OF_USERS = (
    'data folder agent object input interface account accounts action actions group groups info id '
    'name space process and or is in of to with was has not'
).split()
#: Pages that can be asked of each folder of Plone.
_PAGES = ('nobody', 'view', 'edit', 'search', 'sitemap', 'login', 'logout', 'rss', 'createobject')
#: Names that everybody has.
NOBODY = ('-', 'anonymous', 'anonymous user', 'none', 'system', 'zope', 'plone', 'root', 'admin')


def is_no_userinfo(match: re.Match[str]) -> bool:
    """Whether what looks like `name:password@` is a port and a path: `host:8080/Plone/@@page`."""
    value = match['v']
    return re.match(r'\d{1,5}(?:/|$)', value) is not None


def never(match: re.Match[str]) -> bool:
    """Of a row whose shape alone tells."""
    return False


def is_pseudonym(match: re.Match[str]) -> bool:
    """Whether a value was replaced before, or is empty in its quotes."""
    return PSEUDONYM.fullmatch(match['v']) is not None or not match['v'].strip('\'"')


def is_thing_of_user(match: re.Match[str]) -> bool:
    """Whether what follows "of the user" is a word of the sentence: `for user accounts`."""
    value = match['v'].lower().strip('.')
    if value in (*NOBODY, *_THINGS_OF_USERS):
        return True
    rest = match.string[match.end() :]
    is_last = not rest.strip(' .,;:!)') or rest.startswith(' from ')
    return not is_last and not re.search(r'[\d_.@]', value)


def is_page(match: re.Match[str]) -> bool:
    """Whether the segment after a folder of users is a page and no name of a user."""
    value = match['v']
    if value.lower() in (*NOBODY, *_PAGES):
        return True
    return value.startswith(('@', '+', '%40', '%2B')) or '_' in value or '-info' in value


def is_nobody(match: re.Match[str]) -> bool:
    """Whether a name of a user is one that everybody has, as in `/home/zope`."""
    return match['v'].lower() in NOBODY
