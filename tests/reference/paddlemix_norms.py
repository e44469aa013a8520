"""PaddleMIX's own layers on our `fused_ln` and `fast_ln`, beside LayerNorm: values and gradients.

    PADDLEMIX_HOME=/path/to/PaddleMIX python tests/reference/paddlemix_norms.py

Loads `paddlemix/models/clip/modules/fusedln.py` of the checkout, which CLIP and EVA-02 take their norms from, by its path: it
needs nothing of PaddleMIX but itself. Status 1 where something differs.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import paddle

LayerNorm = paddle.nn.LayerNorm
NEAR = 1e-5


def load_fusedln():
    path = Path(os.environ["PADDLEMIX_HOME"]) / "paddlemix" / "models" / "clip" / "modules" / "fusedln.py"
    spec = importlib.util.spec_from_file_location("fusedln", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values_and_gradients(layer, x):
    with paddle.no_grad():
        inferred = layer(x)
    x = x.clone().detach()
    x.stop_gradient = False
    y = layer(x)
    (y * y.detach().cos()).sum().backward()
    return [array.numpy() for array in (inferred, y, x.grad, layer.weight.grad, layer.bias.grad)]


def distance(kind, size: int, epsilon: float) -> float:
    """The largest difference between a layer of `kind` and LayerNorm with the same parameters."""
    draws = np.random.default_rng(size)
    ours, theirs = kind(size, epsilon=epsilon), LayerNorm(size, epsilon=epsilon)
    state = {name: paddle.to_tensor(draws.normal(size=size).astype("float32")) for name in ("weight", "bias")}
    ours.set_state_dict(state)
    theirs.set_state_dict(state)
    x = paddle.to_tensor(draws.normal(3, 2, (2, 5, size)).astype("float32"))
    pairs = zip(values_and_gradients(ours, x), values_and_gradients(theirs, x), strict=True)
    return max(np.abs(a - b).max() / max(1, np.abs(b).max()) for a, b in pairs)


def rms_distance(size: int) -> float:
    """DiT-LLaMA's `rms_norm_fused`, as it calls the module."""
    draws = np.random.default_rng(size)
    x, weight = (paddle.to_tensor(draws.normal(size=shape).astype("float32")) for shape in ((4, size), (size,)))
    y = paddle.utils.try_import("fused_ln").fused_rms_norm(x, weight, 1e-5)[0]
    wanted = x * paddle.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight
    return float((y - wanted).abs().max())


def main() -> int:
    fusedln = load_fusedln()
    found = {}
    for name in ("FusedLayerNorm", "FastLayerNorm"):
        for size, epsilon in ((768, 1e-5), (1408, 1e-6), (77, 1e-5)):
            found[f"{name}({size}, epsilon={epsilon})"] = distance(getattr(fusedln, name), size, epsilon)
    os.environ["USE_FUSED_LN"] = "1"
    fusedln.mock_layers()
    found["nn.LayerNorm after mock_layers()"] = distance(paddle.nn.LayerNorm, 64, 1e-5)
    found["fused_rms_norm(512)"] = rms_distance(512)
    for name, apart in found.items():
        print(f"{name}: differs by {apart:.1e}")
    return int(max(found.values()) > NEAR)


if __name__ == "__main__":
    sys.exit(main())
