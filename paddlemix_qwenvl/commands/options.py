"""The commands' options, each declared once, and what they stand for. Imports nothing heavy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Option

from paddlemix_qwenvl.dtypes import DTYPES, QUANTIZATIONS
from paddlemix_qwenvl.text import repair


def _choice(name: str, *values: str) -> type[Enum]:
    return Enum(name, {value: value for value in values}, type=str, module=__name__)


DType = _choice("DType", *DTYPES)
Quantization = _choice("Quantization", *QUANTIZATIONS)
ExportDType = _choice("ExportDType", *DTYPES, *QUANTIZATIONS)
Method = _choice("Method", "awq", "rtn", "int8", "fp8")
VisionParallel = _choice("VisionParallel", "tensor", "data")
Source = _choice("Source", "paddlenlp", "huggingface", "modelscope", "aistudio")

ModelPath = Annotated[str, Option("--model_path", help="a name, a folder, or demo")]
ModelOrExport = Annotated[str, Option("--model_path", help="a name, a folder, a folder that `export` wrote, or demo")]
ModelOrSize = Annotated[str, Option("--model_path", help="a name, a folder, demo, or a size: 3B, 7B, 32B, 72B")]
ModelName = Annotated[str, Option("--model_name_or_path", help="a name, a folder, or demo")]
FromSource = Annotated[
    Source | None,
    Option("--source", help="where a name is looked up (default: where it was downloaded from, else paddlenlp)"),
]
AllowPickle = Annotated[bool, Option("--allow_pickle", help="read .pdparams and .bin, of which arrays alone are taken")]
FromHub = Annotated[bool, Option("--from_hf_hub", help="the same as --source huggingface")]

ImageFiles = Annotated[list[str] | None, Option("--image_file", help="path or URL; may be given several times")]
VideoFiles = Annotated[list[str] | None, Option("--video_file", help="path or URL; may be given several times")]
MinPixels = Annotated[
    int | None, Option("--min_pixels", help="smaller pictures and frames are enlarged to (default: the model's own)")
]
MaxPixels = Annotated[
    int | None, Option("--max_pixels", help="larger pictures and frames are reduced to (default: the model's own)")
]
FramesPerSecond = Annotated[float | None, Option("--fps", help="frames to look at, a second of video (default: 2)")]
MaxFrames = Annotated[int | None, Option("--max_frames", help="frames to look at, a video (default: 768)")]
Question = Annotated[str, Option("--question")]
System = Annotated[str | None, Option("--system", help="what the model is told first (default: its own words)")]
MaxNewTokens = Annotated[int, Option("--max_new_tokens")]
Temperature = Annotated[
    float | None, Option("--temperature", min=0, help="0: the likeliest token (default: the model's own)")
]
TopK = Annotated[int | None, Option("--top_k", help="draw from as many tokens, 0: from all (default: the model's own)")]
TopP = Annotated[float | None, Option("--top_p", help="(default: the model's own)")]
MinP = Annotated[float | None, Option("--min_p", help="share of the likeliest token's probability to be drawn at all")]
RepetitionPenalty = Annotated[float | None, Option("--repetition_penalty", help="1: none (default: the model's own)")]
Seed = Annotated[int, Option("--seed", help="of sampling")]
StopStrings = Annotated[
    list[str] | None, Option("--stop", help="the answer ends with this text; may be given several times")
]
Schema = Annotated[Path | None, Option("--schema", help="file with a JSON schema that the answer follows")]
PromptLookup = Annotated[
    int | None,
    Option("--prompt_lookup_num_tokens", help="tokens to guess at a time from what was said; for answers that repeat"),
]
Draw = Annotated[
    str | None, Option("--draw", help="write the picture to this file, with the boxes of the answer on it")
]

ModelDType = Annotated[DType | None, Option("--dtype", help="(default: the model's own)")]
WeightsDType = Annotated[ExportDType | None, Option("--dtype", help="of the weights (default: the model's own)")]
Int8 = Annotated[Quantization | None, Option("--quantization", help="weights in 8 or 4 bits")]
Device = Annotated[str | None, Option("--device", help="cpu, gpu or gpu:N (default: a GPU if any)")]
NoCudaGraph = Annotated[
    bool, Option("--no_cuda_graph", help="on a GPU: queue each operation of a decode step by itself")
]
OverRanks = Annotated[
    VisionParallel | None,
    Option("--vision_parallel", help="vision tower split over the ranks, or whole on each (default: tensor)"),
]
CacheGiB = Annotated[
    float | None,
    Option("--kv_cache_gib", help="memory of the cache on each rank (default: a share of what is free)"),
]
CardGiB = Annotated[float, Option("--card_gib", min=1, help="memory of a card, for the plan")]

Host = Annotated[str, Option("--host", help="address to listen at; 0.0.0.0 for all of this machine")]
Port = Annotated[int, Option("--port", min=0, max=65535, help="0: any that is free")]
MediaDomains = Annotated[
    list[str] | None,
    Option(
        "--allow_media_from", help="domain, or *.domain, whose pictures and videos requests may name; several times"
    ),
]
MediaFolder = Annotated[
    Path | None,
    Option("--allow_media_below", help="folder whose pictures and videos requests may name by file:// or path"),
]
ApiKeyFile = Annotated[
    Path | None, Option("--api_key_file", help="file with a key on each line, one of which every request must have")
]
ServedModelNames = Annotated[
    list[str] | None,
    Option("--served_model_name", help="what requests call the model; may be given several times"),
]
MaxQueue = Annotated[int, Option("--max_queue", min=1, help="requests at a time; others are told to come again")]
MaxModelLen = Annotated[
    int | None,
    Option("--max_model_len", min=2, help="tokens of prompt and answer together (default: the model's context)"),
]

Benchmark = Annotated[bool, Option("--benchmark", help="repeat, and print times and memory")]
AsJson = Annotated[bool, Option("--json", help="print one JSON object as the last line")]


def given(**choices: Any) -> dict[str, Any]:
    """Those of the options that were given, an enum's as its value."""
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in choices.items()}
    return {name: value for name, value in plain.items() if value is not None and value is not False}


