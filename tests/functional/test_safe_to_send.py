"""Secrets that are planted everywhere in a real site: none leaves it, in no format and encoding."""

import base64
import html
import io
import json
import tomllib
import zipfile
from pathlib import Path
from urllib.parse import quote
from urllib.parse import quote_plus

import pytest
from support.aftermath import command
from support.zopekit import ZopeFailed
from support.zopekit import ZopeInstance

from Products.StabilityMonitor.reporting.renderers import FORMATS

pytestmark = pytest.mark.zope

SECRETS = tomllib.loads((Path(__file__).parents[1] / 'data' / 'secrets.toml').read_text('utf-8'))[
    'secret'
]
TAB = '/Control_Panel/StabilityMonitor/'
PAGES = """
import json, logging, os
from App.config import getConfiguration
from Acquisition import Implicit
from OFS.Application import Application
from ZPublisher import zpublish

log = logging.getLogger('shop')

@zpublish
class Planted(Implicit):
    def __bobo_traverse__(self, request, name):
        return self

    def __call__(self, REQUEST):
        for line in json.loads(REQUEST.get('BODY') or '[]'):
            log.warning('%s', line)
        return 'logged'

Application.planted = Planted()

trap = os.path.join(getConfiguration().clienthome, 'trap')
if os.path.exists(trap):
    with open(trap) as file:
        raise RuntimeError(file.read())

def initialize(context):
    pass
"""
OPTIONS = {'record-query': 'on', 'record-user': 'on', 'capture-log': 'info'}


def encodings(secret):
    """The ways in which a secret may stand in the bytes of a download."""
    return {
        secret,
        quote(secret),
        quote(secret, safe=''),
        quote_plus(secret),
        html.escape(secret),
        json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode().rstrip('='),
    }


def leaked(content):
    if zipfile.is_zipfile(io.BytesIO(content)):
        archive = zipfile.ZipFile(io.BytesIO(content))
        content = b'\n'.join([name.encode() + archive.read(name) for name in archive.namelist()])
    text = content.decode('utf-8', 'replace')
    return sorted(
        {
            each['secret']
            for each in PLANTED
            if any(way in text for way in encodings(each['secret']))
        }
    )


#: A secret of a few letters is no evidence: it may occur by chance.
PLANTED = [each for each in SECRETS if len(each['secret']) > 5]


def planted_in_configuration():
    """zope.conf text with the secrets of configurations: one in each line, and as comments those
    that ZConfig cannot read.
    """
    texts = [each['text'] for each in SECRETS if each['where'] == 'configuration']
    lines = ['<product-config planted>']
    for number, text in enumerate(texts):
        if '<' in text:
            lines += [f'# {line}' for line in text.splitlines()]
        else:
            lines.append(f'  key{number} {" ".join(text.split()).replace("$", "$$")}')
    return '\n'.join([*lines, '</product-config>'])


def planted_in_environment():
    """Variables of the process: those of the secrets, or else a variable with the whole text."""
    found = {}
    for number, each in enumerate(SECRETS):
        if each['where'] == 'environment':
            name, equals, value = each['text'].partition('=')
            whole = {f'PLANTED_{number}': each['text']}
            found |= {name: value} if equals and name.isidentifier() else whole
    return {name: value for name, value in found.items() if name not in ('HOME', 'PATH')}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    site = ZopeInstance(
        tmp_path_factory.mktemp('secrets'),
        options=OPTIONS,
        zope_conf_extra=planted_in_configuration(),
        env=planted_in_environment(),
    )
    site.publish(PAGES).create()
    yield site
    site.destroy()


def downloads(site, run=''):
    """Return {name: bytes} of all that leaves the site, from the browser and from the command."""
    about = f'&run={run}' if run else ''
    found = {
        f'{name} report': site.get(f'{TAB}report?format={name}{about}').body for name in FORMATS
    }
    found['trace log'] = site.get(f'{TAB}trace?{about}').body
    found['stacks'] = site.get(f'{TAB}stacks').body
    for words in (['report', '--format', 'text'], ['report', '--format', 'json'], ['trace']):
        found[' '.join(words)] = command(site, *words, *([run] if run else [])).encode()
    return found


