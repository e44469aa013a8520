"""What is refused, in which words."""

import json
import logging
import random

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from paddlemix_qwenvl.errors import ContextError, GenerationError, ParallelError
from paddlemix_qwenvl.server import errors
from paddlemix_qwenvl.server.errors import RequestError

MESSAGES = [{"role": "user", "content": "x"}]


def refused(client, path="/v1/chat/completions", status=400, **body) -> dict:
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temprature": 1}, "temprature", "no field that this server knows (did you mean 'temperature'?)"),
        ({"guided_json": {}}, "guided_json", "(use structured_outputs)"),
        ({"mm_processor_kwargs": {"max_pixel": 1}}, "mm_processor_kwargs.max_pixel", "no field"),
        ({"temperature": 3}, "temperature", "temperature: Input should be less than or equal to 2."),
        ({"temperature": "1"}, "temperature", "temperature: Input should be a valid number."),
        ({"n": 17}, "n", "less than or equal to 16"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"store": True}, "store", "this server knows False alone: leave it out"),
        ({"audio": {}}, "audio", "should be None"),
        ({"messages": [{"role": "x"}]}, "messages.0", "'role' should be one of 'system', 'developer', 'user'"),
        ({"messages": [{"content": "x"}]}, "messages.0", "'role' is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
            "Field required",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:,", "url": 1}]}]},
            "messages.0.content.0.url",
            "no field",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"detail": "low"}}]}]},
            "messages.0.content.0.image_url.url",
            "Field required",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "match pattern"),
        ({"messages": []}, "messages", "at least 1"),
        ({"tool_choice": "required"}, "tool_choice", "a tool that tools does not hold"),
        ({"top_logprobs": 2}, "top_logprobs", "set logprobs to true"),
        ({"response_format": {"type": "boxes"}}, None, "is about pictures: show one"),
        ({"structured_outputs": {}}, None, "one of json, regex, choice and grammar"),
        ({"structured_outputs": {"regex": "("}}, None, "regular expression"),
        ({"max_tokens": 2, "min_tokens": 3}, None, "min_tokens is 3"),
        ({"logit_bias": {"999": 1}}, None, "logit_bias is 999"),
    ],
)
def test_requests_are_refused_by_the_name_of_what_is_wrong(client, fields, param, message):
    error = refused(client, **{"messages": MESSAGES} | fields)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]


def test_texts_are_counted_with_their_prompts(client):
    error = refused(client, path="/v1/completions", prompt=["x"] * 16, n=9)
    assert (error["param"], "144 texts" in error["message"]) == ("n", True)


def test_models_that_are_not_there(client):
    error = refused(client, status=404, model="gpt-4o", messages=MESSAGES)
    assert (error["type"], error["param"], error["code"]) == ("not_found_error", "model", "model_not_found")


def test_a_prompt_over_the_context_has_openai_s_code(client):
    error = refused(client, messages=[{"role": "user", "content": "\u2500" * 2000}])
    assert error["code"] == "context_length_exceeded", error
    assert "2048" in error["message"]


BODIES = (
    b"",
    b"{",
    b"[]",
    b"1",
    b'"x"',
    b'{"messages": NaN}',
    b'{"messages": "\\ud800"}',
    b"\xff",
    b"[" * 100_000,
    b"1" * 5000,
)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_request(client, body):
    response = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400 and response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("chunked", [True, False])
def test_bodies_that_are_too_large(client, chunked):
    parts = [b" " * (1 << 20), b"{}"]
    response = client.post("/v1/chat/completions", content=iter(parts) if chunked else b"".join(parts))
    assert response.status_code == 413 and "over 1048576 bytes" in response.json()["error"]["message"]


def test_a_message_is_one_line(client):
    assert refused(client, messages=MESSAGES, **{"a\n b": 1})["message"].startswith("a b is no field")


def test_addresses_and_methods_that_are_not_there(client):
    assert client.get("/nope").json()["error"]["type"] == "not_found_error"
    response = client.get("/v1/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.fixture
def failing():
    """`failing(error)` is the answer of an application whose only route raises this."""

    def answer(error):
        app = FastAPI()
        errors.install(app)

        @app.get("/")
        async def fail():
            raise error

        return TestClient(app, raise_server_exceptions=False).get("/")

    return answer


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (GenerationError("<Image at 0x7f00deadbeef> is none"), 400, "<Image> is none"),
        (ContextError("long"), 400, "long"),
        (RequestError("full", 503, retry_after=5), 503, "full"),
        (ParallelError("/secret/folder is gone"), 500, "the server failed at this request; its log says more"),
        (KeyError("/secret"), 500, "the server failed at this request; its log says more"),
        (GenerationError("x" * 9999), 400, "x" * 497 + "..."),
    ],
    ids=lambda each: type(each).__name__,
)
def test_errors_say_nothing_of_the_machine(failing, caplog, error, status, message):
    caplog.set_level(logging.CRITICAL)
    response = failing(error)
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)
    assert response.headers.get("retry-after") == ("5" if status == 503 else None)


BODY = {
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "stop": ["a"],
    "logit_bias": {"5": 1},
    "seed": 1,
    "max_tokens": 1,
}
JUNK = (None, True, 0, -1, 1.5, 2**64, 1e300, "", "x", "<|image_pad|>", [], {}, [[]], {"type": "text"}, "data:,")


def places(value, path=()):
    """Where in a body a value stands."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@pytest.mark.parametrize("seed", range(40))
def test_no_body_makes_the_server_fail(client, seed):
    draws, body = random.Random(seed), json.loads(json.dumps(BODY))
    for _ in range(draws.randint(1, 3)):
        *path, key = draws.choice([*places(body)])
        at = body
        for step in path:
            at = at[step]
        at[key] = draws.choice(JUNK)
    assert client.post("/v1/chat/completions", json=body).status_code in (200, 400, 404)
