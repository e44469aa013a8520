"""The demo behind the server's routes, asked without a network; and the command that serves it."""

import base64
import io
import json
import time

import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from served import Served

from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.media import MediaPolicy
from paddlemix_qwenvl.server.service import Service

LIMITS = Limits(body_bytes=1 << 20)


@pytest.fixture(scope="session")
def service():
    """The demo, in its engine."""
    service = Service(lambda _: Assistant.load("demo"), ["demo"])
    service.start()
    while service.state == "loading":
        time.sleep(0.01)
    assert service.state == "ready", service.error
    yield service
    service.stop(10)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The demo, served by the command."""
    with Served(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def client(service):
    """Asks the server; what goes wrong in it is an answer, too."""
    media = MediaPolicy(LIMITS)
    yield TestClient(create_app(service, media, LIMITS), raise_server_exceptions=False)
    media.close()


@pytest.fixture(scope="session")
def picture():
    """A red square at (240, 60) to (480, 300) of a picture of 840 x 560, as a data URI."""
    image = Image.new("RGB", (840, 560), "white")
    ImageDraw.Draw(image).rectangle((240, 60, 479, 299), fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="session")
def ask(client):
    """`ask(words, ...)` is the chat's answer to a user's words or parts, with these fields of a request."""

    def asked(content, **fields) -> dict:
        response = client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]} | fields
        )
        assert response.status_code == 200, response.text
        return response.json()

    return asked


@pytest.fixture(scope="session")
def stream(client):
    """The chunks of a stream at an address."""

    def streamed(path: str, **body) -> list[dict]:
        response = client.post(path, json=body | {"stream": True})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        *lines, done, end = response.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    return streamed
