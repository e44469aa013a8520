"""Sources that do not answer, or stop in the middle."""

import io
import threading

import pytest
import requests as http
from standin.loopback import silence
from standin.stored import ENDPOINTS, INDEX, NAME, SHARDS

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import DownloadError
from paddlemix_qwenvl.hub import transfer
from paddlemix_qwenvl.hub.services import PaddleNLP

each_source = pytest.mark.parametrize("source", ENDPOINTS)


@pytest.mark.parametrize("source", ["paddlenlp", "modelscope", "aistudio"])  # `huggingface_hub` tries for longer
def test_nobody_there(source):
    with pytest.raises(
        DownloadError, match=r"config\.json of .* could not be had\. Tried: the cache .*, then .* at http"
    ) as raised:
        hub.fetch(NAME, "config.json", source=source)
    text = str(raised.value)
    assert "ConnectionError" in text and f"(variable {ENDPOINTS[source]})" in text and "folder that holds" in text
    assert all(repr(key) in text for key in ENDPOINTS if key != source) and "QWENVL_SOURCE" in text


@each_source
def test_a_source_that_never_answers_is_given_up(source, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    with silence() as address:
        monkeypatch.setenv(ENDPOINTS[source], address)
        with pytest.raises(DownloadError, match=r"it gave no answer within 0\.3 s"):
            hub.fetch(NAME, "config.json", source=source)


def test_whatever_is_waited_for(monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(PaddleNLP, "download", lambda *_: gate.wait())
    monkeypatch.setattr(hub, "PATIENCE", 0.1)
    with pytest.raises(DownloadError, match=r"BOS at .*: it gave no answer within 0\.1 s"):
        hub.fetch(NAME, "config.json")
    gate.set()


def test_a_source_that_stops_in_the_middle(requests, faults, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", (5, 0.2))
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    faults[SHARDS[0]] = "stalls"
    with pytest.raises(DownloadError, match=rf"{SHARDS[0]} of .* it broke off after \d+ bytes .*timed out"):
        hub.snapshot(NAME, (INDEX,), source="modelscope")


def test_what_is_cached_does_where_nobody_answers(requests, monkeypatch):
    folder = hub.gather(NAME, ["tokenizer.json"], source="aistudio")
    with silence() as address:
        monkeypatch.setenv("AISTUDIO_ENDPOINT", address)
        monkeypatch.setattr(hub, "PATIENCE", 0.1)
        assert hub.gather(NAME, ["a.json", "b.json", "tokenizer.json"], source="aistudio") == folder


@each_source
def test_a_model_that_is_not_there(source, requests):
    with pytest.raises(DownloadError, match=r"it does not have the (file|model)"):
        hub.fetch("Qwen/Qwen2.5-VL-9B", ("config.json", "adapter_config.json"), source=source)


def remote(requests_address, path, **about):
    return transfer.Remote(f"{requests_address}/models/community/{NAME}/{path}", **about)


@pytest.fixture
def address(requests, monkeypatch):
    return PaddleNLP(NAME, None, None).endpoint


def test_a_server_that_knows_no_ranges(address, requests, faults, stored, tmp_path):
    target, lock = tmp_path / "here" / SHARDS[0], tmp_path / "lock"
    about = remote(address, SHARDS[0], size=50_019)
    target.parent.mkdir()
    transfer.incomplete(about, target).write_bytes(b"x" * 100)
    faults[SHARDS[0]] = "no range"
    assert transfer.download(about, target, lock).read_bytes() == (stored / SHARDS[0]).read_bytes()


def test_more_than_there_is(address, stored, tmp_path):
    target, lock = tmp_path / "here" / SHARDS[0], tmp_path / "lock"
    about = remote(address, SHARDS[0])
    target.parent.mkdir()
    transfer.incomplete(about, target).write_bytes(b"x" * 60_000)
    assert transfer.download(about, target, lock).read_bytes() == (stored / SHARDS[0]).read_bytes()


def test_another_version_starts_anew(address, stored, tmp_path):
    target, lock = tmp_path / "here" / SHARDS[0], tmp_path / "lock"
    target.parent.mkdir()
    older = transfer.incomplete(remote(address, SHARDS[0], size=50_019, version="1"), target)
    older.write_bytes(b"x" * 100)
    about = remote(address, SHARDS[0], size=50_019, version="2")
    assert transfer.download(about, target, lock).read_bytes() == (stored / SHARDS[0]).read_bytes()
    assert not older.exists()


def test_a_refusal_is_not_tried_again(monkeypatch, tmp_path):
    answer = http.Response()
    answer.status_code, answer.raw = 403, io.BytesIO()
    asked = []
    monkeypatch.setattr(transfer.requests, "get", lambda url, **_: asked.append(url) or answer)
    with pytest.raises(http.HTTPError, match="403"):
        transfer.download(transfer.Remote("http://hub/a"), tmp_path / "a", tmp_path / "lock")
    assert asked == ["http://hub/a"]


def test_what_is_refused_does_not_keep_the_rest_away(requests, monkeypatch, stored):
    look_up = PaddleNLP._look_up

    def refusing(self, file):
        if file == "added_tokens.json":
            raise OSError("403")
        return look_up(self, file)

    monkeypatch.setattr(PaddleNLP, "_look_up", refusing)
    folder = hub.gather(NAME, ["added_tokens.json", "tokenizer.json"])
    assert (folder / "tokenizer.json").read_bytes() == (stored / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("source", ["modelscope", "aistudio"])
def test_an_answer_that_is_something_else(source, stored, monkeypatch):
    answer = http.Response()
    answer.status_code, answer.raw = 200, io.BytesIO(b'{"Data": {"Files": [1]}}')
    monkeypatch.setattr(transfer.requests, "request", lambda *_, **__: answer)
    with pytest.raises(DownloadError, match=r"its answer to http.* is no "):
        hub.fetch(NAME, "config.json", source=source)
