import pytest
from web_server import FakeClock, serving

from phq_data.sources.web.http import Web


@pytest.fixture
def site():
    """A server that answers as told."""
    with serving() as site:
        yield site


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def web(clock):
    """A client that may ask this machine and never really waits."""
    web = Web("ada@example.org", clock=clock, allow_private=True, seed=1, timeout=60.0)
    yield web
    web.close()
