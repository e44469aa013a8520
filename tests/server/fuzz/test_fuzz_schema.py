"""Schemathesis: requests drawn from the server's own description of itself, and its answers held against that."""

import pytest
import schemathesis
from changed_bodies import Sent
from fuzz_server import PATIENCE, Answer, wrong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from served import FILM, PICTURE, data_uri

CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
]
FEW_TOKENS = 8
EXAMPLES = 30
ROUTES = {
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/health": "GET",
    "/v1/models": "GET",
    "/v1/models/{model}": "GET",
    "/tokenize": "POST",
    "/detokenize": "POST",
}
BEYOND = {
    "structured_outputs": "regular expressions, grammars and schemas are languages of their own",
    "response_format": "a schema, or about pictures that must be there",
    "tool_choice": "of what is in tools",
    "top_logprobs": "wants logprobs, which may be null",
    "min_tokens": "not over max_tokens, nor over what fits beside the prompt",
    "n": "with /v1/completions, times the prompts, not over 128",
    "mm_processor_kwargs": "the fewest pixels are not over the most, one side wants the other, fps excludes nframes",
}
"""Fields whose values the description cannot bound, because others do, and why. Parts have the options of the last, too."""
TOO_LONG = "context_length_exceeded"  # texts are as long as their tokens, which a description cannot count
schemathesis.openapi.format("picture-address", draw.just(data_uri(PICTURE.read_bytes())))
schemathesis.openapi.format("video-address", draw.just(data_uri(FILM.read_bytes(), "video/mp4")))


def bounded(body):
    """A body, or a part of it, without what is beyond its description."""
    if isinstance(body, list):
        return [*map(bounded, body)]
    if not isinstance(body, dict):
        return body
    if body.get("type") in ("image_url", "video_url"):
        return {name: body[name] for name in ("type", body["type"])}
    deeper = ("messages", "content")
    return {name: bounded(value) if name in deeper else value for name, value in body.items() if name not in BEYOND}


@pytest.fixture(scope="session")
def description(server):
    return schemathesis.openapi.from_url(f"{server.address}/openapi.json")


def test_all_routes_are_described(description):
    assert {*description} == {*ROUTES}


@pytest.mark.parametrize(
    ("path", "mode"),
    [(path, mode) for path in ROUTES for mode in GenerationMode if mode.is_positive or ROUTES[path] == "POST"],
)
def test_what_the_description_allows_and_forbids(description, path, mode):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(description[path][ROUTES[path]].as_strategy(generation_mode=mode), draw.booleans())
    def ask(case, is_bounded):
        checks = CHECKS
        if mode.is_positive and is_bounded:
            case.body, checks = bounded(case.body), [*CHECKS, positive_data_acceptance]
        if path.endswith("completions") and isinstance(case.body, dict):
            most = case.body.get("max_tokens", FEW_TOKENS)
            case.body["max_tokens"] = min(most, FEW_TOKENS) if mode.is_positive and most else most
        response = case.call(timeout=PATIENCE)
        if TOO_LONG in response.text:
            checks = CHECKS
        case.validate_response(response, checks=checks)
        is_stream = response.headers["content-type"][0].startswith("text/event-stream")
        answer = Answer(response.status_code, response.text, is_stream=is_stream)
        assert not [*wrong(answer, Sent(case.formatted_path, response.request.body or b""))]

    ask()