def leaks(site, run=''):
    return {
        name: secrets for name, body in downloads(site, run).items() if (secrets := leaked(body))
    }


def batches(of, size=30):
    texts = list(dict.fromkeys(each['text'] for each in SECRETS if (each['where'] in PATHS) is of))
    return [texts[start : start + size] for start in range(0, len(texts), size)]


PATHS = ('path', 'query')


def test_no_secret_in_paths_leaves_a_living_site(site):
    if not site.running:
        site.start()
    for batch in batches(True):
        for path in batch:
            site.get('/planted' + quote(path, safe="/?&=%:;+,@!*'()~#[]"))
        assert leaks(site) == {}
        assert '=value-1' in site.get(f'{TAB}trace').text, 'nothing was recorded'


@pytest.mark.thorough
@pytest.mark.parametrize(
    'first', [0, *(pytest.param(first, marks=pytest.mark.sweep) for first in (1, 2, 3))]
)
def test_no_secret_in_log_records_leaves_a_living_site(site, first):
    if not site.running:
        site.start()
    for number, batch in enumerate(batches(False, 45)[first::4]):
        lines = json.dumps([f'batch {number} begins', *batch, f'batch {number} ends']).encode()
        site.post('/planted', lines, headers={'Content-Type': 'application/json'})
        site.kill()
        site.wait_exit()
        site.start()
        record = site.archive()[0]
        for word in ('begins', 'ends'):
            assert f'batch {number} {word}' in json.dumps(record), 'nothing was recorded'
        assert leaks(site, record['run']) == {}
        everything = command(site, 'report', record['run'], '--redact', 'none').encode()
        assert leaked(everything), 'the person who runs the command may see it'


@pytest.mark.thorough
def test_no_secret_in_the_exception_of_a_failed_start_leaves_the_site(site):
    if site.running:
        site.stop()
    trap = site.client_home / 'trap'
    texts = [each['text'] for each in SECRETS if each['where'] == 'exception']
    for batch in (
        texts[start : start + 18] for start in range(0, len(texts), 18)
    ):  # 4 KiB are kept
        trap.write_text('\n'.join(batch))
        with pytest.raises(ZopeFailed):
            site.start()
        trap.unlink()
        site.start()
        record = site.archive()[0]
        assert record['verdict'] == 'startup-failed'
        first = batch[0].splitlines()[0]
        assert first in record['exception'], 'nothing was recorded'
        assert leaks(site, record['run']) == {}
        site.stop()


@pytest.mark.thorough
def test_no_secret_in_an_archived_file_leaves_the_site(site):
    """An older release, or another person, may have written anything into a record."""
    if not site.running:
        site.start()
    site.kill()
    site.wait_exit()
    site.start()
    (file,) = (site.stability / 'archive').glob(f'{site.archive()[0]["run"]}/incident.json')
    record = json.loads(file.read_text('utf-8'))
    frame = {'file': '/srv/shop.py', 'line': 7, 'function': 'pay'}
    for batch in batches(False, 120) + batches(True, 120):
        text = '\n'.join(batch)
        planted = record | {
            'summary': text,
            'exception': text,
            'last_words': batch,
            'candidates': batch,
            'ruled_out': batch,
            'evidence': [{'source': 'log', 'fact': line} for line in batch],
            'threads': [{'ident': 1, 'name': line, 'frames': [frame]} for line in batch],
            'requests': [{'method': 'GET', 'path': line, 'started': None} for line in batch],
            'context': record['context'] | {'environ': batch, 'more': {'text': text}},
        }
        file.write_text(json.dumps(planted), 'utf-8')
        (file.parent / 'summary.json').unlink(missing_ok=True)
        assert leaks(site, record['run']) == {}
