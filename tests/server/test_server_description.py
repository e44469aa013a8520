"""What /openapi.json says of the model that is served."""

import re
import time

import pytest
from fastapi.testclient import TestClient

from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.description import below
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.service import Service


@pytest.mark.parametrize("number", [1, 2, 9, 10, 11, 20, 99, 100, 101, 110, 151, 1000, 2048])
def test_the_numbers_below_one(number):
    pattern = re.compile(below(number))
    assert [i for i in range(3 * number + 50) if pattern.match(str(i))] == [*range(number)]
    assert not any(map(pattern.match, ("", "00", "01", "-1", "1.0")))


def test_names_and_token_ids_are_those_of_the_model(client, service):
    size = service.assistant.runner.facts.vocab_size
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    chat, tokens = schemas["ChatRequest"]["properties"], schemas["DetokenizeRequest"]["properties"]["tokens"]
    assert chat["model"]["anyOf"][0]["enum"] == ["demo"]
    assert tokens["items"]["maximum"] == size - 1
    assert chat["logit_bias"]["anyOf"][0]["propertyNames"]["pattern"] == below(size)
    last, over = ({"tokens": [number]} for number in (size - 1, size))
    assert [client.post("/detokenize", json=body).status_code for body in (last, over)] == [200, 400]


def test_while_it_loads_they_are_not_known_yet():
    service = Service(lambda _: time.sleep(60), ["demo"])
    told = TestClient(create_app(service, None, Limits())).get("/openapi.json").text
    assert '"enum":["demo"]' in told and "propertyNames" not in told and "x-of-model" not in told
