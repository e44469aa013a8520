"""What was filed against other servers of these models, asked of this one as clients ask; the other files of this folder have
the rest, with the troubles' names."""

import ast
import base64
import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

import paddlemix_qwenvl
from paddlemix_qwenvl.errors import ContextError
from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.asking import ask_chat, ask_completion, takes_long
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.media import MediaPolicy
from paddlemix_qwenvl.server.protocol_chat import ChatRequest
from paddlemix_qwenvl.server.protocol_completions import CompletionRequest

CHAT = "/v1/chat/completions"
KEYS = ["first-key-0123456789", "second-key-0123456789"]
PACKAGE = Path(paddlemix_qwenvl.__file__).parent


def said(words) -> list[dict]:
    return [{"role": "user", "content": words}]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (27, 28)])
def test_a_picture_of_hardly_a_pixel_is_its_own_trouble(client, ask, size):
    """One of 1 x 1 ended vLLM's engine (CVE-2026-22773)."""
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    shown = said([{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What?"}])
    assert client.post(CHAT, json={"messages": shown, "max_tokens": 2}).status_code in (200, 400)
    assert ask("Hello", max_tokens=2)["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 10_000},
        {"n": 0},
        {"stop": ["x"] * 1000},
        {"stop": "x" * 100_000},
        {"stop_token_ids": [1] * 1000},
        {"logit_bias": {str(i): 1 for i in range(2000)}},
        {"top_logprobs": 1000, "logprobs": True},
        {"messages": said("x") * 2000},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_nothing_is_asked_for_without_bound(client, fields):
    """vLLM made as many answers as `n` said (CVE-2026-34756)."""
    response = client.post(CHAT, json={"messages": said("x")} | fields)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": "{% for i in range(10**9) %}{{ i }}{% endfor %}"},
        {"chat_template_kwargs": {"chat_template": "{{ 1 }}"}},
        {"chat_template_kwargs": {"tokenize": True}},
        {"chat_template_kwargs": {"documents": []}},
        {"chat_template_kwargs": {"add_vision_id": True, "tools": []}},
    ],
)
def test_clients_do_not_set_the_template(client, fields):
    """It stood still in vLLM while it rendered what clients asked for (CVE-2025-62426), and ran their code in others
    (CVE-2026-5760); what a model's own file may do is in tests/models/test_models_jinja.py."""
    error = client.post(CHAT, json={"messages": said("x")} | fields).json()["error"]
    assert "is no field that this server knows" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "(((a{1000}){1000}){1000}){1000}"}},
        {"structured_outputs": {"regex": "(" * 10_000 + ")" * 10_000}},
        {"structured_outputs": {"choice": ["x" * 100] * 1000}},
        {"structured_outputs": {"json": {"type": "string", "pattern": "((a{1000}){1000}){1000}"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/a"}}}},
    ],
)
def test_patterns_and_schemas_are_compiled_within_limits(client, ask, fields):
    """They ended or filled vLLM's server (CVE-2025-48944), and its disk (GHSA-mgrm-fgjv-mhv8): nothing is kept on one here."""
    response = client.post(CHAT, json={"messages": said("x")} | fields)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error"), response.text
    assert ask("Hello", max_tokens=2)["usage"]["completion_tokens"] > 0


def test_options_of_pictures_that_nobody_knows_are_refused(client):
    """vLLM ignored them (13463), and pictures were as large as before."""
    shown = [{"type": "image_url", "image_url": "data:,", "max_pixel": 1}]
    for fields, param in (
        ({"mm_processor_kwargs": {"max_frame": 1}}, "mm_processor_kwargs.max_frame"),
        ({"messages": said(shown)}, "messages.0.content.0.max_pixel"),
    ):
        error = client.post(CHAT, json={"messages": said("x")} | fields).json()["error"]
        assert error["param"] == param and "no field" in error["message"]


def test_no_key_learns_of_another_s_prompts(service):
    """Which prompts were asked before was told by the time they took and by `cached_tokens`, whoever had asked them."""
    media = MediaPolicy(Limits())
    client = TestClient(create_app(service, media, Limits(), KEYS))
    body = {"messages": said("A secret of some length. " * 20), "max_tokens": 1}
    found = []
    for key in (KEYS[0], KEYS[0], KEYS[1], KEYS[1]):
        answer = client.post(CHAT, json=body, headers={"Authorization": f"Bearer {key}"})
        found.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
    media.close()
    assert found == [False, True, False, True]


def test_nothing_between_processes_is_pickled():
    """What reached the sockets of SGLang and vLLM was (CVE-2026-3059, CVE-2026-3060, CVE-2026-3989)."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "multiprocessing"}
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if modules & {name.partition(".")[0] for name in names}:
                importing.add(path.relative_to(PACKAGE).as_posix())
    assert importing == {"weights/files.py"}  # which lets nothing but arrays be named


def test_texts_far_over_the_context_are_not_read_to_the_end(service, monkeypatch):
    """A body of 64 MiB kept a thread busy for a minute before it was refused."""
    assistant = service.assistant
    tokenizer = assistant.processor.tokenizer
    encode, lengths = tokenizer.encode, []
    monkeypatch.setattr(tokenizer, "encode", lambda text: lengths.append(len(text)) or encode(text))
    text = "A word, and another one. " * 400_000
    for ask in (
        lambda: ask_chat(assistant, ChatRequest(messages=said(text)), [], b""),
        lambda: ask_chat(assistant, ChatRequest(messages=said([{"type": "text", "text": text}])), [], b""),
        lambda: ask_completion(assistant, CompletionRequest(prompt=text), b""),
    ):
        with pytest.raises(ContextError, match="more than the model's context"):
            ask()
    assert len(lengths) == 3 and max(lengths) <= 1 << 16


@pytest.mark.parametrize(
    ("fields", "text_bytes", "side", "long"),
    [
        ({}, 1000, 100, False),
        ({"response_format": {"type": "text"}, "tool_choice": "auto"}, 1000, 1000, False),
        ({}, 1 << 20, 100, True),
        ({}, 1000, 3000, True),
        ({"response_format": {"type": "json_object"}}, 1000, 100, True),
        ({"structured_outputs": {"choice": ["a"]}}, 1000, 100, True),
        ({"tool_choice": "required"}, 1000, 100, True),
    ],
)
def test_what_takes_long_is_known_before(fields, text_bytes, side, long):
    body = ChatRequest.model_validate({"messages": said("x")} | fields)
    assert takes_long(body, text_bytes, [Image.new("RGB", (side, side))]) == long
