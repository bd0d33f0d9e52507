"""The report as a ZIP file: all formats in it, and the same bytes for the same report."""

import io
import json
import zipfile
from xml.etree import ElementTree

from support.samplereports import incident
from support.samplereports import state

from Products.StabilityMonitor.reporting.htmlreport import as_html
from Products.StabilityMonitor.reporting.zipreport import as_zip


def opened(report):
    return zipfile.ZipFile(io.BytesIO(as_zip(report)))


def test_it_has_each_format_the_pictures_and_the_logs():
    archive = opened(incident())
    assert archive.testzip() is None
    assert archive.namelist() == [
        'report.txt',
        'report.md',
        'report.html',
        'report.json',
        'pictures/1-memory.svg',
        'pictures/2-cpu-percent-of-one-cpu.svg',
        'logs/1-from-the-black-box.txt',
        'logs/2-event-log-srv-log-event-log.txt',
    ]
    assert archive.read('report.html') == as_html(incident())
    assert json.loads(archive.read('report.json')) == json.loads(json.dumps(incident()))
    assert ElementTree.fromstring(archive.read('pictures/1-memory.svg')).tag.endswith('svg')
    assert archive.read('logs/2-event-log-srv-log-event-log.txt') == b'One.\nTwo.\n'


def test_the_same_report_makes_the_same_bytes():
    assert as_zip(incident()) == as_zip(incident())


def test_no_name_in_it_leads_out_of_its_folder():
    portion = {'name': '../../x', 'file': '/../../etc/passwd\n\x00', 'text': '\x1b[2J'}
    names = opened(incident(logs=[portion])).namelist()
    assert names[-1] == 'logs/2-x-etc-passwd.txt'
    assert opened(incident(logs=[portion])).read(names[-1]) == b'\\x1b[2J\n'


def test_a_report_without_pictures_and_logs_has_only_the_formats():
    assert len(opened(state()).namelist()) == 4
