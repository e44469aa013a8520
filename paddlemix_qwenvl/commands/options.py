"""The commands' options, each declared once, and what they stand for. Imports nothing heavy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

from typer import Option

from paddlemix_qwenvl.dtypes import DTYPES, QUANTIZATIONS


def _choice(name: str, *values: str) -> type[Enum]:
    return Enum(name, {value: value for value in values}, type=str, module=__name__)


DType = _choice("DType", *DTYPES)
Quantization = _choice("Quantization", *QUANTIZATIONS)
ExportDType = _choice("ExportDType", *DTYPES, *QUANTIZATIONS)
VisionParallel = _choice("VisionParallel", "tensor", "data")
Source = _choice("Source", "paddlenlp", "huggingface", "modelscope", "aistudio")

ModelPath = Annotated[str, Option("--model_path", help="a name, a folder, or demo")]
ModelName = Annotated[str, Option("--model_name_or_path", help="a name, a folder, or demo")]
FromSource = Annotated[
    Source | None,
    Option("--source", help="where a name is looked up (default: where it was downloaded from, else paddlenlp)"),
]
FromHub = Annotated[bool, Option("--from_hf_hub", help="the same as --source huggingface")]

ImageFiles = Annotated[list[str] | None, Option("--image_file", help="path or URL; may be given several times")]
Question = Annotated[str, Option("--question")]
MaxNewTokens = Annotated[int, Option("--max_new_tokens")]
Temperature = Annotated[
    float | None, Option("--temperature", min=0, help="0: the likeliest token (default: the model's own)")
]
TopP = Annotated[float | None, Option("--top_p", help="(default: the model's own)")]
Seed = Annotated[int, Option("--seed", help="of sampling")]

ModelDType = Annotated[DType | None, Option("--dtype", help="(default: the model's own)")]
WeightsDType = Annotated[ExportDType | None, Option("--dtype", help="of the weights (default: the model's own)")]
Int8 = Annotated[Quantization | None, Option("--quantization", help="weights as int8")]
Device = Annotated[str | None, Option("--device", help="cpu, gpu or gpu:N (default: a GPU if any)")]
OverRanks = Annotated[
    VisionParallel | None,
    Option("--vision_parallel", help="vision tower split over the ranks, or whole on each (default: tensor)"),
]
CardGiB = Annotated[float, Option("--card_gib", min=1, help="memory of a card, for the plan")]

Benchmark = Annotated[bool, Option("--benchmark", help="repeat, and print times and memory")]
AsJson = Annotated[bool, Option("--json", help="print one JSON object as the last line")]


def given(**choices: Any) -> dict[str, Any]:
    """Those of the options that were given, an enum's as its value."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in choices.items()}
    return {name: value for name, value in plain.items() if value is not None and value is not False}


def sampling(max_new_tokens: int | None, temperature: float | None, top_p: float | None, seed: int) -> dict[str, Any]:
    """Settings of generation; None is left to the model."""
    return {
        "max_new_tokens": max_new_tokens,
        "do_sample": None if temperature is None else temperature > 0,
        "temperature": temperature or None,
        "top_p": top_p,
        "seed": seed,
    }


def with_defaults(command: Callable[..., None], **defaults) -> Callable[..., None]:
    """`command` with other defaults of its options, for a script."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        option.replace(default=defaults.get(name, option.default)) for name, option in signature.parameters.items()
    ]

    @functools.wraps(command)
    def run(**given):
        command(**given)

    run.__signature__ = signature.replace(parameters=options)
    return run