@dataclass
class Where:
    """Where a name is looked up."""

    source: FromSource = None
    from_hf_hub: FromHub = False

    def where(self) -> dict[str, Any]:
        """As `from_pretrained` takes it."""
        return given(source=self.source, from_hf_hub=self.from_hf_hub)


@dataclass
class Loading(Where):
    """How a model is loaded, and from where."""

    dtype: ModelDType = None
    allow_pickle: AllowPickle = False

    def given(self) -> dict[str, Any]:
        """Arguments of a model's `from_pretrained`."""
        return given(**vars(self))


@dataclass
class Exporting(Where):
    """How a model is exported, and from where."""

    dtype: WeightsDType = None
    device: Device = None


@dataclass
class Sharing:
    """What of a model lies on each rank."""

    quantization: Int8 = None
    vision_parallel: OverRanks = None
    card_gib: CardGiB = 80


@dataclass
class Running:
    """Where a model runs, and how much memory its cache takes."""

    kv_cache_gib: CacheGiB = None
    device: Device = None

    def given(self) -> dict[str, Any]:
        """Arguments of `Assistant.load` and `load_export`."""
        return given(**vars(self))


@dataclass
class Serving:
    """Where and for whom a model is served."""

    host: Host = "127.0.0.1"
    port: Port = 8000
    api_key_file: ApiKeyFile = None
    allow_media_from: MediaDomains = None
    allow_media_below: MediaFolder = None
    served_model_name: ServedModelNames = None
    max_queue: MaxQueue = 256
    max_model_len: MaxModelLen = None

    def given(self) -> dict[str, Any]:
        """As `ServerSettings` takes them."""
        names = ("host", "port", "api_key_file", "allow_media_below", "max_queue")
        return {name: getattr(self, name) for name in names} | {"allow_media_from": tuple(self.allow_media_from or ())}


@dataclass
class Showing:
    """Pictures and videos, and how they are resized and sampled."""

    image_file: ImageFiles = None
    video_file: VideoFiles = None
    min_pixels: MinPixels = None
    max_pixels: MaxPixels = None
    fps: FramesPerSecond = None
    max_frames: MaxFrames = None

    def resizing(self) -> dict[str, Any]:
        """As `Assistant.answer` takes it."""
        return given(min_pixels=self.min_pixels, max_pixels=self.max_pixels)

    def sampling(self) -> dict[str, Any]:
        """As a video in a message has it."""
        return given(fps=self.fps, max_frames=self.max_frames, **self.resizing())


@dataclass
class Answering:
    """How answers are made."""

    system: System = None
    max_new_tokens: MaxNewTokens = 128
    temperature: Temperature = None
    top_k: TopK = None
    top_p: TopP = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None
    seed: Seed = 0
    stop: StopStrings = None
    schema: Schema = None
    prompt_lookup_num_tokens: PromptLookup = None

    def settings(self) -> dict[str, Any]:
        """Options of `Assistant.answer`; None is left to the model.

        Raises:
            ConfigurationError: a schema that is no JSON object.
        """
        from paddlemix_qwenvl.fields import read_object

        same = ("max_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "prompt_lookup_num_tokens")
        return {
            **{name: getattr(self, name) for name in same},
            "do_sample": None if self.temperature is None else self.temperature > 0,
            "temperature": self.temperature or None,
            "stop_strings": self.stop,
            "schema": None if self.schema is None else read_object(self.schema),
        }

    def beginning(self) -> list[dict]:
        """The messages of a conversation before the first question."""
        return [] if self.system is None else [{"role": "system", "content": repair(self.system)}]


@dataclass
class Asking(Answering, Showing):
    """A question and how it is answered."""

    question: Question = "Describe this image."
    draw: Draw = None
    benchmark: Benchmark = False
    as_json: AsJson = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """`command` for typer: each parameter that is a dataclass above becomes the options that are its fields."""
    signature = inspect.signature(command, eval_str=True)
    groups = {name: each.annotation for name, each in signature.parameters.items() if is_dataclass(each.annotation)}
    parameters = []
    for name, parameter in signature.parameters.items():
        if name not in groups:
            parameters.append(parameter)
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        parameters += [
            parameter.replace(name=each.name, default=each.default, annotation=hints[each.name])
            for each in fields(groups[name])
        ]

    @functools.wraps(command)
    def run(**options):
        own = {
            name: group(**{each.name: options.pop(each.name) for each in fields(group) if each.name in options})
            for name, group in groups.items()
        }
        command(**options, **own)

    run.__signature__ = signature.replace(parameters=parameters)
    return run


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
