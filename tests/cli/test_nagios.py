"""`status --nagios`: the line and the exit status of a Nagios plugin."""

import os
import re

import pytest
from support.commandline import archived
from support.commandline import process
from support.syntheticruns import HERE
from support.syntheticruns import record

from Products.StabilityMonitor.cli import nagios
from Products.StabilityMonitor.model.jsonform import to_json

NOW = '2026-11-23T08:00:00.000Z'
#: One item of performance data, as the guidelines of the Monitoring Plugins define it.
ITEM = re.compile(r"[^ '=]+=(U|-?[\d.]+(s|ms|us|%|B|KB|MB|TB|c)?);[^; ]*;[^; ]*;[\d.]*;[\d.]*")
HANG = {'kind': 'hang', 'summary': 'Nobody | is served.', 'seconds': 61.0}
VITALS = {
    'in_flight': 3,
    'workers': 4,
    'queue': 2,
    'waited': 1.5,
    'connections': 9,
    'connection_limit': 100,
    'accept_queue': None,
    'descriptors': 60,
    'descriptor_limit': 1024,
    'threads': 12,
    'rss': 200 << 20,
}


def server(pid=7, **values):
    return {'pid': pid, 'role': 'server', 'hang': None, 'delay': None, 'vitals': VITALS, **values}


def ended(verdict='crashed', **values):
    return {
        'ended': '2026-11-23T07:00:00.000Z',
        'summary': f'It ended: {verdict}.',
        'verdict': verdict,
        'is_incident': verdict != 'stopped',
        'is_open': verdict != 'stopped',
        **values,
    }


def status(*living, last=None, crash_loop=(), exit_status=0):
    known = {
        'instance': to_json(HERE),
        'living': [process['pid'] for process in living],
        'last_run': last,
        'crash_loop': crash_loop,
    }
    return {
        'generated': NOW,
        'exit_status': exit_status,
        'living': list(living),
        'instances': [known],
    }


@pytest.mark.parametrize(
    'document, level, words',
    [
        (status(server(), last=ended('stopped')), 0, '1 server is running'),
        (status(server()), 0, '1 server is running'),
        (status(server(), last=ended(), exit_status=1), 1, 'ended 1 hour ago: It ended: crashed.'),
        (status(server(), last=ended(), exit_status=0), 0, 'ended 1 hour ago: crashed'),
        (status(server(delay=HANG)), 1, 'process 7, for 1 min 1 s: Nobody / is served.'),
        (status(last=ended('stopped')), 1, 'no server is running'),
        (status(last=ended(), exit_status=1), 2, 'ended 1 hour ago and is down: It ended'),
        (status(server(hang=HANG), exit_status=1), 2, 'process 7, for 1 min 1 s: Nobody / is'),
        (status(server(), crash_loop=['a', 'b', 'c']), 2, '3 incidents in a row'),
        (status() | {'instances': []}, 3, 'no run of a server has been recorded here yet'),
    ],
)
def test_the_exit_status_is_the_worst_of_what_is_wrong(capsys, document, level, words):
    assert nagios.show(document) == level
    line = capsys.readouterr().out
    assert line.startswith(f'STABILITY {("OK", "WARNING", "CRITICAL", "UNKNOWN")[level]} - ')
    assert words in line and (line.count('\n'), line.count(' | ')) == (1, 1)


def test_performance_data_has_the_form_and_the_same_labels_always(capsys):
    found = []
    for document in (status(server(), server(8)), status(server(vitals=None)), status()):
        nagios.show(document)
        _, _, performance = capsys.readouterr().out.strip().partition(' | ')
        items = performance.split(' ')
        assert [item for item in items if not ITEM.fullmatch(item)] == []
        found.append([item.partition('=')[0] for item in items])
        if len(found) == 1:
            assert {'busy=6;;;0;8', 'descriptors=120;;;0;2048', 'waited=1.500s;;;0;'} <= {*items}
            assert {'rss=419430400B;;;0;', 'accept_queue=U;;;0;', 'servers=2;;;0;'} <= {*items}
    assert found[0] == found[1] == found[2]


def test_a_long_text_is_cut_and_has_no_control_characters(capsys):
    nagios.show(status(server(hang=HANG | {'summary': 'a\n\x1b' + 'x' * 5000})))
    line = capsys.readouterr().out
    assert len(line) < 1024 and '\x1b' not in line and line.count('\n') == 1


def test_what_cannot_be_read_is_unknown():
    for words in (('--directory', '/nowhere', 'status', '--nagios'), ('status', '--nagios', '--x')):
        done = process(*words)
        assert (done.returncode, done.stdout[:20]) == (3, 'STABILITY UNKNOWN - '), done


def test_the_command_prints_one_line(base, command):
    archived(base, record(0, 'crashed'))
    exit_status, output, errors = command('status', '--nagios')
    assert (exit_status, errors) == (2, '') and output.startswith('STABILITY CRITICAL - ')
    assert output.count('\n') == 1 and os.linesep not in output[:-1]
