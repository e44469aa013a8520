"""A small model of int4 weights on the stand-in card, whose products are those of the CUDA kernels."""

import hub_model
import numpy as np
import paddle
import pytest
import quantised_files as files
from emulated_kernels import Kernels
from gpu_stand_in import card

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration as Model
from paddlemix_qwenvl import ops
from paddlemix_qwenvl.ops import dispatch, gpu

CONFIG = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vision_config={"out_hidden_size": 64},
)
IDS = paddle.to_tensor(np.random.default_rng(0).integers(1, 250, (1, 40)))
NEW = 4


def way(kind):
    """A way to quantise a weight."""
    order = {width: np.random.default_rng(width).permutation(width) for width in (64, 96)}
    if kind == "awq":
        return files.METHODS["awq"], lambda name, w: files.awq(w, 32)
    return {**files.METHODS["gptq"], "desc_act": True}, lambda name, w: files.gptq(w, 32, act_order=order[w.shape[1]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["awq", "gptq with act-order"])
def test_prompts_and_single_tokens_are_what_the_cpu_makes_of_them(tmp_path, kind, dtype):
    """A prompt's weights are dequantised for Paddle's product, an answer's tokens go by the kernel of few rows."""
    method, quantise = way(kind)
    narrow, wide = files.converted(hub_model.tensors(CONFIG), quantise, files.in_decoder)
    files.write(tmp_path / "narrow", {**CONFIG, "quantization_config": method}, narrow)
    files.write(tmp_path / "wide", CONFIG, wide)
    kernels = Kernels()
    with card((8, 0)) as patch:
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        patch.setattr(ops, "linear_int4", dispatch.fastest("linear_int4"))
        model = Model.from_pretrained(tmp_path / "narrow", dtype=dtype)
        found = model(IDS).logits.numpy().astype(np.float64)
        many = dict(kernels.calls)
        tokens = model.generate(IDS, max_new_tokens=NEW, min_new_tokens=NEW)[0]
        assert ops.status()["linear_int4"] == "compiled for CUDA, on a GPU"
    products = 4 * CONFIG["num_hidden_layers"]
    assert many["dequantize_int4"] == products and "linear_int4" not in many
    assert kernels.calls["linear_int4"] == products * (NEW - 1)
    assert kernels.calls["gather_columns"] == (products * (NEW + 1) if "order" in kind else 0)

    cpu = Model.from_pretrained(tmp_path / "wide")
    wanted = cpu(IDS).logits.numpy()
    limit = 0.02 * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit
    scores = cpu(paddle.concat([IDS, tokens], axis=1)).logits.numpy()[0, -NEW - 1 : -1]
    chosen = np.take_along_axis(scores, tokens.numpy().T, -1)[:, 0]
    assert (scores.max(-1) - chosen < 8 * limit).all()
