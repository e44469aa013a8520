"""The dry run of int8: bytes worked out from shapes against those of a model that was loaded so."""

import hub_model
import pytest

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.plan import plan_ranks


@pytest.mark.parametrize("tied", [True, False])
def test_int8_bytes_are_those_of_a_real_model(tmp_path, tied):
    given = hub_model.config(tie_word_embeddings=tied, torch_dtype="bfloat16")
    folder = hub_model.write(tmp_path, given, hub_model.tensors(given))
    small = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, quantization="int8")
    held = {id(tensor): tensor for tensor in small.state_dict().values()}.values()
    (plan,) = plan_ranks(
        Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig(**given), "bfloat16", [1], quantization="int8"
    )
    assert plan.weight_bytes == sum(tensor.numel().item() * tensor.element_size() for tensor in held)
