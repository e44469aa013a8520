"""A small model on the loopback interface, and caches of this test's own."""

import pytest
from standin.loopback import hub as loopback_hub
from standin.loopback import nobody
from standin.stored import ENDPOINTS, HOMES, NAME, UNSET, write_model

from paddlemix_qwenvl.hub import transfer


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch):
    """Caches under `homes`, and no server at all."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name in HOMES:
        monkeypatch.setenv(name, str(tmp_path / "homes" / name))
    closed = nobody()
    for name in ENDPOINTS.values():
        monkeypatch.setenv(name, closed)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    return tmp_path / "homes"


@pytest.fixture
def stored(tmp_path):
    return write_model(tmp_path / "stored")


@pytest.fixture
def models(stored):
    """What the server has: may be changed by a test."""
    return {NAME: stored}


@pytest.fixture
def faults():
    """What goes wrong with which file: may be changed by a test."""
    return {}


@pytest.fixture
def requests(models, faults, monkeypatch):
    """The requests to a server that is every source's mirror."""
    with loopback_hub(models, faults) as (address, requests):
        for name in ENDPOINTS.values():
            monkeypatch.setenv(name, address)
        yield requests
