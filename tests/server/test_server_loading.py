"""What clients are told while the model loads."""

import threading
import time

from fastapi.testclient import TestClient

from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.server.app import create_app
from paddlemix_qwenvl.server.limits import Limits
from paddlemix_qwenvl.server.media import MediaPolicy
from paddlemix_qwenvl.server.service import Service

SECONDS = 60.0
CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}


def test_health_tells_how_far_it_is_and_requests_are_told_to_come_again():
    """Each tensor waits until somebody has asked how far it is."""
    asked, told = threading.Semaphore(0), threading.Semaphore(0)

    def load(on_progress) -> Assistant:
        def step(done, whole):
            on_progress(done, whole)
            told.release()
            assert asked.acquire(timeout=SECONDS)

        return Assistant.load("demo", on_progress=step)

    service, media = Service(load, ["demo"]), MediaPolicy(Limits())
    client, found = TestClient(create_app(service, media, Limits())), []
    service.start()
    while not found or found[-1] < 1:
        assert told.acquire(timeout=SECONDS)
        health = client.get("/health")
        assert (health.status_code, health.json()["state"]) == (503, "loading")
        found.append(health.json()["progress"])
        refused = client.post("/v1/chat/completions", json=CHAT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
        assert int(refused.headers["retry-after"]) > 0
        asked.release()
    assert len({*found}) > 20 and found == sorted(found) and 0 < found[0] < 0.5 and found[-1] == 1
    until = time.monotonic() + SECONDS
    while service.state == "loading":
        assert time.monotonic() < until
        time.sleep(0.01)
    assert client.get("/health").json()["state"] == "ready"
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    media.close()
    service.stop(SECONDS)


def test_weights_that_are_quantised_as_they_are_read_count_once():
    told = []
    Assistant.load("demo", quantization="int8", on_progress=lambda *far: told.append(far))
    done, wholes = zip(*told, strict=True)
    assert len(done) > 20 and [*done] == sorted({*done}) and {*wholes} == {done[-1]}
