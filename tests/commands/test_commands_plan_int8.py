"""Int8: bytes worked out from shapes against those of a model that was loaded so, which is never there in full precision."""

import hub_model
import pytest

from paddlemix_qwenvl import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.commands.plan import plan_ranks
from paddlemix_qwenvl.layers.formats import Int8


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantization", ["int8", "int4", "fp8"])
def test_bytes_are_those_of_a_real_model(tmp_path, tied, quantization):
    given = hub_model.config(tie_word_embeddings=tied, torch_dtype="bfloat16", intermediate_size=64)
    folder = hub_model.write(tmp_path, given, hub_model.tensors(given))
    small = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, quantization=quantization)
    held = {id(tensor): tensor for tensor in small.state_dict().values()}.values()
    (plan,) = plan_ranks(
        Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig(**given), "bfloat16", [1], quantization=quantization
    )
    here = sum(tensor.numel().item() * tensor.element_size() for tensor in held)
    # On a card a tied model's embedding stays beside the head, whose int8 rows lie in the order of the kernel.
    # Rows of float8 are no embedding, either.
    assert plan.weight_bytes == here + (tied and quantization != "fp8") * 2 * given["vocab_size"] * given["hidden_size"]


def test_a_weight_is_quantized_before_the_next_is_read(hub_folder, monkeypatch):
    held = []

    def kept(name):  # of the vision tower all but the blocks' MLPs
        return name.startswith("visual.") and not ("blocks" in name and "mlp" in name)

    def watched(model, quantization):
        quantize = quantized_as_read(model, quantization)

        def full_precision(path):
            wide = [w for name, w in model.named_parameters() if w.ndim == 2 and not kept(name)]
            held.append(sum(w._is_initialized() for w in wide))
            quantize(path)

        return full_precision

    quantized_as_read = Qwen2_5_VLForConditionalGeneration.quantized_as_read
    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "quantized_as_read", watched)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder, quantization="int8")
    linears = model.quantizable("int8")
    assert linears and all(layer.format == Int8() for layer in linears)
    assert len(held) > 2 * len(linears) and max(held) == 2  # the embedding, and the one that was read last
