"""Schemathesis: requests drawn from the server's own description of itself, and its answers held against that."""

import pytest
import schemathesis
from changed_bodies import Sent
from fuzz_server import PATIENCE, Answer, wrong
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

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
    @given(description[path][ROUTES[path]].as_strategy(generation_mode=mode))
    def ask(case):
        if isinstance(case.body, dict) and "max_tokens" not in case.body and path.endswith("completions"):
            case.body["max_tokens"] = FEW_TOKENS
        response = case.call(timeout=PATIENCE)
        case.validate_response(response, checks=CHECKS)
        is_stream = response.headers["content-type"][0].startswith("text/event-stream")
        answer = Answer(response.status_code, response.text, is_stream=is_stream)
        assert not [*wrong(answer, Sent(case.formatted_path, response.request.body or b""))]

    ask()
