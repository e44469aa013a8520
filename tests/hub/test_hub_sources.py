"""Which source a name is looked up at."""

import subprocess
import sys
from enum import Enum

import pytest
from standin.stored import ENDPOINTS, NAME, write_model

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import ConfigurationError, DownloadError
from paddlemix_qwenvl.hub.sources import asked, choose


class DownloadSource(str, Enum):
    """As PaddleFormers has it."""

    DEFAULT = ""
    MODELSCOPE = "modelscope"


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, None),
        ({"source": "huggingface"}, {}, "huggingface"),
        ({"download_hub": DownloadSource.MODELSCOPE}, {}, "modelscope"),
        ({"download_hub": DownloadSource.DEFAULT}, {}, None),
        ({"from_hf_hub": True}, {}, "huggingface"),
        ({"from_aistudio": True}, {}, "aistudio"),
        ({"from_hf_hub": True, "source": "huggingface"}, {}, "huggingface"),
        ({}, {"QWENVL_SOURCE": "modelscope"}, "modelscope"),
        ({}, {"DOWNLOAD_SOURCE": "aistudio"}, "aistudio"),
        ({}, {"QWENVL_SOURCE": "modelscope", "DOWNLOAD_SOURCE": "aistudio"}, "modelscope"),
        ({}, {"from_modelscope": "True"}, "modelscope"),
        ({}, {"from_modelscope": "0", "QWENVL_SOURCE": ""}, None),
        ({"from_hf_hub": True}, {"from_modelscope": "yes"}, "modelscope"),
        ({"from_hf_hub": True}, {"QWENVL_SOURCE": "modelscope"}, "huggingface"),
        ({"source": "paddlenlp"}, {"from_modelscope": "1", "QWENVL_SOURCE": "modelscope"}, "paddlenlp"),
    ],
)
def test_who_is_heard_first(options, environment, expected):
    assert asked(**options, environment=environment) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "hf"}, "source is 'hf': it must be one of paddlenlp, huggingface, modelscope, aistudio"),
        ({"source": ["modelscope"]}, r"source is \['modelscope'\]"),
        ({"download_hub": "github"}, "download_hub is 'github'"),
        (
            {"source": "modelscope", "from_hf_hub": True},
            "source, from_hf_hub ask for modelscope, huggingface: give one",
        ),
        ({"from_hf_hub": "perhaps"}, "from_hf_hub is 'perhaps': expected true or false"),
        ({"source": "paddlenlp", "revision": "v1"}, "has one revision of a model: leave it out"),
        ({"revision": "v1"}, "has one revision of a model"),
        ({"source": "modelscope", "revision": "../../v1"}, r"revision is '\.\./\.\./v1': expected a branch"),
        ({"revision": 3}, "revision is 3"),
        ({"cache_dir": 3}, "cache_dir is 3: expected the path"),
        ({"subfolder": "../x"}, r"subfolder is '\.\./x'"),
    ],
)
def test_what_cannot_be_given(options, message):
    with pytest.raises(ConfigurationError, match=message):
        hub.fetch(NAME, "config.json", **options)


def test_what_is_taken_out_of_arguments():
    options = {"source": "modelscope", "revision": "v1", "from_hf_hub": False, "dtype": "float32"}
    assert hub.take_source(options) == {"source": "modelscope", "revision": "v1", "from_hf_hub": False}
    assert options == {"dtype": "float32"}
    with pytest.raises(ConfigurationError, match="source is 'hf'"):
        hub.take_source({"source": "hf"})


@pytest.mark.parametrize("variable", ["QWENVL_SOURCE", "DOWNLOAD_SOURCE", "from_modelscope", "HF_HUB_OFFLINE"])
def test_what_a_variable_cannot_be(monkeypatch, variable):
    monkeypatch.setenv(variable, "everywhere")
    with pytest.raises(ConfigurationError, match=f"{variable} is 'everywhere'"):
        hub.fetch(NAME, "config.json")


@pytest.mark.parametrize("name", ["/models/gone", "../gone", "./gone", "a b", "https://hub/a", "a//b", "", "a/../b"])
def test_a_folder_that_is_not_there_is_no_name(name, requests):
    with pytest.raises(DownloadError, match="is no folder that is there, and no model's name"):
        hub.fetch(name, "config.json")
    assert requests == []


PLACES = {
    "paddlenlp": f"PPNLP_HOME/models/{NAME}",
    "modelscope": "MODELSCOPE_CACHE/models/someone--Qwen2.5-VL-answers/snapshots/master",
    "aistudio": "AISTUDIO_HUB_CACHE/models--someone--Qwen2.5-VL-answers/snapshots/master",
    "huggingface": f"HF_HUB_CACHE/models--someone--Qwen2.5-VL-answers/snapshots/{'0' * 40}",
}
OLDER = [f"MODELSCOPE_CACHE/{part}someone/Qwen2___5-VL-answers" for part in ("models/", "hub/models/", "hub/", "")]


def put(homes, place, key="", leave_out=()):
    """Model files at a place in the caches."""
    (homes / place).parent.mkdir(parents=True, exist_ok=True)
    folder = write_model(homes / place)
    for file in leave_out:
        (folder / file).unlink()
    if key == "huggingface":
        refs = folder.parent.parent / "refs"
        refs.mkdir()
        (refs / "main").write_text(folder.name)
    return folder


@pytest.mark.parametrize(("key", "place"), [*PLACES.items(), *(("modelscope", place) for place in OLDER)])
def test_each_cache_is_found_with_nothing_said(homes, key, place):
    folder = put(homes, place, key)
    assert choose(NAME).key == key
    assert hub.gather(NAME, ["tokenizer.json"]) == folder
    assert hub.snapshot(NAME, ["model.safetensors.index.json"], ["tokenizer.json"]) == folder


def test_a_cache_that_is_complete_goes_before_one_that_is_not(homes):
    put(homes, PLACES["paddlenlp"], leave_out=["model-2.safetensors"])
    assert choose(NAME).key == "paddlenlp"
    put(homes, PLACES["modelscope"])
    assert choose(NAME).key == "modelscope"


def test_modelscopes_note_of_a_revision(homes):
    folder = put(homes, OLDER[1])
    (folder / ".mv").write_text("Revision:v1,CreatedAt:0")
    assert choose(NAME, revision="v1").folder == folder
    assert choose(NAME, source="modelscope", revision="v2").folder != folder


@pytest.mark.parametrize("key", ENDPOINTS)
def test_a_mirror(key, requests):
    hub.fetch(NAME, "config.json", source=key)
    assert any("config.json" in request for request in requests)


def test_modelscopes_domain(monkeypatch):
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    assert choose(NAME, source="modelscope").endpoint == "https://www.modelscope.cn"
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "www.modelscope.ai/")
    assert choose(NAME, source="modelscope").endpoint == "https://www.modelscope.ai"


def test_nothing_said_and_nothing_cached(requests):
    path = hub.fetch(NAME, ("config.json", "adapter_config.json"))
    assert path.endswith(PLACES["paddlenlp"] + "/config.json")
    assert requests == [f"{method} /models/community/{NAME}/config.json" for method in ("HEAD", "GET")]


def test_importing_is_cheap():
    heavy = "{'paddle', 'paddlenlp', 'pydantic', 'huggingface_hub', 'requests'}"
    code = f"import sys; from paddlemix_qwenvl import hub; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
