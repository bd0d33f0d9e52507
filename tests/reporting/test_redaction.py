"""What leaves the site holds no secret, and ordinary text stays as it is.

tests/data/secrets.toml and tests/data/ordinary_lines.txt.xz were made by people who had not seen
the table of patterns.  All secrets are invented; the ordinary lines are of real Zope and Plone:
event and access logs, tracebacks with the source lines of their libraries, versions.
"""

import base64
import html
import json
import lzma
import time
import tomllib
from pathlib import Path
from urllib.parse import quote

import pytest
from support.syntheticruns import record
from support.syntheticruns import request

from Products.StabilityMonitor.model.secretclasses import CLASSES
from Products.StabilityMonitor.model.secretclasses import classes_of
from Products.StabilityMonitor.reporting import redaction
from Products.StabilityMonitor.reporting.redaction import KEY
from Products.StabilityMonitor.reporting.redaction import NOTHING
from Products.StabilityMonitor.reporting.redaction import policy_of
from Products.StabilityMonitor.reporting.redaction import redacted
from Products.StabilityMonitor.reporting.redaction import redacted_text
from Products.StabilityMonitor.reporting.redaction import redacted_values
from Products.StabilityMonitor.reporting.secretpatterns import PATTERNS
from Products.StabilityMonitor.reporting.secretpatterns import hints_in

DATA = Path(__file__).parents[1] / 'data'
PLANTED = tomllib.loads((DATA / 'secrets.toml').read_text('utf-8'))
SECRETS = PLANTED['secret']
ORDINARY = lzma.open(DATA / 'ordinary_lines.txt.xz', 'rt', encoding='utf-8').read().splitlines()


def clean(text, **options):
    return redacted_text(text, policy_of(options))[0]


@pytest.mark.parametrize('kind', sorted({secret['class'] for secret in SECRETS}))
def test_no_planted_secret_stays(kind):
    of_kind = [secret for secret in SECRETS if secret['class'] == kind]
    assert len(of_kind) >= 8
    assert [each['text'] for each in of_kind if each['secret'] in clean(each['text'])] == []


def test_the_known_misses_are_few():
    assert len(SECRETS) > 500
    missed = [each for each in PLANTED['missed'] if each['secret'] in clean(each['text'])]
    assert len(missed) * 50 < len(SECRETS), 'README tells what cannot be found'


def test_without_redaction_every_secret_is_there():
    assert all(each['secret'] in redacted_text(each['text'], NOTHING)[0] for each in SECRETS), (
        'the other tests would pass without a secret'
    )


def test_ordinary_lines_lose_nothing():
    assert len(ORDINARY) > 10_000
    changed = [line for line in ORDINARY if clean(line) != line]
    assert len(changed) * 1000 <= len(ORDINARY), changed  # 10 of 10,000


def test_each_row_of_the_table_finds_something_and_has_a_source():
    texts = [secret['text'] for secret in SECRETS]
    for row in PATTERNS:
        assert row.redacts in CLASSES and row.source
        assert all(hint == hint.lower() for hint in row.hints)
        found = [
            match
            for text in texts
            if row.may_match(hints_in(text))
            for match in row.expression.finditer(text)
        ]
        assert found or row.word in NOT_PLANTED, row.expression.pattern


def test_no_row_lacks_a_hint():
    """A text without a hint is not looked at: a forgotten one would switch the row off."""
    missing = {
        (row.expression.pattern, match[0])
        for row in PATTERNS
        for secret in SECRETS
        if not row.may_match(hints_in(secret['text']))
        for match in row.expression.finditer(secret['text'])
        if not row.is_exempt(match)
    }
    assert missing == set()


#: Words of rows whose shapes are not all among the planted secrets.
NOT_PLANTED = ('token', 'value')


# -- pseudonyms ------------------------------------------------------------------------------------


def test_one_value_keeps_one_pseudonym_in_each_spelling():
    document = {
        'requests': [{'path': '/a', 'user': 'ada.l'}, {'path': '/b', 'user': 'ben'}],
        'log': ['mail to ada@example.org', 'from ada%40example.org', '203.0.113.7:8100 refused'],
        'more': ['203.0.113.7', 'for ada.l at 203.0.113.9'],
    }
    found, done = redacted(document)
    assert [each['user'] for each in found['requests']] == ['user-1', 'user-2']
    assert found['log'] == ['mail to email-1', 'from email-1', 'address-1:8100 refused']
    assert found['more'] == ['address-1', 'for user-1 at address-2']
    assert done.originals()['address-1'] == '203.0.113.7'
    assert found[KEY]['values'] == {'emails': 1, 'addresses': 2, 'users': 2}


