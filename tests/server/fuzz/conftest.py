"""A server for wrong requests alone, and what is left of it."""

import fuzz_server
import pytest
from served import Served


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _answers_afterwards(server):
    yield
    fuzz_server.alive(server)
