"""A small model of int4 or fp8 weights on the stand-in card, whose products are those of the CUDA kernels."""

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
PRODUCTS = 4 * CONFIG["num_hidden_layers"]
IDS = paddle.to_tensor(np.random.default_rng(0).integers(1, 250, (1, 40)))
NEW = 4
LIMITS = {"bfloat16": 2**-4, "float16": 2**-7}  # of the error, to the numbers' size: 32 times the dtype's rounding
ORDER = {width: np.random.default_rng(width).permutation(width) for width in (64, 96)}
WAYS = {
    "awq": (files.METHODS["awq"], lambda name, w: files.awq(w, 32)),
    "gptq, act-order": (
        {**files.METHODS["gptq"], "desc_act": True},
        lambda name, w: files.gptq(w, 32, act_order=ORDER[w.shape[1]]),
    ),
    "fp8": (files.METHODS["fp8"], lambda name, w: files.float8(w)),
}


@pytest.mark.parametrize("way, dtype", [*((way, "float16") for way in WAYS), ("awq", "bfloat16"), ("fp8", "bfloat16")])
def test_prompts_and_single_tokens_are_what_the_cpu_makes_of_them(tmp_path, way, dtype):
    """A prompt's weights are dequantised for Paddle's product, an answer's tokens go by the kernel of few rows."""
    method, quantise = WAYS[way]
    narrow, wide = files.converted(hub_model.tensors(CONFIG), quantise, files.in_decoder)
    files.write(tmp_path / "narrow", {**CONFIG, "quantization_config": method}, narrow)
    files.write(tmp_path / "wide", CONFIG, wide)
    kernels, kind = Kernels(), "fp8" if way == "fp8" else "int4"
    with card((8, 0)) as patch, paddle.no_grad():
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        patch.setitem(
            dispatch.FASTEST, f"linear_{kind}", dispatch.fastest(f"linear_{kind}")
        )  # of which others are made
        patch.setattr(ops, f"linear_{kind}", dispatch.FASTEST[f"linear_{kind}"])
        model = Model.from_pretrained(tmp_path / "narrow", dtype=dtype)
        found = model(IDS).logits.numpy().astype(np.float64)
        assert kernels.calls[f"dequantize_{kind}"] == PRODUCTS and not kernels.calls[f"linear_{kind}"]
        tokens = model.generate(IDS, max_new_tokens=NEW, eos_token_id=[])[0]
        assert ops.status()[f"linear_{kind}"] == "compiled for CUDA, on a GPU"
    assert kernels.calls[f"linear_{kind}"] == PRODUCTS * (NEW - 1)
    assert kernels.calls["gather_columns"] == (PRODUCTS * (NEW + 1) if "order" in way else 0)

    cpu = Model.from_pretrained(tmp_path / "wide")
    wanted = cpu(IDS).logits.numpy()
    limit = LIMITS[dtype] * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit
    scores = cpu(paddle.concat([IDS, tokens], axis=1)).logits.numpy()[0, -NEW - 1 : -1]
    chosen = np.take_along_axis(scores, tokens.numpy().T, -1)[:, 0]
    assert (scores.max(-1) - chosen < 8 * limit).all()


def test_int8_of_bfloat16_by_our_kernel(tmp_path):
    """Whose steps are float32, so that it is for any card; Paddle's product is not asked."""
    files.write(tmp_path, CONFIG, hub_model.tensors(CONFIG))
    kernels = Kernels()
    with card((8, 0)) as patch, paddle.no_grad():
        patch.setattr(dispatch, "GPU", gpu.versions(kernels.versions))
        for name in ("linear_int8", "quantize_int8"):
            patch.setitem(dispatch.FASTEST, name, dispatch.fastest(name))  # of which `linear_int8_swiglu` is made
            patch.setattr(ops, name, dispatch.FASTEST[name])
        patch.setattr(gpu._paddle, "weight_only_linear", None)
        model = Model.from_pretrained(tmp_path, dtype="bfloat16", quantization="int8")
        found = model(IDS).logits.numpy().astype(np.float64)
        before = kernels.calls["linear_int8"]
        model.generate(IDS, max_new_tokens=NEW, eos_token_id=[])
    assert kernels.calls["dequantize_int8"] >= 2 * PRODUCTS
    assert kernels.calls["linear_int8"] - before >= PRODUCTS * (NEW - 1)
    assert {layer.scale.dtype for layer in model.sublayers() if hasattr(layer, "scale")} == {paddle.float32}
    wanted = Model.from_pretrained(tmp_path, quantization="int8")(IDS).logits.numpy()
    assert np.sqrt(((found - wanted) ** 2).mean()) < LIMITS["bfloat16"] * np.sqrt((wanted**2).mean())
