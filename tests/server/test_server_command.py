"""What the command is told, by the server that it starts: an export behind keys, with files of one folder."""

import shutil

import httpx
import pytest
from served import PATIENCE, PICTURE, Served

from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.static.export import export

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    family = find_family("demo")
    model, processor = (family.load(part).from_pretrained("demo") for part in ("model", "processor"))
    export(model, processor, folder / "exported", say=lambda line: None)
    (folder / "media").mkdir()
    shutil.copy(PICTURE, folder / "media" / "shapes.png")
    (folder / "keys").write_text(f"# of the test\n{KEY}\n")
    options = {
        "--model_path": folder / "exported",
        "--api_key_file": folder / "keys",
        "--allow_media_below": folder / "media",
        "--allow_media_from": "example.com",
        "--max_model_len": 512,
        "--served_model_name": "ours",
    }
    with Served(folder, *(str(word) for pair in options.items() for word in pair)) as server:
        yield server


def ask(server, url: str, **more) -> httpx.Response:
    picture = {"type": "image_url", "image_url": {"url": url}}
    content = [picture, {"type": "text", "text": "Locate all shapes."}]
    body = {"model": "ours", "messages": [{"role": "user", "content": content}], "grounding": True, **more}
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(f"{server.address}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_below_the_folder_is_seen_by_the_graphs(server, scheme):
    path = server.log.parent / "media" / "shapes.png"
    found = ask(server, f"{scheme}{path}").json()["choices"][0]["message"]["grounding"]
    assert [item["label"] for item in found] == ["green star", "blue star", "green circle", "green star"]


def test_what_was_not_allowed_is_refused(server):
    outside = [
        ask(server, url) for url in (str(PICTURE), "https://example.org/a.png", "http://example.com.evil.net/a.png")
    ]
    assert [each.status_code for each in outside] == [400] * 3
    models = f"{server.address}/v1/models"
    assert [httpx.get(models).status_code, httpx.get(f"{server.address}/health").status_code] == [401, 200]
    wrong = {"Authorization": f"Bearer {KEY[:-1]}"}
    assert httpx.get(models, headers=wrong).status_code == 401


def test_the_log_tells_how_far_loading_is(server):
    log = server.told()
    found = [log.find(f"loading: {share} %") for share in (25, 50, 75, 100) if f"loading: {share} %" in log]
    assert len(found) > 1 and [*found, log.index("loaded in ")] == sorted({*found, log.index("loaded in ")})
    assert "loading: 100 %" in log


def test_the_name_and_the_context_are_those_that_were_given(server):
    (card,) = httpx.get(f"{server.address}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).json()["data"]
    assert (card["id"], card["max_model_len"]) == ("ours", 512)
    path = server.log.parent / "media" / "shapes.png"
    assert ask(server, str(path), model="demo").status_code == 404
    assert ask(server, str(path), max_tokens=2000).json()["usage"]["total_tokens"] <= 512
