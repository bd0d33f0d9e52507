"""What is said of recorded crashes in compiled code: the class of death and the first suspect.

The records are of real Zopes with ten innocent compiled modules.  tests/functional/test_suspects.py
lets Zopes die now.
"""

import functools
from dataclasses import replace

import pytest
from support import recordedcrashes
from support.crashmeasure import Outcome
from support.crashmeasure import share
from support.crashmeasure import table
from support.crashtable import OF_OTHERS
from support.crashtable import OF_PRODUCTS

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed


@functools.cache
def _recorded():
    return recordedcrashes.read()


def _outcomes(crashes, cores):
    known = _recorded()
    found = []
    for crash in crashes:
        record = known.records[crash.page]
        if not cores:
            record = replace(record, core=None)
        found.append(Outcome(crash, diagnosed(record, read=known.sources.get)))
    return found


@pytest.mark.parametrize(('cores', 'least'), [(True, 0.9), (False, 0.7)])
def test_the_culprit_is_mostly_the_first_suspect(cores, least):
    outcomes = _outcomes(OF_PRODUCTS, cores)
    assert share(outcomes) >= least, table(outcomes)


@pytest.mark.parametrize('cores', [True, False])
def test_no_innocent_module_is_said_to_be_the_cause(cores):
    outcomes = _outcomes(OF_PRODUCTS + OF_OTHERS, cores)
    assert [each.crash.page for each in outcomes if each.accused] == [], table(outcomes)


def test_the_class_of_death_is_right():
    outcomes = _outcomes(OF_PRODUCTS + OF_OTHERS, cores=True)
    wrong = [each.crash.page for each in outcomes if not each.has_right_class]
    assert wrong == [], table(outcomes)


def test_a_file_that_was_cut_short_is_named_and_no_module():
    (crash,) = [crash for crash in OF_OTHERS if crash.page == 'truncated_mapping']
    (outcome,) = _outcomes([crash], cores=True)
    assert outcome.record.core.data_at.file.endswith('/index.dat')
    assert 'index.dat' in outcome.record.death.why and outcome.record.suspects == ()