@pytest.mark.parametrize(
    'encoded',
    [
        str,
        quote,
        lambda text: quote(text, safe=''),
        html.escape,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: json.dumps(text)[1:-1],
    ],
)
def test_a_secret_that_stands_alone_elsewhere_is_found_again(encoded):
    password = 'h4<n>te"r&2 %ü'
    document = {
        'exception': f'no access: {encoded(password)}',
        'configuration': f"dbname='x' password='{password}'",
    }
    found, _ = redacted(document)
    assert found['exception'] == 'no access: password-1'
    assert found['configuration'] == "dbname='x' password='password-1'"


def test_many_secrets_with_the_same_beginning_are_found_again():
    secrets = ['s3' + 'a' * length + 'Zq' for length in range(8, 400)]
    document = {'a': [f'password={secret}' for secret in secrets], 'b': secrets[::-1]}
    found, _ = redacted(document)
    assert found['b'] == [f'password-{number}' for number in range(len(secrets), 0, -1)]


def test_an_ordinary_word_as_a_password_is_not_replaced_elsewhere():
    found, _ = redacted({'a': 'password=zope', 'b': 'zope has started'})
    assert found == {'a': 'password=password-1', 'b': 'zope has started', KEY: found[KEY]}


def test_a_redacted_text_is_not_redacted_again():
    texts = [clean(secret['text']) for secret in SECRETS]
    changed = [(text, clean(text)) for text in texts if clean(text) != text]
    assert changed == []


#: Text of which a backtracking expression may grow tired: its parts are the beginnings of rows.
TIRING = (
    *('password=', 'password=x ', 'passwordpassword', 'key-secret', 'asessionid', 'token.', 'pass'),
    *('//a:', 'a://', 'a@', 'a.', '1.', '1:', '?a=b&', '/a', '/reset/', '<th>a', '<passw', 'id="a'),
    *('cookie: a=', 'user ', 'user=', 'user "a" ', 'dsn ', 'mysql ', 'form {', 'AUTH PLAIN ', ' -'),
    *('authorization: ', 'basic ', '-----BEGIN PRIVATE KEY-----', '~a', '/home/', '"', '\n', 'eyJ'),
)


def test_no_text_of_a_visitor_takes_much_longer_than_other_text():
    """While Python searches, it holds the GIL.  Most log messages and paths have 800 bytes."""

    def seconds(text):
        began = time.thread_time()
        redaction._Redactor(redaction.EVERYTHING, redaction.Redactions()).text(text)
        return time.thread_time() - began

    usual = sum(seconds(' '.join(ORDINARY[start : start + 60])[:4000]) for start in range(50)) / 50
    tired = {text: seconds((text * 4000)[:4000]) / usual for text in TIRING}
    assert {text: ratio for text, ratio in tired.items() if ratio > 20} == {}


@pytest.mark.parametrize('text', ['a' * 9001, 'a b ' * 4000, 'line\n' * 3000, ' ' * 4000, ''])
def test_no_row_looks_at_a_very_long_text(text):
    """The time of some rows grows with the square of the length."""
    parts = list(redaction._parts(text))
    assert ''.join(parts) == text
    assert all(len(part) <= redaction._LONGEST for part in parts)


@pytest.mark.parametrize('between', ['\n', ' '])
def test_a_long_text_loses_no_secret_and_nothing_else(between):
    line = 'a word, and password=hunter2x'
    text = between.join([line] * 2000)
    assert clean(text) == text.replace('hunter2x', 'password-1')
    key = '-----BEGIN PRIVATE KEY-----\n' + 'abcd1234\n' * 2000 + '-----END PRIVATE KEY-----'
    assert clean(f'a\n{key}\nb') == 'a\nkey-1\nb'


@pytest.mark.parametrize(
    'secret', ['key-3ax6xnjp29jd6fds4gc373sgvjxteol0', 'token-1hunter2!Geheim', 'user-2024-Geheim']
)
def test_a_secret_that_begins_like_a_pseudonym_is_taken_out(secret):
    assert clean(f"password='{secret}'") == "password='password-1'"


def test_other_spellings_and_places_of_a_value_have_the_same_pseudonym():
    assert clean('Ada@example.org ADA@EXAMPLE.ORG') == 'email-1 email-1'
    assert clean('2001:db8::1 2001:0db8:0:0::0001 x') == 'address-1 address-1 x'
    assert clean('password=hunter2hunter2x9 /a?q=hunter2hunter2x9').count('password-1') == 2


def test_a_name_of_a_user_that_is_a_word_does_not_blot_out_sentences():
    document = {'path': '/Plone/author/waitress', 'fact': 'waitress has 4 threads'}
    found, _ = redacted(document)
    assert found['path'] == '/Plone/author/user-1' and found['fact'] == document['fact']


