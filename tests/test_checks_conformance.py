"""The table of checks: each keeps the contract, and no two are mixed up."""

import pytest
from conformance_checks import CheckConformance

from Products.StabilityMonitor.diagnosis.checks import CHECKS


@pytest.fixture(params=CHECKS, ids=lambda check: check.id)
def check(request):
    return request.param


class TestEachCheck(CheckConformance):
    """See there."""


def test_ids_are_unique():
    assert len({check.id for check in CHECKS}) == len(CHECKS)


def test_all_checks_of_the_modules_are_in_the_table():
    import importlib
    import pkgutil

    from Products.StabilityMonitor.diagnosis import checks
    from Products.StabilityMonitor.diagnosis.checks.check import Check

    for module in pkgutil.iter_modules(checks.__path__):
        importlib.import_module(f'{checks.__name__}.{module.name}')
    shipped = {
        kind for kind in Check.__subclasses__() if kind.__module__.startswith(checks.__name__)
    }
    assert shipped == {type(check) for check in CHECKS}
