"""Models by name through a host's Auto classes: from each source on the loopback interface, and with nothing to be reached."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from standin.folders import QWEN2, write
from standin.loopback import hub as loopback_hub
from standin.loopback import nobody
from standin.stored import UNSET
from standin.tiny import write_tiny_model

from paddlemix_qwenvl.errors import QwenVLError

STANDIN = Path(__file__).with_name("standin")
MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
SOURCES = {
    "PPNLP_ENDPOINT": {},
    "HF_ENDPOINT": {"from_hf_hub": True},
    "AISTUDIO_ENDPOINT": {"from_aistudio": True},
    "MODELSCOPE_ENDPOINT": {"source": "modelscope"},
}


def load(requests, home, **environment):
    """The answers of a process with caches under `home`, which loads `(auto class, name, options)` one after the other."""
    homes = {
        "HOME": home,
        "PPNLP_HOME": home / "paddlenlp",
        "HF_HOME": home / "hf",
        "AISTUDIO_HOME": home / "aistudio",
        "MODELSCOPE_CACHE": home / "modelscope",
        "PYTHONPATH": STANDIN.parent.parent,
        "no_proxy": "127.0.0.1",
    }
    unset = (*UNSET, "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "NO_PROXY")
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
    loaded = {
        ("AutoConfig", MODEL): "Qwen2_5_VLConfig",
        ("AutoModelForConditionalGeneration", "someone/answers-about-pictures"): "Qwen2_5_VLForConditionalGeneration",
        ("AutoTokenizer", "someone/answers-about-pictures"): "Qwen2_5_VLTokenizer",
        ("AutoProcessor", MODEL): "Qwen2_5_VLProcessor",
        ("AutoModel", MODEL): "Qwen2_5_VLForConditionalGeneration",
        ("AutoConfig", "someone/Qwen2.5-VL-text"): "Qwen2Config",  # the host loads it, from the sources that it knows
    }
    asked = [
        (*key, options)
        for options in SOURCES.values()
        for key in loaded
        if "source" not in options or "text" not in key[1]
    ]
    with loopback_hub(models) as (address, requests):
        answers = load(asked, tmp_path / "home", **dict.fromkeys(SOURCES, address))
    assert [answer.get("class", answer) for answer in answers] == [loaded[auto, name] for auto, name, _ in asked]
    # Each file comes once from each source, the second time from the cache.
    asking = re.compile("/contents/|/repo/files")
    got = [request for request in requests if request.startswith("GET") and not asking.search(request)]
    assert sorted(got) == sorted({*got})
    assert sum(bool(re.search("[/=]config.json$", request)) for request in got) == len(models) * 4 - 1
    assert sum(bool(re.search("[/=]model.safetensors$", request)) for request in got) == 2 * 4
    assert (tmp_path / "home/paddlenlp/models" / MODEL / "config.json").is_file()


def test_what_the_host_loads_is_not_judged(tmp_path):
    """PaddleNLP takes no notice of a revision of what its storage has."""
    models = {"someone/Qwen2.5-VL-text": write(tmp_path / "text", QWEN2)}
    with loopback_hub(models) as (address, _):
        asked = [("AutoConfig", "someone/Qwen2.5-VL-text", {"revision": "v1"})]
        answers = load(asked, tmp_path / "home", PPNLP_ENDPOINT=address)
    assert [answer.get("class", answer) for answer in answers] == ["Qwen2Config"]


def test_nothing_to_be_reached(tmp_path):
    asked = [
        *(("AutoModelForConditionalGeneration", MODEL, options) for options in ({}, {"from_aistudio": True})),
        ("AutoProcessor", MODEL, {"cache_dir": str(tmp_path / "cache")}),
        ("AutoConfig", "someone/answers-about-pictures", {}),
    ]
    closed = nobody()
    answers = load(asked, tmp_path / "home", PPNLP_ENDPOINT=closed, AISTUDIO_ENDPOINT=closed)
    tried = [
        f"the cache {tmp_path}/home/paddlenlp/models, then PaddleNLP's storage BOS at {closed} (variable PPNLP_ENDPOINT)",
        f"the cache {tmp_path}/home/aistudio/aistudio, then AI Studio at {closed} (variable AISTUDIO_ENDPOINT)",
        f"the cache {tmp_path}/cache, then PaddleNLP's storage BOS at {closed} (variable PPNLP_ENDPOINT)",
    ]
    for answer, source in zip(answers, tried, strict=False):
        assert answer["kinds"][:3] == ["DownloadError", "QwenVLError", "OSError"]
        assert f"config.json of {MODEL!r} could not be had. Tried: {source}: " in answer["text"]
        assert "ConnectionError" in answer["text"] and "source=" in answer["text"] and "folder" in answer["text"]
    # The host reports what may be any model, in its own words.
    assert answers[3]["kinds"][0] == "OSError" and "someone/answers-about-pictures" in answers[3]["text"]


def test_a_name_that_is_ours_but_not_there(tmp_path, monkeypatch):
    from paddlenlp.transformers import AutoConfig

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with loopback_hub({}) as (address, _):
        monkeypatch.setenv("PPNLP_ENDPOINT", address)
        message = r"config\.json of 'Qwen/Qwen2\.5-VL-9B' could not be had.* does not have"
        with pytest.raises(QwenVLError, match=message):
            AutoConfig.from_pretrained("Qwen/Qwen2.5-VL-9B", source="paddlenlp", cache_dir=str(tmp_path))
