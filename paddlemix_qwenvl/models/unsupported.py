"""What people bring that is no model of this package: refused in one line that says what it is and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import Text, checked, read_object, shown, wrong
from paddlemix_qwenvl.hub import ADAPTER_CONFIG, CONFIG
from paddlemix_qwenvl.models.family import families, titles

OTHER_FAMILIES = {
    "qwen2": "Qwen2, text alone",
    "qwen2_vl_text": "the language model of Qwen2-VL alone",
    "qwen2_5_vl_text": "the language model of Qwen2.5-VL alone",
    "qwen2_audio": "Qwen2-Audio",
    "qwen2_5_omni": "Qwen2.5-Omni",
    "qwen2_5_omni_thinker": "Qwen2.5-Omni",
    "qwen3": "Qwen3, text alone",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL",
    "qwen3_omni_moe": "Qwen3-Omni",
    "qwen3_5": "Qwen3.5",
    "qwen3_5_moe": "Qwen3.5",
    "internvl": "InternVL",
    "internvl_chat": "InternVL",
    "llava": "LLaVA",
    "llava_onevision": "LLaVA-OneVision",
    "minicpmv": "MiniCPM-V",
    "paligemma": "PaliGemma",
}
_ADAPTERS = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
QUANTIZATION = "quantization_config"
# Where it is said that weights are quantised -> whose way that is, where it names no method.
_QUANTISED_KEYS = {QUANTIZATION: "", "compression_config": "compressed-tensors", "quantization": "mlx"}
_QUANTISED_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
_INSTEAD = (
    'load the unquantised model instead, with quantization="int8" where memory is short, or one quantised by AWQ, GPTQ or '
    "compressed-tensors"
)
_BITS_OF_SWITCHES = {"load_in_4bit": 4, "load_in_8bit": 8}
_HINTS = {
    "device_map": 'leave it out and call paddle.set_device("gpu:0") or ("cpu") before; several cards are for tensor parallelism',
    "attn_implementation": "leave it out, the fastest attention that the device has is used anyway",
    "load_in_8bit": 'give quantization="int8" instead',
    "load_in_4bit": 'give quantization="int8" instead',
    "quantization_config": 'give quantization="int8" instead',
    "state_dict": "give a folder with the weights",
}


@dataclass
class Adapter:
    """What is read of an adapter_config.json of PEFT."""

    peft_type: Text | None = None
    base_model_name_or_path: Text | None = None


def refuse_adapter(folder: Path) -> None:
    """Raises ConfigurationError for a folder that holds an adapter: loading a model there would leave it out in silence."""
    if not any((folder / name).is_file() for name in _ADAPTERS):
        return
    path = folder / ADAPTER_CONFIG
    adapter = checked(Adapter, read_object(path), path) if path.is_file() else Adapter()
    base = adapter.base_model_name_or_path or "a model that it does not name"
    beside = f", or take {ADAPTER_CONFIG} out of the folder to go without" if (folder / CONFIG).is_file() else ""
    raise ConfigurationError(
        f"{folder} holds a PEFT adapter ({adapter.peft_type or 'of unknown type'}) of {base}, and adapters cannot be loaded yet: "
        f"merge it with PEFT, PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(merged), and load what "
        f"that writes{beside}."
    )


def refuse_quantised(config: Mapping[str, Any], source: str | os.PathLike) -> None:
    """Raises ConfigurationError for a config.json that says in an unusual place that weights are quantised."""
    for part in ("", "text_config", "vision_config"):
        within = config.get(part) if part else config
        for key, method in _QUANTISED_KEYS.items() if isinstance(within, Mapping) else ():
            if isinstance(within.get(key), Mapping) and within[key] and (part or key != QUANTIZATION):
                raise quantised(within[key], method, f"{os.fspath(source)}: {part + '.' if part else ''}{key}")


def is_no_quantisation(config: Any) -> bool:
    """Whether this is the `quantization_config` that PaddleNLP saves of a model without any: it names no method."""
    ways = ("quant_method", "weight_quantize_algo", "quant_type")
    return isinstance(config, Mapping) and {*ways} <= config.keys() and not any(map(config.get, ways))


def settings_beside(folder: Path) -> dict[str, Any]:
    """What a file beside config.json says of quantised weights, as config.json would; empty where there is none."""
    for name, method in _QUANTISED_FILES.items():
        if (folder / name).is_file():
            return {"quant_method": method, **read_object(folder / name)}
    return {}


def quantised(settings: Mapping[str, Any], usual: str, place: str) -> ConfigurationError:
    """The error for weights that are quantised in a way that cannot be loaded.

    Args:
        usual: the method, where the settings do not name it.
        place: where it is said.
    """
    named = ("quant_method", "weight_quantize_algo", "quant_type", "quant_algo", "method")
    methods = [settings[key] for key in named if settings.get(key)]
    methods += ["bitsandbytes" for key in _BITS_OF_SWITCHES if settings.get(key)]
    method = str(methods[0]) if methods else usual or "a method that it does not name"
    bits = _bits(settings, method)
    return ConfigurationError(
        f"{place} says that the weights are quantised by {shown(method)}{f' to {bits} bits' if bits else ''}, which cannot be "
        f"loaded: {_INSTEAD}."
    )


def _bits(settings: Mapping[str, Any], method: str = "") -> str:
    """As far as one of the methods' ways to say it is known; "" otherwise."""
    for key in ("bits", "w_bit", "num_bits", "nbits"):
        if settings.get(key):
            return shown(settings[key])
    inner = (_bits(value) for value in settings.values() if isinstance(value, Mapping))
    switched = (str(bits) for key, bits in _BITS_OF_SWITCHES.items() if settings.get(key))
    return next(filter(None, (*switched, *inner)), "8" if "8" in method else "")


def refuse_other_family(config: Mapping[str, Any], wanted: str, source: str | os.PathLike) -> None:
    """Raises ConfigurationError for the config.json of another kind of model than `wanted`, with the name of what it is."""
    kind = config.get("model_type")
    if kind == wanted or (kind is None and config.get("architectures")):
        return
    if not isinstance(kind, str):
        raise wrong(source, "model_type", kind, repr(wanted))
    ours = {family.model_type: family.title for family in families()}
    named = {**OTHER_FAMILIES, **ours}.get(kind)
    what = f"model_type {shown(kind)}{f' ({named})' if named else ''}"
    if kind in ours and wanted:
        raise ConfigurationError(
            f"{os.fspath(source)} says {what}, this class loads {wanted!r} ({ours[wanted]}): let an Auto class of "
            f"paddlenlp.transformers choose."
        )
    raise ConfigurationError(f"{os.fspath(source)} says {what}, which this package does not have: it loads {titles()}.")


def refuse_arguments(given: Mapping[str, Any], caller: str, known: Iterable[str]) -> None:
    """Raises ConfigurationError for an argument that nobody knows and that asks for something."""
    for name, value in given.items():
        if value is None:
            continue
        near = get_close_matches(name, known, 1)
        hint = _HINTS.get(name) or (f"{near[0]!r} comes nearest" if near else "leave it out")
        raise ConfigurationError(f"{caller} knows no argument {name!r} ({shown(value)}): {hint}.")
