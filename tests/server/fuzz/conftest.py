"""What is left of a server after wrong requests."""

import fuzz_server
import pytest


@pytest.fixture(scope="module", autouse=True)
def _answers_afterwards(server):
    yield
    fuzz_server.alive(server)
