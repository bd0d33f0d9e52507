"""No two real Zopes of the tests get the same port."""

from support import zopekit
from support.childprograms import run_python

CODE = 'from support import zopekit; print(*[zopekit.free_port() for _ in range(2000)])'


def test_no_port_is_given_out_twice():
    """Two processes draw 2,000 ports each of 17,000: without the locks, hundreds would be equal."""
    ours = [zopekit.free_port() for _ in range(2000)]
    other = run_python('-c', CODE, check=True)
    theirs = list(map(int, other.stdout.split()))
    assert len({*ours, *theirs}) == 4000
