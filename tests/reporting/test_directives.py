"""Secrets in configuration files are found by the names beside them; all else stays."""

import pytest

from Products.StabilityMonitor.reporting import redaction
from Products.StabilityMonitor.reporting.directives import without_secrets

ORDINARY = """%define INSTANCE /srv/zope
# The password of the database is kept elsewhere.
instancehome $INSTANCE
http-realm Zope
<environment>
  PTS_LANGUAGES en, de
  CHAMELEON_CACHE $INSTANCE/var/cache
</environment>
<zodb_db main>
  cache-size 30000
  <relstorage>
    keep-history false
    <postgresql>
      user zope
      password $DBPASSWORD
    </postgresql>
  </relstorage>
  mount-point /
</zodb_db>
[app:zope]
use = egg:Zope#main
zope_conf = %(here)s/zope.conf
"""


def clean(text):
    return without_secrets(text, lambda secret: 'SECRET')


@pytest.mark.parametrize(
    'text, expected',
    [
        ('  password Kr0kodil', '  password SECRET'),
        ('\tmanager-password  two words here \r', '\tmanager-password  SECRET \r'),
        ('bindpw = geheim', 'bindpw = SECRET'),
        ('session.validate_key = geheim', 'session.validate_key = SECRET'),
        ('merchant-key geheim', 'merchant-key SECRET'),
        ('  psk "ge & heim"', '  psk SECRET'),
        ('db-password : geheim', 'db-password : SECRET'),
        ('%define DBPASSWORD geheim', '%define DBPASSWORD SECRET'),
        ('# password geheim', '# password SECRET'),
        (';password = geheim', ';password = SECRET'),
        ('server x username zeo password geheim realm y', None),
        ("dsn dbname='z' user='z' password='two words'", None),
        ('user = admin:geheim', 'user = admin:SECRET'),
        ('user = "admin:ge & heim"', 'user = "admin:SECRET"'),
        ('ldap: bind_password: >- geheim', 'ldap: bind_password: >- SECRET'),
    ],
)
def test_a_secret_is_found(text, expected):
    found = clean(text)
    assert 'SECRET' in found and 'heim' not in found and 'words' not in found
    assert expected in (None, found)


def test_an_ordinary_configuration_stays_as_it_is():
    assert clean(ORDINARY) == ORDINARY


def test_the_configuration_in_a_report_is_redacted_as_such():
    """Elsewhere these words are a sentence."""
    text = 'bindpw geheim-4\n'
    document = {'configuration': [{'file': '/home/ada/zope.conf', 'text': text}], 'fact': text}
    found, done = redaction.redacted(document)
    assert found['configuration'] == [
        {'file': '/home/user-1/zope.conf', 'text': 'bindpw setting-1\n'}
    ]
    assert done.counts['configuration'] == 1
    off, _ = redaction.redacted(document, redaction.policy_of({'redact': 'all -configuration'}))
    assert off['configuration'][0]['text'] == text


@pytest.mark.parametrize('part', [7, [], ['x'], [{'text': 7}], [{'file': 'x'}], {'a': 'b'}])
def test_a_configuration_of_another_form_stays(part):
    found, _ = redaction.redacted({'configuration': part})
    assert found['configuration'] == part


def test_a_long_configuration_takes_no_long_time():
    assert clean('password ' * 20_000).count('SECRET') >= 1
    assert clean('user=' * 20_000) and clean('a' * 100_000) and clean(' ' * 100_000)
