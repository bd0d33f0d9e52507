import pytest
from support.victims import Victim


@pytest.fixture
def start(tmp_path):
    """Return a function that starts victims in one directory; `armed=False` starts a control
    process.
    """
    started = []

    def start(way, *words, armed=True, **how):
        started.append(Victim(way, str(tmp_path / 'stability') if armed else None, *words, **how))
        return started[-1]

    yield start
    for victim in started:
        victim.clean_up()
