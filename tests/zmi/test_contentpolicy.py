"""What a browser may do with pages, pictures and downloads, over HTTP in a real Zope."""

import base64
import hashlib
import re
from pathlib import Path

import pytest

from Products.StabilityMonitor.model.verdicts import VERDICTS
from Products.StabilityMonitor.model.verdicts import verdict
from Products.StabilityMonitor.zmi import contentpolicy

TAB = '/Control_Panel/StabilityMonitor/'
PAGES = (
    'manage_main',
    'manage_incidents',
    'manage_incident?run={run}',
    'manage_threads',
    'manage_checks',
    'manage_report',
    'manage_drills',
    'manage_incident?run=nonsense',  # the page with a message
    'flames?run=x&request=1',
)
FRAGMENTS = ('threads_fragment?part=live', 'threads_fragment?part=native')
DOWNLOADS = (
    'report',
    'report?format=json',
    'report?format=json&run={run}',
    'stacks',
    'trace',
    'trace?run={run}',
)
OF_THE_SITE = "script-src 'self' https://cdn.example.org; report-uri /violations"
HOSTILE = '"; filename="/etc/passwd\r\nSet-Cookie: a=b\r\n\r\n<script>ü\u202e\0'

#: Sets a policy, as a site may do, and makes the picture of a slow request and the names of
#: downloads as the test wants them.
SOURCE = """
def police(self, policy):
    global POLICY
    POLICY = policy
    return "ok"

POLICY = ""

def _policed(event):
    if POLICY:
        event.request.response.setHeader("Content-Security-Policy", POLICY)

from zope.component import provideHandler
from ZPublisher.interfaces import IPubAfterTraversal
provideHandler(_policed, (IPubAfterTraversal,))

def draw(self):
    from Products.StabilityMonitor.reporting.flames import flames
    from Products.StabilityMonitor.zmi import threadpages
    threadpages.picture = lambda life, run, number: flames([[[["/a.py", "f"]], 1]])
    return "ok"

def rename(self, name):
    from Products.StabilityMonitor.zmi import reportpages
    real = reportpages.render
    reportpages.render = lambda *arguments: (name, *real(*arguments)[1:])
    return "ok"
"""


def directives(answer):
    """Return {name of a directive: its sources} of the only policy of an answer."""
    (policy,) = answer.headers.get_all('Content-Security-Policy')
    return {part.split()[0]: part.split()[1:] for part in policy.split(';')}


def sha256(code):
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


@pytest.fixture
def visited(make_zope):
    """A site with one dead run."""
    zope = make_zope(options={'drills': 'on'}).publish(SOURCE).start()
    zope.kill()
    zope.wait_exit()
    zope.start()
    (zope.dead_run,) = (path.name for path in (zope.stability / 'archive').glob('2*'))
    return zope


def get(zope, path, **arguments):
    return zope.get(TAB + path.format(run=zope.dead_run), **arguments)


@pytest.mark.zope
def test_every_page_allows_only_this_site_and_the_inline_code_of_zope(visited):
    for path in PAGES:
        answer = get(visited, path)
        allowed = directives(answer)
        assert answer.headers['X-Content-Type-Options'] == 'nosniff', path
        assert allowed['default-src'] == allowed['object-src'] == ["'none'"], path
        for name in ('style-src', 'connect-src', 'base-uri', 'form-action', 'frame-ancestors'):
            assert allowed[name] == ["'self'"], (path, name)
        footer = answer.text.rpartition('</main>')[2]
        (script,) = re.findall(r'<script>(.*?)</script>', footer, re.DOTALL)
        (handler,) = re.findall(r' onclick="([^"]*)"', answer.text.partition('<main')[0])
        assert sorted(allowed['script-src']) == sorted(
            ["'self'", "'unsafe-hashes'", sha256(script), sha256(handler)]
        ), path
    for path in FRAGMENTS:
        assert directives(get(visited, path))['script-src'] == ["'self'"], path


@pytest.mark.zope
def test_no_page_of_ours_has_inline_code_or_styles(visited):
    for path in PAGES:
        main = get(visited, path).text.partition('<main')[2].partition('</main>')[0]
        assert main and not re.search(r'\s(style|on\w+)=|<style', main), path
        assert re.findall(r'<script[^>]*>(.*?)</script>', main, re.DOTALL) in ([], ['']), path


