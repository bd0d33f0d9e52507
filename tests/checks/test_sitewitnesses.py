"""The check of the witnesses: what would tell how this process is killed, and how to get one."""

import os
from pathlib import Path

import pytest
from support.syntheticruns import DeadRun

from Products.StabilityMonitor.checks.livesite import Site
from Products.StabilityMonitor.checks.sitewitnesses import Witnesses
from Products.StabilityMonitor.system.processidentity import identity


def look(tmp_path, parent=77, proc=None, journals=(), kernel_logs=(), **context):
    site = Site(
        tmp_path,
        context,
        proc=proc or tmp_path / 'proc',
        parent=parent,
        journals=journals,
        kernel_logs=kernel_logs,
    )
    return Witnesses().look(site)


@pytest.mark.parametrize(
    'context, advice',
    [
        ({}, '"stabilitymonitor run --"'),
        ({'supervisor': 'zdaemon'}, '"<eventlog>"'),
        ({'supervisor': 'supervisord'}, '"supervisor-log"'),
        ({'supervisor': 'gunicorn'}, '--error-log'),
        ({'supervisor': 'uwsgi'}, '--logto'),
        (
            {'supervisor': 'systemd', 'parent_name': 'systemd'},
            'SupplementaryGroups=systemd-journal',
        ),
        ({'supervisor': 'systemd', 'parent_name': 'sh'}, '"stabilitymonitor run --"'),
        ({'supervisor': 'zdaemon', 'supervisor_log': {'path': '/no/log'}}, 'read /no/log'),
    ],
)
def test_a_site_without_a_witness_is_told_how_to_get_one(tmp_path, context, advice):
    found = look(tmp_path, **context)
    assert found.severity.code == 'info' and 'nothing will tell' in found.title
    assert advice in str(found.action) and 'vanished' in found.detail


def test_a_log_that_can_be_read_is_a_witness(tmp_path):
    log = tmp_path / 'zdaemon.log'
    log.touch()
    found = look(tmp_path, supervisor='zdaemon', supervisor_log={'path': str(log)})
    assert found.severity.code == 'ok' and 'the log of zdaemon' in found.title
    found = look(tmp_path, options={'supervisor-log': str(log)})
    assert found.severity.code == 'ok' and str(log) in found.detail


def test_standard_error_of_gunicorn_is_its_log(tmp_path):
    (tmp_path / 'err').touch()
    outputs = {'2': {'kind': 'file', 'path': str(tmp_path / 'err')}}
    assert look(tmp_path, supervisor='gunicorn', outputs=outputs).severity.code == 'ok'
    os.mkfifo(tmp_path / 'fifo')
    outputs = {'2': {'kind': 'file', 'path': str(tmp_path / 'fifo')}}
    assert look(tmp_path, supervisor='gunicorn', outputs=outputs).severity.code == 'info'


@pytest.mark.parametrize(
    'command, is_run',
    [
        ('/usr/bin/python3\0/srv/bin/stabilitymonitor\0run\0--\0runwsgi\0', True),
        ('python3\0-m\0Products.StabilityMonitor\0run\0--\0x\0', True),
        ('python3\0/srv/bin/stabilitymonitor\0status\0', False),
        ('run\0', False),
    ],
)
def test_the_command_run_is_a_witness(tmp_path, command, is_run):
    proc = tmp_path / 'proc'
    (proc / '77').mkdir(parents=True)
    (proc / '77/cmdline').write_text(command)
    assert ('stabilitymonitor run' in look(tmp_path).title) is is_run


@pytest.mark.parametrize(
    'system, severity', [('Linux-6.15.1-x86_64', 'ok'), ('Linux-6.8.0-x86_64', 'info')]
)
def test_living_servers_are_counted(tmp_path, system, severity):
    DeadRun(tmp_path, 1)
    DeadRun(tmp_path, 2, role='script')
    living = DeadRun(tmp_path, 3)
    real = identity() | {'pid': os.getpid()}
    living.path.rename(living.path.with_name(living.path.name.replace('-103-', f'-{os.getpid()}-')))
    (path,) = (tmp_path / 'runs').glob(f'*-{os.getpid()}-*')
    living.path = path
    living.change(identity=real)
    site = Site(tmp_path, {'platform': system}, pid=1, parent=0, kernel_logs=(), journals=())
    found = Witnesses().look(site)
    assert found.severity.code == severity and '1 other Zope shares' in found.detail


def test_the_journal_counts_for_a_service_of_systemd(tmp_path):
    journal = tmp_path / 'journal' / 'abc' / 'system.journal'
    journal.parent.mkdir(parents=True)
    journals = (tmp_path / 'missing', tmp_path / 'journal')
    known = {'supervisor': 'systemd', 'invocation_id': 'a' * 32, 'parent_name': 'systemd'}
    assert 'cannot be read' in look(tmp_path, journals=journals, **known).detail
    journal.touch()
    assert look(tmp_path, journals=journals, **known).severity.code == 'ok'
    assert look(tmp_path, journals=journals, supervisor='zdaemon').severity.code == 'info'
    of_a_shell = known | {'parent_name': 'sh'}
    assert look(tmp_path, journals=journals, **of_a_shell).severity.code == 'info'


def test_the_log_of_the_kernel_alone_does_not_tell_every_end(tmp_path):
    (tmp_path / 'kmsg').write_text('4,1,1,-;x\n')
    found = look(tmp_path, kernel_logs=(Path('/nowhere'), tmp_path / 'kmsg'))
    assert found.severity.code == 'info' and 'it has faults and OOM kills' in found.detail
