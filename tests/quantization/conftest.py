"""A seeded tiny folder of each family whose widths are whole groups of 32, and conversations to calibrate on."""

import json
from pathlib import Path

import hub_model
import pytest
import qwen_vl_model
from PIL import Image
from reference.qwen_vl import qwen_vl_cases

WIDER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "vision_config": {"hidden_size": 32, "out_hidden_size": 64},
}


def write_2_5(folder: Path) -> dict:
    """Heads that share keys; its embedding is its head."""
    config = hub_model.config(**WIDER, tie_word_embeddings=True)
    hub_model.write(folder, config, tensors := hub_model.tensors(config))
    hub_model.write_processor(folder)
    return tensors


def write_2(folder: Path) -> dict:
    config = hub_model.qwen2_vl_config(**{**WIDER, "vision_config": {"embed_dim": 32, "hidden_size": 64}})
    hub_model.write(folder, config, tensors := hub_model.tensors(config))
    hub_model.write_processor(folder, processor_class="Qwen2VLProcessor")
    return tensors


def write_1(folder: Path) -> dict:
    """Queries, keys and values in one tensor; biases everywhere."""
    folder.mkdir()
    config = qwen_vl_cases.config(no_bias=False, visual={"image_size": 112})
    qwen_vl_model.write(folder, config, tensors := qwen_vl_cases.tensors(config))
    return tensors


WRITERS = {"qwen2_5_vl": write_2_5, "qwen2_vl": write_2, "qwen_vl": write_1}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """The folder and the tensors of each family."""
    place = tmp_path_factory.mktemp("families")
    return {name: (place / name, write(place / name)) for name, write in WRITERS.items()}


@pytest.fixture(scope="session")
def folder(folders) -> Path:
    """Of the first family."""
    return folders["qwen2_5_vl"][0]


@pytest.fixture(scope="session")
def lines(tmp_path_factory) -> Path:
    """A file of three conversations, the first about a picture beside it."""
    place = tmp_path_factory.mktemp("lines")
    Image.linear_gradient("L").convert("RGB").resize((84, 56)).save(place / "ramp.png")
    picture = {"type": "image", "image": "ramp.png"}
    conversations = [
        {"messages": [{"role": "user", "content": [picture, {"type": "text", "text": "What is the theme?"}]}]},
        [{"role": "user", "content": "in an hour"}, {"role": "assistant", "content": "the other one"}],
        {"messages": [{"role": "user", "content": "there and then, another"}], "source": "a book"},
    ]
    path = place / "conversations.jsonl"
    path.write_text("\n\n".join(json.dumps(each) for each in conversations))
    return path
