"""API keys: the key counts on every route but /health, and nothing tells how near a wrong one is (CVE-2025-59425)."""

import base64
import hmac

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.server.keys import KeyCheck, read_keys, salt

KEYS = ["first-key-0123456789", "second-key-0123456789"]


@pytest.fixture
def asked():
    """`asked(authorization, path=...)` is the answer of a server with two keys, which tells the salt of each request."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def answer(request: Request, wanted: str | None = None) -> str:
        return salt(request, wanted).hex()

    @app.post("/")
    async def take() -> str:
        return "taken"

    app.add_middleware(KeyCheck, keys=KEYS)
    client = TestClient(app)

    def ask(*authorizations, path="/", method="GET"):
        return client.request(method, path, headers=[("Authorization", each) for each in authorizations])

    return ask


@pytest.mark.parametrize("key", KEYS)
def test_right_keys_pass(asked, key):
    basic = base64.b64encode(b"anybody:" + key.encode()).decode()
    for authorization in (f"Bearer {key}", f"bearer  {key} ", f"Basic {basic}"):
        assert asked(authorization).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        KEYS[0],
        f"Token {KEYS[0]}",
        f"Bearer {KEYS[0][:-1]}",  # a prefix of the right one
        f"Bearer {KEYS[0]}0",
        f"Bearer {KEYS[0]} {KEYS[1]}",
        f"Bearer {KEYS[0]}, Bearer {KEYS[1]}",
        "Basic %%%",
        "Basic " + base64.b64encode(KEYS[0].encode()).decode(),
        "Basic " + base64.b64encode(b"anybody:" + KEYS[0][:-1].encode()).decode(),
        b"Bearer \xff\xfe",
    ],
)
def test_others_do_not(asked, authorization):
    response = asked(authorization)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"].startswith("Basic ")
    assert KEYS[0] not in response.text


def test_a_password_posts_nothing(asked):
    """Browsers send it with what foreign pages have them post (cross-site request forgery)."""
    basic = f"Basic {base64.b64encode(b'anybody:' + KEYS[0].encode()).decode()}"
    assert [asked(key, method="POST").status_code for key in (basic, f"Bearer {KEYS[0]}")] == [401, 200]


def test_two_headers_are_refused(asked):
    assert asked(*[f"Bearer {KEYS[0]}"] * 2).status_code == 401


@pytest.mark.parametrize(
    "path", ["/", "/page/main.js", "/metrics", "/v1/models", "/openapi.json", "/health/", "/Health"]
)
def test_every_route_needs_one(asked, path):
    """vLLM's key counted below /v1 alone."""
    assert asked(path=path).status_code == 401


def test_health_needs_none(asked):
    assert asked(path="/health").status_code == 200


def test_all_keys_are_compared_by_digest(asked, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return compare_digest(one, other)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for authorization in (f"Bearer {KEYS[0]}", "Bearer x"):
        asked(authorization)
        assert compared == [(32, 32)] * 2, "whichever is right, and however long"
        compared.clear()


def test_a_salt_a_key(asked):
    """The prefix cache of vLLM told one user of another's prompts."""
    first, second = (asked(f"Bearer {key}").json() for key in KEYS)
    wanted = asked(f"Bearer {KEYS[0]}", path="/?wanted=mine").json()
    others = asked(f"Bearer {KEYS[1]}", path="/?wanted=mine").json()
    assert len({first, second, wanted, others, ""}) == 5
    assert first == asked(f"Bearer {KEYS[0]}").json()


def test_without_keys_only_a_wanted_salt(asked):
    assert asked(path="/health").json() == ""
    assert len(asked(path="/health?wanted=mine").json()) == 64


def test_keys_of_a_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# people\n{KEYS[0]}\n\n  {KEYS[1]}\r\n")
    assert read_keys(path) == KEYS


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "short\n", "has spaces in it 0123456789\n", "schlüssel-0123456789\n"]
)
def test_no_keys_of_a_file(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="key"):
        read_keys(path)
    with pytest.raises(ConfigurationError, match="no file of keys"):
        read_keys(tmp_path)