def test_the_pattern_of_the_site_does_not_leave():
    options = {'redact': 'all', 'redact-pattern': 'Secret(?:A|B)'}
    found, _ = redacted({'context': {'options': options}})
    assert found['context']['options'] == {'redact': 'all', 'redact-pattern': 'not shown'}


def test_the_pattern_of_the_site_touches_no_pseudonym():
    assert (
        clean('/a?b=Kuendigung x7', **{'redact-pattern': r'\d|value'}) == '/a?b=value-1 xpattern-1'
    )


# -- logs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'head',
    [
        '',
        '2026-12-01 11:06:34,208 WARNING [shop:20][waitress-0] ',
        '2026-12-01T11:06:34 WARNING shop ',
        '[2026-12-01 11:06:34 +0000] [17] [ERROR] ',
        'Dec  1 11:06:34 web1 zope[4711]: ',
        '2026-12-01T11:06:34.208Z zope[4711]: ',
    ],
)
def test_a_secret_in_a_line_of_a_log_is_found_whatever_is_before_it(head):
    messages = [
        'db-password : Drachenbaum',
        '127.0.0.1 - kbauer [17/Jan/2026:10:22:31 +0200] "GET /x?a=Kuendigung HTTP/1.1" 200 1',
        'user bob1 logged in with password=geheim12',
        '-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w\n-----END PRIVATE KEY-----',
    ]
    text = '\n'.join(head + message for message in messages)
    found, _ = redacted({'logs': [{'name': 'event-log', 'file': '/home/ada/x.log', 'text': text}]})
    (log,) = found['logs']
    for secret in ('Drachenbaum', 'kbauer', 'Kuendigung', 'geheim12', 'MIIEv', 'ada'):
        assert secret not in log['text'] + log['file']
    assert log['text'].startswith(head + 'db-password : password-1\n') and '\0' not in log['text']


@pytest.mark.parametrize('part', [7, [], ['x'], [{'text': 7}], {'a': 'b'}])
def test_logs_of_another_form_stay(part):
    found, _ = redacted({'logs': part})
    assert found['logs'] == part


def test_versions_before_and_after_a_change_are_no_addresses():
    changed = {
        'run': 'x',
        'changes': [{'name': 'x', 'before': '203.0.113.7', 'now': '203.0.113.8'}],
    }
    found, _ = redacted({'changed_since_stable': changed})
    assert found['changed_since_stable'] == changed


# -- what stays ------------------------------------------------------------------------------------


@pytest.mark.parametrize('address', ['127.0.0.1', '::1', '0.0.0.0', '127.8.9.1', '255.255.255.0'])
def test_addresses_that_every_machine_has_stay(address):
    assert clean(f'from {address} port 1') == f'from {address} port 1'


def test_values_of_our_own_are_never_matched_by_shape():
    odd = 'AKIAIOSFODNN7EXAMPLE 203.0.113.7'
    document = {
        'version': '203.0.113.7',
        'build_id': 'ghp_' + 'a1' * 20,
        'run': odd,
        'distributions': [{'name': 'x', 'version': '203.0.113.7'}],
        'compiled_modules': [odd],
        'support': {'support_contact': 'me@example.org'},
        'file': '/srv/203.0.113.7/token=abcdef1234/a.py',
    }
    found, _ = redacted(document)
    assert found == document | {KEY: found[KEY]}


@pytest.mark.parametrize(
    'signature, expected',
    [
        ('SIGSEGV crasher_c!null 1234567890', 'SIGSEGV crasher_c!null 1234567890'),
        ('killed /orders/*/@@edit ~0a1b2c3d4e', 'killed /orders/*/@@edit ~0a1b2c3d4e'),
        ('killed /mail/to/10.1.2.3 ~0a1b2c3d4e', 'killed /mail/to/address-1 ~0a1b2c3d4e'),
    ],
)
def test_a_signature_may_hold_the_path_of_a_request(signature, expected):
    found, _ = redacted({'signature': signature})
    assert found['signature'] == expected


@pytest.mark.parametrize('part', ['sources', 'known_issues', 'context', 'versions', 'checks'])
def test_a_sentence_below_any_part_may_hold_a_secret(part):
    found, _ = redacted({part: [{'error': 'LDAPError: bind_password=h4nter2', 'id': 'x'}]})
    assert found[part] == [{'error': 'LDAPError: bind_password=password-1', 'id': 'x'}]


def test_what_the_reporter_types_stays_also_if_it_is_found_elsewhere():
    document = {'support': {'support_contact': 'me@example.org'}, 'log': 'me@example.org'}
    found, _ = redacted(document)
    assert found['support'] == document['support'] and found['log'] == 'email-1'


