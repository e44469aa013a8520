"""A seeded tiny Qwen2.5-VL folder in the Hub's layout, and what is loaded from it."""

import os
import shutil

import hub_model
import pytest
from hub_fixtures import loaded

pytest_plugins = ["cpu_paths", "without_paddlenlp"]
os.environ["QWENVL_CACHE"] = "off"  # no test leaves quantised weights in the user's folders


@pytest.fixture(scope="session")
def hub_tensors() -> dict:
    """The folder's tensors by their Hub names."""
    return hub_model.tensors(hub_model.config())


@pytest.fixture(scope="session")
def hub_folder(tmp_path_factory, hub_tensors):
    """Weights, config, tokenizer and processor files."""
    folder = tmp_path_factory.mktemp("hub")
    hub_model.write(folder, hub_model.config(), hub_tensors)
    return hub_model.write_processor(folder)


model = loaded("Qwen2_5_VLForConditionalGeneration", "hub_folder")
processor = loaded("Qwen2_5_VLProcessor", "hub_folder")


@pytest.fixture
def tokenizer_folder(hub_folder, tmp_path):
    """A copy of the tokenizer's files alone."""
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(hub_folder / name, tmp_path)
    return tmp_path
