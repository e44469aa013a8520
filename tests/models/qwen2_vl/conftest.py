"""A seeded tiny Qwen2-VL folder in the Hub's layout, and what is loaded from it."""

import hub_model
import pytest
from hub_fixtures import loaded


@pytest.fixture(scope="session")
def its_tensors() -> dict:
    """By their Hub names. No answer has the mark of a picture or a video, so that it can be given as a prompt."""
    tensors = hub_model.tensors(hub_model.qwen2_vl_config())
    tensors["lm_head.weight"][[hub_model.IDS["<|image_pad|>"], hub_model.IDS["<|video_pad|>"]]] = 0
    return tensors


@pytest.fixture(scope="session")
def folder(tmp_path_factory, its_tensors):
    """Weights, config, tokenizer and processor files."""
    folder = tmp_path_factory.mktemp("qwen2_vl")
    hub_model.write(folder, hub_model.qwen2_vl_config(), its_tensors)
    return hub_model.write_processor(folder, processor_class="Qwen2VLProcessor")


small = loaded("Qwen2VLForConditionalGeneration", "folder")
its_processor = loaded("Qwen2VLProcessor", "folder")