@pytest.mark.parametrize(
    'path',
    [
        '/Plone/resolveuid/4b2cc6b97f62a47d4438a4e1b6932168',
        '/Plone/image.png/@@images/6f2c1ad4-9a3e-4d0b-9c8f-2f1a6b7c8d9e.png',
        '/Plone/++plone++production/++unique++2026-01-01T00:00:00.000000/default.css',
        '/Plone/passwordreset',
        '/srv/var/stability/runs/20261201T065552Z-3164-abcd/blackbox.sbr',
    ],
)
def test_usual_paths_of_plone_stay(path):
    assert clean(path) == path


# -- switches --------------------------------------------------------------------------------------

OF_CLASSES = {
    'query': '/a?b=Kuendigung',
    'cookies': 'Cookie: tree="abcdef123"',
    'passwords': 'postgresql://zope:pw7x9@db/zodb',
    'tokens': 'AKIAIOSFODNN7EXAMPLE',
    'emails': 'ada@example.org',
    'addresses': '203.0.113.7',
    'paths': '/passwordreset/4b2cc6b97f62a47d4438a4e1b6932168',
    'users': 'GET /@@x for user "ada"',
    'homes': '/home/ada/zope',
}


@pytest.mark.parametrize('name', OF_CLASSES)
def test_each_class_is_a_switch(name):
    text = OF_CLASSES[name]
    assert clean(text) != text == clean(text, redact=f'all -{name}')
    assert clean(text, redact=name) != text == clean(text, redact='none')
    _, done = redacted_text(text, policy_of({'redact': name}))
    assert set(done.counts) == {name}


def test_keys_that_smell_are_a_switch():
    document = {'options': {'smtp_password': 'x y z', 'smtp_host': 'x y z'}}
    found, _ = redacted(document)
    assert found['options'] == {'smtp_password': 'setting-1', 'smtp_host': 'x y z'}
    found, _ = redacted(document, policy_of({'redact': 'all -configuration'}))
    assert found['options'] == document['options'] and found[KEY]['off'] == ['configuration']


def test_a_pattern_of_the_site_is_redacted():
    options = {'redact-pattern': r'K-\d{6}'}
    assert clean('customer K-123456 and K-123456', **options) == 'customer pattern-1 and pattern-1'
    assert clean('customer K-123456') == 'customer K-123456'
    assert clean('x', **{'redact-pattern': ''}) == 'x', 'an empty pattern matches everywhere'
    assert clean('x', **{'redact-pattern': '('}) == 'x'


@pytest.mark.parametrize(
    'text, classes',
    [
        ('all', CLASSES.keys()),
        ('none', ()),
        ('users, emails', {'users', 'emails'}),
        ('all -users', CLASSES.keys() - {'users'}),
        ('-users', CLASSES.keys() - {'users'}),
    ],
)
def test_the_option_names_classes(text, classes):
    assert classes_of(text) == set(classes)


@pytest.mark.parametrize('text', ['', 'usres', 'all but users'])
def test_a_wrong_option_is_refused_and_everything_is_redacted(text):
    with pytest.raises(ValueError):
        classes_of(text)
    assert policy_of({'redact': text}) == redaction.EVERYTHING


# -- values of the model ---------------------------------------------------------------------------


def test_values_of_the_model_are_redacted_as_documents():
    run = record(0, 'crashed', requests=(request(1, path='/a?b=Kuendigung', user='ada.l'),))
    found = redacted_values({'runs': (run,), 'one': run}, redaction.EVERYTHING)
    (crashed,) = found['runs'][0].requests
    assert crashed.path == '/a?b=value-1' and crashed.user.startswith('user-')
    assert found['one'].requests == found['runs'][0].requests
    assert redacted_values({'one': run}, NOTHING)['one'] == run


def test_an_address_of_e_mail_in_a_path_is_redacted():
    found, _ = redacted({'logs': [{'file': '/srv/ada@example.org/x.log'}], 'binary': '/x@1.2/y.so'})
    assert found['logs'] == [{'file': '/srv/email-1/x.log'}] and found['binary'] == '/x@1.2/y.so'


def test_registers_never_leave_and_a_library_below_a_home_is_redacted():
    """A register may hold eight bytes of a password."""
    frame = {'library': '/home/ada/lib/x.so', 'function': 'f', 'native': True}
    core = {'path': '/home/ada/core', 'registers': {'rax': 7}, 'threads': [{'frames': [frame]}]}
    document, _ = redaction.redacted({'core': core})
    assert 'registers' not in document['core']
    assert 'ada' not in json.dumps(document)
