"""A seeded tiny Qwen2-VL folder in the Hub's layout, and what is loaded from it."""

import hub_model
import pytest


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """Weights, config, tokenizer and processor files."""
    folder, config = tmp_path_factory.mktemp("qwen2_vl"), hub_model.qwen2_vl_config()
    hub_model.write(folder, config, hub_model.tensors(config))
    return hub_model.write_processor(folder, processor_class="Qwen2VLProcessor")


@pytest.fixture(scope="package")
def small(folder):
    from paddlemix_qwenvl import Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration.from_pretrained(folder)


@pytest.fixture(scope="package")
def its_processor(folder):
    from paddlemix_qwenvl import Qwen2VLProcessor

    return Qwen2VLProcessor.from_pretrained(folder)
