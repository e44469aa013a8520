"""`paddlemix-qwenvl export` and `predict`, and the example scripts' commands. Predicting loads neither PaddleNLP nor a model."""

from __future__ import annotations

import os
import resource
import statistics
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from paddlemix_qwenvl.environment import keep_freed_memory
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.static.manifest import LANGUAGE, PARTS, VISION, Manifest


class DType(str, Enum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


ModelName = Annotated[str, typer.Option("--model_name_or_path", help="a name, a folder, or demo")]
WeightsDType = Annotated[DType | None, typer.Option("--dtype", help="of the weights (default: the model's own)")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, gpu or gpu:N (default: a GPU if any)")]
FromHub = Annotated[bool, typer.Option("--from_hf_hub", help="download from the Hugging Face Hub")]


def export(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    output_path: Annotated[Path, typer.Option("--output_path", help="folder to write")] = Path("export"),
    dtype: WeightsDType = None,
    device: Device = None,
    from_hf_hub: FromHub = False,
) -> None:
    """Write static graphs of a model, with all that `predict` needs, into a folder."""
    _export(model_path, output_path, PARTS, dtype, device, from_hf_hub)


def export_image_encoder(
    model_name_or_path: ModelName = "demo",
    save_path: Annotated[Path, typer.Option("--save_path", help="folder to write")] = Path(
        "checkpoints/encode_image/vision"
    ),
    dtype: WeightsDType = None,
    device: Device = None,
    from_hf_hub: FromHub = False,
) -> None:
    """Write the vision part of a model as a static graph."""
    _export(model_name_or_path, save_path, (VISION,), dtype, device, from_hf_hub)


def export_language_model(
    model_name_or_path: ModelName = "demo",
    output_path: Annotated[Path, typer.Option("--output_path", help="folder to write")] = Path(
        "checkpoints/encode_text"
    ),
    model_prefix: Annotated[
        str,
        typer.Option("--model_prefix", help="name of a folder in --output_path to write (default: that one itself)"),
    ] = "",
    model_type: Annotated[
        str | None, typer.Option("--model_type", help="what the model must be: qwen-img2txt or qwen2_5_vl-img2txt")
    ] = None,
    inference_model: Annotated[
        bool,
        typer.Option("--inference_model", help="say so where no compiled operation is built to put into the graph"),
    ] = False,
    dtype: WeightsDType = None,
    device: Device = None,
    from_hf_hub: FromHub = False,
) -> None:
    """Write the language part of a model as a static graph."""
    from paddlemix_qwenvl.cli import plain_errors

    with plain_errors():
        if model_prefix == ".." or Path(model_prefix).name != model_prefix:
            raise ConfigurationError(
                f"--model_prefix is {model_prefix!r}: give one name, and the folder that it lies in as --output_path."
            )
    folder = output_path / model_prefix
    manifest = _export(model_name_or_path, folder, (LANGUAGE,), dtype, device, from_hf_hub, model_type)
    if inference_model and not manifest.compiled_ops:
        typer.echo("the graph is of plain Paddle: no compiled operation is built (cd external_ops)", err=True)


def _export(
    name: str,
    folder: Path,
    parts: tuple[str, ...],
    dtype: DType | None,
    device: str | None,
    hub: bool,
    model_type: str | None = None,
) -> Manifest:
    from paddlemix_qwenvl.cli import plain_errors, quiet_hosts
    from paddlemix_qwenvl.commands.infer import start_ranks, use_device

    quiet_hosts()
    with plain_errors():
        from paddlemix_qwenvl.static import export as exporter

        use_device(device)
        start_ranks(None, device)
        typer.echo(f"loading {name}", err=True)
        model, processor = exporter.load(name, dtype and dtype.value, model_type, from_hf_hub=hub)
        return exporter.export(model, processor, folder, parts, name, say=lambda line: typer.echo(line, err=True))


def predict(
    model_path: Annotated[str, typer.Option("--model_path", help="folder that `export` wrote")] = "export",
    image_file: Annotated[
        list[str] | None, typer.Option("--image_file", help="path or URL; may be given several times")
    ] = None,
    question: Annotated[str, typer.Option("--question")] = "Describe this image.",
    max_new_tokens: Annotated[int | None, typer.Option("--max_new_tokens", help="(default: the model's own)")] = 128,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0: the likeliest token (default: the model's own)")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top_p", help="(default: the model's own)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of sampling")] = 0,
    device: Device = None,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="repeat, and print times and memory")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")] = False,
) -> None:
    """Answer a question about one or more images with exported graphs."""
    settings = {
        "max_new_tokens": max_new_tokens,
        "do_sample": None if temperature is None else temperature > 0,
        "temperature": temperature or None,
        "top_p": top_p,
        "seed": seed,
    }
    _predict(model_path, None, None, None, image_file or [], question, settings, device, benchmark, as_json)


def predict_command(family: str):
    """`run_static_predict.py` of a family."""

    def run_static_predict(
        first_model_path: Annotated[str, typer.Option("--first_model_path", help="export of the vision part")] = (
            "checkpoints/encode_image/vision"
        ),
        second_model_path: Annotated[str, typer.Option("--second_model_path", help="export of the language part")] = (
            "checkpoints/encode_text"
        ),
        model_name_or_path: Annotated[
            str | None,
            typer.Option("--model_name_or_path", help="the model that was exported, to make sure that it is this"),
        ] = None,
        image_file: Annotated[
            list[str] | None, typer.Option("--image_file", help="path or URL; may be given several times")
        ] = None,
        question: Annotated[str, typer.Option("--question")] = "Describe this image.",
        max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 128,
        device: Device = None,
        benchmark: Annotated[bool, typer.Option("--benchmark", help="repeat, and print times and memory")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="print one JSON object as the last line")] = False,
    ) -> None:
        """Answer a question about one or more images with exported graphs, without PaddleNLP."""
        settings = {"max_new_tokens": max_new_tokens, "seed": 0}
        folders = second_model_path, first_model_path
        _predict(*folders, family, model_name_or_path, image_file or [], question, settings, device, benchmark, as_json)

    return run_static_predict


