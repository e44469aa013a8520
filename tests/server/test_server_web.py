"""Pages of other sites, which a browser lets ask whatever it can reach."""

import socket

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from paddlemix_qwenvl.server.web import OwnPages


def status(method="GET", local=True, **headers) -> int:
    app = FastAPI()
    app.add_api_route("/", lambda: "whole", methods=["GET", "POST"])
    app.add_middleware(OwnPages, local=local)
    return TestClient(app).request(method, "/", headers=headers).status_code


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("app.localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        (socket.gethostname(), True),
        ("evil.com", False),
        ("127.0.0.1.evil.com:8000", False),
        ("localhost.evil.com", False),
        ("[::1", False),
    ],
)
def test_names_that_were_made_to_mean_this_machine(host, is_own):
    """DNS rebinding (ollama's CVE-2024-28224); who listens to others knows not all of its names."""
    assert status(host=host) == (200 if is_own else 403)
    assert status(host=host, local=False) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
def test_what_foreign_pages_have_a_browser_post(site):
    """Cross-site request forgery; a link to the page is none."""
    headers = {"sec-fetch-site": site, "host": "localhost"}
    assert status("POST", **headers) == (200 if site in ("same-origin", "none") else 403)
    assert status("GET", **headers) == 200
