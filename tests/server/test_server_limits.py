"""Bodies and headers that are too large, too deep or too slow are turned away before they are parsed (CVE-2025-48956)."""

import asyncio
import json

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from paddlemix_qwenvl.server.errors import RequestError
from paddlemix_qwenvl.server.limits import Limits, RequestLimit, check_json

LIMITS = Limits(header_bytes=2000, body_bytes=1000, body_seconds=0.05, depth=3, items=20)


@pytest.fixture
def client():
    """Asks a server that answers with the length of the body it got."""
    app = FastAPI()

    @app.post("/")
    async def length(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(RequestLimit, limits=LIMITS)
    return TestClient(app)


def in_pieces(*pieces):
    yield from pieces


@pytest.mark.parametrize("body", [b"", b"x" * 1000, json.dumps([['[[[[,,,,\\"'] * 19]).encode()])
def test_what_fits_arrives_whole(client, body):
    assert client.post("/", content=body).json() == len(body)
    assert client.post("/", content=in_pieces(body[:7], body[7:])).json() == len(body)


@pytest.mark.parametrize("content", [b"x" * 1001, [b"x" * 500] * 3])
def test_a_large_body(client, content):
    """Whether its length is told before or not."""
    response = client.post("/", content=content if isinstance(content, bytes) else in_pieces(*content))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize("length", ["1001", "9" * 5000])
def test_a_large_length_is_refused_before_the_body(client, length):
    assert client.post("/", content=in_pieces(b"x"), headers={"Content-Length": length}).status_code in (413, 431)


def test_large_headers(client):
    assert client.post("/", headers={"X": "x" * 2000}).status_code == 431
    assert client.post("/?" + "x" * 2000).status_code == 431
    assert client.post("/", headers={f"X{i}": "x" * 10 for i in range(200)}).status_code == 431


def test_a_slow_body():
    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    assert status_of(receive) == 408


def test_a_client_that_leaves():
    async def receive():
        return {"type": "http.disconnect"}

    assert status_of(receive) is None


def status_of(receive):
    """The status of what is sent, where nothing behind the middleware is asked."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [], "query_string": b"", "raw_path": b"/"}
    asyncio.run(RequestLimit(None, LIMITS)(scope, receive, send))
    return sent[0]["status"] if sent else None


@pytest.mark.parametrize(
    "body",
    [
        b"[[[[",
        b'{"a":{"a":{"a":{"a":1}}}}',
        b'["\\\\",[[[1]]]]',  # an escaped backslash does not escape the quote
        b'["\\\\\\"",[[[1]]]]',
        json.dumps([0] * 22).encode(),
        json.dumps(dict.fromkeys(map(str, range(21)))).encode(),
        b"[" + b"{}" * 21,
        b'"",' * 21,
    ],
)
def test_deep_and_long_json(body):
    with pytest.raises(RequestError, match=r"deep|items"):
        check_json(body, LIMITS)


@pytest.mark.parametrize("body", [b'[[["[[[["]]]', b'["\\"[[[[["]', b'["\\\\\\"[[[[["]', b"]]]]", b'"[[[[', b"\\"])
def test_what_is_in_texts_does_not_count(body):
    check_json(body, LIMITS)


@pytest.mark.parametrize("unit", [b"[", b"\\", b'\\"', b'"', b",", b"{}", b"x", b'""'])
def test_hostile_bodies_are_looked_through_in_little_memory(unit):
    """Nothing is kept for each item: 8 MiB of any one of them ends with an answer."""
    try:
        check_json(unit * ((8 << 20) // len(unit)), Limits())
    except RequestError as error:
        assert len(str(error)) < 100