def _predict(
    folder: str,
    vision_folder: str | None,
    family: str | None,
    model: str | None,
    images: list[str],
    question: str,
    settings: dict,
    device: str | None,
    benchmark: bool,
    as_json: bool,
) -> None:
    from paddlemix_qwenvl.cli import plain_errors, print_json
    from paddlemix_qwenvl.grounding.text import repair

    keep_freed_memory()
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle tells of every compiled operation that it is there already
    warnings.simplefilter("ignore")
    with plain_errors():
        from paddlemix_qwenvl.commands.infer import start_ranks
        from paddlemix_qwenvl.engine.streaming import TextStreamer
        from paddlemix_qwenvl.models.processor import AnswerDecoder
        from paddlemix_qwenvl.static.runner import Predictor

        rank = start_ranks(None, device)
        predictor = Predictor(folder, vision_folder, family, model, device)
        content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": repair(question)}]
        messages = [{"role": "user", "content": content}]
        streamer = None if as_json or rank else TextStreamer(AnswerDecoder(predictor.processor))
        prediction = predictor.chat(messages, streamer and streamer.put, **settings)
        report = {
            "text": prediction.texts[0],
            "token_ids": prediction.token_ids[0],
            "prompt_tokens": prediction.prompt_tokens[0],
            "seconds": prediction.seconds,
        }
        if benchmark:
            report["benchmark"] = measure(lambda: predictor.chat(messages, **settings), repeats=5)
    if rank:
        return
    if as_json:
        print_json(report)
        return
    streamer.end()
    typer.echo()
    for name, value in report.get("benchmark", {}).items():
        typer.echo(f"{name:22} {value:.4g}")


def measure(ask, repeats: int) -> dict:
    """Medians of `repeats` calls of `ask`, which returns a `Prediction`: seconds an answer ("total", "vision", "prefill") and
    milliseconds a token of decoding; and the process's peak memory in GiB."""
    predictions = [ask() for _ in range(repeats)]
    parts = [{**prediction.seconds, "load": 0.0} for prediction in predictions]
    steps = max(1, len(predictions[0].token_ids[0]) - 1)
    return {
        "repeats": repeats,
        "total": statistics.median(sum(part.values()) for part in parts),
        "vision": statistics.median(part["vision"] for part in parts),
        "prefill": statistics.median(part["prefill"] for part in parts),
        "decode_ms_per_token": 1000 * statistics.median(part["decode"] for part in parts) / steps,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
