"""The cache of signatures: what is no longer right, damaged or forged is made again."""

import json
import os

import pytest
from support.syntheticruns import record

from Products.StabilityMonitor.model.feature import Feature
from Products.StabilityMonitor.model.signature import Signature
from Products.StabilityMonitor.store import signaturefiles
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base
from Products.StabilityMonitor.store.signaturefiles import Signed

SIGNATURE = Signature('crashed', 'SIGSEGV', 'null', ('c!null',), ('shop:view',), is_weak=True)
SIGNED = Signed(SIGNATURE, (Feature('memory', '512'), Feature('zope', 'Zope', '6.3')))


@pytest.fixture
def base(tmp_path):
    base = Base(tmp_path / 'stability')
    base.prepare()
    return base


@pytest.fixture
def run(base):
    """The name of an archived run with a kept signature."""
    each = record(1, 'crashed')
    (base.runs / each.run).mkdir()
    Archive(base).add(base.runs / each.run, each)
    assert keep(base, each.run)
    return each.run


def keep(base, run, signed=SIGNED, rules=1):
    return signaturefiles.write(base, run, rules, signaturefiles.sources(base, run), signed)


def path_of(base, run):
    return base.archive / run / 'signature.json'


def change(base, run, **values):
    path = path_of(base, run)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_kept_is_read_back(base, run):
    assert signaturefiles.read(base, run, 1) == SIGNED
    keep(base, run, Signed(None))
    assert signaturefiles.read(base, run, 1) == Signed(None)


def test_it_may_be_read_by_those_who_may_read_the_record(base, run):
    os.chmod(base.archive / run / 'incident.json', 0o640)
    keep(base, run)
    assert path_of(base, run).stat().st_mode & 0o777 == 0o640


def test_that_of_other_rules_is_not_read(base, run):
    assert signaturefiles.read(base, run, 2) is None


@pytest.mark.parametrize('name', ['core.json', 'witness-shell.json'])
def test_it_is_out_of_date_when_more_is_known_of_the_run(base, run, name):
    (base.archive / run / name).write_text('{}')
    assert signaturefiles.read(base, run, 1) is None


def test_it_stays_right_in_a_copy_and_beside_other_new_files(base, run):
    (base.archive / run / 'note.txt').write_text('x')
    os.utime(base.archive / run / 'incident.json', (1, 1))
    assert signaturefiles.read(base, run, 1) == SIGNED


def test_a_source_that_comes_while_the_record_is_read_makes_it_out_of_date(base, run):
    made_from = signaturefiles.sources(base, run)
    (base.archive / run / 'core.json').write_text('{}')
    signaturefiles.write(base, run, 1, made_from, SIGNED)
    assert signaturefiles.read(base, run, 1) is None


@pytest.mark.parametrize(
    'values',
    [
        {'format': 2},
        {'of': []},
        {'signature': 'SIGSEGV'},
        {'signature': {'signal': 'SIGSEGV'}},
        {'signature': {'verdict': 'crashed', 'native': 'c!null'}},
        {'features': None},
        {'features': [1]},
        {'features': [{'name': 'lxml'}]},
        {'features': [{'kind': 'zope', 'name': 5}]},
    ],
)
def test_a_damaged_one_is_not_read(base, run, values):
    change(base, run, **values)
    assert signaturefiles.read(base, run, 1) is None


@pytest.mark.parametrize('content', [b'', b'[]', b'{' * 9, b'\xff', b' ' * (64 << 10) + b'{}'])
def test_a_file_that_is_no_record_is_not_read(base, run, content):
    path_of(base, run).write_bytes(content)
    assert signaturefiles.read(base, run, 1) is None


def test_a_document_without_a_signature_is_damaged(base, run):
    document = json.loads(path_of(base, run).read_text())
    del document['signature']
    path_of(base, run).write_text(json.dumps(document))
    assert signaturefiles.read(base, run, 1) is None


def test_a_link_is_not_followed(base, run, tmp_path):
    elsewhere = tmp_path / 'elsewhere.json'
    path_of(base, run).rename(elsewhere)
    path_of(base, run).symlink_to(elsewhere)
    assert signaturefiles.read(base, run, 1) is None
    before = elsewhere.read_text()
    assert keep(base, run, Signed(None))
    assert elsewhere.read_text() == before
    assert signaturefiles.read(base, run, 1) == Signed(None)


def test_what_is_too_long_or_cannot_be_written_is_left_out(base, run):
    assert not keep(base, run, Signed(None, (Feature('zope', 'x' * (64 << 10)),)))
    assert signaturefiles.read(base, run, 1) == SIGNED
    assert not signaturefiles.write(base, 'unknown', 1, {}, SIGNED)


def test_a_run_that_is_not_archived_has_no_sources(base):
    assert signaturefiles.sources(base, 'unknown') is None
    assert signaturefiles.read(base, 'unknown', 1) is None
