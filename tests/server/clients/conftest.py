"""One server for all clients."""

import pytest
from served import PICTURE, Served, data_uri


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def shapes() -> str:
    """The picture of the examples as a data URI."""
    return data_uri(PICTURE.read_bytes())
