"""What the tests of a real Zope rest on: no two of them get one port."""

from support import zopekit
from support.childprograms import run_python

CODE = 'from support import zopekit; print(*[zopekit.free_port() for _ in range(2000)])'


def test_no_port_is_given_out_twice():
    """Two thousand of 17,000: if each process drew for itself, hundreds would be the same."""
    ours = [zopekit.free_port() for _ in range(2000)]
    other = run_python('-c', CODE, check=True)
    theirs = list(map(int, other.stdout.split()))
    assert len({*ours, *theirs}) == 4000
