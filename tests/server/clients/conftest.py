"""Clients of the command. Those that pip does not install, which are OpenAI's package for Node and curl, are set up by
shell/clients_test.sh, which names node in QWENVL_NODE. Without that they are not collected, and the end of the test run says so."""

import os

import pytest
from served import PICTURE, data_uri

collect_ignore = [] if "QWENVL_NODE" in os.environ else ["test_clients_node.py", "test_clients_readme.py"]


def pytest_terminal_summary(terminalreporter):
    if collect_ignore:
        terminalreporter.write_line("left out: clients for Node and curl, because QWENVL_NODE names no node")


@pytest.fixture(scope="session")
def shapes() -> str:
    """The picture of the examples as a data URI."""
    return data_uri(PICTURE.read_bytes())
