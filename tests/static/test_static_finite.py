"""Graphs whose logits are no numbers."""

import pytest

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import GenerationError
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export


def test_what_is_no_number(hub_folder, processor, folder, tmp_path):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder)
    model.model.norm.weight.set_value(model.model.norm.weight * float("nan"))
    export(model, processor, tmp_path / "export", parts=("language",), name="tiny", say=lambda line: None)
    predictor = load_export(tmp_path / "export", vision_folder=folder)
    with pytest.raises(GenerationError, match=r"NaN or infinity in float32"):
        predictor.complete("the thing", max_new_tokens=2)