@pytest.mark.zope
def test_a_browser_runs_and_loads_nothing_of_a_download(visited):
    for path in DOWNLOADS:
        answer = get(visited, path)
        assert directives(answer) == {
            'default-src': ["'none'"],
            'frame-ancestors': ["'none'"],
            'sandbox': [],
        }, path
        assert answer.headers['X-Content-Type-Options'] == 'nosniff', path
        assert re.fullmatch(
            r'attachment; filename="[A-Za-z0-9._-]+"', answer.headers['Content-Disposition']
        ), path


@pytest.mark.zope
def test_a_browser_runs_and_loads_nothing_of_a_flame_graph(visited):
    visited.get('/draw')
    answer = get(visited, 'flames?run=x&request=1')
    assert answer.headers.get_content_type() == 'image/svg+xml'
    assert directives(answer)['default-src'] == ["'none'"] and 'sandbox' in directives(answer)
    assert answer.headers['X-Content-Type-Options'] == 'nosniff'


@pytest.mark.zope
def test_a_policy_of_the_site_stays_in_force(visited):
    visited.post('/police', {'policy': OF_THE_SITE})
    for path in ('manage_main', 'report'):
        (policies,) = get(visited, path).headers.get_all('Content-Security-Policy')
        of_the_site, ours = policies.split(', ')
        assert of_the_site == OF_THE_SITE and ours.startswith("default-src 'none'; ")


@pytest.mark.zope
def test_other_pages_of_zope_get_no_policy(shared_zope):
    for path in ('/Control_Panel/manage_main', '/manage_main'):
        assert 'Content-Security-Policy' not in shared_zope.get(path).headers


@pytest.mark.zope
def test_code_that_comes_with_the_address_is_not_allowed(shared_zope):
    """Zope's footer writes the address into its script, and does not quote the host name of it."""
    evil = "x');alert(1);('"
    answer = shared_zope.get(f'/VirtualHostBase/http/{evil}:80/VirtualHostRoot{TAB}manage_main')
    footer = answer.text.rpartition('</main>')[2]
    (script,) = re.findall(r'<script>(.*?)</script>', footer, re.DOTALL)
    assert answer.status == 200 and evil in script
    assert sha256(script) not in directives(answer)['script-src']
    usual = shared_zope.get(f'/VirtualHostBase/https/a-b.example:443/VirtualHostRoot{TAB}report')
    assert usual.status == 200


def test_inline_code_of_a_replaced_frame_is_not_allowed(tmp_path):
    class Bar:
        raw = str(tmp_path / 'missing')

    for bar in (None, object(), Bar()):
        assert contentpolicy.of_page('<p>', bar, {'URL': 'x'}).endswith("; script-src 'self'")


@pytest.mark.zope
def test_a_download_with_a_hostile_name_has_a_harmless_name(visited):
    assert visited.post('/rename', {'name': f'stability-{HOSTILE}.txt'}).text == 'ok'
    answer = get(visited, 'report')
    assert answer.status == 200 and 'Set-Cookie' not in answer.headers
    assert (
        answer.headers['Content-Disposition']
        == 'attachment; filename="stability-_filename_etc_passwd_Set-Cookie_a_b_script_.txt"'
    )


@pytest.mark.parametrize(
    'name, safe',
    [
        ('stability-20261123T074501Z-17-abcd.json', 'stability-20261123T074501Z-17-abcd.json'),
        ('a"b.txt', 'a_b.txt'),
        ("a'b;c\\d.txt", 'a_b_c_d.txt'),
        ('../../etc/passwd', '_.._etc_passwd'),
        ('.bashrc', 'bashrc'),
        ('-rf', 'rf'),
        ('a\r\nX: y.txt', 'a_X_y.txt'),
        ('größe\u202e.txt', 'gr_e_.txt'),
        ('lone \ud800.txt', 'lone_.txt'),
        ('', 'download'),
        ('...', 'download'),
    ],
)
def test_the_name_of_a_download_has_only_safe_characters(name, safe):
    assert contentpolicy.file_name(name) == safe


def test_the_name_of_a_download_has_a_limit_and_keeps_its_ending():
    name = contentpolicy.file_name('x' * 5000 + '.json')
    assert len(name) == 120 and name.endswith('x.json')
    assert len(contentpolicy.file_name('x.' + 'y' * 5000)) == 120


def test_the_style_sheet_has_the_colour_of_every_verdict():
    package = Path(contentpolicy.__file__).parent.parent
    rules = (package / 'www/static/stability.css').read_text()
    found = dict(
        re.findall(r'^\.stability-verdict-([\w-]+) \{ --verdict: (#\w+); \}$', rules, re.M)
    )
    wanted = {row.code: row.colour for row in VERDICTS.values()}
    assert found == wanted | {'unknown': verdict('of a later release').colour}
