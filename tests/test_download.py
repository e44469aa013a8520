"""Models by name: from a hub on the loopback interface by PaddleNLP's own downloader, and with nothing to be reached."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from standin.folders import QWEN2, write
from standin.loopback import hub as loopback_hub
from standin.loopback import nobody, silence
from standin.tiny import write_tiny_model

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import QwenVLError

STANDIN = Path(__file__).with_name("standin")
MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
SOURCES = {"PPNLP_ENDPOINT": {}, "HF_ENDPOINT": {"from_hf_hub": True}, "AISTUDIO_ENDPOINT": {"from_aistudio": True}}


def load(requests, home, **environment):
    """The answers of a process with caches under `home`, which loads `(auto class, name, options)` one after the other."""
    homes = {
        "HOME": home,
        "PPNLP_HOME": home / "paddlenlp",
        "HF_HOME": home / "hf",
        "AISTUDIO_HOME": home / "aistudio",
        "PYTHONPATH": STANDIN.parent.parent,
        "no_proxy": "127.0.0.1",
    }
    unset = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "NO_PROXY", "from_modelscope")
    inherited = {key: value for key, value in os.environ.items() if key not in unset}
    done = subprocess.run(
        [sys.executable, STANDIN / "download.py"],
        input="\n".join(map(json.dumps, requests)),
        env={**inherited, **{key: str(value) for key, value in (homes | environment).items()}},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("answer ")]


def test_download_from_each_source(tmp_path):
    ours, text = write_tiny_model(tmp_path / "ours"), write(tmp_path / "text", QWEN2)
    models = {MODEL: ours, "someone/answers-about-pictures": ours, "someone/Qwen2.5-VL-text": text}
    asked = [(auto, name, options) for options in SOURCES.values() for auto, name in [
        ("AutoConfig", MODEL),
        ("AutoModelForConditionalGeneration", "someone/answers-about-pictures"),
        ("AutoTokenizer", "someone/answers-about-pictures"),
        ("AutoProcessor", MODEL),
        ("AutoModel", MODEL),
        ("AutoConfig", "someone/Qwen2.5-VL-text"),
    ]]  # fmt: skip
    with loopback_hub(models) as (address, requests):
        answers = load(asked, tmp_path / "home", **dict.fromkeys(SOURCES, address))
    classes = ["Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLTokenizer", "Qwen2_5_VLProcessor"]
    classes += ["Qwen2_5_VLForConditionalGeneration", "Qwen2Config"]
    assert [answer.get("class", answer) for answer in answers] == classes * 3
    # Each file comes once from each source, the second time from the cache.
    got = [request for request in requests if request.startswith("GET") and "/contents/" not in request]
    assert sorted(got) == sorted({*got})
    assert sum(request.endswith("/config.json") for request in got) == len(models) * 3
    assert sum(request.endswith("/model.safetensors") for request in got) == 2 * 3
    assert (tmp_path / "home/paddlenlp/models" / MODEL / "config.json").is_file()


def test_nothing_to_be_reached(tmp_path):
    asked = [
        *(("AutoModelForConditionalGeneration", MODEL, options) for options in SOURCES.values()),
        ("AutoProcessor", MODEL, {"cache_dir": str(tmp_path / "cache")}),
        ("AutoConfig", "someone/answers-about-pictures", {}),
    ]
    closed = nobody()
    with silence() as silent:
        endpoints = {"PPNLP_ENDPOINT": closed, "HF_ENDPOINT": silent, "AISTUDIO_ENDPOINT": closed}
        answers = load(asked, tmp_path / "home", **endpoints)
    tried = [
        f"the cache {tmp_path}/home/paddlenlp/models, then PaddleNLP's storage BOS at {closed} (variable PPNLP_ENDPOINT)",
        f"the cache {tmp_path}/home/hf/hub, then Hugging Face Hub at {silent} (variable HF_ENDPOINT)",
        f"the cache {tmp_path}/home/aistudio/aistudio, then AI Studio at {closed} (variable AISTUDIO_ENDPOINT)",
        f"the cache {tmp_path}/cache, then PaddleNLP's storage BOS at {closed} (variable PPNLP_ENDPOINT)",
    ]
    for answer, source in zip(answers, tried, strict=False):
        assert answer["kinds"][:3] == ["DownloadError", "QwenVLError", "OSError"]
        assert f"config.json of {MODEL!r} could not be had. Tried: {source}: " in answer["text"]
        assert "from_hf_hub=True" in answer["text"] and "folder" in answer["text"]
    assert "ConnectionError" in answers[0]["text"] and "no answer within 20 s" in answers[1]["text"]
    # The host reports what may be any model, in its own words.
    assert answers[4]["kinds"][0] == "OSError" and "someone/answers-about-pictures" in answers[4]["text"]
    assert max(answer["seconds"] for answer in answers) < 30


def test_a_source_that_never_answers_is_given_up(monkeypatch):
    """Whatever PaddleNLP waits for: here its downloader itself never comes back."""
    import paddlenlp.utils.download as downloader

    gate = threading.Event()
    monkeypatch.setattr(downloader, "resolve_file_path", lambda *args, **kwargs: gate.wait())
    monkeypatch.setattr(hub, "PATIENCE", 0.1)
    with pytest.raises(hub.DownloadError, match=r"BOS at .*: it gave no answer within 0\.1 s"):
        hub.fetch(MODEL, "config.json")
    gate.set()


def test_a_name_that_is_ours_but_not_there(tmp_path, monkeypatch):
    from paddlenlp.transformers import AutoConfig
    from paddlenlp.utils.download import bos_download

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with loopback_hub({}) as (address, _):
        template = address + "/{repo_type}/community/{repo_id}/{filename}"
        monkeypatch.setitem(bos_download.__globals__, "BOS_URL_TEMPLATE_WITHOUT_REVISION", template)
        with pytest.raises(
            QwenVLError, match=r"config\.json of 'Qwen/Qwen2\.5-VL-9B' could not be had.* does not have"
        ):
            AutoConfig.from_pretrained("Qwen/Qwen2.5-VL-9B", cache_dir=str(tmp_path))


def test_modelscope_is_named(monkeypatch):
    monkeypatch.setenv("from_modelscope", "True")
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(hub.DownloadError, match=r"Tried: ModelScope \(variable from_modelscope\)"):
        hub.fetch(MODEL, "config.json")
