"""What Python and the kernel say about a fault."""

import pytest

from Products.StabilityMonitor.model.faultfacts import FatalError
from Products.StabilityMonitor.model.faultfacts import KernelFault
from Products.StabilityMonitor.model.faultfacts import is_at_stack_end


@pytest.mark.parametrize(
    'address, pointer, is_end',
    [
        (0x7FFD_0000_0FF8, 0x7FFD_0000_1000, True),
        (0x7FFD_0000_1800, 0x7FFD_0000_1000, True),
        (0x7FFC_0000_1000, 0x7FFD_0000_1000, False),
        (8, 16, False),
        (None, 0x7FFD_0000_1000, False),
        (0x7FFD_0000_1000, 0, False),
    ],
)
def test_the_end_of_a_stack_is_where_its_pointer_is(address, pointer, is_end):
    assert is_at_stack_end(address, pointer) is is_end


def test_only_a_segfault_is_at_the_end_of_a_stack():
    fault = KernelFault('invalid opcode', 1, 0x7FFD_0000_1000, 1, 0x7FFD_0000_1000)
    assert not fault.is_at_stack_end


def test_python_says_that_it_was_ending():
    assert FatalError(runtime_state='finalizing (tstate=0x1)').was_ending
    assert not FatalError(runtime_state='initialized').was_ending
