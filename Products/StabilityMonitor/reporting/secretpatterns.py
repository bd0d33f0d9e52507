"""What secrets and personal data look like in text: one table, each row with its source.

A row names the class that the option `redact` switches, the word of its pseudonyms, and a regular
expression whose group `v` is what must not leave.  `hints`, in lower case, make it fast: a text
that has none of them cannot match.  `is_exempt` says of a match that it is no secret, as in
`password=password` in a line of source: see `secretvalues`; it is not asked about a pseudonym.
`is_named`: the expression begins with a name of which _SMELLS has a part.

Rows are tried in this order, each on the result of the rows before: special shapes come before
`name = value`.

To add a row, take a class of `model.secretclasses` and a word of `secretvalues.WORDS`, and put
lines with such a secret into tests/data/secrets.toml; ordinary lines must not lose anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass

from .secretvalues import DOTTED
from .secretvalues import IDENTIFIER
from .secretvalues import NOBODY
from .secretvalues import PLACEHOLDER
from .secretvalues import SMELL
from .secretvalues import is_no_address
from .secretvalues import is_no_user
from .secretvalues import is_no_userinfo
from .secretvalues import is_no_value
from .secretvalues import is_nobody
from .secretvalues import is_ordinary_segment
from .secretvalues import is_page
from .secretvalues import is_thing_of_user
from .secretvalues import is_word
from .secretvalues import never

#: Returns whether a match is no secret.
_Exempt = Callable[[re.Match[str]], bool]


@dataclass(frozen=True)
class Pattern:
    """A row of the table, see above."""

    redacts: str
    word: str
    expression: re.Pattern[str]
    source: str
    hints: tuple[str, ...] = ()
    is_exempt: _Exempt = never
    is_named: bool = False

    def sub(self, replacement: Callable[[re.Match[str]], str], text: str) -> str:
        """Return the text with each match replaced, as `re.sub` does."""
        if not self.is_named:
            return self.expression.sub(replacement, text)
        found: list[str] = []
        end = 0
        for match in self._named(text):
            found += text[end : match.start()], replacement(match)
            end = match.end()
        return ''.join(found) + text[end:]

    def _named(self, text: str) -> Iterator[re.Match[str]]:
        """Yield the matches; the expression is tried only where a name smells.

        It would be tried at each character else, which takes ten times as long.
        """
        end = 0
        for hit in _SMELLING.finditer(text):
            begin = hit.start()
            if begin < end:
                continue
            while begin > end and (text[begin - 1].isalnum() or text[begin - 1] in '_.-'):
                begin -= 1
            is_quoted = begin > end and text[begin - 1] in '"\''
            match = self.expression.match(text, begin - 1) if is_quoted else None
            match = match or self.expression.match(text, begin)
            if match:
                end = match.end()
                yield match
            else:
                end = _end_of_word(text, hit.end())

    def may_match(self, hints: set[str]) -> bool:
        """Return False if none of the hints is in the text; `hints` are all that are in it."""
        return not self.hints or not hints.isdisjoint(self.hints)


#: Parts of names that smell; see `secretvalues.SMELL`, which says what may stand around them.
_SMELLS = (
    'pass',
    'pw',
    'secret',
    'credential',
    'key',
    'token',
    'auth',
    'kennwort',
    'otp',
    'pin',
    'salt',
    'sessionid',
    'session_id',
)
_SMELLING = re.compile('|'.join(_SMELLS), re.IGNORECASE)
_REST_OF_WORD = re.compile(r'[\w.-]*')


def _end_of_word(text: str, begin: int) -> int:
    match = _REST_OF_WORD.match(text, begin)
    return match.end() if match else begin


def _row(
    redacts: str,
    word: str,
    expression: str,
    source: str,
    hints: tuple[str, ...] = (),
    is_exempt: _Exempt = never,
    is_named: bool = False,
) -> Pattern:
    return Pattern(
        redacts, word, re.compile(expression), source, hints, is_exempt, is_named=is_named
    )


# -- the table -------------------------------------------------------------------------------------

_SEPARATOR = (
    r'(?P<sep>\s*(?:=>|:=|(?<![=!<>])=(?!=)|:(?!:)(?:[ \t]*[|>][+-]?[ \t]*\n)?|%3D|(?<=["\']),)\s*)'
)
_NAMED = (
    rf'(?i)(?<![\w.-])(?P<key_quote>["\']?)(?P<name>(?=[\w.-]*{SMELL})[\w.-]++)(?P=key_quote)'
    rf'(?:\]|\\?["\'])?{_SEPARATOR}'
)

_NAMES_OF_USERS = (
    'user',
    'login',
    'logname',
    'member',
    'uid',
    'principal',
    'benutzer',
    '__ac_name',
)
_ONE_TIME = (
    'reset',
    'confirm',
    'verif',
    'activat',
    'invit',
    'subscribe',
    'opt',
    'magic',
    'time',
    'otp',
    'token',
    'login',
    'share',
    'guest',
    'regist',
    'recover',
    'newsletter',
)

#: Ends of names of units of systemd, as `postgresql@15-main.service`.
_UNITS = ('.service', '.socket', '.timer', '.target', '.slice', '.scope', '.mount')

PATTERNS = (
    # whole blocks first
    _row(
        'tokens',
        'key',
        r'(?P<v>-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----'
        r'(?:(?!-----END)[\s\S])*(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?)',
        'RFC 7468, and OpenSSH and PGP, which use the same lines',
        ('private key',),
    ),
    # cookies and authorization
    _row(
        'cookies',
        'cookie',
        r'(?i)\b(?:HTTP_)?(?:set-)?cookie2?["\']?\s*(?:[:=]|=>|,)\s*[\[(]?(?P<quote>["\']?)'
        r'(?P<v>[^\s=;,"\']+=(?:(?!(?<!=)(?P=quote)(?:[,)}\]]|$))[^\n])+)',
        'RFC 6265; WSGI (PEP 3333) names it HTTP_COOKIE',
        ('cookie',),
        lambda match: re.match(r'[\w.]*[(\[]', match['v']) is not None,
    ),
    _row(
        'cookies',
        'cookie',
        r'(?<![\w.])(?:__ac|_ZopeId|__Host-[\w-]+|__Secure-[\w-]+|auth_tkt|beaker\.session\.id|'
        r'[\w-]*sess(?:ion)?_?(?:id|key)?|PHPSESSID|JSESSIONID|_authenticator|csrf_?token)["\']?'
        r'\]?\s*(?:=|:|,(?=\s*["\'])|%3D| (?=[\w+/]{16}))\s*(?P<quote>(?:\\?["\']|%22)?)'
        r'(?P<v>[\w%./+=~|:-]{6,})',
        "PluggableAuthService (__ac), Zope's browser id, PasteDeploy's auth_tkt, plone.protect",
        ('__', 'zopeid', 'sess', 'tkt', 'authenticator', 'csrf'),
        lambda match: (
            not match['quote']
            and IDENTIFIER.fullmatch(match['v']) is not None
            or DOTTED.match(match['v']) is not None
            and not match['quote']
        ),
    ),
    _row(
        'cookies',
        'credentials',
        r'(?i)\b(?:proxy-|http_|x-[\w-]*?)?auth(?:orization|-token|-key)["\']?\s*(?:[:=]|=>'
        r'|,(?=\s*["\']))\s*["\']?'
        r'(?:(?:basic|bearer|digest|token|negotiate|ntlm|apikey|hmac|oauth|aws4-hmac-sha256)\s+)?'
        r'(?P<v>[^\s"\',;](?:[^"\'\n]|(?<==)"[^"\n]*")*)',
        'RFC 9110; WSGI names it HTTP_AUTHORIZATION',
        ('authorization', 'auth-'),
        lambda match: (
            PLACEHOLDER.fullmatch(match['v']) is not None
            or re.match(r'[\w.]*[(\[]|[a-z_.]+$', match['v']) is not None
        ),
    ),
    _row(
        'cookies',
        'credentials',
        r'(?i)\b(?:basic|bearer|digest|negotiate)\s+(?P<v>[\w.~+/=-]{12,})',
        'RFC 7617 and RFC 6750',
        ('basic', 'bearer', 'digest', 'negotiate'),
        lambda match: not re.search(r'\d', match['v']),
    ),
    _row(
        'cookies',
        'credentials',
        r'\bAUTH (?:PLAIN|LOGIN|CRAM-MD5|XOAUTH2) (?P<v>[A-Za-z0-9+/]{8,}+=*)(?![\w-])',
        'RFC 4954: SMTP',
        ('auth ',),
    ),
    # passwords in addresses
    _row(
        'passwords',
        'password',
        r'(?i)(?<![\w+.-])[a-z][a-z0-9+.-]*+(?::?//|%3A%2F%2F|:\\?/\\?/)[^\s/@:"\'<>?#]*(?::'
        r'|%3A)(?P<v>[^\s"\'<>]{0,200})'
        r'(?<!@)(?:@|%40)(?=[\w\[.-]+)(?![^\s"\'<>/]*@)',
        'RFC 3986, 3.2.1; DSNs of SQLAlchemy, redis and AMQP have the same shape',
        ('//', '%3a', ':\\/'),
        is_no_userinfo,
    ),
    # tokens that tell by their shape
    _row(
        'tokens',
        'token',
        r'(?P<v>\beyJ[\w-]{6,}\.(?:eyJ|[\w-]{4})[\w-]{4,}(?:\.[\w-]*)*)',
        'RFC 7519: the first part is base64 of {"',
        ('eyj',),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z2-7]{16})\b',
        'IAM user guide, "Unique identifiers"',
        ('akia', 'asia', 'agpa', 'aida', 'aroa', 'aipa', 'anpa', 'anva', 'abia', 'acca'),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{22,})',
        'GitHub: "About authentication to GitHub", formats of tokens',
        ('gh', 'github_pat_'),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>gl(?:pat|dt|rt|cbt|ptt|ft|oas|soat|agent|imt|ffct)-[\w.=-]{16,})',
        'GitLab: "Token overview", prefixes',
        ('gl',),
    ),
    _row(
        'tokens',
        'token',
        r'(?P<v>\bxox[abceoprs](?:\.xox[a-z])?-[\w-]{8,}|\bxapp-\d-[\w-]{8,}|'
        r'hooks\.slack\.com/(?:services|workflows|triggers)/[\w/+-]+)',
        'Slack: "Token types" and "Incoming webhooks"',
        ('xox', 'xapp', 'hooks.slack'),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>(?:[srp]k|rak)_(?:live|test)_[A-Za-z0-9]{8,}|whsec_[\w+/=-]{8,})',
        'Stripe: "API keys" and "Webhook signatures"',
        ('_live_', '_test_', 'whsec_'),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>sk-[A-Za-z0-9][\w-]{18,})',
        'OpenAI, Anthropic and others that copied the prefix',
        ('sk-',),
        lambda match: not re.search(r'\d', match['v']),
    ),
    _row(
        'tokens',
        'token',
        r'\b(?P<v>AIza[\w-]{30,}|ya29\.[\w-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-Ag[\w-]{20,}|'
        r'SG\.[\w-]{16,}\.[\w-]{16,}|hf_[A-Za-z0-9]{30,}|dop_v1_[0-9a-f]{40,}|hvs\.[\w-]{20,})',
        'Google, npm, PyPI, SendGrid, Hugging Face, DigitalOcean and Vault name their prefixes',
        ('aiza', 'ya29', 'npm_', 'pypi-', 'sg.', 'hf_', 'dop_', 'hvs.'),
    ),
    _row(
        'tokens',
        'token',
        r'(?i)(?:[?&;\s"\']|^|%3F|%26|\b)(?:sig|signature|x-amz-(?:signature|credential'
        r'|security-token)|'
        r'x-goog-(?:signature|credential)|awsaccesskeyid|googleaccessid|(?:account'
        r'|sharedaccess)key|'
        r'key-pair-id|policy)(?:=|%3D)(?P<v>[\w%./+=~-]{8,})',
        'Azure SAS, Signature Version 4 of AWS, signed URLs of Google and CloudFront',
        ('sig', 'credential', 'token', 'key', 'access', 'policy'),
    ),
    _row(
        'tokens',
        'token',
        r'(?P<v>\b[0-9a-f]{20,40}-us\d{1,2}\b|(?<=/bot)\d{8,}:[\w-]{20,})',
        'Mailchimp and Telegram: documents of their APIs',
        ('-us', '/bot'),
    ),
    # names and values
    _row(
        'configuration',
        'setting',
        rf'(?i)(?:<(?P<name>(?=[\w.:-]*{SMELL})[\w.:-]++)(?:\s[^<>]*)?>|\b(?:name|key'
        rf'|id)=["\'](?=[\w.:-]*{SMELL})[\w.:-]++'
        r'["\'][^<>]*>\s*(?:<value[^<>]*>)?|<string>\w*(?:password|secret'
        r'|token)</string>\s*<string>)'
        r'\s*(?:<!\[CDATA\[)?(?P<v>[^<>\s](?:(?!\]\]>|</)[^\n])*)',
        'XML: records of plone.registry, GenericSetup, ZCML',
        ('<',),
        lambda match: PLACEHOLDER.fullmatch(match['v']) is not None,
    ),
    _row(
        'passwords',
        'password',
        r'(?i)(?:\blogin \S+ password |\bmysql\w*\b[^\n]{0,200}? -p|'
        r'\bldap\w+ [^\n]{0,200}? -w |\badduser \S+ )'
        r'(?P<v>[^\s-][^\s]*)',
        'netrc, and options of mysql, ldapsearch and zconsole',
        ('login ', 'mysql', 'ldap', 'adduser'),
    ),
    _row(
        'passwords',
        'password',
        rf'{_NAMED}(?:[bfru]{{0,2}})(?P<quote>\\?["\'])(?P<v>(?:(?!(?P=quote))(?:\\.|.))+)',
        'names of variables, keys of JSON, YAML and DSNs of libpq',
        _SMELLS,
        is_no_value,
        is_named=True,
    ),
    _row(
        'passwords',
        'password',
        rf'{_NAMED}(?P<quote>)(?P<v>\{{[^{{}}\n]+\}}|(?!\\?["\'])(?:[^\s,;&"\']|\'(?=\w)){{2,}})',
        'the same without quotes: environment, configuration, libpq, ODBC',
        _SMELLS,
        is_no_value,
        is_named=True,
    ),
    _row(
        'passwords',
        'password',
        rf'(?i)(?:^|\s)--?(?P<name>(?=[\w-]*{SMELL})[\w-]++)(?P<sep>[ =])(?P<key_quote>)'
        r'(?P<quote>["\']?)(?P<v>[^\s"\']{2,}|(?<=["\'])[^"\']+)',
        'options of command lines',
        (' -',),
        is_no_value,
    ),
    _row(
        'configuration',
        'setting',
        rf'(?im)^[ \t]*(?:%define[ \t]+)?(?P<name>(?=[\w.-]*{SMELL})[\w.-]++)(?P<sep>[ \t]+)'
        r'(?P<key_quote>)(?P<quote>["\']?)(?P<v>[^\s"\'=:][^\s"\']*)["\']?[ \t]*$',
        'ZConfig: a key, spaces and the value in a line of its own',
        _SMELLS,
        lambda match: (
            is_no_value(match)
            or re.fullmatch(r'[A-Za-z]?[a-z]+[.,;:]?', match['v']) is not None
            and not match.string[match.start()].isspace()
            and not match[0].lstrip().startswith('%define')
        ),
    ),
    _row(
        'passwords',
        'password',
        r'(?m)(?:^[ \t]*user[ \t]*=[ \t]*(?P<quote>["\']?)|'
        r'(?:\s-u|--(?:proxy-)?user)[ =]["\']?)[\w.-]+:'
        r'(?P<v>[^\s"\'][^"\'\n]*?)(?=["\']|\s+(?:-|https?:)|[ \t]*$)',
        'plone.recipe.zope2instance (user = name:password), curl',
        ('user', ' -u'),
    ),
    _row(
        'passwords',
        'password',
        r'(?i)(?:\bdsn\b[^\n]{0,200}?\b|oracle:\w+:)\w+/(?P<v>[^\s/@]+)@(?=(?://)?[\w.-]+)',
        'Oracle: name/password@host/service',
        ('dsn', 'oracle:'),
    ),
    _row(
        'passwords',
        'password',
        r'(?P<v>\{(?:S?SHA\d*|S?MD5|CRYPT|BCRYPT|PBKDF2[\w-]*|ARGON2)\}[\w+/=$.,-]{8,}|'
        r'\$(?:2[aby]|5|6|y|argon2\w*)\$[\w./$=,+-]{16,})',
        "hashes of passwords: RFC 2307 as in Zope's inituser, crypt(5)",
        ('}', '$'),
    ),
    # query strings and forms
    _row(
        'query',
        'value',
        r'(?<=[\w/.@)~-])\?{1,2}(?P<v>[\w%.\[\]~+:-]+(?:=[^\s"\'<>]*)?(?:[&;][^\s"\'<>]*)?)'
        r'(?=["\'<>\s)\]]|$)',
        'RFC 3986, 3.4',
        ('?',),
    ),
    _row(
        'query',
        'value',
        r'(?i)\bQUERY_STRING["\']?\s*[:=]\s*["\']?(?P<v>[^\s"\']+)',
        'CGI (RFC 3875), as in WSGI',
        ('query_string',),
        lambda match: re.match(r'[\w.]*[(\[]|\W*$|[A-Za-z_.]+$', match['v']) is not None,
    ),
    _row(
        'query',
        'value',
        r'(?i)(?:\bform(?:dict)?\b["\']?\s*[:=]?\s*(?P<v>\{[^{}\n]*\}))',
        'what a framework shows of a form: {name: value}',
        ('form',),
        lambda match: ':' not in match['v'],
    ),
    _row(
        'query',
        'value',
        r'(?:<th>[^<>]*</th>\s*<td>|form-data;[^\n]*\bfilename=["\'])(?P<v>[^<>"\n]+)',
        'a request of Zope as HTML; RFC 7578',
        ('<th>', 'form-data'),
    ),
    # people and machines
    _row(
        'emails',
        'email',
        r'(?P<v>(?<![\w.+@-])[\w.+-]+(?:@|%40|&#64;)(?:[\w-]+\.)+(?:xn--[\w-]+|[A-Za-z]{2,24})\b)',
        'RFC 5321, without its rare forms',
        ('@', '%40', '&#64;'),
        lambda match: match['v'].startswith(('git@', 'hg@')) or match['v'].endswith(_UNITS),
    ),
    _row(
        'addresses',
        'address',
        r'(?<![\w.-])(?P<v>\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?![\w]|\.\d|-\w)',
        'RFC 791',
        (),
        is_no_address,
    ),
    _row(
        'addresses',
        'address',
        r'(?i)(?<![\w:.])(?P<v>(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}'
        r'|\d{1,3}(?:\.\d{1,3}){3})?)(?![\w:])',
        'RFC 4291, 2.2',
        (':',),
        is_no_address,
    ),
    _row(
        'paths',
        'path',
        r'(?i)/(?:@@)?[\w.-]*(?:passwordreset|password[_-]reset|reset(?:[_-]?password)?'
        r'|pwreset\w*|confirm[\w-]*|'
        r'verif[\w-]*|activat[\w-]*|invit[\w-]*|unsubscribe[\w-]*|opt-?out|magic[\w-]*'
        r'|one-?time[\w-]*|'
        r'otp|token|auto-?login|login-?link|share[d]?-?link|guest-?access|register[\w-]*'
        r'|recover[\w-]*|'
        r'subscribe[\w-]*|newsletter-[\w-]*)/(?P<v>[\w%.~=+-]{6,})',
        'Products.PasswordResetTool and pages of add-ons that confirm by mail',
        _ONE_TIME,
        is_word,
    ),
    _row(
        'paths',
        'path',
        r'/(?P<v>[\w=~-]{20,})(?=[/\s"\'?&)\]]|$)',
        'a long segment of mixed letters and digits is no id that a person chose',
        ('/',),
        is_ordinary_segment,
    ),
    _row(
        'homes',
        'user',
        r'(?:/(?:export/|var/|usr/|mnt/|data/)?home|/Users|[\\/]Users(?=\\)|'
        r'[A-Z]:\\(?:Users|Documents and Settings))(?:/|\\{1,2})'
        r'(?P<v>[^\s/\\:"\',;)<>]+(?:(?: [^\s/\\:"\',;)<>]+)+(?=\\))?)(?=[/\\\s:"\',;)]|$)',
        'the file hierarchy of Linux, macOS and Windows',
        ('home', 'users', 'settings'),
        is_nobody,
    ),
    _row(
        'homes',
        'user',
        r'(?<![\w/~])~(?P<v>[a-z_][\w.-]+)(?=/)',
        'shells: the home directory of a user',
        ('~',),
        is_nobody,
    ),
    _row(
        'users',
        'user',
        r'(?m)^\S+ \S+ (?P<v>\S+) \[\d\d?/',
        'the common log format',
        (' [',),
        is_no_user,
    ),
    _row(
        'users',
        'user',
        r'(?i)(?P<key_quote>["\']?)(?<![\w.])(?P<name>(?:remote_|auth_|login_?|member_?|db_?|pg'
        r'|smtp_|x-)?'
        r'(?:user(?:_?name|_?id)?|login(?:_?name)?|logname|member(?:_?id)?|uid|principal'
        r'|benutzer|__ac_name))'
        r'(?P=key_quote)(?P<sep>\s*(?:=>|(?<![=!<>])=(?!=)|:(?!:))\s*)[bu]?(?P<quote>\\?["\'])'
        r'(?P<v>[^"\'\\\s]{2,64})(?P=quote)',
        'names of variables and keys',
        _NAMES_OF_USERS,
        is_no_user,
    ),
    _row(
        'users',
        'user',
        r'(?i)(?P<key_quote>["\']?)(?<![\w.])(?P<name>(?:remote_|auth_|login_?|member_?|db_?|pg'
        r'|smtp_|x-)?'
        r'(?:user(?:_?name|_?id)?|login(?:_?name)?|logname|uid|principal|benutzer|__ac_name))'
        r'(?P=key_quote)(?P<sep>=|: ?)(?P<quote>)(?P<v>[\w.@+\\-]{2,64})',
        'the same without quotes',
        _NAMES_OF_USERS,
        is_no_user,
    ),
    _row(
        'users',
        'user',
        r'(?i)\b(?:user|member|login|benutzer)(?:name| id)? (?P<quote>["\'])'
        r'(?P<v>[\w.@+-]{2,64})(?P=quote)',
        'messages of PostgreSQL, LDAP and PluggableAuthService',
        ('user', 'member', 'login'),
        is_no_user,
    ),
    _row(
        'users',
        'user',
        r'<\w*(?:User|MemberData|Member|Principal) (?P<quote>u?["\']?)'
        r'(?P<v>[\w.@+-]{2,64})(?=["\' >])',
        'what AccessControl, PluggableAuthService and Plone show for a user object',
        ('<',),
        lambda match: match['v'].lower() in (*NOBODY, 'object', 'at'),
    ),
    _row(
        'users',
        'user',
        r'(?i)\b(?:for|by|of|as|to) (?:the |an? )?(?:invalid |unknown )?(?:user|member|principal) '
        r'(?P<v>[\w.@+-]{2,64})'
        r'(?=[\s.,;:!)]*$|[.,;:!)]|\s)',
        'messages of logins',
        ('user ', 'member ', 'principal '),
        is_thing_of_user,
    ),
    _row(
        'users',
        'user',
        r'/(?:author|Members|portal_memberdata(?:/portraits)?)/(?P<v>[\w.@+%-]{2,64})'
        r'(?=[/\s"\'?]|$)',
        "Plone: pages of authors and members' folders",
        ('/author/', '/members/', 'memberdata/'),
        is_page,
    ),
    _row(
        'users',
        'user',
        r'\bs(?:sh|ftp|cp)\b[^\n]{0,200}? -l (?P<v>[\w.-]+)',
        'ssh(1)',
        (' -l ',),
    ),
    _row(
        'users',
        'user',
        r'(?:\b[Uu]ser id |\buser account, |\brole "(?=\w+" (?:does|is))|\([Uu]ser [Ii]d\): )'
        r'(?P<v>[\w.@+-]{2,64})',
        'PluggableAuthService, AccessControl, PostgreSQL',
        ('user', 'role "'),
        lambda match: match['v'].lower() in (*NOBODY, 'of', 'is', 'for'),
    ),
)
_HINTS = frozenset(hint for row in PATTERNS for hint in row.hints)


def hints_in(text: str) -> set[str]:
    """Return the hints of all rows that are in a text."""
    lower = text.lower()
    return {hint for hint in _HINTS if hint in lower}
