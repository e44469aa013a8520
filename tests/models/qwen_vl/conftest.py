"""A seeded tiny Qwen-VL folder in the Hub's layout, with a vocabulary of its own, and what is loaded from it."""

from pathlib import Path

import pytest
import qwen_vl_model
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


@pytest.fixture(scope="session")
def model(folder):
    from paddlemix_qwenvl import QWenLMHeadModel

    return QWenLMHeadModel.from_pretrained(folder, dtype="float32")


@pytest.fixture(scope="session")
def tokenizer(folder):
    from paddlemix_qwenvl import QWenVLTokenizer

    return QWenVLTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="session")
def processor(folder):
    from paddlemix_qwenvl import QWenVLProcessor

    return QWenVLProcessor.from_pretrained(str(folder))


@pytest.fixture(autouse=True)
def beside_the_pictures(folder, monkeypatch):
    """Prompts name pictures as files of the folder they are run in."""
    monkeypatch.chdir(folder)
