"""Reports are checked against their JSON Schema, wherever a test makes one.

The closed schema refuses a key that has no annotation, see `reporting.reportdocument`.
"""

import functools
import json

import jsonschema

from Products.StabilityMonitor.reporting import renderers
from Products.StabilityMonitor.reporting import report
from Products.StabilityMonitor.reporting.reportschema import report_schema

HOW = (
    'The report does not fit its JSON Schema: annotate what is new in reporting/reportdocument.py, '
    'and run "python tools/report_schema.py".'
)
#: So many problems are shown.
_SHOWN = 5


@functools.cache
def validator(is_closed=True):
    return jsonschema.Draft202012Validator(report_schema(is_closed))


def problems(document, is_closed=True):
    """Return where a document does not fit the schema, and why, as texts."""
    return [
        f'{error.json_path}: {error.message[-300:]}'
        for error in _leaves(validator(is_closed).iter_errors(document))
    ]


def _leaves(errors):
    """Yield what is wrong inside of a value that may also be null."""
    for error in errors:
        inner = [each for each in error.context or () if each.validator_value != 'null']
        yield from _leaves(inner) if inner else (error,)


def valid(document):
    """Return the document; fails if it does not fit the schema."""
    found = problems(document)
    assert not found, '\n'.join([HOW, *found[:_SHOWN]])
    return document


def build(*arguments, **named):
    """Like `report.build`, but the report is checked."""
    document = report.build(*arguments, **named)
    valid(json.loads(renderers.as_json(document)))
    return document


def check_each(monkeypatch):
    """Check each report that is rendered as JSON in this process, for one test."""
    content_type, extension, function = renderers.FORMATS['json']

    def checked(document):
        content = function(document)
        if document.get('schema') == report.SCHEMA:
            valid(json.loads(content))
        return content

    monkeypatch.setitem(renderers.FORMATS, 'json', (content_type, extension, checked))
