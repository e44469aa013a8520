"""A seeded tiny Qwen-VL folder in the Hub's layout, with a vocabulary of its own, and what is loaded from it."""

from pathlib import Path

import pytest
import qwen_vl_model
from hub_fixtures import loaded
from reference.qwen_vl import qwen_vl_cases as cases


@pytest.fixture(scope="session")
def config() -> dict:
    return cases.CONFIGS["wide"]


@pytest.fixture(scope="session")
def hub_tensors(config) -> dict:
    return cases.tensors(config)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, config, hub_tensors) -> Path:
    """The model's files, and pictures."""
    return qwen_vl_model.write(tmp_path_factory.mktemp("qwen_vl"), config, hub_tensors)


model = loaded("QWenLMHeadModel", "folder", dtype="float32")
tokenizer = loaded("QWenVLTokenizer", "folder")
processor = loaded("QWenVLProcessor", "folder")


@pytest.fixture(autouse=True)
def beside_the_pictures(folder, monkeypatch):
    """Prompts name pictures as files of the folder they are run in."""
    monkeypatch.chdir(folder)
