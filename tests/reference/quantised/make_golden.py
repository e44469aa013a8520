"""Packs one weight with the code of AutoAWQ, GPTQModel and compressed-tensors themselves, and unpacks it with theirs.

Needs PyTorch, compressed-tensors 0.20.1 and the source archives of AutoAWQ 0.2.9 and GPTQModel 7.7.0, of which single files are
loaded (their packages ask for CUDA):

    python make_golden.py AUTOAWQ_FOLDER GPTQMODEL_FOLDER golden.npz
"""

import ast
import contextlib
import importlib.util
import math
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

OUTPUTS, INPUTS, GROUP = 64, 96, 32


def module(name: str, path: Path):
    """One file of a package, under the package's own name for it."""
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def package(name: str) -> None:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []


def grid(weight: torch.Tensor):
    """Scales and zeros `[out, groups]` of asymmetric groups."""
    groups = weight.reshape(OUTPUTS, -1, GROUP)
    low, high = groups.min(-1).values, groups.max(-1).values
    scale = ((high - low) / 15).half()
    return scale, torch.clamp(torch.round(-low / scale), 0, 15)


def awq(folder: Path, linear: torch.nn.Linear) -> dict:
    for name in ("awq", "awq.utils", "awq.modules", "awq.modules.linear"):
        package(name)
    utils = sys.modules["awq.utils.module"] = types.ModuleType("awq.utils.module")
    utils.try_import = lambda name: (None, "")
    best = sys.modules["awq.utils.utils"] = types.ModuleType("awq.utils.utils")
    best.get_best_device = lambda: "cpu"
    packing = module("awq.utils.packing_utils", folder / "awq/utils/packing_utils.py")
    gemm = module("awq.modules.linear.gemm", folder / "awq/modules/linear/gemm.py")
    scale, zeros = grid(linear.weight.data)
    made = gemm.WQLinear_GEMM.from_linear(linear, 4, GROUP, scales=scale.T.contiguous(), zeros=zeros.T.contiguous())
    values = packing.dequantize_gemm(made.qweight, made.qzeros, made.scales.float(), 4, GROUP)
    return {"qweight": made.qweight, "qzeros": made.qzeros, "scales": made.scales, "value": values.T}


def gptq(folder: Path, linear: torch.nn.Linear, order: torch.Tensor, bits: int = 4) -> dict:
    """By GPTQModel's functions alone, taken out of their classes; `order` gives columns to groups."""
    source = (folder / "gptqmodel/nn_modules/qlinear/__init__.py").read_text()
    wanted = {"pack_original", "dequantize_weight", "_dequantize_from_codes"}
    functions = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) in wanted]
    names = {
        "t": torch,
        "nn": torch.nn,
        "np": np,
        "math": math,
        "_ConvNd": torch.nn.modules.conv._ConvNd,
        "transformers": SimpleNamespace(pytorch_utils=SimpleNamespace(Conv1D=())),
        "THREADPOOLCTL": SimpleNamespace(threadpool_limits=lambda count: contextlib.nullcontext()),
        "_torch_right_shift": torch.bitwise_right_shift,
    }
    exec(compile(ast.Module(functions, []), str(folder), "exec"), names)
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    layer = SimpleNamespace(
        bits=bits,
        maxq=2**bits - 1,
        planar=False,
        pack_factor=32 // bits,
        pack_dtype_bits=32,
        pack_np_math_dtype=np.uint32,
        pack_np_dtype=np.int32,
        dequant_dtype=torch.int16,
        in_features=INPUTS,
        wf_unsqueeze_zero=shifts[None, None],
        wf_unsqueeze_neg_one=shifts[None, :, None],
        _init_wf_unsqueeze_buffers=lambda: None,
        bias=None,
    )
    layer.register_buffer = lambda name, value: setattr(layer, name, value)
    layer._dequantize_from_codes = lambda *given, **how: names["_dequantize_from_codes"](layer, *given, **how)
    groups = torch.arange(INPUTS)[order] // GROUP
    columns = torch.argsort(groups, stable=True)
    scale, zeros = grid(linear.weight.data[:, columns])
    if bits == 8:
        scale = (linear.weight.data.reshape(OUTPUTS, -1, GROUP).abs().amax(-1) / 127).half()
        zeros = torch.full_like(zeros, 128)
    names["pack_original"](layer, linear, scale.float(), zeros, groups)
    layer.scales = layer.scales.float()
    value = names["dequantize_weight"](layer)
    version_1 = (layer.qzeros.numpy().view(np.uint32) - np.uint32(0x11111111 if bits == 4 else 0x01010101)).view(
        np.int32
    )
    tensors = {"qweight": layer.qweight, "qzeros": layer.qzeros, "scales": layer.scales.half(), "g_idx": groups.int()}
    return {**tensors, "qzeros of version 1": torch.from_numpy(version_1), "value": value.T}


def compressed(weight: torch.Tensor, form: str, **arguments) -> dict:
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(form)
    strategy, low = arguments["strategy"], 0.0
    parts = {
        "group": weight.reshape(OUTPUTS, -1, GROUP),
        "channel": weight[:, None],
        "tensor": weight.reshape(1, 1, -1),
    }
    part = parts[strategy]
    state = {"weight": weight}
    if args.type == "float":
        state["weight_scale"] = part.abs().amax(-1) / 448
    elif args.symmetric:
        state["weight_scale"] = part.abs().amax(-1) / (2 ** (args.num_bits - 1) - 1)
    else:
        low, high = part.amin(-1), part.amax(-1)
        state["weight_scale"] = (high - low) / 15
        state["weight_zero_point"] = torch.clamp(torch.round(-low / state["weight_scale"]) - 8, -8, 7).to(torch.int8)
    if strategy == "tensor":
        state["weight_scale"] = state["weight_scale"].reshape(1)
    made = compressor.compress(state, scheme)
    value = compressor.decompress(made, scheme)["weight"]
    return {**made, "value": value}


def main(autoawq: str, gptqmodel: str, out: str) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
    weight = linear.weight.data
    int4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP}
    found = {
        "awq": awq(Path(autoawq), linear),
        "gptq": gptq(Path(gptqmodel), linear, torch.arange(INPUTS)),
        "gptq 8 bits": gptq(Path(gptqmodel), linear, torch.arange(INPUTS), 8),
        "gptq act-order": gptq(Path(gptqmodel), linear, torch.randperm(INPUTS)),
        "packed": compressed(weight, "pack-quantized", symmetric=True, **int4),
        "packed 8 bits": compressed(weight, "pack-quantized", symmetric=True, **{**int4, "num_bits": 8}),
        "packed zeros": compressed(weight, "pack-quantized", symmetric=False, **int4),
        "packed channel": compressed(
            weight, "pack-quantized", num_bits=4, type="int", strategy="channel", symmetric=True
        ),
        "int8": compressed(weight, "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=True),
        "fp8": compressed(weight, "float-quantized", num_bits=8, type="float", strategy="channel", symmetric=True),
        "fp8 tensor": compressed(
            weight, "float-quantized", num_bits=8, type="float", strategy="tensor", symmetric=True
        ),
    }
    arrays = {}
    for name, tensors in found.items():
        for leaf, value in tensors.items():
            value = value.view(torch.uint8) if value.dtype == torch.float8_e4m3fn else value
            arrays[f"{name}/{leaf}"] = value.detach().contiguous().numpy()
    np.savez_compressed(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
