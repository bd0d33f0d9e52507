"""The JSON Schema of the report: it is current, and it fits what is sent."""

import copy
import json
import re
from pathlib import Path
from typing import Annotated
from typing import TypedDict

import jsonschema
import pytest
from golden import recorded
from support.syntheticruns import HERE
from support.syntheticruns import DeadRun
from support.validreports import build
from support.validreports import problems

from Products.StabilityMonitor.model.jsonform import Form
from Products.StabilityMonitor.model.snapshotrecord import SnapshotRecord
from Products.StabilityMonitor.postmortem.triage import triage
from Products.StabilityMonitor.reporting import reportdocument
from Products.StabilityMonitor.reporting import reportschema
from Products.StabilityMonitor.reporting.redaction import redacted
from Products.StabilityMonitor.reporting.renderers import as_json
from Products.StabilityMonitor.reporting.report import SCHEMA
from Products.StabilityMonitor.reporting.report import build_of_snapshot
from Products.StabilityMonitor.reporting.reportchoice import Reporter
from Products.StabilityMonitor.reporting.reportchoice import chosen
from Products.StabilityMonitor.store.archive import Archive
from Products.StabilityMonitor.store.rundirectory import Base


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The report of a crash, in JSON form."""
    base = Base(tmp_path_factory.mktemp('site') / 'stability')
    archive = Archive(base)
    run = DeadRun(base.path).crashed()
    triage(base)
    return json.loads(as_json(build(None, archive, run.name, HERE)))


def test_the_file_that_ships_is_current():
    assert reportschema.FILE.read_text('utf-8') == reportschema.schema_text(), (
        'Run "python tools/report_schema.py".'
    )


def test_it_fits_the_report_of_a_damaged_snapshot(tmp_path):
    archive = Archive(Base(tmp_path / 'stability'))
    damaged = SnapshotRecord('20261201T101112Z-77-ab12', instance=HERE, pid=77)
    report = json.loads(as_json(build_of_snapshot(None, archive, damaged)))
    assert report['process'] is None and problems(report) == []


def test_it_is_a_valid_schema_and_names_its_dialect():
    schema = json.loads(reportschema.FILE.read_text('utf-8'))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema['$schema'] == jsonschema.Draft202012Validator.META_SCHEMA['$id']
    assert schema['$defs']['Report']['properties']['schema'] == {'const': SCHEMA}


def test_it_fits_a_report_whole_cut_and_redacted(report):
    assert problems(report) == []
    cut = chosen(report, (), Reporter('Ada', 'ada@example.org', 'a', 'b'))
    assert problems(json.loads(as_json(cut))) == []
    without_secrets, _ = redacted(report)
    assert problems(json.loads(as_json(without_secrets))) == []


@pytest.mark.parametrize(
    'path, value',
    [
        (['schema'], 'stabilitymonitor/2'),
        (['generated'], '2026-11-23 07:45'),
        (['about', 'kind'], 'rumour'),
        (['incident', 'pid'], '7'),
        (['incident', 'evidence', 0, 'fact'], None),
        (['incident', 'threads', 0, 'frames', 0, 'line'], 'seven'),
        (['history', 0, 'is_wanted'], True),  # a key that has no annotation
        (['history', 0, 'threads'], []),  # a summary has no large parts
        (['previous', 'new'], 1),
        (['sources', 'checks', 'source'], 'nowhere'),
    ],
)
def test_it_refuses_what_is_no_report(report, path, value):
    document = copy.deepcopy(report)
    *way, last = path
    node = document
    for key in way:
        node = node[key]
    node[last] = value
    assert problems(document)


def test_a_missing_key_is_refused_and_a_new_one_is_allowed_to_readers(report):
    assert problems({key: value for key, value in report.items() if key != 'history'})
    newer = report | {'new': 1, 'about': report['about'] | {'new': 1}}
    assert problems(newer) and not problems(newer, is_closed=False)


def test_a_report_of_an_older_release_fits_but_for_keys_that_were_added():
    old = json.loads(recorded.stored('reports/living.json.xz'))
    schema = reportschema.report_schema()
    for definition in schema['$defs'].values():
        definition['required'] = []
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(old)] == []


def test_times_of_a_living_process_are_numbers():
    definitions = reportschema.report_schema()['$defs']
    assert definitions['PlainEvent']['properties']['started'] == {'type': 'number'}
    assert definitions['Event']['properties']['started']['type'] == ['string', 'null']
    assert definitions['PlainThreadState']['properties']['ident'] == {'type': 'integer'}


def test_what_has_no_schema_says_where_to_add_it(monkeypatch):
    for annotation, words in (
        (bytes, 'add it to'),
        (Annotated[str, 7], 'add it to'),
        (Annotated[str, Form(len, str)], 'add its Form to _WRITTEN'),
    ):

        class Shape(TypedDict):
            key: annotation

        monkeypatch.setattr(reportschema, 'Report', Shape)
        with pytest.raises(TypeError, match=words):
            reportschema.report_schema()


def test_registers_are_never_required():
    """They never leave the site, see `redaction`."""
    assert 'registers' not in reportschema.report_schema()['$defs']['CoreFile']['required']


def test_the_annotations_have_no_key_twice():
    more = reportdocument.MoreOfRun.__annotations__
    assert not set(more) & set(reportdocument.RunRecord('').to_json())


DOCUMENT = (Path(__file__).parents[2] / 'docs' / 'opentelemetry.rst').read_text('utf-8')
#: A literal that is a key of the report, or one of the incident.
KEY = re.compile(
    '``((?:incident[.]|generated$)[a-z_.]+|logs|inventory|configuration|checks|history)``'
)


def resolved(path):
    """Return the schema of a key such as "incident.requests.path"; {} below a free object."""
    definitions = reportschema.report_schema()['$defs']
    node = definitions['Report']
    for key in path.split('.'):
        node = node.get('items', node)
        for choice in node.get('anyOf', ()):
            node = choice if '$ref' in choice else node
        if '$ref' in node:
            node = definitions[node['$ref'].rpartition('/')[2]]
        if node.get('additionalProperties') == {}:
            return {}
        node = node['properties'][key]
    return node


def test_each_key_that_the_mapping_to_opentelemetry_names_is_in_the_schema():
    keys = set(KEY.findall(DOCUMENT))
    assert len(keys) > 30
    for key in sorted(keys):
        resolved(key)
    with pytest.raises(KeyError):
        resolved('incident.requests.nothing')
